"""Rollouts: what was sampled is what is scored and learned from, whatever it is packed with."""

import pytest
import torch

from language.engines import LocalEngine
from language.logprobs import response_logprobs
from language.packing import packed_hidden
from language.rows import pad_rows
from language.scalars import create_scalar_model, row_scalars
from policies.kl import kl_estimates
from policies.networks import Networks, shared_networks
from policies.rollouts import Rollout, groups_of, sample_rollout
from policies.scoring import derived_seed
from policies.statistics import Moments
from policies.views import logprobs_of, view_of
from records.run_configs import SamplingConfig
from tests.models import tiny_policy, write_tiny_policy
from tests.policies.toys import encoded, prompts, separate

RAW = Moments(0.0, 1.0)


def sampled(
    temperature: float = 1.0, top_p: float = 1.0, seeds: int = 0, max_new_tokens: int = 12
) -> Rollout:
    items = encoded(*prompts(8))
    return sample_rollout(
        LocalEngine(tiny_policy()),
        items,
        [derived_seed(seeds, index) for index in range(8)],
        sampling=SamplingConfig(
            temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens
        ),
        eos_id=2,
        rows_per_batch=8,
        device=torch.device("cpu"),
    )


def own_logprobs(rollout: Rollout, temperature: float = 1.0, tokens: int = 100) -> torch.Tensor:
    groups = groups_of(rollout, tokens=tokens)
    return logprobs_of(tiny_policy(), rollout, groups, temperature=temperature)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    folder = write_tiny_policy(tmp_path_factory.mktemp("models") / "policy")
    return separate(tiny_policy(), create_scalar_model(folder, seed=1), tiny_policy())


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
def test_the_trainer_recomputes_the_samplers_log_probabilities(temperature: float) -> None:
    rollout = sampled(temperature, top_p=0.8)
    gap_M = (own_logprobs(rollout, temperature) - rollout.sampler_logprobs_M).abs()
    assert gap_M.max() < 1e-4
    assert rollout.sampler_logprobs_M.max() < 0.0


def test_before_any_step_the_ratio_is_one(networks: Networks) -> None:
    rollout = sampled()
    old = view_of(
        networks, rollout, groups_of(rollout, tokens=64), temperature=1.0, units=RAW
    ).logprobs_M
    (part,) = groups_of(rollout, [5, 1], tokens=1000)
    batch = pad_rows([rollout.rows[i] for i in part.row_B.tolist()], pad_id=3)
    new_M = response_logprobs(tiny_policy(), batch)[batch.response_mask_BT]
    log_ratio_M = new_M - old[part.token_M]
    assert log_ratio_M.expm1().abs().max() < 1e-5
    assert (log_ratio_M.expm1() - log_ratio_M).mean() < 1e-8


def test_the_divergence_from_the_own_copy_is_zero() -> None:
    rollout = sampled()
    assert kl_estimates(own_logprobs(rollout), own_logprobs(rollout)).abs().max() == 0.0


def test_what_a_row_is_packed_with_changes_nothing(networks: Networks) -> None:
    rollout = sampled()
    whole, parts = (
        view_of(networks, rollout, groups_of(rollout, tokens=tokens), temperature=1.0, units=RAW)
        for tokens in (10_000, 10)
    )
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_grid_holds_each_token_once_and_zeros_after_the_response() -> None:
    rollout = sampled()
    numbers_M = torch.arange(1.0, len(rollout.place_M) + 1)
    grid_BR = rollout.grid(numbers_M)
    lengths = [len(row.response_ids) for row in rollout.rows]
    assert (grid_BR > 0).sum(dim=1).tolist() == lengths
    assert torch.equal(grid_BR > 0, rollout.response_mask_BR)
    assert torch.equal(rollout.flat(grid_BR), numbers_M)


def test_groups_take_the_rows_they_are_asked_for_and_say_where_their_tokens_are() -> None:
    rollout = sampled()
    ids_M = torch.tensor([token for row in rollout.rows for token in row.response_ids])
    groups = groups_of(rollout, [6, 0, 3], tokens=30)
    assert len(groups) > 1
    assert sorted(torch.cat([group.row_B for group in groups]).tolist()) == [0, 3, 6]
    for group in groups:
        assert torch.equal(group.packed.response_ids_M, ids_M[group.token_M])


