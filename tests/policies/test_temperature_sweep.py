"""The temperature sweep: the best of K decides, exactly, once, and wherever the run resumes."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from language.models import save_model
from language.runs import RunContext, RunStopped
from language.scalars import create_scalar_model
from policies.candidates import Candidate, Chunk, read_chunk
from policies.chunks import StoredChunks
from policies.rejection_sampling import rejection_sampling
from policies.temperature_sweep import Tried, choose_temperature, sweep_places
from records.policy_configs import RejectionSamplingConfig
from records.run_configs import RunKind, SamplingConfig
from records.rundirs import RunDirectory
from tests.models import tiny_tokenizer
from tests.policies.test_rejection_sampling import CONFIG, ROLES, assert_same, run, summary_of
from tests.policies.toys import (
    StopAfter,
    assert_equal_weights,
    create_run,
    metrics_of,
    only,
    write_inputs,
)

TEMPERATURES = (1.0, 0.6, 1.4)
SWEPT = replace(CONFIG, sweep_temperatures=TEMPERATURES, num_sweep_prompts=5)
NUM_SWEEP_CHUNKS = 6  # 5 prompts, 3 in a chunk, at 3 temperatures
NUM_CHUNKS = 4


def candidate(score: float, *, is_finished: bool = True) -> Candidate:
    return Candidate((5, 2), is_finished, score, score, score)


def tried(temperature: float, *groups: Sequence[float | None]) -> Tried:
    """Return a temperature with the scores of each prompt's responses; None was cut off, at 99."""
    return Tried(
        temperature,
        [
            [candidate(99.0 if s is None else s, is_finished=s is not None) for s in g]
            for g in groups
        ],
    )


def curves_of(choice: dict[str, Any]) -> list[list[float]]:
    return [[point["max"] for point in t["curve"]] for t in choice["sweep"]["temperatures"]]


def test_the_highest_expected_best_of_k_is_taken_whatever_a_single_response_is_worth() -> None:
    steady, wild = tried(0.7, [2, 2, 2], [3, 3, 3]), tried(1.3, [-9, 0, 4], [-9, 1, 5])
    choice = choose_temperature([steady, wild])
    assert choice["temperature"] == 1.3
    # N = 1 is the mean; of 2 of 3 the best is the third in two of three pairs, else the second.
    assert curves_of(choice) == [
        pytest.approx([2.5, 2.5, 2.5]),
        pytest.approx([(-5 / 3 - 1) / 2, (8 / 3 + 11 / 3) / 2, 4.5]),
    ]


def test_of_equals_the_lower_temperature_is_taken() -> None:
    same = [(0.6, [1, 3], [0, 2]), (0.9, [3, 1], [2, 0]), (1.2, [0, 2], [1, 3])]
    choice = choose_temperature([tried(t, *groups) for t, *groups in same])
    assert choice["temperature"] == 0.6
    below = [t["below_chosen"] for t in choice["sweep"]["temperatures"]]
    assert below == [0.0, 0.0, 0.0]


def test_each_point_is_the_mean_over_all_subsets() -> None:
    scores = [[0.3, -1.0, 2.0, 0.7, 0.7], [5.0, 4.0, -2.0, 0.0, 1.0], [1.0, 1.5, 0.0, 2.5, -3.0]]
    choice = choose_temperature([tried(0.8, *scores), tried(1.1, *([0.0] * 5 for _ in range(3)))])
    points = choice["sweep"]["temperatures"][0]["curve"]
    assert [point["n"] for point in points] == [1, 2, 3, 4, 5]
    for point in points:
        by_prompt = [fmean(max(s) for s in combinations(row, point["n"])) for row in scores]
        assert point["max"] == pytest.approx(fmean(by_prompt))
        assert point["standard_error"] == pytest.approx(stdev(by_prompt) / 3**0.5)


def test_what_was_cut_off_counts_as_the_worst_finished_response_at_any_temperature() -> None:
    choice = choose_temperature([tried(0.7, [1, 2]), tried(1.3, [None, 3])])
    # The cut one has a score of 99, which must not show; 1 is the worst that ended.
    assert curves_of(choice) == [pytest.approx([1.5, 2.0]), pytest.approx([2.0, 3.0])]
    shares = [t["finished_share"] for t in choice["sweep"]["temperatures"]]
    assert shares == [1.0, 0.5]


def test_a_temperature_at_which_little_ends_is_not_taken_for_its_few_good_responses() -> None:
    often = tried(0.7, [4, 4], [4, 4], [1, 4])
    seldom = tried(1.5, [None, 5], [None, None], [None, None])
    assert choose_temperature([often, seldom])["temperature"] == 0.7


