"""Runs: making, claiming, following and ending them.

A claim is a compare-and-set that leaves a fresh token in the row. Every later write names the
token, so a worker that was believed dead and comes back can change nothing.
"""

import uuid
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet, TextField, Value
from django.db.models.functions import Cast, Coalesce, Concat, Now

from records.run_configs import RunConfig, RunKind
from records.run_kinds import CONFIGS
from records.rundirs import RunDirectory, RunSpec
from records.rundirs import RunInput as SpecInput
from registry.commits import code_commit
from registry.errors import ClaimLostError, NameTakenError, TransitionError
from registry.models import Artifact, Iteration, Run, RunInput, RunMetric
from registry.paths import run_path
from registry.services.versions import is_name_free, version_name


def create_run(
    *,
    kind: RunKind,
    config: RunConfig,
    inputs: Mapping[str, Artifact],
    iteration: Iteration | None = None,
    stage: str = "",
    name: str = "",
    output_name: str = "",
    max_attempts: int = 3,
) -> Run:
    """Queue a run and write its run directory.

    Args:
        kind: What it does.
        config: Its config, of the kind's class.
        inputs: What it reads, by the roles that the config class names.
        iteration: The iteration it belongs to.
        stage: The iteration's stage it is for.
        name: What people see; empty leaves "<kind> run <id>".
        output_name: Name of the version it makes, "V1"; empty leaves "<kind>-<id>".
        max_attempts: How often a worker may start it before it fails for good.

    Raises:
        ValueError: `config` is not of the kind's class, or `max_attempts` is not positive.
        NameTakenError: A version, or an unfailed run that is to make one, has `output_name`.
    """
    if type(config) is not CONFIGS[kind]:
        wanted = CONFIGS[kind].__name__
        raise ValueError(f"a {kind} run takes a {wanted}, not a {type(config).__name__}")
    if max_attempts < 1:
        raise ValueError(f"max_attempts {max_attempts} is below the lowest allowed value 1")
    version = version_name(kind, config, output_name) if output_name else None
    if version and not is_name_free(version):
        raise NameTakenError("version", output_name)
    with transaction.atomic():
        run = Run(
            kind=kind.value,
            name=name,
            iteration=iteration,
            stage=stage,
            config=config.to_json(),
            seed=config.seed,
            code_commit=code_commit(),
            output_name=output_name,
            version_key=version.key if version else "",
            max_attempts=max_attempts,
        )
        _save_with_key(run)
        RunInput.objects.bulk_create(
            RunInput(run=run, role=role, artifact=artifact) for role, artifact in inputs.items()
        )
        spec = RunSpec(
            kind=kind,
            config=config,
            inputs={role: SpecInput(a.location, a.digest) for role, a in inputs.items()},
            code_commit=run.code_commit,
        )
        RunDirectory.create(run_path(run.pk), spec)
    return run


def claim_run(*, run_id: int, worker: str, stale_after_seconds: float) -> Run | None:
    """Take a run to work on: a queued one, or one whose worker's heart has stopped.

    Of any number of workers that ask at once, one gets the run, with a fresh claim token. None
    means that there is nothing to do: it is in good hands, has ended, was cancelled while nobody
    held it, or its workers have died as often as it may be started, which fails it here.
    """
    stale = Q(
        state=Run.State.RUNNING,
        heartbeat_at__lt=Now() - timedelta(seconds=stale_after_seconds),
    )
    free = Run.objects.filter(Q(state=Run.State.QUEUED) | stale, pk=run_id)
    token = uuid.uuid4()
    claimed = free.filter(attempts__lt=F("max_attempts"), cancel_requested_at=None).update(
        state=Run.State.RUNNING,
        claim_token=token,
        claimed_by=worker,
        heartbeat_at=Now(),
        started_at=Coalesce("started_at", Now()),
        attempts=F("attempts") + 1,
    )
    if claimed:
        return Run.objects.select_related("iteration").get(pk=run_id, claim_token=token)
    free.exclude(cancel_requested_at=None).update(
        state=Run.State.CANCELLED, claim_token=None, finished_at=Now()
    )
    _fail_exhausted(free.filter(attempts__gte=F("max_attempts")))
    return None


def beat_run(*, run: Run, token: uuid.UUID) -> bool:
    """Say that the worker is alive; False means that it has lost the run and must stop."""
    return _claimed(run, token).update(heartbeat_at=Now()) == 1


def record_metrics(*, run: Run, token: uuid.UUID, rows: Iterable[Mapping[str, Any]]) -> None:
    """Store rows of metrics, each with its `step`; a step that is there already is written over.

    Rows of one step are merged key by key, in the order given. So a delivery may be repeated, and
    a run that was resumed from a checkpoint replaces what came after it.

    Raises:
        ClaimLostError: The token is not the current one.
    """
    values: dict[int, dict[str, Any]] = {}
    for row in rows:
        step = values.setdefault(int(row["step"]), {})
        step.update((name, value) for name, value in row.items() if name != "step")
    if not values:
        return
    with transaction.atomic():
        lock_claimed(run, token)
        for stored in RunMetric.objects.filter(run=run, step__in=list(values)):
            values[stored.step] = {**stored.values, **values[stored.step]}
        RunMetric.objects.bulk_create(
            (RunMetric(run=run, step=step, values=row) for step, row in values.items()),
            update_conflicts=True,
            unique_fields=["run", "step"],
            update_fields=["values"],
        )


