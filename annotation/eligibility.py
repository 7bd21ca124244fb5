"""Who may work in which round: the one place that decides, and that says what is missing."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from django.db.models import Q, QuerySet
from django.utils import timezone

from annotation.errors import NotEligibleError, PausedError
from annotation.exposure import CATEGORY_WORDS, break_of, categories_of
from annotation.models import (
    Attempt,
    CategoryOptOut,
    GuidelinesConfirmation,
    Qualification,
    Requirement,
    Round,
    User,
)
from annotation.pauses import active_pause
from annotation.statements import Statement


class Need(StrEnum):
    """What may be missing."""

    CONSENT = "consent"
    GUIDELINES = "guidelines"
    QUALIFICATION = "qualification"
    OPTED_OUT = "opted_out"
    BREAK = "break"
    MAINTENANCE = "maintenance"


class Missing(NamedTuple):
    """One thing between a person and a round."""

    need: Need
    message: str
    pk: int | None = None
    """The qualification to take, or the guidelines to confirm."""
    until: datetime | None = None
    """With BREAK: when it is over; with MAINTENANCE: when it is expected to be, if known."""


# Written out: building it from query sets at every step costs ten times what it costs to run.
FACTS = """
        EXISTS (
            SELECT FROM annotation_consentdocument document
            WHERE document.id = (SELECT max(id) FROM annotation_consentdocument)
            AND NOT EXISTS (
                SELECT FROM annotation_consent
                WHERE annotator_id = %(annotator)s AND withdrawal_id IS NULL
                AND document_id = document.id
            )
        )
        OR EXISTS (SELECT FROM annotation_withdrawal WHERE annotator_id = %(annotator)s)
        AND NOT EXISTS (
            SELECT FROM annotation_consent
            WHERE annotator_id = %(annotator)s AND withdrawal_id IS NULL
        ),
        EXISTS (
            SELECT FROM annotation_guidelines wanted
            WHERE wanted.id = ANY ({guidelines})
            AND EXISTS (
                SELECT FROM annotation_guidelinesconfirmation known
                JOIN annotation_guidelines earlier ON earlier.id = known.guidelines_id
                WHERE known.annotator_id = %(annotator)s AND earlier.axis = wanted.axis
            )
            AND NOT EXISTS (
                SELECT FROM annotation_guidelinesconfirmation
                WHERE annotator_id = %(annotator)s AND guidelines_id = wanted.id
            )
        ),
        EXISTS (
            SELECT FROM annotation_requirement
            WHERE round_id = ANY ({rounds}) OR axis = ANY ({axes})
        ),
        EXISTS (SELECT FROM annotation_categoryoptout WHERE annotator_id = %(annotator)s),
        EXISTS (
            SELECT FROM annotation_wellbeingpolicy
            WHERE daily_minutes IS NOT NULL OR stretch_minutes IS NOT NULL
        )
        OR EXISTS (
            SELECT FROM annotation_wellbeingsettings
            WHERE annotator_id = %(annotator)s AND daily_minutes IS NOT NULL
        ),
        EXISTS (
            SELECT FROM annotation_pause
            WHERE is_active AND NOT (ends_itself AND back_at <= statement_timestamp())
        )
