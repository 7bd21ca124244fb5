"""Our PPO on a run directory: CPU seconds of an iteration, by phase.

Prints {"cpu_seconds", "phases", "num_prompt_tokens", "num_response_tokens", "peak_megabytes"}, the
means over all iterations but the first two (warm-up). The looks at held-out prompts lie outside.
"""

import json
import resource
import sys
import time
from pathlib import Path

import torch

from language.runs import RunContext, seed_everything
from policies.iterations import Stopwatch
from policies.ppo import ppo
from records.policy_configs import PPOConfig
from records.rundirs import RunDirectory

WARMUP_ITERATIONS = 2
PHASES = ("generate", "score", "reference", "logprobs", "update")


class ClockedContext(RunContext):
    """Keeps every row of metrics."""

    rows: list[dict[str, float]]

    def log(self, step: int, **metrics: float | int | str | None) -> None:
        """Keep the row, then log as ever."""
        numbers = {k: float(v) for k, v in metrics.items() if isinstance(v, (int, float))}
        self.rows.append({**numbers, "step": step})
        super().log(step, **metrics)


def main() -> None:
    """Run PPO as the run directory of the first argument says, on the clock of this process."""
    torch.set_num_threads(1)
    Stopwatch.clock = staticmethod(time.process_time)
    run_directory = RunDirectory(Path(sys.argv[1]))
    spec = run_directory.read_spec()
    config = spec.config
    assert isinstance(config, PPOConfig), "the benchmark writes a PPO run"
    seed_everything(config.seed)
    context = ClockedContext(run_directory, config)
    context.rows = []
    ppo(run_directory, spec, context)
    rows = [row for row in context.rows if row["step"] > WARMUP_ITERATIONS]
    phases = {phase: sum(row[f"seconds_{phase}"] for row in rows) / len(rows) for phase in PHASES}
    num_tokens = sum(row["rollout_tokens"] for row in rows) / len(rows)
    num_response_tokens = sum(row["mean_tokens"] for row in rows) / len(rows) * config.batch_size
    figures = {
        "cpu_seconds": sum(phases.values()),
        "phases": phases,
        "num_prompt_tokens": num_tokens - num_response_tokens,
        "num_response_tokens": num_response_tokens,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