def fail_run(*, run: Run, token: uuid.UUID, failure: Mapping[str, str]) -> Run:
    """End a run as failed; `failure` is what `RunDirectory.read_failure` returns.

    Raises:
        ClaimLostError: The token is not the current one. Failing it twice is not an error.
    """
    ended = _claimed(run, token).update(
        state=Run.State.FAILED,
        finished_at=Now(),
        error_class=failure["error"],
        error_message=failure["message"],
        error_traceback=failure["traceback"],
    )
    return _after_end(run, token, ended, Run.State.FAILED)


def cancel_run_done(*, run: Run, token: uuid.UUID) -> Run:
    """End a run as cancelled, once its process has gone.

    Raises:
        ClaimLostError: The token is not the current one. Ending it twice is not an error.
    """
    ended = _claimed(run, token).update(state=Run.State.CANCELLED, finished_at=Now())
    return _after_end(run, token, ended, Run.State.CANCELLED)


def release_run(*, run: Run, token: uuid.UUID) -> bool:
    """Hand a run back to the queue because its worker is told to stop; that costs no attempt.

    False means that it was no longer this worker's.
    """
    released = _claimed(run, token).update(
        state=Run.State.QUEUED,
        claim_token=None,
        heartbeat_at=None,
        attempts=F("attempts") - 1,
    )
    return released == 1


def request_cancel(*, run: Run, by: str) -> Run:
    """Cancel a queued run at once, and ask the worker of a running one to end it.

    A run that has ended stays as it is.

    Args:
        run: The run.
        by: Who asks, a user name.
    """
    asked = {"cancel_requested_at": Now(), "cancel_requested_by": by}
    Run.objects.filter(pk=run.pk, state=Run.State.QUEUED).update(
        state=Run.State.CANCELLED, finished_at=Now(), **asked
    )
    Run.objects.filter(pk=run.pk, state=Run.State.RUNNING, cancel_requested_at=None).update(**asked)
    run.refresh_from_db()
    return run


def retry_run(*, run: Run) -> Run:
    """Queue a failed or cancelled run again, with all its attempts; it resumes its checkpoint.

    Raises:
        TransitionError: It has not failed and was not cancelled.
        NameTakenError: Another run makes its version meanwhile.
    """
    try:
        with transaction.atomic():
            queued = Run.objects.filter(
                pk=run.pk, state__in=[Run.State.FAILED, Run.State.CANCELLED]
            ).update(
                state=Run.State.QUEUED,
                attempts=0,
                claim_token=None,
                claimed_by="",
                heartbeat_at=None,
                cancel_requested_at=None,
                cancel_requested_by="",
                finished_at=None,
                error_class="",
                error_message="",
                error_traceback="",
            )
    except IntegrityError as error:
        raise NameTakenError("run that makes", run.output_name) from error
    run.refresh_from_db()
    if not queued:
        raise TransitionError(f"run {run.pk}", run.state, "a failed or cancelled one")
    return run


def lock_claimed(run: Run, token: uuid.UUID) -> Run:
    """Lock the row of a run until the transaction ends, if the token is the current one.

    Raises:
        ClaimLostError: It is not.
    """
    locked = _claimed(run, token).select_for_update(no_key=True).first()
    if locked is None:
        raise claim_lost(run)
    return locked


def claim_lost(run: Run) -> ClaimLostError:
    """Return the error that says in which state a lost run is now."""
    return ClaimLostError(run.pk, Run.objects.values_list("state", flat=True).get(pk=run.pk))


def _claimed(run: Run, token: uuid.UUID) -> QuerySet[Run]:
    return Run.objects.filter(pk=run.pk, state=Run.State.RUNNING, claim_token=token)


def _after_end(run: Run, token: uuid.UUID, ended: int, state: str) -> Run:
    run.refresh_from_db()
    if not ended and (run.state, run.claim_token) != (state, token):
        raise ClaimLostError(run.pk, run.state)
    return run


def _fail_exhausted(runs: QuerySet[Run]) -> None:
    runs.update(
        state=Run.State.FAILED,
        finished_at=Now(),
        error_class="WorkerDiedError",
        error_message=Concat(
            Value("The worker of this run died "),
            Cast("attempts", TextField()),
            Value(
                " times, which is as often as it may be started. See the worker's log for the "
                "cause (often too little memory), then retry the run: it resumes its checkpoint."
            ),
            output_field=TextField(),
        ),
    )


def _save_with_key(run: Run) -> None:
    try:
        with transaction.atomic():
            run.save(force_insert=True)
    except IntegrityError as error:
        if "registry_run_version_key_unique" in str(error):
            raise NameTakenError("run that makes", run.output_name) from error
        raise
