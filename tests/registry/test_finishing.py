"""A run that ends well leaves artifacts and one version, however often its end is reported."""

import pytest

from records.policy_configs import RejectionSamplingConfig
from records.preferences import Axis
from records.reward_configs import RewardModelConfig
from records.run_configs import RunKind
from registry.errors import ArtifactError, ClaimLostError, NameTakenError
from registry.models import PolicyVersion, RewardModelVersion, Run, RunOutput
from registry.services import claim_run, create_run, fail_run, finish_run, register_policy
from tests.factories import make_artifact, make_iteration, make_policy_version
from tests.races import run_at_once
from tests.registry.factories import STALE_SECONDS, claimed, make_run, stop_heart, write_outputs


@pytest.mark.django_db
def test_a_policy_becomes_a_version_with_parent_iteration_and_run() -> None:
    parent = make_policy_version("SFT")
    iteration = make_iteration("V1", policy=parent)
    run, token = claimed(
        make_run(
            inputs={"policy": parent.artifact},
            output_name="V1",
            iteration=iteration,
            stage="rejection_sampling",
        )
    )

    finished = finish_run(run=run, token=token, result=write_outputs(run, policy="weights"))

    version = PolicyVersion.objects.get(name="V1")
    assert (version.run, version.parent, version.iteration) == (run, parent, iteration)
    assert version.stage == "rejection_sampling"
    assert not version.is_promoted
    assert (version.artifact.location / "model.txt").read_text() == "weights"
    assert finished.state == Run.State.FINISHED
    assert finished.result == {"loss": 0.5}
    assert finished.finished_at is not None


@pytest.mark.django_db
def test_rejection_sampling_descends_from_what_it_fine_tunes_not_what_it_samples() -> None:
    sampled, tuned = make_policy_version("V1"), make_policy_version("SFT")
    run, token = claimed(
        create_run(
            kind=RunKind.REJECTION_SAMPLING,
            config=RejectionSamplingConfig(),
            inputs={"policy": sampled.artifact, "start": tuned.artifact},
            output_name="V2",
        )
    )

    finish_run(run=run, token=token, result=write_outputs(run, policy="w", pool="best responses"))

    assert PolicyVersion.objects.get(name="V2").parent == tuned
    outputs = dict(RunOutput.objects.filter(run=run).values_list("name", "artifact__kind"))
    assert outputs == {"policy": "policy", "pool": "pool"}


@pytest.mark.django_db
def test_a_reward_model_becomes_a_version_with_its_axis_and_summary() -> None:
    run, token = claimed(
        make_run(RunKind.REWARD_MODEL, inputs={"policy": make_artifact()}, output_name="V1-safety")
    )
    summary = {"accuracy": {"overall": {"value": 0.8, "n": 10}}}

    finish_run(run=run, token=token, result=write_outputs(run, summary, reward_model="head"))

    version = RewardModelVersion.objects.get()
    assert (version.name, version.axis, version.run) == ("V1-safety", Axis.SAFETY, run)
    assert version.metrics == summary
    assert version.parent is None


@pytest.mark.django_db
def test_a_reward_model_descends_from_the_one_it_is_compared_with() -> None:
    config = RewardModelConfig(axis=Axis.HELPFULNESS)
    run, token = claimed(make_run(RunKind.REWARD_MODEL, config=config, output_name="V1"))
    finish_run(run=run, token=token, result=write_outputs(run, reward_model="first"))
    first = RewardModelVersion.objects.get()

    inputs = {"policy": make_artifact(), "previous": first.artifact}
    run, token = claimed(
        make_run(RunKind.REWARD_MODEL, config=config, inputs=inputs, output_name="V2")
    )
    finish_run(run=run, token=token, result=write_outputs(run, reward_model="second"))

    assert RewardModelVersion.objects.get(name="V2").parent == first


@pytest.mark.django_db
def test_a_reward_model_of_a_share_of_its_pairs_makes_no_version() -> None:
    config = RewardModelConfig(data_share=0.25)
    run, token = claimed(make_run(RunKind.REWARD_MODEL, config=config))
    finish_run(run=run, token=token, result=write_outputs(run, {"num_train": 5}, reward_model="w"))
    assert Run.objects.get(pk=run.pk).result == {"num_train": 5}
    assert not RewardModelVersion.objects.exists()


