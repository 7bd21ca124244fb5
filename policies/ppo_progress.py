"""How far a PPO run has come: its checkpoints, and the best policy so far."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from transformers import PreTrainedModel

from language.adapters import save_merged_model
from language.checkpoints import (
    combine,
    latest_checkpoint,
    pack_every_rng,
    pack_optimizer,
    pack_parameters,
    save_shards,
    unpack_optimizer,
    unpack_own_rng,
    unpack_parameters_,
)
from language.distributed import world
from language.runs import RunContext
from language.sharding import ShardedModel, save_output
from policies.alarms import Peak, Signs, peak_after
from policies.heldout import HeldOutLook
from policies.networks import POLICY, Networks
from policies.ppo_models import Models
from policies.statistics import Moments, RunningMoments
from policies.updates import Learners
from records.files import folder_written_atomically
from records.rundirs import RunDirectory

Model = TypeVar("Model", bound=PreTrainedModel)


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
    """Write a checkpoint from which the run goes on bit for bit; drop superseded best policies.

    A collective: each process writes its rows of what is cut, and its random states.
    """
    packed = combine(
        pack_parameters(networks.policy_parameters, prefix="policy"),
        pack_parameters(networks.value_parameters, prefix="value"),
        pack_optimizer(learners.policy.optimizer, prefix="policy_optimizer"),
        pack_optimizer(learners.value.optimizer, prefix="value_optimizer"),
        *pack_every_rng(generator=context.generator),
    )
    state = {
        **packed.state,
        "schedules": [learner.schedule.state_dict() for learner in learners],
        "progress": progress.to_json(),
    }
    save_shards(
        run_directory.checkpoints, step=progress.iteration, tensors=packed.tensors, state=state
    )
    if context.is_main:
        _drop_superseded(run_directory, progress)


def restore_progress(
    run_directory: RunDirectory, networks: Networks, learners: Learners, context: RunContext
) -> Progress | None:
    """Set everything to the last checkpoint and return its progress; None where there is none.

    With as many processes the run goes on bit for bit on CPU, with more or fewer up to rounding.
    """
    checkpoint = latest_checkpoint(run_directory.checkpoints)
    if context.is_main:
        run_directory.drop_metrics_after(-1 if checkpoint is None else checkpoint.step)
    if checkpoint is None:
        return None
    unpack_parameters_(networks.policy_parameters, checkpoint, prefix="policy")
    unpack_parameters_(networks.value_parameters, checkpoint, prefix="value")
    networks.refresh_()
    unpack_optimizer(learners.policy.optimizer, checkpoint, prefix="policy_optimizer")
    unpack_optimizer(learners.value.optimizer, checkpoint, prefix="value_optimizer")
    unpack_own_rng(checkpoint, generator=context.generator)
    for learner, state in zip(learners, checkpoint.state["schedules"], strict=True):
        learner.schedule.load_state_dict(state)
    return Progress.from_json(checkpoint.state["progress"])


def save_best(run_directory: RunDirectory, models: Models, iteration: int) -> None:
    """Keep the policy as it stands as the best; earlier best ones stay until a checkpoint."""
    _save(models, models.networks.policy, POLICY, _best_folder(run_directory, iteration))


def save_value_model(run_directory: RunDirectory, models: Models) -> Path:
    """Write the value model as it stands to the output `value` and return its folder."""
    networks, output = models.networks, run_directory.outputs / "value"
    _save(models, networks.value_model, networks.value_adapter, output)
    return output


def _save(models: Models, model: Model | ShardedModel[Model], adapter: str, folder: Path) -> None:
    """Write a model of the networks as one plain model; a collective."""
    if not models.networks.has_adapters:
        save_output(model, models.tokenizer, folder)
    elif world()[0] == 0:
        assert not isinstance(model, ShardedModel), "a base of adapters is whole"
        save_merged_model(model, models.tokenizer, folder, name=adapter)


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
