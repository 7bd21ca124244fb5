"""A run that tests start as a child process: it counts, and can be stopped, resumed or failed."""

import os
import signal
import sys
import time

import torch

from language.checkpoints import combine, latest_checkpoint, pack_rng, save_checkpoint, unpack_rng
from language.distributed import all_reduce_sum_
from language.runs import RunContext, RunStopped, run_main
from records.rundirs import RunDirectory, RunSpec

TOTAL_STEPS = 20


def count(
    directory: RunDirectory,
    spec: RunSpec,
    context: RunContext,
    *,
    interrupt_at: int = 0,
    number: int = signal.SIGTERM,
) -> None:
    """Draw a number a step and add it up over all processes; perhaps signal oneself on the way."""
    start, total = 0, 0.0
    checkpoint = latest_checkpoint(directory.checkpoints)
    if checkpoint is not None:
        start, total = checkpoint.step, checkpoint.state["total"]
        unpack_rng(checkpoint, generator=context.generator)
        if context.is_main:
            directory.drop_metrics_after(start)
    for step in range(start + 1, TOTAL_STEPS + 1):
        drawn = torch.rand(1, generator=context.generator) + torch.rand(1)
        total += float(all_reduce_sum_(drawn))
        context.log(step, total=total, total_steps=TOTAL_STEPS)
        time.sleep(float(os.environ.get("SLEEP_SECONDS", "0")))
        if step == interrupt_at:
            os.kill(os.getpid(), number)
        is_stopping = context.stop_requested
        if is_stopping and context.is_main:
            packed = combine(pack_rng(generator=context.generator))
            state = {**packed.state, "total": total}
            save_checkpoint(directory.checkpoints, step=step, tensors=packed.tensors, state=state)
        if is_stopping:
            raise RunStopped(f"stopped at step {step}")
    if context.is_main:
        directory.write_result({"total": total, "processes": context.world_size}, {})


def fail(directory: RunDirectory, spec: RunSpec, context: RunContext) -> None:
    """Fail at once."""
    raise ValueError(f"num_layers: {spec.config.seed} is one too many")


if __name__ == "__main__":
    sys.exit(run_main("tests.language.running", {"count": count, "fail": fail}))
