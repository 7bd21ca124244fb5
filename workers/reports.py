"""Reports on reward models: the run that makes one, from versions and snapshots."""

from collections.abc import Sequence

from django.db import transaction

from records.configs import RewardEvaluationConfig, RunKind
from records.errors import RecordError
from registry.models import RewardModelVersion, Run, Snapshot
from registry.services import create_run
from workers import dispatch


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
    with transaction.atomic():
        run = create_run(
            kind=RunKind.REWARD_EVALUATION,
            config=config,
            inputs=inputs,
            name=f"report on {version}",
        )
        dispatch.request_run(run.pk)
    return run
