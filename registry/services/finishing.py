"""Finishing a run: its outputs become artifacts, and its weights a version."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from records.reward_configs import RewardModelConfig
from records.run_configs import RunKind
from registry.errors import ArtifactError, NameTakenError
from registry.models import (
    Artifact,
    PolicyVersion,
    RewardModelVersion,
    Run,
    RunInput,
    RunOutput,
)
from registry.services.artifacts import publish_artifact
from registry.services.runs import claim_lost, lock_claimed
from registry.services.versions import POLICY_KINDS, version_name


def finish_run(*, run: Run, token: uuid.UUID, result: Mapping[str, Any]) -> Run:
    """Publish the run's outputs, name its version and end it as finished.

    `result` is what `RunDirectory.read_result` returns. Called again with the same token after
    success, it returns the finished run and changes nothing; interrupted anywhere, it can be
    called again. A policy or a reward model becomes a version, named as `create_run` was told.

    Raises:
        ClaimLostError: The token is not the current one.
        ArtifactError: An output is missing, outside the run's folder, or of no known kind.
        NameTakenError: The version's name was taken meanwhile.
    """
    run.refresh_from_db()
    if run.claim_token != token:
        raise claim_lost(run)
    if run.state == Run.State.FINISHED:
        return run
    outputs = {
        name: publish_artifact(path=_output_path(run, path), kind=name, run=run)
        for name, path in result["outputs"].items()
    }
    with transaction.atomic():
        locked = lock_claimed(run, token)
        RunOutput.objects.bulk_create(
            RunOutput(run=locked, name=name, artifact=artifact)
            for name, artifact in outputs.items()
        )
        _create_version(locked, outputs, result["summary"])
        Run.objects.filter(pk=run.pk).update(
            state=Run.State.FINISHED, finished_at=Now(), result=result["summary"]
        )
    run.refresh_from_db()
    return run


def _output_path(run: Run, relative: str) -> Path:
    root = run.directory.root.resolve()
    path = (root / relative).resolve()
    if not path.is_relative_to(root):
        raise ArtifactError(f"output {relative!r} lies outside the folder of run {run.pk}")
    return path


def _create_version(run: Run, outputs: Mapping[str, Artifact], summary: object) -> None:
    """Create the version whose weights are among `outputs`."""
    kind = RunKind(run.kind)
    name = run.output_name or f"{kind}-{run.pk}"
    inputs = dict(RunInput.objects.filter(run=run).values_list("role", "artifact"))
    try:
        with transaction.atomic():
            if kind in POLICY_KINDS:
                PolicyVersion.objects.create(
                    name=name,
                    artifact=_required(run, outputs, "policy"),
                    run=run,
                    # Who samples from `policy` fine-tunes `start`; others go on from `policy`.
                    parent=PolicyVersion.objects.filter(
                        artifact=inputs.get("start", inputs.get("policy"))
                    )
                    .order_by("pk")
                    .first(),
                    iteration=run.iteration,
                    stage=run.stage,
                )
            elif version_name(kind, run.typed_config, name):
                RewardModelVersion.objects.create(
                    name=name,
                    axis=_scope_of(run),
                    artifact=_required(run, outputs, "reward_model"),
                    run=run,
                    parent=RewardModelVersion.objects.filter(artifact=inputs.get("previous"))
                    .order_by("pk")
                    .first(),
                    iteration=run.iteration,
                    metrics=summary,
                )
    except IntegrityError as error:
        raise NameTakenError("version", name) from error


def _scope_of(run: Run) -> str:
    config = run.typed_config
    assert isinstance(config, RewardModelConfig), f"run {run.pk} has a {type(config).__name__}"
    return config.scope


def _required(run: Run, outputs: Mapping[str, Artifact], name: str) -> Artifact:
    if name not in outputs:
        raise ArtifactError(f"run {run.pk} ended without its output {name!r}")
    return outputs[name]
