"""A run is claimed by one worker at a time, and only that worker writes to it."""

import json

import pytest
from django.db import IntegrityError, transaction

from records.policy_configs import SFTConfig
from records.preferences import Axis
from records.reward_configs import RewardModelConfig
from records.run_configs import RunKind
from registry.errors import ClaimLostError, NameTakenError, TransitionError
from registry.models import Run, RunMetric
from registry.selectors import claimable_run_ids, is_cancel_requested, run_metrics
from registry.services import (
    beat_run,
    cancel_run_done,
    claim_run,
    create_run,
    fail_run,
    record_metrics,
    release_run,
    request_cancel,
    retry_run,
)
from tests.factories import make_artifact, make_policy_version
from tests.races import run_at_once
from tests.registry.factories import STALE_SECONDS, claimed, make_run, stop_heart

FAILURE = {"error": "ValueError", "message": "batch_size is 0", "traceback": "Traceback ..."}


def claim(run: Run, worker: str = "worker-2") -> Run | None:
    return claim_run(run_id=run.pk, worker=worker, stale_after_seconds=STALE_SECONDS)


@pytest.mark.django_db
def test_a_new_run_is_queued_and_its_directory_holds_what_it_is_to_do() -> None:
    policy = make_artifact()

    run = make_run(config=SFTConfig(seed=7, num_epochs=3.0), inputs={"policy": policy}, name="SFT")

    assert run.state == Run.State.QUEUED
    assert run.seed == 7
    spec = run.directory.read_spec()
    assert spec.kind is RunKind.SFT
    assert spec.config == SFTConfig(seed=7, num_epochs=3.0)
    assert spec.inputs["policy"].digest == policy.digest
    assert spec.inputs["policy"].path == policy.location
    assert spec.code_commit == run.code_commit
    assert run.code_commit
    assert list(run.run_inputs.values_list("role", "artifact")) == [("policy", policy.pk)]
    assert run.typed_config == spec.config
    json.dumps(run.config)


@pytest.mark.django_db
def test_a_run_takes_the_config_of_its_kind() -> None:
    with pytest.raises(ValueError, match="a ppo run takes a PPOConfig, not a SFTConfig"):
        create_run(kind=RunKind.PPO, config=SFTConfig(), inputs={})
    assert not Run.objects.exists()


@pytest.mark.django_db
def test_two_unfailed_runs_cannot_make_the_same_version() -> None:
    make_run(output_name="V1")

    with pytest.raises(NameTakenError, match="'V1'"):
        make_run(output_name="V1")
    assert Run.objects.count() == 1


@pytest.mark.django_db
def test_the_two_axes_have_reward_models_of_one_name() -> None:
    for axis in Axis:
        config = RewardModelConfig(axis=axis)
        make_run(RunKind.REWARD_MODEL, config=config, inputs={}, output_name="V1")
    assert Run.objects.count() == 2


@pytest.mark.django_db
def test_a_version_name_that_exists_is_refused_before_the_work() -> None:
    make_policy_version("V1")

    with pytest.raises(NameTakenError, match="version 'V1'"):
        make_run(output_name="V1")


@pytest.mark.django_db
def test_the_name_of_a_failed_run_is_free_again() -> None:
    run, token = claimed(make_run(output_name="V1"))
    fail_run(run=run, token=token, failure=FAILURE)

    second = make_run(output_name="V1")

    assert second.state == Run.State.QUEUED
    with pytest.raises(NameTakenError, match="'V1'"):
        retry_run(run=run)


@pytest.mark.django_db
def test_a_claim_takes_a_queued_run() -> None:
    run, token = claimed(make_run(), worker="host:1")

    assert (run.state, run.attempts, run.claimed_by) == (Run.State.RUNNING, 1, "host:1")
    assert run.claim_token == token
    assert run.heartbeat_at is not None
    assert run.started_at is not None


@pytest.mark.django_db
def test_a_run_in_good_hands_is_not_claimed() -> None:
    run, token = claimed(make_run())

    assert claim(run) is None
    run.refresh_from_db()
    assert (run.claim_token, run.attempts) == (token, 1)


