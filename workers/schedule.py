"""What beat does every few seconds: it looks for work that no message reminds anybody of."""

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from annotation.blind_check_selectors import num_blind_pairs_waiting
from annotation.models import ItemUpload, Round
from annotation.selectors import num_waiting
from annotation.services import close_round, release_expired_leases
from records.errors import RecordError
from records.iteration_configs import IterationConfig
from registry.errors import RegistryError
from registry.models import Iteration, PolicyVersion, Snapshot
from registry.selectors import claimable_run_ids, latest_policies
from workers import dispatch, redis_keys
from workers.iterations import advance_iteration, start_iteration
from workers.models import IterationSchedule

logger = logging.getLogger(__name__)


def recover_lost_runs() -> list[int]:
    """Nudge the runs that wait for a worker or have lost theirs; return their ids.

    While messages wait in the gpu queue nothing is sent: they are the nudges, or whoever takes
    them will look again. So a long queue never grows by being reminded of.
    """
    run_ids = claimable_run_ids(stale_after_seconds=settings.RUN_STALE_SECONDS)
    if not run_ids or redis_keys.client().llen("gpu") > 0:
        return []
    for run_id in run_ids:
        dispatch.request_run(run_id)
    return run_ids


def advance_iterations() -> None:
    """Look at the running iteration, should the message of a finished run have been lost."""
    running = Iteration.objects.filter(state=Iteration.State.RUNNING)
    for iteration_id in running.values_list("pk", flat=True):
        advance_iteration(iteration_id)


def wake_sampler() -> int:
    """Nudge the sampler if prompts or blind checks wait for it; return how many."""
    waiting = num_waiting() + num_blind_pairs_waiting()
    if waiting:
        dispatch.request_responses()
    return waiting


def wake_uploads() -> list[int]:
    """Nudge the uploads that a worker has to do with, should a message be lost; return their ids.

    One that is being worked on is locked: whoever gets the message finds nothing to do.
    """
    waiting = ItemUpload.objects.filter(state__in=ItemUpload.WORKED_ON).order_by("pk")
    upload_ids = list(waiting.values_list("pk", flat=True))
    if not upload_ids or redis_keys.client().llen("cpu") > 0:
        return []
    for upload_id in upload_ids:
        dispatch.request_upload(upload_id)
    return upload_ids


def release_leases() -> int:
    """Give back the slots of annotators who have left; return how many."""
    return release_expired_leases()


def start_scheduled_iterations(now: datetime | None = None) -> list[Iteration]:
    """Start the iterations that are due, each exactly once however many ask; return them."""
    now = timezone.now() if now is None else now
    due = IterationSchedule.objects.filter(is_enabled=True, next_start_at__lte=now)
    started = [_start(schedule, now) for schedule in due.select_related("base_policy")]
    return [iteration for iteration in started if iteration is not None]


def _start(schedule: IterationSchedule, now: datetime) -> Iteration | None:
    """Start the iteration of one schedule, or note why there is none this time."""
    with transaction.atomic():
        is_ours = IterationSchedule.objects.filter(
            pk=schedule.pk, is_enabled=True, next_start_at=schedule.next_start_at
        ).update(next_start_at=_next_start(schedule, now))
        if not is_ours:
            return None
        iteration: Iteration | None = None
        try:
            with transaction.atomic():
                iteration = _start_iteration(schedule)
            outcome = f"started {iteration.name}"
        except (RegistryError, RecordError) as error:
            logger.warning("Schedule %s started nothing: %s", schedule.name, error)
            outcome = f"started nothing: {error}"
        values: dict[str, object] = {"last_outcome": outcome}
        if iteration is not None:
            values["last_iteration"] = iteration
        IterationSchedule.objects.filter(pk=schedule.pk).update(**values)
    return iteration


def _start_iteration(schedule: IterationSchedule) -> Iteration:
    """Start the next iteration.

    Raises:
        RegistryError: One is still running.
        RecordError: Nothing was judged since the last one, or the template is not valid.
    """
    if schedule.closes_rounds:
        for round_ in Round.objects.open().select_related("opened_by"):
            close_round(round_=round_, closed_by=round_.opened_by)
    rounds = fresh_rounds()
    if not rounds:
        raise RecordError("rounds", "nothing was judged since the last iteration")
    config = IterationConfig.from_json({**schedule.config, "rounds": [r.pk for r in rounds]})
    newest = (latest_policies(1) or [schedule.base_policy])[0]
    return start_iteration(
        name=next_iteration_name(),
        config=config,
        base_policy=schedule.base_policy,
        start_policy=newest,
        previous_policy=schedule.base_policy,
    )


def fresh_rounds() -> list[Round]:
    """Return the rounds with judgements that no iteration has frozen yet, the oldest first."""
    used = {
        name
        for snapshot in Snapshot.objects.filter(iterations__isnull=False).distinct()
        for name in snapshot.round_names
    }
    judged = Round.objects.filter(num_judged__gt=0).select_related("guidelines").order_by("pk")
    return [round_ for round_ in judged if round_.name not in used]


def next_iteration_name() -> str:
    """Return V1, V2, ...: the first name after all iterations that no policy has."""
    number = (Iteration.objects.aggregate(Max("number"))["number__max"] or 0) + 1
    while PolicyVersion.objects.filter(name=f"V{number}").exists():
        number += 1
    return f"V{number}"


def _next_start(schedule: IterationSchedule, now: datetime) -> datetime:
    """Return the first due time after `now`; times missed while beat was off are left out."""
    interval = timedelta(hours=schedule.every_hours)
    missed = (now - schedule.next_start_at) // interval
    return schedule.next_start_at + (missed + 1) * interval
