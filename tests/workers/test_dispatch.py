"""Nudges go out after commit, to the right queue, and never break what they follow."""

import json
import subprocess
import sys

import pytest
from django.conf import settings
from django.db import transaction

from tests.workers.live import environment_on_test_database, forget_messages
from workers import alive, dispatch, redis_keys
from workers.alive import AliveThread, workers_alive
from workers.celery import app

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _empty_queues() -> None:
    forget_messages()


def messages(queue: str) -> list[str]:
    """Return the names of the tasks that wait in a queue."""
    raw = redis_keys.client().lrange(queue, 0, -1)
    return [json.loads(message)["headers"]["task"] for message in raw]


def test_each_nudge_goes_to_its_queue() -> None:
    dispatch.request_run(1)
    dispatch.request_responses()
    dispatch.advance_iteration_later(1)
    dispatch.request_simulated_crowd(1, num_annotators=4)
    assert messages("gpu") == [dispatch.EXECUTE_RUN]
    assert messages("sampling") == [dispatch.SAMPLE_WAITING]
    assert set(messages("cpu")) == {dispatch.ADVANCE_ITERATION, dispatch.SIMULATE_CROWD}


def test_every_nudge_and_every_reminder_of_beat_is_a_task_that_exists() -> None:
    app.loader.import_default_modules()
    names = {dispatch.EXECUTE_RUN, dispatch.SAMPLE_WAITING, dispatch.ADVANCE_ITERATION}
    names |= {dispatch.SIMULATE_CROWD}
    names |= {entry["task"] for entry in app.conf.beat_schedule.values()}
    assert names <= set(app.tasks)


def test_nothing_is_sent_before_the_commit_nor_after_a_rollback() -> None:
    with transaction.atomic():
        dispatch.request_run(1)
        assert messages("gpu") == []
    assert len(messages("gpu")) == 1
    with transaction.atomic():
        dispatch.request_run(2)
        transaction.set_rollback(True)
    assert len(messages("gpu")) == 1


def test_many_prompts_are_one_nudge_until_the_sampler_starts_looking() -> None:
    for _ in range(5):
        dispatch.request_responses()
    assert len(messages("sampling")) == 1
    dispatch.sampler_starts_looking()
    dispatch.request_responses()
    assert len(messages("sampling")) == 2


def test_a_queue_is_alive_from_the_first_sign_of_a_worker_to_its_leave() -> None:
    assert workers_alive() == {"cpu": False, "gpu": False, "sampling": False}
    thread = AliveThread(["cpu", "sampling"])
    thread.start()
    while not workers_alive()["sampling"]:
        thread.join(timeout=0.01)
    assert workers_alive() == {"cpu": True, "gpu": False, "sampling": True}
    thread.finish()
    assert workers_alive() == {"cpu": False, "gpu": False, "sampling": False}


def test_a_worker_that_stopped_signing_is_dead_after_ten_seconds() -> None:
    thread = AliveThread(["gpu"])
    key = redis_keys.alive_key("gpu")
    now = alive.time.time()
    redis_keys.client().zadd(key, {"killed": now - 9.0})
    assert workers_alive()["gpu"]
    redis_keys.client().zadd(key, {"killed": now - 11.0})
    assert not workers_alive()["gpu"]
    thread.start()  # any living worker sweeps up after the dead
    while redis_keys.client().zscore(key, "killed") is not None:
        thread.join(timeout=0.01)
    thread.finish()


def test_without_redis_nudges_are_logged_and_no_worker_seems_alive() -> None:
    code = """
import django; django.setup()
from workers import dispatch
dispatch.request_run(1)
dispatch.request_responses()
print(sorted(dispatch.workers_alive().items()))
"""
    environment = environment_on_test_database({"REDIS_URL": "redis://127.0.0.1:1/0"})
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[('cpu', False), ('gpu', False), ('sampling', False)]\n"
    assert done.stderr.count("Redis did not take a nudge") == 2
