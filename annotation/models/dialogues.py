"""Dialogues: what one annotator talks about with the policies, turn by turn."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q

from annotation.models.checks import one_of
from annotation.models.rounds import Round


class Dialogue(models.Model):
    """A conversation; each turn is one comparison, and the chosen response continues it."""

    class State(models.TextChoices):
        """Whether a dialogue takes another turn."""

        OPEN = "open"
        FINISHED = "finished"

    uuid = models.UUIDField(default=uuid.uuid4, editable=False)
    round = models.ForeignKey(Round, on_delete=models.PROTECT, related_name="dialogues")
    annotator = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="dialogues"
    )
    client_key = models.UUIDField(help_text="Sent by the form: a repeat finds the first result.")
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    num_turns = models.PositiveSmallIntegerField(default=0, help_text="Turns judged so far.")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["uuid"], name="annotation_dialogue_uuid_unique"),
            models.UniqueConstraint(fields=["client_key"], name="annotation_dialogue_key_unique"),
            one_of("state", ("open", "finished"), name="annotation_dialogue_state_known"),
            models.CheckConstraint(
                condition=Q(state="open") ^ Q(finished_at__isnull=False),
                name="annotation_dialogue_finished_has_time",
            ),
        ]
        indexes = [
            # What an annotator goes on with; an index of open dialogues only stays small.
            models.Index(
                fields=["annotator", "id"],
                condition=Q(state="open"),
                name="annotation_dialogue_open",
            ),
        ]

    def __str__(self) -> str:
        return f"dialogue {self.uuid}"

    @property
    def is_open(self) -> bool:
        """Whether it takes another turn."""
        return self.state == self.State.OPEN
