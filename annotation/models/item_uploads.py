"""Uploads: files of items that a lead adds to a round in steps: checked, looked at, added."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q

from annotation.models.checks import one_of
from annotation.models.rounds import Round


class ItemUpload(models.Model):
    """A file for a round: a worker checks it, a lead says yes or no, a worker adds its items.

    The file lies in the data folder under the upload's uuid until the upload is over.
    """

    class State(models.TextChoices):
        """Where an upload stands."""

        CHECKING = "checking"
        CHECKED = "checked"
        ADDING = "adding"
        ADDED = "added"
        REFUSED = "refused"
        DROPPED = "dropped"

    WORKED_ON = (State.CHECKING, State.ADDING)
    """States in which a worker has something to do."""

    uuid = models.UUIDField(default=uuid.uuid4, editable=False)
    round = models.ForeignKey(Round, on_delete=models.PROTECT, related_name="uploads")
    name = models.CharField(max_length=200, help_text="Of the file, as its lead calls it.")
    num_bytes = models.PositiveBigIntegerField()
    uploaded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="uploads"
    )
    uploaded_at = models.DateTimeField(auto_now_add=True)
    state = models.CharField(max_length=8, choices=State, default=State.CHECKING)
    num_items = models.PositiveIntegerField(default=0, help_text="New to the round.")
    num_turns = models.PositiveIntegerField(default=0, help_text="Of the new items.")
    num_known = models.PositiveIntegerField(default=0, help_text="In the round already.")
    left_out = models.JSONField(default=dict, blank=True, help_text="Unusable pairs by reason.")
    error = models.TextField(blank=True, help_text="What is wrong, with line and field.")
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["uuid"], name="annotation_upload_uuid_unique"),
            one_of(
                "state",
                ("checking", "checked", "adding", "added", "refused", "dropped"),
                name="annotation_upload_state_known",
            ),
            models.CheckConstraint(
                condition=Q(state="refused") ^ Q(error=""),
                name="annotation_upload_refusal_says_why",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["added", "refused", "dropped"])
                ^ Q(finished_at__isnull=True),
                name="annotation_upload_end_has_time",
            ),
        ]
        indexes = [
            models.Index(
                fields=["id"],
                condition=Q(state__in=["checking", "adding"]),
                name="annotation_upload_work",
            ),
        ]

    def __str__(self) -> str:
        return f"upload {self.name}"

    @property
    def is_worked_on(self) -> bool:
        """Whether it waits for a worker, or one is at it."""
        return self.state in self.WORKED_ON

    @property
    def num_left_out(self) -> int:
        """Pairs that nobody could compare."""
        return sum(self.left_out.values())
