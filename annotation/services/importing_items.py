"""Items of a round: prompts and pairs from a file are stored, all of them or none."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from django.db import IntegrityError, transaction
from django.db.models import F, TextChoices
from django.utils import timezone

from annotation.access import LEADS, require_role
from annotation.errors import RoundClosedError, RoundConfigError
from annotation.models import Comparison, ImportedItem, Round, User
from annotation.services.guard import Response, problem_of_pair
from annotation.services.imported_policies import imported_policy
from annotation.services.texts import problem_of
from records.round_items import ItemResponse, RoundItem

_AT_ONCE = 500
MAX_SOURCES = 100
"""Different names of what wrote the responses of a file; each becomes a policy version."""
UNNAMED = "import/unnamed"
_SHORTEST_NAME = 3
"""Shorter names of sources are words that any response may hold."""


@dataclass
class AddedItems:
    """What an import added to a round, or would add."""

    num_items: int = 0
    num_turns: int = 0
    num_known: int = 0
    """Items that the round holds already, with the same contents."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Pairs that nobody could compare, by reason."""


def add_items(
    *,
    lead: User,
    round_: Round,
    items: Iterable[RoundItem],
    on_progress: Callable[[int], None] | None = None,
    skips_known: bool = False,
) -> AddedItems:
    """Add the items of a file to an open round that asks imported ones; its target grows by them.

    All or nothing, a few hundred rows at a time. Pairs that the guard would not let before an
    annotator are left out and counted.

    Args:
        lead: Who adds them.
        round_: The round; its source says what the items are.
        items: As `records.round_items` reads them.
        on_progress: Told after each lot how many were read.
        skips_known: Leave out and count items that the round holds already instead of refusing the
            file; the names in the file are then kept in memory.

    Raises:
        NotAllowedError: `lead` is no lead.
        RoundClosedError: The round takes no more work.
        RoundConfigError: The round's prompts are written by annotators, or no item is left.
        RecordError: A line is wrong; names the field, the line and the bound.
    """
    _check_round(lead, round_)
    try:
        with transaction.atomic():
            # The round's row, which all judgements change, is locked at the end only.
            added = store_items(round_, items, on_progress, skips_known=skips_known)
            still_open = Round.objects.open().filter(pk=round_.pk)
            target = F("target_comparisons") + added.num_turns
            if not still_open.update(target_comparisons=target):
                raise RoundClosedError(round_.name, keeps_words=False)
    except IntegrityError as error:
        message = "another import has just added items of the same names"
        raise RoundConfigError("items", message) from error
    round_.refresh_from_db()
    return added


def check_items(
    *,
    lead: User,
    round_: Round,
    items: Iterable[RoundItem],
    on_progress: Callable[[int], None] | None = None,
) -> AddedItems:
    """Return what `add_items` would add now and leave out, what is known included; store nothing.

    Raises:
        NotAllowedError, RoundClosedError, RoundConfigError, RecordError: As `add_items`.
    """
    _check_round(lead, round_)
    added = AddedItems()
    sources: set[str] = set()
    for lot in _new_lots(round_, items, added, on_progress, skips_known=True):
        for item in lot:
            for response in item.responses or ():
                sources.add(response.source)
                _check_sources(item, len(sources))
    return added


def store_items(
    round_: Round,
    items: Iterable[RoundItem],
    on_progress: Callable[[int], None] | None = None,
    *,
    skips_known: bool = False,
) -> AddedItems:
    """Store items in the caller's transaction; the caller counts their turns in the target.

    Raises:
        RoundConfigError: None of them can be asked.
        RecordError: A line is wrong.
    """
    added = AddedItems()
    policies: dict[str, int] = {}
    for lot in _new_lots(round_, items, added, on_progress, skips_known=skips_known):
        ImportedItem.objects.bulk_create([_row(round_, item, policies) for item in lot])
    if not added.num_items:
        reasons = [f"{number} {reason}" for reason, number in added.left_out.items()]
        if added.num_known:
            reasons.append(f"{added.num_known} in the round already")
        message = f"the file holds nothing to ask: {', '.join(reasons) or 'it is empty'}"
        raise RoundConfigError("items", message)
    return added


def _check_round(lead: User, round_: Round) -> None:
    """Raise unless this person may add items to this round."""
    require_role(lead, LEADS)
    if not round_.is_imported:
        raise RoundConfigError("source", f"the prompts of {round_.name!r} are written in it")
    if not round_.is_open:
        raise RoundClosedError(round_.name, keeps_words=False)


