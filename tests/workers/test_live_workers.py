"""Real Celery workers, killed and stopped in the middle: runs go on where their checkpoint was."""

import os
import signal
import time

import pytest

from registry.models import Run
from tests.workers.live import (
    forget_messages,
    is_running,
    kill_worker,
    live_beat,
    live_worker,
    process_past_step,
    training_processes,
    wait_until,
)
from tests.workers.runs import (
    NUM_STEPS,
    failing_run,
    stored_metrics,
    training_run,
    uninterrupted_metrics,
)
from workers import dispatch
from workers.alive import workers_alive

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture(autouse=True)
def _empty_queues() -> None:
    forget_messages()


def state_of(run: Run) -> str:
    return Run.objects.get(pk=run.pk).state


def test_a_run_survives_the_death_of_its_worker_and_the_stop_of_the_next() -> None:
    run = training_run(num_steps=NUM_STEPS)
    dispatch.request_run(run.pk)
    with live_beat():
        # kill -9 of the worker: everything below it dies, and beat hands the run on.
        with live_worker("gpu", num_processes=1) as worker:
            wait_until(lambda: process_past_step(run.directory, 25))
            below = kill_worker(worker)
            assert len(below) >= 3  # the pool process, torchrun, the training process
            wait_until(lambda: not any(is_running(pid) for pid in below), timeout_seconds=10)
            assert state_of(run) == Run.State.RUNNING
        # SIGTERM of the next: it saves a checkpoint and hands the run back at once.
        with live_worker("cpu,gpu", num_processes=2) as worker:
            wait_until(lambda: process_past_step(run.directory, 60))
            worker.send_signal(signal.SIGTERM)
            worker.wait(timeout=60)
            assert state_of(run) == Run.State.QUEUED
            assert not training_processes(run.directory.root)
        with live_worker("cpu,gpu", num_processes=2):
            wait_until(lambda: state_of(run) not in (Run.State.QUEUED, Run.State.RUNNING))
    run = Run.objects.get(pk=run.pk)
    assert run.state == Run.State.FINISHED, run.error_traceback
    assert run.attempts == 2  # handing back costs none
    assert stored_metrics(run) == uninterrupted_metrics()


def test_a_worker_signs_that_it_is_alive_and_takes_messages_twice() -> None:
    run = failing_run()
    with live_worker("gpu", num_processes=2):
        wait_until(lambda: workers_alive()["gpu"])
        assert not workers_alive()["sampling"]
        for _ in range(3):
            dispatch.request_run(run.pk)
        wait_until(lambda: state_of(run) == Run.State.FAILED)
    run = Run.objects.get(pk=run.pk)
    assert (run.attempts, run.error_class) == (1, "ValueError")
    assert not workers_alive()["gpu"]


def test_a_pool_process_that_dies_leaves_its_run_to_the_next() -> None:
    run = training_run(num_steps=NUM_STEPS)
    dispatch.request_run(run.pk)
    direct = {"CONCORD_RUN_LAUNCHER": "direct"}
    with live_beat(), live_worker("cpu,gpu", num_processes=2, environment=direct):
        wait_until(lambda: process_past_step(run.directory, 25))
        supervisor = supervisor_of(run)
        os.kill(supervisor, signal.SIGKILL)
        killed_at = time.monotonic()
        wait_until(lambda: not training_processes(run.directory.root), timeout_seconds=10)
        wait_until(lambda: state_of(run) == Run.State.FINISHED)
        assert time.monotonic() - killed_at > 3  # not before its heart counted as stopped
    assert stored_metrics(run) == uninterrupted_metrics()


def supervisor_of(run: Run) -> int:
    """Return the pool process that supervises the run: it is part of the claim's name."""
    return int(Run.objects.get(pk=run.pk).claimed_by.rpartition(":")[2])
