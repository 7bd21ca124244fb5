"""The supervisor sees a run through: publishes it, fails it, cancels it, resumes it."""

import os
import signal
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from records.policy_configs import PPOConfig, RejectionSamplingConfig, SFTConfig
from records.reward_configs import RewardModelConfig
from records.run_configs import RunConfig, RunKind
from records.rundirs import RunDirectory
from registry.models import RewardModelVersion, Run
from registry.services import claim_run, request_cancel
from tests.workers.live import is_running, process_past_step, training_processes, wait_until
from tests.workers.runs import (
    NUM_STEPS,
    failing_run,
    stored_metrics,
    training_run,
    uninterrupted_metrics,
    written_metrics,
)
from workers.launcher import command_of, environment_of, execute_run

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _quick(settings: Settings) -> None:
    settings.RUN_HEARTBEAT_SECONDS = 1
    settings.RUN_STALE_SECONDS = 3
    settings.RUN_GRACE_SECONDS = 20
    settings.RUN_LAUNCHER = "direct"


def in_background(work: Callable[[], None]) -> threading.Thread:
    def close_afterwards() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=close_afterwards)
    thread.start()
    return thread


def refreshed(run: Run) -> Run:
    return Run.objects.get(pk=run.pk)


def test_a_run_is_seen_through_to_a_version_and_a_second_delivery_changes_nothing() -> None:
    run = training_run(num_steps=6)
    execute_run(run.pk)
    finished = refreshed(run)
    assert finished.state == Run.State.FINISHED, finished.error_traceback
    assert RewardModelVersion.objects.get(run=run).name == "RM6"
    assert [row["step"] for row in stored_metrics(run)] == [1, 2, 3, 4, 5, 6]
    assert stored_metrics(run) == written_metrics(run.directory)

    execute_run(run.pk)
    assert refreshed(run).finished_at == finished.finished_at


def test_an_exception_in_the_run_fails_it_at_once_with_class_message_and_traceback() -> None:
    run = failing_run()
    execute_run(run.pk)
    run = refreshed(run)
    assert (run.state, run.attempts, run.error_class) == (Run.State.FAILED, 1, "ValueError")
    assert "no safety pair is left to train on" in run.error_message
    assert "rewardmodels/training.py" in run.error_traceback
    assert "ValueError" in (run.directory.root / "log.txt").read_text()


def test_a_process_killed_under_torchrun_is_resumed_and_its_metrics_equal_an_uninterrupted_runs(
    settings: Settings,
) -> None:
    settings.RUN_LAUNCHER = "torchrun"
    run = training_run(num_steps=NUM_STEPS)
    thread = in_background(lambda: execute_run(run.pk))
    first = wait_until(lambda: process_past_step(run.directory, 25))
    os.kill(first, signal.SIGKILL)
    thread.join()

    run = refreshed(run)
    assert (run.state, run.attempts) == (Run.State.FINISHED, 1), run.error_traceback
    assert "Signal 9 (SIGKILL)" in (run.directory.root / "log.txt").read_text()
    assert stored_metrics(run) == uninterrupted_metrics()
    assert not (run.directory.root / "torchrun").exists()


def test_a_run_of_two_processes_of_which_one_is_killed_is_resumed() -> None:
    run = training_run(num_steps=NUM_STEPS, num_processes=2)
    thread = in_background(lambda: execute_run(run.pk))
    wait_until(lambda: process_past_step(run.directory, 15))
    os.kill(max(training_processes(run.directory.root)), signal.SIGKILL)
    thread.join()

    run = refreshed(run)
    assert (run.state, run.attempts) == (Run.State.FINISHED, 1), run.error_traceback
    log = (run.directory.root / "log.txt").read_text()
    assert "as another one is gone" in log
    steps = [(row["step"], row["pairs"]) for row in stored_metrics(run)]
    assert steps == [(step, 1) for step in range(1, NUM_STEPS + 1)]


def test_a_process_killed_at_its_last_attempt_fails_the_run() -> None:
    run = training_run(num_steps=3000)
    Run.objects.filter(pk=run.pk).update(max_attempts=1)
    thread = in_background(lambda: execute_run(run.pk))
    (process,) = wait_until(lambda: training_processes(run.directory.root))
    os.kill(process, signal.SIGKILL)
    thread.join()
    run = refreshed(run)
    assert (run.state, run.error_class) == (Run.State.FAILED, "ProcessDiedError")
    assert "killed at each of 1 attempts" in run.error_message