def _new_lots(
    round_: Round,
    items: Iterable[RoundItem],
    added: AddedItems,
    on_progress: Callable[[int], None] | None,
    *,
    skips_known: bool,
) -> Iterator[list[RoundItem]]:
    """Yield what is to be stored, a lot at a time, and count it and what is left out.

    Raises:
        RecordError: A line is wrong.
    """
    stream, num_read = iter(items), 0
    lines: dict[str, int] = {}
    while lot := list(islice(stream, _AT_ONCE)):
        num_read += len(lot)
        if not skips_known:
            lines = {}  # earlier lots are in the round
        usable = list(_usable(round_, lot, added))
        new = list(_new_of(round_, usable, added, lines, skips_known=skips_known))
        added.num_items += len(new)
        added.num_turns += sum(1 + len(item.prompt.next_turns) for item in new)
        yield new
        if on_progress is not None:
            on_progress(num_read)


def _usable(round_: Round, lot: Sequence[RoundItem], added: AddedItems) -> Iterator[RoundItem]:
    """Yield what can be asked, and count the pairs that cannot.

    Raises:
        RecordError: A line is wrong.
    """
    for item in lot:
        _check(round_, item)
        problem = _problem_of(item.responses) if item.responses is not None else None
        if problem is None:
            yield item
        else:
            added.left_out[problem.replace("_", " ")] += 1


def _check(round_: Round, item: RoundItem) -> None:
    prompt = item.prompt
    for name, text in item.texts:
        problem = problem_of(text, "a text")
        if problem is not None:
            raise item.row.error(name, problem)
    num_turns = 1 + len(prompt.next_turns)
    if num_turns > round_.max_turns:
        message = f"{num_turns} turns are more than the {round_.max_turns} of the round"
        raise item.row.error("next_turns", message)
    choices: dict[str, type[TextChoices]] = {
        "risk_category": Comparison.RiskCategory,
        "attack_vector": Comparison.AttackVector,
    }
    for name, kind in choices.items():
        if getattr(prompt, name):
            item.row.choice(name, kind.values)


def _new_of(
    round_: Round,
    items: Sequence[RoundItem],
    added: AddedItems,
    lines: dict[str, int],
    *,
    skips_known: bool,
) -> Iterator[RoundItem]:
    """Yield the items that the round does not hold; `lines` says where each name stood before.

    Raises:
        RecordError: A name stands twice in the file, or in the round with other contents; without
            `skips_known` also with the same.
    """
    for item in items:
        first = lines.setdefault(item.prompt.prompt_id, item.row.line)
        if first != item.row.line:
            raise item.row.error("prompt_id", f"is that of line {first} too")
    keys = [item.prompt.prompt_id for item in items]
    known = {row.key: row for row in ImportedItem.objects.filter(round=round_, key__in=keys)}
    for item in items:
        stored = known.get(item.prompt.prompt_id)
        if stored is None:
            yield item
        elif not skips_known:
            raise item.row.error("prompt_id", f"{stored.key!r} is in the round already")
        elif _contents(stored) != _contents(_row(round_, item, None)):
            message = f"{stored.key!r} is in the round already, with other contents"
            raise item.row.error("prompt_id", message)
        else:
            added.num_known += 1


def _contents(row: ImportedItem) -> tuple[object, ...]:
    """Return all that is asked; where a response came from does not make it another one."""
    texts = [response["text"] for response in row.responses]
    asked = (row.system_prompt, row.opening, row.turns, texts)
    return *asked, row.risk_category, row.attack_vector


def _problem_of(pair: tuple[ItemResponse, ItemResponse]) -> str | None:
    responses = [Response(response.text, True, 0, None) for response in pair]
    names = [item.source for item in pair if len(item.source) >= _SHORTEST_NAME]
    return problem_of_pair(responses, names)


def _row(round_: Round, item: RoundItem, policies: dict[str, int] | None) -> ImportedItem:
    """Return the row of an item; without `policies` one that is not to be stored."""
    prompt = item.prompt
    *opening, first = [turn.text for turn in prompt.dialogue.turns]
    return ImportedItem(
        round=round_,
        key=prompt.prompt_id,
        system_prompt=prompt.dialogue.system,
        opening=opening,
        turns=[first, *prompt.next_turns],
        responses=[
            {"text": response.text}
            if policies is None
            else {"text": response.text, "policy": _policy_of(item, response, policies)}
            for response in item.responses or ()
        ],
        risk_category=prompt.risk_category,
        attack_vector=prompt.attack_vector,
        offered_at=timezone.now(),
    )


def _policy_of(item: RoundItem, response: ItemResponse, policies: dict[str, int]) -> int:
    """Return the id of the policy version that stands for a source; it is made where missing."""
    name = f"import/{response.source}" if response.source else UNNAMED
    if name not in policies:
        _check_sources(item, len(policies) + 1)
        policies[name] = imported_policy(name).pk
    return policies[name]


def _check_sources(item: RoundItem, number: int) -> None:
    if number > MAX_SOURCES:
        raise item.row.error("source", f"more than {MAX_SOURCES} different ones in a file")
