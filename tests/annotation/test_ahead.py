"""Drawn ahead: the next pair is there after either choice, and its speed tells nothing."""

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from annotation import services
from annotation.errors import NotFoundError
from annotation.histories import prompt_of
from annotation.models import Comparison, Dialogue, Judgement, Round, Sample, SamplingEvent, User
from annotation.scale import Side
from annotation.selectors import counter_drift, get_comparison_for, num_waiting
from annotation.snapshots import preferences_of
from annotation.work import WorkKind, work_for
from records.dialogues import Dialogue as DialogueRecord
from tests.factories import (
    answer_job,
    draw_ahead,
    draw_samples,
    judge,
    make_annotator,
    make_lead,
    make_policy_version,
    make_ready_comparison,
    open_imported_round,
    pair_line,
    prompt_line,
    start_test_dialogue,
)

pytestmark = pytest.mark.django_db

THREE_TURNS = prompt_line("a", "first", "second", "third")


@pytest.fixture
def annotator() -> User:
    return make_annotator()


def open_round(*names: str, turns: int = 3) -> Round:
    texts = ("first", "second", "third")[:turns]
    rows = [prompt_line(name, *(f"{text} of {name}" for text in texts)) for name in names]
    return open_imported_round(*rows)


def begin(annotator: User, round_: Round) -> Comparison:
    """Return the ready pair of the next item's first turn."""
    dialogue = start_test_dialogue(annotator, round_)
    draw_samples()
    return Comparison.objects.live().get(dialogue=dialogue)


def live(dialogue: Dialogue) -> Comparison:
    return Comparison.objects.live().get(dialogue=dialogue)


def ahead(dialogue: Dialogue) -> list[Comparison]:
    return list(Comparison.objects.filter(dialogue=dialogue, is_ahead=True).order_by("pk"))


def test_while_somebody_reads_a_pair_the_next_ones_are_drawn_for_both_choices(
    annotator: User,
) -> None:
    pair = begin(annotator, open_round("a"))

    guesses = ahead(pair.dialogue)

    assert [guess.turn for guess in guesses] == [1, 1]
    assert {guess.assumed_sample_id for guess in guesses} == {s.pk for s in pair.samples.all()}
    assert not any(guess.holds_slot for guess in guesses)
    for guess in guesses:
        assert guess.assumed_sample is not None
        assert prompt_of(guess) == DialogueRecord.from_texts(
            "first of a", guess.assumed_sample.text, "second of a"
        )
    assert counter_drift(pair.round) == {}


def test_what_somebody_waits_for_is_drawn_before_what_is_drawn_ahead(annotator: User) -> None:
    begin(annotator, open_round("a"))
    waiting = start_test_dialogue(make_annotator(), open_round("b"))
    assert num_waiting() == 3
    (job,) = services.claim_comparisons_for_sampling(limit=10, worker="w")
    assert job.comparison_id == live(waiting).pk
    jobs = services.claim_ahead_for_sampling(limit=10, worker="w")
    assert len(jobs) == 2
    assert {request.seed for job in jobs for request in job.requests} != 1


@pytest.mark.parametrize("side", list(Side))
def test_the_pair_of_the_choice_that_was_made_is_there_at_once(annotator: User, side: Side) -> None:
    pair = begin(annotator, open_round("a"))
    draw_ahead()

    chosen = judge(pair, side=side).chosen_sample

    shown = live(pair.dialogue)
    assert (shown.turn, shown.state, shown.holds_slot) == (1, "ready", True)
    assert shown.assumed_sample == chosen
    assert shown.is_shown
    assert prompt_of(shown) == DialogueRecord.from_texts("first of a", chosen.text, "second of a")
    (other,) = Comparison.objects.filter(turn=1).exclude(pk=shown.pk)
    assert (other.state, other.discard_reason) == ("discarded", "other_choice")
    assert other.samples.count() == 2
    work = work_for(annotator)
    assert (work.kind, work.comparison) == (WorkKind.JUDGE, shown)
    assert counter_drift(pair.round) == {}
    # And so on: the third turn is drawn ahead now.
    assert {guess.turn for guess in ahead(pair.dialogue) if guess.state == "waiting"} == {2}


def test_what_was_discarded_is_counted_and_exported_nowhere(annotator: User) -> None:
    round_ = open_round("a", turns=2)
    pair = begin(annotator, round_)
    draw_ahead()
    judge(pair)
    judge(live(pair.dialogue))
    assert Comparison.objects.filter(state="discarded").count() == 1
    round_.refresh_from_db()
    assert (round_.num_judged, round_.num_reserved, round_.target_comparisons) == (2, 2, 2)
    assert len(list(preferences_of([round_]))) == 2
    assert counter_drift(round_) == {}


