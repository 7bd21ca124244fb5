"""Imported rounds under chance and haste: counters are exact, and no item is in two hands."""

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
    NoItemLeftError,
    SlotTakenError,
)
from annotation.models import Comparison, Judgement, Round, User
from annotation.scale import Side
from annotation.selectors import counter_drift
from tests.annotation.test_items import skip, states
from tests.factories import (
    draw_ahead,
    draw_samples,
    judge,
    make_annotator,
    open_imported_round,
    pair_line,
    prompt_line,
    start_test_dialogue,
)
from tests.races import run_at_once

pytestmark = pytest.mark.django_db


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
