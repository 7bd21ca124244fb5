"""Runs the stages one after the other: a JSON line for each result or failure, memory let go of."""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import transformers

from benchmarks.frame import commit, write_line
from benchmarks.seven_b.attention_ways import attention_ways
from benchmarks.seven_b.exactness import exact, is_bad_flash, without_flash
from benchmarks.seven_b.machine import Machine, time_limit
from benchmarks.seven_b.ppo import ppo_iteration_lora, ppo_iteration_one_base
from benchmarks.seven_b.reward_model import rm_small_vs_padded, rm_step_full, rm_step_lora
from benchmarks.seven_b.sampling import best_of_k, decode_graphs
from benchmarks.seven_b.work import Size, chosen_size

Stage = Callable[[Machine, Size], Iterator[dict[str, Any]]]


def calibration(machine: Machine, size: Size) -> Iterator[dict[str, Any]]:
    """Yield what products and copies reach at best."""
    rates = machine.rates(size.calibration)
    yield {
        "matrix_size": size.calibration,
        "tflops_bfloat16": round(rates.bf16 / 1e12, 2),
        "tflops_float32": round(rates.fp32 / 1e12, 2),
        "copy_gigabytes_per_second": round(rates.copy / 1e9, 1),
    }


STAGES: dict[str, tuple[Stage, float]] = {
    "calibration": (calibration, 30.0),
    "exact": (exact, 120.0),
    "attention_ways": (attention_ways, 120.0),
    "rm_step_lora": (rm_step_lora, 90.0),
    "rm_step_full": (rm_step_full, 90.0),
    "best_of_k": (best_of_k, 200.0),
    "decode_graphs": (decode_graphs, 60.0),
    "ppo_iteration_lora": (ppo_iteration_lora, 150.0),
    "ppo_iteration_one_base": (ppo_iteration_one_base, 150.0),
    "rm_small_vs_padded": (rm_small_vs_padded, 90.0),
}
"""In order of importance, with the seconds after which each is cut off."""


def run_stages(folder: Path | None) -> None:
    """Run the chosen stages; lines are printed, and added to `results.jsonl` of `folder`.

    Raises:
        ValueError: `CONCORD_BENCH_STAGES` or `CONCORD_BENCH_SIZE` names what is not there.
    """
    machine, size, names = Machine(), chosen_size(), _chosen_stages()
    if not machine.is_gpu and size.name != "nano":
        print(
            "seven_b is skipped: torch sees no CUDA device (CONCORD_BENCH_SIZE=nano runs it on a "
            "CPU with a tiny model)."
        )
        return
    common = {
        **machine.describe(),
        "transformers": transformers.__version__,
        "size": size.name,
        "commit": commit(),
    }
    with ExitStack() as fallbacks:
        for name in names:
            print(f"Running {name}", file=sys.stderr, flush=True)
            machine.release()
            started = time.monotonic()
            has_bad_flash = False
            for line in _lines_of(name, machine, size):
                elapsed = round(time.monotonic() - started, 2)
                _write({"stage": name, **line, "stage_seconds": elapsed, **common}, folder)
                has_bad_flash |= is_bad_flash(line)
            if has_bad_flash:  # the later stages have something to measure all the same
                fallbacks.enter_context(without_flash())
                common["fallback"] = "FlexAttention"
    machine.release()


def _lines_of(name: str, machine: Machine, size: Size) -> Iterator[dict[str, Any]]:
    """Yield a stage's lines; the last one is its error where it fails."""
    stage, limit = STAGES[name]
    try:
        with time_limit(limit):
            yield from stage(machine, size)
    except Exception as error:  # noqa: BLE001 - whatever it was, the next stage must run
        traceback.print_exc()
        yield {"error": f"{type(error).__name__}: {error}"[:2000]}


def _write(line: dict[str, Any], folder: Path | None) -> None:
    if folder is None:
        print(json.dumps(line), flush=True)
    else:
        write_line(line, folder)


def _chosen_stages() -> list[str]:
    names = [n for n in os.environ.get("CONCORD_BENCH_STAGES", "").split(",") if n]
    if unknown := [name for name in names if name not in STAGES]:
        raise ValueError(
            f"CONCORD_BENCH_STAGES: {', '.join(unknown)} is not among {', '.join(STAGES)}"
        )
    return names or list(STAGES)