def test_a_choice_made_while_its_pair_is_drawn_waits_for_that_one(annotator: User) -> None:
    pair = begin(annotator, open_round("a"))
    jobs = services.claim_ahead_for_sampling(limit=10, worker="w")
    judge(pair)
    waiting = live(pair.dialogue)
    assert waiting.state == "sampling"
    assert not waiting.is_shown

    for job in jobs:
        answer_job(job, ("Later.", "Much later, I think."))

    waiting.refresh_from_db()
    assert waiting.is_shown
    assert Comparison.objects.get(turn=1, state="discarded").samples.count() == 0


def test_a_choice_made_before_anything_was_drawn_is_drawn_first(annotator: User) -> None:
    pair = begin(annotator, open_round("a"))
    judge(pair)
    (job,) = services.claim_comparisons_for_sampling(limit=10, worker="w")
    assert job.comparison_id == live(pair.dialogue).pk


def test_an_edited_response_is_answered_live(annotator: User) -> None:
    pair = begin(annotator, open_round("a"))
    draw_ahead()
    services.submit_comparison(
        annotator=annotator,
        comparison=pair,
        chosen_sample_id=pair.samples.get(side="left").pk,
        rating="better",
        safety_bin=None,
        client_key=pair.client_key,
        active_seconds=1.0,
        edited_text="Boil it for eight minutes.",
    )
    shown = live(pair.dialogue)
    assert (shown.turn, shown.state, shown.assumed_sample) == (1, "waiting", None)
    assert "eight minutes" in prompt_of(shown).turns[1].text
    reasons = Comparison.objects.filter(state="discarded").values_list("discard_reason", flat=True)
    assert list(reasons) == ["edited", "edited"]


def test_what_fails_the_guard_ahead_falls_back_to_live_sampling(annotator: User) -> None:
    pair = begin(annotator, open_round("a"))
    for _ in range(3):
        draw_ahead(("Same.", "same"))
    guesses = ahead(pair.dialogue)
    assert [(g.state, g.discard_reason) for g in guesses] == [("discarded", "no_pair")] * 2
    assert SamplingEvent.objects.filter(reason="near_identical").count() == 6
    assert pair.dialogue.is_open

    judge(pair)

    shown = live(pair.dialogue)
    assert (shown.state, shown.sampling_attempts) == ("waiting", 0)
    draw_samples()
    shown.refresh_from_db()
    assert shown.is_shown
    assert counter_drift(pair.round) == {}


def replace_policies(round_: Round) -> None:
    """Have another policy answer in the round from now on."""
    for variant in round_.variants.all():
        variant.policy = make_policy_version()
        variant.save()


def test_a_pair_of_policies_that_were_replaced_is_not_shown(annotator: User) -> None:
    round_ = open_round("a")
    pair = begin(annotator, round_)
    draw_ahead()
    replace_policies(round_)

    judge(pair)

    shown = live(pair.dialogue)
    assert (shown.state, shown.samples.count()) == ("waiting", 0)
    reasons = Comparison.objects.filter(state="discarded").values_list("discard_reason", flat=True)
    assert set(reasons) == {"replaced", "other_choice"}
    draw_samples()
    policies = set(Sample.objects.filter(comparison=shown).values_list("policy", flat=True))
    assert policies == set(round_.variants.values_list("policy", flat=True))


def test_policies_replaced_while_they_draw_draw_again() -> None:
    comparison = make_ready_comparison()
    assert comparison.is_shown
    round_ = open_round("a")
    dialogue = start_test_dialogue(make_annotator(), round_)
    (job,) = services.claim_comparisons_for_sampling(limit=5, worker="w")
    replace_policies(round_)
    assert answer_job(job, ("One.", "Something else.")).state == "waiting"
    assert SamplingEvent.objects.get().reason == "replaced"
    draw_samples()
    assert live(dialogue).is_shown


def test_no_pair_appears_before_the_floor_drawn_ahead_or_not(
    annotator: User, settings: Settings
) -> None:
    settings.RESPONSE_FLOOR_MS = 60_000
    pair = begin(annotator, open_round("a"))
    assert not pair.is_shown
    draw_ahead()
    before = timezone.now()

    judge(pair)

    shown = live(pair.dialogue)
    assert shown.state == "ready"
    assert not shown.is_shown
    assert work_for(annotator).kind is WorkKind.WAIT
    assert shown.ready_at is not None
    floor = timedelta(milliseconds=settings.RESPONSE_FLOOR_MS)
    assert before + floor <= shown.ready_at <= timezone.now() + floor
    # Drawn after the choice, it appears just as late.
    draw_ahead()
    jobs_before = timezone.now()
    Comparison.objects.filter(pk=shown.pk).update(ready_at=jobs_before)
    judge(shown)
    third = live(pair.dialogue)
    assert third.ready_at is not None
    assert third.ready_at >= jobs_before + floor


