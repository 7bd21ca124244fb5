"""Imported rounds: each item is in one person's hands, and no turn is judged twice or lost."""

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from annotation import services
from annotation.errors import (
    DialogueClosedError,
    NoItemLeftError,
    RoundClosedError,
    SlotTakenError,
)
from annotation.items import claim_item
from annotation.models import Comparison, Dialogue, Judgement, Round, Sample, User
from annotation.scale import Side
from annotation.selectors import counter_drift, pair_view, round_progress
from annotation.services import Overlap
from annotation.snapshots import preferences_of
from annotation.work import NothingReason, WorkKind, work_for
from records.dialogues import Dialogue as DialogueRecord
from records.preferences import Axis
from tests.factories import (
    draw_samples,
    judge,
    judge_slot,
    make_annotator,
    make_lead,
    open_imported_round,
    open_test_round,
    pair_line,
    prompt_line,
    start_test_dialogue,
    write_test_prompt,
)

pytestmark = pytest.mark.django_db

TWO_TURNS = [prompt_line(name, f"question {name}", f"more about {name}") for name in "abc"]


def comparison_of(dialogue: Dialogue) -> Comparison:
    """Return what its annotator waits for or judges."""
    dialogue.refresh_from_db()
    return Comparison.objects.live().get(dialogue=dialogue)


def take(annotator: User, round_: Round) -> Comparison:
    """Return the next item's comparison, with its pair."""
    comparison = comparison_of(start_test_dialogue(annotator, round_))
    draw_samples()
    comparison.refresh_from_db()
    return comparison


def lapse(comparison: Comparison) -> None:
    past = timezone.now() - timedelta(seconds=1)
    Comparison.objects.filter(pk=comparison.pk).update(lease_expires_at=past)
    assert services.release_expired_leases() >= 1
    comparison.refresh_from_db()


def states(round_: Round) -> dict[str, str]:
    return dict(round_.items.values_list("key", "state"))


def skip(comparison: Comparison) -> Comparison:
    return services.skip_comparison(
        annotator=comparison.dialogue.annotator, comparison=comparison, reason="no_expertise"
    )


def test_an_item_becomes_a_dialogue_whose_prompt_waits_for_two_responses() -> None:
    line = prompt_line(
        "a",
        "How long?",
        opening=("An egg?", "Boil it."),
        system="Be brief.",
        risk_category="unqualified_advice",
        attack_vector="other",
    )
    round_ = open_imported_round(line, axis=Axis.SAFETY)
    annotator = make_annotator()

    comparison = comparison_of(start_test_dialogue(annotator, round_))

    assert (comparison.prompt_text, comparison.state) == ("How long?", "waiting")
    assert comparison.risk_category == "unqualified_advice"
    assert comparison.attack_vector == "other"
    (job,) = services.claim_comparisons_for_sampling(limit=5, worker="w")
    expected = DialogueRecord.from_texts("An egg?", "Boil it.", "How long?", system="Be brief.")
    assert job.prompt == expected
    assert states(round_) == {"a": "given"}
    assert counter_drift(round_) == {}
    assert work_for(annotator).kind is WorkKind.WAIT


def test_the_imported_turns_follow_each_other_and_end_the_dialogue() -> None:
    round_ = open_imported_round(TWO_TURNS[0])
    first = take(make_annotator(), round_)
    chosen = judge(first).chosen_sample.text

    second = comparison_of(first.dialogue)
    assert (second.turn, second.prompt_text, second.holds_slot) == (1, "more about a", True)
    draw_samples()
    second.refresh_from_db()
    assert pair_view(second).prompt == DialogueRecord.from_texts(
        "question a", chosen, "more about a"
    )
    judge(second)

    first.dialogue.refresh_from_db()
    assert (first.dialogue.state, first.dialogue.num_turns) == ("finished", 2)
    assert states(round_) == {"a": "finished"}
    progress = round_progress(round_)
    assert (progress.num_judged, progress.target, progress.num_in_progress) == (2, 2, 0)
    assert counter_drift(round_) == {}


