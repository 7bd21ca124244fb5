"""Blind checks: a person's answer beside a policy's to the same prompt, told apart by nobody."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from annotation.models.checks import one_of
from annotation.models.comparisons import new_seed
from annotation.models.demonstrations import DemonstrationRevision
from annotation.models.samples import SIDE_CHOICES
from annotation.scale import Side
from registry.models import PolicyVersion


class BlindCheck(models.Model):
    """A number of approved demonstrations, each to be compared with a policy's own answer."""

    name = models.CharField(max_length=80)
    policy = models.ForeignKey(PolicyVersion, on_delete=models.PROTECT, related_name="blind_checks")
    temperature = models.FloatField()
    top_p = models.FloatField()
    max_new_tokens = models.PositiveIntegerField()
    num_pairs = models.PositiveIntegerField()
    seed = models.BigIntegerField(default=new_seed, help_text="Decides what is drawn and sides.")
    opened_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="blind_checks_opened"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name"], name="annotation_blind_check_name_unique"),
            models.CheckConstraint(
                condition=~Q(name="") & Q(num_pairs__gte=1, max_new_tokens__gte=1),
                name="annotation_blind_check_not_empty",
            ),
            models.CheckConstraint(
                condition=Q(temperature__gte=0.0, temperature__lte=5.0, top_p__gt=0.0)
                & Q(top_p__lte=1.0),
                name="annotation_blind_check_sampling_bounded",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class BlindPair(models.Model):
    """One demonstration of a check and the policy's response to its last prompt."""

    class State(models.TextChoices):
        """Where a pair stands."""

        WAITING = "waiting"
        SAMPLING = "sampling"
        READY = "ready"
        JUDGED = "judged"
        FAILED = "failed"

    check_of = models.ForeignKey(
        BlindCheck, on_delete=models.PROTECT, related_name="pairs", db_index=False
    )
    revision = models.ForeignKey(
        DemonstrationRevision, on_delete=models.PROTECT, related_name="blind_pairs"
    )
    state = models.CharField(max_length=8, choices=State, default=State.WAITING)
    model_side = models.CharField(
        max_length=5, choices=SIDE_CHOICES, help_text="Drawn when the check was opened."
    )
    response_text = models.TextField(blank=True)
    response_seed = models.BigIntegerField(default=new_seed)
    num_tokens = models.PositiveIntegerField(default=0)
    is_finished = models.BooleanField(
        default=True, help_text="False where the token limit cut the response short."
    )
    sampling_attempts = models.PositiveSmallIntegerField(default=0)
    sampled_by = models.CharField(max_length=200, blank=True)
    sampling_expires_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["check_of", "revision"], name="annotation_blind_pair_unique"
            ),
            one_of(
                "state",
                ("waiting", "sampling", "ready", "judged", "failed"),
                name="annotation_blind_pair_state_known",
            ),
            one_of("model_side", Side, name="annotation_blind_pair_side_known"),
            models.CheckConstraint(
                condition=~Q(state__in=["ready", "judged"]) | ~Q(response_text=""),
                name="annotation_blind_pair_ready_has_response",
            ),
            models.CheckConstraint(
                condition=Q(state="sampling") ^ Q(sampling_expires_at__isnull=True),
                name="annotation_blind_pair_sampling_is_leased",
            ),
        ]
        indexes = [
            models.Index(
                fields=["id"],
                condition=Q(state__in=["waiting", "sampling"]),
                name="annotation_blind_pair_queue",
            ),
            models.Index(fields=["check_of", "state", "id"], name="annotation_blind_pair_ready"),
        ]

    def __str__(self) -> str:
        return f"pair {self.pk} of {self.check_of}"


class BlindVerdict(models.Model):
    """What a reviewer preferred, not knowing which answer a person wrote; never changed."""

    class Outcome(models.TextChoices):
        """Whose answer was preferred."""

        HUMAN = "human"
        MODEL = "model"
        NO_DIFFERENCE = "no_difference"

    pair = models.OneToOneField(BlindPair, on_delete=models.PROTECT, related_name="verdict")
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="blind_verdicts"
    )
    outcome = models.CharField(max_length=13, choices=Outcome)
    client_key = models.UUIDField(help_text="Sent by the form: a repeat finds the first result.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["client_key"], name="annotation_blind_verdict_key_unique"
            ),
            one_of(
                "outcome",
                ("human", "model", "no_difference"),
                name="annotation_blind_verdict_outcome_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.outcome} in {self.pair}"