def test_prompts_to_which_nothing_ends_are_left_out_and_counted() -> None:
    choice = choose_temperature([tried(0.7, [1, 2], [None, None]), tried(1.3, [0, 5], [None] * 2)])
    assert choice["sweep"]["num_prompts"] == 1
    assert choice["sweep"]["num_without_finished"] == 1
    assert choice["sweep"]["temperatures"][0]["curve"][0]["standard_error"] is None
    assert "too few to say how sure that is" in choice["sweep_note"]


def test_where_nothing_ends_at_any_temperature_it_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"sweep_temperatures: no response .* allow longer ones"):
        choose_temperature([tried(0.7, [None, None]), tried(1.3, [None, None])])


def test_the_difference_to_the_second_best_is_paired_by_prompt() -> None:
    # Best of 2: 10 and 21 at 1.0, 11 and 24 at 1.2: they differ by 1 and 3, so by 2 with a
    # standard error of sqrt(2) / sqrt(2) = 1, though the prompts differ by far more.
    low, mid = tried(1.0, [9, 10], [20, 21]), tried(1.2, [0, 11], [0, 24])
    choice = choose_temperature([low, mid, tried(1.4, [0, 1], [0, 1])])
    figures = choice["sweep"]["temperatures"]
    assert choice["temperature"] == 1.2
    assert figures[0]["below_chosen"] == pytest.approx(2.0)
    assert figures[0]["below_chosen_standard_error"] == pytest.approx(1.0)
    assert choice["sweep_note"] == (
        "The best of 2 at 1.2 is 2 above that at 1, the second best, on 2 prompts, with a standard "
        "error of 1 (paired by prompt): these do not tell the two apart."
    )


def test_the_note_says_when_the_best_stands_at_the_end_of_what_was_tried() -> None:
    choice = choose_temperature([tried(1.0, [0, 1], [0, 1.1]), tried(1.2, [0, 5], [0, 5])])
    assert choice["sweep_note"].endswith(" 1.2 is the highest temperature tried; try further ones.")
    assert "do not tell" not in choice["sweep_note"]


def test_the_prompts_of_the_sweep_are_spread_over_all() -> None:
    config = RejectionSamplingConfig(num_sweep_prompts=4)
    assert sweep_places(config, 10) == [0, 2, 5, 7]
    assert sweep_places(config, 3) == [0, 1, 2]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return only(write_inputs(tmp_path_factory.mktemp("inputs")), *ROLES)


