"""Forms of demonstrations: writing, reviewing, assignments, sets, and an SFT run from one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from django import forms
from django.http import QueryDict

from annotation.models import (
    Assignment,
    Comparison,
    Demonstration,
    DemonstrationReview,
    DemonstrationRevision,
    Guidelines,
)
from annotation.services import NewRevision, NewTurn
from annotation.services.assignments import MAX_TURNS
from annotation.services.demonstration_reviews import MAX_FEEDBACK_CHARACTERS
from annotation.services.prompts import MAX_PROMPT_CHARACTERS
from annotation.services.verdicts import MAX_ACTIVE_SECONDS
from records.policy_configs import SFTConfig
from records.preferences import Axis
from records.sft_presets import SFT_PRESETS, sft_preset
from registry.models import PolicyVersion
from webapp.forms.configs import ConfigForm, flat_values
from webapp.wording import capitalised, spoken

_AXES = [(axis.value, axis.value.capitalize()) for axis in Axis]
_CATEGORY_WORDS = {
    DemonstrationReview.Category.CRIME: "Promotes or enables crime",
    DemonstrationReview.Category.DANGEROUS: "Encourages dangerous behaviour",
    DemonstrationReview.Category.OFFENSIVE: "Holds or encourages offensive behaviour",
    DemonstrationReview.Category.SEXUAL: "Sexually explicit",
    DemonstrationReview.Category.HISTORY: "Contradicts the dialogue before it",
    DemonstrationReview.Category.PROMPT: "Does not do what the prompt asks",
    DemonstrationReview.Category.LANGUAGE: "Spelling, grammar or style",
    DemonstrationReview.Category.FACTS: "Not true",
}
_BOX = "category_"


class Exchange(NamedTuple):
    """The two fields of one turn."""

    number: int
    prompt: forms.BoundField
    response: forms.BoundField


class DemonstrationForm(forms.Form):
    """The words of a demonstration: each turn a prompt and a response."""

    client_key = forms.UUIDField(widget=forms.HiddenInput)
    active_seconds = forms.FloatField(min_value=0, required=False)
    num_turns = forms.IntegerField(widget=forms.HiddenInput, min_value=1)

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        assignment: Assignment,
        initial: Mapping[str, Any] | None = None,
    ) -> None:
        self.shown_turns = turns_in(data if data is not None else initial or {}, assignment)
        values = {**(initial or {}), "num_turns": self.shown_turns}
        super().__init__(data, initial=values)
        self.is_safety = assignment.axis == Axis.SAFETY
        if self.is_safety:
            self.fields["risk_category"] = _choice(
                "Risk the prompt probes", Comparison.RiskCategory
            )
            self.fields["attack_vector"] = _choice("How it tries", Comparison.AttackVector)
        for index in range(self.shown_turns):
            self.fields[f"prompt_{index}"] = _text("What the user says", rows=3)
            self.fields[f"response_{index}"] = _text("How the assistant should answer", rows=7)

    @property
    def exchanges(self) -> list[Exchange]:
        """The fields turn by turn."""
        return [
            Exchange(index + 1, self[f"prompt_{index}"], self[f"response_{index}"])
            for index in range(self.shown_turns)
        ]

    def revision(self) -> NewRevision:
        """Return the cleaned words."""
        data = self.cleaned_data
        return NewRevision(
            turns=[
                NewTurn(data[f"prompt_{index}"], data[f"response_{index}"])
                for index in range(self.shown_turns)
            ],
            risk_category=data.get("risk_category", ""),
            attack_vector=data.get("attack_vector", ""),
            active_seconds=min(data["active_seconds"] or 0.0, MAX_ACTIVE_SECONDS),
        )


class DemonstrationReviewForm(DemonstrationForm):
    """What a reviewer decides, with the words to edit."""

    revision_id = forms.IntegerField(widget=forms.HiddenInput)
    decision = forms.ChoiceField(
        choices=[("approved", "Approve"), ("edited", "Approve the edit"), ("rejected", "Reject")],
        error_messages={"required": "Approve it, approve your edit, or reject it."},
    )
    feedback = forms.CharField(
        max_length=MAX_FEEDBACK_CHARACTERS,
        required=False,
        label="Feedback to the author",
        help_text="The author reads it. A rejection needs it.",
        widget=forms.Textarea(attrs={"rows": 3, "dir": "auto"}),
    )

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        assignment: Assignment,
        initial: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data, assignment=assignment, initial=initial)
        # A box of its own name each, so that drafts and kept words hold them all.
        for value, label in _CATEGORY_WORDS.items():
            self.fields[f"{_BOX}{value}"] = forms.BooleanField(label=label, required=False)

    @property
    def boxes(self) -> list[forms.BoundField]:
        """The boxes of categories."""
        return [self[name] for name in self.fields if name.startswith(_BOX)]

    @property
    def categories(self) -> list[str]:
        """The categories ticked."""
        return [
            name.removeprefix(_BOX)
            for name, value in self.cleaned_data.items()
            if name.startswith(_BOX) and value
        ]


class AssignmentForm(forms.Form):
    """A campaign of writing demonstrations."""

    name = forms.CharField(max_length=80, help_text="What people call it, for example Spring 1.")
    axis = forms.ChoiceField(
        choices=_AXES,
        help_text="For safety an adversarial prompt comes first, then the safe and helpful answer.",
    )
    guidelines = forms.ModelChoiceField(
        Guidelines.objects.order_by("axis", "-pk"),
        empty_label="Choose …",
        help_text="A version written for the same axis; every demonstration is pinned to it.",
    )
    vendor = forms.CharField(
        label="Vendor or team",
        max_length=80,
        required=False,
        help_text="Quality is told apart by it.",
    )
    target_demonstrations = forms.IntegerField(
        label="Target",
        min_value=1,
        max_value=10_000_000,
        initial=200,
        help_text="Demonstrations wanted. The assignment never takes more.",
    )
    max_turns = forms.IntegerField(
        label="Turns at most",
        min_value=1,
        max_value=MAX_TURNS,
        initial=3,
        help_text="Exchanges in one demonstration.",
    )


if TYPE_CHECKING:
    _AssignmentsField = forms.ModelMultipleChoiceField[Assignment]
else:  # generic in the type stubs only
    _AssignmentsField = forms.ModelMultipleChoiceField


class AssignmentsField(_AssignmentsField):
    """Assignments, each with how much of it is approved."""

    def label_from_instance(self, obj: Any) -> str:  # noqa: ANN401 - Django's signature
        """Return what stands beside the box."""
        vendor = f", {obj.vendor}" if obj.vendor else ""
        return f"{obj.name}: {obj.num_approved} approved, {obj.axis}{vendor}"


class FreezeForm(forms.Form):
    """Which assignments are frozen, under which name."""

    name = forms.CharField(max_length=80, label="Name of the set", help_text="Such as SFT 1.")
    assignments = AssignmentsField(
        Assignment.objects.filter(num_approved__gt=0).order_by("-pk"),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one assignment."},
    )


class SFTForm(ConfigForm):
    """Supervised fine-tuning on a frozen set; every field of its config, with its help."""

    config_type = SFTConfig

    preset = forms.ChoiceField(
        choices=[("", "as they stand below"), *SFT_PRESETS.items()],
        label="Settings",
        required=False,
        help_text="Fills in the settings below.",
    )
    output_name = forms.CharField(
        label="Name", max_length=80, help_text="Name of the policy version it makes, such as SFT 2."
    )
    policy = forms.ModelChoiceField(
        PolicyVersion.objects.order_by("pk"),
        label="Fine-tunes",
        empty_label="Choose …",
        help_text="The base policy; its weights stay as they are.",
    )

    @property
    def config(self) -> SFTConfig | None:
        """The config; None with an error at the field it refuses."""
        return cast(SFTConfig | None, self.build_config())


def with_sft_preset(data: QueryDict) -> QueryDict:
    """Return the sent form with its settings taken from the preset it names.

    A preset that does not exist changes nothing.
    """
    filled = data.copy()
    name = data.get("preset", "")
    if name in SFT_PRESETS:
        for path, value in flat_values(sft_preset(name).to_json()):
            is_off = value is None or value is False  # a box that is not ticked sends nothing
            filled[path] = "" if is_off else str(value)
    return filled


def turns_in(fields: Mapping[str, Any], assignment: Assignment) -> int:
    """Return how many turns a form or a draft shows, within what the assignment allows."""
    text = str(fields.get("num_turns", 1))
    return max(1, min(int(text) if text.isdecimal() else 1, assignment.max_turns))


def fields_of_revision(revision: DemonstrationRevision) -> dict[str, str]:
    """Return the stored words of a revision, under the names of the form's fields."""
    turns = [NewTurn(turn.prompt_text, turn.response_text) for turn in revision.turns.all()]
    return NewRevision(turns, revision.risk_category, revision.attack_vector).as_fields()


