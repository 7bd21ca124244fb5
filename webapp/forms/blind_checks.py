"""Opening a blind check, and the choice in one."""

from django import forms

from annotation.services.blind_checks import DEFAULT_PAIRS
from registry.models import PolicyVersion


class BlindCheckForm(forms.Form):
    """How many demonstrations, against which policy."""

    name = forms.CharField(max_length=80, help_text="Such as SFT 1 against people.")
    policy = forms.ModelChoiceField(
        PolicyVersion.objects.order_by("-pk"),
        empty_label="Choose …",
        help_text="Answers the same prompts.",
    )
    num_pairs = forms.IntegerField(
        label="Demonstrations",
        min_value=1,
        max_value=100_000,
        initial=DEFAULT_PAIRS,
        help_text="Drawn at random from those approved.",
    )
    temperature = forms.FloatField(min_value=0, max_value=5, initial=1.0)
    top_p = forms.FloatField(label="Top p", min_value=0.01, max_value=1, initial=1.0)
    max_new_tokens = forms.IntegerField(label="Longest response", min_value=1, initial=256)


class VerdictForm(forms.Form):
    """Which answer is better."""

    choice = forms.ChoiceField(
        choices=[("left", "A"), ("right", "B"), ("neither", "No difference")],
        error_messages={"required": "Choose A, B or no difference."},
    )
    client_key = forms.UUIDField()
