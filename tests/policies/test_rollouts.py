"""Rollouts: what was sampled is what is scored and learned from, and padding means nothing."""

from pathlib import Path

import pytest
import torch

from language.logprobs import response_logprobs
from language.rows import pad_rows
from language.scalars import create_scalar_model, row_scalars
from policies.kl import kl_estimates
from policies.rollouts import Rollout, logprobs_of, sample_rollout, select_rows, values_of, view_of
from policies.scoring import derived_seed
from policies.statistics import Moments, masked_mean
from records.configs import SamplingConfig
from tests.models import tiny_policy, write_tiny_policy
from tests.policies.toys import encoded, prompts

RAW = Moments(0.0, 1.0)


def sampled(
    temperature: float = 1.0, top_p: float = 1.0, seeds: int = 0, max_new_tokens: int = 12
) -> Rollout:
    items = encoded(*prompts(8))
    return sample_rollout(
        tiny_policy(),
        items,
        [derived_seed(seeds, index) for index in range(8)],
        sampling=SamplingConfig(
            temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens
        ),
        eos_id=2,
        pad_id=3,
        rows_per_batch=8,
    )


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
def test_the_trainer_recomputes_the_samplers_log_probabilities(temperature: float) -> None:
    rollout = sampled(temperature, top_p=0.8)
    own_BT = logprobs_of(tiny_policy(), rollout, temperature=temperature, tokens=100)
    gap_BT = (own_BT - rollout.sampler_logprobs_BT).abs()
    assert gap_BT.max() < 1e-4
    assert rollout.sampler_logprobs_BT[rollout.batch.response_mask_BT].max() < 0.0


def test_before_any_step_the_ratio_is_one() -> None:
    rollout = sampled()
    old = view_of(tiny_policy(), rollout, temperature=1.0, tokens=64)
    part = select_rows(rollout.batch, [5, 1])
    new_BT = response_logprobs(tiny_policy(), part)
    log_ratio_BT = new_BT - old.logprobs_BT[[5, 1], : new_BT.shape[1]]
    assert log_ratio_BT.expm1().abs().max() < 1e-5
    assert (log_ratio_BT.expm1() - log_ratio_BT).mean() < 1e-8


def test_the_divergence_from_the_own_copy_is_zero() -> None:
    rollout = sampled()
    own_BT = logprobs_of(tiny_policy(), rollout, temperature=1.0, tokens=100)
    copy_BT = logprobs_of(tiny_policy(), rollout, temperature=1.0, tokens=100)
    assert kl_estimates(own_BT, copy_BT).abs().max() == 0.0


def test_fifty_more_pads_change_nothing() -> None:
    rollout = sampled()
    mask_BT = rollout.batch.response_mask_BT
    wide = rollout._replace(
        batch=pad_rows([*rollout.rows, rollout.rows[0]._replace(response_ids=(5,) * 90)], pad_id=3)
    )
    old = view_of(tiny_policy(), rollout, temperature=1.0, tokens=10_000)
    wide_view = view_of(tiny_policy(), wide, temperature=1.0, tokens=10_000)
    width = mask_BT.shape[1]
    torch.testing.assert_close(wide_view.logprobs_BT[:8, :width], old.logprobs_BT)
    torch.testing.assert_close(
        masked_mean(wide_view.entropies_BT[:8, :width], mask_BT),
        masked_mean(old.entropies_BT, mask_BT),
    )
    assert wide_view.logprobs_BT[:8, width:].abs().sum() == 0.0


def test_selected_rows_are_cut_to_the_longest_of_them() -> None:
    rollout = sampled()
    for index, row in enumerate(rollout.rows):
        part = select_rows(rollout.batch, [index])
        assert part.ids_BT.tolist() == [[*row.prompt_ids, *row.response_ids]]
        assert int(part.response_mask_BT.sum()) == len(row.response_ids)


def test_other_seeds_give_other_samples_and_the_same_seeds_the_same() -> None:
    first, again, other = sampled(seeds=1), sampled(seeds=1), sampled(seeds=2)
    assert first.rows == again.rows
    assert all(
        a.response_ids != b.response_ids for a, b in zip(first.rows, other.rows, strict=True)
    )


def test_sampling_is_never_greedy() -> None:
    (prompt,) = encoded(*prompts(1))
    rollout = sample_rollout(
        tiny_policy(),
        [prompt] * 4,
        [derived_seed(0, index) for index in range(4)],
        sampling=SamplingConfig(max_new_tokens=8),
        eos_id=2,
        pad_id=3,
        rows_per_batch=4,
    )
    assert len({row.response_ids for row in rollout.rows}) > 1


def test_a_response_that_was_cut_is_flagged() -> None:
    rollout = sampled(max_new_tokens=40)
    for row, is_finished in zip(rollout.rows, rollout.is_finished_B.tolist(), strict=True):
        assert is_finished == (row.response_ids[-1] == 2)
        assert is_finished or len(row.response_ids) == 40


def test_at_first_the_value_after_the_last_token_is_the_reward_models_score(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = write_tiny_policy(tmp_path_factory.mktemp("models") / "policy")
    model = create_scalar_model(folder, seed=1)
    rollout = sampled()
    scores_B = row_scalars(model, rollout.rows)
    # One more token a row: its state is the row as it was scored.
    longer = [row._replace(response_ids=(*row.response_ids, 5)) for row in rollout.rows]
    wide = rollout._replace(rows=longer, batch=pad_rows(longer, pad_id=3))
    values_BT = values_of(model, wide, units=RAW, tokens=10_000)
    last_B = torch.tensor([row.num_tokens - 1 for row in longer])
    at_end_B = values_BT.gather(1, last_B[:, None])[:, 0]
    torch.testing.assert_close(at_end_B, scores_B, atol=1e-5, rtol=1e-5)


def test_values_speak_in_units_of_whitened_scores(tmp_path: Path) -> None:
    model = create_scalar_model(write_tiny_policy(tmp_path / "policy"), seed=1)
    rollout = sampled()
    raw_BT = values_of(model, rollout, units=RAW, tokens=10_000)
    white_BT = values_of(model, rollout, units=Moments(3.0, 4.0), tokens=10_000)
    mask_BT = rollout.batch.response_mask_BT
    torch.testing.assert_close(white_BT[mask_BT], (raw_BT[mask_BT] - 3.0) / 2.0)
    assert white_BT[~mask_BT].abs().sum() == 0.0


def test_seeds_depend_on_every_part() -> None:
    seeds = {derived_seed(*parts) for parts in [(1, 2, 3), (1, 3, 2), (12, 3), (1, 23), (1, "a")]}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)
