"""The iteration: a state machine over rows, moved on by whoever looks at it.

    snapshot -> reward_models -> rejection_sampling -> (ppo) -> evaluation -> promotion -> done

`advance_iteration` may be called at any time, any number of times, by several workers at once: it
locks the row, makes the runs that the stage needs if they are not there, and moves on once they
have finished. A run that failed or was cancelled, a reward model that does not pass its gate, and
a mistake in the config end the iteration with the reason.
"""

import logging
from enum import Enum

from django.db import IntegrityError, InterfaceError, OperationalError, transaction
from django.db.models import QuerySet

from annotation.models import Round
from annotation.snapshots import freeze_snapshot
from records.errors import RecordError
from records.iteration_configs import IterationConfig, Promotion
from records.reward_configs import RewardModelConfig
from registry import services
from registry.errors import IterationRunningError, TransitionError
from registry.models import Iteration, PolicyVersion, Run, Snapshot
from workers import dispatch
from workers.gates import has_won, reason_to_stop
from workers.stages import PlannedRun, candidate_of, planned_runs, stage_after

logger = logging.getLogger(__name__)

State, Stage = Iteration.State, Iteration.Stage


class _HaltedError(Exception):
    """The iteration cannot go on; carries the state it ends in."""

    def __init__(self, state: Iteration.State, reason: str) -> None:
        super().__init__(reason)
        self.state = state


class _Step(Enum):
    """What looking at a stage showed."""

    DONE = "done"
    WAITING = "waiting"


def start_iteration(
    *,
    name: str,
    config: IterationConfig,
    base_policy: PolicyVersion,
    start_policy: PolicyVersion,
    previous_policy: PolicyVersion,
) -> Iteration:
    """Start an iteration; the workers take it from here.

    Args:
        name: Name of the policy version to be.
        config: What it learns from and how.
        base_policy: Fine-tuned by rejection sampling, unless the config starts it from the newest;
            also the reference of the reported KL.
        start_policy: Sampled from, and the start of the reward models: the newest policy.
        previous_policy: What the candidate is compared with.

    Raises:
        IterationRunningError: One is still running.
        NameTakenError: The name belongs to an earlier iteration.
    """
    iteration = services.create_iteration(
        name=name,
        config=config.to_json(),
        base_policy=base_policy,
        start_policy=start_policy,
        previous_policy=previous_policy,
    )
    dispatch.advance_iteration_later(iteration.pk)
    return iteration


def advance_iteration(iteration_id: int) -> Iteration:
    """Move an iteration on as far as its runs allow, or end it with the reason why it cannot go on.

    Calling it again changes nothing until something else has changed.
    """
    try:
        with transaction.atomic():
            return _advance_locked(iteration_id)
    except _HaltedError as halted:
        state, reason = halted.state, str(halted)
    except (OperationalError, InterfaceError):
        raise  # the database is away: beat calls again
    except Exception as error:
        logger.exception("Iteration %s cannot go on", iteration_id)
        state, reason = State.FAILED, f"{type(error).__name__}: {error}"
    iteration = Iteration.objects.get(pk=iteration_id)
    return services.end_iteration(iteration=iteration, state=state, error=reason)


def retry_iteration(*, iteration: Iteration) -> Iteration:
    """Take a failed or stopped iteration up again where it ended.

    Its failed and cancelled runs are queued again, with all their attempts, and resume their
    checkpoints; what has finished stays.

    Raises:
        TransitionError: It is running or finished.
        IterationRunningError: Another one is running.
    """
    try:
        with transaction.atomic():
            reopened = Iteration.objects.filter(
                pk=iteration.pk, state__in=[State.FAILED, State.STOPPED]
            ).update(state=State.RUNNING, error="", finished_at=None)
            iteration.refresh_from_db()
            if not reopened:
                what = f"iteration {iteration.name}"
                raise TransitionError(what, iteration.state, "a failed or stopped one")
            for run in _runs_of(iteration):
                if run.state in (Run.State.FAILED, Run.State.CANCELLED):
                    services.retry_run(run=run)
                    dispatch.request_run(run.pk)
    except IntegrityError as error:
        running = Iteration.objects.get(state=State.RUNNING)
        raise IterationRunningError(running.name) from error
    dispatch.advance_iteration_later(iteration.pk)
    return iteration


def stop_iteration(*, iteration: Iteration, by: str, reason: str) -> Iteration:
    """End a running iteration because somebody says so, and cancel its runs.

    Raises:
        TransitionError: It has already ended otherwise.
    """
    with transaction.atomic():
        services.end_iteration(
            iteration=iteration, state=State.STOPPED, error=f"stopped by {by}: {reason}"
        )
        for run in _runs_of(iteration):
            services.request_cancel(run=run, by=by)
    return iteration


def accept_candidate(*, iteration: Iteration, by: str) -> PolicyVersion:
    """Promote the candidate of an iteration that waits for this decision, and finish it.

    Raises:
        TransitionError: The iteration is not waiting for a decision.
    """
    with transaction.atomic():
        candidate = _waiting_candidate(iteration)
        services.promote_policy(version=candidate, by=by)
        services.end_iteration(iteration=iteration, state=State.FINISHED)
    return candidate


