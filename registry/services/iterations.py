"""Iterations: starting one, moving it on, ending it."""

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.db.models.functions import Now

from registry.errors import IterationRunningError, NameTakenError, TransitionError
from registry.models import Iteration, PolicyVersion, Snapshot


def create_iteration(
    *,
    name: str,
    config: Mapping[str, Any],
    base_policy: PolicyVersion,
    start_policy: PolicyVersion,
    previous_policy: PolicyVersion,
) -> Iteration:
    """Start an iteration at its first stage.

    Raises:
        IterationRunningError: One is still running; the database allows one at a time.
        NameTakenError: The name belongs to an earlier iteration.
    """
    last = Iteration.objects.aggregate(Max("number"))["number__max"] or 0
    try:
        with transaction.atomic():
            return Iteration.objects.create(
                number=last + 1,
                name=name,
                config=dict(config),
                base_policy=base_policy,
                start_policy=start_policy,
                previous_policy=previous_policy,
            )
    except IntegrityError as error:
        running = Iteration.objects.filter(state=Iteration.State.RUNNING).first()
        if running is not None:
            raise IterationRunningError(running.name) from error
        raise NameTakenError("iteration", name) from error


def set_iteration_stage(
    *, iteration: Iteration, stage: str, expected: str, snapshot: Snapshot | None = None
) -> bool:
    """Move a running iteration from stage `expected` to `stage`; False if it was elsewhere.

    Compare-and-set: of two workers that see a stage done, one moves the iteration on.
    """
    values: dict[str, Any] = {"stage": Iteration.Stage(stage)}
    if snapshot is not None:
        values["snapshot"] = snapshot
    moved = Iteration.objects.filter(
        pk=iteration.pk, state=Iteration.State.RUNNING, stage=Iteration.Stage(expected)
    ).update(**values)
    iteration.refresh_from_db()
    return moved == 1


def end_iteration(*, iteration: Iteration, state: str, error: str = "") -> Iteration:
    """End a running iteration as finished, failed or stopped; ending it so again changes nothing.

    A finished iteration stands at stage `done`; the others keep the stage they ended in.

    Raises:
        TransitionError: It has already ended otherwise.
        ValueError: `state` is not a final state, or a failure comes without `error`.
    """
    state = Iteration.State(state)
    if state is Iteration.State.RUNNING:
        raise ValueError("state 'running' does not end an iteration")
    if state is not Iteration.State.FINISHED and not error:
        raise ValueError(f"an iteration that has {state.value} says why: error must not be empty")
    values: dict[str, Any] = {"state": state, "error": error, "finished_at": Now()}
    if state is Iteration.State.FINISHED:
        values["stage"] = Iteration.Stage.DONE
    ended = Iteration.objects.filter(pk=iteration.pk, state=Iteration.State.RUNNING).update(
        **values
    )
    iteration.refresh_from_db()
    if not ended and iteration.state != state:
        raise TransitionError(f"iteration {iteration.name}", iteration.state, "a running one")
    return iteration
