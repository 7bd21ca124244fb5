"""What `test_sharding.py` starts under torchrun: two processes gather a policy and sample from it.

Each writes what it found as `<rank>.json` into the folder it is given.
"""

import gc
import json
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaForCausalLM

from language.distributed import world
from language.engines import LocalEngine
from language.generation import GeneratedResponse, GenerationRequest
from language.logprobs import response_losses
from language.models import load_policy, save_model
from language.rows import TokenRow
from language.sharding import Policy, ShardedModel, compute_with, gathered, save_output
from language.shared_engines import DealingEngine, MainEngine
from tests.language.asking import ENDS, request
from tests.models import tiny_policy, tiny_tokenizer

CPU = torch.device("cpu")
ROWS = [TokenRow((1, 20, 30), (40, 50, 2)), TokenRow((1, 60), (70, 80, 90, 100))]
# Three: one of two processes has one request more than the other.
REQUESTS = [request(1, 20, 30 + i, seed=i, max_new_tokens=12) for i in range(3)]


class FolderEngine:
    """A server, in so far as it has no weights but those it was handed, in a folder."""

    def __init__(self, folder: Path, policy: LlamaForCausalLM, version: str) -> None:
        self._folder = folder
        self.take_weights(policy, version)

    def take_weights(self, policy: LlamaForCausalLM, version: str) -> None:
        """Write them down."""
        self._version = version
        save_model(policy, tiny_tokenizer(), self._folder / version)

    def generate(
        self,
        requests: Sequence[GenerationRequest],
        *,
        eos_ids: Collection[int],
        rows_per_batch: int = 256,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[list[GeneratedResponse]]:
        """Sample from what was written."""
        engine = LocalEngine(load_policy(self._folder / self._version), self._version)
        return engine.generate(
            requests, eos_ids=eos_ids, rows_per_batch=rows_per_batch, on_progress=on_progress
        )


def losses_of(policy: Policy) -> list[float]:
    """Return the losses of some rows."""
    with torch.no_grad():
        losses_M: torch.Tensor = compute_with(policy, lambda whole: response_losses(whole, ROWS))
    return losses_M.tolist()


def bytes_held() -> int:
    """Return how many bytes of weights or other tensors Python holds."""
    gc.collect()
    found = (item for item in gc.get_objects() if type(item) in {torch.Tensor, nn.Parameter})
    storages = [tensor.untyped_storage() for tensor in found if tensor.device == CPU]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def sampled(engine: Any) -> list[list[Any]]:
    """Return ids, log-probabilities and version of the responses to the requests."""
    responses = engine.generate(REQUESTS, eos_ids=ENDS)
    return [[list(r.ids), list(r.logprobs), r.weights] for (r,) in responses]


class CountGathers(TorchDispatchMode):
    """Counts the tensors that are gathered from all processes."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if DTensor in types:
            return NotImplemented  # it comes again, with the tensors that it is made of
        self.count += "allgather" in str(func).replace("_", "")
        return func(*args, **(kwargs or {}))


def num_gathers(policy: Policy, max_new_tokens: int) -> int:
    """Return how many tensors are gathered while responses of a length are sampled."""
    asked = [each._replace(max_new_tokens=max_new_tokens) for each in REQUESTS]
    with CountGathers() as gathers:
        ((response,), *_) = DealingEngine(policy, "").generate(asked, eos_ids=[2])
    assert len(response.ids) == max_new_tokens
    return gathers.count


def main(folder: Path) -> None:
    """Write what this process finds."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, _ = world()
    found: dict[str, Any] = {}
    policy = ShardedModel(tiny_policy(seed=3 * rank), torch.float32, CPU)
    found["sharded"] = losses_of(policy)

    before = bytes_held()
    with gathered(policy) as whole:
        found["gathered"] = losses_of(whole)
        found["bytes gathered"] = bytes_held() - before
    found["bytes left"] = bytes_held() - before
    found["devices left"] = sorted({str(t.device) for t in whole.state_dict().values()})
    with gathered(policy, is_wanted=rank == 1) as whole:
        found["wanted"] = {str(t.device) for t in whole.state_dict().values()} == {"cpu"}

    found["dealt"] = sampled(DealingEngine(policy, "v1"))
    found["gathers"] = [num_gathers(policy, 4), num_gathers(policy, 16)]
    engine = MainEngine(policy, "v1", lambda *a, **k: FolderEngine(folder, *a, **k))
    found["served"] = sampled(engine)
    with torch.no_grad():
        policy.model.lm_head.weight.mul_(2.0)
    engine.take_weights(policy, "v2")
    found["served later"] = sampled(engine)
    with CountGathers() as gathers:
        engine.take_weights(policy, "v2")
    found["gathers of the same"] = gathers.count

    coarse = ShardedModel(tiny_policy(), torch.bfloat16, CPU)
    with gathered(coarse) as whole:
        expected = tiny_policy().bfloat16().state_dict()
        found["is bfloat16 exact"] = all(
            torch.equal(tensor, expected[name]) for name, tensor in whole.state_dict().items()
        )
    save_output(coarse, tiny_tokenizer(), folder / "coarse")
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
