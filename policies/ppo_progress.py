"""How far a PPO run has come: its checkpoints, and the best policy so far."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

from language.checkpoints import (
    combine,
    latest_checkpoint,
    pack_model,
    pack_optimizer,
    pack_rng,
    save_checkpoint,
    unpack_model,
    unpack_optimizer,
    unpack_rng,
)
from language.models import save_model
from language.runs import RunContext
from policies.heldout import HeldOutLook
from policies.ppo_models import Models
from policies.statistics import Moments
from policies.updates import Learner
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

    @property
    def units(self) -> Moments:
        """Mean and variance that whiten scores for as long as the run lasts."""
        return self.start.units

    def after(self, look: HeldOutLook, objective: float, iteration: int) -> "Progress":
        """Return the progress after a look at `iteration`; of equals the first is best."""
        if objective > self.best_objective:
            return Progress(iteration, self.start, look, objective, iteration, 0)
        waited = self.looks_without_better + 1
        return self._replace(iteration=iteration, looks_without_better=waited)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready mapping; `from_json` reverses it."""
        return {**self._asdict(), "start": _look_json(self.start), "best": _look_json(self.best)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Progress":
        """Return what `to_json` wrote."""
        looks = {name: _look_from_json(data[name]) for name in ("start", "best")}
        return cls(**{**data, **looks})


def save_progress(
    run_directory: RunDirectory,
    progress: Progress,
    models: Models,
    learners: tuple[Learner, Learner],
    context: RunContext,
) -> None:
    """Write a checkpoint from which the run goes on bit for bit; drop superseded best policies."""
    packed = combine(
        pack_model(models.policy, prefix="policy"),
        pack_model(models.value_model, prefix="value"),
        pack_optimizer(learners[0].optimizer, prefix="policy_optimizer"),
        pack_optimizer(learners[1].optimizer, prefix="value_optimizer"),
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
    kept = _best_folder(run_directory, progress.best_iteration)
    for folder in run_directory.checkpoints.glob("best-*"):
        if folder != kept:
            shutil.rmtree(folder)


def restore_progress(
    run_directory: RunDirectory,
    models: Models,
    learners: tuple[Learner, Learner],
    context: RunContext,
) -> Progress | None:
    """Set everything to the last checkpoint and return its progress; None where there is none."""
    checkpoint = latest_checkpoint(run_directory.checkpoints)
    if checkpoint is None:
        run_directory.drop_metrics_after(-1)
        return None
    unpack_model(models.policy, checkpoint, prefix="policy")
    unpack_model(models.value_model, checkpoint, prefix="value")
    unpack_optimizer(learners[0].optimizer, checkpoint, prefix="policy_optimizer")
    unpack_optimizer(learners[1].optimizer, checkpoint, prefix="value_optimizer")
    unpack_rng(checkpoint, generator=context.generator)
    for learner, state in zip(learners, checkpoint.state["schedules"], strict=True):
        learner.schedule.load_state_dict(state)
    run_directory.drop_metrics_after(checkpoint.step)
    return Progress.from_json(checkpoint.state["progress"])


def save_best(run_directory: RunDirectory, models: Models, iteration: int) -> None:
    """Keep the policy as it stands as the best; earlier best ones stay until a checkpoint."""
    save_model(models.policy, models.tokenizer, _best_folder(run_directory, iteration))


def publish_best(run_directory: RunDirectory, progress: Progress) -> Path:
    """Copy the best policy to the output `policy` and return its folder."""
    output = run_directory.outputs / "policy"
    with folder_written_atomically(output) as temporary:
        best = _best_folder(run_directory, progress.best_iteration)
        shutil.copytree(best, temporary, dirs_exist_ok=True)
    return output


def _best_folder(run_directory: RunDirectory, iteration: int) -> Path:
    return run_directory.checkpoints / f"best-{iteration:08d}"


def _look_json(look: HeldOutLook) -> dict[str, Any]:
    return {**look._asdict(), "scores": list(look.scores)}


def _look_from_json(data: dict[str, Any]) -> HeldOutLook:
    return HeldOutLook(**{**data, "scores": Moments(*data["scores"])})
