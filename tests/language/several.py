"""Run directories worked off one after another by the same processes, under torchrun.

Starting Python and torch takes longer than a tiny run: tests share the start.
"""

import os
import signal
import sys
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from evaluation.persistence import measure_persistence
from language.runs import Command, RunContext, RunStopped, run_main, seed_everything
from policies.context_distillation import context_distillation
from policies.ghost_attention import ghost_attention
from policies.ppo import ppo
from policies.pretrain import pretrain
from policies.rejection_sampling import rejection_sampling
from policies.sft import sft
from records.run_configs import RunConfig, RunKind
from records.rundirs import RunDirectory, RunSpec
from rewardmodels.training import train

COMMANDS: dict[RunKind, Command] = {
    RunKind.PRETRAIN: pretrain,
    RunKind.SFT: sft,
    RunKind.REWARD_MODEL: train,
    RunKind.REJECTION_SAMPLING: rejection_sampling,
    RunKind.GHOST_ATTENTION: ghost_attention,
    RunKind.CONTEXT_DISTILLATION: context_distillation,
    RunKind.PERSISTENCE: measure_persistence,
    RunKind.PPO: ppo,
}
_NEVER = -1


class Interrupted(RunContext):
    """The context of a run that is killed, or asked to stop, once it has logged a step."""

    def __init__(
        self,
        directory: RunDirectory,
        config: RunConfig,
        *,
        kill_at: int = _NEVER,
        stop_at: int = _NEVER,
    ) -> None:
        rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        super().__init__(directory, config, rank=rank, world_size=world_size)
        self._kill_at = kill_at
        self._stop_at = stop_at

    def log(self, step: int, **metrics: float | str | None) -> None:
        """Write the row; then, at the given step, kill or stop the last of the processes."""
        super().log(step, **metrics)
        is_last = self.rank == self.world_size - 1
        if step == self._kill_at and is_last:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == self._stop_at and is_last:
            self.request_stop()


def killed(directory: RunDirectory, spec: RunSpec, _context: RunContext, *, step: int) -> None:
    """Do the run until one of its processes dies."""
    COMMANDS[spec.kind](directory, spec, Interrupted(directory, spec.config, kill_at=step))


def main(arguments: list[str]) -> None:
    """Work off run directories as processes of one group."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    work_off(arguments)
    dist.destroy_process_group()


def work_off(arguments: list[str]) -> None:
    """Work off run directories; `FOLDER@5` stops at step 5."""
    for argument in arguments:
        folder, _, stop_at = argument.partition("@")
        directory = RunDirectory(Path(folder))
        spec = directory.read_spec()
        seed_everything(spec.config.seed)
        context = Interrupted(directory, spec.config, stop_at=int(stop_at or _NEVER))
        try:
            COMMANDS[spec.kind](directory, spec, context)
        except RunStopped:
            continue


if __name__ == "__main__":
    if sys.argv[1] == "killed":
        step = int(sys.argv.pop())
        sys.exit(run_main("tests.language.several", {"killed": partial(killed, step=step)}))
    main(sys.argv[1:])