def test_a_cancelled_run_saves_a_checkpoint_and_ends() -> None:
    run = training_run(num_steps=3000, checkpoint_every=1000)
    thread = in_background(lambda: execute_run(run.pk))
    process = wait_until(lambda: process_past_step(run.directory, 5))
    request_cancel(run=refreshed(run), by="lead")
    thread.join()
    run = refreshed(run)
    assert run.state == Run.State.CANCELLED
    assert not is_running(process)
    assert len(list(run.directory.checkpoints.glob("step-*"))) == 1


def test_a_supervisor_that_lost_its_claim_kills_the_process_and_writes_nothing() -> None:
    run = training_run(num_steps=3000)
    thread = in_background(lambda: execute_run(run.pk))
    (process,) = wait_until(lambda: training_processes(run.directory.root))
    Run.objects.filter(pk=run.pk).update(heartbeat_at=timezone.now() - timedelta(minutes=1))
    taken = claim_run(run_id=run.pk, worker="another", stale_after_seconds=3)
    thread.join()
    assert taken is not None
    assert not is_running(process)
    run = refreshed(run)
    assert (run.state, run.claim_token) == (Run.State.RUNNING, taken.claim_token)


def test_a_result_that_was_never_published_is_published_without_another_start() -> None:
    run = training_run(num_steps=3)
    output = run.directory.outputs / "reward_model"
    output.mkdir()
    (output / "weights").write_text("weights")
    run.directory.write_result({"loss": 0.5}, {"reward_model": output})
    execute_run(run.pk)
    assert refreshed(run).state == Run.State.FINISHED
    assert not (run.directory.root / "log.txt").exists()


def test_a_result_that_cannot_be_published_fails_the_run() -> None:
    run = training_run(num_steps=3)
    run.directory.write_result({}, {"reward_model": run.directory.outputs / "absent"})
    execute_run(run.pk)
    run = refreshed(run)
    assert (run.state, run.error_class) == (Run.State.FAILED, "ArtifactError")


def test_the_command_is_torchrun_unless_a_run_of_one_process_may_do_without(
    settings: Settings, tmp_path: Path
) -> None:
    directory = RunDirectory(tmp_path)
    module = ["-m", "policies", "rejection-sampling", str(tmp_path)]
    config = RejectionSamplingConfig()
    settings.RUN_PROCESSES = 1
    assert command_of(RunKind.REJECTION_SAMPLING, config, directory)[1:] == module
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    settings.RUN_PROCESSES = 2
    command = command_of(RunKind.REJECTION_SAMPLING, config, directory)
    assert command[1:5] == torchrun
    assert command[-4:] == module
    settings.RUN_PROCESSES, settings.RUN_LAUNCHER = 1, "torchrun"
    assert "torch.distributed.run" in command_of(RunKind.REJECTION_SAMPLING, config, directory)


@pytest.mark.parametrize(
    ("kind", "config", "offered", "expected"),
    [
        (RunKind.SFT, SFTConfig(), 4, 4),  # as many as the worker offers
        (RunKind.SFT, SFTConfig(num_processes=2), 4, 2),  # as many as the run asks for
        (RunKind.SFT, SFTConfig(num_processes=8), 1, 8),
        (RunKind.PPO, PPOConfig(), 4, 4),
    ],
)
def test_a_run_has_the_processes_it_asks_for_or_those_its_worker_offers(
    settings: Settings,
    tmp_path: Path,
    kind: RunKind,
    config: RunConfig,
    offered: int,
    expected: int,
) -> None:
    settings.RUN_PROCESSES, settings.RUN_LAUNCHER = offered, "torchrun"
    command = command_of(kind, config, RunDirectory(tmp_path))
    assert f"--nproc-per-node={expected}" in command


def test_a_run_sees_its_threads_and_none_of_our_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    environment = environment_of(RewardModelConfig(num_threads=3))
    assert environment["OMP_NUM_THREADS"] == "3"
    assert not {"DATABASE_URL", "REDIS_URL", "CONCORD_SECRET_KEY"} & environment.keys()
    assert "OMP_NUM_THREADS" not in environment_of(RewardModelConfig())
