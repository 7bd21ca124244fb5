"""The mathematics of PPO against a second implementation: plain Python, written from the papers.

Nothing here is shared with the code under test: lists, loops and `math`, row by row and token by
token, on random ragged rows.
"""

import math
import random
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from policies.advantages import generalised_advantages
from policies.kl import kl_penalties
from policies.losses import policy_losses, token_mean, value_losses
from policies.rewards import token_rewards
from policies.statistics import whiten
from records.ppo_choices import KLEstimator, KLScope

Rows = list[list[float]]


class Case(NamedTuple):
    """One rollout: what models say of each response token, and each response's score."""

    policy: Rows
    reference: Rows
    values: Rows
    scores: list[float]


def random_case(seed: int) -> Case:
    draw = random.Random(seed)
    lengths = [draw.randint(1, 9) for _ in range(6)]
    policy, reference, values = (
        [[draw.gauss(mean, 0.7) for _ in range(length)] for length in lengths]
        for mean in (-2.0, -2.3, 0.2)
    )
    return Case(policy, reference, values, [draw.gauss(0.5, 2.0) for _ in lengths])


def grid(rows: Rows) -> Tensor:
    """Return rows as a tensor, padded by a number that must not matter."""
    width = max(map(len, rows))
    return torch.tensor([row + [55.5] * (width - len(row)) for row in rows], dtype=torch.float64)


def mask_of(rows: Rows) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[t < len(row) for t in range(width)] for row in rows])


def assert_rows(values_BR: Tensor, rows: Rows) -> None:
    for line, row in zip(values_BR.tolist(), rows, strict=True):
        assert line[: len(row)] == pytest.approx(row, abs=1e-9)
        assert all(value == 0.0 for value in line[len(row) :])


# The second implementation.


def estimate(log_ratio: float, estimator: KLEstimator) -> float:
    """Schulman 2020, with r = q / p as he writes it, q being the reference."""
    r = math.exp(-log_ratio)
    return {
        KLEstimator.K1: -math.log(r),
        KLEstimator.K2: 0.5 * math.log(r) ** 2,
        KLEstimator.K3: (r - 1.0) - math.log(r),
    }[estimator]


def plain_penalties(case: Case, estimator: KLEstimator, scope: KLScope) -> Rows:
    rows = []
    for policy, reference in zip(case.policy, case.reference, strict=True):
        if scope is KLScope.TOKEN:
            rows.append(
                [estimate(p - q, estimator) for p, q in zip(policy, reference, strict=True)]
            )
        else:
            whole = estimate(sum(policy) - sum(reference), estimator)
            rows.append([0.0] * (len(policy) - 1) + [whole])
    return rows


def plain_rewards(scores: list[float], penalties: Rows, beta: float) -> Rows:
    """Equation 4 of arXiv:2307.09288 with the score at the end."""
    rows = []
    for score, row in zip(scores, penalties, strict=True):
        rewards = [-beta * kl for kl in row]
        rewards[-1] += score
        rows.append(rewards)
    return rows


def plain_advantages(rewards: Rows, values: Rows, gamma: float, lam: float) -> Rows:
    """arXiv:1506.02438 eq. 16 as its sum: A_t = Σ_l (γ λ)^l δ_{t+l}."""
    rows = []
    for reward, value in zip(rewards, values, strict=True):
        after = [*value[1:], 0.0]
        deltas = [r + gamma * n - v for r, n, v in zip(reward, after, value, strict=True)]
        rows.append(
            [
                sum((gamma * lam) ** k * delta for k, delta in enumerate(deltas[t:]))
                for t in range(len(deltas))
            ]
        )
    return rows


def plain_whitened(rows: Rows) -> Rows:
    flat = [value for row in rows for value in row]
    mean = sum(flat) / len(flat)
    variance = sum((value - mean) ** 2 for value in flat) / len(flat)
    return [[(value - mean) / math.sqrt(variance + 1e-8) for value in row] for row in rows]


def plain_policy_loss(new: Rows, old: Rows, advantages: Rows, clip: float) -> float:
    """arXiv:1707.06347 eq. 7 by cases, as its figure 1 draws it."""
    losses = []
    for news, olds, row in zip(new, old, advantages, strict=True):
        for n, o, advantage in zip(news, olds, row, strict=True):
            ratio = math.exp(n) / math.exp(o)
            bound = min(ratio, 1 + clip) if advantage > 0 else max(ratio, 1 - clip)
            losses.append(-bound * advantage)
    return sum(losses) / len(losses)


def plain_value_loss(new: Rows, old: Rows, returns: Rows, clip: float) -> float:
    losses = []
    for news, olds, row in zip(new, old, returns, strict=True):
        for n, o, target in zip(news, olds, row, strict=True):
            near = max(o - clip, min(o + clip, n))
            losses.append(0.5 * max((n - target) ** 2, (near - target) ** 2))
    return sum(losses) / len(losses)


# The comparisons.

SEEDS = range(5)


