"""Nudges: messages that say "look at the rows", sent once the rows are committed.

The row is the truth. A nudge that is lost, late or doubled changes nothing: beat sends another, and
whoever comes second finds nothing to claim.
"""

import logging
from collections.abc import Callable
from functools import partial

from django.db import transaction

from workers import redis_keys
from workers.alive import workers_alive
from workers.celery import app

__all__ = [
    "advance_iteration_later",
    "request_quality",
    "request_responses",
    "request_run",
    "request_simulated_crowd",
    "request_upload",
    "sampler_starts_looking",
    "workers_alive",
]

logger = logging.getLogger(__name__)

EXECUTE_RUN = "workers.execute_run"
SAMPLE_WAITING = "workers.sample_waiting_comparisons"
ADVANCE_ITERATION = "workers.advance_iteration"
SIMULATE_CROWD = "workers.run_simulated_crowd"
MEASURE_QUALITY = "workers.measure_quality"
WORK_ON_UPLOAD = "workers.work_on_upload"

NUDGE_SECONDS = 5
"""How long one nudge of the sampler stands for all: if its message is lost, the next goes out after
this time."""


def request_responses() -> None:
    """Wake the sampler after commit; a nudge that is already on its way serves for all."""
    _after_commit(_nudge_sampler)


def request_run(run_id: int) -> None:
    """Hand a queued run to the gpu queue after commit."""
    _after_commit(partial(_send, EXECUTE_RUN, run_id))


def advance_iteration_later(iteration_id: int) -> None:
    """Let the cpu queue look at what an iteration waits for, after commit."""
    _after_commit(partial(_send, ADVANCE_ITERATION, iteration_id))


def request_simulated_crowd(round_id: int, *, num_annotators: int = 32, seed: int = 0) -> None:
    """Let the cpu queue fill a round with the judgements of simulated annotators, after commit."""
    _after_commit(
        partial(_send, SIMULATE_CROWD, round_id, num_annotators=num_annotators, seed=seed)
    )


def request_quality() -> None:
    """Let the cpu queue work out the numbers on quality that are out of date, after commit."""
    _after_commit(partial(_send, MEASURE_QUALITY))


def request_upload(upload_id: int) -> None:
    """Let the cpu queue check an upload of items, or add them, after commit."""
    _after_commit(partial(_send, WORK_ON_UPLOAD, upload_id))


def sampler_starts_looking() -> None:
    """Forget the nudge: rows committed from now on need another one."""
    redis_keys.client().delete(redis_keys.SAMPLER_NUDGED)


def _after_commit(send: Callable[[], None]) -> None:
    """Send after commit; without Redis the rows wait, and beat nudges once it is back."""

    def send_or_log() -> None:
        try:
            send()
        except redis_keys.UNREACHABLE:
            logger.exception("Redis did not take a nudge; beat sends another")

    transaction.on_commit(send_or_log)


def _nudge_sampler() -> None:
    if redis_keys.client().set(redis_keys.SAMPLER_NUDGED, 1, nx=True, ex=NUDGE_SECONDS):
        _send(SAMPLE_WAITING)


def _send(name: str, *args: object, **options: object) -> None:
    app.send_task(name, args=args, kwargs=options)
