"""Pairs that nobody judged: a chosen response against one that was made worse on purpose.

Comparisons are of responses that policies gave, each to its own prompt and in good language, so a
reward model learns from them what separates good responses, and little of what separates responses
from what is none. An optimiser goes there: it says again what scored well once, and leaves out
what was asked. After Liu et al. (arXiv:2409.13156), who put responses to other prompts among the
rejected, these pairs hold what comparisons lack. A model learns to see these damages and no others:
decision 0007 has figures.
"""

import random
from collections.abc import Callable, Sequence

from language.rows import TokenRow
from rewardmodels.data import Pair

Ids = tuple[int, ...]
Damage = Callable[[random.Random, Ids, Ids], Ids]
"""Makes a response worse, given one to another prompt; both without their end tokens."""
_SPAN = (2, 8)
"""Shortest and longest span of tokens that is moved, said again or put in."""
_MOST_REPEATS = 4


def made_pairs(pairs: Sequence[Pair], *, share: float, seed: int, max_tokens: int) -> list[Pair]:
    """Return made pairs, as many as make `share` of them and `pairs` together.

    Each has the prompt and the chosen response of one of `pairs`, and for the rejected one a
    response that one of `DAMAGES` made of it, drawn evenly; all pairs have had their turn before
    one has another. Left out is what would be longer than `max_tokens` or equal to the chosen one.
    They have no rating, hence the margin of the lowest, and no safety bin.
    """
    rng = random.Random(f"{seed}:made")
    wanted = round(len(pairs) * share / (1.0 - share))
    order = list(range(len(pairs)))
    rng.shuffle(order)
    found = []
    for number in range(wanted):
        pair = pairs[order[number % len(order)]]
        made = _made(rng, pair, rng.choice(pairs))
        if made != pair.chosen and made.num_tokens <= max_tokens:
            found.append(Pair(pair.chosen, made, None, None))
    return found


def _made(rng: random.Random, pair: Pair, other: Pair) -> TokenRow:
    """Return a worse response than the pair's chosen one; it ends as every response does."""
    *own, end = pair.chosen.response_ids
    *others, _ = other.chosen.response_ids
    damage = rng.choice(DAMAGES)
    return TokenRow(pair.chosen.prompt_ids, (*damage(rng, tuple(own), tuple(others)), end))


def answer_to_another_prompt(_rng: random.Random, _ids: Ids, other: Ids) -> Ids:
    """Return `other`, which answers another prompt."""
    return other


def said_again(rng: random.Random, ids: Ids, _other: Ids) -> Ids:
    """Return `ids` with a span said up to four more times in a row: degenerate text loops."""
    start, stop = _span(rng, ids)
    return (*ids[:stop], *ids[start:stop] * rng.randint(1, _MOST_REPEATS), *ids[stop:])


def out_of_order(rng: random.Random, ids: Ids, _other: Ids) -> Ids:
    """Return `ids` with the tokens of a span in random order."""
    start, stop = _span(rng, ids)
    return (*ids[:start], *rng.sample(ids[start:stop], stop - start), *ids[stop:])


def cut_short(rng: random.Random, ids: Ids, _other: Ids) -> Ids:
    """Return the beginning of `ids`: it is empty, or ends anywhere."""
    return ids[: rng.randrange(len(ids))] if ids else ids


def with_a_foreign_span(rng: random.Random, ids: Ids, other: Ids) -> Ids:
    """Return `ids` with a span of `other` put in anywhere."""
    start, stop = _span(rng, other)
    place = rng.randint(0, len(ids))
    return (*ids[:place], *other[start:stop], *ids[place:])


DAMAGES: tuple[Damage, ...] = (
    answer_to_another_prompt,
    said_again,
    out_of_order,
    cut_short,
    with_a_foreign_span,
)


def _span(rng: random.Random, ids: Ids) -> tuple[int, int]:
    """Return where a span of `ids` begins and ends; all of them where they are few."""
    length = min(len(ids), rng.randint(*_SPAN))
    start = rng.randint(0, len(ids) - length)
    return start, start + length
