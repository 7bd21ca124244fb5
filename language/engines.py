"""What answers requests: the process's own model, or a server.

One interface, two engines. Whoever samples is handed an `Engine` and cannot tell them apart, but
for what a server does not say: its answers lack those log-probabilities.
"""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Protocol

from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from language.generation import (
    GeneratedResponse,
    GenerationRequest,
    Limits,
    check_requests,
    generate,
    is_told,
)
from language.handover import create_sender
from language.proofs import Proof, confirm_weights, prove_weights
from language.runs import RunContext
from language.servers import LogprobsKind, ServedRow, Server, WantedRow, open_server, row_seed
from language.transport import ServerError
from records.errors import RecordError
from records.rundirs import RunSpec
from records.servers import LOCAL, HandOver, server_of


class Engine(Protocol):
    """Answers requests as `language.generation.generate` does."""

    @property
    def limits(self) -> Limits:
        """What it can be asked for: the policy's vocabulary and positions."""
        ...

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        eos_ids: Collection[int],
        rows_per_batch: int = 256,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[list[GeneratedResponse]]:
        """Return each request's responses, in the order of `requests`."""
        ...

    def take_weights(self, policy: LlamaForCausalLM, version: str) -> None:
        """Answer with the weights of `policy` from now on, which go by the name `version`."""
        ...


class LocalEngine:
    """The model of this process."""

    def __init__(self, policy: LlamaForCausalLM, version: str = "") -> None:
        self._policy, self._version = policy, version

    @property
    def limits(self) -> Limits:
        """What the model can be asked for."""
        return Limits.of(self._policy)

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        eos_ids: Collection[int],
        rows_per_batch: int = 256,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[list[GeneratedResponse]]:
        """Return what `language.generation.generate` returns, under the weights' version."""
        generated = generate(
            self._policy,
            requests,
            eos_ids=eos_ids,
            rows_per_batch=rows_per_batch,
            on_progress=on_progress,
        )
        return [[r._replace(weights=self._version) for r in responses] for responses in generated]

    def take_weights(self, policy: LlamaForCausalLM, version: str) -> None:
        """Sample from `policy`, as it is at each call."""
        self._policy, self._version = policy, version


class RemoteEngine:
    """A server that has proved to hold the policy's weights.

    Attributes:
        limits: What the policy can be asked for.
        proof: The last proof.
    """

    limits: Limits

    def __init__(
        self,
        server: Server,
        policy: LlamaForCausalLM,
        tokenizer: PreTrainedTokenizerBase,
        *,
        version: str,
    ) -> None:
        """Take over `server` with the weights of `policy`.

        Raises:
            ServerError: It cannot be used; says why.
            WrongWeightsError: It holds other weights.
        """
        self._server, self._tokenizer = server, tokenizer
        self._sender = create_sender(server)
        self.proof: Proof
        server.check_version()
        self.take_weights(policy, version)

    def take_weights(self, policy: LlamaForCausalLM, version: str) -> None:
        """Hand the weights over as the server's entry says, and have them proved.

        Nothing is done where `version` is what it was given last.

        Raises:
            ServerError: The hand-over failed, or the weights are new and the entry says no way.
            WrongWeightsError: Afterwards the server holds other weights.
        """
        if version == self._server.weights:
            return
        if self._sender is not None:
            self._sender.send(policy, self._tokenizer, version)
        elif self._server.weights:
            raise ServerError(
                self._server.transport.name,
                f"the policy has changed to {version}, and `handover` in its entry is none; set it "
                "to folder or nccl",
            )
        else:
            self._server.weights = version
        self.limits = Limits.of(policy)
        try:
            self.proof = prove_weights(self._server, policy, self._tokenizer)
        except ServerError:
            self._server.weights = ""  # whoever asks again gets a proof, not this one's leavings
            raise

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        eos_ids: Collection[int],
        rows_per_batch: int = 256,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[list[GeneratedResponse]]:
        """Return each request's responses; log-probabilities that the server cannot say are empty.

        Every response is a request of its own with a seed of its own, `rows_per_batch` of them and
        the server's `num_connections` at once at most. The same request gives the same response as
        far as the server keeps its promise of seeds.

        Raises:
            ValueError: A request is out of bounds, or longer than the model's positions.
            ServerError: The server failed; nothing is returned.
            WrongWeightsError: Meanwhile it was given other weights, or restarted.
        """
        check_requests(requests, eos_ids, rows_per_batch, self.limits)
        wanted = {
            (index, number): WantedRow(
                request.prompt_ids,
                request.temperature,
                request.top_p,
                request.max_new_tokens,
                row_seed(request.seed, number),
                tuple(sorted(eos_ids)),
            )
            for index, request in enumerate(requests)
            for number in range(request.num_responses)
        }
        num_threads = min(rows_per_batch, self._server.max_connections)
        served = self._sample_all(wanted, num_threads, on_progress)
        confirm_weights(self._server)
        self._refuse_strange_ids(served.values())
        kind = self.proof.logprobs_kind
        return [
            [
                _response(served[index, number], request, kind)
                for number in range(request.num_responses)
            ]
            for index, request in enumerate(requests)
        ]

    def _sample_all(
        self,
        wanted: Mapping[tuple[int, int], WantedRow],
        num_threads: int,
        on_progress: Callable[[int, int], None] | None,
    ) -> dict[tuple[int, int], ServedRow]:
        """Return the responses by their places; after a failure no further one is asked for."""
        served = {}
        pool = ThreadPoolExecutor(num_threads, thread_name_prefix="generation")
        try:
            places = {pool.submit(self._server.sample, row): p for p, row in wanted.items()}
            for done, future in enumerate(as_completed(places), start=1):
                served[places[future]] = future.result()
                if on_progress is not None and is_told(done, len(wanted)):
                    on_progress(done, len(wanted))
        finally:
            pool.shutdown(cancel_futures=True)
        return served

    def _refuse_strange_ids(self, rows: Iterable[ServedRow]) -> None:
        size = self.limits.vocabulary_size
        for row in rows:
            if not row.ids or not all(isinstance(i, int) and 0 <= i < size for i in row.ids):
                raise ServerError(
                    self._server.transport.name,
                    f"it gave tokens that are none of the policy's {size}: {row.ids[:10]}",
                )


