"""Imported rounds: each item is in one person's hands, and no turn is judged twice or lost."""

import contextlib
import random
import threading
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from annotation import services
from annotation.errors import (
    DialogueClosedError,
    NoItemLeftError,
    NotAllowedError,
    RoundClosedError,
    RoundConfigError,
    SlotTakenError,
)
from annotation.items import claim_item
from annotation.models import Comparison, Dialogue, ImportedItem, Judgement, Round, Sample, User
from annotation.scale import Side
from annotation.selectors import counter_drift, pair_view, round_progress
from annotation.services import Overlap
from annotation.snapshots import preferences_of
from annotation.work import NothingReason, WorkKind, work_for
from records.dialogues import Dialogue as DialogueRecord
from records.errors import RecordError
from records.preferences import Axis
from registry.models import PolicyVersion
from tests.factories import (
    draw_ahead,
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
from tests.races import run_at_once

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


def test_a_round_of_prompts_has_their_turns_as_its_target() -> None:
    round_ = open_imported_round(*TWO_TURNS, prompt_line("d"))
    assert (round_.source, round_.target_comparisons) == ("prompts", 7)
    assert states(round_) == dict.fromkeys("abcd", "free")


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


def test_snapshots_name_the_source_of_imported_pairs() -> None:
    line = pair_line(
        "a", "yes", "no", sources=("alpha", ""), opening=("Hi", "Hello"), system="Brief."
    )
    round_ = open_imported_round(line)
    comparison = comparison_of(start_test_dialogue(make_annotator(), round_))
    side = Side(comparison.samples.get(text="yes").side)
    judge(comparison, side=side)

    (preference,) = preferences_of([round_])

    assert (preference.chosen, preference.rejected) == ("yes", "no")
    assert preference.chosen_policy == "import/alpha"
    assert preference.rejected_policy == "import/unnamed"
    assert preference.prompt == DialogueRecord.from_texts(
        "Hi", "Hello", "question a", system="Brief."
    )
    assert preference.dialogue_id == str(round_.items.get().uuid)
    assert not PolicyVersion.objects.get(name="import/alpha").promoted_at


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


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([prompt_line("a", "1", "2", "3", "4")], "next_turns: items.jsonl line 1: 4 turns .* 3"),
        ([prompt_line("a"), prompt_line("a")], "prompt_id: .* line 2: is that of line 1 too"),
        ([prompt_line("a", "x [INST] y")], r"dialogue: .* line 1: a text may not hold \[INST\]"),
        ([prompt_line("a", "x\0y")], "dialogue: .* zero byte"),
        ([prompt_line("a", "x" * 20_001)], "dialogue: .* 20001 characters are more than 20000"),
        ([prompt_line("a", risk_category="bad")], "risk_category: .* 'bad' is not one of"),
        ([prompt_line("a", attack_vector="bad")], "attack_vector: .* 'bad' is not one of"),
        ([pair_line("a"), pair_line("b", "x")], "responses: items.jsonl line 2: is not a list"),
        (
            [pair_line(n, sources=(f"model {n}", "x")) for n in range(101)],
            "source: .* line 100: more than 100 different",
        ),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_stored(rows: list[dict], message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(RecordError, match=message):
        open_imported_round(*rows)
    assert not Round.objects.exists()
    assert not ImportedItem.objects.exists()


def test_pairs_nobody_could_compare_are_left_out_and_counted() -> None:
    rows = [
        pair_line("a"),
        pair_line("b", "Same.", "same"),
        pair_line("c", "I am ChatGPT.", "Hello there, how can I help?"),
        pair_line("d", "I am Zorg.", "Hello there, how can I help?", sources=("zorg", "")),
    ]
    round_ = open_imported_round(*rows)
    assert states(round_) == {"a": "free"}
    assert round_.target_comparisons == 1
    with pytest.raises(RoundConfigError, match="nothing to ask: 1 near identical, 2 names itself"):
        open_imported_round(*rows[1:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "told"}, "source: 'told' is not one of written, prompts, pairs"),
        ({"source": "prompts", "target_comparisons": 5}, "target_comparisons: imported items"),
        ({"source": "pairs", "max_turns": 2}, "max_turns: 2 is not 1"),
        ({"source": "pairs", "target_comparisons": 0}, "items: the file holds nothing"),
        ({"target_comparisons": 0}, "target_comparisons: 0 is below 1"),
    ],
)
def test_settings_that_do_not_fit_an_imported_round_are_named(
    options: dict[str, object], message: str
) -> None:
    round_ = open_test_round()
    with pytest.raises(RoundConfigError, match=message):
        services.open_round(
            name="other",
            axis=Axis.HELPFULNESS,
            guidelines=round_.guidelines,
            variants=[services.NewVariant(v.policy) for v in round_.variants.all()]
            if options.get("source") != "pairs"
            else (),
            opened_by=round_.opened_by,
            **options,  # type: ignore[arg-type]
        )


