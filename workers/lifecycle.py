"""What a worker process does when it starts and when it is told to stop."""

import mmap
import os
from typing import Any

from billiard.process import current_process
from celery.signals import worker_process_init, worker_ready, worker_shutdown, worker_shutting_down

from workers.alive import AliveThread
from workers.processes import die_with_parent

_stopping = mmap.mmap(-1, 1)
"""One byte that a worker's main process shares with its pool: set once it is told to stop.

Shared memory instead of an event: a pool process killed while it looks leaves no lock behind.
"""
_alive_threads: list[AliveThread] = []
_main_pid = os.getpid()
"""The worker's main process: it imports this module before it starts its pool."""


def is_stopping() -> bool:
    """Return whether this worker was told to stop: a supervisor hands its run back then."""
    return _stopping[0] != 0


@worker_process_init.connect
def _tie_pool_process_to_worker(**_: Any) -> None:  # noqa: ANN401 - the signal's own arguments
    """Let a pool process die with the worker; the solo pool is the worker itself."""
    if current_process().name != "MainProcess":
        die_with_parent(_main_pid)


@worker_ready.connect
def _begin_to_sign(sender: Any, **_: Any) -> None:  # noqa: ANN401
    thread = AliveThread(sender.app.amqp.queues.consume_from)
    thread.start()
    _alive_threads.append(thread)


@worker_shutting_down.connect
def _announce_stop(**_: Any) -> None:  # noqa: ANN401
    _stopping[0] = 1


@worker_shutdown.connect
def _end_signing(**_: Any) -> None:  # noqa: ANN401
    while _alive_threads:
        _alive_threads.pop().finish()
