"""The form of who may work in a round and what they are warned of: when it opens, and later."""

from typing import Any

from django import forms

from annotation.models import ContentWarning, Round
from annotation.services import Access
from webapp.forms.qualifications import RequirementsForm
from webapp.forms.wellbeing import CATEGORY_CHOICES
from webapp.selectors.qualifications import required_ids


class AccessForm(RequirementsForm):
    """Required tests and content warnings of one round."""

    categories = forms.MultipleChoiceField(
        choices=CATEGORY_CHOICES, required=False, widget=forms.CheckboxSelectMultiple
    )

    @classmethod
    def of(cls, round_: Round, data: Any) -> "AccessForm":  # noqa: ANN401 - a QueryDict or None
        """Return the form of a round, filled with what is set."""
        warned = ContentWarning.objects.filter(round=round_).values_list("category", flat=True)
        initial = {
            "qualifications": required_ids(round_id=round_.pk),
            "categories": list(warned),
        }
        return cls(data, initial=initial)

    def access(self) -> Access:
        """Return what a valid form says."""
        return Access(**self.cleaned_data)
