"""Lineage leads from a policy to the rounds behind it, and from a snapshot to all that learned."""

from pathlib import Path

import pytest
from pytest_django import DjangoAssertNumQueries

from records.dialogues import Dialogue
from records.policy_configs import RejectionSamplingConfig, SFTConfig
from records.preferences import Axis, Preference
from records.reward_configs import RewardModelConfig
from records.run_configs import RunKind
from records.snapshots import write_snapshot
from registry.models import Artifact, PolicyVersion, RewardModelVersion, Run, Snapshot
from registry.selectors import learners_of, lineage_of
from registry.services import create_run, finish_run, register_snapshot
from tests.factories import make_artifact, make_policy_version
from tests.registry.factories import claimed, write_outputs


def finished(run: Run, **texts: str) -> Run:
    run, token = claimed(run)
    return finish_run(run=run, token=token, result=write_outputs(run, **texts))


def make_snapshot(tmp_path: Path, name: str, rounds: list[str]) -> Snapshot:
    preference = Preference(
        preference_id=name,
        dialogue_id=name,
        prompt=Dialogue.from_texts("Hello?"),
        chosen="Hello.",
        rejected="No.",
        axis=Axis.HELPFULNESS,
    )
    selection = {"rounds": [{"name": round_name} for round_name in rounds]}
    write_snapshot(tmp_path / name, [preference], selection=selection)
    return register_snapshot(name=name, path=tmp_path / name)


def sft() -> PolicyVersion:
    run = create_run(
        kind=RunKind.SFT,
        config=SFTConfig(),
        inputs={"demonstrations": make_artifact("demonstrations")},
        output_name="SFT",
    )
    return finished(run, policy="sft").policies.get()


def reward_model(policy: PolicyVersion, snapshot: Snapshot, name: str) -> RewardModelVersion:
    run = create_run(
        kind=RunKind.REWARD_MODEL,
        config=RewardModelConfig(),
        inputs={"policy": policy.artifact, "snapshot": snapshot.artifact},
        output_name=name,
    )
    return finished(run, reward_model=name).reward_models.get()


def rejection_sampled(
    policy: PolicyVersion, judge: RewardModelVersion, name: str, pool: Artifact | None = None
) -> PolicyVersion:
    inputs = {"policy": policy.artifact, "start": policy.artifact, "helpfulness": judge.artifact}
    if pool is not None:
        inputs["pool"] = pool
    run = create_run(
        kind=RunKind.REJECTION_SAMPLING,
        config=RejectionSamplingConfig(),
        inputs=inputs,
        output_name=name,
    )
    return finished(run, policy=name, pool=f"pool of {name}").policies.get()


@pytest.mark.django_db
def test_a_policy_leads_to_the_rounds_it_learned_from(tmp_path: Path) -> None:
    base = sft()
    first = make_snapshot(tmp_path, "week 1", ["helpfulness 1", "safety 1"])
    second = make_snapshot(tmp_path, "week 2", ["helpfulness 2"])
    v1 = rejection_sampled(base, reward_model(base, first, "RM1"), "V1")
    v2 = rejection_sampled(v1, reward_model(v1, second, "RM2"), "V2")

    lineage = lineage_of(v2)

    assert [step.run.output_name for step in lineage.steps] == ["V2", "RM2", "V1", "RM1", "SFT"]
    assert lineage.snapshots == (first, second)
    assert lineage.round_names == ["helpfulness 1", "helpfulness 2", "safety 1"]
    named = {item.role: item.names for item in lineage.steps[0].inputs}
    assert named == {"policy": ("V1",), "start": ("V1",), "helpfulness": ("RM2",)}


@pytest.mark.django_db
def test_a_policy_does_not_lead_to_what_it_did_not_learn_from(tmp_path: Path) -> None:
    base = sft()
    snapshot = make_snapshot(tmp_path, "week 1", ["helpfulness 1"])
    rejection_sampled(base, reward_model(base, snapshot, "RM1"), "V1")

    lineage = lineage_of(base)

    assert [step.run.output_name for step in lineage.steps] == ["SFT"]
    assert lineage.snapshots == ()


@pytest.mark.django_db
def test_a_policy_from_outside_has_no_steps() -> None:
    assert lineage_of(make_policy_version()).steps == ()


@pytest.mark.django_db
def test_a_snapshot_leads_to_every_model_that_learned_from_it(tmp_path: Path) -> None:
    base = sft()
    first = make_snapshot(tmp_path, "week 1", ["helpfulness 1"])
    second = make_snapshot(tmp_path, "week 2", ["helpfulness 2"])
    rm1 = reward_model(base, first, "RM1")
    v1 = rejection_sampled(base, rm1, "V1")
    rm2 = reward_model(v1, second, "RM2")
    v2 = rejection_sampled(v1, rm2, "V2")

    assert learners_of(first.artifact) == ((rm1, rm2), (v1, v2))
    assert learners_of(second.artifact) == ((rm2,), (v2,))


@pytest.mark.django_db
def test_the_pool_of_earlier_iterations_is_part_of_the_lineage(tmp_path: Path) -> None:
    base = sft()
    first = make_snapshot(tmp_path, "week 1", ["helpfulness 1"])
    second = make_snapshot(tmp_path, "week 2", ["helpfulness 2"])
    v1 = rejection_sampled(base, reward_model(base, first, "RM1"), "V1")
    assert v1.run is not None
    pool = v1.run.run_outputs.get(name="pool").artifact
    v2 = rejection_sampled(base, reward_model(base, second, "RM2"), "V2", pool)

    assert lineage_of(v2).snapshots == (first, second)


@pytest.mark.django_db
def test_a_generation_costs_the_same_however_many_runs_it_has(
    tmp_path: Path, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    base = sft()
    policy = base
    for week in range(4):
        snapshot = make_snapshot(tmp_path, f"week {week}", [f"round {week}"])
        policy = rejection_sampled(policy, reward_model(policy, snapshot, f"RM{week}"), f"V{week}")

    # Nine levels (V3, RM3, V2, ...), at most six queries each, and the snapshots.
    with django_assert_max_num_queries(55):
        lineage = lineage_of(policy)
    assert len(lineage.steps) == 9
