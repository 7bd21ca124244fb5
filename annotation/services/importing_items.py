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
    """What an import added to a round."""

    num_items: int = 0
    num_turns: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Pairs that nobody could compare, by reason."""


def add_items(
    *,
    lead: User,
    round_: Round,
    items: Iterable[RoundItem],
    on_progress: Callable[[int], None] | None = None,
) -> AddedItems:
    """Add the items of a file to an open round that asks imported ones; its target grows by them.

    All or nothing, a few hundred rows at a time. Pairs that the guard would not let before an
    annotator are left out and counted.

    Args:
        lead: Who adds them.
        round_: The round; its source says what the items are.
        items: As `records.round_items` reads them.
        on_progress: Told after each lot how many were read.

    Raises:
        NotAllowedError: `lead` is no lead.
        RoundClosedError: The round takes no more work.
        RoundConfigError: The round's prompts are written by annotators, or no item is left.
        RecordError: A line is wrong; names the field, the line and the bound.
    """
    require_role(lead, LEADS)
    if not round_.is_imported:
        raise RoundConfigError("source", f"the prompts of {round_.name!r} are written in it")
    if not round_.is_open:
        raise RoundClosedError(round_.name)
    try:
        with transaction.atomic():
            # The round's row, which all judgements change, is locked at the end only.
            added = store_items(round_, items, on_progress)
            still_open = Round.objects.open().filter(pk=round_.pk)
            target = F("target_comparisons") + added.num_turns
            if not still_open.update(target_comparisons=target):
                raise RoundClosedError(round_.name)
    except IntegrityError as error:
        message = "another import has just added items of the same names"
        raise RoundConfigError("items", message) from error
    round_.refresh_from_db()
    return added


def store_items(
    round_: Round,
    items: Iterable[RoundItem],
    on_progress: Callable[[int], None] | None = None,
) -> AddedItems:
    """Store items in the caller's transaction; the caller counts their turns in the target.

    Raises:
        RoundConfigError: None of them can be asked.
        RecordError: A line is wrong.
    """
    added = AddedItems()
    policies: dict[str, int] = {}
    stream, num_read = iter(items), 0
    while lot := list(islice(stream, _AT_ONCE)):
        num_read += len(lot)
        usable = list(_usable(round_, lot, added))
        _check_keys(round_, usable)
        rows = [_row(round_, item, policies) for item in usable]
        ImportedItem.objects.bulk_create(rows)
        added.num_items += len(rows)
        added.num_turns += sum(len(row.turns) for row in rows)
        if on_progress is not None:
            on_progress(num_read)
    if not added.num_items:
        reasons = ", ".join(f"{number} {reason}" for reason, number in added.left_out.items())
        raise RoundConfigError(
            "items", f"the file holds nothing to ask: {reasons or 'it is empty'}"
        )
    return added


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


def _check_keys(round_: Round, items: Sequence[RoundItem]) -> None:
    """Pass if no name stands in the lot or the round twice; earlier lots are in the round."""
    seen: dict[str, RoundItem] = {}
    for item in items:
        first = seen.setdefault(item.prompt.prompt_id, item)
        if first is not item:
            raise item.row.error("prompt_id", f"is that of line {first.row.line} too")
    known = ImportedItem.objects.filter(round=round_, key__in=seen).values_list("key", flat=True)
    for key in known[:1]:
        raise seen[key].row.error("prompt_id", f"{key!r} is in the round already")


def _problem_of(pair: tuple[ItemResponse, ItemResponse]) -> str | None:
    responses = [Response(response.text, True, 0, None) for response in pair]
    names = [item.source for item in pair if len(item.source) >= _SHORTEST_NAME]
    return problem_of_pair(responses, names)


def _row(round_: Round, item: RoundItem, policies: dict[str, int]) -> ImportedItem:
    prompt = item.prompt
    *opening, first = [turn.text for turn in prompt.dialogue.turns]
    return ImportedItem(
        round=round_,
        key=prompt.prompt_id,
        system_prompt=prompt.dialogue.system,
        opening=opening,
        turns=[first, *prompt.next_turns],
        responses=[
            {"text": response.text, "policy": _policy_of(item, response, policies)}
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
        if len(policies) >= MAX_SOURCES:
            raise item.row.error("source", f"more than {MAX_SOURCES} different ones in a file")
        policies[name] = imported_policy(name).pk
    return policies[name]
