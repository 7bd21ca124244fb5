"""Consent: published by a lead, given by an annotator, taken back at any time."""

import uuid

from django.db import transaction
from django.utils import timezone

from annotation.access import ANNOTATORS, LEADS, require_role
from annotation.errors import ConsentError, KeyReusedError
from annotation.models import (
    Comparison,
    Consent,
    ConsentDocument,
    Dialogue,
    Slot,
    User,
    Withdrawal,
)
from annotation.services.judging import finish_dialogue

MAX_VERSION_CHARACTERS = 20


def publish_consent_document(*, version: str, text: str, created_by: User) -> ConsentDocument:
    """Publish what annotators consent to; they are asked before they go on. Idempotent.

    Raises:
        NotAllowedError: `created_by` is no lead.
        ConsentError: It is empty, or there is another text under this version.
    """
    require_role(created_by, LEADS)
    version = version.strip()
    if not version or len(version) > MAX_VERSION_CHARACTERS or not text.strip():
        raise ConsentError(
            f"a consent document needs a text and a version of 1 to {MAX_VERSION_CHARACTERS} "
            "characters"
        )
    with transaction.atomic():
        document, is_new = ConsentDocument.objects.get_or_create(
            version=version, defaults={"text": text, "created_by": created_by}
        )
    if not is_new and document.text != text:
        raise ConsentError(f"consent {version} has another text; use a new version")
    return document


def give_consent(*, annotator: User, document: ConsentDocument) -> Consent:
    """Record that an annotator consents to the newest document. Idempotent.

    Raises:
        NotAllowedError: The person is no annotator.
        ConsentError: There is a newer document, which they have not seen.
    """
    require_role(annotator, ANNOTATORS)
    with transaction.atomic():
        newest = ConsentDocument.objects.order_by("-pk").first()
        if newest != document:
            raise ConsentError("there is a newer version; read it before you decide")
        consent, _ = Consent.objects.get_or_create(
            annotator=annotator, document=document, withdrawal=None
        )
    return consent


def withdraw_consent(*, annotator: User, client_key: uuid.UUID, note: str = "") -> Withdrawal:
    """Take back all consent: work so far is in no snapshot from now on. The same key is one act.

    Open dialogues end, and no work is offered until the person consents again; what they judge
    after that counts, what they judged before does not.

    Raises:
        NotAllowedError: The person is no annotator.
        KeyReusedError: The key came from somebody else.
    """
    require_role(annotator, ANNOTATORS)
    with transaction.atomic():
        withdrawal, is_new = Withdrawal.objects.get_or_create(
            client_key=client_key, defaults={"annotator": annotator, "note": note}
        )
        if withdrawal.annotator_id != annotator.pk:
            raise KeyReusedError
        if is_new:
            Consent.objects.filter(annotator=annotator, withdrawal__isnull=True).update(
                withdrawal=withdrawal
            )
            mine = Dialogue.objects.filter(annotator=annotator, state=Dialogue.State.OPEN)
            for dialogue in mine.order_by("pk"):
                finish_dialogue(
                    annotator=annotator, dialogue=dialogue, reason=Comparison.SkipReason.OTHER
                )
            # What they hold of others' lapses at once, and is offered again.
            held = Slot.objects.filter(annotator=annotator, state=Slot.State.LEASED)
            held.update(lease_expires_at=timezone.now())
            kept = Comparison.objects.holding().filter(
                dialogue__annotator=annotator, dialogue__state=Dialogue.State.KEPT
            )
            kept.update(lease_expires_at=timezone.now())
    return withdrawal
