"""Made pairs: what is made of a chosen response, and how many of it."""

import random
from collections import Counter

import pytest

from language.rows import TokenRow
from records.preferences import Rating, SafetyBin
from rewardmodels.data import Pair
from rewardmodels.made import (
    DAMAGES,
    Damage,
    answer_to_another_prompt,
    cut_short,
    made_pairs,
    out_of_order,
    said_again,
    with_a_foreign_span,
)

END = 2
OWN, OTHER = tuple(range(10, 22)), tuple(range(50, 60))


def pair(index: int) -> Pair:
    """Return a pair whose tokens tell which it is: the tens of its prompt and of its responses."""
    chosen = (*range(100 * index + 110, 100 * index + 122), END)
    rows = (TokenRow((1, index + 4), ids) for ids in (chosen, (*chosen[:3], END)))
    return Pair(*rows, Rating.BETTER, SafetyBin.BOTH_SAFE)


@pytest.mark.parametrize("seed", range(20))
def test_each_damage_does_what_its_name_says(seed: int) -> None:
    rng = random.Random(seed)
    assert answer_to_another_prompt(rng, OWN, OTHER) == OTHER

    again = said_again(rng, OWN, OTHER)
    assert set(again) == set(OWN)
    assert len(again) >= len(OWN) + 2
    counts = Counter(Counter(again).values())
    assert len(counts) <= 2, "one span is said again, each of its tokens as often"

    mixed = out_of_order(rng, OWN, OTHER)
    assert sorted(mixed) == sorted(OWN)
    moved = [place for place, (x, y) in enumerate(zip(mixed, OWN, strict=True)) if x != y]
    assert not moved or moved[-1] - moved[0] < 8

    cut = cut_short(rng, OWN, OTHER)
    assert cut == OWN[: len(cut)]
    assert len(cut) < len(OWN)

    foreign = with_a_foreign_span(rng, OWN, OTHER)
    assert tuple(token for token in foreign if token in OWN) == OWN
    assert 2 <= len(foreign) - len(OWN) <= 8


@pytest.mark.parametrize("damage", DAMAGES)
def test_short_responses_can_be_damaged_too(damage: Damage) -> None:
    for own in ((), (7,)):
        for other in ((), (8,)):
            assert len(damage(random.Random(0), own, other)) <= 5


def test_made_pairs_keep_prompt_chosen_response_and_end_and_claim_no_rating() -> None:
    pairs = [pair(index) for index in range(40)]
    made = made_pairs(pairs, share=0.5, seed=1, max_tokens=100)
    assert 30 <= len(made) <= 40
    by_prompt = {item.chosen.prompt_ids: item for item in pairs}
    for item in made:
        assert item.chosen == by_prompt[item.chosen.prompt_ids].chosen
        assert item.rejected.prompt_ids == item.chosen.prompt_ids
        assert item.rejected.response_ids[-1] == END
        assert item.rejected.response_ids.count(END) == 1
        assert item.rejected != item.chosen
        assert (item.rating, item.safety_bin) == (None, None)


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.2, 10), (0.5, 40), (0.75, 120)])
def test_the_share_is_of_all_pairs_and_every_pair_has_its_turn(share: float, count: int) -> None:
    pairs = [pair(index) for index in range(40)]
    made = made_pairs(pairs, share=share, seed=3, max_tokens=1000)
    unchanged = count - len(made)  # what came out equal to the chosen response is left out
    assert 0 <= unchanged <= 0.2 * count
    turns = Counter(item.chosen.prompt_ids for item in made)
    assert not turns or max(turns.values()) <= -(-count // 40)


def test_the_seed_decides_and_nothing_grows_too_long() -> None:
    pairs = [pair(index) for index in range(40)]
    first, again, other = (
        made_pairs(pairs, share=0.5, seed=seed, max_tokens=100) for seed in (1, 1, 2)
    )
    assert first == again != other
    short = made_pairs(pairs, share=0.5, seed=1, max_tokens=pairs[0].chosen.num_tokens)
    assert short == [item for item in first if item.rejected.num_tokens <= 15]
    assert 0 < len(short) < len(first)
