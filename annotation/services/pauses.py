"""Pauses: begun, changed and ended by leads; one holds at a time, and all stay on record."""

from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from annotation.access import LEADS, require_role
from annotation.errors import AlreadyPausedError, PauseError, StateError
from annotation.models import Pause, User
from annotation.models.pauses import MAX_SENTENCE

MAX_DAYS = 30
"""How far ahead the end of a pause may be expected."""


def begin_pause(
    *, lead: User, sentence: str, back_at: datetime | None = None, ends_itself: bool = False
) -> Pause:
    """Give nobody a new task from now on; what people have in hand may be finished.

    Args:
        lead: Who begins it.
        sentence: What annotators read.
        back_at: When it is expected to end.
        ends_itself: Whether it is over then, though nobody ends it.

    Raises:
        NotAllowedError: The person is no lead.
        PauseError: A value does not fit; names the field and its bound.
        AlreadyPausedError: Annotation is paused.
    """
    require_role(lead, LEADS)
    sentence = _checked(sentence, back_at, ends_itself)
    try:
        with transaction.atomic():
            _mark_lapsed()
            return _begin(lead, sentence, back_at, ends_itself)
    except IntegrityError as error:  # two at once: the unique index lets one through
        raise AlreadyPausedError from error


def change_pause(
    *, lead: User, pause: Pause, sentence: str, back_at: datetime | None, ends_itself: bool
) -> Pause:
    """Put a pause with another sentence or time in the place of one that holds; return it.

    Annotation does not go on in between.

    Raises:
        NotAllowedError: The person is no lead.
        PauseError: A value does not fit; names the field and its bound.
        StateError: The pause has ended, or was changed by somebody else.
    """
    require_role(lead, LEADS)
    sentence = _checked(sentence, back_at, ends_itself)
    with transaction.atomic():
        _mark_lapsed()
        if not _end(pause, lead):
            raise StateError("over", "one that holds", "pause")
        return _begin(lead, sentence, back_at, ends_itself)


def end_pause(*, lead: User, pause: Pause) -> Pause:
    """Give out tasks again. Idempotent: who ended it first, or that it ended by itself, stays.

    Raises:
        NotAllowedError: The person is no lead.
    """
    require_role(lead, LEADS)
    with transaction.atomic():
        _mark_lapsed()
        _end(pause, lead)
    pause.refresh_from_db()
    return pause


def _begin(lead: User, sentence: str, back_at: datetime | None, ends_itself: bool) -> Pause:
    return Pause.objects.create(
        sentence=sentence, back_at=back_at, ends_itself=ends_itself, begun_by=lead
    )


def _end(pause: Pause, lead: User) -> bool:
    held = Pause.objects.filter(pk=pause.pk, is_active=True)
    return held.update(is_active=False, ended_by=lead, ended_at=Now()) == 1


def _mark_lapsed() -> None:
    """Mark what has ended by itself, so that it makes room."""
    Pause.objects.lapsed().update(is_active=False, ended_at=F("back_at"))


def _checked(sentence: str, back_at: datetime | None, ends_itself: bool) -> str:
    sentence = " ".join(sentence.split())
    if not 1 <= len(sentence) <= MAX_SENTENCE:
        text = f"write 1 to {MAX_SENTENCE} characters; this is {len(sentence)}"
        raise PauseError("sentence", text)
    now = timezone.now()
    if back_at is not None and not now < back_at <= now + timedelta(days=MAX_DAYS):
        text = f"{back_at:%Y-%m-%d %H:%M} UTC is not within the {MAX_DAYS} days from now"
        raise PauseError("back_at", text)
    if ends_itself and back_at is None:
        raise PauseError("back_at", "say when, if the pause is to end by itself")
    return sentence
