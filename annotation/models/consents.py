"""Consent: the document people agree to, who did when, and who took it back."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from annotation.models.rounds import Guidelines


class ConsentDocument(models.Model):
    """One version of what annotators consent to; never changed, only superseded."""

    version = models.CharField(max_length=20)
    text = models.TextField(help_text="Markdown.")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="consents_written"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version"], name="annotation_consent_version_unique"),
            models.CheckConstraint(
                condition=~Q(version="") & ~Q(text=""), name="annotation_consent_not_empty"
            ),
        ]

    def __str__(self) -> str:
        return f"consent {self.version}"


class Withdrawal(models.Model):
    """Somebody takes their work back: what they judged before it is in no snapshot after it."""

    annotator = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="withdrawals"
    )
    client_key = models.UUIDField(help_text="Sent by the form: a repeat finds the first result.")
    note = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["client_key"], name="annotation_withdrawal_key_unique"),
        ]

    def __str__(self) -> str:
        return f"withdrawal {self.pk}"


class Consent(models.Model):
    """That an annotator consented to one version, until they withdrew."""

    annotator = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="consents",
        db_index=False,
    )
    document = models.ForeignKey(ConsentDocument, on_delete=models.PROTECT, related_name="consents")
    withdrawal = models.ForeignKey(
        Withdrawal, on_delete=models.PROTECT, null=True, blank=True, related_name="consents"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["annotator", "document"],
                condition=Q(withdrawal__isnull=True),
                name="annotation_consent_given_once",
            ),
        ]
        indexes = [models.Index(fields=["annotator"], name="annotation_consent_mine")]

    def __str__(self) -> str:
        return f"{self.document} given"


class GuidelinesConfirmation(models.Model):
    """That an annotator knows one version of the guidelines, and against which they compared it."""

    annotator = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="guidelines_confirmed",
        db_index=False,
    )
    guidelines = models.ForeignKey(
        Guidelines, on_delete=models.PROTECT, related_name="confirmations"
    )
    earlier = models.ForeignKey(
        Guidelines,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="The version whose differences were shown; empty for the first one.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["annotator", "guidelines"], name="annotation_confirmation_once"
            ),
            models.CheckConstraint(
                condition=Q(earlier__isnull=True) | ~Q(earlier=models.F("guidelines")),
                name="annotation_confirmation_of_a_difference",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.guidelines} confirmed"
