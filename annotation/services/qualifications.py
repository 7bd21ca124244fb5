"""Qualifications: a lead writes, publishes and requires them; a published one never changes."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.db.models.functions import Now

from annotation.access import LEADS, require_role
from annotation.errors import NotFoundError, QualificationError
from annotation.models import (
    Qualification,
    QualificationPart,
    QualificationQuestion,
    Requirement,
    Round,
    User,
)
from annotation.questions import Value, check_question
from records.preferences import Axis

Rule = QualificationPart.Rule
_BOUNDS = {Rule.SHARE: (0.0, 1.0), Rule.COUNT: (0.0, 1000.0), Rule.MEAN_GRADE: (1.0, 5.0)}
MAX_MINUTES = 24 * 60


class QualificationFields(NamedTuple):
    """What a lead says of a test or tutorial as a whole."""

    name: str
    kind: str = Qualification.Kind.TEST
    introduction: str = ""
    max_attempts: int = 2
    valid_days: int | None = None


class PartFields(NamedTuple):
    """What a lead says of one part."""

    title: str
    instructions: str = ""
    minutes: int | None = None
    rule: str = Rule.SHARE
    mark: float = 0.8
    is_strict: bool = False
    min_answers: int | None = None
    joins_previous: bool = False


class QuestionFields(NamedTuple):
    """What a lead says of one question."""

    kind: str
    prompt: str
    options: Sequence[str] = ()
    expected: Value = None
    tolerance: int = 0
    explanation: str = ""


def create_qualification(*, lead: User, fields: QualificationFields) -> Qualification:
    """Begin a draft.

    Raises:
        NotAllowedError: The person is no lead.
        QualificationError: A field does not fit; names it.
    """
    require_role(lead, LEADS)
    _check_qualification(fields)
    with _unique_name(fields.name), transaction.atomic():
        return Qualification.objects.create(created_by=lead, **fields._asdict())


def change_qualification(
    *, lead: User, qualification: Qualification, fields: QualificationFields
) -> Qualification:
    """Change a draft.

    Raises:
        NotAllowedError: The person is no lead.
        QualificationError: A field does not fit, or it is published; names the field.
    """
    require_role(lead, LEADS)
    _check_qualification(fields)
    with _unique_name(fields.name), transaction.atomic():
        locked = _lock_draft(qualification.pk)
        for name, value in fields._asdict().items():
            setattr(locked, name, value)
        locked.save()
    return locked


def save_part(
    *,
    lead: User,
    qualification: Qualification,
    fields: PartFields,
    part: QualificationPart | None = None,
) -> QualificationPart:
    """Add a part at the end of a draft, or change one.

    Raises:
        NotAllowedError: The person is no lead.
        QualificationError: A field does not fit, or the test is published; names the field.
    """
    require_role(lead, LEADS)
    _check_part(fields)
    with transaction.atomic():
        locked = _lock_draft(qualification.pk)
        if part is None:
            position = _next_position(locked.parts.aggregate(last=Max("position"))["last"])
            return QualificationPart.objects.create(
                qualification=locked, position=position, **fields._asdict()
            )
        QualificationPart.objects.filter(pk=part.pk, qualification=locked).update(
            **fields._asdict()
        )
    part.refresh_from_db()
    return part


def save_question(
    *,
    lead: User,
    part: QualificationPart,
    fields: QuestionFields,
    question: QualificationQuestion | None = None,
) -> QualificationQuestion:
    """Add a question at the end of a part of a draft, or change one.

    Raises:
        NotAllowedError: The person is no lead.
        QualificationError: A field does not fit, or the test is published; names the field.
    """
    require_role(lead, LEADS)
    if not fields.prompt.strip():
        raise QualificationError("prompt", "write the question")
    check_question(fields.kind, fields.options, fields.expected)
    values = {**fields._asdict(), "options": list(fields.options)}
    with transaction.atomic():
        _lock_draft(part.qualification_id)
        if question is None:
            position = _next_position(part.questions.aggregate(last=Max("position"))["last"])
            return QualificationQuestion.objects.create(part=part, position=position, **values)
        QualificationQuestion.objects.filter(pk=question.pk, part=part).update(**values)
    question.refresh_from_db()
    return question


def delete_part(*, lead: User, part: QualificationPart) -> None:
    """Take a part with its questions out of a draft.

    Raises:
        NotAllowedError: The person is no lead.
        QualificationError: The test is published.
    """
    require_role(lead, LEADS)
    with transaction.atomic():
        _lock_draft(part.qualification_id)
        part.delete()


def delete_question(*, lead: User, question: QualificationQuestion) -> None:
    """Take a question out of a draft.

    Raises:
        NotAllowedError: The person is no lead.
        QualificationError: The test is published.
    """
    require_role(lead, LEADS)
    with transaction.atomic():
        _lock_draft(question.part.qualification_id)
        question.delete()


def publish_qualification(*, lead: User, qualification: Qualification) -> Qualification:
    """Let people take it; from now on it never changes. Idempotent.

    Raises:
        NotAllowedError: The person is no lead.
        QualificationError: It could not be passed or graded as it stands; says what to mend.
    """
    require_role(lead, LEADS)
    with transaction.atomic():
        locked = Qualification.objects.select_for_update(no_key=True).get(pk=qualification.pk)
        if locked.is_draft:
            _check_whole(locked)
            locked.state, locked.published_at = Qualification.State.PUBLISHED, Now()
            locked.save(update_fields=["state", "published_at"])
    locked.refresh_from_db()
    return locked


def retire_qualification(*, lead: User, qualification: Qualification) -> Qualification:
    """Let nobody begin it any more; passes stay. Idempotent.

    Raises:
        NotAllowedError: The person is no lead.
        QualificationError: It is a draft, or still required somewhere.
    """
    require_role(lead, LEADS)
    with transaction.atomic():
        locked = Qualification.objects.select_for_update().get(pk=qualification.pk)
        if locked.is_draft:
            raise QualificationError("state", "a draft is not retired: nobody can take it")
        required = locked.requirements.select_related("round").first()
        if required is not None:
            where = required.round or f"every {required.axis} round"
            raise QualificationError("state", f"{where} still requires it; lift that first")
        locked.state = Qualification.State.RETIRED
        locked.save(update_fields=["state"])
    return locked


def copy_qualification(*, lead: User, qualification: Qualification) -> Qualification:
    """Begin a draft with the parts and questions of another one: how a published one is mended.

    Raises:
        NotAllowedError: The person is no lead.
    """
    require_role(lead, LEADS)
    with transaction.atomic():
        names = set(Qualification.objects.values_list("name", flat=True))
        stem = qualification.name[:70]
        name = next(n for i in range(2, len(names) + 3) if (n := f"{stem} ({i})") not in names)
        copy = Qualification.objects.create(
            name=name,
            kind=qualification.kind,
            introduction=qualification.introduction,
            max_attempts=qualification.max_attempts,
            valid_days=qualification.valid_days,
            created_by=lead,
        )
        for part in qualification.parts.order_by("position"):
            questions = list(part.questions.order_by("position"))
            part.pk, part.qualification = None, copy
            part.save(force_insert=True)
            for question in questions:
                question.pk, question.part = None, part
            QualificationQuestion.objects.bulk_create(questions)
    return copy


def require_qualifications(
    *,
    lead: User,
    qualifications: Collection[Qualification],
    round_: Round | None = None,
    axis: Axis | None = None,
) -> None:
    """Make these, and no others, the qualifications that a round or all of an axis needs.

    Raises:
        NotAllowedError: The person is no lead.
        QualificationError: One of them is not published.
        ValueError: Not exactly one of round and axis is given.
    """
    require_role(lead, LEADS)
    if (round_ is None) == (axis is None):
        raise ValueError("a requirement is of one round or of one axis")
    wanted = {item.pk for item in qualifications}
    place = {"round": round_, "axis": "" if axis is None else axis.value}
    with transaction.atomic():
        # Locked: none is retired while it becomes required.
        locked = Qualification.objects.select_for_update(no_key=True).filter(pk__in=wanted)
        for item in locked.order_by("pk"):
            if item.state != Qualification.State.PUBLISHED:
                raise QualificationError("qualifications", f"{item} is {item.state}")
        Requirement.objects.filter(**place).exclude(qualification__in=wanted).delete()
        Requirement.objects.bulk_create(
            (Requirement(qualification_id=pk, **place) for pk in sorted(wanted)),
            ignore_conflicts=True,
        )


@contextmanager
def _unique_name(name: str) -> Iterator[None]:
    """Turn the database's refusal of a name into an error at the field."""
    try:
        yield
    except IntegrityError as error:
        if "qualification_name_unique" in str(error):
            raise QualificationError("name", f"there is already a test {name!r}") from error
        raise


