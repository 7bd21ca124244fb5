"""The form that begins or changes a pause."""

from django import forms

from annotation.models import Pause
from annotation.models.pauses import MAX_SENTENCE
from annotation.services.pauses import MAX_DAYS


class PauseForm(forms.Form):
    """What annotators are told, and when it is expected to be over."""

    sentence = forms.CharField(
        label="What annotators read",
        max_length=MAX_SENTENCE,
        help_text="One sentence: what happens, and what they may expect.",
    )
    back_at = forms.DateTimeField(
        label="Expected back",
        required=False,
        help_text=f"In UTC, at most {MAX_DAYS} days ahead. Empty: annotators are told no time.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )
    ends_itself = forms.BooleanField(
        label="End by itself then, whether or not somebody ends it", required=False
    )
    changes = forms.IntegerField(required=False, widget=forms.HiddenInput)

    @classmethod
    def of(cls, pause: Pause | None) -> "PauseForm":
        """Return the form that begins a pause, or changes the one that holds."""
        if pause is None:
            return cls()
        fields = ("sentence", "back_at", "ends_itself")
        values = {name: getattr(pause, name) for name in fields}
        return cls(initial={**values, "changes": pause.pk})
