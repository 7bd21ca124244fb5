"""Graded sets from elsewhere become closed rounds: their pairs, people and judgements, as ours."""

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from annotation.access import LEADS, require_role
from annotation.models import (
    Comparison,
    Dialogue,
    Judgement,
    JudgementKind,
    Round,
    Sample,
    Slot,
    User,
)
from annotation.scale import Side
from annotation.services.imported_policies import imported_policy
from annotation.services.people import NewUser, create_users
from annotation.services.rounds import publish_guidelines
from records.graded import GradedComparison, GradedImport, GradedJudgement, GradedSet
from records.preferences import Axis, Rating
from registry.models import PolicyVersion

_AT_ONCE = 200
_NAMESPACE = uuid.UUID("6f1d5a52-6c62-4d33-9a4c-0f4e6b8e3a10")
_RATINGS = {1: (Rating.BETTER,), 2: (Rating.SLIGHTLY_BETTER, Rating.BETTER)}
"""By the set's number of degrees, from the lowest: a preference without degrees is "better"."""


@dataclass
class ImportedRound:
    """The round a set has become, and what this import added to it."""

    round: Round
    num_comparisons: int = 0
    num_judgements: int = 0
    num_known: int = 0
    """Comparisons that an earlier import has stored."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Comparisons left out, and judgements, by reason."""


def import_graded_set(*, data: GradedImport, imported_by: User) -> ImportedRound:
    """Store a graded set as a closed round named `import: ...`; importing it again adds nothing.

    Rows are read and stored a few hundred at a time, each lot whole or not at all, so an import
    that was cut off goes on where it was. Annotators become accounts that nobody can sign in to,
    named after the set; models become policy versions without weights. Our scale has no tie, so
    ties are left out and counted, as are prompts of several turns, pairs nobody could be shown, and
    safety pairs, whose bin nobody was asked. The side of each response is drawn by its key: the
    sets do not tell it.

    Raises:
        NotAllowedError: `imported_by` is no lead.
        RecordError: A row is wrong; names file, line and field. What came before it is stored.
    """
    require_role(imported_by, LEADS)
    result = ImportedRound(_round_of(data.source, imported_by))
    policies: dict[str, PolicyVersion] = {}
    people: dict[str, User] = {}
    for lot in _lots(data.comparisons):
        usable = list(_usable(lot, result))
        _find_people(data.source, usable, people)
        _find_policies(data.source, usable, policies)
        with transaction.atomic():
            _store_lot(data.source, usable, result, people, policies)
    result.round.refresh_from_db()
    return result


def _round_of(source: GradedSet, lead: User) -> Round:
    guidelines = publish_guidelines(
        axis=Axis.HELPFULNESS,
        version=f"import {source.name}"[:20],
        text=(
            f"Imported: {source.title} ({source.licence}). What its annotators were told is not "
            "known here."
        ),
        created_by=lead,
    )
    now = timezone.now()
    with transaction.atomic():
        round_, _ = Round.objects.get_or_create(
            name=f"import: {source.title}",
            defaults={
                "axis": Axis.HELPFULNESS.value,
                "state": Round.State.CLOSED,
                "guidelines": guidelines,
                "target_comparisons": 1,
                "max_turns": 1,
                "opened_by": lead,
                "closed_at": now,
            },
        )
    return round_


def _lots(comparisons: Iterator[GradedComparison]) -> Iterator[list[GradedComparison]]:
    while lot := list(islice(comparisons, _AT_ONCE)):
        yield lot


def _usable(
    lot: Sequence[GradedComparison], result: ImportedRound
) -> Iterator[tuple[GradedComparison, list[GradedJudgement]]]:
    """Yield what can be stored with its judgements, and count the rest."""
    for item in lot:
        problem = item.problem
        if len(item.prompt.turns) > 1:
            problem = "prompt of several turns"
        elif item.axis is Axis.SAFETY:
            problem = "safety pair without a bin"
        judgements = [judgement for judgement in item.judgements if judgement.grade]
        if not problem and not judgements:
            problem = "only ties"
        if problem:
            result.skipped[problem] += 1
            continue
        result.skipped["tie"] += len(item.judgements) - len(judgements)
        yield item, judgements


def _find_people(
    source: GradedSet,
    usable: Sequence[tuple[GradedComparison, list[GradedJudgement]]],
    people: dict[str, User],
) -> None:
    names = {j.annotator for _, judgements in usable for j in judgements} - people.keys()
    usernames = {f"import-{source.name}-{name}": name for name in names}
    found = set(User.objects.filter(username__in=usernames).values_list("username", flat=True))
    create_users(users=[NewUser(username) for username in usernames.keys() - found])
    for user in User.objects.filter(username__in=usernames):
        people[usernames[user.username]] = user


def _find_policies(
    source: GradedSet,
    usable: Sequence[tuple[GradedComparison, list[GradedJudgement]]],
    policies: dict[str, PolicyVersion],
) -> None:
    for item, _ in usable:
        for response in (item.first, item.second):
            name = _policy_name(source, response.model)
            if name not in policies:
                policies[name] = imported_policy(name)


def _policy_name(source: GradedSet, model: str) -> str:
    return f"{source.name}/{model}"[:80] if source.names_models else source.name


