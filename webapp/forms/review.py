"""What a reviewer decides."""

from django import forms

from annotation.models import Exclusion

_REASONS = {
    Exclusion.Reason.AGAINST_GUIDELINES: "Against the guidelines",
    Exclusion.Reason.LOW_QUALITY: "Low quality",
    Exclusion.Reason.PERSONAL_DATA: "Holds personal data",
    Exclusion.Reason.SPAM: "Spam",
    Exclusion.Reason.OTHER: "Another reason",
}


class ExclusionForm(forms.Form):
    """Why a judgement must not be learned from."""

    reason = forms.ChoiceField(
        choices=[(reason.value, label) for reason, label in _REASONS.items()],
        error_messages={"required": "Choose a reason."},
    )
    note = forms.CharField(
        max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 3})
    )
