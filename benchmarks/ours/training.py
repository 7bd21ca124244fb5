"""Our training of reward models and by SFT on a run directory: CPU seconds per step.

Prints {"pairs_per_cpu_second" (reward models), "tokens_per_cpu_second", "cpu_seconds",
"peak_megabytes"}. The clock runs from the end of the second step (warm-up) to the end of the last.
"""

import json
import resource
import sys
import time
from pathlib import Path

import torch

from language.runs import RunContext, seed_everything
from policies.sft import sft
from records.run_configs import RunKind
from records.rundirs import RunDirectory
from rewardmodels.training import train

WARMUP_STEPS = 2


class ClockedContext(RunContext):
    """Notes the process's CPU seconds whenever a step is logged, and what the step was made of."""

    marks: list[float]
    pairs: list[float]
    tokens: list[float]

    def log(self, step: int, **metrics: float | int | str | None) -> None:
        """Note the time, then log as ever."""
        self.marks.append(time.process_time())
        self.pairs.append(float(metrics.get("pairs") or 0))
        self.tokens.append(float(metrics["tokens"] or 0))
        super().log(step, **metrics)


def main() -> None:
    """Train as the run directory of the first argument says."""
    torch.set_num_threads(1)
    run_directory = RunDirectory(Path(sys.argv[1]))
    spec = run_directory.read_spec()
    seed_everything(spec.config.seed)
    context = ClockedContext(run_directory, spec.config)
    context.marks, context.pairs, context.tokens = [], [], []
    command = {RunKind.REWARD_MODEL: train, RunKind.SFT: sft}[spec.kind]
    command(run_directory, spec, context)
    cpu_seconds = context.marks[-1] - context.marks[WARMUP_STEPS - 1]
    figures = {
        "pairs_per_cpu_second": sum(context.pairs[WARMUP_STEPS:]) / cpu_seconds,
        "tokens_per_cpu_second": sum(context.tokens[WARMUP_STEPS:]) / cpu_seconds,
        "cpu_seconds": cpu_seconds,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
