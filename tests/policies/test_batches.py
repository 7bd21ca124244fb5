"""Which rows make a step: every row once an epoch, steps full."""

from collections import Counter
from itertools import chain, islice

import pytest

from policies.batches import shuffled_stream, steps_by_rows, steps_by_tokens


def test_an_epoch_shows_every_row_once_and_the_next_one_in_another_order() -> None:
    order = list(islice(shuffled_stream(50, seed=1), 100))
    assert sorted(order[:50]) == sorted(order[50:]) == list(range(50))
    assert order[:50] != order[50:]


def test_the_stream_follows_from_the_seed() -> None:
    first, again, other = (list(islice(shuffled_stream(50, seed=s), 50)) for s in (1, 1, 2))
    assert first == again != other


def test_two_epochs_of_seven_rows_in_fours() -> None:
    steps = steps_by_rows(7, num_epochs=2.0, rows_per_step=4, seed=0)
    assert [len(step) for step in steps] == [4, 4, 4, 2]
    assert set(Counter(chain(*steps)).values()) == {2}


@pytest.mark.parametrize(("num_epochs", "expected"), [(0.5, 5), (0.01, 1), (1.5, 15)])
def test_a_part_of_an_epoch_is_that_part_of_its_rows(num_epochs: float, expected: int) -> None:
    steps = steps_by_rows(10, num_epochs=num_epochs, rows_per_step=4, seed=0)
    assert sum(len(step) for step in steps) == expected


def test_a_step_holds_as_many_tokens_as_fit() -> None:
    lengths = [30, 50, 20, 100, 10, 40]
    steps = steps_by_tokens(lengths, num_epochs=1.0, tokens_per_step=100, seed=0)
    assert sorted(chain(*steps)) == list(range(6))
    totals = [sum(lengths[i] for i in step) for step in steps]
    assert all(total <= 100 for total in totals)
    assert all(
        total + lengths[after[0]] > 100 for total, after in zip(totals, steps[1:], strict=False)
    )


def test_a_row_longer_than_a_step_is_a_step_of_its_own() -> None:
    assert steps_by_tokens([500], num_epochs=1.0, tokens_per_step=100, seed=0) == [[0]]