def test_only_leads_add_items_to_rounds_that_ask_imported_ones() -> None:
    round_ = open_imported_round(prompt_line("a"))
    with pytest.raises(NotAllowedError):
        services.add_items(lead=make_annotator(), round_=round_, items=[])
    with pytest.raises(RoundConfigError, match="are written in it"):
        services.add_items(lead=make_lead(), round_=open_test_round(), items=[])


# Counters


def step(chance: random.Random, annotators: list[User], round_: Round) -> None:
    """Do one thing that may happen: begin, draw, judge, edit, pass on, be away for too long."""
    annotator = chance.choice(annotators)
    live = Comparison.objects.live().filter(dialogue__annotator=annotator)
    comparison = live.filter(dialogue__state="open").first()
    kind = chance.choice(["begin", "begin", "draw", "draw ahead", "judge", "judge", "skip", "away"])
    if kind == "begin":
        with contextlib.suppress(NoItemLeftError):
            start_test_dialogue(annotator, round_)
    elif kind == "draw":
        draw_samples(("Same.", "Same.") if chance.random() < 0.2 else ("Yes.", "Why not, then?"))
    elif kind == "draw ahead":
        draw_ahead(("Same.", "Same.") if chance.random() < 0.2 else ("Later.", "Before noon."))
    elif kind == "away":
        ids = Comparison.objects.filter(dialogue__annotator=annotator).values("pk")
        past = timezone.now() - timedelta(seconds=1)
        Comparison.objects.filter(pk__in=ids).update(lease_expires_at=past)
        services.release_expired_leases()
    elif comparison is not None and kind == "skip":
        skip(comparison)
    elif comparison is not None and comparison.is_shown:
        with contextlib.suppress(SlotTakenError):
            services.submit_comparison(
                annotator=annotator,
                comparison=comparison,
                chosen_sample_id=comparison.samples.get(side=chance.choice(list(Side))).pk,
                rating="better",
                safety_bin=None,
                client_key=uuid.uuid4(),
                active_seconds=1.0,
                edited_text=chance.choice(["", "", "Better still."]),
            )


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_the_counters_are_exact_and_items_in_one_hand(seed: int) -> None:
    rows = [prompt_line(n, *(f"turn {t} of {n}" for t in range(1 + n % 3))) for n in range(8)]
    round_ = open_imported_round(*rows)
    chance, annotators = random.Random(seed), [make_annotator() for _ in range(3)]
    for _ in range(60):
        step(chance, annotators, round_)
        assert counter_drift(round_) == {}
        given = round_.items.filter(state="given").values_list("pk", flat=True)
        held = Comparison.objects.holding().values_list("dialogue__item", flat=True)
        assert sorted(held) == sorted(given)
    round_.refresh_from_db()
    assert sum(round_.items.values_list("num_judged", flat=True)) == round_.num_judged > 0
    asked = Judgement.objects.values_list("comparison__dialogue__item", "comparison__prompt_text")
    assert len(asked) == len(set(asked)) == round_.num_judged