def test_the_next_item_is_kept_and_drawn_while_the_last_turn_is_read(annotator: User) -> None:
    round_ = open_round("a", "b", turns=1)
    pair = begin(annotator, round_)
    kept = Dialogue.objects.get(state="kept")
    assert (kept.annotator, kept.item.key) == (annotator, "b")  # type: ignore[union-attr]
    assert counter_drift(round_) == {}
    draw_ahead()
    assert work_for(annotator).comparison == pair, "what is kept is not offered yet"
    judge(pair)

    begun = start_test_dialogue(annotator, round_)

    assert begun == kept
    shown = live(begun)
    assert shown.is_shown
    judge(shown)
    assert counter_drift(round_) == {}
    assert set(round_.items.values_list("state", flat=True)) == {"finished"}


def test_a_kept_item_of_replaced_policies_is_drawn_anew(annotator: User) -> None:
    round_ = open_round("a", "b", turns=1)
    pair = begin(annotator, round_)
    draw_ahead()
    judge(pair)
    replace_policies(round_)
    begun = start_test_dialogue(annotator, round_)
    assert live(begun).state == "waiting"
    assert counter_drift(round_) == {}


def test_a_kept_item_goes_to_who_has_nothing_else(annotator: User) -> None:
    round_ = open_round("a", "b", turns=1)
    begin(annotator, round_)
    other = make_annotator()
    assert work_for(other).kind is WorkKind.START

    taken = start_test_dialogue(other, round_)

    assert taken.item.key == "b"  # type: ignore[union-attr]
    assert not Dialogue.objects.filter(state="kept").exists()
    assert counter_drift(round_) == {}
    assert Comparison.objects.filter(state="discarded", discard_reason="given_away").count() == 1


def test_a_kept_item_that_fails_is_set_aside_and_one_that_lapses_goes_back(
    annotator: User,
) -> None:
    round_ = open_round("a", "b", "c", turns=1)
    pair = begin(annotator, round_)
    for _ in range(3):
        draw_ahead(("Same.", "Same."))
    assert dict(round_.items.values_list("key", "state")) == {
        "a": "given",
        "b": "failed",
        "c": "free",
    }
    judge(pair)
    second = begin(annotator, round_)
    assert second.prompt_text == "first of c"
    assert counter_drift(round_) == {}

    other_round = open_round("d", "e", turns=1)
    begin(make_annotator(), other_round)
    past = timezone.now() - timedelta(seconds=1)
    Comparison.objects.filter(dialogue__state="kept").update(lease_expires_at=past)
    assert services.release_expired_leases() == 1
    assert dict(other_round.items.values_list("key", "state")) == {"d": "given", "e": "free"}
    assert counter_drift(other_round) == {}


def test_who_withdraws_gives_back_what_is_in_hand_and_what_is_kept(annotator: User) -> None:
    round_ = open_round("a", "b", turns=1)
    begin(annotator, round_)
    services.withdraw_consent(annotator=annotator, client_key=uuid.uuid4())
    services.release_expired_leases()
    assert set(round_.items.values_list("state", flat=True)) == {"free"}
    assert counter_drift(round_) == {}


def test_closing_a_round_gives_back_what_is_kept_and_draws_nothing_more(annotator: User) -> None:
    round_ = open_round("a", "b", turns=1)
    pair = begin(annotator, round_)
    begin(make_annotator(), round_)
    longer = open_round("c", turns=2)
    other = begin(make_annotator(), longer)
    for closed in (round_, longer):
        services.close_round(round_=closed, closed_by=make_lead())
        assert counter_drift(closed) == {}
    assert num_waiting() == 0
    judge(pair)
    judge(other)
    assert not Dialogue.objects.filter(state__in=["open", "kept"], annotator=annotator).exists()
    assert Judgement.objects.count() == 2


def test_passing_on_a_pair_discards_what_was_drawn_ahead_of_it(annotator: User) -> None:
    pair = begin(annotator, open_round("a"))
    draw_ahead()
    services.skip_comparison(annotator=annotator, comparison=pair, reason="other")
    assert {guess.discard_reason for guess in ahead(pair.dialogue)} == {"ended"}
    assert counter_drift(pair.round) == {}


def test_nobody_reaches_a_pair_that_is_only_drawn_ahead(annotator: User) -> None:
    pair = begin(annotator, open_round("a"))
    draw_ahead()
    (guess, _) = ahead(pair.dialogue)
    with pytest.raises(NotFoundError):
        get_comparison_for(annotator, guess.pk)
    with pytest.raises(NotFoundError):
        judge(guess)
    with pytest.raises(NotFoundError):
        services.skip_comparison(annotator=annotator, comparison=guess, reason="other")


def test_nothing_is_drawn_ahead_where_nothing_is_known_or_it_is_switched_off(
    annotator: User, settings: Settings
) -> None:
    make_ready_comparison()
    start_test_dialogue(annotator, open_imported_round(pair_line("a"), pair_line("b")))
    assert num_waiting() == 0
    settings.PREFETCH = False
    begin(annotator, open_round("a", "b"))
    assert num_waiting() == 0
