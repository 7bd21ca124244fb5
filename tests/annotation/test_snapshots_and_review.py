"""What is excluded stays out of the next snapshot; equal rows freeze to equal bytes."""

from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, transaction
from pytest_django import DjangoAssertNumQueries

from annotation import services
from annotation.errors import JudgementError, NotAllowedError
from annotation.models import Exclusion, Judgement, Round
from annotation.scale import Side
from annotation.selectors import counter_drift, round_progress
from annotation.snapshots import freeze_snapshot, import_preferences, preferences_of
from records.dialogues import Dialogue as DialogueRecord
from records.errors import RecordError
from records.preferences import Axis, Preference, Rating, SafetyBin
from records.snapshots import read_snapshot, split_of
from registry.errors import NameTakenError
from registry.models import Snapshot
from tests.factories import (
    judge,
    make_annotator,
    make_judgement,
    make_lead,
    make_policy_version,
    make_ready_comparison,
    make_reviewer,
    open_test_round,
)

pytestmark = pytest.mark.django_db


def exclude(judgement: Judgement) -> Exclusion:
    return services.exclude_judgement(
        reviewer=make_reviewer(), judgement=judgement, reason="low_quality", note="too quick"
    )


def judged_dialogue(round_: Round, num_turns: int) -> list[Judgement]:
    first = judge(make_ready_comparison(round_=round_, text="Question 0?"))
    dialogue = first.comparison.dialogue
    return [
        first,
        *(
            judge(make_ready_comparison(dialogue=dialogue, text=f"Question {turn}?"))
            for turn in range(1, num_turns)
        ),
    ]


def test_a_preference_carries_all_that_training_and_lineage_need() -> None:
    policies = [make_policy_version("SFT"), make_policy_version("V1")]
    round_ = open_test_round("safety 1", axis=Axis.SAFETY, policies=policies)
    comparison = make_ready_comparison(round_=round_, text="How do I pick a lock?")
    judgement = judge(
        comparison,
        side=Side.RIGHT,
        rating=Rating.SLIGHTLY_BETTER,
        safety_bin=SafetyBin.CHOSEN_SAFE,
    )
    Judgement.objects.update(created_at=datetime(2026, 11, 2, 9, 30, tzinfo=UTC))

    (preference,) = preferences_of([round_])

    left, right = (comparison.samples.get(side=side) for side in ("left", "right"))
    assert preference == Preference(
        preference_id=str(judgement.uuid),
        dialogue_id=str(comparison.dialogue.uuid),
        prompt=DialogueRecord.from_texts("How do I pick a lock?"),
        chosen=right.text,
        rejected=left.text,
        axis=Axis.SAFETY,
        rating=Rating.SLIGHTLY_BETTER,
        safety_bin=SafetyBin.CHOSEN_SAFE,
        is_safety_prompt=True,
        source="concord",
        round_name="safety 1",
        guidelines_version=round_.guidelines.version,
        chosen_policy=right.policy.name,
        rejected_policy=left.policy.name,
        annotator=judgement.annotator.pseudonym,
        created_at="2026-11-02T09:30:00+00:00",
    )
    assert {preference.chosen_policy, preference.rejected_policy} == {"SFT", "V1"}


def test_later_turns_hold_the_chosen_responses_before_them() -> None:
    round_ = open_test_round(max_turns=3)
    judgements = judged_dialogue(round_, 3)

    prompts = [preference.prompt for preference in preferences_of([round_])]

    first, second = (judgement.chosen_sample.text for judgement in judgements[:2])
    assert prompts == [
        DialogueRecord.from_texts("Question 0?"),
        DialogueRecord.from_texts("Question 0?", first, "Question 1?"),
        DialogueRecord.from_texts("Question 0?", first, "Question 1?", second, "Question 2?"),
    ]


def test_an_excluded_judgement_is_left_out_but_stays_history() -> None:
    round_ = open_test_round(max_turns=2)
    first, second = judged_dialogue(round_, 2)
    exclude(first)

    (preference,) = preferences_of([round_])

    assert preference.preference_id == str(second.uuid)
    assert preference.prompt == DialogueRecord.from_texts(
        "Question 0?", first.chosen_sample.text, "Question 1?"
    )


def test_pairs_that_are_not_judged_are_left_out() -> None:
    round_ = open_test_round()
    judgement = make_judgement(round_=round_)
    make_ready_comparison(round_=round_)
    skipped = make_ready_comparison(round_=round_)
    services.skip_comparison(
        annotator=skipped.dialogue.annotator, comparison=skipped, reason="other"
    )
    ids = [preference.preference_id for preference in preferences_of([round_])]
    assert ids == [str(judgement.uuid)]


def test_a_snapshot_holds_the_chosen_rounds_only() -> None:
    one, two, other = (open_test_round() for _ in range(3))
    for round_ in (one, two, other):
        make_judgement(round_=round_)

    snapshot = freeze_snapshot(rounds=[two, one], name="week 1")

    assert snapshot.manifest["num_rows"] == 2
    assert snapshot.round_names == [one.name, two.name]
    rows = list(read_snapshot(snapshot.artifact.location))
    assert [row.round_name for row in rows] == [one.name, two.name]


