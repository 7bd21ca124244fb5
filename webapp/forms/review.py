"""What a reviewer decides of a comparison: one small form for each decision."""

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms

from annotation.errors import ContradictionError
from annotation.models import Comparison, Exclusion
from annotation.review_selectors import JudgementView
from annotation.scale import OTHER_SAFE, STEPS, Side, safety_bin_for
from annotation.services.reviewing import MAX_NOTE_CHARACTERS
from records.preferences import Axis
from webapp.forms.annotate import RATING_WORDS, SIDE_LETTERS

_REASONS = {
    Exclusion.Reason.AGAINST_GUIDELINES: "Against the guidelines",
    Exclusion.Reason.LOW_QUALITY: "Low quality",
    Exclusion.Reason.PERSONAL_DATA: "Holds personal data",
    Exclusion.Reason.SPAM: "Spam",
    Exclusion.Reason.OTHER: "Another reason",
}
_SAFE_CHOICES = [
    ("", "Choose …"),
    ("left", "A is safe, B is not"),
    ("right", "B is safe, A is not"),
    ("both", "Both are safe"),
    ("neither", "Neither is safe"),
]
_SAFE_SIDES: Mapping[str, tuple[Side, ...]] = {
    "left": (Side.LEFT,),
    "right": (Side.RIGHT,),
    "both": (Side.LEFT, Side.RIGHT),
    "neither": (),
}


class DecisionForm(forms.Form):
    """A decision with a note; the same form sent twice is one decision."""

    client_key = forms.UUIDField(widget=forms.HiddenInput)
    note = forms.CharField(
        max_length=MAX_NOTE_CHARACTERS,
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "dir": "auto"}),
    )


class AcceptForm(DecisionForm):
    """The judgements stand."""


class UnclearForm(DecisionForm):
    """The guidelines do not decide it: a lead has to."""

    note = forms.CharField(
        label="What do the guidelines leave open?",
        max_length=MAX_NOTE_CHARACTERS,
        widget=forms.Textarea(attrs={"rows": 2, "dir": "auto"}),
        error_messages={"required": "Say what the guidelines leave open."},
    )


class _JudgementForm(DecisionForm):
    """A decision on one of the judgements."""

    judgement = forms.TypedChoiceField(
        coerce=int, error_messages={"required": "Choose one of the judgements."}
    )

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        judgements: Sequence[JudgementView],
        initial: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data, initial=dict(initial or {}))
        choices = [
            (str(view.judgement.pk), f"{number}: {view.judgement.annotator.pseudonym}")
            for number, view in enumerate(judgements, start=1)
        ]
        self.fields["judgement"].choices = choices  # type: ignore[attr-defined] # a choice field
        if len(choices) == 1:
            self.fields["judgement"].widget = forms.HiddenInput()
            self.fields["judgement"].initial = choices[0][0]


class ExclusionForm(_JudgementForm):
    """A judgement must not be learned from."""

    reason = forms.ChoiceField(
        choices=[("", "Choose …"), *((reason.value, label) for reason, label in _REASONS.items())],
        error_messages={"required": "Choose a reason."},
    )


class CorrectionForm(_JudgementForm):
    """The reviewer's own verdict in place of a judgement."""

    choice = forms.ChoiceField(
        label="Which is better?", error_messages={"required": "Choose one of the eight steps."}
    )
    safe = forms.ChoiceField(
        label="Which is safe?",
        choices=_SAFE_CHOICES,
        error_messages={"required": "Say which of the two responses is safe."},
    )

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        judgements: Sequence[JudgementView],
        comparison: Comparison,
        initial: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data, judgements=judgements, initial=initial)
        sample_of_side = {sample.side: sample.pk for sample in comparison.samples.all()}
        # A value names a sample and a rating, never a position.
        self._steps = {
            f"{sample_of_side[step.side]}:{step.rating.value}": step
            for step in STEPS
            if step.side in sample_of_side
        }
        self.fields["choice"].choices = [  # type: ignore[attr-defined] # a choice field
            ("", "Choose …"),
            *(
                (value, f"{SIDE_LETTERS[step.side]} is {RATING_WORDS[step.rating]}")
                for value, step in self._steps.items()
            ),
        ]
        if comparison.round.axis != Axis.SAFETY:
            del self.fields["safe"]

    def verdict(self) -> dict[str, Any]:
        """Return the sample, the rating and the bin, as the service takes them."""
        value = self.cleaned_data["choice"]
        step = self._steps[value]
        return {
            "chosen_sample_id": int(value.partition(":")[0]),
            "rating": step.rating.value,
            "safety_bin": safety_bin_of(self.cleaned_data.get("safe"), step.side),
        }


class GoldForm(forms.Form):
    """The known answer to a comparison."""

    expected = forms.ChoiceField(
        label="The better response",
        choices=[("", "Choose …"), *((side.value, SIDE_LETTERS[side]) for side in Side)],
        error_messages={"required": "Say which response everybody should choose."},
    )
    safe = forms.ChoiceField(
        label="Which is safe?",
        choices=_SAFE_CHOICES,
        error_messages={"required": "Say which of the two responses is safe."},
    )
    note = forms.CharField(
        label="Why it is the right one",
        max_length=MAX_NOTE_CHARACTERS,
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "dir": "auto"}),
    )

    def __init__(self, data: Any = None, *, axis: Axis) -> None:  # noqa: ANN401 - a QueryDict or None
        super().__init__(data, prefix="gold")
        if axis is not Axis.SAFETY:
            del self.fields["safe"]

    def answer(self) -> dict[str, Any]:
        """Return side, bin and note, as the service takes them."""
        side = Side(self.cleaned_data["expected"])
        return {
            "expected_side": side,
            "expected_bin": safety_bin_of(self.cleaned_data.get("safe"), side) or "",
            "note": self.cleaned_data["note"],
        }


def safety_bin_of(answer: str | None, chosen: Side) -> str | None:
    """Return the bin that says which is safe; None where that is not asked."""
    if answer is None:
        return None
    try:
        return safety_bin_for(chosen_side=chosen, safe_sides=_SAFE_SIDES[answer]).value
    except ContradictionError:
        return OTHER_SAFE  # the service refuses it, with an explanation
