"""What the pages of iterations show: stages, runs, reward models against their predecessors."""

from dataclasses import dataclass
from typing import NamedTuple

from records.iteration_configs import Algorithm, RejectionSamplingStart
from registry.models import Iteration, PolicyVersion, RewardModelVersion, Run
from webapp.plots import Plot
from webapp.run_plots import accuracy_bars, accuracy_plot
from webapp.selectors.runs import Progress, progress_of
from workers.stages import candidate_of

Stage = Iteration.Stage
_LABELS = {
    Stage.SNAPSHOT: "Snapshot",
    Stage.REWARD_MODELS: "Reward models",
    Stage.REJECTION_SAMPLING: "Rejection sampling",
    Stage.PPO: "PPO",
    Stage.EVALUATION: "Evaluation",
    Stage.PROMOTION: "Promotion",
}


class StepView(NamedTuple):
    """One stage on the stepper."""

    label: str
    status: str
    """done, now, failed or todo."""
    note: str
    number: int


class RewardModelView(NamedTuple):
    """A reward model of the iteration, and its accuracy beside its predecessor's."""

    version: RewardModelVersion
    plot: Plot
    value: float | None
    previous: float | None
    length_baseline: float | None
    num_pairs: int | None

    @property
    def gain(self) -> float | None:
        """Accuracy above the predecessor's, as a share."""
        if self.value is None or self.previous is None:
            return None
        return self.value - self.previous


@dataclass(frozen=True, kw_only=True)
class IterationPage:
    """Everything about one iteration."""

    iteration: Iteration
    steps: list[StepView]
    runs: list[Run]
    progress: dict[int, Progress]
    reward_models: list[RewardModelView]
    evaluation: Run | None
    candidate: PolicyVersion | None

    @property
    def finetuned(self) -> PolicyVersion:
        """What rejection sampling fine-tunes."""
        start = self.iteration.config.get("rejection_sampling_start")
        is_newest = start == RejectionSamplingStart.NEWEST
        return self.iteration.start_policy if is_newest else self.iteration.base_policy

    @property
    def waits_for_decision(self) -> bool:
        """Whether a lead is to promote or decline the candidate."""
        is_there = self.iteration.is_running and self.iteration.stage == Stage.PROMOTION
        return is_there and self.candidate is not None


def iteration_page(iteration: Iteration) -> IterationPage:
    """Gather the page of an iteration."""
    runs = list(Run.objects.filter(iteration=iteration).order_by("pk"))
    evaluations = [run for run in runs if run.stage == Stage.EVALUATION]
    models = RewardModelVersion.objects.filter(iteration=iteration).select_related("parent", "run")
    return IterationPage(
        iteration=iteration,
        steps=steps_of(iteration, runs),
        runs=runs,
        progress=progress_of(runs),
        reward_models=[reward_model_view(version) for version in models.order_by("axis", "pk")],
        evaluation=evaluations[-1] if evaluations and evaluations[-1].result else None,
        candidate=candidate_of(iteration),
    )


def steps_of(iteration: Iteration, runs: list[Run]) -> list[StepView]:
    """Return the stages of the iteration in order, with where it stands."""
    has_ppo = iteration.config.get("algorithm") == Algorithm.REJECTION_SAMPLING_PPO
    stages = [s for s in _LABELS if s is not Stage.PPO or has_ppo]
    order = list(Stage)
    here = order.index(Stage(iteration.stage))
    views = []
    for number, stage in enumerate(stages, start=1):
        status = "todo"
        if order.index(stage) < here:
            status = "done"
        elif order.index(stage) == here:
            status = "now" if iteration.is_running else "failed"
        note = _stage_note([run for run in runs if run.stage == stage])
        views.append(StepView(_LABELS[stage], status, note, number))
    return views


def reward_model_view(version: RewardModelVersion) -> RewardModelView:
    """Return the accuracy of a reward model by rating, with its predecessor's overall."""
    metrics = version.metrics
    title = f"{version.axis.capitalize()}: accuracy by rating"
    return RewardModelView(
        version,
        accuracy_plot(f"accuracy-{version.pk}", title, metrics),
        _overall(metrics.get("accuracy")),
        _overall(metrics.get("previous_accuracy")),
        _overall(metrics.get("length_baseline")),
        metrics.get("num_test"),
    )


def _overall(accuracy: object) -> float | None:
    bars = accuracy_bars(accuracy)
    return next((bar.value for bar in bars if bar.label == "overall"), None)


def _stage_note(runs: list[Run]) -> str:
    """Return in a few words how the runs of a stage are doing."""
    if not runs:
        return ""
    finished = sum(run.state == Run.State.FINISHED for run in runs)
    if finished == len(runs):
        return ""
    return runs[0].state if len(runs) == 1 else f"{finished} of {len(runs)} runs"
