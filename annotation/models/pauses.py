"""Pauses: a lead stops the giving out of new tasks for everybody, and later lets it go on."""

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

MAX_SENTENCE = 300


class PauseQuerySet(models.QuerySet["Pause"]):
    """Filters of pauses."""

    def active(self) -> "PauseQuerySet":
        """The pause that holds now: one row or none. In SQL it stands in `eligibility.FACTS`."""
        return self.filter(~Q(ends_itself=True, back_at__lte=Now()), is_active=True)

    def lapsed(self) -> "PauseQuerySet":
        """What has ended by itself, and is not marked as ended yet."""
        return self.filter(is_active=True, ends_itself=True, back_at__lte=Now())


class Pause(models.Model):
    """One stretch of maintenance: nobody is given a new task; what is in hand may be finished.

    A row is written when it begins and once more when it ends. A changed sentence or time is a new
    row that takes the place of the old one.
    """

    sentence = models.CharField(max_length=MAX_SENTENCE, help_text="What annotators read.")
    back_at = models.DateTimeField(null=True, blank=True, help_text="When it is expected to end.")
    ends_itself = models.BooleanField(
        default=False, help_text="Whether it is over then, though nobody has ended it."
    )
    begun_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="pauses_begun"
    )
    begun_at = models.DateTimeField(auto_now_add=True)
    is_active = models.BooleanField(default=True, help_text="False once it is marked as ended.")
    ended_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="pauses_ended",
        help_text="Empty where it ended by itself.",
    )
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = models.Manager.from_queryset(PauseQuerySet)()

    class Meta:
        constraints = [
            # Two leads at once begin one; it is also the index by which every step of an annotator
            # looks whether there is one.
            models.UniqueConstraint(
                fields=["is_active"],
                condition=Q(is_active=True),
                name="annotation_pause_one_active",
            ),
            models.CheckConstraint(
                condition=Q(is_active=True) ^ Q(ended_at__isnull=False),
                name="annotation_pause_ended_has_time",
            ),
            models.CheckConstraint(
                condition=Q(ended_by__isnull=True) | Q(ended_at__isnull=False),
                name="annotation_pause_ended_by_after_end",
            ),
            models.CheckConstraint(condition=~Q(sentence=""), name="annotation_pause_has_sentence"),
            models.CheckConstraint(
                condition=Q(ends_itself=False) | Q(back_at__isnull=False),
                name="annotation_pause_own_end_has_time",
            ),
            models.CheckConstraint(
                condition=Q(back_at__isnull=True) | Q(back_at__gt=F("begun_at")),
                name="annotation_pause_back_after_begin",
            ),
        ]

    def __str__(self) -> str:
        return f"pause {self.pk}"

    @property
    def over_at(self) -> datetime | None:
        """When it ended, by somebody or by itself; None while it holds."""
        if self.ended_at is None and self.ends_itself and self.is_past_its_time:
            return self.back_at
        return self.ended_at

    @property
    def is_past_its_time(self) -> bool:
        """Whether it was expected to be over by now."""
        return self.back_at is not None and self.back_at <= timezone.now()

    @property
    def notice(self) -> str:
        """What an annotator is told in one line: the sentence, and the time where it is known."""
        words = f"annotation is paused for maintenance: {self.sentence}"
        if not words.endswith((".", "!", "?", "…")):
            words += "."
        if self.back_at is None:
            return words
        time = f"{self.back_at:%d %b, %H:%M} UTC".lstrip("0")
        if self.is_past_its_time:
            return f"{words} It was expected to end at {time} and takes longer."
        return f"{words} Expected back: {time}."