def _response(
    row: ServedRow, request: GenerationRequest, kind: LogprobsKind | None
) -> GeneratedResponse:
    """Return the response, each of its log-probabilities where it follows from the server's."""
    known, unknown = row.logprobs, ()
    if request.temperature == 0.0:
        tempered, sampled, untempered = known, (0.0,) * len(known), known
    elif kind is LogprobsKind.AS_DRAWN:
        is_uncut = request.top_p == 1.0
        tempered = known if is_uncut else unknown
        sampled = known
        untempered = known if is_uncut and request.temperature == 1.0 else unknown
    else:
        is_untempered = request.temperature == 1.0
        tempered = known if is_untempered else unknown
        sampled = known if is_untempered and request.top_p == 1.0 else unknown
        untempered = known
    return GeneratedResponse(row.ids, tempered, row.is_finished, sampled, untempered, row.weights)


def open_engine(
    name: str,
    policy: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    *,
    version: str,
    path: Path | None = None,
    is_shared: bool = False,
    field: str = "engine",
    environment: Mapping[str, str] = os.environ,
) -> Engine:
    """Return the engine called `name`: this process, or a server of the operator's file.

    Args:
        name: `local`, or a server's name.
        policy: Whose weights it must hold.
        tokenizer: The policy's.
        version: What the weights go by: a digest, a step.
        path: The folder that `policy` was read from, where a server may read it too.
        is_shared: Whether several processes use it, none of which may hand weights over.
        field: Of a config or the settings; is named where `name` is wrong.
        environment: Where the file's name is looked up.

    Raises:
        RecordError: There is no such server, or its entry does not fit.
        ServerError: It cannot be used; says why.
        WrongWeightsError: It holds other weights.
    """
    if name == LOCAL:
        return LocalEngine(policy, version)
    config = server_of(field, name, environment)
    if is_shared and config.handover is not HandOver.NONE:
        raise RecordError(
            field,
            f"several processes share {name}, and none may hand weights over; start it on the "
            "policy's folder with `handover` none, or run one process",
        )
    server = open_server(name, config, tokenizer, path=path)
    return RemoteEngine(server, policy, tokenizer, version=version)


def open_run_engine(
    spec: RunSpec,
    role: str,
    policy: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    context: RunContext,
    *,
    field: str = "engine",
) -> Engine:
    """Return the engine that the run's config names in `field`, with the weights of its input.

    Args:
        spec: The run's.
        role: Of the input that `policy` was read from.
        policy: The model.
        tokenizer: The model's.
        context: Says whether several processes share the engine.
        field: Of the config.

    Raises:
        RecordError: There is no such server, or its entry does not fit.
        ServerError: It cannot be used; says why.
        WrongWeightsError: It holds other weights.
    """
    item = spec.inputs[role]
    return open_engine(
        getattr(spec.config, field),
        policy,
        tokenizer,
        version=item.digest or item.path.name,
        path=item.path,
        is_shared=context.world_size > 1,
        field=field,
    )