@pytest.mark.django_db
def test_a_run_whose_worker_died_is_claimed_with_a_new_token() -> None:
    run, token = claimed(make_run())
    started_at = run.started_at
    stop_heart(run)

    second = claim(run)

    assert second is not None
    assert second.claim_token != token
    assert second.attempts == 2
    assert second.claimed_by == "worker-2"
    assert second.started_at == started_at


@pytest.mark.django_db(transaction=True)
def test_of_workers_that_claim_at_once_one_gets_the_run() -> None:
    run = make_run()

    results = run_at_once([lambda i=i: claim(run, f"worker-{i}") for i in range(6)])

    winners = [result for result in results if isinstance(result, Run)]
    assert len(winners) == 1
    assert results.count(None) == 5
    run.refresh_from_db()
    assert (run.claimed_by, run.attempts) == (winners[0].claimed_by, 1)


@pytest.mark.django_db
def test_a_run_fails_when_its_workers_died_as_often_as_it_may_be_started() -> None:
    run, _ = claimed(make_run(max_attempts=2))
    stop_heart(run)
    assert claim(run) is not None
    stop_heart(run)

    assert claim(run) is None

    run.refresh_from_db()
    assert run.state == Run.State.FAILED
    assert run.error_class == "WorkerDiedError"
    assert run.error_message.startswith("The worker of this run died 2 times")
    assert run.finished_at is not None


@pytest.mark.django_db
def test_a_heartbeat_keeps_the_claim() -> None:
    run, token = claimed(make_run())
    stop_heart(run)

    assert beat_run(run=run, token=token)
    assert claim(run) is None


@pytest.mark.django_db
def test_a_worker_that_lost_its_claim_is_told_and_can_write_nothing() -> None:
    run, old = claimed(make_run())
    stop_heart(run)
    assert claim(run) is not None

    assert not beat_run(run=run, token=old)
    with pytest.raises(ClaimLostError, match=f"run {run.pk} is running and no longer held"):
        record_metrics(run=run, token=old, rows=[{"step": 1, "loss": 1.0}])
    with pytest.raises(ClaimLostError):
        fail_run(run=run, token=old, failure=FAILURE)
    with pytest.raises(ClaimLostError):
        cancel_run_done(run=run, token=old)
    assert not release_run(run=run, token=old)
    run.refresh_from_db()
    assert run.state == Run.State.RUNNING
    assert not RunMetric.objects.exists()


@pytest.mark.django_db
def test_metrics_come_back_in_order_with_their_step() -> None:
    run, token = claimed(make_run())
    rows = [{"step": 2, "loss": 0.5, "total_steps": 3}, {"step": 1, "loss": 0.7}]
    record_metrics(run=run, token=token, rows=rows)
    record_metrics(run=run, token=token, rows=[])

    assert run_metrics(run) == [
        {"step": 1, "loss": 0.7},
        {"step": 2, "loss": 0.5, "total_steps": 3},
    ]
    assert run_metrics(run, after_step=1) == [{"step": 2, "loss": 0.5, "total_steps": 3}]


@pytest.mark.django_db
def test_a_step_delivered_again_replaces_its_values() -> None:
    run, token = claimed(make_run())
    record_metrics(run=run, token=token, rows=[{"step": 5, "loss": 0.9}, {"step": 6, "loss": 0.8}])
    record_metrics(run=run, token=token, rows=[{"step": 5, "loss": 0.4}])

    assert run_metrics(run) == [{"step": 5, "loss": 0.4}, {"step": 6, "loss": 0.8}]


@pytest.mark.django_db
def test_rows_of_one_step_are_merged_within_and_between_deliveries() -> None:
    run, token = claimed(make_run())
    record_metrics(run=run, token=token, rows=[{"step": 1, "loss": 0.9}, {"step": 1, "kl": 0.1}])
    record_metrics(run=run, token=token, rows=[{"step": 1, "heldout_reward": 0.3}])

    assert run_metrics(run) == [{"step": 1, "loss": 0.9, "kl": 0.1, "heldout_reward": 0.3}]


