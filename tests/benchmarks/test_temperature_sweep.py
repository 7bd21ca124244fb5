"""The experiment on temperatures: both policies on the same prompts, and its table."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.temperature_sweep import SFT, V1, SweepScale, measure, table
from records.prompts import read_prompts
from tests.benchmarks.test_ablations import TINY

SCALE = SweepScale(
    sandbox=replace(TINY.sandbox, max_prompts=12),
    num_responses=4,
    temperatures=(0.7, 1.0),
    num_sweep_prompts=5,
    shown_sizes=(1, 4),
)


@pytest.mark.slow
def test_both_policies_are_tried_on_the_same_prompts_at_the_same_temperatures(
    tmp_path: Path,
) -> None:
    summaries = measure(tmp_path, SCALE)
    assert list(summaries) == [SFT, V1]
    swept = list(read_prompts(tmp_path / "swept-prompts.jsonl"))
    every = list(read_prompts(tmp_path / "prompts.jsonl"))
    assert [every.index(prompt) for prompt in swept] == [0, 2, 4, 7, 9]
    for summary in summaries.values():
        tried = summary["sweep"]["temperatures"]
        assert [figures["temperature"] for figures in tried] == [0.7, 1.0]
        assert summary["temperature"] in (0.7, 1.0)
    lines = table(summaries, SCALE.shown_sizes)
    assert len(lines) == 2 + 2 + 1 + 2
    before = (tmp_path / "of-v1" / "result.json").stat().st_mtime_ns
    assert measure(tmp_path, SCALE) == summaries
    assert (tmp_path / "of-v1" / "result.json").stat().st_mtime_ns == before


def test_the_table_has_a_row_for_each_temperature_and_the_choice_in_bold() -> None:
    def summary(*bests: float) -> dict[str, object]:
        tried = [
            {
                "temperature": temperature,
                "curve": [
                    {"n": 1, "max": 0.25, "standard_error": 0.125},
                    {"n": 4, "max": best, "standard_error": 0.5},
                ],
                "finished_share": 0.5,
            }
            for temperature, best in zip((0.7, 1.0), bests, strict=True)
        ]
        chosen = (0.7, 1.0)[bests.index(max(bests))]
        return {"temperature": chosen, "sweep_note": "so sure.", "sweep": {"temperatures": tried}}

    assert table({SFT: summary(3.0, 2.0), V1: summary(1.0, 4.0)}, (1, 4)) == [
        "| temperature | SFT, N = 1 | SFT, N = 4 | V1, N = 1 | V1, N = 4 "
        "| SFT, ended | V1, ended |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| 0.7 | 0.25 ± 0.12 | **3.00** ± 0.50 | 0.25 ± 0.12 | 1.00 ± 0.50 | 50.0% | 50.0% |",
        "| 1 | 0.25 ± 0.12 | 2.00 ± 0.50 | 0.25 ± 0.12 | **4.00** ± 0.50 | 50.0% | 50.0% |",
        "",
        "SFT: so sure.",
        "V1: so sure.",
    ]