"""
"""The columns of `Facts`; what stands in braces are arrays of the rounds asked about."""

_ASK_FACTS = Statement(
    "facts",
    "SELECT"
    + FACTS.format(
        guidelines="%(guidelines)s::bigint[]",
        rounds="%(rounds)s::bigint[]",
        axes="%(axes)s::text[]",
    ),
)


class Facts(NamedTuple):
    """What there is to look at for one person: answered by one query."""

    lacks_consent: bool
    has_new_guidelines: bool
    has_requirements: bool
    has_opt_outs: bool
    is_bounded: bool
    is_paused: bool


def missing_for(
    annotator: User, rounds: Iterable[Round], facts: Facts | None = None
) -> dict[int, tuple[Missing, ...]]:
    """Return what is missing for each round, by round id; empty where the person may work.

    Costs one query where nothing is asked for, none with the `facts` about these rounds, and never
    more for more rounds. Simulated annotators are programs: nothing is asked of them.
    """
    rounds = list(rounds)
    found: dict[int, list[Missing]] = {round_.pk: [] for round_ in rounds}
    if rounds and not annotator.is_simulated:
        facts = facts or _facts(annotator, rounds)
        if facts.is_paused:
            _add_maintenance(found)
        if facts.lacks_consent:
            for missing in found.values():
                missing.append(Missing(Need.CONSENT, "read what you consent to, and decide"))
        if facts.has_new_guidelines:
            _add_guidelines(annotator, rounds, found)
        if facts.has_requirements:
            _add_qualifications(annotator, rounds, found)
        if facts.has_opt_outs or facts.is_bounded:
            _add_wellbeing(annotator, rounds, found, facts)
    return {pk: tuple(missing) for pk, missing in found.items()}


def missing_in(annotator: User, round_: Round) -> tuple[Missing, ...]:
    """Return what is missing before this person may work in the round."""
    return missing_for(annotator, [round_])[round_.pk]


def require_may_work(annotator: User, round_: Round, *, begins: bool) -> None:
    """Pass if the person may work in the round; a pause stops those alone who begin something.

    Raises:
        PausedError: Annotation is paused.
        NotEligibleError: Something is missing; says what comes first.
    """
    for missing in missing_in(annotator, round_):
        if missing.need is not Need.MAINTENANCE:
            raise NotEligibleError(round_.name, missing.message)
        if begins:
            raise PausedError(missing.message)


def _facts(annotator: User, rounds: Collection[Round]) -> Facts:
    """Ask the database once; every step of an annotator passes here, so the query stands ready."""
    values: dict[str, int | list[int] | list[str]] = {
        "annotator": annotator.pk,
        "rounds": [round_.pk for round_ in rounds],
        "axes": list({round_.axis for round_ in rounds}),
        "guidelines": list({round_.guidelines_id for round_ in rounds}),
    }
    (row,) = _ASK_FACTS.rows(values)
    return Facts(*row)


def _requirements_of(rounds: Collection[Round]) -> QuerySet[Requirement]:
    axes = {round_.axis for round_ in rounds}
    return Requirement.objects.filter(Q(round__in=rounds) | Q(axis__in=axes))


def _add_maintenance(found: dict[int, list[Missing]]) -> None:
    """Stand before everything else that may be missing; nothing if it has ended this moment."""
    pause = active_pause()
    if pause is not None:
        for missing in found.values():
            missing.append(Missing(Need.MAINTENANCE, pause.notice, until=pause.back_at))


def _add_guidelines(
    annotator: User, rounds: Collection[Round], found: dict[int, list[Missing]]
) -> None:
    """A version other than the first one on its axis has to be confirmed."""
    rows = GuidelinesConfirmation.objects.filter(annotator=annotator)
    known = list(rows.values_list("guidelines__axis", "guidelines"))
    confirmed, axes = {pk for _, pk in known}, {axis for axis, _ in known}
    for round_ in rounds:
        if round_.axis in axes and round_.guidelines_id not in confirmed:
            message = "the guidelines have changed: see what is new"
            found[round_.pk].append(Missing(Need.GUIDELINES, message, round_.guidelines_id))


def _add_qualifications(
    annotator: User, rounds: Collection[Round], found: dict[int, list[Missing]]
) -> None:
    requirements = list(
        _requirements_of(rounds).select_related("qualification").order_by("qualification__kind")
    )
    # Tutorials stand before tests, each in the order in which they were written.
    requirements.sort(key=lambda r: (not r.qualification.is_tutorial, r.qualification_id))
    attempts = Attempt.objects.filter(
        annotator=annotator, qualification__in={r.qualification_id for r in requirements}
    )
    words = _words_of(list(attempts.select_related("qualification").order_by("number")))
    for round_ in rounds:
        asked = [r for r in requirements if r.round_id == round_.pk or r.axis == round_.axis]
        for qualification in {r.qualification_id: r.qualification for r in asked}.values():
            said = words.get(qualification.pk, _first_words(qualification))
            if said:
                found[round_.pk].append(Missing(Need.QUALIFICATION, said, qualification.pk))


def _words_of(attempts: Sequence[Attempt]) -> dict[int, str]:
    """Return what the last attempt at each qualification leaves to do; empty where it is passed."""
    words: dict[int, str] = {}
    for attempt in attempts:
        pk, name = attempt.qualification_id, attempt.qualification.name
        if attempt.state == Attempt.State.PASSED:
            is_current = attempt.expires_at is None or attempt.expires_at > timezone.now()
            words[pk] = "" if is_current else f"your pass of {name} has expired: take it again"
        elif attempt.state == Attempt.State.GRADING:
            words[pk] = f"your answers to {name} are being graded"
        elif attempt.state == Attempt.State.IN_PROGRESS:
            words[pk] = f"go on with {name}, which you have begun"
        else:
            words[pk] = f"you have not passed {name} yet"
    return words


def _first_words(qualification: Qualification) -> str:
    verb = "go through the tutorial" if qualification.is_tutorial else "pass the test"
    return f"{verb} {qualification.name}"


def _add_wellbeing(
    annotator: User, rounds: Collection[Round], found: dict[int, list[Missing]], facts: Facts
) -> None:
    categories = categories_of(rounds)
    opted_out: set[str] = set()
    if facts.has_opt_outs:
        rows = CategoryOptOut.objects.filter(annotator=annotator)
        opted_out = set(rows.values_list("category", flat=True))
    has_unsafe = facts.is_bounded and any(categories.values())
    rest = break_of(annotator) if has_unsafe else None
    for round_ in rounds:
        unwanted = [c for c in categories[round_.pk] if c in opted_out]
        if unwanted:
            names = ", ".join(CATEGORY_WORDS[category] for category in unwanted)
            message = f"you asked not to be offered: {names}"
            found[round_.pk].append(Missing(Need.OPTED_OUT, message))
        if rest is not None and categories[round_.pk]:
            found[round_.pk].append(Missing(Need.BREAK, rest.message, until=rest.until))
