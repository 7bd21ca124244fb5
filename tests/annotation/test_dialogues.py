"""The dialogue as the paper has it: system prompt, fewest turns, better responses."""

import uuid
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from annotation import services
from annotation.errors import JudgementError, RoundConfigError, TooFewTurnsError
from annotation.histories import history_of
from annotation.models import Comparison, Edit, Judgement, PromptBand, Round
from annotation.scale import Side
from annotation.selectors import near_duplicate_of, pair_view
from annotation.services import Guidance
from annotation.snapshots import EDITED_BY_A_PERSON, preferences_of
from records.dialogues import Dialogue as DialogueRecord
from records.preferences import Axis, SafetyBin
from tests.factories import (
    judge,
    make_annotator,
    make_ready_comparison,
    open_test_round,
    start_test_dialogue,
    write_test_prompt,
)

pytestmark = pytest.mark.django_db


def guided_round(**guidance: Any) -> Round:
    return open_test_round(guidance=Guidance(**guidance), max_turns=3)


def submit(comparison: Comparison, **changes: Any) -> Judgement:
    values = {
        "chosen_sample_id": comparison.samples.get(side=Side.LEFT).pk,
        "rating": "better",
        "safety_bin": None,
        "client_key": uuid.uuid4(),
        "active_seconds": 5.0,
    }
    return services.submit_comparison(
        annotator=comparison.dialogue.annotator, comparison=comparison, **{**values, **changes}
    )


# System prompt


def test_the_system_prompt_reaches_sampler_page_history_and_snapshot() -> None:
    round_ = guided_round(system_prompt="Answer in verse.")
    annotator = make_annotator()
    comparison = write_test_prompt(annotator, start_test_dialogue(annotator, round_), "Why?")
    (job,) = services.claim_comparisons_for_sampling(limit=1, worker="w")
    expected = DialogueRecord.from_texts("Why?", system="Answer in verse.")
    assert job.prompt == expected
    Comparison.objects.update(state="waiting", sampling_expires_at=None)
    other = make_ready_comparison(round_=round_, text="Why?")
    assert pair_view(other).prompt == expected
    judge(other)
    (preference,) = preferences_of([round_])
    assert preference.prompt == expected
    history = history_of(other.dialogue)
    assert history is not None
    assert history.system == "Answer in verse."
    assert comparison.round == round_


# Fewest turns


def test_a_dialogue_ends_only_after_its_fewest_turns() -> None:
    first = make_ready_comparison(round_=guided_round(min_turns=2))
    dialogue, annotator = first.dialogue, first.dialogue.annotator
    with pytest.raises(TooFewTurnsError, match="0 of at least 2 turns"):
        services.finish_dialogue(annotator=annotator, dialogue=dialogue)
    judge(first)
    with pytest.raises(TooFewTurnsError, match="1 of at least 2 turns"):
        services.finish_dialogue(annotator=annotator, dialogue=dialogue)
    judge(make_ready_comparison(dialogue=dialogue, text="And then?"))
    assert not services.finish_dialogue(annotator=annotator, dialogue=dialogue).is_open


def test_a_pair_that_is_passed_on_lets_its_dialogue_end() -> None:
    comparison = make_ready_comparison(round_=guided_round(min_turns=2))
    annotator = comparison.dialogue.annotator
    services.skip_comparison(annotator=annotator, comparison=comparison, reason="no_expertise")
    assert not services.finish_dialogue(annotator=annotator, dialogue=comparison.dialogue).is_open


def test_an_empty_dialogue_a_full_round_and_a_stated_reason_end_it_too() -> None:
    round_ = guided_round(min_turns=3)
    annotator = make_annotator()
    empty = start_test_dialogue(annotator, round_)
    assert not services.finish_dialogue(annotator=annotator, dialogue=empty).is_open
    left = make_ready_comparison(annotator, round_=round_)
    services.finish_dialogue(annotator=annotator, dialogue=left.dialogue, reason="other")
    left.refresh_from_db()
    assert left.skip_reason == "other"
    last = judge(make_ready_comparison(annotator, round_=round_)).comparison
    Round.objects.update(num_reserved=1, target_comparisons=1)
    assert not services.finish_dialogue(annotator=annotator, dialogue=last.dialogue).is_open


@pytest.mark.parametrize(
    ("guidance", "message"),
    [
        ({"min_turns": 4}, "min_turns: 4 is not between 1 and 3"),
        ({"min_turns": 0}, "min_turns: 0 is not between 1 and 3"),
        ({"topic": "x" * 201}, "topic: 201 characters are more than 200"),
        ({"system_prompt": "a [INST] b"}, r"system_prompt: this text may not hold \[INST\]"),
        ({"goal": "a\0b"}, "goal: this text holds a zero byte"),
    ],
)
def test_guidance_that_cannot_be_used_is_refused(guidance: dict[str, Any], message: str) -> None:
    with pytest.raises(RoundConfigError, match=message):
        guided_round(**guidance)