# Races


def work_until_nothing(annotator: User, round_: Round, number: int) -> int:
    """Judge whatever is given, pass on every seventh pair; return how many were judged."""
    num_judged = 0
    patience = 100
    while patience:
        try:
            dialogue = start_test_dialogue(annotator, Round.objects.get(pk=round_.pk))
        except NoItemLeftError:
            if not round_.items.filter(state__in=["free", "given"]).exists():
                return num_judged
            patience -= 1
            threading.Event().wait(0.02)
            continue
        comparison = Comparison.objects.live().filter(dialogue=dialogue).first()
        if comparison is None or not comparison.is_shown:
            threading.Event().wait(0.01)
        elif num_judged == 0 and number == 0 and not dialogue.num_turns:
            number = -1
            skip(comparison)
        else:
            judge(comparison, side=list(Side)[num_judged % 2])
            num_judged += 1
    return num_judged


def draw_until(stopped: threading.Event) -> None:
    """Answer what waits, and what is drawn ahead, as a sampler would."""
    try:
        while not stopped.is_set():
            if not draw_samples() and not draw_ahead():
                stopped.wait(0.01)
    finally:
        connection.close()


def check_all_was_judged_once(round_: Round, judged: list[int | Exception]) -> None:
    assert not [number for number in judged if isinstance(number, Exception)], judged
    assert set(states(round_).values()) == {"finished"}
    round_.refresh_from_db()
    assert sum(judged) == round_.target_comparisons == round_.num_judged  # type: ignore[arg-type]
    turns = [
        (row.comparison.dialogue.item_id, row.comparison.prompt_text)
        for row in Judgement.objects.select_related("comparison__dialogue")
    ]
    assert len(turns) == len(set(turns)) == round_.target_comparisons
    assert counter_drift(round_) == {}
    assert all(number >= 1 for number in judged), "nobody starves"  # type: ignore[operator]


@pytest.mark.django_db(transaction=True)
def test_many_annotators_judge_every_imported_pair_once_and_none_is_lost() -> None:
    round_ = open_imported_round(*(pair_line(number) for number in range(40)))
    annotators = [make_annotator() for _ in range(8)]
    judged = run_at_once(
        [lambda a=a, i=i: work_until_nothing(a, round_, i) for i, a in enumerate(annotators)]
    )
    check_all_was_judged_once(round_, judged)


@pytest.mark.django_db(transaction=True)
def test_many_annotators_finish_imported_prompts_that_are_drawn_ahead() -> None:
    rows = [prompt_line(n, *(f"turn {t} of {n}" for t in range(1 + n % 3))) for n in range(16)]
    round_ = open_imported_round(*rows)
    annotators = [make_annotator() for _ in range(5)]
    stopped = threading.Event()
    samplers = [threading.Thread(target=draw_until, args=(stopped,)) for _ in range(2)]
    for sampler in samplers:
        sampler.start()
    try:
        judged = run_at_once(
            [lambda a=a, i=i: work_until_nothing(a, round_, i) for i, a in enumerate(annotators)]
        )
    finally:
        stopped.set()
        for sampler in samplers:
            sampler.join()
    check_all_was_judged_once(round_, judged)
    assert not Comparison.objects.filter(state__in=Comparison.LIVE_STATES).exists()


@pytest.mark.django_db(transaction=True)
def test_two_tabs_of_one_annotator_take_one_item() -> None:
    round_ = open_imported_round(*(pair_line(number) for number in range(8)))
    annotator = make_annotator()
    taken = run_at_once([lambda: start_test_dialogue(annotator, round_).pk for _ in range(4)])
    assert len(set(taken)) == 1, taken
    assert sorted(states(round_).values()) == ["free"] * 7 + ["given"]
    assert counter_drift(round_) == {}
