"""The GPU benchmark on a CPU: every stage, on a tiny model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.frame import ROOT
from benchmarks.seven_b.exactness import is_bad_flash
from benchmarks.seven_b.stages import STAGES, run_stages
from benchmarks.seven_b.work import SEVEN_B, draw_pairs, num_distinct_tokens, num_real_tokens

FIGURES = {
    "calibration": "tflops_bfloat16",
    "exact": "max_differences",
    "attention_ways": "milliseconds",
    "rm_step_lora": "pairs_per_second",
    "rm_step_full": "pairs_per_second",
    "best_of_k": "tokens_per_second",
    "decode_graphs": "milliseconds_per_step",
    "ppo_iteration_lora": "phases",
    "ppo_iteration_one_base": "peak_gigabytes",
    "rm_small_vs_padded": "ratio",
}


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """Return the lines of all stages, run by a process of their own as on a bare machine."""
    folder = tmp_path_factory.mktemp("out")
    environment = {
        **os.environ,
        "CONCORD_BENCH_SIZE": "nano",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("CONCORD_BENCH_STAGES", None)
    command = [sys.executable, "-m", "benchmarks.seven_b", "--out", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    written = (folder / "results.jsonl").read_text("utf-8")
    assert written == result.stdout
    return [json.loads(line) for line in written.splitlines()]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_figures(stage: str, lines: list[dict[str, object]]) -> None:
    own = [line for line in lines if line["stage"] == stage]
    # A peer may not run everywhere; ours must.
    ours = [line for line in own if line.get("engine", "ours") == "ours"]
    assert ours, own
    assert all(FIGURES[stage] in line and line["size"] == "nano" for line in ours), ours


def test_packed_rows_and_sampling_are_exact(lines: list[dict[str, object]]) -> None:
    differences = [
        line["max_differences"]
        for line in lines
        if line["stage"] == "exact" and line["dtype"] == "float32"
    ]
    assert len(differences) == 2
    rows, sampling = differences
    assert isinstance(rows, dict)
    assert isinstance(sampling, dict)
    assert max(rows["scores"], rows["losses"], rows["gradients"]) < 1e-5
    assert max(sampling.values()) < 1e-5


def test_without_a_gpu_it_says_so_and_ends_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("CONCORD_BENCH_SIZE", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    run_stages(tmp_path)
    assert "no CUDA device" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_an_unknown_stage_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCORD_BENCH_STAGES", "exact,nothing")
    with pytest.raises(ValueError, match="CONCORD_BENCH_STAGES: nothing is not among"):
        run_stages(None)


def test_a_stage_that_fails_leaves_its_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONCORD_BENCH_SIZE", "nano")
    monkeypatch.setenv("CONCORD_BENCH_STAGES", "attention_ways,calibration")
    monkeypatch.setitem(STAGES, "attention_ways", (STAGES["attention_ways"][0], 0.0005))
    run_stages(None)
    first, *_, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert "TimeoutError" in first["error"]
    assert last["stage"] == "calibration"
    assert last["tflops_float32"] > 0


def test_flash_attention_is_given_up_where_it_fails_or_is_far_off() -> None:
    line = {"attention": "flash, segments merged"}
    assert is_bad_flash({**line, "error": "no kernel"})
    assert is_bad_flash({**line, "max_differences": {"gradients_relative_norm": float("nan")}})
    assert not is_bad_flash({**line, "max_differences": {"gradients_relative_norm": 0.05}})
    assert not is_bad_flash({"attention": "FlexAttention", "error": "no compiler"})


def test_rows_are_as_long_as_hh_rlhfs() -> None:
    pairs = draw_pairs(4000, SEVEN_B)
    rows = [row.num_tokens for pair in pairs for row in (pair.chosen, pair.rejected)]
    assert np.mean(rows) == pytest.approx(185, rel=0.05)
    assert np.median(rows) == pytest.approx(148, rel=0.05)
    assert np.percentile(rows, [90, 99]) == pytest.approx([375, 725], rel=0.1)
    assert num_distinct_tokens(pairs) / num_real_tokens(pairs) == pytest.approx(0.64, abs=0.02)