@pytest.mark.parametrize("scope", list(KLScope))
@pytest.mark.parametrize("estimator", list(KLEstimator))
@pytest.mark.parametrize("seed", SEEDS)
def test_penalties_and_rewards_are_those_of_plain_python(
    seed: int, estimator: KLEstimator, scope: KLScope
) -> None:
    case = random_case(seed)
    mask_BR = mask_of(case.policy)
    kl_BR = kl_penalties(
        grid(case.policy), grid(case.reference), mask_BR, estimator=estimator, scope=scope
    )
    penalties = plain_penalties(case, estimator, scope)
    assert_rows(kl_BR, penalties)
    scores_B = torch.tensor(case.scores, dtype=torch.float64)
    rewards_BR = token_rewards(scores_B, kl_BR, mask_BR, kl_coef=0.3)
    assert_rows(rewards_BR, plain_rewards(case.scores, penalties, 0.3))


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (1.0, 1.0), (0.9, 0.0), (0.97, 0.6)])
@pytest.mark.parametrize("seed", SEEDS)
def test_advantages_are_those_of_plain_python(seed: int, gamma: float, lam: float) -> None:
    case = random_case(seed)
    rewards = plain_rewards(case.scores, plain_penalties(case, KLEstimator.K1, KLScope.TOKEN), 0.3)
    mask_BR = mask_of(case.policy)
    advantages_BR, returns_BR = generalised_advantages(
        grid(rewards), grid(case.values), mask_BR, gamma=gamma, gae_lambda=lam
    )
    expected = plain_advantages(rewards, case.values, gamma, lam)
    assert_rows(advantages_BR, expected)
    rows = zip(expected, case.values, strict=True)
    assert_rows(returns_BR, [[a + v for a, v in zip(*pair, strict=True)] for pair in rows])
    assert_rows(whiten(advantages_BR, mask_BR), plain_whitened(expected))


@pytest.mark.parametrize("seed", SEEDS)
def test_losses_are_those_of_plain_python(seed: int) -> None:
    case = random_case(seed)
    pairs = [list(zip(*rows, strict=True)) for rows in zip(case.policy, case.values, strict=True)]
    old = [[p + 0.2 * v for p, v in row] for row in pairs]
    old_values = [[v - 0.3 * p - 0.6 for p, v in row] for row in pairs]
    targets = [[2 * v + 0.3 for v in row] for row in case.values]
    mask_BR = mask_of(case.policy)
    num_tokens = sum(map(len, case.policy))
    losses_BR = policy_losses(grid(case.policy), grid(old), grid(case.values), clip_range=0.2)
    loss = token_mean(losses_BR, mask_BR, num_tokens=num_tokens).item()
    assert loss == pytest.approx(plain_policy_loss(case.policy, old, case.values, 0.2), abs=1e-9)
    losses_BR = value_losses(grid(case.values), grid(old_values), grid(targets), clip_range=0.2)
    loss = token_mean(losses_BR, mask_BR, num_tokens=num_tokens).item()
    assert loss == pytest.approx(plain_value_loss(case.values, old_values, targets, 0.2), abs=1e-9)


# A problem whose answer is known: eight responses of three tokens from a vocabulary of two.

NUM_STEPS = 3
SEQUENCES = torch.tensor([[(n >> 2) & 1, (n >> 1) & 1, n & 1] for n in range(8)])
# The prefix before each token as a number: root 0, then 1-2, then 3-6.
PREFIXES = torch.stack(
    [
        torch.zeros(8, dtype=torch.long),
        1 + SEQUENCES[:, 0],
        3 + 2 * SEQUENCES[:, 0] + SEQUENCES[:, 1],
    ],
    dim=1,
)


def sequence_logprobs(logits_72: Tensor) -> Tensor:
    """Return log π of each token of each of the eight responses."""
    return logits_72.log_softmax(dim=1)[PREFIXES, SEQUENCES]


@pytest.mark.parametrize("scope", list(KLScope))
def test_the_policy_comes_to_the_reference_times_exp_of_the_reward_over_beta(
    scope: KLScope,
) -> None:
    """The maximum of E[r] - β KL(π || π_ref) is π_ref exp(r / β), normalised; within 0.02 of it.

    The distance is total variation. Each iteration samples 256 responses and makes one step, as
    PPO does; the last half's policies are averaged, for each jitters by its own samples.
    """
    generator = torch.Generator().manual_seed(4)
    reference = torch.randn(7, 2, generator=generator)
    score_8 = torch.randn(8, generator=generator)
    beta = 0.5
    log_reference_8 = sequence_logprobs(reference).sum(dim=1)
    optimum_8 = (log_reference_8 + score_8 / beta).softmax(dim=0)
    assert (optimum_8 - log_reference_8.exp()).abs().sum() / 2 > 0.3, "there is much to learn"

    logits = reference.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.03)
    mask_BR = torch.ones(256, NUM_STEPS, dtype=torch.bool)
    found_8 = torch.zeros(8)
    num_iterations = 600
    for iteration in range(num_iterations):
        with torch.no_grad():
            every_83 = sequence_logprobs(logits)
            probability_8 = every_83.sum(dim=1).exp()
            drawn_B = torch.multinomial(probability_8, 256, replacement=True, generator=generator)
            old_BR = every_83[drawn_B]
            kl_BR = kl_penalties(
                old_BR,
                sequence_logprobs(reference)[drawn_B],
                mask_BR,
                estimator=KLEstimator.K1,
                scope=scope,
            )
            rewards_BR = token_rewards(score_8[drawn_B], kl_BR, mask_BR, kl_coef=beta)
            advantages_BR, _ = generalised_advantages(
                rewards_BR, torch.zeros_like(rewards_BR), mask_BR, gamma=1.0, gae_lambda=1.0
            )
            advantages_BR = whiten(advantages_BR, mask_BR)
        losses_BR = policy_losses(
            sequence_logprobs(logits)[drawn_B], old_BR, advantages_BR, clip_range=0.2
        )
        optimizer.zero_grad()
        losses_BR.mean().backward()
        optimizer.step()
        if iteration >= num_iterations // 2:
            found_8 += sequence_logprobs(logits.detach()).sum(dim=1).exp()
    found_8 /= num_iterations // 2
    assert (found_8 - optimum_8).abs().sum().item() / 2 < 0.02
