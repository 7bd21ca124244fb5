"""Annotation in the Django admin: people are kept here, everything else is shown.

Who wrote what stays behind pseudonyms here too.
"""

from typing import TYPE_CHECKING

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import BaseUserCreationForm
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest

from annotation import admin_reviews as admin_reviews
from annotation import people_admin as people_admin
from annotation import services
from annotation.errors import AnnotationError
from annotation.models import (
    Comparison,
    CounterCheck,
    Dialogue,
    Draft,
    Edit,
    Exclusion,
    GoldComparison,
    Guidelines,
    ImportedItem,
    ItemUpload,
    Judgement,
    Pause,
    PromptBand,
    QualityReport,
    Retraction,
    Round,
    RoundVariant,
    Sample,
    SamplingEvent,
    Slot,
    SlotCursor,
    SlotSkip,
    User,
)
from registry.readonly import ReadOnlyAdmin

if TYPE_CHECKING:
    _UserAdmin = DjangoUserAdmin[User]
    _UserForm = BaseUserCreationForm[User]
else:
    _UserAdmin = DjangoUserAdmin
    _UserForm = BaseUserCreationForm


class NewUserForm(_UserForm):
    """Name, role and password of a new account."""

    class Meta:
        model = User
        fields = ("username", "role")


@admin.register(User)
class UserAdmin(_UserAdmin):
    """Accounts: only here and by command can one be made."""

    add_form = NewUserForm
    list_display = ("username", "role", "pseudonym", "persona", "is_active", "last_login")
    list_filter = ("role", "is_active")
    readonly_fields = ("pseudonym", "persona", "last_login", "date_joined")
    fieldsets = (
        (None, {"fields": ("username", "password", "role", "is_active")}),
        ("About", {"fields": ("pseudonym", "persona", "last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"fields": ("username", "role", "password1", "password2")}),)
    filter_horizontal = ()

    def save_model(
        self, request: HttpRequest, obj: User, form: "ModelForm[User]", change: bool
    ) -> None:
        """Store the account; its rights follow its role."""
        del request, form, change
        services.save_account(user=obj)

    def has_delete_permission(self, *_: object, **__: object) -> bool:
        """Nobody may: judgements keep their annotator, who is set inactive instead."""
        return False


@admin.register(Guidelines)
class GuidelinesAdmin(ReadOnlyAdmin):
    """Guidelines."""

    list_display = ("axis", "version", "created_by", "created_at")
    list_filter = ("axis",)
    list_select_related = ("created_by",)


@admin.register(Round)
class RoundAdmin(ReadOnlyAdmin):
    """Rounds; a lead closes them."""

    list_display = ("name", "axis", "state", "num_judged", "target_comparisons", "opened_at")
    list_filter = ("axis", "state")
    search_fields = ("name",)
    actions = ("close",)

    @admin.action(description="Close", permissions=["view"])
    def close(self, request: HttpRequest, queryset: QuerySet[Round]) -> None:
        """Close each chosen round."""
        assert isinstance(request.user, User)
        for round_ in queryset:
            try:
                services.close_round(round_=round_, closed_by=request.user)
            except AnnotationError as error:
                messages.error(request, str(error))
            else:
                messages.success(request, f"{round_} is closed.")


@admin.register(RoundVariant)
class RoundVariantAdmin(ReadOnlyAdmin):
    """Who answers in which round."""

    list_display = ("round", "policy", "temperature_low", "temperature_high", "top_p")
    list_select_related = ("round", "policy")


@admin.register(ImportedItem)
class ImportedItemAdmin(ReadOnlyAdmin):
    """What rounds were given to ask."""

    list_display = ("id", "round", "key", "state", "num_judged", "offered_at")
    list_filter = ("state",)
    list_select_related = ("round",)


@admin.register(CounterCheck)
class CounterCheckAdmin(ReadOnlyAdmin):
    """Counters that differed from what they count."""

    list_display = ("id", "checked_at", "num_checked", "drift")


@admin.register(ItemUpload)
class ItemUploadAdmin(ReadOnlyAdmin):
    """Files of items that leads added to rounds."""

    list_display = ("id", "round", "name", "state", "num_items", "num_known", "uploaded_at")
    list_filter = ("state",)
    list_select_related = ("round",)


@admin.register(Pause)
class PauseAdmin(ReadOnlyAdmin):
    """Stretches of maintenance, all that there were."""

    list_display = ("id", "sentence", "begun_by", "begun_at", "back_at", "ended_by", "ended_at")
    list_select_related = ("begun_by", "ended_by")


@admin.register(Dialogue)
class DialogueAdmin(ReadOnlyAdmin):
    """Dialogues."""

    fields = (
        "uuid",
        "round",
        "item",
        "pseudonym",
        "state",
        "num_turns",
        "created_at",
        "finished_at",
    )
    list_display = ("id", "uuid", "round", "pseudonym", "state", "num_turns", "created_at")
    list_filter = ("state",)
    list_select_related = ("round", "annotator")

    @admin.display(description="Annotator")
    def pseudonym(self, dialogue: Dialogue) -> str:
        """The annotator's pseudonym."""
        return dialogue.annotator.pseudonym


@admin.register(Comparison)
class ComparisonAdmin(ReadOnlyAdmin):
    """Comparisons."""

    list_display = ("id", "round", "turn", "state", "is_ahead", "is_flagged", "created_at")
    list_filter = ("state", "discard_reason", "is_flagged")
    list_select_related = ("round",)


@admin.register(Sample)
class SampleAdmin(ReadOnlyAdmin):
    """Samples."""

    list_display = ("id", "comparison", "side", "policy", "temperature", "num_tokens")
    list_select_related = ("comparison", "policy")


@admin.register(SamplingEvent)
class SamplingEventAdmin(ReadOnlyAdmin):
    """Pairs of responses that could not be used."""

    list_display = ("id", "comparison", "attempt", "reason", "created_at")
    list_filter = ("reason",)
    list_select_related = ("comparison",)


@admin.register(Judgement)
class JudgementAdmin(ReadOnlyAdmin):
    """Judgements."""

    exclude = ("annotator",)
    readonly_fields = ("pseudonym",)
    list_display = (
        *("id", "comparison", "pseudonym", "rating", "safety_bin"),
        *("is_retracted", "created_at"),
    )
    list_filter = ("rating", "safety_bin", "is_retracted")
    list_select_related = ("comparison", "annotator")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Judgement]:  # noqa: ARG002 - Django's
        """All of them: what was taken back too."""
        return Judgement.with_retracted.order_by("-pk")

    @admin.display(description="Annotator")
    def pseudonym(self, judgement: Judgement) -> str:
        """The annotator's pseudonym."""
        return judgement.annotator.pseudonym


@admin.register(Retraction)
class RetractionAdmin(ReadOnlyAdmin):
    """Judgements that their annotators took back."""

    list_display = ("id", "judgement", "is_active", "created_at", "ended_at")
    list_filter = ("is_active",)
    list_select_related = ("judgement",)


@admin.register(Draft)
class DraftAdmin(ReadOnlyAdmin):
    """That there is a draft, not what is in it: it is not submitted yet."""

    fields = ("dialogue", "comparison", "demonstration", "updated_at")
    list_display = ("id", "dialogue", "comparison", "demonstration", "updated_at")
    list_select_related = ("dialogue", "comparison", "demonstration")


@admin.register(Exclusion)
class ExclusionAdmin(ReadOnlyAdmin):
    """Exclusions."""

    list_display = ("judgement", "reason", "is_active", "reviewer", "created_at")
    list_filter = ("reason", "is_active")
    list_select_related = ("judgement", "reviewer")


@admin.register(QualityReport)
class QualityReportAdmin(ReadOnlyAdmin):
    """Numbers as last worked out."""

    list_display = ("__str__", "num_judgements", "measured_at")
    list_select_related = ("round", "guidelines")


@admin.register(Slot)
class SlotAdmin(ReadOnlyAdmin):
    """Further judgements wanted of comparisons; whose they are stays behind pseudonyms."""

    exclude = ("annotator", "author")
    list_display = ("id", "comparison", "number", "kind", "state", "offered_at")
    list_filter = ("kind", "state")
    list_select_related = ("comparison",)


@admin.register(SlotCursor)
class SlotCursorAdmin(ReadOnlyAdmin):
    """How far annotators have been through the queues."""

    exclude = ("annotator",)
    list_display = ("id", "round", "offered_at")
    list_select_related = ("round",)


@admin.register(SlotSkip)
class SlotSkipAdmin(ReadOnlyAdmin):
    """Pairs that people were asked about and passed on."""

    exclude = ("annotator",)
    list_display = ("id", "comparison", "kind", "reason", "created_at")
    list_filter = ("reason",)
    list_select_related = ("comparison",)


@admin.register(GoldComparison)
class GoldComparisonAdmin(ReadOnlyAdmin):
    """Comparisons whose answer is known."""

    list_display = ("comparison", "round", "expected_side", "expected_bin", "retired_at")
    list_select_related = ("comparison", "round")


@admin.register(Edit)
class EditAdmin(ReadOnlyAdmin):
    """Responses that annotators made better."""

    list_display = ("judgement", "created_at")
    list_select_related = ("judgement",)


@admin.register(PromptBand)
class PromptBandAdmin(ReadOnlyAdmin):
    """What finds prompts that are nearly the same."""

    list_display = ("id", "comparison", "value")
    list_select_related = ("comparison",)
