"""What pages read of qualifications: the getters that are the only way to a row, and lists."""

from typing import NamedTuple, TypeVar

from django.db.models import Count, Model, Q, QuerySet

from annotation.access import ANNOTATORS, LEADS, REVIEWERS, require_role
from annotation.errors import NotFoundError
from annotation.models import (
    Attempt,
    Qualification,
    QualificationPart,
    QualificationQuestion,
    Requirement,
    Sitting,
    User,
)

T = TypeVar("T", bound=Model)


class QualificationRow(NamedTuple):
    """A qualification as one annotator sees it."""

    qualification: Qualification
    last: Attempt | None
    num_failed: int
    is_required: bool

    @property
    def num_left(self) -> int:
        """How often it may still be begun."""
        return max(0, self.qualification.max_attempts - self.num_failed)


def tests_for(annotator: User) -> list[QualificationRow]:
    """Return what an annotator may take or has taken: tutorials first, in the order written."""
    attempts = Attempt.objects.filter(annotator=annotator)
    last: dict[int, Attempt] = {}
    failed: dict[int, int] = {}
    for attempt in attempts.order_by("number"):
        last[attempt.qualification_id] = attempt
        failed.setdefault(attempt.qualification_id, 0)
        failed[attempt.qualification_id] += attempt.state == Attempt.State.FAILED
    open_rounds = Q(axis__gt="") | Q(round__state="open")
    required = set(Requirement.objects.filter(open_rounds).values_list("qualification", flat=True))
    rows = Qualification.objects.filter(
        Q(state=Qualification.State.PUBLISHED) | Q(pk__in=last)
    ).order_by("-kind", "pk")
    return [
        QualificationRow(q, last.get(q.pk), failed.get(q.pk, 0), q.pk in required) for q in rows
    ]


def get_test_for(annotator: User, pk: int) -> QualificationRow:
    """Return one qualification as the annotator sees it; drafts are not there.

    Raises:
        NotAllowedError: The person is no annotator.
        NotFoundError: There is no such test.
    """
    require_role(annotator, ANNOTATORS)
    for row in tests_for(annotator):
        if row.qualification.pk == pk:
            return row
    raise NotFoundError("test", pk)


def get_sitting_for(annotator: User, pk: int) -> Sitting:
    """Return a part that this annotator takes or took.

    Raises:
        NotAllowedError: The person is no annotator.
        NotFoundError: It is somebody else's, or there is none.
    """
    require_role(annotator, ANNOTATORS)
    mine = Sitting.objects.filter(attempt__annotator=annotator)
    related = mine.select_related("part", "attempt__qualification")
    return _one(related, "part", pk)


def sittings_to_grade() -> QuerySet[Sitting]:
    """Return the parts that wait for a reviewer's grades, the longest waiting first."""
    return (
        Sitting.objects.filter(
            attempt__state=Attempt.State.GRADING, part__rule=QualificationPart.Rule.MEAN_GRADE
        )
        .annotate(
            num_ungraded=Count(
                "answers", filter=Q(answers__value__isnull=False, answers__grade__isnull=True)
            )
        )
        .filter(num_ungraded__gt=0)
        .select_related("part", "attempt__qualification", "attempt__annotator")
        .order_by("submitted_at")
    )


def get_sitting_to_grade_for(reviewer: User, pk: int) -> Sitting:
    """Return a part that waits for grades, for a reviewer.

    Raises:
        NotAllowedError: The person is no reviewer.
        NotFoundError: There is none, or it is graded.
    """
    require_role(reviewer, REVIEWERS)
    return _one(sittings_to_grade(), "part to grade", pk)


def get_qualification_for(lead: User, pk: int) -> Qualification:
    """Return a qualification for a lead.

    Raises:
        NotAllowedError: The person is no lead.
        NotFoundError: There is none.
    """
    require_role(lead, LEADS)
    return _one(Qualification.objects.select_related("created_by"), "test", pk)


def get_part_for(lead: User, pk: int) -> QualificationPart:
    """Return a part for a lead.

    Raises:
        NotAllowedError: The person is no lead.
        NotFoundError: There is none.
    """
    require_role(lead, LEADS)
    return _one(QualificationPart.objects.select_related("qualification"), "part", pk)


def get_question_for(lead: User, pk: int) -> QualificationQuestion:
    """Return a question for a lead.

    Raises:
        NotAllowedError: The person is no lead.
        NotFoundError: There is none.
    """
    require_role(lead, LEADS)
    related = QualificationQuestion.objects.select_related("part__qualification")
    return _one(related, "question", pk)


def _one(rows: QuerySet[T], what: str, pk: int) -> T:
    row = rows.filter(pk=pk).first()
    if row is None:
        raise NotFoundError(what, pk)
    return row