def decline_candidate(*, iteration: Iteration, by: str, reason: str) -> Iteration:
    """End an iteration that waits for a decision without promoting its candidate.

    Raises:
        TransitionError: The iteration is not waiting for a decision.
    """
    with transaction.atomic():
        candidate = _waiting_candidate(iteration)
        error = f"{by} declined to promote {candidate.name}: {reason}"
        return services.end_iteration(iteration=iteration, state=State.STOPPED, error=error)


def _advance_locked(iteration_id: int) -> Iteration:
    iteration = _lock(iteration_id)
    config = IterationConfig.from_json(iteration.config) if iteration.is_running else None
    while config is not None and iteration.is_running and _step(iteration, config) is _Step.DONE:
        if iteration.stage == Stage.PROMOTION:
            services.end_iteration(iteration=iteration, state=State.FINISHED)
        else:
            services.set_iteration_stage(
                iteration=iteration,
                stage=stage_after(iteration.stage, config),
                expected=iteration.stage,
            )
    return iteration


def _lock(iteration_id: int) -> Iteration:
    """Lock the row against others who advance, not against rows that refer to it."""
    return (
        Iteration.objects.select_for_update(of=("self",), no_key=True)
        .select_related("base_policy", "start_policy", "previous_policy", "snapshot")
        .get(pk=iteration_id)
    )


def _step(iteration: Iteration, config: IterationConfig) -> _Step:
    """Do what the iteration's stage needs, once."""
    if iteration.stage == Stage.SNAPSHOT:
        _take_snapshot(iteration, config)
        return _Step.DONE
    if iteration.stage == Stage.PROMOTION:
        return _decide_promotion(iteration, config)
    runs = [_run_for(iteration, planned) for planned in planned_runs(iteration, config)]
    for run in runs:
        _halt_on_bad_end(run)
    if any(run.state != Run.State.FINISHED for run in runs):
        return _Step.WAITING
    if iteration.stage == Stage.REWARD_MODELS:
        _pass_gate(runs, config)
    return _Step.DONE


def _take_snapshot(iteration: Iteration, config: IterationConfig) -> None:
    if config.snapshot is not None:
        snapshot = Snapshot.objects.filter(pk=config.snapshot).first()
        if snapshot is None:
            raise RecordError("snapshot", f"there is no snapshot {config.snapshot}")
    else:
        rounds = Round.objects.in_bulk(config.rounds)
        missing = [pk for pk in config.rounds if pk not in rounds]
        if missing:
            raise RecordError("rounds", f"there are no rounds {missing}")
        if not rounds:
            raise RecordError("rounds", "an iteration needs rounds or a snapshot")
        snapshot = freeze_snapshot(
            rounds=[rounds[pk] for pk in config.rounds],
            test_share=config.test_share,
            name=iteration.name,
        )
    iteration.snapshot = snapshot
    services.set_iteration_stage(
        iteration=iteration, stage=Stage.SNAPSHOT, expected=Stage.SNAPSHOT, snapshot=snapshot
    )


def _run_for(iteration: Iteration, planned: PlannedRun) -> Run:
    """Return the run that does what is planned; make and request it if there is none."""
    run = _runs_of(iteration).filter(stage=iteration.stage, name=planned.name).first()
    if run is None:
        run = services.create_run(
            kind=planned.kind,
            config=planned.config,
            inputs=planned.inputs(),
            iteration=iteration,
            stage=iteration.stage,
            name=planned.name,
            output_name=planned.output_name,
        )
        dispatch.request_run(run.pk)
    return run


def _runs_of(iteration: Iteration) -> QuerySet[Run]:
    return Run.objects.filter(iteration=iteration).order_by("-pk")


def _halt_on_bad_end(run: Run) -> None:
    if run.state == Run.State.FAILED:
        reason = f"run {run.pk} ({run.name}) failed: {run.error_class}: {run.error_message}"
        raise _HaltedError(State.FAILED, reason)
    if run.state == Run.State.CANCELLED:
        by = run.cancel_requested_by or "nobody named"
        raise _HaltedError(State.STOPPED, f"run {run.pk} ({run.name}) was cancelled by {by}")


def _pass_gate(runs: list[Run], config: IterationConfig) -> None:
    models = {run: RewardModelConfig.from_json(run.config) for run in runs}
    reasons = [
        reason_to_stop(model.axis, run.result or {}, config.gate)
        for run, model in models.items()
        if not model.is_general  # nothing is optimised against the monitor
    ]
    if any(reasons):
        raise _HaltedError(State.STOPPED, "; ".join(reason for reason in reasons if reason))


def _decide_promotion(iteration: Iteration, config: IterationConfig) -> _Step:
    """Promote a winner where the config says so; otherwise a lead decides."""
    evaluation = _runs_of(iteration).filter(stage=Stage.EVALUATION).first()
    assert evaluation is not None
    summary = evaluation.result or {}
    is_automatic = config.promotion is Promotion.WINNER
    if not is_automatic or not has_won(summary, win_rate_to_exceed=config.promotion_win_rate):
        return _Step.WAITING
    candidate = candidate_of(iteration)
    assert candidate is not None
    services.promote_policy(version=candidate, by=f"iteration {iteration.name}")
    return _Step.DONE


def _waiting_candidate(iteration: Iteration) -> PolicyVersion:
    locked = _lock(iteration.pk)
    candidate = candidate_of(locked)
    if not locked.is_running or locked.stage != Stage.PROMOTION or candidate is None:
        what = f"iteration {locked.name}"
        state = f"{locked.state} at stage {locked.stage}"
        raise TransitionError(what, state, "one that waits for a decision")
    return candidate