@pytest.mark.django_db
def test_an_evaluation_makes_no_version() -> None:
    run, token = claimed(make_run(RunKind.EVALUATION))

    finished = finish_run(run=run, token=token, result=write_outputs(run, {"win_rate": 0.7}))

    assert finished.result == {"win_rate": 0.7}
    assert not PolicyVersion.objects.filter(run=run).exists()
    assert not RunOutput.objects.exists()


@pytest.mark.django_db
def test_a_version_without_a_given_name_is_named_after_its_run() -> None:
    run, token = claimed(make_run())
    finish_run(run=run, token=token, result=write_outputs(run, policy="weights"))
    assert PolicyVersion.objects.get(run=run).name == f"sft-{run.pk}"


@pytest.mark.django_db
def test_the_end_reported_twice_changes_nothing_the_second_time() -> None:
    run, token = claimed(make_run(output_name="V1"))
    result = write_outputs(run, policy="weights")
    first = finish_run(run=run, token=token, result=result)

    second = finish_run(run=run, token=token, result=result)

    assert second.finished_at == first.finished_at
    assert PolicyVersion.objects.filter(name="V1").count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_end_reported_at_once_makes_one_version() -> None:
    run, token = claimed(make_run(output_name="V1"))
    result = write_outputs(run, policy="weights")

    results = run_at_once(
        [lambda: finish_run(run=Run.objects.get(pk=run.pk), token=token, result=result)] * 3
    )

    assert [r for r in results if isinstance(r, Run)], results
    assert all(isinstance(r, (Run, ClaimLostError)) for r in results), results
    assert PolicyVersion.objects.filter(name="V1").count() == 1
    run.refresh_from_db()
    assert run.state == Run.State.FINISHED


@pytest.mark.django_db
def test_a_worker_that_lost_its_claim_cannot_finish() -> None:
    run, old = claimed(make_run(output_name="V1"))
    result = write_outputs(run, policy="weights of the dead")
    stop_heart(run)
    current = claim_run(run_id=run.pk, worker="worker-2", stale_after_seconds=STALE_SECONDS)
    assert current is not None

    with pytest.raises(ClaimLostError):
        finish_run(run=run, token=old, result=result)

    assert not PolicyVersion.objects.filter(name="V1").exists()
    assert not RunOutput.objects.exists()


@pytest.mark.django_db
def test_a_failed_run_cannot_finish() -> None:
    run, token = claimed(make_run())
    fail_run(run=run, token=token, failure={"error": "E", "message": "m", "traceback": "t"})

    with pytest.raises(ClaimLostError, match="is failed"):
        finish_run(run=run, token=token, result=write_outputs(run, policy="weights"))


@pytest.mark.django_db
def test_an_output_outside_the_run_directory_is_refused() -> None:
    run, token = claimed(make_run())
    result = {"summary": {}, "outputs": {"policy": "../../artifacts"}}

    with pytest.raises(ArtifactError, match="lies outside the folder"):
        finish_run(run=run, token=token, result=result)
    run.refresh_from_db()
    assert run.state == Run.State.RUNNING


@pytest.mark.django_db
def test_a_trainer_without_its_weights_has_not_finished() -> None:
    run, token = claimed(make_run())

    with pytest.raises(ArtifactError, match="without its output 'policy'"):
        finish_run(run=run, token=token, result={"summary": {}, "outputs": {}})
    run.refresh_from_db()
    assert run.state == Run.State.RUNNING


@pytest.mark.django_db
def test_a_name_taken_while_the_run_worked_is_said() -> None:
    run, token = claimed(make_run(output_name="V1"))
    register_policy(name="V1", artifact=make_artifact())

    with pytest.raises(NameTakenError, match="version 'V1'"):
        finish_run(run=run, token=token, result=write_outputs(run, policy="weights"))
    run.refresh_from_db()
    assert run.state == Run.State.RUNNING