def _lock_draft(pk: int) -> Qualification:
    locked = Qualification.objects.select_for_update(no_key=True).filter(pk=pk).first()
    if locked is None:
        raise NotFoundError("qualification", pk)
    if not locked.is_draft:
        raise QualificationError("state", f"{locked} is {locked.state}; copy it to change it")
    return locked


def _next_position(last: int | None) -> int:
    return 1 if last is None else last + 1


def _check_qualification(fields: QualificationFields) -> None:
    if not fields.name.strip():
        raise QualificationError("name", "give it a name")
    if fields.kind not in Qualification.Kind.values:
        raise QualificationError("kind", f"{fields.kind!r} is neither test nor tutorial")
    if not 1 <= fields.max_attempts <= 100:
        raise QualificationError("max_attempts", f"{fields.max_attempts} is not within 1 to 100")
    if fields.valid_days is not None and not 1 <= fields.valid_days <= 3660:
        raise QualificationError("valid_days", f"{fields.valid_days} is not within 1 to 3660")


def _check_part(fields: PartFields) -> None:
    if not fields.title.strip():
        raise QualificationError("title", "give the part a title")
    if fields.rule not in Rule.values:
        raise QualificationError("rule", f"{fields.rule!r} is not one of {', '.join(Rule.values)}")
    low, high = _BOUNDS[Rule(fields.rule)]
    if not low <= fields.mark <= high:
        raise QualificationError("mark", f"{fields.mark:g} is not within {low:g} to {high:g}")
    if fields.minutes is not None and not 1 <= fields.minutes <= MAX_MINUTES:
        raise QualificationError("minutes", f"{fields.minutes} is not within 1 to {MAX_MINUTES}")
    if fields.min_answers is not None and fields.min_answers < 1:
        raise QualificationError("min_answers", f"{fields.min_answers} is below 1")


