"""The span of a pay report."""

from datetime import date
from typing import Any

from django import forms
from django.utils import timezone

from annotation.pay import Span, last_full_week

MAX_DAYS = 92
"""A quarter of a year: the cost of a report grows with its span."""


def _day(label: str) -> forms.DateField:
    written = f"{label}: write a date such as 2026-11-23."
    return forms.DateField(
        label=label,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        input_formats=["%Y-%m-%d"],
        error_messages={"required": written, "invalid": written},
    )


class SpanForm(forms.Form):
    """First and last day, both included; the last full week unless said otherwise."""

    first = _day("First day")
    last = _day("Last day")

    @classmethod
    def of(cls, query: Any) -> "SpanForm":  # noqa: ANN401 - a QueryDict
        """Return the form of a query string, or of the last full week where it says nothing."""
        is_asked = "first" in query or "last" in query
        return cls(query if is_asked else last_full_week(timezone.now().date())._asdict())

    def clean(self) -> dict[str, Any]:
        """Hold the span within its bounds."""
        values: dict[str, Any] = super().clean() or {}
        first, last = values.get("first"), values.get("last")
        today = timezone.now().date()
        if last is not None and last > today:
            self.add_error("last", f"Last day: {last} is after today, {today}.")
        elif first is not None and last is not None:
            self._check_length(first, last)
        return values

    def span(self) -> Span:
        """Return the span of a form that is valid."""
        return Span(self.cleaned_data["first"], self.cleaned_data["last"])

    def _check_length(self, first: date, last: date) -> None:
        num_days = Span(first, last).num_days
        if num_days < 1:
            self.add_error("last", f"Last day: {last} is before the first day, {first}.")
        elif num_days > MAX_DAYS:
            self.add_error("last", f"Last day: {num_days} days from the first; at most {MAX_DAYS}.")