def _store_lot(
    source: GradedSet,
    usable: Sequence[tuple[GradedComparison, list[GradedJudgement]]],
    result: ImportedRound,
    people: dict[str, User],
    policies: dict[str, PolicyVersion],
) -> None:
    keys = {_key(source, item): (item, judgements) for item, judgements in usable}
    known = set(Comparison.objects.filter(client_key__in=keys).values_list("client_key", flat=True))
    new = {key: row for key, row in keys.items() if key not in known}
    result.num_known += len(known)
    if not new:
        return
    now = timezone.now()
    dialogues = Dialogue.objects.bulk_create(
        Dialogue(
            round=result.round,
            annotator=people[judgements[0].annotator],
            client_key=key,
            state=Dialogue.State.FINISHED,
            num_turns=1,
            finished_at=now,
        )
        for key, (_, judgements) in new.items()
    )
    comparisons = Comparison.objects.bulk_create(
        Comparison(
            dialogue=dialogue,
            round=result.round,
            turn=0,
            prompt_text=item.prompt.turns[0].text,
            client_key=key,
            state=Comparison.State.JUDGED,
            lease_expires_at=now,
            ready_at=now,
            num_slots=len(judgements),
        )
        for dialogue, (key, (item, judgements)) in zip(dialogues, new.items(), strict=True)
    )
    samples = _samples(source, comparisons, list(new), [item for item, _ in new.values()], policies)
    given = [judgements for _, judgements in new.values()]
    judged = _judgements(source, result, comparisons, samples, given, people)
    _count(result, comparisons, judged, now)


def _samples(
    source: GradedSet,
    comparisons: Sequence[Comparison],
    keys: Sequence[uuid.UUID],
    items: Sequence[GradedComparison],
    policies: dict[str, PolicyVersion],
) -> list[tuple[Sample, Sample]]:
    """Store both responses, the first one first; how they were drawn is not known."""
    rows = []
    for comparison, key, item in zip(comparisons, keys, items, strict=True):
        sides = (Side.LEFT, Side.RIGHT) if key.int % 2 else (Side.RIGHT, Side.LEFT)
        rows += [
            Sample(
                comparison=comparison,
                side=side,
                text=response.text,
                policy=policies[_policy_name(source, response.model)],
                temperature=0.0,
                top_p=1.0,
                seed=0,
                num_tokens=len(response.text.split()),
                is_finished=True,
            )
            for side, response in zip(sides, (item.first, item.second), strict=True)
        ]
    stored = Sample.objects.bulk_create(rows)
    return list(zip(stored[::2], stored[1::2], strict=True))


def _judgements(
    source: GradedSet,
    result: ImportedRound,
    comparisons: Sequence[Comparison],
    samples: Sequence[tuple[Sample, Sample]],
    judged: Sequence[Sequence[GradedJudgement]],
    people: dict[str, User],
) -> list[Judgement]:
    rows = []
    for comparison, pair, judgements in zip(comparisons, samples, judged, strict=True):
        times: Counter[str] = Counter()
        for judgement in judgements:
            times[judgement.annotator] += 1
            if times[judgement.annotator] > 2:
                result.skipped["third judgement of one person"] += 1
                continue
            slot = sum(times.values()) - 1
            kind = JudgementKind.OVERLAP if slot else JudgementKind.AUTHOR
            if times[judgement.annotator] == 2:
                kind = JudgementKind.REPEAT
            chosen = pair[0] if judgement.grade > 0 else pair[1]
            rows.append(
                Judgement(
                    comparison=comparison,
                    slot=slot,
                    kind=kind,
                    annotator=people[judgement.annotator],
                    chosen_sample=chosen,
                    displayed_side=chosen.side,
                    axis=result.round.axis,
                    rating=_rating(source, judgement.grade),
                    guidelines_id=result.round.guidelines_id,
                    client_key=uuid.uuid5(comparison.client_key, str(slot)),
                    active_seconds=0.0,
                )
            )
    return Judgement.objects.bulk_create(rows)


def _count(
    result: ImportedRound,
    comparisons: Sequence[Comparison],
    judged: Sequence[Judgement],
    now: datetime,
) -> None:
    """Give every further judgement its slot, and count all in the round."""
    authors = {item.pk: item.dialogue.annotator_id for item in comparisons}
    further = [item for item in judged if item.slot]
    Slot.objects.bulk_create(
        Slot(
            comparison_id=item.comparison_id,
            round=result.round,
            number=item.slot,
            kind=item.kind,
            author_id=authors[item.comparison_id],
            state=Slot.State.JUDGED,
            annotator_id=item.annotator_id,
            offered_at=now,
        )
        for item in further
    )
    num_overlap = sum(item.kind == JudgementKind.OVERLAP for item in further)
    num = len(comparisons)
    # A round has a target of one at least: an empty one is given up with the first lot.
    Round.objects.filter(pk=result.round.pk).update(
        target_comparisons=F("num_reserved") + num,
        num_reserved=F("num_reserved") + num,
        num_judged=F("num_judged") + num,
        num_further=F("num_further") + num_overlap,
        num_further_judged=F("num_further_judged") + num_overlap,
    )
    result.num_comparisons += num
    result.num_judgements += len(judged)


def _rating(source: GradedSet, grade: int) -> str:
    return _RATINGS[source.num_degrees][abs(grade) - 1].value


def _key(source: GradedSet, item: GradedComparison) -> uuid.UUID:
    return uuid.uuid5(_NAMESPACE, f"{source.name} {item.comparison_id}")