def test_a_pair_is_ready_at_once_on_sides_drawn_by_chance() -> None:
    rows = [pair_line(n, "first", "second", sources=("alpha", "beta")) for n in range(40)]
    round_ = open_imported_round(*rows)
    for _ in range(40):
        comparison = comparison_of(start_test_dialogue(make_annotator(), round_))
        assert comparison.is_shown

    # 40 fair coins: 8 to 32 heads but for one case in 100,000.
    assert 8 <= Sample.objects.filter(side="left", text="first").count() <= 32
    assert Sample.objects.filter(text="first", policy__name="import/alpha").count() == 40
    assert not services.claim_comparisons_for_sampling(limit=5, worker="w")
    assert counter_drift(round_) == {}


def test_who_has_an_item_in_hand_is_given_that_one_again() -> None:
    round_ = open_imported_round(*TWO_TURNS)
    annotator = make_annotator()
    first, again = (start_test_dialogue(annotator, round_) for _ in range(2))
    assert first == again
    assert sorted(states(round_).values()) == ["free", "free", "given"]


def test_the_same_form_sent_twice_finds_its_dialogue_after_the_end() -> None:
    round_ = open_imported_round(pair_line("a"), pair_line("b"))
    annotator, key = make_annotator(), uuid.uuid4()
    dialogue = services.start_dialogue(annotator=annotator, round_=round_, client_key=key)
    judge(comparison_of(dialogue))
    again = services.start_dialogue(annotator=annotator, round_=round_, client_key=key)
    assert again == dialogue
    assert states(round_) == {"a": "finished", "b": "free"}


def test_what_is_passed_on_goes_to_somebody_else_at_the_end_of_the_queue() -> None:
    round_ = open_imported_round(*(pair_line(name) for name in "ab"))
    one, other = make_annotator(), make_annotator()
    skip(take(one, round_))
    assert states(round_) == {"a": "free", "b": "free"}
    assert counter_drift(round_) == {}

    mine = take(one, round_)
    assert mine.prompt_text == "question b"
    judge(mine)
    with pytest.raises(NoItemLeftError, match="nothing is left for you"):
        start_test_dialogue(one, round_)
    assert work_for(one).reason is NothingReason.NO_ITEM
    judge(take(other, round_))
    assert states(round_) == dict.fromkeys("ab", "finished")
    assert round_progress(round_).share == 1.0


def test_what_is_begun_and_passed_on_is_taken_up_after_its_judged_turns() -> None:
    round_ = open_imported_round(TWO_TURNS[0])
    first = take(make_annotator(), round_)
    chosen = judge(first).chosen_sample.text
    draw_samples()
    skip(comparison_of(first.dialogue))
    other = make_annotator()

    comparison = take(other, round_)

    prompt = pair_view(comparison).prompt
    assert prompt == DialogueRecord.from_texts("question a", chosen, "more about a")
    assert comparison.dialogue.max_turns == 1
    judge(comparison)
    assert states(round_) == {"a": "finished"}
    preferences = list(preferences_of([round_]))
    assert [len(preference.prompt.turns) for preference in preferences] == [1, 3]
    assert len({preference.dialogue_id for preference in preferences}) == 1
    assert len({preference.annotator for preference in preferences}) == 2
    assert counter_drift(round_) == {}


def test_what_lapses_goes_to_somebody_else_and_its_first_holder_is_told() -> None:
    round_ = open_imported_round(pair_line("a"))
    lost = take(make_annotator(), round_)
    lapse(lost)
    assert states(round_) == {"a": "free"}
    kept = take(make_annotator(), round_)
    lost.refresh_from_db()
    assert (lost.state, lost.discard_reason) == ("discarded", "given_away")
    lost.dialogue.refresh_from_db()
    assert not lost.dialogue.is_open
    judge(kept)
    assert counter_drift(round_) == {}


def test_what_lapsed_may_be_judged_while_nobody_else_has_it() -> None:
    round_ = open_imported_round(pair_line("a"))
    comparison = take(make_annotator(), round_)
    lapse(comparison)
    judge(comparison)
    assert states(round_) == {"a": "finished"}
    assert counter_drift(round_) == {}


