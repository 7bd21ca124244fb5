"""What pages and workers read from the registry: runs, versions, and lineage both ways."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, NamedTuple

from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from registry.models import (
    Artifact,
    PolicyVersion,
    RewardModelVersion,
    Run,
    RunInput,
    RunMetric,
    RunOutput,
    Snapshot,
)


class LineageInput(NamedTuple):
    """What a run read, and under which names it is known."""

    role: str
    artifact: Artifact
    names: tuple[str, ...]


class LineageStep(NamedTuple):
    """A run on the way to a policy."""

    run: Run
    inputs: tuple[LineageInput, ...]


class Lineage(NamedTuple):
    """Everything a policy came from, the last run first."""

    policy: PolicyVersion
    steps: tuple[LineageStep, ...]
    snapshots: tuple[Snapshot, ...]

    @property
    def round_names(self) -> list[str]:
        """Names of all rounds whose judgements the policy learned from, sorted."""
        return sorted({name for snapshot in self.snapshots for name in snapshot.round_names})


class Learners(NamedTuple):
    """Everything that learned from an artifact, directly or through another version."""

    reward_models: tuple[RewardModelVersion, ...]
    policies: tuple[PolicyVersion, ...]


def lineage_of(policy: PolicyVersion) -> Lineage:
    """Return the runs, inputs and snapshots that `policy` came from.

    Costs a few queries per generation, however many runs there are in it.
    """
    steps: list[LineageStep] = []
    artifact_ids: set[int] = set()
    level = {policy.run_id} if policy.run_id is not None else set()
    seen: set[int] = set()
    while level:
        seen |= level
        inputs = _inputs_of(level)
        runs = Run.objects.filter(pk__in=level).select_related("iteration").order_by("-pk")
        names = _names_of({item.artifact_id for item in inputs})
        for run in runs:
            mine = [item for item in inputs if item.run_id == run.pk]
            steps.append(LineageStep(run, tuple(_lineage_input(item, names) for item in mine)))
        found = {item.artifact_id for item in inputs}
        artifact_ids |= found
        makers = RunOutput.objects.filter(artifact__in=found).values_list("run", flat=True)
        level = set(makers) - seen
    snapshots = Snapshot.objects.filter(artifact__in=artifact_ids).order_by("pk")
    return Lineage(policy, tuple(steps), tuple(snapshots))


def learners_of(artifact: Artifact) -> Learners:
    """Return every version that learned from `artifact`, such as a snapshot to be withdrawn."""
    runs: set[int] = set()
    level = {artifact.pk}
    while level:
        readers = RunInput.objects.filter(artifact__in=level).values_list("run", flat=True)
        new = set(readers) - runs
        runs |= new
        level = set(RunOutput.objects.filter(run__in=new).values_list("artifact", flat=True))
    return Learners(
        tuple(RewardModelVersion.objects.filter(run__in=runs).order_by("pk")),
        tuple(PolicyVersion.objects.filter(run__in=runs).order_by("pk")),
    )


def latest_policies(limit: int = 2) -> list[PolicyVersion]:
    """Return the promoted policies, the newest first: those that serve the next round."""
    promoted = PolicyVersion.objects.filter(promoted_at__isnull=False)
    return list(promoted.select_related("artifact").order_by("-promoted_at", "-pk")[:limit])


def latest_reward_model(axis: str) -> RewardModelVersion | None:
    """Return the newest reward model of an axis."""
    versions = RewardModelVersion.objects.filter(axis=axis).select_related("artifact")
    return versions.order_by("-pk").first()


def run_metrics(run: Run, after_step: int = -1) -> list[dict[str, Any]]:
    """Return the rows of metrics beyond `after_step`, in order of their `step`."""
    rows = RunMetric.objects.filter(run=run, step__gt=after_step).order_by("step")
    return [{"step": step, **values} for step, values in rows.values_list("step", "values")]


def claimable_run_ids(*, stale_after_seconds: float) -> list[int]:
    """Return the runs that wait for a worker, or whose worker's heart has stopped; oldest first."""
    stale = Q(
        state=Run.State.RUNNING,
        heartbeat_at__lt=Now() - timedelta(seconds=stale_after_seconds),
    )
    runs = Run.objects.filter(Q(state=Run.State.QUEUED) | stale)
    return list(runs.order_by("pk").values_list("pk", flat=True))


def is_cancel_requested(run: Run) -> bool:
    """Whether somebody has asked to end this running run."""
    asked = Run.objects.filter(pk=run.pk, state=Run.State.RUNNING)
    return asked.filter(cancel_requested_at__isnull=False).exists()


def _inputs_of(run_ids: Iterable[int]) -> list[RunInput]:
    inputs = RunInput.objects.filter(run__in=run_ids).select_related("artifact")
    return list(inputs.order_by("run", "role"))


def _lineage_input(item: RunInput, names: dict[int, list[str]]) -> LineageInput:
    return LineageInput(item.role, item.artifact, tuple(names.get(item.artifact_id, ())))


def _names_of(artifact_ids: set[int]) -> dict[int, list[str]]:
    """Return the names of the versions and snapshots that these artifacts are known as."""
    names: dict[int, list[str]] = {}
    tables: tuple[QuerySet[Any], ...] = (
        PolicyVersion.objects.all(),
        RewardModelVersion.objects.all(),
        Snapshot.objects.all(),
    )
    for table in tables:
        rows = table.filter(artifact__in=artifact_ids).order_by("pk")
        for artifact_id, name in rows.values_list("artifact", "name"):
            names.setdefault(artifact_id, []).append(name)
    return names
