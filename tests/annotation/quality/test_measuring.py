"""One pass over rows: sides, repeats, gold and other people are told apart."""

import json

import pytest

from annotation.quality.measuring import Figures, JudgementRow, measure
from records.preferences import Rating


def row(comparison: int, annotator: str, chosen: int, other: int, **values: object) -> JudgementRow:
    usual: dict[str, object] = {
        "rating": Rating.BETTER.value,
        "is_left": True,
        "chosen_length": 10,
        "other_length": 20,
        "active_seconds": 30.0,
    }
    return JudgementRow(comparison, annotator, chosen, other, **{**usual, **values})  # type: ignore[arg-type]


ROWS = [
    row(1, "ann", 11, 12),
    row(1, "bob", 11, 12, is_left=False, rating=Rating.SLIGHTLY_BETTER.value),
    row(1, "ann", 12, 11),  # a silent repeat: the other one this time
    row(2, "ann", 21, 22),
    row(2, "bob", 22, 21, chosen_length=30),
    row(3, "cat", 31, 32, active_seconds=0.0),
]


def test_people_agree_by_sample_whatever_the_side() -> None:
    figures = measure(ROWS)
    assert (figures.num_judgements, figures.num_comparisons, figures.num_shared) == (6, 3, 2)
    # Two pairs: (ann, bob) on 1 prefer the same sample by different degrees; on 2 they do not.
    assert figures.numbers["direction"].value == 0.5
    assert figures.numbers["exact"].value == 0.0
    assert figures.numbers["contradiction"].value == 0.5
    assert figures.numbers["left"].value == pytest.approx(5 / 6)
    assert figures.numbers["longer"].value == pytest.approx(1 / 6)
    assert figures.numbers["rating_slightly_better"].value == pytest.approx(1 / 6)
    assert figures.numbers["median_seconds"].n == 5


def test_a_repeat_is_self_consistency() -> None:
    by_name = {who.pseudonym: who for who in measure(ROWS).annotators}
    ann = by_name["ann"].numbers
    assert (ann["consistency_direction"].value, ann["consistency_direction"].n) == (0.0, 1)
    assert by_name["bob"].numbers["consistency_direction"].value is None
    assert by_name["bob"].numbers["agreement"].value == 0.5


def test_gold_measures_its_annotator_and_counts_in_no_agreement() -> None:
    gold = [
        row(4, "ann", 41, 42),  # whoever wrote it
        row(4, "bob", 41, 42, gold_id=41),
        row(4, "cat", 42, 41, gold_id=41),
        row(5, "cat", 51, 52, gold_id=51),
    ]
    figures = measure([*ROWS, *gold])
    by_name = {who.pseudonym: who.numbers["gold"] for who in figures.annotators}
    assert (by_name["bob"].value, by_name["cat"].value, by_name["ann"].n) == (1.0, 0.5, 0)
    assert (figures.num_shared, figures.num_judgements) == (2, 10)
    assert figures.numbers["direction"] == measure(ROWS).numbers["direction"]
    assert figures.numbers["gold"].value == pytest.approx(2 / 3)


def test_whoever_shared_nothing_has_no_agreement_and_no_competence() -> None:
    figures = measure(ROWS)
    assert [who.pseudonym for who in figures.annotators] == ["ann", "bob", "cat"]
    cat = figures.annotators[-1].numbers
    assert (cat["agreement"].value, cat["competence"].value) == (None, None)


def test_the_order_of_sides_and_of_people_changes_nothing() -> None:
    turned = [r._replace(is_left=not r.is_left) for r in ROWS]
    swapped = [ROWS[1], ROWS[0], *ROWS[2:]]
    plain = measure(ROWS).numbers
    for name in ("exact", "direction", "gwet_quadratic", "alpha_ordinal"):
        assert measure(turned).numbers[name] == plain[name]
        assert measure(swapped).numbers[name] == plain[name]


def test_nothing_measured_says_nothing() -> None:
    figures = measure([])
    assert (figures.num_judgements, figures.annotators) == (0, ())
    assert all(value.value is None for value in figures.numbers.values())


def test_figures_survive_being_stored() -> None:
    figures = measure(ROWS)
    stored = json.loads(json.dumps(figures.to_json(), allow_nan=False))
    assert Figures.from_json(stored) == figures
