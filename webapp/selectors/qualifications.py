"""What the pages of qualifications show."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from django.db.models import Count, Q
from django.utils import timezone

from annotation.models import (
    Answer,
    Attempt,
    Qualification,
    QualificationPart,
    QualificationQuestion,
    Requirement,
    Sitting,
)
from annotation.qualifying import QualificationRow
from annotation.questions import GRADES, Value
from annotation.services.attempts import is_over, is_valid_pass, next_part
from records.preferences import Axis
from webapp.forms.qualifications import written_consensus

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class OptionItem(NamedTuple):
    """One answer that is shown with a question."""

    position: int
    letter: str
    text: str
    number: int | None
    """The rank or grade given to it."""
    is_checked: bool
    is_teams: bool
    """Whether the team chose it; told only after the answer."""


@dataclass(frozen=True, kw_only=True)
class QuestionItem:
    """A question with what was answered to it."""

    question: QualificationQuestion
    options: tuple[OptionItem, ...]
    numbers: tuple[int, ...]
    """The ranks or grades to choose from."""
    value: Value
    answer: Answer | None
    error: str = ""

    @property
    def name(self) -> str:
        """The name of its field."""
        return f"q{self.question.pk}"

    @property
    def consensus(self) -> str:
        """The team's consensus as a lead wrote it."""
        return written_consensus(self.question)


@dataclass(frozen=True, kw_only=True)
class SittingPage:
    """One part as the person who takes it sees it."""

    sitting: Sitting
    items: tuple[QuestionItem, ...]
    seconds_left: int | None
    is_over: bool

    @property
    def is_tutorial(self) -> bool:
        """Whether answers are explained."""
        return self.sitting.attempt.qualification.is_tutorial

    @property
    def answered(self) -> tuple[QuestionItem, ...]:
        """In a tutorial: what has been answered, with what the team says."""
        return tuple(item for item in self.items if item.value is not None)

    @property
    def current(self) -> QuestionItem | None:
        """In a tutorial: the first question without an answer."""
        return next((item for item in self.items if item.value is None), None)


class PartResult(NamedTuple):
    """A part in the list on a test's page."""

    part: QualificationPart
    sitting: Sitting | None
    num_agreed: int
    notes: tuple[Answer, ...]


@dataclass(frozen=True, kw_only=True)
class QualificationPage:
    """A test before, between and after its parts."""

    row: QualificationRow
    parts: tuple[PartResult, ...]
    open_sitting: Sitting | None
    next_part: QualificationPart | None
    may_begin: bool
    is_passed: bool


class AdminRow(NamedTuple):
    """A qualification in the lead's list."""

    qualification: Qualification
    num_questions: int
    num_passed: int
    num_failed: int
    num_grading: int


def sitting_page(
    sitting: Sitting, *, posted: Mapping[int, Value] | None = None, errors: Mapping[str, str] = {}
) -> SittingPage:
    """Return a part with what is kept of its answers, or what was just `posted`."""
    answers = {answer.question_id: answer for answer in sitting.answers.all()}
    now = timezone.now()
    left = None
    if sitting.due_at is not None:
        left = max(0, ceil((sitting.due_at - now).total_seconds()))
    items = tuple(
        _item(question, answers.get(question.pk), posted, errors)
        for question in sitting.part.questions.order_by("position")
    )
    return SittingPage(
        sitting=sitting, items=items, seconds_left=left, is_over=is_over(sitting, now)
    )


def qualification_page(row: QualificationRow) -> QualificationPage:
    """Return a test with the person's last attempt at it."""
    attempt = row.last
    sittings: dict[int, Sitting] = {}
    if attempt is not None:
        rows = attempt.sittings.prefetch_related("answers__question")
        sittings = {sitting.part_id: sitting for sitting in rows}
    parts = row.qualification.parts.order_by("position").annotate(num=Count("questions"))
    is_passed = attempt is not None and is_valid_pass(attempt)
    is_live = attempt is not None and attempt.ended_at is None
    opened = next((s for s in sittings.values() if s.submitted_at is None), None)
    return QualificationPage(
        row=row,
        parts=tuple(_part_result(part, sittings.get(part.pk)) for part in parts),
        open_sitting=opened if is_live else None,
        next_part=next_part(attempt) if attempt is not None else None,
        may_begin=not is_live
        and not is_passed
        and row.num_left > 0
        and row.qualification.state == Qualification.State.PUBLISHED,
        is_passed=is_passed,
    )


def admin_rows() -> list[AdminRow]:
    """Return all qualifications with how many passed and failed; the newest last."""
    attempts = {
        (pk, state): number
        for pk, state, number in Attempt.objects.values_list("qualification", "state")
        .annotate(number=Count("pk"))
        .order_by()
    }
    rows = Qualification.objects.annotate(num=Count("parts__questions")).order_by("-kind", "pk")
    return [
        AdminRow(
            qualification,
            qualification.num,
            attempts.get((qualification.pk, "passed"), 0),
            attempts.get((qualification.pk, "failed"), 0),
            attempts.get((qualification.pk, "grading"), 0),
        )
        for qualification in rows
    ]


def required_ids(*, round_id: int | None = None, axis: Axis | None = None) -> list[int]:
    """Return which qualifications a round or an axis requires."""
    where = Q(round=round_id) if axis is None else Q(axis=axis.value)
    return list(Requirement.objects.filter(where).values_list("qualification", flat=True))


def question_items(questions: Iterable[QualificationQuestion]) -> list[QuestionItem]:
    """Return questions as a lead sees them, with the team's consensus."""
    return [_item(question, None, None, {}) for question in questions]


def _item(
    question: QualificationQuestion,
    answer: Answer | None,
    posted: Mapping[int, Value] | None,
    errors: Mapping[str, str],
) -> QuestionItem:
    value: Value = answer.value if answer is not None else None
    if posted is not None and question.pk in posted:
        value = posted[question.pk]
    numbers = value if isinstance(value, list) else []
    ranks = range(1, len(question.options) + 1)
    return QuestionItem(
        question=question,
        options=tuple(
            OptionItem(
                index,
                _LETTERS[index],
                text,
                numbers[index] if index < len(numbers) else None,
                value == index,
                question.expected == index,
            )
            for index, text in enumerate(question.options)
        ),
        numbers=tuple(GRADES if question.kind == "grading" else ranks),
        value=value,
        answer=answer,
        error=errors.get(f"q{question.pk}", "") or errors.get(f"question {question.position}", ""),
    )


def _part_result(part: QualificationPart, sitting: Sitting | None) -> PartResult:
    answers = list(sitting.answers.all()) if sitting is not None else []
    notes = [answer for answer in answers if answer.note]
    return PartResult(
        part,
        sitting,
        sum(answer.agrees is True for answer in answers),
        tuple(sorted(notes, key=lambda answer: answer.question.position)),
    )
