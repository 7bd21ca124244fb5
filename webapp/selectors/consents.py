"""What the pages of consent show."""

from dataclasses import dataclass

from django.db.models import Count, Q

from annotation.models import Consent, ConsentDocument, Judgement, User, Withdrawal


@dataclass(frozen=True, kw_only=True)
class ConsentPage:
    """Where one annotator stands."""

    document: ConsentDocument | None
    given: Consent | None
    """To the newest document."""
    earlier: Consent | None
    """To an older document, where the newest has not been answered."""
    withdrawal: Withdrawal | None
    """The last one."""
    has_judged: bool

    @property
    def has_withdrawn(self) -> bool:
        """Whether nothing has been consented to since the last withdrawal."""
        return self.withdrawal is not None and self.given is None and self.earlier is None


def consent_page(annotator: User) -> ConsentPage:
    """Return the newest document and what the annotator said of it."""
    document = ConsentDocument.objects.order_by("-pk").first()
    mine = Consent.objects.filter(annotator=annotator, withdrawal__isnull=True)
    consents = list(mine.select_related("document").order_by("-pk"))
    return ConsentPage(
        document=document,
        given=next((c for c in consents if document and c.document_id == document.pk), None),
        earlier=consents[0] if consents else None,
        withdrawal=Withdrawal.objects.filter(annotator=annotator).order_by("-pk").first(),
        has_judged=Judgement.objects.filter(annotator=annotator).exists(),
    )


def consent_documents() -> list[ConsentDocument]:
    """Return the documents, the newest first, with how many consent to each now (`num_given`)."""
    given = Count("consents", filter=Q(consents__withdrawal__isnull=True))
    rows = ConsentDocument.objects.select_related("created_by").annotate(num_given=given)
    return list(rows.order_by("-pk"))
