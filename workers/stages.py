"""What each stage of an iteration runs, on which inputs.

* reward_models: a run for each axis, and one for the general model where it is trained, reads the
  snapshot, earlier ones and the model's predecessor.
* rejection_sampling: one run reads prompts, reward models and an earlier pool; makes the candidate.
* ppo: one run goes on from that candidate and makes the next one.
* evaluation: one run compares the candidate with the baseline.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from django.db.models import Q

from records.errors import RecordError
from records.iteration_configs import (
    Algorithm,
    IterationConfig,
    Monitor,
    PPOReference,
    RejectionSamplingStart,
    RewardModelStart,
)
from records.reward_configs import RewardModelConfig
from records.run_configs import GENERAL, RunConfig, RunKind
from registry.models import Artifact, Iteration, PolicyVersion, RewardModelVersion, Run, Snapshot
from workers.prompt_sets import PromptUse, prompt_set

Stage = Iteration.Stage


class PlannedRun(NamedTuple):
    """A run that a stage needs; its inputs are looked up when it is made."""

    kind: RunKind
    name: str
    config: RunConfig
    inputs: Callable[[], Mapping[str, Artifact]]
    output_name: str = ""


def planned_runs(iteration: Iteration, config: IterationConfig) -> list[PlannedRun]:
    """Return the runs of the stage that `iteration` is in; they may work at the same time."""
    if iteration.stage == Stage.REWARD_MODELS:
        return [_reward_model(iteration, config, model) for model in _reward_model_configs(config)]
    if iteration.stage == Stage.REJECTION_SAMPLING:
        return [_rejection_sampling(iteration, config)]
    if iteration.stage == Stage.PPO:
        return [_ppo(iteration, config)]
    if iteration.stage == Stage.EVALUATION:
        return [_evaluation(iteration, config)]
    return []


def stage_after(stage: str, config: IterationConfig) -> Stage:
    """Return the stage that follows; PPO only where the algorithm has it."""
    stages = list(Stage)
    if config.algorithm is not Algorithm.REJECTION_SAMPLING_PPO:
        stages.remove(Stage.PPO)
    return stages[stages.index(Stage(stage)) + 1]


def candidate_of(iteration: Iteration) -> PolicyVersion | None:
    """Return the newest policy that the iteration has made, or None while there is none."""
    return PolicyVersion.objects.filter(iteration=iteration).order_by("-pk").first()


def finetuned_by(iteration: Iteration, config: IterationConfig) -> PolicyVersion:
    """Return the policy that rejection sampling fine-tunes: the base, or the one sampled from."""
    is_newest = config.rejection_sampling_start is RejectionSamplingStart.NEWEST
    return iteration.start_policy if is_newest else iteration.base_policy


def reward_models_of(iteration: Iteration, config: IterationConfig) -> dict[str, Artifact]:
    """Return what scores the iteration's policies, by role: a model for each axis, and the monitor.

    Raises:
        RecordError: The newest general model is asked for, and there is none.
    """
    versions = RewardModelVersion.objects.filter(iteration=iteration).select_related("artifact")
    found = {version.axis: version.artifact for version in versions.order_by("pk")}
    if config.monitor is Monitor.NEWEST:
        monitor = predecessor_of(iteration, GENERAL)
        if monitor is None:
            raise RecordError("monitor", "there is no general reward model yet; train one, or none")
        found[GENERAL] = monitor.artifact
    return found


def predecessor_of(iteration: Iteration, scope: str) -> RewardModelVersion | None:
    """Return the newest reward model of `scope` from before, leaving out those a gate stopped.

    An iteration that ended at its reward models has none that anybody should be compared with.
    """
    is_usable = Q(iteration=None) | ~Q(
        iteration__stage__in=[Stage.SNAPSHOT, Stage.REWARD_MODELS], iteration__isnull=False
    )
    versions = RewardModelVersion.objects.filter(is_usable, axis=scope)
    earlier = versions.filter(Q(iteration=None) | Q(iteration__number__lt=iteration.number))
    return earlier.select_related("artifact").order_by("-pk").first()


def earlier_snapshots(iteration: Iteration, config: IterationConfig) -> list[Snapshot]:
    """Return the snapshots mixed in, newest first: those named, or those of earlier iterations."""
    if config.mixture is not None:
        by_id = Snapshot.objects.select_related("artifact").in_bulk(config.mixture)
        missing = [pk for pk in config.mixture if pk not in by_id]
        if missing:
            raise RecordError("mixture", f"there are no snapshots {missing}")
        return [by_id[pk] for pk in config.mixture]
    iterations = Iteration.objects.filter(number__lt=iteration.number, snapshot__isnull=False)
    found: dict[int, Snapshot] = {}
    for earlier in iterations.select_related("snapshot__artifact").order_by("-number"):
        assert earlier.snapshot is not None
        found.setdefault(earlier.snapshot.artifact_id, earlier.snapshot)
    found.pop(_snapshot_of(iteration).artifact_id, None)
    return list(found.values())


def _reward_model_configs(config: IterationConfig) -> list[RewardModelConfig]:
    """Return the configs of the reward models that the iteration trains."""
    axes = [config.helpfulness, config.safety]
    return [*axes, config.general_model] if config.monitor is Monitor.TRAINED else axes


def _reward_model(
    iteration: Iteration, config: IterationConfig, run_config: RewardModelConfig
) -> PlannedRun:
    def inputs() -> dict[str, Artifact]:
        is_base = config.reward_model_start is RewardModelStart.BASE
        start = iteration.base_policy if is_base else iteration.start_policy
        found = {
            "policy": start.artifact,
            "snapshot": _snapshot_of(iteration).artifact,
        }
        for index, snapshot in enumerate(earlier_snapshots(iteration, config)):
            found[f"mixture_{index}"] = snapshot.artifact
        previous = predecessor_of(iteration, run_config.scope)
        return found if previous is None else {**found, "previous": previous.artifact}

    name = f"{iteration.name}: {run_config.scope} reward model"
    return PlannedRun(RunKind.REWARD_MODEL, name, run_config, inputs, iteration.name)


def _rejection_sampling(iteration: Iteration, config: IterationConfig) -> PlannedRun:
    def inputs() -> dict[str, Artifact]:
        pool = _earlier_pool(iteration) if config.has_pool else None
        return {
            "policy": iteration.start_policy.artifact,
            "start": finetuned_by(iteration, config).artifact,
            "prompts": _prompts(iteration, config, PromptUse.TRAINING),
            **reward_models_of(iteration, config),
            **({} if pool is None else {"pool": pool}),
        }

    is_last = config.algorithm is Algorithm.REJECTION_SAMPLING
    output_name = iteration.name if is_last else f"{iteration.name} without PPO"
    name = f"{iteration.name}: rejection sampling"
    kind = RunKind.REJECTION_SAMPLING
    return PlannedRun(kind, name, config.rejection_sampling, inputs, output_name)


def _ppo(iteration: Iteration, config: IterationConfig) -> PlannedRun:
    def inputs() -> dict[str, Artifact]:
        start = _candidate_artifact(iteration)
        is_base = config.ppo_reference is PPOReference.BASE
        return {
            "policy": start,
            "reference": iteration.base_policy.artifact if is_base else start,
            "prompts": _prompts(iteration, config, PromptUse.TRAINING),
            "heldout_prompts": _prompts(iteration, config, PromptUse.HELD_OUT),
            **reward_models_of(iteration, config),
        }

    return PlannedRun(RunKind.PPO, f"{iteration.name}: PPO", config.ppo, inputs, iteration.name)


def _evaluation(iteration: Iteration, config: IterationConfig) -> PlannedRun:
    def inputs() -> dict[str, Artifact]:
        return {
            "policy": _candidate_artifact(iteration),
            "baseline": iteration.previous_policy.artifact,
            "reference": iteration.base_policy.artifact,
            "prompts": _prompts(iteration, config, PromptUse.EVALUATION),
            **reward_models_of(iteration, config),
        }

    name = f"{iteration.name}: evaluation"
    return PlannedRun(RunKind.EVALUATION, name, config.evaluation, inputs)


def _prompts(iteration: Iteration, config: IterationConfig, use: PromptUse) -> Artifact:
    digests = {
        PromptUse.TRAINING: config.prompts,
        PromptUse.HELD_OUT: config.heldout_prompts,
        PromptUse.EVALUATION: config.evaluation_prompts,
    }
    snapshot = _snapshot_of(iteration)
    return prompt_set(digests[use], snapshot=snapshot, use=use, max_prompts=config.max_prompts)


def _earlier_pool(iteration: Iteration) -> Artifact | None:
    """Return the samples that the newest earlier rejection sampling kept."""
    runs = Run.objects.filter(
        kind=RunKind.REJECTION_SAMPLING,
        state=Run.State.FINISHED,
        iteration__number__lt=iteration.number,
    )
    return Artifact.objects.filter(
        kind=Artifact.Kind.POOL, output_of__run=runs.order_by("-pk").values("pk")[:1]
    ).first()


def _candidate_artifact(iteration: Iteration) -> Artifact:
    candidate = candidate_of(iteration)
    assert candidate is not None, f"iteration {iteration.name} has made no policy yet"
    return candidate.artifact


def _snapshot_of(iteration: Iteration) -> Snapshot:
    assert iteration.snapshot is not None, f"iteration {iteration.name} has no snapshot yet"
    return iteration.snapshot
