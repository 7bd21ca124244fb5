"""Items: what a round was given to ask, instead of having it written."""

import uuid

from django.db import models
from django.db.models import Q

from annotation.models.checks import one_of
from annotation.models.rounds import Round


class ImportedItem(models.Model):
    """One line of an imported file: a prompt with its further turns, or a pair of responses.

    An item is in one person's hands at a time, as a dialogue of theirs. Whoever takes up what
    somebody else has begun goes on after the turns that are judged, so no turn is judged twice.
    What was imported never changes.
    """

    class State(models.TextChoices):
        """Where an item stands."""

        FREE = "free"
        GIVEN = "given"
        FINISHED = "finished"
        FAILED = "failed"

    uuid = models.UUIDField(default=uuid.uuid4, editable=False)
    round = models.ForeignKey(Round, on_delete=models.PROTECT, related_name="items", db_index=False)
    key = models.CharField(max_length=200, help_text="Its name in the file.")
    system_prompt = models.TextField(blank=True, help_text="Takes the place of the round's.")
    opening = models.JSONField(
        default=list, blank=True, help_text="What was said before: user, assistant, user, ..."
    )
    turns = models.JSONField(help_text="What the user says, one text a turn.")
    responses = models.JSONField(
        default=list, blank=True, help_text="A pair's two texts with the ids of their policies."
    )
    risk_category = models.CharField(max_length=30, blank=True)
    attack_vector = models.CharField(max_length=30, blank=True)
    state = models.CharField(max_length=8, choices=State, default=State.FREE)
    num_judged = models.PositiveSmallIntegerField(default=0, help_text="Turns judged so far.")
    offered_at = models.DateTimeField(help_text="Its place in the queue.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["uuid"], name="annotation_item_uuid_unique"),
            models.UniqueConstraint(fields=["round", "key"], name="annotation_item_key_unique"),
            models.CheckConstraint(condition=~Q(key=""), name="annotation_item_has_key"),
            models.CheckConstraint(condition=~Q(turns=[]), name="annotation_item_has_turns"),
            one_of(
                "state",
                ("free", "given", "finished", "failed"),
                name="annotation_item_state_known",
            ),
        ]
        indexes = [
            # The queue: only what is free, in the order of offering.
            models.Index(
                fields=["round", "offered_at", "id"],
                condition=Q(state="free"),
                name="annotation_item_queue",
            ),
        ]

    def __str__(self) -> str:
        return f"item {self.key}"

    @property
    def num_turns_left(self) -> int:
        """Turns that are not judged."""
        return len(self.turns) - self.num_judged