# Near-duplicates


def test_a_prompt_much_like_an_earlier_one_of_the_round_is_found() -> None:
    round_ = open_test_round()
    first = make_ready_comparison(round_=round_, text="How do I boil an egg so that it stays soft?")
    assert near_duplicate_of(round_, "how do I boil an egg so that it stays soft") == first
    assert near_duplicate_of(round_, "How do I boil an egg so that it stays softer?") == first
    assert near_duplicate_of(round_, "What is the capital of Mongolia, and since when?") is None
    assert near_duplicate_of(open_test_round(), first.prompt_text) is None
    assert near_duplicate_of(round_, first.prompt_text, besides=first.dialogue) is None


def test_only_first_prompts_are_looked_at() -> None:
    comparison = make_ready_comparison(text="How do I boil an egg so that it stays soft?")
    judge(comparison)
    num_bands = PromptBand.objects.count()
    write_test_prompt(comparison.dialogue.annotator, comparison.dialogue, "Tell me more about it.")
    assert PromptBand.objects.count() == num_bands == 9
    assert near_duplicate_of(comparison.round, "Tell me more about it.") is None


# Neither is acceptable


def test_why_neither_is_acceptable_is_kept_beside_the_choice() -> None:
    judgement = submit(
        make_ready_comparison(), neither_reasons=["untrue", "language", "untrue"], neither_note="no"
    )
    judgement.refresh_from_db()
    assert judgement.neither_reasons == ["language", "untrue"]
    assert (judgement.neither_note, judgement.rating) == ("no", "better")
    with pytest.raises(JudgementError, match=r"\['whim'\] are not among untrue"):
        submit(make_ready_comparison(), neither_reasons=["whim"])


# A third, better response


def test_an_edit_continues_the_dialogue_and_stands_above_both() -> None:
    comparison = make_ready_comparison(text="Why?")
    left = comparison.samples.get(side=Side.LEFT)
    right = comparison.samples.get(side=Side.RIGHT)

    judgement = submit(comparison, edited_text=" Because, and here is why. ")

    assert Edit.objects.get().text == "Because, and here is why."
    history = history_of(comparison.dialogue)
    assert history == DialogueRecord.from_texts("Why?", "Because, and here is why.")
    second = make_ready_comparison(dialogue=comparison.dialogue, text="Really?")
    judge(second)
    rows = list(preferences_of([comparison.round]))
    assert [(row.chosen, row.rejected) for row in rows[:2]] == [
        (left.text, right.text),
        ("Because, and here is why.", left.text),
    ]
    assert (rows[1].rating, rows[1].chosen_policy) == (None, EDITED_BY_A_PERSON)
    assert rows[1].rejected_policy == left.policy.name
    assert len({row.preference_id for row in rows}) == 3
    assert rows[2].prompt == DialogueRecord.from_texts(
        "Why?", "Because, and here is why.", "Really?"
    )
    assert rows[0].preference_id == str(judgement.uuid)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (SafetyBin.CHOSEN_SAFE, SafetyBin.BOTH_SAFE),
        (SafetyBin.BOTH_SAFE, SafetyBin.BOTH_SAFE),
        (SafetyBin.BOTH_UNSAFE, None),
    ],
)
def test_whether_an_edit_is_safe_follows_from_the_chosen_response_or_is_left_open(
    given: SafetyBin, stored: SafetyBin | None
) -> None:
    round_ = open_test_round(axis=Axis.SAFETY)
    submit(make_ready_comparison(round_=round_), safety_bin=given, edited_text="Better still.")
    rows = list(preferences_of([round_]))
    assert [row.safety_bin for row in rows] == [given, stored]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tell [INST] me", r"may not hold \[INST\]"),
        ("x" * 20_001, "20001 characters are more than 20000"),
        ("Boil it.", "a response as it was shown"),
    ],
)
def test_an_edit_that_cannot_be_used_is_refused_and_nothing_is_stored(
    text: str, message: str
) -> None:
    with pytest.raises(JudgementError, match=message) as caught:
        submit(make_ready_comparison(), edited_text=text)
    assert caught.value.field == "edited_text"
    assert not Judgement.objects.exists()


def test_the_database_refuses_an_empty_edit_and_a_second_one() -> None:
    judgement = submit(make_ready_comparison(), edited_text="Better.")
    with pytest.raises(IntegrityError, match="edit_not_empty"), transaction.atomic():
        Edit.objects.update(text="")
    with pytest.raises(IntegrityError), transaction.atomic():
        Edit.objects.create(judgement=judgement, text="Another.")
