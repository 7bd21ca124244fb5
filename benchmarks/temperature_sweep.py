"""The temperature sweep in the sandbox: the best of N by temperature, for SFT and for its V1.

arXiv:2307.09288, figure 8. Rejection sampling as the demo does it, but with K of 16 and a sweep: of
the SFT policy, which makes V1 from the base model, and then of V1 on the same prompts of the sweep.
Runs lie in `.concord/bench/temperature_sweep`, where the next start goes on with them.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.calibration import calibrate
from benchmarks.finished import finished_run, summary_of
from benchmarks.frame import HOME, Result
from benchmarks.sandbox_world import alone, build_world
from policies.temperature_sweep import sweep_places
from records.prompts import Prompt, write_prompts
from simulation.corpus import sample_prompts
from workers.demo.scales import SandboxScale

FOLDER = HOME / "temperature_sweep"
SFT, V1 = "SFT", "V1"
_PROMPTS = 60
"""Seed of the prompts."""


@dataclass(frozen=True, kw_only=True)
class SweepScale:
    """How big the experiment is; the defaults take about six minutes on a quiet core."""

    sandbox: SandboxScale = field(default_factory=SandboxScale)
    num_responses: int = 16
    temperatures: tuple[float, ...] = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5)
    num_sweep_prompts: int = 100
    shown_sizes: tuple[int, ...] = (1, 4, 16)
    """N of the table's columns."""


def run() -> Result:
    """Sweep the SFT policy and the V1 that it makes."""
    before = calibrate()
    scale = SweepScale()
    summaries = measure(FOLDER, scale)
    for line in table(summaries, scale.shown_sizes):
        print(line, file=sys.stderr, flush=True)
    return Result(
        name="temperature_sweep",
        unit=f"temperature with the highest expected best of {scale.num_responses}, V1",
        ours=summaries[V1]["temperature"],
        peer=None,
        peer_version="none: a temperature is no speed",
        floor_share=None,
        calibration={"before": before, "after": calibrate()},
        details={
            name: {key: summary[key] for key in ("temperature", "sweep_note", "sweep")}
            for name, summary in summaries.items()
        },
    )


def measure(folder: Path, scale: SweepScale) -> dict[str, Mapping[str, Any]]:
    """Return the summaries of the runs that sample from SFT and from V1."""
    world = build_world(folder / "world", scale.sandbox)
    config = replace(
        alone(scale.sandbox.rejection_sampling),
        num_responses=scale.num_responses,
        sweep_temperatures=scale.temperatures,
        num_sweep_prompts=scale.num_sweep_prompts,
    )
    sandbox = scale.sandbox
    prompts = list(sample_prompts(_PROMPTS, sandbox.max_prompts, sandbox.evaluation_safety_share))
    swept = [prompts[place] for place in sweep_places(config, len(prompts))]
    inputs = {"start": world.base, **world.optimised}
    first = {**inputs, "policy": world.sft, "prompts": _written(folder, "prompts", prompts)}
    sft_run = finished_run(folder / "of-sft", config, first)
    second = {
        **inputs,
        "policy": sft_run.outputs / "policy",
        "prompts": _written(folder, "swept-prompts", swept),
    }
    return {
        SFT: summary_of(sft_run),
        V1: summary_of(finished_run(folder / "of-v1", config, second)),
    }


def table(summaries: Mapping[str, Mapping[str, Any]], sizes: Sequence[int]) -> list[str]:
    """Return a row for each temperature as Markdown: the best of each N with its standard error.

    The temperature that a run has chosen is in bold.
    """
    columns = [f"{name}, N = {n}" for name in summaries for n in sizes]
    ends = [f"{name}, ended" for name in summaries]
    lines = [_line(["temperature", *columns, *ends]), "| --- " * (1 + len(columns + ends)) + "|"]
    by_name = {name: summary["sweep"]["temperatures"] for name, summary in summaries.items()}
    for tried in zip(*by_name.values(), strict=True):
        temperature = tried[0]["temperature"]
        chosen = [summary["temperature"] == temperature for summary in summaries.values()]
        cells = [
            _cell(figures["curve"], n, is_bold=is_chosen and n == max(sizes))
            for figures, is_chosen in zip(tried, chosen, strict=True)
            for n in sizes
        ]
        shares = [f"{100 * figures['finished_share']:.1f}%" for figures in tried]
        lines.append(_line([f"{temperature:g}", *cells, *shares]))
    return [*lines, "", *(f"{name}: {s['sweep_note']}" for name, s in summaries.items())]


def _cell(curve: Iterable[Mapping[str, Any]], n: int, *, is_bold: bool) -> str:
    point = next(point for point in curve if point["n"] == n)
    value = f"{point['max']:.2f}"
    return f"{f'**{value}**' if is_bold else value} ± {point['standard_error']:.2f}"


def _written(folder: Path, name: str, prompts: Iterable[Prompt]) -> Path:
    path = folder / f"{name}.jsonl"
    write_prompts(path, prompts)
    return path


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