def test_equal_rows_freeze_to_equal_bytes() -> None:
    one, two = open_test_round(max_turns=2), open_test_round()
    judged_dialogue(one, 2)
    make_judgement(round_=two)

    first = freeze_snapshot(rounds=[one, two], name="first")
    second = freeze_snapshot(rounds=[two, one], name="second")

    assert first.manifest["digest"] == second.manifest["digest"]
    assert first.artifact == second.artifact

    exclude(Judgement.objects.latest("pk"))
    third = freeze_snapshot(rounds=[one, two], name="third")
    assert third.manifest["digest"] != first.manifest["digest"]


def test_freezing_again_under_a_name_returns_the_first_snapshot() -> None:
    round_ = open_test_round()
    make_judgement(round_=round_)
    first = freeze_snapshot(rounds=[round_], name="week 1")
    make_judgement(round_=round_)

    assert freeze_snapshot(rounds=[round_], name="week 1") == first
    assert Snapshot.objects.get().manifest["num_rows"] == 1
    with pytest.raises(NameTakenError, match="'week 1'"):
        freeze_snapshot(rounds=[round_], name="week 1", test_share=0.5)


def test_no_dialogue_is_on_both_sides_of_the_split() -> None:
    round_ = open_test_round(max_turns=2)
    for _ in range(12):
        judged_dialogue(round_, 2)

    snapshot = freeze_snapshot(rounds=[round_], name="week 1", test_share=0.5)

    folder = snapshot.artifact.location
    sides = {
        split: {preference.dialogue_id for preference in read_snapshot(folder, split=split)}
        for split in ("train", "test")
    }
    assert sides["train"].isdisjoint(sides["test"])
    assert len(sides["train"] | sides["test"]) == 12
    assert all(split_of(i, test_share=0.5) == "test" for i in sides["test"])
    assert snapshot.manifest["num_train"] == 2 * len(sides["train"])


def test_a_round_without_judgements_cannot_be_frozen() -> None:
    with pytest.raises(RecordError, match="at least one preference"):
        freeze_snapshot(rounds=[open_test_round()], name="week 1")
    assert not Snapshot.objects.exists()


def test_freezing_costs_the_same_number_of_queries_for_many_rows(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    round_ = open_test_round(max_turns=3)
    judged_dialogue(round_, 3)
    judged_dialogue(round_, 3)
    # One savepoint, one query; a savepoint in and out.
    with django_assert_max_num_queries(3):
        assert len(list(preferences_of([round_]))) == 6


def test_imported_preferences_keep_their_own_split() -> None:
    preferences = [
        Preference(
            preference_id=f"p{number}",
            dialogue_id=f"d{number}",
            prompt=DialogueRecord.from_texts("Hello?"),
            chosen="Hello.",
            rejected="No.",
            axis=Axis.HELPFULNESS,
            source="elsewhere",
        )
        for number in range(3)
    ]

    snapshot = import_preferences(
        preferences=preferences,
        name="elsewhere",
        splits={"d0": "train", "d1": "train", "d2": "test"},
        selection={"skipped": 4},
    )

    assert (snapshot.manifest["num_train"], snapshot.manifest["num_test"]) == (2, 1)
    assert snapshot.manifest["selection"] == {"imported": {"skipped": 4}}
    assert snapshot.round_names == []
    assert list(read_snapshot(snapshot.artifact.location)) == preferences


def test_an_exclusion_keeps_judgement_reviewer_and_reason() -> None:
    judgement = make_judgement()

    exclusion = exclude(judgement)

    assert (exclusion.judgement, exclusion.reason, exclusion.note) == (
        judgement,
        "low_quality",
        "too quick",
    )
    assert Judgement.objects.filter(pk=judgement.pk).exists()
    round_ = judgement.comparison.round
    assert round_progress(round_).num_excluded == 1
    assert counter_drift(round_) == {}


def test_the_first_exclusion_stands() -> None:
    judgement = make_judgement()
    first = exclude(judgement)
    second = services.exclude_judgement(
        reviewer=make_lead(), judgement=judgement, reason="spam", note=""
    )
    assert second == first
    assert round_progress(judgement.comparison.round).num_excluded == 1


def test_annotators_cannot_exclude() -> None:
    judgement = make_judgement()
    for person in (judgement.annotator, make_annotator()):
        with pytest.raises(NotAllowedError):
            services.exclude_judgement(reviewer=person, judgement=judgement, reason="spam")


def test_an_exclusion_needs_a_known_reason() -> None:
    judgement = make_judgement()
    with pytest.raises(JudgementError, match="'' is not one of against_guidelines"):
        services.exclude_judgement(reviewer=make_reviewer(), judgement=judgement, reason="")
    exclusion = exclude(judgement)
    with pytest.raises(IntegrityError, match="exclusion_reason_known"), transaction.atomic():
        Exclusion.objects.filter(pk=exclusion.pk).update(reason="mood")