def words_of_category(value: str) -> str:
    """Return a stored category as a reviewer and an author read it."""
    return _CATEGORY_WORDS[DemonstrationReview.Category(value)]


def error_field(form: forms.Form, name: str) -> str | None:
    """Return the name of the field an error stands at; None where the form does not show it."""
    return name if name in form.fields and not form[name].is_hidden else None


def is_begun(demonstration: Demonstration, fields: Mapping[str, Any]) -> bool:
    """Whether anything has been written."""
    return demonstration.num_revisions > 0 or any(
        fields.get(name) for name in fields if name.startswith(("prompt_", "response_"))
    )


class WordsField(forms.CharField):
    """Text as it is stored: line ends are single characters, whichever the browser sends."""

    def to_python(self, value: object) -> str:
        """Return the text with plain line ends."""
        return plain_lines(super().to_python(value) or "")


def plain_lines(text: str) -> str:
    """Return the text with every line end as one character, stripped."""
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def _text(label: str, *, rows: int) -> forms.CharField:
    return WordsField(
        label=label,
        max_length=MAX_PROMPT_CHARACTERS,
        widget=forms.Textarea(attrs={"rows": rows, "dir": "auto"}),
        error_messages={"required": "Write this first: it is empty."},
    )


def _choice(label: str, kind: Any) -> forms.ChoiceField:  # noqa: ANN401 - a TextChoices class
    choices = [("", "Choose …"), *((value, capitalised(spoken(value))) for value in kind.values)]
    return forms.ChoiceField(
        label=label, choices=choices, error_messages={"required": "Choose one."}
    )
