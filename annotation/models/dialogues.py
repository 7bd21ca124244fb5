"""Dialogues: what one annotator talks about with the policies, turn by turn."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q

from annotation.models.checks import one_of
from annotation.models.items import ImportedItem
from annotation.models.rounds import Round


class Dialogue(models.Model):
    """A conversation; each turn is one comparison, and the chosen response continues it."""

    class State(models.TextChoices):
        """Whether a dialogue takes another turn."""

        OPEN = "open"
        FINISHED = "finished"
        KEPT = "kept"
        """The next item of somebody who is at work: not begun, drawn ahead."""

    uuid = models.UUIDField(default=uuid.uuid4, editable=False)
    round = models.ForeignKey(Round, on_delete=models.PROTECT, related_name="dialogues")
    annotator = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="dialogues"
    )
    client_key = models.UUIDField(help_text="Sent by the form: a repeat finds the first result.")
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    num_turns = models.PositiveSmallIntegerField(default=0, help_text="Turns judged so far.")
    item = models.ForeignKey(
        ImportedItem,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="dialogues",
        db_index=False,
        help_text="Where its prompts come from; empty where its annotator writes them.",
    )
    max_turns = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Turns its item has left for it."
    )
    is_passed_on = models.BooleanField(
        default=False, help_text="Its annotator does not want this item."
    )
    system_prompt = models.TextField(
        blank=True, help_text="Its item's; takes the place of the round's."
    )
    opening = models.JSONField(
        default=list, blank=True, help_text="What was said before its first comparison."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["uuid"], name="annotation_dialogue_uuid_unique"),
            models.UniqueConstraint(fields=["client_key"], name="annotation_dialogue_key_unique"),
            one_of("state", ("open", "finished", "kept"), name="annotation_dialogue_state_known"),
            models.CheckConstraint(
                condition=Q(state__in=["open", "kept"]) ^ Q(finished_at__isnull=False),
                name="annotation_dialogue_finished_has_time",
            ),
            # One item in hand, and one ahead: two tabs take the same.
            models.UniqueConstraint(
                fields=["annotator", "round", "state"],
                condition=Q(item__isnull=False, state__in=["open", "kept"]),
                name="annotation_dialogue_one_item_each",
            ),
            models.CheckConstraint(
                condition=Q(item__isnull=True, max_turns__isnull=True)
                | Q(item__isnull=False, max_turns__gte=1),
                name="annotation_dialogue_item_has_turns",
            ),
            models.CheckConstraint(
                condition=~Q(state="kept") | Q(item__isnull=False),
                name="annotation_dialogue_kept_has_item",
            ),
        ]
        indexes = [
            # What an annotator goes on with; an index of open dialogues only stays small.
            models.Index(
                fields=["annotator", "id"],
                condition=Q(state="open"),
                name="annotation_dialogue_open",
            ),
            # Who had an item, and what came of it.
            models.Index(
                fields=["item", "annotator"],
                condition=Q(item__isnull=False),
                name="annotation_dialogue_of_item",
            ),
            # What may be given to somebody else at the end of a round.
            models.Index(
                fields=["round", "id"],
                condition=Q(state="kept"),
                name="annotation_dialogue_kept",
            ),
        ]

    def __str__(self) -> str:
        return f"dialogue {self.uuid}"

    @property
    def is_open(self) -> bool:
        """Whether it takes another turn."""
        return self.state == self.State.OPEN

    @property
    def is_imported(self) -> bool:
        """Whether its prompts come from an item."""
        return self.item_id is not None

    @property
    def first_system_prompt(self) -> str:
        """What the policies are told first."""
        return self.system_prompt or self.round.system_prompt
