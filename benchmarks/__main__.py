"""`python -m benchmarks [NAME ...]`: run benchmarks; without a name, all that measure speed."""

import importlib
import sys

from benchmarks.frame import Result, report

NAMES = (
    "reward_model_training",
    "sft",
    "packed_attention",
    "best_of_k",
    "ppo_iteration",
    "annotator_loop",
    "annotator_plans",
)
ON_A_GPU = ("seven_b",)
"""Runs where it is named; `python -m benchmarks.seven_b` needs neither Django nor a network."""
EXPERIMENTS = (
    "reward_model_parity",
    "margin_ablation",
    "ghost_attention",
    "context_distillation",
    "ablations",
    "temperature_sweep",
)
"""Measure quality, not speed, and take long: they run where they are named."""


def main(names: list[str]) -> int:
    """Run the named benchmarks one after the other; return the exit status."""
    known = NAMES + ON_A_GPU + EXPERIMENTS
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    for name in names or NAMES:
        print(f"Running {name}", file=sys.stderr, flush=True)
        results = importlib.import_module(f"benchmarks.{name}").run()
        for result in [results] if isinstance(results, Result) else results:
            report(result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
