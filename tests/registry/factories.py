"""Runs for the tests of the registry: made, claimed, and with outputs as a trainer leaves them."""

import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.utils import timezone

from records.policy_configs import EvaluationConfig, SFTConfig
from records.preferences import Axis
from records.reward_configs import RewardModelConfig
from records.run_configs import RunConfig, RunKind
from registry.models import Artifact, Run
from registry.services import claim_run, create_run
from tests.factories import make_artifact

STALE_SECONDS = 60.0


def make_run(
    kind: RunKind = RunKind.SFT,
    *,
    config: RunConfig | None = None,
    inputs: Mapping[str, Artifact] | None = None,
    **values: Any,
) -> Run:
    defaults: dict[RunKind, RunConfig] = {
        RunKind.SFT: SFTConfig(seed=7),
        RunKind.REWARD_MODEL: RewardModelConfig(axis=Axis.SAFETY),
        RunKind.EVALUATION: EvaluationConfig(),
    }
    return create_run(
        kind=kind,
        config=config or defaults[kind],
        inputs={"policy": make_artifact()} if inputs is None else inputs,
        **values,
    )


def claimed(run: Run, worker: str = "worker-1") -> tuple[Run, uuid.UUID]:
    """Claim a queued run; return it with its token."""
    row = claim_run(run_id=run.pk, worker=worker, stale_after_seconds=STALE_SECONDS)
    assert row is not None
    assert row.claim_token is not None
    return row, row.claim_token


def stop_heart(run: Run, seconds: float = 2 * STALE_SECONDS) -> None:
    """Let the last heartbeat be `seconds` ago, as if the worker had died then."""
    then = timezone.now() - timedelta(seconds=seconds)
    Run.objects.filter(pk=run.pk).update(heartbeat_at=then)


def write_outputs(run: Run, summary: dict[str, Any] | None = None, **texts: str) -> dict[str, Any]:
    """Leave output folders and `result.json` as a trainer does; return the result."""
    directory = run.directory
    paths = {}
    for name, text in texts.items():
        paths[name] = directory.outputs / name
        paths[name].mkdir(exist_ok=True)
        (paths[name] / "model.txt").write_text(text)
    directory.write_result(summary if summary is not None else {"loss": 0.5}, paths)
    result = directory.read_result()
    assert result is not None
    return result
