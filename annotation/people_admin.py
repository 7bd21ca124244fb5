"""Qualifications, consent and well-being in the Django admin: shown by pseudonym, never changed."""

from django.contrib import admin
from django.db.models import Model

from annotation.models import (
    Answer,
    Attempt,
    CategoryOptOut,
    Consent,
    ConsentDocument,
    ContentWarning,
    GuidelinesConfirmation,
    Qualification,
    QualificationPart,
    QualificationQuestion,
    Requirement,
    Sitting,
    WellbeingPolicy,
    WellbeingSettings,
    Withdrawal,
)
from registry.readonly import ReadOnlyAdmin


class OfAPersonAdmin(ReadOnlyAdmin):
    """Rows of one annotator each, whose name stays back."""

    exclude = ("annotator",)
    readonly_fields = ("pseudonym",)
    list_display = ("__str__", "pseudonym")
    list_select_related = ("annotator",)

    @admin.display(description="Annotator")
    def pseudonym(self, row: Model) -> str:
        """The annotator's pseudonym."""
        return str(row.annotator.pseudonym)  # type: ignore[attr-defined] # all of these have one


admin.site.register(
    [
        Attempt,
        CategoryOptOut,
        Consent,
        GuidelinesConfirmation,
        WellbeingSettings,
        Withdrawal,
    ],
    OfAPersonAdmin,
)
admin.site.register(
    [
        Answer,
        ConsentDocument,
        ContentWarning,
        Qualification,
        QualificationPart,
        QualificationQuestion,
        Requirement,
        Sitting,
        WellbeingPolicy,
    ],
    ReadOnlyAdmin,
)
