"""Our reward-model training on a run directory: CPU seconds per step, like the peer's script.

Prints {"pairs_per_cpu_second", "cpu_seconds", "peak_megabytes"}. The clock runs from the end of the
second step (warm-up) to the end of the last.
"""

import json
import resource
import sys
import time
from pathlib import Path

import torch

from language.runs import RunContext, seed_everything
from records.rundirs import RunDirectory
from rewardmodels.training import train

WARMUP_STEPS = 2


class ClockedContext(RunContext):
    """Notes the process's CPU seconds whenever a step is logged."""

    marks: list[float]

    def log(self, step: int, **metrics: float | int | str | None) -> None:
        """Note the time, then log as ever."""
        self.marks.append(time.process_time())
        super().log(step, **metrics)


def main() -> None:
    """Train as the run directory of the first argument says."""
    torch.set_num_threads(1)
    run_directory = RunDirectory(Path(sys.argv[1]))
    spec = run_directory.read_spec()
    seed_everything(spec.config.seed)
    context = ClockedContext(run_directory, spec.config)
    context.marks = []
    train(run_directory, spec, context)
    num_pairs = int(sys.argv[2]) * (len(context.marks) - WARMUP_STEPS)
    cpu_seconds = context.marks[-1] - context.marks[WARMUP_STEPS - 1]
    figures = {
        "pairs_per_cpu_second": num_pairs / cpu_seconds,
        "cpu_seconds": cpu_seconds,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
