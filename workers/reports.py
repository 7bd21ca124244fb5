"""Reports on reward models: the runs that make one, and those of a scaling curve."""

from collections.abc import Sequence
from dataclasses import replace

from django.db import transaction

from records.errors import RecordError
from records.reward_configs import RewardEvaluationConfig, RewardModelConfig
from records.run_configs import RunKind
from registry.models import Artifact, RewardModelVersion, Run, Snapshot
from workers.queueing import queue_run

SHARES = (0.125, 0.25, 0.5)
"""Shares of a model's pairs at which its curve over data is measured; the model itself is 1."""


def start_reward_report(
    *,
    version: RewardModelVersion,
    snapshots: Sequence[Snapshot],
    config: RewardEvaluationConfig,
    previous: RewardModelVersion | None = None,
) -> Run:
    """Queue a run that reports on a reward model.

    Args:
        version: What is reported on.
        snapshots: Their held-out sides are scored, the newest first.
        config: How.
        previous: What it is compared with on the same pairs.

    Raises:
        RecordError: There is no snapshot, or a model is to be compared with itself.
    """
    if not snapshots:
        raise RecordError("snapshots", "a report needs at least one snapshot")
    if previous is not None and previous.artifact_id == version.artifact_id:
        raise RecordError("previous", f"{previous} is the model itself; choose another")
    newest, *others = snapshots
    inputs = {"reward_model": version.artifact, "snapshot": newest.artifact}
    inputs |= {f"mixture_{i}": snapshot.artifact for i, snapshot in enumerate(others)}
    if previous is not None:
        inputs["previous"] = previous.artifact
    return queue_run(
        kind=RunKind.REWARD_EVALUATION,
        config=config,
        inputs=inputs,
        name=f"Report on {version}",
    )


def start_scaling(*, version: RewardModelVersion) -> list[Run]:
    """Queue the runs of a reward model's curve over data; return those that were not there.

    Each learns as the model did, from a share of the pairs, and is measured on the same held-out
    ones. A share whose run failed or was cancelled is queued anew.

    Raises:
        RecordError: No run of ours trained the model.
    """
    inputs, config = training_of(version)
    with transaction.atomic():
        RewardModelVersion.objects.select_for_update().get(pk=version.pk)  # two clicks, one curve
        ended_badly = {Run.State.FAILED, Run.State.CANCELLED}
        known = scaling_runs(version)
        there = {share for share, run in known if run.state not in ended_badly}
        return [
            queue_run(
                kind=RunKind.REWARD_MODEL,
                config=replace(config, data_share=share),
                inputs=inputs,
                name=f"{version} on {100 * share:g}% of its pairs",
            )
            for share in SHARES
            if share not in there
        ]


def scaling_runs(version: RewardModelVersion) -> list[tuple[float, Run]]:
    """Return the runs that learn as `version` did from a share of its pairs, with their shares."""
    try:
        inputs, config = training_of(version)
    except RecordError:
        return []
    candidates = Run.objects.filter(kind=RunKind.REWARD_MODEL, config__data_share__lt=1)
    found = []
    for run in candidates.prefetch_related("run_inputs").order_by("pk"):
        own = run.typed_config
        assert isinstance(own, RewardModelConfig), f"run {run.pk} has a {type(own).__name__}"
        artifacts = {item.role: item.artifact_id for item in run.run_inputs.all()}
        is_same = artifacts == {role: artifact.pk for role, artifact in inputs.items()}
        if is_same and replace(own, data_share=1.0) == config:
            found.append((own.data_share, run))
    return found


def training_of(version: RewardModelVersion) -> tuple[dict[str, Artifact], RewardModelConfig]:
    """Return what the run that trained `version` read, but for its predecessor, and its config.

    Raises:
        RecordError: No run of ours trained it.
    """
    if version.run is None:
        raise RecordError("version", f"{version} was brought in: what it learned from is not known")
    config = version.run.typed_config
    assert isinstance(config, RewardModelConfig), f"run {version.run_id} made a reward model"
    items = version.run.run_inputs.exclude(role="previous").select_related("artifact")
    return {item.role: item.artifact for item in items}, config
