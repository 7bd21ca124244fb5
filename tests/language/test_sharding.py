"""Models cut over processes: gathered whole for sampling, once, and let go; others stay whole.

How cut models are trained is in `test_training.py`. Two real processes are started by torchrun.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from language.engines import LocalEngine
from language.precision import MixedWeights
from language.sharding import ShardedModel, compute_with, gathered, weights_of, whole_or_cut
from tests.language.gathering import CPU, losses_of, sampled
from tests.models import tiny_policy
from tests.torchrun import torchrun


def test_one_process_trains_the_model_as_it_is() -> None:
    model = tiny_policy()
    weights = weights_of(model, torch.float32, torch.device("cpu"))
    assert isinstance(weights, MixedWeights)
    assert weights.working is model
    total = compute_with(weights.working, lambda policy: policy.lm_head.weight.sum())
    assert total == model.lm_head.weight.sum()


def test_one_process_gathers_nothing_and_cuts_nothing() -> None:
    model = tiny_policy()
    with gathered(model, is_wanted=False) as whole:
        assert whole is model
    assert model.lm_head.weight.device == CPU
    assert whole_or_cut(model, torch.float32, CPU) is model


def test_a_model_that_shares_a_weight_is_not_cut() -> None:
    model = tiny_policy()
    model.lm_head.weight = model.model.embed_tokens.weight
    with pytest.raises(ValueError, match="tie_word_embeddings"):
        ShardedModel(model, torch.float32, torch.device("cpu"))


Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes wrote; `tests.language.gathering` says what they did."""
    folder = tmp_path_factory.mktemp("gathering")
    torchrun("tests.language.gathering", str(folder), timeout_seconds=300)
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> Found:
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_a_gathered_policy_says_what_the_cut_one_says(found: Found) -> None:
    expected = losses_of(tiny_policy())
    for said in found:
        assert said["sharded"] == pytest.approx(expected, abs=1e-6)
        assert said["gathered"] == said["sharded"]


def test_gathered_weights_are_let_go_though_the_model_is_still_held(found: Found) -> None:
    num_bytes = sum(p.nbytes for p in tiny_policy().parameters())
    for said in found:
        assert said["bytes gathered"] == pytest.approx(num_bytes, rel=0.01)
        assert said["bytes left"] == 0
        assert said["devices left"] == ["meta"]


def test_a_process_that_wants_no_weights_gets_none(found: Found) -> None:
    assert [said["wanted"] for said in found] == [False, True]


def test_weights_are_gathered_once_and_not_for_each_token(found: Found) -> None:
    num_weights = len(list(tiny_policy().parameters()))
    for said in found:
        few, many = said["gathers"]
        assert few == many
        # The responses are exchanged too: their lengths, then themselves.
        assert many == num_weights + 2


def test_in_bfloat16_what_is_gathered_is_what_a_pass_computes_with(
    found: Found, folder: Path
) -> None:
    assert all(said["is bfloat16 exact"] for said in found)
    saved = load_file(folder / "coarse" / "model.safetensors")
    for name, tensor in tiny_policy().bfloat16().state_dict().items():
        assert torch.equal(saved[name], tensor)


@pytest.mark.parametrize("engine", ["dealt", "served"])
def test_each_process_has_all_responses_in_the_order_of_the_requests(
    found: Found, engine: str
) -> None:
    expected = sampled(LocalEngine(tiny_policy(), "v1"))
    assert_alike(found, engine, expected)


def test_the_main_process_hands_new_weights_to_a_server(found: Found) -> None:
    policy = tiny_policy()
    with torch.no_grad():
        policy.lm_head.weight.mul_(2.0)
    assert_alike(found, "served later", sampled(LocalEngine(policy, "v2")))
    assert [said["gathers of the same"] for said in found] == [0, 0]


def assert_alike(found: Found, engine: str, expected: list[list[Any]]) -> None:
    """Assert that both processes have the same responses, and that they are those expected."""
    first, second = (said[engine] for said in found)
    assert first == second
    for (ids, logprobs, version), (their_ids, their_logprobs, their_version) in zip(
        first, expected, strict=True
    ):
        assert (ids, version) == (their_ids, their_version)
        assert logprobs == pytest.approx(their_logprobs, abs=1e-5)
