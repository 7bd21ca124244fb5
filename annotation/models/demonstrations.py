"""Demonstrations: prompts with answers that people wrote, and what reviewers said of them."""

import uuid

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from annotation.models.checks import AXIS_CHOICES, one_of
from annotation.models.comparisons import Comparison
from annotation.models.rounds import Guidelines
from registry.models import Artifact


class AssignmentQuerySet(models.QuerySet["Assignment"]):
    """Filters of assignments."""

    def open(self) -> "AssignmentQuerySet":
        """Assignments that take work."""
        return self.filter(state=Assignment.State.OPEN)


class Assignment(models.Model):
    """One campaign of writing demonstrations on one axis, by one vendor's or team's people.

    The counters are changed in the same transaction as the rows they count, with the bound in the
    WHERE clause: no assignment ever takes more demonstrations than its target.
    """

    class State(models.TextChoices):
        """Whether an assignment takes work."""

        OPEN = "open"
        CLOSED = "closed"

    name = models.CharField(max_length=80)
    axis = models.CharField(max_length=12, choices=AXIS_CHOICES)
    guidelines = models.ForeignKey(Guidelines, on_delete=models.PROTECT, related_name="assignments")
    vendor = models.CharField(
        max_length=80, blank=True, help_text="Vendor or team that writes; quality is told by it."
    )
    target_demonstrations = models.PositiveIntegerField()
    max_turns = models.PositiveSmallIntegerField(help_text="Exchanges in a demonstration, at most.")
    state = models.CharField(max_length=6, choices=State, default=State.OPEN)
    num_reserved = models.PositiveIntegerField(
        default=0, help_text="Demonstrations written or in somebody's hands."
    )
    num_approved = models.PositiveIntegerField(default=0)
    opened_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="assignments_opened"
    )
    opened_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    objects = models.Manager.from_queryset(AssignmentQuerySet)()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name"], name="annotation_assignment_name_unique"),
            models.CheckConstraint(condition=~Q(name=""), name="annotation_assignment_has_name"),
            one_of("axis", (a for a, _ in AXIS_CHOICES), name="annotation_assignment_axis_known"),
            models.CheckConstraint(
                condition=Q(state="open") ^ Q(closed_at__isnull=False),
                name="annotation_assignment_closed_has_time",
            ),
            models.CheckConstraint(
                condition=Q(target_demonstrations__gte=1, max_turns__gte=1),
                name="annotation_assignment_targets_positive",
            ),
            models.CheckConstraint(
                condition=Q(num_reserved__lte=F("target_demonstrations")),
                name="annotation_assignment_within_target",
            ),
            models.CheckConstraint(
                condition=Q(num_approved__lte=F("num_reserved")),
                name="annotation_assignment_counters_nested",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_open(self) -> bool:
        """Whether it takes work."""
        return self.state == self.State.OPEN


class Demonstration(models.Model):
    """What one author writes for an assignment, revision by revision, until it is approved."""

    class State(models.TextChoices):
        """Where a demonstration stands."""

        WRITING = "writing"
        SUBMITTED = "submitted"
        APPROVED = "approved"
        REJECTED = "rejected"
        WITHDRAWN = "withdrawn"

    IN_HANDS = (State.WRITING, State.REJECTED)
    """The author's turn: the slot is theirs until the lease lapses."""

    uuid = models.UUIDField(default=uuid.uuid4, editable=False)
    assignment = models.ForeignKey(
        Assignment, on_delete=models.PROTECT, related_name="demonstrations"
    )
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="demonstrations",
        db_index=False,
    )
    client_key = models.UUIDField(help_text="Sent by the form: a repeat finds the first result.")
    state = models.CharField(max_length=9, choices=State, default=State.WRITING)
    current = models.ForeignKey(
        "annotation.DemonstrationRevision",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="The revision that is reviewed, or was approved.",
    )
    num_revisions = models.PositiveSmallIntegerField(default=0)
    holds_slot = models.BooleanField(default=True, help_text="Counted in the assignment's target.")
    lease_expires_at = models.DateTimeField(
        help_text="Until when the slot is kept while it is the author's turn."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["uuid"], name="annotation_demonstration_uuid_unique"),
            models.UniqueConstraint(
                fields=["client_key"], name="annotation_demonstration_key_unique"
            ),
            # Nobody keeps several slots by beginning again and again.
            models.UniqueConstraint(
                fields=["assignment", "author"],
                condition=Q(state="writing"),
                name="annotation_demonstration_one_in_writing",
            ),
            one_of(
                "state",
                ("writing", "submitted", "approved", "rejected", "withdrawn"),
                name="annotation_demonstration_state_known",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["writing", "withdrawn"]) | Q(current__isnull=False),
                name="annotation_demonstration_sent_has_revision",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["submitted", "approved"]) | Q(holds_slot=True),
                name="annotation_demonstration_sent_holds_slot",
            ),
            models.CheckConstraint(
                condition=~Q(state="withdrawn") | Q(holds_slot=False),
                name="annotation_demonstration_withdrawn_is_free",
            ),
        ]
        indexes = [
            models.Index(fields=["author", "-id"], name="annotation_demo_mine"),
            # The reviewers' queue: only what waits for a decision.
            models.Index(
                fields=["id"], condition=Q(state="submitted"), name="annotation_demo_queue"
            ),
            models.Index(
                fields=["assignment", "lease_expires_at"],
                condition=Q(holds_slot=True, state__in=["writing", "rejected"]),
                name="annotation_demo_leases",
            ),
        ]

    def __str__(self) -> str:
        return f"demonstration {self.uuid}"

    @property
    def is_in_hands(self) -> bool:
        """Whether its author may write and send it."""
        return self.state in self.IN_HANDS


