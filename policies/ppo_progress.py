"""How far a PPO run has come: its checkpoints, and the best policy so far."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from language.adapters import save_merged_model
from language.checkpoints import (
    Checkpoint,
    Packed,
    combine,
    latest_checkpoint,
    pack_optimizer,
    pack_rng,
    save_checkpoint,
    unpack_optimizer,
    unpack_rng,
)
from language.models import save_model
from language.runs import RunContext
from policies.alarms import Peak, Signs, peak_after
from policies.heldout import HeldOutLook
from policies.networks import POLICY, Networks
from policies.ppo_models import Models
from policies.statistics import Moments, RunningMoments
from policies.updates import Learners
from records.files import folder_written_atomically
from records.rundirs import RunDirectory


class Progress(NamedTuple):
    """What a run remembers besides weights, optimizers and random states."""

    iteration: int
    """Iterations done; the place in the prompts and all sampling seeds follow from it."""
    start: HeldOutLook
    """The held-out prompts before training."""
    best: HeldOutLook
    best_objective: float
    best_iteration: int
    looks_without_better: int
    kl_coef: float
    """β of the next iteration."""
    scores: RunningMoments = RunningMoments()
    """Of the gated scores of all responses so far."""
    first: Signs | None = None
    """What later iterations' signs are compared with."""
    peak: Peak | None = None
    """What later looks' monitor is compared with."""

    @property
    def units(self) -> Moments:
        """Mean and variance that whiten scores for as long as the run lasts."""
        return self.start.units

    @classmethod
    def begin(cls, look: HeldOutLook, objective: float, kl_coef: float) -> "Progress":
        """Return the progress before the first iteration."""
        peak = peak_after(None, look)
        return cls(0, look, look, objective, 0, 0, kl_coef, peak=peak)

    def after(self, look: HeldOutLook, objective: float, iteration: int) -> "Progress":
        """Return the progress after a look at `iteration`; of equals the first is best."""
        progress = self._replace(iteration=iteration, peak=peak_after(self.peak, look))
        if objective > self.best_objective:
            return progress._replace(
                best=look,
                best_objective=objective,
                best_iteration=iteration,
                looks_without_better=0,
            )
        return progress._replace(looks_without_better=self.looks_without_better + 1)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready mapping; `from_json` reverses it."""
        return {
            **self._asdict(),
            "start": self.start.to_json(),
            "best": self.best.to_json(),
            "scores": self.scores._asdict(),
            "first": None if self.first is None else self.first._asdict(),
            "peak": None if self.peak is None else self.peak._asdict(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Progress":
        """Return what `to_json` wrote."""
        first, peak = data["first"], data["peak"]
        parts: dict[str, Any] = {
            "start": HeldOutLook.from_json(data["start"]),
            "best": HeldOutLook.from_json(data["best"]),
            "scores": RunningMoments(**data["scores"]),
            "first": None if first is None else Signs(**first),
            "peak": None if peak is None else Peak(tuple(peak["general_scores"]), peak["reward"]),
        }
        return cls(**{**data, **parts})


def save_progress(
    run_directory: RunDirectory,
    progress: Progress,
    networks: Networks,
    learners: Learners,
    context: RunContext,
) -> None:
    """Write a checkpoint from which the run goes on bit for bit; drop superseded best policies."""
    packed = combine(
        _pack_parameters(networks.policy_parameters, prefix="policy"),
        _pack_parameters(networks.value_parameters, prefix="value"),
        pack_optimizer(learners.policy.optimizer, prefix="policy_optimizer"),
        pack_optimizer(learners.value.optimizer, prefix="value_optimizer"),
        pack_rng(generator=context.generator),
    )
    state = {
        **packed.state,
        "schedules": [learner.schedule.state_dict() for learner in learners],
        "progress": progress.to_json(),
    }
    save_checkpoint(
        run_directory.checkpoints, step=progress.iteration, tensors=packed.tensors, state=state
    )
    _drop_superseded(run_directory, progress)


def restore_progress(
    run_directory: RunDirectory, networks: Networks, learners: Learners, context: RunContext
) -> Progress | None:
    """Set everything to the last checkpoint and return its progress; None where there is none."""
    checkpoint = latest_checkpoint(run_directory.checkpoints)
    if checkpoint is None:
        run_directory.drop_metrics_after(-1)
        return None
    _unpack_parameters_(networks.policy_parameters, checkpoint, prefix="policy")
    _unpack_parameters_(networks.value_parameters, checkpoint, prefix="value")
    networks.refresh_()
    unpack_optimizer(learners.policy.optimizer, checkpoint, prefix="policy_optimizer")
    unpack_optimizer(learners.value.optimizer, checkpoint, prefix="value_optimizer")
    unpack_rng(checkpoint, generator=context.generator)
    for learner, state in zip(learners, checkpoint.state["schedules"], strict=True):
        learner.schedule.load_state_dict(state)
    run_directory.drop_metrics_after(checkpoint.step)
    return Progress.from_json(checkpoint.state["progress"])


def save_best(run_directory: RunDirectory, models: Models, iteration: int) -> None:
    """Keep the policy as it stands as the best; earlier best ones stay until a checkpoint."""
    networks, folder = models.networks, _best_folder(run_directory, iteration)
    if networks.has_adapters:
        save_merged_model(networks.policy, models.tokenizer, folder, name=POLICY)
    else:
        save_model(networks.policy, models.tokenizer, folder)


def save_value_model(run_directory: RunDirectory, models: Models) -> Path:
    """Write the value model as it stands to the output `value` and return its folder."""
    networks, output = models.networks, run_directory.outputs / "value"
    if networks.has_adapters:
        name = networks.value_adapter
        save_merged_model(networks.value_model, models.tokenizer, output, name=name)
    else:
        save_model(networks.value_model, models.tokenizer, output)
    return output


def publish_best(run_directory: RunDirectory, progress: Progress) -> Path:
    """Copy the best policy to the output `policy` and return its folder."""
    output = run_directory.outputs / "policy"
    with folder_written_atomically(output) as temporary:
        best = _best_folder(run_directory, progress.best_iteration)
        shutil.copytree(best, temporary, dirs_exist_ok=True)
    return output


def _best_folder(run_directory: RunDirectory, iteration: int) -> Path:
    return run_directory.checkpoints / f"best-{iteration:08d}"


def _drop_superseded(run_directory: RunDirectory, progress: Progress) -> None:
    """Remove the best policies that no checkpoint on disk speaks of.

    An earlier checkpoint is gone back to where the newest one is damaged: its best policy stays.
    """
    kept = {_best_folder(run_directory, progress.best_iteration)}
    for path in run_directory.checkpoints.glob("step-*/manifest.json"):
        try:
            state = json.loads(path.read_text("utf-8"))["state"]
            kept.add(_best_folder(run_directory, state["progress"]["best_iteration"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged, and so never gone back to
    for folder in run_directory.checkpoints.glob("best-*"):
        if folder not in kept:
            shutil.rmtree(folder)


def _pack_parameters(parameters: Mapping[str, nn.Parameter], *, prefix: str) -> Packed:
    tensors = {f"{prefix}.{name}": p.detach() for name, p in parameters.items()}
    return Packed(tensors, {prefix: {}})


@torch.no_grad()
def _unpack_parameters_(
    parameters: Mapping[str, nn.Parameter], checkpoint: Checkpoint, *, prefix: str
) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(checkpoint.tensors[f"{prefix}.{name}"])