def test_a_judgement_of_what_was_given_away_is_refused() -> None:
    round_ = open_imported_round(pair_line("a"))
    lost = take(make_annotator(), round_)
    lapse(lost)
    # As if it had been sent at the moment at which somebody else was given the item.
    claim_item(make_annotator(), round_)
    with pytest.raises(SlotTakenError):
        judge(lost)
    lost.dialogue.refresh_from_db()
    assert not lost.dialogue.is_open
    assert not Judgement.objects.exists()


def test_who_left_before_judging_may_take_the_same_item_up_again() -> None:
    round_ = open_imported_round(pair_line("a"))
    annotator = make_annotator()
    lost = take(annotator, round_)
    lapse(lost)
    other = take(make_annotator(), round_)
    lapse(other)
    again = take(annotator, round_)
    assert again.dialogue != lost.dialogue
    judge(again)
    assert counter_drift(round_) == {}


def test_an_item_without_a_usable_pair_is_set_aside() -> None:
    round_ = open_imported_round(*TWO_TURNS[:1])
    comparison = comparison_of(start_test_dialogue(make_annotator(), round_))
    for _ in range(3):
        draw_samples(("Same.", "Same."))
    comparison.refresh_from_db()
    assert comparison.state == "failed"
    assert not comparison.dialogue.is_open
    assert states(round_) == {"a": "failed"}
    assert counter_drift(round_) == {}


def test_a_late_failure_does_not_set_aside_what_others_were_given() -> None:
    round_ = open_imported_round(*TWO_TURNS[:1])
    lost = comparison_of(start_test_dialogue(make_annotator(), round_))
    lapse(lost)
    # As if its sampler had held it at the moment at which somebody else was given the item.
    claim_item(make_annotator(), round_)
    for _ in range(3):
        draw_samples(("Same.", "Same."))
    lost.refresh_from_db()
    assert lost.state == "failed"
    assert states(round_) == {"a": "given"}


def test_nobody_writes_in_an_imported_dialogue() -> None:
    round_ = open_imported_round(prompt_line("a"))
    annotator = make_annotator()
    dialogue = start_test_dialogue(annotator, round_)
    with pytest.raises(DialogueClosedError, match="imported"):
        write_test_prompt(annotator, dialogue)


def test_a_closed_round_gives_no_item_and_what_is_out_may_be_judged() -> None:
    round_ = open_imported_round(*TWO_TURNS)
    comparison = take(make_annotator(), round_)
    services.close_round(round_=round_, closed_by=make_lead())
    with pytest.raises(RoundClosedError):
        start_test_dialogue(make_annotator(), Round.objects.get(pk=round_.pk))
    judge(comparison)
    comparison.dialogue.refresh_from_db()
    assert not comparison.dialogue.is_open
    assert set(states(round_).values()) == {"free"}
    assert counter_drift(round_) == {}


def test_overlap_gold_and_repeats_work_as_elsewhere() -> None:
    overlap = Overlap(overlap_share=1.0, judgements_per_comparison=2, gold_share=1.0)
    round_ = open_imported_round(pair_line("a"), pair_line("b"), overlap=overlap)
    author, reader = make_annotator(), make_annotator()
    judged = judge(take(author, round_))
    services.declare_gold(
        comparison=judged.comparison, expected_side=Side.LEFT, declared_by=make_lead()
    )
    gold = services.claim_slot(annotator=reader)
    assert gold is not None
    assert gold.kind == "gold"
    judge_slot(gold)
    Round.objects.update(gold_share=0.0)
    other = judge(take(reader, round_))
    slot = services.claim_slot(annotator=author)
    assert slot is not None
    assert (slot.kind, slot.comparison) == ("overlap", other.comparison)
    judge_slot(slot)
    assert counter_drift(round_) == {}
    assert len(list(preferences_of([round_]))) == 3


def test_an_annotator_whose_item_is_with_others_is_offered_other_rounds() -> None:
    imported = open_imported_round(pair_line("a"))
    written = open_test_round()
    take(make_annotator(), imported)
    work = work_for(make_annotator())
    assert (work.kind, work.round) == (WorkKind.START, written)