class DemonstrationRevision(models.Model):
    """The words of a demonstration as they were sent or edited once; never changed."""

    demonstration = models.ForeignKey(
        Demonstration, on_delete=models.PROTECT, related_name="revisions", db_index=False
    )
    number = models.PositiveSmallIntegerField()
    written_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="demonstration_revisions",
        help_text="The author, or the reviewer who edited it.",
    )
    guidelines = models.ForeignKey(
        Guidelines, on_delete=models.PROTECT, related_name="demonstration_revisions"
    )
    risk_category = models.CharField(max_length=30, choices=Comparison.RiskCategory, blank=True)
    attack_vector = models.CharField(max_length=30, choices=Comparison.AttackVector, blank=True)
    client_key = models.UUIDField(help_text="Sent by the form: a repeat finds the first result.")
    active_seconds = models.FloatField(help_text="Time the page was in front and used.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["demonstration", "number"], name="annotation_revision_number_unique"
            ),
            models.UniqueConstraint(fields=["client_key"], name="annotation_revision_key_unique"),
            models.CheckConstraint(
                condition=Q(active_seconds__gte=0.0), name="annotation_revision_time_not_negative"
            ),
        ]
        indexes = [
            # What was sent in a span of days.
            models.Index(fields=["created_at"], name="annotation_revision_sent"),
        ]

    def __str__(self) -> str:
        return f"revision {self.number} of demonstration {self.demonstration_id}"


class DemonstrationTurn(models.Model):
    """One exchange of a revision: what the user says and how the assistant should answer."""

    revision = models.ForeignKey(
        DemonstrationRevision, on_delete=models.PROTECT, related_name="turns", db_index=False
    )
    turn = models.PositiveSmallIntegerField(help_text="0 for the first exchange.")
    prompt_text = models.TextField()
    response_text = models.TextField()

    class Meta:
        ordering = ["revision", "turn"]
        constraints = [
            models.UniqueConstraint(
                fields=["revision", "turn"], name="annotation_demonstration_turn_unique"
            ),
            models.CheckConstraint(
                condition=~Q(prompt_text="") & ~Q(response_text=""),
                name="annotation_demonstration_turn_not_empty",
            ),
        ]

    def __str__(self) -> str:
        return f"turn {self.turn} of revision {self.revision_id}"


class DemonstrationReview(models.Model):
    """One decision of a reviewer on one revision; taken back by a further row, never changed."""

    class Decision(models.TextChoices):
        """What was decided (arXiv:2307.09288, appendix A.5.3)."""

        APPROVED = "approved"
        EDITED = "edited"
        REJECTED = "rejected"
        REOPENED = "reopened"

    class Category(models.TextChoices):
        """What is wrong: the first four are appendix A.5.2, the others A.5.3."""

        CRIME = "promotes_crime"
        DANGEROUS = "dangerous_behaviour"
        OFFENSIVE = "offensive_behaviour"
        SEXUAL = "sexually_explicit"
        HISTORY = "against_history"
        PROMPT = "misses_prompt"
        LANGUAGE = "language_errors"
        FACTS = "not_truthful"

    demonstration = models.ForeignKey(
        Demonstration, on_delete=models.PROTECT, related_name="reviews"
    )
    revision = models.ForeignKey(
        DemonstrationRevision, on_delete=models.PROTECT, related_name="reviews"
    )
    edited_revision = models.OneToOneField(
        DemonstrationRevision,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="edited_in",
        help_text="What the reviewer made of it.",
    )
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="demonstration_reviews"
    )
    decision = models.CharField(max_length=8, choices=Decision)
    categories = ArrayField(models.CharField(max_length=20, choices=Category), default=list)
    feedback = models.TextField(blank=True)
    client_key = models.UUIDField(help_text="Sent by the form: a repeat finds the first result.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["client_key"], name="annotation_demo_review_key_unique"
            ),
            one_of(
                "decision",
                ("approved", "edited", "rejected", "reopened"),
                name="annotation_demo_review_decision_known",
            ),
            models.CheckConstraint(
                condition=Q(decision="edited") ^ Q(edited_revision__isnull=True),
                name="annotation_demo_review_edited_has_revision",
            ),
            models.CheckConstraint(
                condition=~Q(decision="rejected") | ~Q(feedback=""),
                name="annotation_demo_review_rejected_has_feedback",
            ),
            models.CheckConstraint(
                condition=Q(
                    categories__contained_by=[
                        "promotes_crime",
                        "dangerous_behaviour",
                        "offensive_behaviour",
                        "sexually_explicit",
                        "against_history",
                        "misses_prompt",
                        "language_errors",
                        "not_truthful",
                    ]
                ),
                name="annotation_demo_review_categories_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.decision} of {self.revision}"


class DemonstrationSet(models.Model):
    """Approved demonstrations, frozen as the file that supervised fine-tuning reads."""

    name = models.CharField(max_length=80)
    artifact = models.ForeignKey(
        Artifact, on_delete=models.PROTECT, related_name="demonstration_sets"
    )
    manifest = models.JSONField(help_text="What it was frozen from, and how many of what.")
    frozen_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="demonstration_sets"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["name"], name="annotation_demonstration_set_name_unique"
            ),
            models.CheckConstraint(
                condition=~Q(name=""), name="annotation_demonstration_set_has_name"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class DemonstrationSetItem(models.Model):
    """That a set holds a revision: lineage from a policy down to single demonstrations."""

    demonstration_set = models.ForeignKey(
        DemonstrationSet, on_delete=models.PROTECT, related_name="items", db_index=False
    )
    revision = models.ForeignKey(
        DemonstrationRevision, on_delete=models.PROTECT, related_name="set_items"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["demonstration_set", "revision"], name="annotation_set_item_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.revision} in {self.demonstration_set}"
