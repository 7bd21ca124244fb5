"""Drawing tokens: uniform numbers, inversion, top-p."""

import numpy as np
import pytest
import torch
from torch import Tensor

from language import sampling
from language.sampling import DRAWS, create_settings, draw_tokens, uniform_numbers

NUM = 40_000


def draws(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    is_static: bool = False,
) -> Tensor:
    """Draw `NUM` tokens from one distribution."""
    uniforms = torch.from_numpy(uniform_numbers([seed] * NUM, range(NUM), 1))[:, 0]
    settings = create_settings([temperature] * NUM, [top_p] * NUM)
    return draw_tokens(logits.expand(NUM, -1), uniforms, settings, is_static=is_static).ids_B


def assert_drawn_from(ids: Tensor, probabilities: Tensor) -> None:
    """Check counts against a distribution: each within five standard deviations."""
    counts = ids.bincount(minlength=len(probabilities)).double()
    expected = probabilities.double() * NUM
    deviation = (expected * (1 - probabilities.double())).sqrt()
    assert ((counts - expected).abs() <= 5 * deviation).all(), (counts, expected)


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Return the distribution renormalised over its nucleus, token by token."""
    order = sorted(range(len(probabilities)), key=lambda i: (-probabilities[i], i))
    kept, mass = torch.zeros_like(probabilities), 0.0
    for index in order:
        if mass > top_p:
            break
        kept[index] = probabilities[index]
        mass += float(probabilities[index])
    return kept / kept.sum()


def test_uniform_numbers_are_uniform_and_independent_of_one_another() -> None:
    numbers = uniform_numbers(range(200), [0] * 200, 50)

    assert numbers.shape == (200, 50, DRAWS)
    assert numbers.min() >= 0.0
    assert numbers.max() < 1.0
    counts = np.histogram(numbers, bins=20, range=(0, 1))[0]
    assert abs(counts - 2000).max() < 5 * 2000**0.5
    flat = numbers.reshape(200, -1)
    assert abs(np.corrcoef(flat)[~np.eye(200, dtype=bool)]).max() < 5 / 200**0.5
    assert abs(np.corrcoef(flat.T)[~np.eye(flat.shape[1], dtype=bool)]).max() < 6 / 200**0.5


def test_uniform_numbers_are_those_of_seed_and_response_alone() -> None:
    whole = uniform_numbers([5, 5, 6], [0, 1, 0], 30)
    part = uniform_numbers([5], [1], 10)

    later = uniform_numbers([5, 6], [1, 0], 10, first_steps=[7, 20])

    assert (whole[1, :10] == part[0]).all()
    assert (later[0] == whole[1, 7:17]).all()
    assert (later[1] == whole[2, 20:]).all()
    assert len({row.tobytes() for row in whole}) == 3


def test_seeds_of_any_size_are_taken() -> None:
    assert uniform_numbers([-1, 2**70 + 3], [0, 0], 1).shape == (2, 1, DRAWS)


@pytest.mark.parametrize("num_tokens", [1, 2, 7, 64, 100, 127])
def test_tokens_are_drawn_from_the_softmax(num_tokens: int) -> None:
    logits = torch.randn(num_tokens, generator=torch.Generator().manual_seed(1)) * 2

    assert_drawn_from(draws(logits), logits.softmax(0))


@pytest.mark.parametrize("temperature", [0.5, 1.7])
def test_temperature_divides_the_logits(temperature: float) -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])

    assert_drawn_from(draws(logits, temperature=temperature), (logits / temperature).softmax(0))


@pytest.mark.parametrize("is_static", [False, True])
@pytest.mark.parametrize("top_p", [0.05, 0.3, 0.7, 0.95, 0.999])
def test_top_p_draws_from_the_nucleus(top_p: float, is_static: bool) -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(2)) * 1.5

    ids = draws(logits, top_p=top_p, is_static=is_static)

    assert_drawn_from(ids, nucleus(logits.softmax(0), top_p))


@pytest.mark.parametrize("is_static", [False, True])
def test_of_equally_likely_tokens_all_are_in_the_nucleus_or_none(is_static: bool) -> None:
    probabilities = torch.tensor([0.1, 0.2, 0.1, 0.4, 0.2])

    # 0.4 is less than the share, and 0.4 + 0.2 + 0.2 more.
    ids = draws(probabilities.log(), top_p=0.5, is_static=is_static)

    assert_drawn_from(ids, torch.tensor([0.0, 0.25, 0.0, 0.5, 0.25]))


@pytest.mark.parametrize("num_tokens", [37, 512, 3001])
@pytest.mark.parametrize("kind", ["apart", "tied", "one"])
def test_static_draws_are_the_plain_ones(num_tokens: int, kind: str) -> None:
    """Rows of every top-p, and uniform numbers that miss a nucleus once, or each time."""
    generator = torch.Generator().manual_seed(num_tokens)
    num = 256
    logits_BV = torch.randn(num, num_tokens, generator=generator) * 2
    if kind == "tied":  # as a bfloat16 head leaves them
        logits_BV = logits_BV.bfloat16().float()
    if kind == "one":
        logits_BV[:, 5] = 100.0
    uniforms_BU = torch.rand(num, DRAWS, generator=generator)
    uniforms_BU[::3, : DRAWS - 1] = 1.0 - 2**-24
    settings = create_settings(
        [(0.0, 0.7, 1.0, 1.9)[row % 4] for row in range(num)],
        [(1.0, 0.9, 0.5, 1e-6, 0.999)[row % 5] for row in range(num)],
    )

    plain, static = (
        draw_tokens(logits_BV, uniforms_BU, settings, is_static=way) for way in (False, True)
    )

    assert plain.ids_B.tolist() == static.ids_B.tolist()
    for ours_B, theirs_B in zip(plain[1:], static[1:], strict=True):
        torch.testing.assert_close(ours_B, theirs_B, rtol=0, atol=1e-5)


def test_the_nucleus_is_taken_after_the_temperature() -> None:
    logits = torch.tensor([2.0, 1.0, 0.5, 0.0])

    ids = draws(logits, temperature=3.0, top_p=0.5)

    assert_drawn_from(ids, nucleus((logits / 3.0).softmax(0), 0.5))


def test_the_token_that_crosses_the_share_is_kept() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.2])

    ids = draws(probabilities.log(), top_p=0.6)

    assert sorted(set(ids.tolist())) == [0, 1]


def test_temperature_zero_takes_the_likeliest_token_with_its_probability() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    uniforms = torch.full((2, DRAWS), 0.99)

    draw = draw_tokens(logits, uniforms, create_settings([0.0, 1.0], [1.0, 1.0]))

    assert draw.ids_B.tolist() == [1, 2]
    expected = logits.log_softmax(1)[[0, 1], [1, 2]]
    torch.testing.assert_close(draw.logprobs_B, expected)


def test_logprobs_are_not_renormalised_by_top_p() -> None:
    logits = torch.tensor([[1.0, 0.5, 0.0, -1.0]])

    draw = draw_tokens(logits, torch.zeros(1, DRAWS), create_settings([0.7], [0.01]))

    assert draw.ids_B.tolist() == [0]
    torch.testing.assert_close(draw.logprobs_B, (logits / 0.7).log_softmax(1)[:, 0])


@pytest.mark.parametrize("is_static", [False, True])
@pytest.mark.parametrize("likeliest", [2, 16, 50])
@pytest.mark.parametrize("top_p", [0.05, 0.3, 0.9, 0.999, 1.0])
def test_sampling_logprobs_are_those_of_the_nucleus(
    top_p: float, likeliest: int, is_static: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "_LIKELIEST", likeliest)
    logits = torch.randn(50, generator=torch.Generator().manual_seed(2)) * 1.5
    uniforms = torch.from_numpy(uniform_numbers([3] * 64, range(64), 1))[:, 0]

    settings = create_settings([1.3] * 64, [top_p] * 64)
    draw = draw_tokens(logits.expand(64, -1), uniforms, settings, is_static=is_static)

    expected = nucleus((logits / 1.3).softmax(0), top_p).log()[draw.ids_B]
    torch.testing.assert_close(draw.sampling_logprobs_B, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(draw.untempered_logprobs_B, logits.log_softmax(0)[draw.ids_B])


def test_a_greedy_draw_is_certain_and_other_rows_keep_their_probabilities() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    uniforms = torch.full((2, DRAWS), 0.99)

    draw = draw_tokens(logits, uniforms, create_settings([0.0, 2.0], [1.0, 1.0]))

    assert draw.sampling_logprobs_B[0] == 0.0
    torch.testing.assert_close(draw.untempered_logprobs_B[0], logits[0].log_softmax(0)[1])
    tempered = (logits[1] / 2.0).log_softmax(0)[draw.ids_B[1]]
    torch.testing.assert_close(draw.sampling_logprobs_B[1], tempered)


def test_rows_keep_their_own_settings() -> None:
    logits = torch.tensor([1.0, 0.9, 0.8]).expand(3 * NUM, -1)
    uniforms = torch.from_numpy(uniform_numbers([1] * 3 * NUM, range(3 * NUM), 1))[:, 0]
    settings = create_settings([0.0, 1.0, 0.1] * NUM, [1.0, 0.4, 1.0] * NUM)

    ids_B = draw_tokens(logits, uniforms, settings).ids_B

    assert set(ids_B[0::3].tolist()) == {0}
    assert set(ids_B[1::3].tolist()) == {0, 1}
    assert_drawn_from(ids_B[2::3], (logits[0] / 0.1).softmax(0))


@pytest.mark.parametrize("is_static", [False, True])
@pytest.mark.parametrize("uniform", [0.0, 0.5, 1.0 - 2**-24])
def test_a_token_without_weight_is_never_drawn(uniform: float, is_static: bool) -> None:
    impossible = float("-inf")
    logits = torch.full((3, 37), impossible)
    logits[0, 0] = logits[1, 20] = logits[2, 36] = 1000.0
    uniforms = torch.full((3, DRAWS), uniform)

    settings = create_settings([1.0] * 3, [1.0, 0.9, 0.1])
    draw = draw_tokens(logits, uniforms, settings, is_static=is_static)

    assert draw.ids_B.tolist() == [0, 20, 36]
    assert draw.logprobs_B.tolist() == [0.0, 0.0, 0.0]
