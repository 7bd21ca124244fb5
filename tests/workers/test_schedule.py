"""Beat starts iterations when they are due, exactly once, and nudges what nobody works on."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest_django import Settings

from annotation.models import Comparison
from records.iteration_configs import Algorithm
from registry.models import Iteration, Run
from registry.services import claim_run, end_iteration
from tests.factories import (
    make_annotator,
    make_iteration,
    make_judgement,
    make_policy_version,
    open_test_round,
    start_test_dialogue,
    write_test_prompt,
)
from tests.races import run_at_once
from tests.registry.factories import make_run, stop_heart
from tests.workers.live import forget_messages
from workers import redis_keys
from workers.models import IterationSchedule
from workers.schedule import (
    fresh_rounds,
    next_iteration_name,
    recover_lost_runs,
    start_scheduled_iterations,
    wake_sampler,
)

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def make_schedule(**fields: Any) -> IterationSchedule:
    defaults = {"name": "weekly", "every_hours": 168, "next_start_at": NOON}
    return IterationSchedule.objects.create(
        base_policy=make_policy_version(), **(defaults | fields)
    )


def stop(iteration: Iteration) -> None:
    end_iteration(iteration=iteration, state=Iteration.State.STOPPED, error="enough")


@pytest.mark.django_db
def test_an_iteration_starts_when_it_is_due_with_the_template_and_the_fresh_rounds() -> None:
    make_judgement()
    (round_,) = fresh_rounds()
    schedule = make_schedule(config={"algorithm": "rejection_sampling_ppo"})
    newest = make_policy_version()
    assert start_scheduled_iterations(NOON - timedelta(seconds=1)) == []

    assert len(start_scheduled_iterations(NOON)) == 1
    iteration = Iteration.objects.get()
    assert iteration.config["rounds"] == [round_.pk]
    assert iteration.config["algorithm"] == Algorithm.REJECTION_SAMPLING_PPO
    assert iteration.base_policy == iteration.previous_policy == schedule.base_policy
    assert iteration.start_policy == newest
    round_.refresh_from_db()
    assert not round_.is_open
    schedule.refresh_from_db()
    assert schedule.next_start_at == NOON + timedelta(days=7)
    assert schedule.last_outcome == f"started {iteration.name}"
    assert schedule.last_iteration == iteration
    assert start_scheduled_iterations(NOON) == []


@pytest.mark.django_db(transaction=True)
def test_of_several_beats_one_starts_the_iteration() -> None:
    make_judgement()
    make_schedule()
    results = run_at_once([lambda: len(start_scheduled_iterations(NOON))] * 4)
    assert sorted(results) == [0, 0, 0, 1]
    assert Iteration.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("hours_late", "next_start_in_hours"),
    [
        (0, 24),
        (23, 24),  # late, but within the day
        (24, 48),
        (100, 120),  # beat was off for four days: one start, and then on time again
    ],
)
def test_missed_times_are_left_out(hours_late: int, next_start_in_hours: int) -> None:
    make_judgement()
    schedule = make_schedule(every_hours=24)
    assert len(start_scheduled_iterations(NOON + timedelta(hours=hours_late))) == 1
    schedule.refresh_from_db()
    assert schedule.next_start_at == NOON + timedelta(hours=next_start_in_hours)


@pytest.mark.django_db
def test_nothing_starts_without_fresh_judgements_or_beside_a_running_iteration() -> None:
    round_ = open_test_round()
    schedule = make_schedule(every_hours=1)
    assert start_scheduled_iterations(NOON) == []
    schedule.refresh_from_db()
    assert schedule.last_outcome == (
        "started nothing: rounds: nothing was judged since the last iteration"
    )

    make_judgement(round_=round_)
    running = make_iteration("V1")
    assert start_scheduled_iterations(NOON + timedelta(hours=1)) == []
    schedule.refresh_from_db()
    assert "iteration 'V1' is still running" in schedule.last_outcome
    round_.refresh_from_db()
    assert round_.is_open  # nothing of a start that did not happen remains

    stop(running)
    assert len(start_scheduled_iterations(NOON + timedelta(hours=2))) == 1


@pytest.mark.django_db
def test_a_schedule_that_is_off_starts_nothing() -> None:
    make_judgement()
    make_schedule(is_enabled=False)
    assert start_scheduled_iterations(NOON) == []


@pytest.mark.django_db
def test_names_go_on_from_the_last_iteration_and_pass_over_policies_that_have_them() -> None:
    assert next_iteration_name() == "V1"
    stop(make_iteration("V1"))
    assert next_iteration_name() == "V2"
    make_policy_version("V2")
    assert next_iteration_name() == "V3"


@pytest.mark.django_db(transaction=True)
def test_waiting_and_lost_runs_are_nudged_unless_messages_wait_already(settings: Settings) -> None:
    settings.RUN_STALE_SECONDS = 20
    forget_messages()
    waiting, lost, held = make_run(), make_run(), make_run()
    for run in (lost, held):
        claim_run(run_id=run.pk, worker="w", stale_after_seconds=20)
    stop_heart(lost, seconds=21)
    assert recover_lost_runs() == [waiting.pk, lost.pk]
    assert redis_keys.client().llen("gpu") == 2
    assert recover_lost_runs() == []
    assert redis_keys.client().llen("gpu") == 2
    assert {run.state for run in Run.objects.all()} == {Run.State.QUEUED, Run.State.RUNNING}
    forget_messages()


@pytest.mark.django_db(transaction=True)
def test_the_sampler_is_woken_once_while_prompts_wait() -> None:
    forget_messages()
    assert wake_sampler() == 0
    annotator = make_annotator()
    write_test_prompt(annotator, start_test_dialogue(annotator, open_test_round()))
    assert wake_sampler() == 1
    assert wake_sampler() == 1
    assert redis_keys.client().llen("sampling") == 1  # one nudge stands for all
    assert Comparison.objects.get().state == Comparison.State.WAITING
    forget_messages()
