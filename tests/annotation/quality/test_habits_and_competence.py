"""Habits are counted by hand; competence finds out who guesses."""

import random

import pytest

from annotation.quality.competence import one_coin_competence
from annotation.quality.habits import Tally
from annotation.quality.tables import Label
from records.preferences import Rating


def tally_of(*rows: tuple[bool, str, int, int, float]) -> Tally:
    tally = Tally()
    for is_left, rating, chosen, rejected, seconds in rows:
        tally.add(
            is_left=is_left,
            rating=rating,
            chosen_length=chosen,
            rejected_length=rejected,
            active_seconds=seconds,
        )
    return tally


def test_habits_are_shares_of_what_they_are_about() -> None:
    tally = tally_of(
        (True, "better", 10, 5, 20.0),
        (True, "better", 5, 10, 40.0),
        (True, "slightly_better", 7, 7, 0.0),
        (False, "significantly_better", 9, 2, 60.0),
    )
    assert tally.left_share().value == 3 / 4
    assert (tally.longer_share().value, tally.longer_share().n) == (2 / 3, 3)
    shares = {rating: share.value for rating, share in tally.rating_shares().items()}
    assert shares == {
        Rating.SIGNIFICANTLY_BETTER: 0.25,
        Rating.BETTER: 0.5,
        Rating.SLIGHTLY_BETTER: 0.25,
        Rating.NEGLIGIBLY_BETTER: 0.0,
    }
    assert tally.typical_seconds().value == 40.0  # the unmeasured time is left out
    assert tally.slow_seconds().value == pytest.approx(56.0)


def test_a_silent_repeat_and_a_gold_comparison_are_counted() -> None:
    tally = Tally()
    for first, later in ((0, 0), (3, 1), (2, 6)):
        tally.add_repeat(first, later)
    for is_right in (True, True, False):
        tally.add_gold(is_right=is_right)
    consistency = tally.consistency()
    assert (consistency.exact.value, consistency.num_pairs) == (pytest.approx(1 / 3), 3)
    assert consistency.direction.value == pytest.approx(2 / 3)
    assert tally.gold_accuracy().value == pytest.approx(2 / 3)


def test_nothing_counted_says_nothing() -> None:
    tally = Tally()
    assert tally.left_share().value is None
    assert tally.gold_accuracy().n == 0
    assert tally.typical_seconds().value is None


def test_competence_tells_the_careful_from_the_guesser() -> None:
    rng = random.Random(5)
    care = {"careful": 0.95, "fair": 0.8, "other": 0.8, "guesser": 0.5}
    labels = [
        Label(str(item), name, int(rng.random() < share) ^ truth)
        for item in range(600)
        for truth in [rng.randrange(2)]
        for name, share in care.items()
    ]
    competence = one_coin_competence(labels, 2)
    assert competence.num_items == 600
    # Truth 0 and 1 are turned by xor, so care is the chance to say the opposite: the same skill.
    found = {name: share.value or 0.0 for name, share in competence.by_annotator.items()}
    for name, share in care.items():
        assert found[name] == pytest.approx(share, abs=0.07), name


def test_whoever_shares_no_item_has_no_competence() -> None:
    labels = [Label("x", "ann", 0), Label("x", "bob", 0), Label("y", "cat", 1)]
    assert set(one_coin_competence(labels, 2).by_annotator) == {"ann", "bob"}
    assert one_coin_competence([Label("y", "cat", 1)], 2).num_items == 0


def test_competence_on_one_category_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 categories, not 1"):
        one_coin_competence([], 1)
