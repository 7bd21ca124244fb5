"""What processes that share one policy sample with: all ask the same, and all get all the answers.

`language.engines` has what one process samples with by itself.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from language.distributed import gather_objects, share_out, world
from language.engines import Engine, LocalEngine, open_engine
from language.generation import GeneratedResponse, GenerationRequest, Limits
from language.sharding import Policy, gathered
from records.servers import LOCAL


class SharedEngine(Engine, Protocol):
    """An engine whose policy may be cut over the processes: both its methods are collectives."""

    def take_weights(self, policy: Policy, version: str) -> None:
        """Answer with the weights of `policy` from now on, which go by the name `version`."""
        ...


class DealingEngine:
    """Every process samples its share of the requests, from a whole policy of its own.

    Where the policy is cut, its weights are gathered once for each call and let go at its end.
    Seeds are the requests' own, so it does not matter who answers which.
    """

    def __init__(self, policy: Policy, version: str) -> None:
        self._policy, self._version = policy, version

    @property
    def limits(self) -> Limits:
        """What the policy can be asked for."""
        return Limits.of(self._policy)

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        eos_ids: Collection[int],
        rows_per_batch: int = 256,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[list[GeneratedResponse]]:
        """Return each request's responses; `on_progress` is told of this process's share."""

        def sample(own: Sequence[GenerationRequest]) -> list[list[GeneratedResponse]]:
            with gathered(self._policy) as policy:
                engine = LocalEngine(policy, self._version)
                return engine.generate(
                    own, eos_ids=eos_ids, rows_per_batch=rows_per_batch, on_progress=on_progress
                )

        return share_out(requests, sample)

    def take_weights(self, policy: Policy, version: str) -> None:
        """Sample from `policy`, as it is at each call."""
        self._policy, self._version = policy, version


class MainEngine:
    """The main process asks a server for all, and hands it the gathered weights.

    Attributes:
        limits: What the policy can be asked for.
    """

    def __init__(self, policy: Policy, version: str, open_server: Callable[..., Engine]) -> None:
        """Take `open_server`, which is given the whole policy, in the main process alone."""
        self._engine: Engine | None = None
        self._version = version
        self.limits = Limits.of(policy)
        with gathered(policy, is_wanted=_is_main()) as whole:
            if _is_main():
                self._engine = open_server(whole, version=version)

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        eos_ids: Collection[int],
        rows_per_batch: int = 256,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[list[GeneratedResponse]]:
        """Return each request's responses, in every process."""
        responses: list[list[GeneratedResponse]] = []
        if self._engine is not None:
            responses = self._engine.generate(
                requests, eos_ids=eos_ids, rows_per_batch=rows_per_batch, on_progress=on_progress
            )
        return gather_objects(responses)[0]

    def take_weights(self, policy: Policy, version: str) -> None:
        """Hand the weights over as `RemoteEngine.take_weights` does, unless the server has them."""
        if version == self._version:
            return
        self._version = version
        with gathered(policy, is_wanted=_is_main()) as whole:
            if self._engine is not None:
                self._engine.take_weights(whole, version)


def open_shared_engine(
    name: str,
    policy: Policy,
    tokenizer: PreTrainedTokenizerBase,
    *,
    version: str,
    path: Path | None = None,
) -> SharedEngine:
    """Return the engine called `name` for all processes; arguments and errors of `open_engine`."""
    if name == LOCAL:
        return DealingEngine(policy, version)
    open_server = partial(open_engine, name, tokenizer=tokenizer, path=path)
    return MainEngine(policy, version, open_server)


def _is_main() -> bool:
    return world()[0] == 0
