"""Exposure: which rounds hold unsafe texts, and when somebody has seen enough of them."""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from annotation.models import (
    ContentCategory,
    ContentWarning,
    Judgement,
    Round,
    User,
    WellbeingPolicy,
    WellbeingSettings,
)
from records.preferences import Axis

RISKS = (ContentCategory.ILLICIT, ContentCategory.HATEFUL, ContentCategory.UNQUALIFIED)
"""What a safety round is taken to contain unless its lead says otherwise."""

CATEGORY_WORDS: dict[str, str] = {
    ContentCategory.ILLICIT: "illicit and criminal activity",
    ContentCategory.HATEFUL: "hateful and harmful behaviour",
    ContentCategory.UNQUALIFIED: "unqualified advice",
    ContentCategory.SELF_HARM: "self-harm and eating disorders",
    ContentCategory.VIOLENCE: "violence and danger",
    ContentCategory.SEXUAL: "sexually explicit texts",
}


class Rest(NamedTuple):
    """A break that is due."""

    until: datetime
    message: str


class Exposure(NamedTuple):
    """How much unsafe work somebody did, and how much is allowed."""

    seconds_today: float
    seconds_since_break: float
    last_at: datetime | None
    daily_minutes: int | None
    """Allowed in a day of UTC; None for no bound."""
    stretch_minutes: int | None
    """Allowed until a break; None for no bound."""
    break_minutes: int


def categories_of(rounds: Collection[Round]) -> dict[int, tuple[str, ...]]:
    """Return the categories of each round, by round id; empty for a round without unsafe texts.

    A safety round whose lead said nothing is taken to contain all three risks of the paper. Rounds
    that know what was declared (`Round.declared`) are not asked about again.
    """
    declared = {round_.pk: list(round_.declared or ()) for round_ in rounds}
    unknown = [round_ for round_ in rounds if round_.declared is None]
    if unknown:
        rows = ContentWarning.objects.filter(round__in=unknown).order_by("pk")
        for round_id, category in rows.values_list("round", "category"):
            declared[round_id].append(category)
    return {
        round_.pk: tuple(declared[round_.pk] or (RISKS if round_.axis == Axis.SAFETY else ()))
        for round_ in rounds
    }


def covers_responses(annotator: User, round_: Round) -> bool:
    """Whether responses of the round are covered until this person asks to see them."""
    if round_.axis != Axis.SAFETY and not categories_of([round_])[round_.pk]:
        return False
    own = WellbeingSettings.objects.filter(annotator=annotator).first()
    return own is None or own.covers_responses


def exposure_of(annotator: User) -> Exposure:
    """Return how much unsafe work the person did today; reads the last day's judgements only."""
    now = timezone.now()
    policy = WellbeingPolicy.objects.first()
    own = WellbeingSettings.objects.filter(annotator=annotator).first()
    daily = own.daily_minutes if own is not None else None
    if daily is None and policy is not None:
        daily = policy.daily_minutes
    break_minutes = 0 if policy is None else policy.break_minutes
    warned = ContentWarning.objects.filter(round=OuterRef("comparison__round"))
    rows = list(
        # What was taken back was read all the same.
        Judgement.with_retracted.filter(annotator=annotator, created_at__gt=now - timedelta(days=1))
        .filter(Q(axis=Axis.SAFETY) | Exists(warned))
        .order_by("created_at")
        .values_list("created_at", "active_seconds")
    )
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return Exposure(
        seconds_today=sum(seconds for at, seconds in rows if at >= midnight),
        seconds_since_break=_since_break(rows, timedelta(minutes=break_minutes)),
        last_at=rows[-1][0] if rows else None,
        daily_minutes=daily,
        stretch_minutes=None if policy is None else policy.stretch_minutes,
        break_minutes=break_minutes,
    )


def break_of(annotator: User) -> Rest | None:
    """Return the break that is due before more unsafe work, None where none is."""
    exposure = exposure_of(annotator)
    now = timezone.now()
    daily, stretch = exposure.daily_minutes, exposure.stretch_minutes
    if daily is not None and exposure.seconds_today >= 60 * daily:
        tomorrow = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        return Rest(tomorrow, f"today's {daily} minutes with unsafe texts are used up")
    if stretch is None or exposure.last_at is None:
        return None
    until = exposure.last_at + timedelta(minutes=exposure.break_minutes)
    if exposure.seconds_since_break < 60 * stretch or until <= now:
        return None
    return Rest(until, f"after {stretch} minutes with unsafe texts a break is due")


def _since_break(rows: Iterable[tuple[datetime, float]], pause: timedelta) -> float:
    """Return the active seconds since the last pause of that length between two judgements."""
    total, previous = 0.0, None
    for at, seconds in rows:
        began = at - timedelta(seconds=seconds)
        if previous is not None and began - previous >= pause:
            total = 0.0
        total, previous = total + seconds, at
    return total