@pytest.fixture(scope="module")
def finished(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run with a sweep from beginning to end without interruption."""
    return run(tmp_path_factory.mktemp("runs") / "whole", SWEPT, inputs)


def chunks_of(directory: RunDirectory, folder: str, count: int) -> list[Chunk]:
    stored = StoredChunks(directory.checkpoints / folder)
    return [read_chunk(stored.read(number)) for number in range(count)]


def test_the_temperatures_are_tried_first_and_counted_among_all_steps(
    finished: RunDirectory,
) -> None:
    rows = metrics_of(finished)
    sweep, rest = rows[:NUM_SWEEP_CHUNKS], rows[NUM_SWEEP_CHUNKS:]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    assert [row["sweep_temperature"] for row in sweep] == [0.6, 0.6, 1.0, 1.0, 1.4, 1.4]
    assert [row["sweep_num_responses"] for row in sweep] == [12, 8] * 3
    assert not any("score" in row or "best_score" in row for row in sweep)
    assert all("best_score" in row for row in rest[:NUM_CHUNKS])
    assert not any("sweep_temperature" in row for row in rest)
    totals = {row["total_steps"] for row in rows[: NUM_SWEEP_CHUNKS + NUM_CHUNKS]}
    assert totals == {NUM_SWEEP_CHUNKS + NUM_CHUNKS + 3}  # 12 prompts at most, 4 in a step
    assert rows[-1]["step"] == rows[-1]["total_steps"]


def test_the_result_holds_the_curves_of_what_was_drawn_and_the_choice(
    finished: RunDirectory,
) -> None:
    """The highest mean of the best, worked out once more from the stored chunks."""
    groups = [g for chunk in chunks_of(finished, "sweep", 6) for g in chunk.candidates]
    assert len(groups) == 15
    by_temperature = {t: groups[5 * i : 5 * i + 5] for i, t in enumerate(sorted(TEMPERATURES))}
    bests: dict[float, list[float]] = {t: [] for t in by_temperature}
    num_left_out = 0
    for prompt in range(5):
        tries = {t: some[prompt] for t, some in by_temperature.items()}
        ended = [c.score for group in tries.values() for c in group if c.is_finished]
        num_left_out += not ended
        for t, group in tries.items() if ended else ():
            bests[t].append(max(c.score if c.is_finished else min(ended) for c in group))
    summary = summary_of(finished)
    means = {t: fmean(values) for t, values in bests.items()}
    assert summary["temperature"] == max(means, key=lambda t: means[t])
    assert 0 < summary["sweep"]["num_prompts"] == 5 - num_left_out
    assert summary["sweep"]["num_without_finished"] == num_left_out
    figures = summary["sweep"]["temperatures"]
    assert [f["temperature"] for f in figures] == [0.6, 1.0, 1.4]
    for f in figures:
        assert f["curve"][-1]["n"] == 4
        assert f["curve"][-1]["max"] == pytest.approx(means[f["temperature"]])


def test_the_prompts_are_then_sampled_as_if_the_config_had_named_that_temperature(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path
) -> None:
    temperature = summary_of(finished)["temperature"]
    sampling = replace(CONFIG.sampling, temperature=temperature)
    plain = run(tmp_path / "run", replace(CONFIG, sampling=sampling), inputs)
    assert chunks_of(plain, "candidates", 4) == chunks_of(finished, "candidates", 4)
    assert_equal_weights(plain.outputs / "policy", finished.outputs / "policy")
    assert summary_of(plain)["temperature"] == temperature
    assert "sweep" not in summary_of(plain)


def test_the_sweep_draws_other_responses_than_those_selected_from(finished: RunDirectory) -> None:
    temperature = summary_of(finished)["temperature"]
    first = 2 * sorted(TEMPERATURES).index(temperature)
    swept = chunks_of(finished, "sweep", 6)[first].candidates[0]
    sampled = chunks_of(finished, "candidates", 4)[0].candidates[0]  # of the same prompt
    assert not {c.ids for c in swept} & {c.ids for c in sampled}


@pytest.mark.parametrize("steps", [1, 3, NUM_SWEEP_CHUNKS, NUM_SWEEP_CHUNKS + 1, 11])
def test_a_run_stopped_anywhere_goes_on_to_the_same_end_bit_for_bit(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path, steps: int
) -> None:
    directory, spec = create_run(tmp_path / "run", RunKind.REJECTION_SAMPLING, SWEPT, inputs)
    with pytest.raises(RunStopped):
        rejection_sampling(directory, spec, StopAfter(directory, SWEPT, steps=steps))
    assert len(metrics_of(directory)) == steps
    rejection_sampling(directory, spec, RunContext(directory, SWEPT))
    assert_same(directory, finished)


def test_what_was_tried_is_not_tried_again_and_the_choice_is_written_once(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path
) -> None:
    directory, spec = create_run(tmp_path / "run", RunKind.REJECTION_SAMPLING, SWEPT, inputs)
    with pytest.raises(RunStopped):
        rejection_sampling(directory, spec, StopAfter(directory, SWEPT, steps=8))
    choice = directory.checkpoints / "sweep.json"
    assert json.loads(choice.read_text())["temperature"] == summary_of(finished)["temperature"]
    files = [choice, *sorted((directory.checkpoints / "sweep").iterdir())]
    before = [path.stat().st_mtime_ns for path in files]
    rejection_sampling(directory, spec, RunContext(directory, SWEPT))
    assert [path.stat().st_mtime_ns for path in files] == before
    assert_same(directory, finished)


def test_a_row_of_the_sweep_whose_chunk_was_lost_is_written_again(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path
) -> None:
    """As where a process is killed between the two."""
    directory, spec = create_run(tmp_path / "run", RunKind.REJECTION_SAMPLING, SWEPT, inputs)
    with pytest.raises(RunStopped):
        rejection_sampling(directory, spec, StopAfter(directory, SWEPT, steps=3))
    (directory.checkpoints / "sweep" / "chunk-000002.json").unlink()
    rejection_sampling(directory, spec, RunContext(directory, SWEPT))
    assert_same(directory, finished)


def test_a_general_model_watches_the_samples_and_not_the_sweep(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path
) -> None:
    save_model(create_scalar_model(inputs["policy"], seed=7), tiny_tokenizer(), tmp_path / "g")
    directory = run(tmp_path / "run", SWEPT, {**inputs, "general": tmp_path / "g"})
    assert summary_of(directory)["sweep"] == summary_of(finished)["sweep"]
    assert "mean_general" in summary_of(directory)


def test_temperatures_at_which_nothing_ends_stop_the_run(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    config = replace(
        SWEPT, sampling=SamplingConfig(max_new_tokens=1), sweep_temperatures=(0.1, 0.2)
    )
    with pytest.raises(
        ValueError, match=r"no response ended within sampling\.max_new_tokens at any"
    ):
        run(tmp_path / "run", config, inputs)
