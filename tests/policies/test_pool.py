"""The pool and the max-versus-median curve."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from statistics import mean, median

import pytest
import torch

from policies.curves import max_median_curve
from policies.pool import PoolSample, next_pool, read_pool, top_samples, write_pool
from policies.selection import select_best
from records.errors import RecordError
from tests.policies.toys import prompts

FIRST, SECOND = prompts(2)


def sample(response: str, score: float, *, prompt: int = 0, iteration: int = 1) -> PoolSample:
    return PoolSample(
        prompt=(FIRST, SECOND)[prompt],
        response=response,
        ids=(5, 6, 2),
        tokenizer="t",
        source=f"policy {iteration}",
        iteration=iteration,
        score=score,
    )


def test_the_pool_comes_back_as_it_was_written(tmp_path: Path) -> None:
    samples = [sample("yes, «that»\n", 0.25), sample("no", -1e3, prompt=1, iteration=3)]
    write_pool(tmp_path / "pool.jsonl", samples)
    assert list(read_pool(tmp_path / "pool.jsonl")) == samples


def test_a_line_that_is_no_sample_is_named(tmp_path: Path) -> None:
    write_pool(tmp_path / "pool.jsonl", [sample("a", 0.0)])
    with (tmp_path / "pool.jsonl").open("a") as file:
        file.write('{"prompt_id": "p"}\n')
    with pytest.raises(RecordError, match=r"pool.jsonl: line 2"):
        list(read_pool(tmp_path / "pool.jsonl"))


def test_the_best_of_each_prompt_are_kept_and_no_response_twice() -> None:
    samples = [
        sample("good", 2.0),
        sample("bad", -1.0),
        sample("good", 2.0, iteration=2),
        sample("fair", 1.0),
        sample("other", -3.0, prompt=1),
    ]
    kept = next_pool(samples, 2)
    assert [(s.response, s.iteration) for s in kept] == [("good", 1), ("fair", 1), ("other", 1)]
    assert next_pool(samples, 0) == []


def test_of_equal_scores_the_first_comes_first() -> None:
    samples = [sample("b", 1.0), sample("a", 1.0), sample("c", 2.0)]
    assert [s.response for s in top_samples(samples, 3)] == ["c", "b", "a"]


def test_an_early_sample_survives_two_pools_and_wins_in_the_third_iteration() -> None:
    pool = next_pool([sample("best ever", 3.0), sample("weak", 0.0)], 2)
    pool = next_pool([sample("second", 2.0, iteration=2), *pool], 2)
    selected = select_best([sample("third", 2.5, iteration=3)], pool)
    assert [(s.response, s.iteration) for s in selected] == [("best ever", 1)]


def test_prompts_that_only_the_pool_knows_are_not_forgotten() -> None:
    pool = [sample("a rhyme", 1.0, prompt=1), sample("a worse rhyme", 0.5, prompt=1)]
    selected = select_best([sample("new", 0.1, iteration=2)], pool)
    assert [(s.prompt, s.response) for s in selected] == [(FIRST, "new"), (SECOND, "a rhyme")]


def test_a_new_sample_wins_a_tie() -> None:
    selected = select_best([sample("new", 1.0, iteration=2)], [sample("old", 1.0)])
    assert [s.response for s in selected] == ["new"]


@pytest.mark.parametrize(("name", "reduce"), [("max", max), ("median", median)])
def test_the_curve_is_the_mean_over_all_subsets(
    name: str, reduce: Callable[[tuple[float, ...]], float]
) -> None:
    scores = [[0.3, -1.0, 2.0, 0.7, 0.7], [5.0, 4.0, -2.0, 0.0, 1.0]]
    points = max_median_curve(torch.tensor(scores))
    assert [point.n for point in points] == [1, 2, 3, 4, 5]
    for point in points:
        expected = mean(reduce(subset) for row in scores for subset in combinations(row, point.n))
        assert getattr(point, name) == pytest.approx(expected, abs=1e-6)


def test_the_maximum_rises_with_more_samples_and_the_median_of_noise_stays() -> None:
    scores_PK = torch.randn(400, 40, generator=torch.Generator().manual_seed(0))
    points = max_median_curve(scores_PK)
    assert [point.n for point in points] == [*range(1, 17), 32, 40]
    maxima = [point.max for point in points]
    assert maxima == sorted(maxima)
    assert all(abs(point.median) < 0.05 for point in points)
