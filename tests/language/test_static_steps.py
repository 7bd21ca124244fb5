"""Steps over tensors that stay where they are: the same tokens as plain steps, and as graphs."""

import gc
import random
import weakref
from collections.abc import Callable
from itertools import chain, pairwise
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaForCausalLM

from language import batching, generation, static_cache, static_steps
from language.adapters import add_adapters_
from language.generation import GeneratedResponse, GenerationRequest, generate
from language.graphs import Graphs
from language.static_steps import Stepping, create_stepping
from tests.language.asking import ENDS, EOS, largest_error, ragged_requests, request
from tests.language.test_generation import grouped_policy
from tests.models import tiny_policy

CPU = torch.device("cpu")
Responses = list[list[GeneratedResponse]]


def stepping(name: str, device: torch.device = CPU) -> Stepping:
    """Return a stepping, whatever the environment says."""
    return create_stepping(device, name)


def many_requests(num: int = 60) -> list[GenerationRequest]:
    """Return short and long responses of few prompts each, so that rows begin at all times.

    With these seeds no draw is within 2e-6 of the border between two tokens: rounding is less.
    """
    rng = random.Random(7)
    return [
        request(
            *(1, *(rng.randrange(4, 384) for _ in range(2 + index // 2))),
            temperature=(1.0, 0.6)[index % 2],
            max_new_tokens=rng.randrange(3, 50),
            seed=50 + index,
            num_responses=rng.randrange(1, 4),
        )
        for index in range(num)
    ]


def assert_same(first: Responses, second: Responses) -> None:
    """Assert equal tokens, ends and, to 1e-5, all three log-probabilities."""
    for mine, other in zip(chain(*first), chain(*second), strict=True):
        assert mine.ids == other.ids
        assert mine.is_finished == other.is_finished
        for name in ("logprobs", "sampling_logprobs", "untempered_logprobs"):
            torch.testing.assert_close(
                torch.tensor(getattr(mine, name)),
                torch.tensor(getattr(other, name)),
                rtol=0,
                atol=1e-5,
            )


@pytest.mark.parametrize("steps_per_look", [1, 8])
@pytest.mark.parametrize("rows_per_batch", [1, 3, 16, 256])
@pytest.mark.parametrize("make", [tiny_policy, grouped_policy])
def test_static_steps_draw_what_plain_ones_draw(
    make: Callable[[], LlamaForCausalLM],
    rows_per_batch: int,
    steps_per_look: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(generation, "_steps_per_look", lambda _device: steps_per_look)
    model, requests = make(), ragged_requests()

    plain, static = (
        generate(
            model,
            requests,
            eos_ids=ENDS,
            rows_per_batch=rows_per_batch,
            stepping=stepping(name),
        )
        for name in ("plain", "static")
    )

    assert_same(plain, static)
    assert largest_error(model, requests, static) < 1e-5


@pytest.mark.parametrize("columns", [1, 4, 64])
def test_capacities_and_forgotten_columns_change_nothing(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_COLUMNS", "_FORGOTTEN_COLUMNS", "_PROMPT_COLUMNS", "_PLACES"):
        monkeypatch.setattr(static_cache, name, columns)
    moved: list[int] = []
    forget = static_cache.StaticCache._forget

    def noted(cache: static_cache.StaticCache) -> int:
        moved.append(forget(cache))
        return moved[-1]

    monkeypatch.setattr(static_cache.StaticCache, "_forget", noted)
    model, requests = tiny_policy(), many_requests()
    plain = generate(model, requests, eos_ids=[EOS], rows_per_batch=6, stepping=stepping("plain"))

    static = generate(model, requests, eos_ids=[EOS], rows_per_batch=6, stepping=stepping("static"))

    assert_same(plain, static)
    assert columns == 64 or sum(moved) > 100


@pytest.mark.parametrize("requests", [ragged_requests(), many_requests()], ids=["ragged", "many"])
def test_tensors_stay_where_they_are_while_the_shape_does(
    requests: list[GenerationRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a replay relies on: it reads and writes the addresses that were captured."""
    places: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    held: list[torch.Tensor] = []
    steps: list[tuple[int, ...]] = []
    decode = static_steps.StaticSteps._decode_

    def noted(self: static_steps.StaticSteps) -> None:
        cache, buffers = self.cache, self._held()
        tensors = [
            *cache._own,
            *cache.prompts._keys,
            *cache.prompts._values,
            *(cache._grid or ()),
            cache._column_1,
            cache._own_bias,
            cache.prompts._bias,
            buffers.newest_B,
            buffers.position_B,
            self._logits_BV,
        ]
        kept = [tensor for tensor in tensors if tensor is not None]
        held.extend(kept)  # so that no other tensor gets their addresses
        before = [tensor.data_ptr() for tensor in kept]
        places.setdefault(cache.shape, set()).add(tuple(before))
        steps.append(cache.shape)
        decode(self)
        assert [tensor.data_ptr() for tensor in kept] == before

    monkeypatch.setattr(static_steps.StaticSteps, "_decode_", noted)
    generate(tiny_policy(), requests, eos_ids=ENDS, rows_per_batch=16, stepping=stepping("static"))

    assert all(len(addresses) == 1 for addresses in places.values())
    changes = sum(one != other for one, other in pairwise(steps))
    assert changes == len(places) - 1, "no shape comes back after another"
    assert changes < len(steps) / 4


class Waits(TorchDispatchMode):
    """Notes operations that have a GPU's host wait, or copy from it: they cannot be captured."""

    names = frozenset(("_local_scalar_dense", "nonzero", "masked_select", "equal", "lift_fresh"))

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []
        self.num_operations = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Any = (),
        kwargs: Any = None,
    ) -> Any:
        """Run the operation."""
        name, self.num_operations = func.overloadpacket.__name__, self.num_operations + 1
        is_masked = name == "index" and any(
            i is not None and i.dtype == torch.bool for i in args[1]
        )
        if name in self.names or is_masked:
            self.noted.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("top_p", [1.0, 0.5])
def test_a_captured_step_has_nobody_wait(top_p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    drawing, decoding = Waits(), Waits()
    draw, decode = static_steps.StaticSteps._draw_, static_steps.StaticSteps._decode_

    def watched_draw(self: static_steps.StaticSteps) -> None:
        with drawing:
            draw(self)

    def watched_decode(self: static_steps.StaticSteps) -> None:
        with decoding:
            decode(self)

    monkeypatch.setattr(static_steps.StaticSteps, "_draw_", watched_draw)
    monkeypatch.setattr(static_steps.StaticSteps, "_decode_", watched_decode)
    requests = [
        request(1, 20 + n, temperature=0.5 * n, top_p=top_p, num_responses=3) for n in range(4)
    ]
    generate(tiny_policy(), requests, eos_ids=ENDS, rows_per_batch=5, stepping=stepping("static"))

    assert decoding.num_operations > 1000
    assert not decoding.noted
    assert drawing.num_operations > 1000
    assert not drawing.noted


class Tape(TorchDispatchMode):
    """A graph for a CPU: the operations of one run with the very tensors that they were given."""

    def __init__(self) -> None:
        super().__init__()
        self._operations: list[tuple[Any, Any, Any, Any]] = []
        self.num_replays = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and note it."""
        result = func(*args, **(kwargs or {}))
        self._operations.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        """Run the operations again, and leave their results where they were the first time."""
        self.num_replays += 1
        for func, args, kwargs, result in self._operations:
            again = func(*args, **kwargs)
            for held, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(held, torch.Tensor) and held.data_ptr() != new.data_ptr():
                    held.copy_(new)


class Tapes(Graphs):
    """Tapes in the place of CUDA graphs: they hold addresses and shapes as those do."""

    def __init__(self) -> None:
        self.tapes: list[Tape] = []
        self.numbers: list[int] = []
        self.is_off = False

    def capture(self, function: Callable[[], None], number: int) -> Tape:
        """Run `function`, and return the tape of it."""
        self.tapes.append(Tape())
        self.numbers.append(number)
        with self.tapes[-1]:
            function()
        return self.tapes[-1]


@pytest.mark.parametrize("rows_per_batch", [1, 3, 16, 256])
@pytest.mark.parametrize("requests", [ragged_requests(), many_requests()], ids=["ragged", "many"])
def test_steps_on_tapes_draw_what_plain_ones_draw(
    requests: list[GenerationRequest], rows_per_batch: int
) -> None:
    model, tapes = grouped_policy(), Tapes()

    plain, replayed = (
        generate(model, requests, eos_ids=ENDS, rows_per_batch=rows_per_batch, stepping=way)
        for way in (stepping("plain"), Stepping(True, tapes))
    )

    assert_same(plain, replayed)
    assert sum(tape.num_replays for tape in tapes.tapes) > 3 * len(tapes.tapes)
    for streams in ({0, 1}, {2, 3}):
        used = [number for number in tapes.numbers if number in streams]
        assert all(one != following for one, following in pairwise(used)), "two take turns"


def test_how_long_a_chunk_is_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, requests = tiny_policy(), ragged_requests()
    usual = generate(model, requests, eos_ids=ENDS, rows_per_batch=6)

    monkeypatch.setattr(batching, "STEPS_PER_CHUNK", 5)
    monkeypatch.setattr(generation, "STEPS_PER_CHUNK", 5)

    assert_same(
        usual,
        generate(model, requests, eos_ids=ENDS, rows_per_batch=6, stepping=stepping("static")),
    )


def test_a_bfloat16_policy_with_adapters_draws_the_same() -> None:
    model = tiny_policy().to(torch.bfloat16)
    add_adapters_(model, rank=4, alpha=8, seed=1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1, generator=torch.Generator().manual_seed(2))
    requests = ragged_requests(6)

    plain, static = (
        generate(model, requests, eos_ids=ENDS, stepping=stepping(name))
        for name in ("plain", "static")
    )

    assert [[r.ids for r in given] for given in plain] == [
        [r.ids for r in given] for given in static
    ]
    assert largest_error(model, requests, static) < 0.02


def test_caches_go_with_the_call_without_waiting_for_the_collector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cache may take half of a GPU's memory."""
    made: list[weakref.ref[static_cache.StaticCache]] = []
    create = static_steps.StaticSteps._create_cache

    def noted(self: static_steps.StaticSteps, num_rows: int) -> static_cache.StaticCache:
        cache = create(self, num_rows)
        made.append(weakref.ref(cache))
        return cache

    monkeypatch.setattr(static_steps.StaticSteps, "_create_cache", noted)
    gc.disable()
    try:
        generate(tiny_policy(), ragged_requests(3), eos_ids=ENDS, stepping=stepping("static"))
        assert [reference() for reference in made] == [None]
    finally:
        gc.enable()


def test_a_cpu_is_plain_unless_the_environment_says_otherwise() -> None:
    assert create_stepping(CPU, environment={}) == Stepping(False, None)
    named = create_stepping(CPU, environment={"CONCORD_STEPPING": "static"})
    assert named == Stepping(True, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("graph", "CONCORD_STEPPING: 'graph' is not one of plain, static, graphs"),
        ("graphs", "CONCORD_STEPPING: graphs need a GPU; use plain or static"),
    ],
)
def test_a_stepping_that_there_is_not_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_stepping(CPU, environment={"CONCORD_STEPPING": name})


@pytest.mark.gpu
@pytest.mark.parametrize("rows_per_batch", [3, 16, 256])
def test_graphs_draw_what_plain_steps_draw(rows_per_batch: int) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    device = torch.device("cuda", torch.cuda.current_device())
    model = grouped_policy().to(device)
    for requests in (ragged_requests(), many_requests()):
        replayed = stepping("graphs", device)
        assert replayed.graphs is not None

        plain, graphs = (
            generate(model, requests, eos_ids=ENDS, rows_per_batch=rows_per_batch, stepping=way)
            for way in (stepping("plain", device), replayed)
        )

        assert_same(plain, graphs)
        assert not replayed.graphs.is_off
        assert replayed.graphs.captures.num >= 1


@pytest.mark.gpu
def test_a_step_that_cannot_be_captured_goes_on_without(
    caplog: pytest.LogCaptureFixture,
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    device = torch.device("cuda", torch.cuda.current_device())
    model, requests = tiny_policy().to(device), ragged_requests(6)
    plain = generate(model, requests, eos_ids=ENDS, stepping=stepping("plain", device))

    def wait(_module: torch.nn.Module, args: tuple[torch.Tensor]) -> None:
        assert args[0].sum().item() < float("inf")

    model.lm_head.register_forward_pre_hook(wait)
    replayed = stepping("graphs", device)

    graphs = generate(model, requests, eos_ids=ENDS, stepping=replayed)

    assert_same(plain, graphs)
    assert replayed.graphs is not None
    assert replayed.graphs.is_off
    assert caplog.text.count("goes on without CUDA graphs") == 1
