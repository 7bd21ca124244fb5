"""The command `scale`: one reward model on growing shares of its pairs, a curve over data.

As Figure 6 of arXiv:2307.09288. Every share is a run directory of its own, so it resumes like any
run, and all are measured on the same held-out pairs.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from language.runs import run_main
from records.errors import RecordError
from records.files import write_json_atomically
from records.reward_configs import RewardModelConfig
from records.rundirs import RunDirectory
from rewardmodels.training import train

SHARES = (0.125, 0.25, 0.5, 1.0)


def main(argv: Sequence[str]) -> int:
    """Execute `scale RUN_DIR [--shares SHARE ...]`; return the exit status.

    RUN_DIR holds the `config.json` of a reward model. Its pairs are learned from in each share, in
    `RUN_DIR/scaling/SHARE`; a share that has its result is left alone, so that shares may be run
    elsewhere too, under torchrun. `RUN_DIR/scaling.json` gets a point for each.
    """
    parser = argparse.ArgumentParser(prog="python -m rewardmodels scale")
    parser.add_argument("run_directory", type=Path)
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    arguments = parser.parse_args(argv)
    root: Path = arguments.run_directory
    try:
        directories = plan_shares(root, arguments.shares)
    except (RecordError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for directory in directories:
        if directory.read_result() is None:
            status = run_main("rewardmodels", {"train": train}, ["train", str(directory.root)])
            if status != 0:
                return status
    points = [point_of(directory) for directory in directories]
    write_json_atomically(root / "scaling.json", {"points": points})
    sys.stdout.write(table_of(points))
    return 0


def plan_shares(root: Path, shares: Sequence[float]) -> list[RunDirectory]:
    """Return the run directories of `shares`, from small to large; make those that are missing.

    Raises:
        RecordError: The folder's run is none of a reward model, or a share is out of bounds.
    """
    spec = RunDirectory(root).read_spec()
    config = spec.config
    if not isinstance(config, RewardModelConfig):
        raise RecordError("kind", f"{spec.kind} is not reward_model: it has no share of pairs")
    # A predecessor is not what a curve over data is about.
    inputs = {role: item for role, item in spec.inputs.items() if role != "previous"}
    directories = []
    for share in sorted(set(shares)):
        folder = root / "scaling" / f"{share:g}"
        own = replace(spec, config=replace(config, data_share=share), inputs=inputs)
        if not (folder / "config.json").exists():
            RunDirectory.create(folder, own)
        directories.append(RunDirectory(folder))
    return directories


def point_of(directory: RunDirectory) -> dict[str, Any]:
    """Return a finished run as a point of the curve, ready for JSON."""
    result = directory.read_result()
    config = directory.read_spec().config
    assert result is not None, f"{directory.root} has no result"
    assert isinstance(config, RewardModelConfig)
    names = ("num_train", "num_parameters", "num_test", "accuracy", "loss")
    summary = result["summary"]
    return {"data_share": config.data_share, **{name: summary[name] for name in names}}


def table_of(points: Sequence[dict[str, Any]]) -> str:
    """Return the points as Markdown: accuracy with its interval, overall and of the clear pairs."""
    lines = [
        "| share | training pairs | accuracy | 95% interval | significantly better |",
        "| --- | --- | --- | --- | --- |",
    ]
    for point in points:
        overall = point["accuracy"]["overall"]
        clear = point["accuracy"]["significantly_better"]
        cells = (
            f"{point['data_share']:g}",
            f"{point['num_train']:,}",
            _percent(overall["value"]),
            f"{_percent(overall['low'])} to {_percent(overall['high'])}",
            _percent(clear["value"]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}%"