def test_other_seeds_give_other_samples_and_the_same_seeds_the_same() -> None:
    first, again, other = sampled(seeds=1), sampled(seeds=1), sampled(seeds=2)
    assert first.rows == again.rows
    assert all(
        a.response_ids != b.response_ids for a, b in zip(first.rows, other.rows, strict=True)
    )


def test_sampling_is_never_greedy() -> None:
    (prompt,) = encoded(*prompts(1))
    rollout = sample_rollout(
        LocalEngine(tiny_policy()),
        [prompt] * 4,
        [derived_seed(0, index) for index in range(4)],
        sampling=SamplingConfig(max_new_tokens=8),
        eos_id=2,
        rows_per_batch=4,
        device=torch.device("cpu"),
    )
    assert len({row.response_ids for row in rollout.rows}) > 1


def test_a_response_that_was_cut_is_flagged() -> None:
    rollout = sampled(max_new_tokens=40)
    for row, is_finished in zip(rollout.rows, rollout.is_finished_B.tolist(), strict=True):
        assert is_finished == (row.response_ids[-1] == 2)
        assert is_finished or len(row.response_ids) == 40


def test_at_first_the_value_after_the_last_token_is_the_reward_models_score(
    networks: Networks,
) -> None:
    rollout = sampled()
    groups = groups_of(rollout, tokens=100)
    view = view_of(networks, rollout, groups, temperature=1.0, units=RAW)
    scores_B = row_scalars(networks.value_model, rollout.rows)
    torch.testing.assert_close(view.last_values_B, scores_B, atol=1e-5, rtol=1e-5)


def test_a_value_is_that_of_the_state_before_its_token(networks: Networks) -> None:
    rollout = sampled()
    groups = groups_of(rollout, tokens=100)
    values_BR = rollout.grid(
        view_of(networks, rollout, groups, temperature=1.0, units=RAW).values_M
    )
    for index, row in enumerate(rollout.rows):
        for r in range(len(row.response_ids)):
            state = row._replace(response_ids=row.response_ids[:r])
            expected = row_scalars(networks.value_model, [state]).item()
            assert values_BR[index, r].item() == pytest.approx(expected, abs=1e-5)


def test_values_speak_in_units_of_whitened_scores(networks: Networks) -> None:
    rollout = sampled()
    groups = groups_of(rollout, tokens=10_000)
    raw, white = (
        view_of(networks, rollout, groups, temperature=1.0, units=units)
        for units in (RAW, Moments(3.0, 4.0))
    )
    torch.testing.assert_close(white.values_M, (raw.values_M - 3.0) / 2.0)
    torch.testing.assert_close(white.last_values_B, (raw.last_values_B - 3.0) / 2.0)


def test_a_shared_trunk_is_passed_once_for_probabilities_and_values() -> None:
    shared = shared_networks(tiny_policy(), tiny_policy())
    rollout = sampled()
    groups = groups_of(rollout, tokens=10_000)
    passes: list[int] = []
    shared.policy.model.register_forward_hook(lambda *_: passes.append(1))
    view = view_of(shared, rollout, groups, temperature=1.0, units=RAW)
    assert len(passes) == len(groups) == 1
    torch.testing.assert_close(view.logprobs_M, own_logprobs(rollout), atol=1e-5, rtol=1e-5)
    assert view.values_M.abs().max() == 0.0  # a new head says nothing yet
    with torch.no_grad():
        shared.value_model.score.weight.fill_(0.5)
    values_M = view_of(shared, rollout, groups, temperature=1.0, units=RAW).values_M
    with torch.no_grad():
        hidden_TD = packed_hidden(shared.policy.model, groups[0].packed)
    expected_M = 0.5 * hidden_TD[groups[0].packed.before_M].sum(dim=1)
    torch.testing.assert_close(values_M[groups[0].token_M], expected_M, atol=1e-5, rtol=1e-5)


def test_seeds_depend_on_every_part() -> None:
    seeds = {derived_seed(*parts) for parts in [(1, 2, 3), (1, 3, 2), (12, 3), (1, 23), (1, "a")]}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)