@pytest.mark.django_db
def test_a_failure_is_stored_with_class_message_and_traceback() -> None:
    run, token = claimed(make_run())

    failed = fail_run(run=run, token=token, failure=FAILURE)

    assert failed.state == Run.State.FAILED
    assert (failed.error_class, failed.error_message) == ("ValueError", "batch_size is 0")
    assert failed.error_traceback == "Traceback ..."
    assert fail_run(run=run, token=token, failure=FAILURE) == failed, "twice is not an error"


@pytest.mark.django_db
def test_a_queued_run_is_cancelled_at_once() -> None:
    run = request_cancel(run=make_run(), by="lead")

    assert run.state == Run.State.CANCELLED
    assert run.cancel_requested_by == "lead"
    assert claim(run) is None


@pytest.mark.django_db
def test_a_running_run_is_cancelled_by_its_worker() -> None:
    run, token = claimed(make_run())
    assert not is_cancel_requested(run)

    request_cancel(run=run, by="lead")
    assert is_cancel_requested(run)
    assert beat_run(run=run, token=token), "the worker still holds it while the process ends"

    done = cancel_run_done(run=run, token=token)
    assert done.state == Run.State.CANCELLED
    assert cancel_run_done(run=run, token=token) == done


@pytest.mark.django_db
def test_a_cancelled_run_whose_worker_died_is_not_started_again() -> None:
    run, _ = claimed(make_run())
    request_cancel(run=run, by="lead")
    stop_heart(run)

    assert claim(run) is None
    run.refresh_from_db()
    assert run.state == Run.State.CANCELLED


@pytest.mark.django_db
def test_cancelling_a_run_that_has_ended_changes_nothing() -> None:
    run, token = claimed(make_run())
    fail_run(run=run, token=token, failure=FAILURE)

    run = request_cancel(run=run, by="lead")

    assert run.state == Run.State.FAILED
    assert run.cancel_requested_at is None


@pytest.mark.django_db
def test_a_run_handed_back_costs_no_attempt() -> None:
    run, token = claimed(make_run(max_attempts=1))

    assert release_run(run=run, token=token)

    run.refresh_from_db()
    assert (run.state, run.attempts, run.claim_token) == (Run.State.QUEUED, 0, None)
    assert claim(run) is not None


@pytest.mark.django_db
def test_a_failed_run_is_queued_again_with_all_its_attempts() -> None:
    run, token = claimed(make_run())
    fail_run(run=run, token=token, failure=FAILURE)

    run = retry_run(run=run)

    assert (run.state, run.attempts, run.error_class) == (Run.State.QUEUED, 0, "")
    assert run.finished_at is None


@pytest.mark.django_db
def test_a_running_run_cannot_be_retried() -> None:
    run, _ = claimed(make_run())
    with pytest.raises(TransitionError, match="is running; only a failed or cancelled one"):
        retry_run(run=run)


@pytest.mark.django_db
def test_queued_and_orphaned_runs_wait_for_a_worker() -> None:
    queued = make_run()
    orphaned, _ = claimed(make_run())
    stop_heart(orphaned)
    claimed(make_run())
    request_cancel(run=make_run(), by="lead")

    assert claimable_run_ids(stale_after_seconds=STALE_SECONDS) == [queued.pk, orphaned.pk]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"state": "paused"}, "registry_run_ended_has_time"),
        ({"state": "running"}, "registry_run_running_is_claimed"),
        ({"state": "finished"}, "registry_run_ended_has_time"),
        ({"attempts": 4}, "registry_run_attempts_bounded"),
    ],
)
def test_the_database_refuses(values: dict[str, object], constraint: str) -> None:
    run = make_run()
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Run.objects.filter(pk=run.pk).update(**values)


@pytest.mark.django_db
def test_a_run_keeps_its_default_name_and_says_whether_it_has_ended() -> None:
    run = make_run()
    assert str(run) == f"sft run {run.pk}"
    assert not run.is_ended
    assert request_cancel(run=run, by="lead").is_ended
