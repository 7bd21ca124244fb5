"""Runs of an experiment, each in a folder of its own: done once, and gone on with if cut off."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from evaluation.comparing import compare
from evaluation.persistence import measure_persistence
from language.checkpoints import latest_checkpoint, unpack_model
from language.models import load_policy, save_model
from language.runs import Command, RunContext, RunStopped, seed_everything
from language.tokenizers import load_tokenizer
from policies.context_distillation import context_distillation
from policies.ghost_attention import ghost_attention
from policies.ppo import ppo
from policies.pretrain import pretrain
from policies.rejection_sampling import rejection_sampling
from policies.sft import sft
from records.digests import digest_path
from records.policy_configs import PPOConfig
from records.run_configs import RunConfig, RunKind
from records.run_kinds import CONFIGS
from records.rundirs import RunDirectory, RunInput, RunSpec
from rewardmodels.training import train

_COMMANDS: Mapping[RunKind, Command] = {
    RunKind.PRETRAIN: pretrain,
    RunKind.SFT: sft,
    RunKind.REWARD_MODEL: train,
    RunKind.REJECTION_SAMPLING: rejection_sampling,
    RunKind.GHOST_ATTENTION: ghost_attention,
    RunKind.CONTEXT_DISTILLATION: context_distillation,
    RunKind.EVALUATION: compare,
    RunKind.PERSISTENCE: measure_persistence,
}


class Stage(NamedTuple):
    """A policy on PPO's way."""

    iteration: int
    policy: Path


def finished_run(root: Path, config: RunConfig, inputs: Mapping[str, Path]) -> RunDirectory:
    """Return the run in `root`, done now where it is not there, or there with another config.

    One that was cut off goes on from its last checkpoint. Computes with one thread.
    """
    directory, spec = _prepared(root, config, inputs)
    if directory.read_result() is None:
        seed_everything(config.seed)
        _COMMANDS[spec.kind](directory, spec, RunContext(directory, config))
    return directory


def summary_of(directory: RunDirectory) -> dict[str, Any]:
    """Return the summary of a finished run."""
    result = directory.read_result()
    assert result is not None, f"{directory.root} is not finished"
    summary: dict[str, Any] = result["summary"]
    return summary


def ppo_in_stages(root: Path, config: PPOConfig, inputs: Mapping[str, Path]) -> Iterator[Stage]:
    """Run PPO in `root`, and yield its policy after every `checkpoint_every` iterations.

    A run keeps its best policy and its newest checkpoints alone, so it is stopped at each, its
    policy set aside, and started again: PPO goes on from a checkpoint as if it had never stopped.
    """
    directory, spec = _prepared(root, config, inputs)
    told = 0
    while True:
        _set_aside(directory, inputs["policy"])
        for stage in _stages(directory):
            if stage.iteration > told:
                told = stage.iteration
                yield stage
        if directory.read_result() is not None:
            return
        seed_everything(config.seed)
        try:
            ppo(directory, spec, _StageContext(directory, config))
        except RunStopped:
            continue


class _StageContext(RunContext):
    """Asks the run to stop at each checkpoint."""

    def __init__(self, run_directory: RunDirectory, config: PPOConfig) -> None:
        super().__init__(run_directory, config)
        self._every = config.checkpoint_every

    def log(self, step: int, **metrics: float | int | str | None) -> None:
        """Append the row, and ask at the end of a stage."""
        super().log(step, **metrics)
        if step > 0 and step % self._every == 0:
            self.request_stop()


def _prepared(
    root: Path, config: RunConfig, inputs: Mapping[str, Path]
) -> tuple[RunDirectory, RunSpec]:
    """Return the run directory in `root`, made anew where another run lies there, and its spec."""
    torch.set_num_threads(1)
    (kind,) = (kind for kind, type_ in CONFIGS.items() if type_ is type(config))
    spec = RunSpec(
        kind=kind,
        config=config,
        inputs={role: RunInput(path, digest_path(path)) for role, path in inputs.items()},
        code_commit="benchmark",
    )
    directory = RunDirectory(root)
    if (root / "config.json").exists() and directory.read_spec() != spec:
        shutil.rmtree(root)
    if not (root / "config.json").exists():
        RunDirectory.create(root, spec)
    return directory, spec


def _set_aside(directory: RunDirectory, start: Path) -> None:
    """Write the policy of the newest checkpoint among the stages, where it is not there."""
    checkpoint = latest_checkpoint(directory.checkpoints)
    if checkpoint is None:
        return
    folder = directory.root / "stages" / f"{checkpoint.step:08d}"
    if not folder.exists():
        policy = load_policy(start)
        unpack_model(policy, checkpoint, prefix="policy")
        save_model(policy, load_tokenizer(start), folder)


def _stages(directory: RunDirectory) -> list[Stage]:
    folders = sorted((directory.root / "stages").glob("????????"))
    return [Stage(int(folder.name), folder) for folder in folders]
