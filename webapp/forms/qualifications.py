"""Forms of qualifications: what a lead writes, what a person answers, what a reviewer grades."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from annotation.models import Qualification, QualificationPart, QualificationQuestion
from annotation.questions import Value

Kind = QualificationQuestion.Kind
KIND_WORDS = {
    Kind.CHOICE.value: "Multiple choice",
    Kind.RANKING.value: "Rank answers",
    Kind.GRADING.value: "Grade answers, 1 to 5",
    Kind.PAIR.value: "Compare two answers",
    Kind.WRITTEN.value: "Written answer, graded by hand",
}
RULE_WORDS = {
    QualificationPart.Rule.SHARE.value: "share of agreements, 0 to 1",
    QualificationPart.Rule.COUNT.value: "number of agreements",
    QualificationPart.Rule.MEAN_GRADE.value: "mean grade by hand, 1 to 5",
}
_BETWEEN_OPTIONS = re.compile(r"^\s*---\s*$", re.MULTILINE)


class QualificationForm(forms.Form):
    """A test or tutorial as a whole."""

    name = forms.CharField(max_length=80)
    kind = forms.ChoiceField(
        choices=[("test", "Test"), ("tutorial", "Tutorial")],
        help_text="A tutorial shows what the team thinks after each answer; nobody fails it.",
    )
    introduction = forms.CharField(
        required=False, widget=forms.Textarea(attrs={"rows": 4}), help_text="Markdown."
    )
    max_attempts = forms.IntegerField(
        label="Attempts", min_value=1, max_value=100, initial=2, help_text="Failures allowed."
    )
    valid_days = forms.IntegerField(
        label="A pass is valid for (days)",
        min_value=1,
        max_value=3660,
        required=False,
        help_text="Empty: for ever.",
    )


class PartForm(forms.Form):
    """One part of a test."""

    title = forms.CharField(max_length=120)
    instructions = forms.CharField(
        required=False, widget=forms.Textarea(attrs={"rows": 3}), help_text="Markdown."
    )
    rule = forms.ChoiceField(label="Pass mark: a", choices=list(RULE_WORDS.items()))
    mark = forms.FloatField(label="of at least", min_value=0, max_value=1000, initial=0.8)
    is_strict = forms.BooleanField(required=False, label="More than the mark is needed")
    minutes = forms.IntegerField(
        label="Minutes",
        min_value=1,
        max_value=24 * 60,
        required=False,
        help_text="Empty: no limit.",
    )
    min_answers = forms.IntegerField(
        label="Answers asked for",
        min_value=1,
        required=False,
        help_text="Of the written questions; empty: all.",
    )
    joins_previous = forms.BooleanField(
        required=False, label="Judged in one with the part before, by that part's mark"
    )


class QuestionForm(forms.Form):
    """One question and the team's consensus."""

    kind = forms.ChoiceField(choices=list(KIND_WORDS.items()))
    prompt = forms.CharField(
        label="Question", widget=forms.Textarea(attrs={"rows": 4}), help_text="Markdown."
    )
    options = forms.CharField(
        label="Answers to choose from",
        required=False,
        widget=forms.Textarea(attrs={"rows": 6}),
        help_text="One after another, with a line of three dashes between them. Markdown.",
    )
    expected = forms.CharField(
        label="The team's consensus",
        required=False,
        help_text="Choice: its number. Pair: A or B. Ranking: the rank of each answer, such as "
        "2 1 3. Grading: the grade of each answer, such as 5 2. Written: leave it empty.",
    )
    tolerance = forms.IntegerField(
        label="Grades may differ by", min_value=0, max_value=4, initial=0, required=False
    )
    explanation = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Shown after the answer in a tutorial. Markdown.",
    )

    def clean_tolerance(self) -> int:
        """An empty tolerance is none."""
        return self.cleaned_data["tolerance"] or 0

    def clean_options(self) -> list[str]:
        """Return the options, trimmed."""
        text: str = self.cleaned_data["options"]
        return [part.strip() for part in _BETWEEN_OPTIONS.split(text)] if text.strip() else []

    def clean(self) -> dict[str, Any]:
        """Read the consensus as the kind of question has it."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        text = str(data.get("expected", "")).strip()
        kind = data.get("kind")
        try:
            data["expected"] = _consensus(kind, text) if kind else None
        except ValueError:
            self.add_error("expected", f"{text!r} is not what this kind of question takes.")
        return data


class RealPairForm(forms.Form):
    """A judgement of the platform that becomes a question."""

    judgement = forms.IntegerField(
        label="Number of a judgement",
        min_value=1,
        help_text="It stands in the address of the judgement's page under Review.",
    )


class GradesForm(forms.Form):
    """A grade and a note for each written answer."""

    def __init__(self, data: Any = None, *, answers: Iterable[int]) -> None:  # noqa: ANN401
        super().__init__(data)
        self._answers = list(answers)
        for pk in self._answers:
            self.fields[f"grade-{pk}"] = forms.IntegerField(
                min_value=1, max_value=5, error_messages={"required": "Grade this answer."}
            )
            self.fields[f"note-{pk}"] = forms.CharField(max_length=4000, required=False)

    @property
    def grades(self) -> dict[int, int]:
        """The grades by answer."""
        return {pk: self.cleaned_data[f"grade-{pk}"] for pk in self._answers}

    @property
    def notes(self) -> dict[int, str]:
        """The notes by answer."""
        return {pk: self.cleaned_data[f"note-{pk}"] for pk in self._answers}


class RequirementsForm(forms.Form):
    """Which published qualifications are required."""

    qualifications = forms.ModelMultipleChoiceField(
        Qualification.objects.filter(state="published").order_by("-kind", "pk"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )


def values_of(
    questions: Iterable[QualificationQuestion], post: Mapping[str, str], *, is_draft: bool = False
) -> dict[int, Value]:
    """Return what a form answers, by question; in a draft what is half filled in is left out."""
    values: dict[int, Value] = {}
    for question in questions:
        name = f"q{question.pk}"
        if question.kind in (Kind.RANKING, Kind.GRADING):
            texts = [post.get(f"{name}-{i}", "") for i in range(len(question.options))]
            numbers = [int(text) for text in texts if text.isdecimal()]
            if numbers and not (is_draft and len(numbers) < len(texts)):
                values[question.pk] = numbers
        elif question.kind == Kind.WRITTEN:
            if name in post:
                values[question.pk] = post[name].strip()
        elif post.get(name, "").isdecimal():
            values[question.pk] = int(post[name])
    return values


def written_consensus(question: QualificationQuestion) -> str:
    """Return the consensus as `QuestionForm` reads it."""
    if question.expected is None:
        return ""
    if question.kind == Kind.PAIR:
        return "AB"[question.expected]
    if question.kind == Kind.CHOICE:
        return str(question.expected + 1)
    return " ".join(map(str, question.expected))


def _consensus(kind: str, text: str) -> Value:
    if not text:
        return None
    if kind == Kind.WRITTEN:
        raise ValueError(text)
    if kind == Kind.PAIR:
        return "AB".index(text.upper())
    if kind == Kind.CHOICE:
        return int(text) - 1
    return [int(word) for word in text.replace(",", " ").split()]


def add_service_error(form: forms.Form, field: str, message: str) -> None:
    """Show a service's complaint at its field, or above the form where there is no such field."""
    sentence = f"{message[:1].upper()}{message[1:]}."
    form.add_error(field if field in form.fields else None, ValidationError(sentence))
