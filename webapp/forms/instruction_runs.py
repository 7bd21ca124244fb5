"""The forms that start Ghost Attention, its measure, and safety context distillation."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar, cast

from django import forms

from annotation.models import Comparison, DemonstrationSet
from records.constraints import Constraint
from records.errors import RecordError
from records.instruction_configs import (
    ContextDistillationConfig,
    GhostAttentionConfig,
    PersistenceConfig,
)
from records.preferences import Axis
from records.preprompts import Preprompt
from registry.models import PolicyVersion, RewardModelVersion, Snapshot
from webapp.forms.configs import ConfigForm

_LINES = forms.Textarea(attrs={"rows": 5, "dir": "auto"})
_CONSTRAINTS_HELP = (
    "One a line, as category | sentence | terse form | value | question, such as “hobby | You "
    "enjoy chess. | Hobby: chess. | chess | What is your hobby?”; the last three may be left out. "
    "Empty takes lists of hobbies, languages and figures of our own."
)
Row = TypeVar("Row")


class InstructionRunForm(ConfigForm):
    """What the three have in common: the policy they are about, and whose prompts they use."""

    shown: ClassVar[tuple[str, ...]] = ()
    """The fields beside the config's, in their order."""

    output_name = forms.CharField(
        label="Name", max_length=80, help_text="Name of the policy version it makes, such as V3 GA."
    )
    start = forms.ModelChoiceField(
        PolicyVersion.objects.order_by("-pk"),
        label="Fine-tunes",
        help_text="Its weights stay as they are; the run makes new ones.",
    )
    snapshot = forms.ModelChoiceField(
        Snapshot.objects.order_by("-pk"),
        label="Prompts of",
        empty_label="Choose …",
        help_text="What users wrote in the comparisons of this snapshot.",
    )
    baseline = forms.ModelChoiceField(
        PolicyVersion.objects.order_by("-pk"),
        label="Compared with",
        required=False,
        empty_label="no other policy",
        help_text="Measured in the same dialogues, such as the version before Ghost Attention.",
    )
    helpfulness = forms.ModelChoiceField(
        RewardModelVersion.objects.filter(axis=Axis.HELPFULNESS.value).order_by("-pk"),
        label="Helpfulness reward model",
        required=False,
        empty_label="none",
    )
    safety = forms.ModelChoiceField(
        RewardModelVersion.objects.filter(axis=Axis.SAFETY.value).order_by("-pk"),
        label="Safety reward model",
        required=False,
        empty_label="none",
    )
    demonstrations = forms.ModelChoiceField(
        DemonstrationSet.objects.order_by("-pk"),
        label="Trained on beside",
        required=False,
        empty_label="nothing",
        help_text="Demonstrations mixed in, so that nothing else is forgotten.",
    )
    constraints = forms.CharField(
        label="Constraints", required=False, widget=_LINES, help_text=_CONSTRAINTS_HELP
    )
    preprompt_lines = forms.CharField(
        label="Preprompts",
        required=False,
        widget=_LINES,
        help_text="One a line. One for a risk category begins with its name and a bar, such as "
        "“illicit_and_criminal | Say that it is against the law.”. Empty takes ours.",
    )

    def __init__(self, policy: PolicyVersion, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data)
        for name in set(InstructionRunForm.base_fields) - set(self.shown):
            del self.fields[name]
        if "start" in self.fields:
            self.fields["start"].initial = policy.pk
        if "baseline" in self.fields:
            self.fields["baseline"].initial = policy.parent_id
        self.fields["snapshot"].initial = Snapshot.objects.order_by("-pk").first()

    @property
    def main_fields(self) -> list[forms.BoundField]:
        """The fields beside the config's."""
        return [self[name] for name in self.shown]

    def clean_constraints(self) -> list[Constraint]:
        """Return the constraints written, none where the field is empty."""
        return _rows(self.cleaned_data["constraints"], _constraint)

    def clean_preprompt_lines(self) -> list[Preprompt]:
        """Return the preprompts written, none where the field is empty."""
        return _rows(self.cleaned_data["preprompt_lines"], _preprompt)


class GhostAttentionForm(InstructionRunForm):
    """Ghost Attention, every field of its config with its help."""

    config_type = GhostAttentionConfig
    shown = (
        *("output_name", "start", "snapshot", "helpfulness", "safety", "demonstrations"),
        "constraints",
    )

    @property
    def config(self) -> GhostAttentionConfig | None:
        """The config; None with an error at the field it refuses."""
        return cast(GhostAttentionConfig | None, self.build_config())


class ContextDistillationForm(InstructionRunForm):
    """Safety context distillation, every field of its config with its help."""

    config_type = ContextDistillationConfig
    shown = (
        *("output_name", "start", "snapshot", "safety", "helpfulness", "demonstrations"),
        "preprompt_lines",
    )

    def __init__(self, policy: PolicyVersion, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(policy, data)
        self.fields["safety"].required = True

    @property
    def config(self) -> ContextDistillationConfig | None:
        """The config; None with an error at the field it refuses."""
        return cast(ContextDistillationConfig | None, self.build_config())


class PersistenceForm(InstructionRunForm):
    """The measure of persistence, every field of its config with its help."""

    config_type = PersistenceConfig
    shown = ("snapshot", "baseline", "constraints")

    @property
    def config(self) -> PersistenceConfig | None:
        """The config; None with an error at the field it refuses."""
        return cast(PersistenceConfig | None, self.build_config())


def _rows(text: str, read: Callable[[list[str]], Row]) -> list[Row]:
    """Return what `read` makes of each line that is not empty, cut at its bars.

    Raises:
        forms.ValidationError: A line is not of the form; says which.
    """
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                rows.append(read([part.strip() for part in line.split("|")]))
            except RecordError as error:
                raise forms.ValidationError(f"Line {number}: {error}.") from error
    return rows


def _constraint(parts: list[str]) -> Constraint:
    names = ("category", "text", "short", "value", "question")
    if not 2 <= len(parts) <= len(names):
        raise RecordError("constraint", f"it has {len(parts)} parts, not two to five")
    return Constraint(**dict(zip(names, parts, strict=False)))


def _preprompt(parts: list[str]) -> Preprompt:
    if len(parts) > 2:
        raise RecordError("preprompt", f"it has {len(parts)} parts, not one or two")
    category = parts[0] if len(parts) == 2 else ""
    known = Comparison.RiskCategory.values
    if category and category not in known:
        raise RecordError("risk_category", f"{category!r} is not one of {', '.join(known)}")
    return Preprompt(text=parts[-1], risk_category=category)
