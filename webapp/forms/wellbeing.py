"""Forms of consent and well-being."""

from django import forms

from annotation.exposure import CATEGORY_WORDS
from annotation.models.wellbeing import MINUTES_OF_A_DAY
from webapp.wording import capitalised

CATEGORY_CHOICES = [(value, capitalised(words)) for value, words in CATEGORY_WORDS.items()]


class ConsentDocumentForm(forms.Form):
    """A new version of what annotators consent to."""

    version = forms.CharField(max_length=20, help_text="A name such as 2 or 2026-04.")
    text = forms.CharField(
        help_text="Markdown. Say what is stored, who sees it, what it trains, and how to withdraw.",
        widget=forms.Textarea(attrs={"rows": 16}),
    )


class WithdrawalForm(forms.Form):
    """Taking one's work back."""

    client_key = forms.UUIDField(widget=forms.HiddenInput)
    is_sure = forms.BooleanField(
        label="I take back what I have judged",
        error_messages={"required": "Tick the box if you are sure."},
    )
    note = forms.CharField(
        label="Anything you want us to know",
        required=False,
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 3}),
    )


class WellbeingForm(forms.Form):
    """What an annotator does not want to see."""

    covers_responses = forms.BooleanField(
        required=False,
        label="Cover responses in rounds with a content warning until I ask to see them",
    )
    opted_out = forms.MultipleChoiceField(
        label="Do not offer me rounds with",
        choices=CATEGORY_CHOICES,
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )


class WellbeingPolicyForm(forms.Form):
    """Everybody's bounds, and whom to turn to."""

    daily_minutes = forms.IntegerField(
        label="Minutes with unsafe texts in a day",
        min_value=1,
        max_value=MINUTES_OF_A_DAY,
        required=False,
        help_text="Active time in safety rounds and rounds with a warning. Empty: no bound.",
    )
    stretch_minutes = forms.IntegerField(
        label="Minutes until a break is due",
        min_value=1,
        max_value=MINUTES_OF_A_DAY,
        required=False,
        help_text="Empty: no break is forced.",
    )
    break_minutes = forms.IntegerField(
        label="Minutes of a break", min_value=1, max_value=MINUTES_OF_A_DAY, initial=15
    )
    support_text = forms.CharField(
        label="Support",
        required=False,
        widget=forms.Textarea(attrs={"rows": 5}),
        help_text="Whom to turn to, and how. Markdown. Every warning and every break links to it.",
    )


class DailyMinutesForm(forms.Form):
    """One person's own bound."""

    minutes = forms.IntegerField(
        label="Minutes in a day",
        min_value=0,
        max_value=MINUTES_OF_A_DAY,
        required=False,
    )