def _check_whole(qualification: Qualification) -> None:
    parts = list(qualification.parts.order_by("position").prefetch_related("questions"))
    if not parts:
        raise QualificationError("parts", "it has no parts yet")
    if parts[0].joins_previous:
        raise QualificationError("parts", f"{parts[0].title!r} has no part before to be joined to")
    for part in parts:
        _check_part_questions(qualification, part, list(part.questions.all()))
    for before, part in pairwise(parts):
        if part.joins_previous and before.is_graded_by_hand != part.is_graded_by_hand:
            raise QualificationError(
                "parts", f"{part.title!r} is graded otherwise than the part it is joined to"
            )


def _check_part_questions(
    qualification: Qualification, part: QualificationPart, questions: list[QualificationQuestion]
) -> None:
    name, num = repr(part.title), len(questions)
    written = [q for q in questions if q.kind == QualificationQuestion.Kind.WRITTEN]
    problem = ""
    if not questions:
        problem = f"{name} has no questions"
    elif qualification.is_tutorial and (written or part.minutes is not None):
        problem = f"a tutorial is self-paced and shows answers: {name} is timed or graded by hand"
    elif part.is_graded_by_hand and len(written) < num:
        problem = f"{name} asks for a mean grade, so all of its questions are written ones"
    elif not part.is_graded_by_hand and written:
        problem = f"{name} has written questions, which only a mean grade can judge"
    elif part.min_answers is not None and (not part.is_graded_by_hand or part.min_answers > num):
        problem = f"{name} asks for {part.min_answers} answers, which fits only written questions"
    elif part.rule == Rule.COUNT and not part.joins_previous and part.mark + part.is_strict > num:
        problem = f"{name} cannot be passed: it asks for more agreements than questions"
    elif part.is_strict and part.mark == _BOUNDS[Rule(part.rule)][1]:
        problem = f"{name} cannot be passed: more than {part.mark:g} is not reachable"
    if problem:
        raise QualificationError("parts", problem)
