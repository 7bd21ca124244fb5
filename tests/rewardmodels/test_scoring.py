"""Served scores: pooled at the last real token, alone or in company, as in training."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForSequenceClassification

from language.models import disable_dropout_, save_model
from language.monitors import load_monitor
from language.rows import TokenRow
from language.scalars import create_scalar_model, load_scalar_model, score_rows
from language.tokenizers import train_tokenizer
from records.preferences import Axis
from records.run_configs import GENERAL
from rewardmodels.batches import pair_scores
from rewardmodels.data import Pair
from rewardmodels.reports import score_pairs
from rewardmodels.scoring import TokenizerMismatchError, load_score_fn
from tests.models import TEXTS, tiny_policy, tiny_tokenizer, write_tiny_policy
from tests.policies.toys import write_adapter_model

CPU = torch.device("cpu")
PAD, EOS = 3, 2


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward")
    model = create_scalar_model(write_tiny_policy(folder / "policy"), seed=5)
    save_model(model, tiny_tokenizer(), folder / "model")
    return folder / "model"


def rows(count: int, seed: int = 0) -> list[TokenRow]:
    generator = torch.Generator().manual_seed(seed)

    def ids(low: int) -> tuple[int, ...]:
        length = int(torch.randint(low, 12, (1,), generator=generator))
        return tuple(torch.randint(4, 380, (length,), generator=generator).tolist())

    return [TokenRow((1, *ids(1)), (*ids(0), EOS)) for _ in range(count)]


def score_alone(model: LlamaForSequenceClassification, row: TokenRow) -> float:
    """Score one row by hand: no padding, no mask, the head on the last position."""
    ids = torch.tensor([[*row.prompt_ids, *row.response_ids]])
    with torch.no_grad():
        hidden = model.model(input_ids=ids).last_hidden_state[0, -1]
        return (hidden @ model.score.weight[0]).item()


@pytest.mark.parametrize("rows_per_batch", [1, 3, 64])
def test_a_score_is_the_head_at_the_last_token_whatever_stands_beside_the_row(
    reward_model: Path, rows_per_batch: int
) -> None:
    model = load_scalar_model(reward_model)
    some = rows(20)
    scores = score_rows(model, some, rows_per_batch=rows_per_batch)
    expected = torch.tensor([score_alone(model, row) for row in some])
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("rows_per_batch", [1, 5, 64])
def test_responses_to_one_prompt_score_as_if_each_stood_alone(
    reward_model: Path, rows_per_batch: int
) -> None:
    model = load_scalar_model(reward_model)
    # Three prompts, of which the last is too short to be shared, with eight responses each.
    prompts = [tuple(range(40, 60)), (*range(40, 59), 99), (1, 40)]
    responses = [(*range(60, 60 + k), EOS) for k in range(8)]
    some = [TokenRow(prompt, response) for response in responses for prompt in prompts]
    scores = score_rows(model, some, rows_per_batch=rows_per_batch)
    expected = torch.tensor([score_alone(model, row) for row in some])
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0.0)
    assert len(set(scores.tolist())) == 24


def test_a_batch_of_no_rows_is_refused(reward_model: Path) -> None:
    with pytest.raises(ValueError, match="rows_per_batch: 0"):
        score_rows(load_scalar_model(reward_model), [], rows_per_batch=0)


def test_scores_follow_the_order_of_the_rows(reward_model: Path) -> None:
    model = load_scalar_model(reward_model)
    some = rows(17)
    order = torch.randperm(17, generator=torch.Generator().manual_seed(2)).tolist()
    scores = score_rows(model, some, rows_per_batch=4)
    shuffled = score_rows(model, [some[i] for i in order], rows_per_batch=4)
    torch.testing.assert_close(shuffled, scores[order], atol=1e-5, rtol=0.0)


def test_the_end_token_is_seen_even_where_it_pads(reward_model: Path) -> None:
    model = load_scalar_model(reward_model)
    without, with_end = TokenRow((1, 40, 41), (50, 51)), TokenRow((1, 40, 41), (50, 51, EOS))
    scores = score_rows(model, [without, with_end], rows_per_batch=2)
    assert abs(scores[0] - scores[1]) > 1e-3


def test_a_prompt_that_holds_the_end_token_does_not_hide_the_response(reward_model: Path) -> None:
    model = load_scalar_model(reward_model)
    prompt = (1, 40, 41, EOS, 1, 42)
    scores = score_rows(
        model,
        [TokenRow(prompt, (50, EOS)), TokenRow(prompt, (60, EOS))],
        rows_per_batch=2,
    )
    assert abs(scores[0] - scores[1]) > 1e-3


def test_scores_come_from_each_axiss_own_model(reward_model: Path, tmp_path: Path) -> None:
    other = create_scalar_model(write_tiny_policy(tmp_path / "policy"), seed=6)
    save_model(other, tiny_tokenizer(), tmp_path / "safety")
    score_fn = load_score_fn(
        {Axis.HELPFULNESS: reward_model, Axis.SAFETY: tmp_path / "safety"},
        device=CPU,
        dtype=torch.float32,
        rows_per_batch=8,
    )
    scores = score_fn(rows(5))
    expected = torch.tensor([score_alone(other, row) for row in rows(5)])
    assert list(scores) == [Axis.HELPFULNESS, Axis.SAFETY]
    torch.testing.assert_close(scores[Axis.SAFETY], expected, atol=1e-5, rtol=0.0)
    assert not torch.allclose(scores[Axis.HELPFULNESS], expected, atol=1e-3)


@pytest.mark.parametrize("is_one_base", [True, False])
def test_models_of_one_base_share_its_layers_with_the_monitor_too(
    tmp_path: Path, is_one_base: bool
) -> None:
    bases = [write_tiny_policy(tmp_path / f"base-{seed}", seed=seed) for seed in range(3)]
    roles = ("helpfulness", "safety", GENERAL)
    folders = {
        role: write_adapter_model(tmp_path / role, bases[0 if is_one_base else seed], seed=seed)
        for seed, role in enumerate(roles)
    }
    settings: dict[str, Any] = {"device": CPU, "dtype": torch.float32, "rows_per_batch": 4}
    score_fn = load_score_fn({axis: folders[axis.value] for axis in Axis}, **settings)
    monitor = load_monitor(folders, tiny_tokenizer(), **settings, beside=score_fn)
    assert monitor is not None
    some = rows(13)
    expected = [
        score_rows(load_scalar_model(folders[role]), some, rows_per_batch=4) for role in roles
    ]
    for _ in range(2):  # whoever scored last
        general_B, scores = monitor(some), score_fn(some)
        for ours_B, theirs_B in zip((*scores.values(), general_B), expected, strict=True):
            torch.testing.assert_close(ours_B, theirs_B, atol=1e-5, rtol=0.0)
    beside = score_fn.model_beside(GENERAL, folders[GENERAL])
    own = score_fn.model_beside("again", folders["helpfulness"])
    assert beside is not None
    assert own is not None
    assert (beside().model is own().model) is is_one_base


def test_no_rows_give_no_scores(reward_model: Path) -> None:
    score_fn = load_score_fn(
        {Axis.SAFETY: reward_model}, device=CPU, dtype=torch.float32, rows_per_batch=8
    )
    assert score_fn([])[Axis.SAFETY].shape == (0,)


def test_reward_models_with_different_tokenizers_are_refused(
    reward_model: Path, tmp_path: Path
) -> None:
    tokenizer = train_tokenizer(reversed(TEXTS), vocabulary_size=300)
    model = create_scalar_model(write_tiny_policy(tmp_path / "policy"), seed=6)
    save_model(model, tokenizer, tmp_path / "safety")
    paths = {Axis.HELPFULNESS: reward_model, Axis.SAFETY: tmp_path / "safety"}
    with pytest.raises(TokenizerMismatchError, match="safety") as caught:
        load_score_fn(paths, device=CPU, dtype=torch.float32, rows_per_batch=8)
    assert set(caught.value.digests) == {"helpfulness", "safety"}


def test_served_scores_equal_those_of_training_and_its_report(reward_model: Path) -> None:
    model = load_scalar_model(reward_model)
    some = rows(20)
    # Both responses of a pair follow the same prompt.
    some[10:] = [
        TokenRow(chosen.prompt_ids, rejected.response_ids)
        for chosen, rejected in zip(some[:10], some[10:], strict=True)
    ]
    pairs = [Pair(a, b, None, None) for a, b in zip(some[:10], some[10:], strict=True)]
    score_fn = load_score_fn(
        {Axis.SAFETY: reward_model}, device=CPU, dtype=torch.float32, rows_per_batch=7
    )
    served = score_fn(some)[Axis.SAFETY]
    trained = torch.cat(pair_scores(model, pairs)).detach()
    reported = torch.cat(score_pairs(model, pairs, tokens_per_microbatch=64))
    torch.testing.assert_close(served, trained, atol=1e-5, rtol=0.0)
    torch.testing.assert_close(served, reported, atol=1e-5, rtol=0.0)


def test_dropout_in_the_config_is_off_when_scoring(tmp_path: Path) -> None:
    policy = tiny_policy()
    policy.config.attention_dropout = 0.5
    save_model(policy, tiny_tokenizer(), tmp_path / "policy")
    model = create_scalar_model(tmp_path / "policy", seed=0)
    model.config.attention_dropout = 0.5
    save_model(model, tiny_tokenizer(), tmp_path / "reward")
    served = load_scalar_model(tmp_path / "reward").train()  # even in training mode
    some = rows(4)
    first = score_rows(served, some, rows_per_batch=4)
    assert torch.equal(first, score_rows(served, some, rows_per_batch=4))
    disable_dropout_(served)
    assert torch.equal(first, score_rows(served, some, rows_per_batch=4))


def test_the_head_survives_saving_and_loading_bit_for_bit(tmp_path: Path) -> None:
    model = create_scalar_model(write_tiny_policy(tmp_path / "policy"), seed=9)
    before = score_rows(model, rows(6), rows_per_batch=6)
    save_model(model, tiny_tokenizer(), tmp_path / "reward")
    loaded = load_scalar_model(tmp_path / "reward")
    assert torch.equal(before, score_rows(loaded, rows(6), rows_per_batch=6))
    assert torch.equal(loaded.score.weight, model.score.weight)
