"""One iteration runs at a time and moves stage by stage; a policy is promoted once."""

import pytest
from django.db import IntegrityError, transaction

from records.preferences import Axis
from registry.errors import IterationRunningError, NameTakenError, TransitionError
from registry.models import Iteration, PolicyVersion
from registry.selectors import latest_policies, latest_reward_model
from registry.services import (
    create_iteration,
    end_iteration,
    promote_policy,
    register_policy,
    register_reward_model,
    set_iteration_stage,
)
from tests.factories import make_artifact, make_iteration, make_policy_version
from tests.races import run_at_once


@pytest.mark.django_db
def test_iterations_are_numbered() -> None:
    first = make_iteration("V1")
    end_iteration(iteration=first, state="finished")
    second = make_iteration("V2")
    assert (first.number, second.number) == (1, 2)


@pytest.mark.django_db
def test_a_new_iteration_begins_at_the_snapshot() -> None:
    iteration = make_iteration("V1")
    assert (iteration.state, iteration.stage) == ("running", "snapshot")
    assert iteration.is_running


@pytest.mark.django_db
def test_a_second_iteration_waits_for_the_first() -> None:
    make_iteration("V1")
    with pytest.raises(IterationRunningError, match="'V1' is still running"):
        make_iteration("V2")


@pytest.mark.django_db(transaction=True)
def test_a_schedule_that_ticks_twice_starts_one_iteration() -> None:
    policy = make_policy_version()

    def start(name: str) -> Iteration:
        return create_iteration(
            name=name, config={}, base_policy=policy, start_policy=policy, previous_policy=policy
        )

    results = run_at_once([lambda i=i: start(f"V{i}") for i in range(4)])

    assert sum(isinstance(r, Iteration) for r in results) == 1
    assert sum(isinstance(r, IterationRunningError) for r in results) == 3


@pytest.mark.django_db
def test_an_iteration_name_is_used_once() -> None:
    end_iteration(iteration=make_iteration("V1"), state="finished")
    with pytest.raises(NameTakenError, match="iteration 'V1' exists already"):
        make_iteration("V1")


@pytest.mark.django_db
def test_a_stage_is_left_by_one_worker() -> None:
    iteration = make_iteration()
    moves = [
        set_iteration_stage(iteration=iteration, stage="reward_models", expected="snapshot")
        for _ in range(2)
    ]
    assert moves == [True, False]
    assert iteration.stage == "reward_models"


@pytest.mark.django_db
def test_a_finished_iteration_is_done() -> None:
    iteration = end_iteration(iteration=make_iteration(), state="finished")
    assert (iteration.state, iteration.stage) == ("finished", "done")
    assert iteration.finished_at is not None
    assert end_iteration(iteration=iteration, state="finished") == iteration
    assert not set_iteration_stage(iteration=iteration, stage="ppo", expected="done")


@pytest.mark.django_db
def test_a_stopped_iteration_says_why_and_where() -> None:
    iteration = make_iteration()
    set_iteration_stage(iteration=iteration, stage="reward_models", expected="snapshot")

    end_iteration(iteration=iteration, state="stopped", error="no better than its predecessor")

    assert (iteration.state, iteration.stage) == ("stopped", "reward_models")
    assert iteration.error == "no better than its predecessor"
    with pytest.raises(TransitionError, match="is stopped"):
        end_iteration(iteration=iteration, state="finished")


@pytest.mark.django_db
def test_a_failure_without_a_reason_is_refused() -> None:
    iteration = make_iteration()
    with pytest.raises(ValueError, match="error must not be empty"):
        end_iteration(iteration=iteration, state="failed")
    with pytest.raises(ValueError, match="'running' does not end"):
        end_iteration(iteration=iteration, state="running")


@pytest.mark.django_db
def test_promotion_keeps_its_first_time_and_person() -> None:
    version = make_policy_version(is_promoted=False)
    first = promote_policy(version=version, by="lead").promoted_at

    again = promote_policy(version=version, by="somebody else")

    assert first is not None
    assert (again.promoted_at, again.promoted_by) == (first, "lead")
    assert again.is_promoted


@pytest.mark.django_db
def test_the_newest_promoted_policies_serve_next() -> None:
    old, previous, newest = (make_policy_version(name) for name in ("SFT", "V1", "V2"))
    make_policy_version("V3", is_promoted=False)

    assert latest_policies() == [newest, previous]
    assert latest_policies(limit=5) == [newest, previous, old]


@pytest.mark.django_db
def test_registering_the_same_weights_again_finds_them() -> None:
    artifact = make_artifact()
    first = register_policy(name="base", artifact=artifact)
    assert register_policy(name="base", artifact=artifact) == first
    with pytest.raises(NameTakenError, match="policy version 'base' exists already"):
        register_policy(name="base", artifact=make_artifact())


@pytest.mark.django_db
def test_reward_models_are_named_per_axis() -> None:
    helpfulness = register_reward_model(
        name="V1", axis=Axis.HELPFULNESS, artifact=make_artifact("reward_model")
    )
    safety = register_reward_model(
        name="V1", axis=Axis.SAFETY, artifact=make_artifact("reward_model")
    )

    assert latest_reward_model(Axis.HELPFULNESS) == helpfulness
    assert latest_reward_model(Axis.SAFETY) == safety
    with pytest.raises(NameTakenError, match="safety reward-model version 'V1'"):
        register_reward_model(name="V1", axis=Axis.SAFETY, artifact=make_artifact("reward_model"))


@pytest.mark.django_db
def test_the_database_refuses_two_versions_of_one_name() -> None:
    version = make_policy_version("V1")
    with pytest.raises(IntegrityError, match="policy_name_unique"), transaction.atomic():
        PolicyVersion.objects.create(name="V1", artifact=version.artifact)
    with pytest.raises(IntegrityError, match="policy_has_name"), transaction.atomic():
        PolicyVersion.objects.create(name="", artifact=version.artifact)
