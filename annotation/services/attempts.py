"""Attempts: a person takes a qualification part by part, by the server's clock; reviewers grade."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone

from annotation.access import ANNOTATORS, REVIEWERS, require_role
from annotation.errors import NoAttemptLeftError, NotFoundError, QualificationError, StateError
from annotation.models import (
    Answer,
    Attempt,
    Qualification,
    QualificationPart,
    Sitting,
    User,
)
from annotation.pauses import require_no_pause
from annotation.questions import GRADES, Value, agrees, checked_value

Rule = QualificationPart.Rule
GRACE = timedelta(seconds=10)
"""A form sent in the last second still has to travel."""
LOWEST_GRADE = GRADES[0]


def start_attempt(*, annotator: User, qualification: Qualification) -> Attempt:
    """Begin a qualification, or return the attempt that is under way or has been passed.

    Raises:
        NotAllowedError: The person is no annotator.
        PausedError: Annotation is paused.
        QualificationError: Nobody may take it now.
        NoAttemptLeftError: All attempts are used.
    """
    require_role(annotator, ANNOTATORS)
    mine = Attempt.objects.filter(qualification=qualification, annotator=annotator)
    last = mine.order_by("-number").first()
    if last is not None and (last.ended_at is None or is_valid_pass(last)):
        return last
    require_no_pause(annotator)
    if qualification.state != Qualification.State.PUBLISHED:
        raise QualificationError("state", f"{qualification} is {qualification.state}")
    # Who has passed may renew an expired pass: only failures use attempts up.
    failures = mine.filter(state=Attempt.State.FAILED)
    passes = mine.filter(state=Attempt.State.PASSED)
    allowed = qualification.max_attempts + passes.count()
    if failures.count() >= qualification.max_attempts:
        raise NoAttemptLeftError(qualification.name, qualification.max_attempts)
    try:
        with transaction.atomic():
            return Attempt.objects.create(
                qualification=qualification,
                annotator=annotator,
                number=1 if last is None else last.number + 1,
                max_attempts=allowed,
            )
    except IntegrityError:
        # Two tabs at once: the constraints let one through, and both go on with it.
        return mine.order_by("-number")[0]


def start_sitting(*, annotator: User, attempt: Attempt) -> Sitting:
    """Begin the next part of an attempt, or return the one that is open; its time runs from here.

    Raises:
        NotFoundError: The attempt is not this annotator's.
        StateError: It has no part left to take.
        PausedError: Annotation is paused; the clock of no part is set running.
    """
    with transaction.atomic():
        locked = _lock_own(annotator, attempt)
        opened = locked.sittings.filter(submitted_at__isnull=True).first()
        if opened is not None:
            return opened
        part = next_part(locked)
        if part is None:
            raise StateError(locked.state, "one with a part left", "attempt")
        require_no_pause(annotator)
        now = timezone.now()
        due_at = None if part.minutes is None else now + timedelta(minutes=part.minutes)
        return Sitting.objects.create(attempt=locked, part=part, started_at=now, due_at=due_at)


def save_answers(
    *, annotator: User, sitting: Sitting, values: Mapping[int, Value]
) -> dict[int, Answer]:
    """Keep answers, by question id, over what was kept before; what is not named stays.

    What comes after the time is kept beside and does not count. In a tutorial an answer stands as
    soon as it is given, and says whether it agrees with the team's.

    Raises:
        NotFoundError: The sitting is not this annotator's, or a question is not of its part.
        QualificationError: A value is no answer to its question.
        StateError: The part has been submitted.
    """
    with transaction.atomic():
        locked = _lock_sitting(annotator, sitting)
        if locked.submitted_at is not None:
            raise StateError("submitted", "an open one", "part")
        return _store(locked, values, timezone.now())


def submit_sitting(*, annotator: User, sitting: Sitting, values: Mapping[int, Value]) -> Attempt:
    """Hand in a part, with these answers over those kept before. Idempotent.

    When the time is up, what there is is handed in. A part that a machine can grade is graded at
    once, and failing it ends the attempt.

    Raises:
        NotFoundError: The sitting is not this annotator's.
        QualificationError: Answers are missing and there is time left to give them; those given
            are kept.
    """
    with transaction.atomic():
        locked = _lock_sitting(annotator, sitting)
        attempt = locked.attempt
        if locked.submitted_at is not None:
            return attempt
        now = timezone.now()
        _store(locked, values, now)
        is_due = locked.due_at is not None and now >= locked.due_at
        problem = None if is_due else _first_missing(locked)
        if problem is None:
            locked.submitted_at = now
            locked.save(update_fields=["submitted_at"])
            _grade_by_machine(locked)
            _settle(attempt)
    if problem is not None:
        raise problem
    return attempt


def grade_sitting(
    *, reviewer: User, sitting: Sitting, grades: Mapping[int, int], notes: Mapping[int, str]
) -> Attempt:
    """Grade the written answers of a part, by answer id, 1 to 5. The first grades stand.

    Raises:
        NotAllowedError: The person is no reviewer.
        QualificationError: An answer has no grade, or one outside 1 to 5; names it.
        StateError: The part does not wait for grades.
    """
    require_role(reviewer, REVIEWERS)
    with transaction.atomic():
        attempt = Attempt.objects.select_for_update(no_key=True).get(pk=sitting.attempt_id)
        answers = list(
            Answer.objects.filter(sitting=sitting, value__isnull=False)
            .select_related("question")
            .order_by("question__position")
        )
        if attempt.state != Attempt.State.GRADING or all(a.grade is not None for a in answers):
            raise StateError(attempt.state, "one that waits for grades", "attempt")
        for answer in answers:
            grade = grades.get(answer.pk)
            if grade not in GRADES:
                field = f"grade-{answer.pk}"
                number = answer.question.position
                raise QualificationError(field, f"grade answer {number} from 1 to {GRADES[-1]}")
            answer.grade, answer.grader = grade, reviewer
            answer.note = notes.get(answer.pk, "")
            answer.save(update_fields=["grade", "grader", "note", "updated_at"])
        _settle(attempt)
    return attempt


def next_part(attempt: Attempt) -> QualificationPart | None:
    """Return the first part without a sitting, None where there is none or the attempt is over."""
    if attempt.state != Attempt.State.IN_PROGRESS:
        return None
    taken = attempt.sittings.values("part")
    parts = QualificationPart.objects.filter(qualification=attempt.qualification_id)
    return parts.exclude(pk__in=taken).order_by("position").first()


def is_over(sitting: Sitting, now: datetime) -> bool:
    """Whether a part's time is up, with a moment for the form to travel."""
    return sitting.due_at is not None and now > sitting.due_at + GRACE


def is_valid_pass(attempt: Attempt) -> bool:
    """Whether an attempt is a pass that has not expired."""
    is_current = attempt.expires_at is None or attempt.expires_at > timezone.now()
    return attempt.state == Attempt.State.PASSED and is_current


def _store(sitting: Sitting, values: Mapping[int, Value], now: datetime) -> dict[int, Answer]:
    questions = {question.pk: question for question in sitting.part.questions.all()}
    kept = {answer.question_id: answer for answer in sitting.answers.all()}
    is_tutorial = sitting.attempt.qualification.is_tutorial
    for pk, raw in values.items():
        if pk not in questions:
            raise NotFoundError("question", pk)
        value = checked_value(questions[pk], raw)
        answer = kept.setdefault(pk, Answer(sitting=sitting, question=questions[pk]))
        if is_over(sitting, now):
            if value != answer.value:
                answer.late_value = value
        elif is_tutorial:
            if answer.agrees is None and value is not None:
                answer.value, answer.agrees = value, agrees(questions[pk], value)
        else:
            answer.value = value
        answer.save()
    return kept


def _first_missing(sitting: Sitting) -> QualificationError | None:
    """Return an error for the first answer that is missing; `min_answers` of them are enough."""
    given = set(sitting.answers.filter(value__isnull=False).values_list("question", flat=True))
    questions = sitting.part.questions.order_by("position")
    missing = [question for question in questions if question.pk not in given]
    asked = sitting.part.min_answers or len(given) + len(missing)
    if len(given) >= asked:
        return None
    if sitting.part.min_answers is not None:
        text = f"answer at least {asked} questions; {len(given)} are answered so far"
        return QualificationError("answers", text)
    number = missing[0].position
    return QualificationError(f"q{missing[0].pk}", f"question {number} has no answer yet")


def _grade_by_machine(sitting: Sitting) -> None:
    if sitting.part.is_graded_by_hand:
        return
    for answer in sitting.answers.select_related("question"):
        answer.agrees = agrees(answer.question, answer.value)
        answer.save(update_fields=["agrees"])


def _settle(attempt: Attempt) -> None:
    """Judge every group of parts that can be judged, and move the attempt on."""
    results = [_judge_group(attempt, group) for group in _groups(attempt)]
    if False in results:
        state = Attempt.State.FAILED
    elif None not in results:
        state = Attempt.State.PASSED
    elif next_part(attempt) is None:
        state = Attempt.State.GRADING
    else:
        state = Attempt.State.IN_PROGRESS
    attempt.state = state
    if state in (Attempt.State.PASSED, Attempt.State.FAILED):
        attempt.ended_at = timezone.now()
        days = attempt.qualification.valid_days
        if state == Attempt.State.PASSED and days is not None:
            attempt.expires_at = attempt.ended_at + timedelta(days=days)
    attempt.save(update_fields=["state", "ended_at", "expires_at"])


def _groups(attempt: Attempt) -> list[list[QualificationPart]]:
    """Return the parts in order; those judged in one stand together."""
    groups: list[list[QualificationPart]] = []
    parts = QualificationPart.objects.filter(qualification=attempt.qualification_id)
    for part in parts.order_by("position").prefetch_related("questions"):
        if part.joins_previous and groups:
            groups[-1].append(part)
        else:
            groups.append([part])
    return groups


def _judge_group(attempt: Attempt, group: list[QualificationPart]) -> bool | None:
    """Return whether a group of parts is passed, None while it cannot be said; store it."""
    sittings = list(
        Sitting.objects.filter(attempt=attempt, part__in=group, submitted_at__isnull=False)
        .select_related("part")
        .prefetch_related("answers", "part__questions")
    )
    if len(sittings) < len(group):
        return None
    head = group[0]
    score = _mean_grade(sittings) if head.is_graded_by_hand else _agreement(head, sittings)
    if score is None:
        return None
    is_passed = score > head.mark if head.is_strict else score >= head.mark
    Sitting.objects.filter(pk__in=[sitting.pk for sitting in sittings]).update(is_passed=is_passed)
    return is_passed


def _agreement(head: QualificationPart, sittings: list[Sitting]) -> float:
    """Return the agreements, as a number or as a share of all questions, answered or not."""
    agreements = sum(answer.agrees is True for s in sittings for answer in s.answers.all())
    if head.rule == Rule.COUNT:
        return float(agreements)
    return agreements / sum(len(sitting.part.questions.all()) for sitting in sittings)


def _mean_grade(sittings: list[Sitting]) -> float | None:
    """Return the mean grade, None while one is missing; an answer asked for and not given is 1."""
    grades: list[int] = []
    for sitting in sittings:
        answers = [answer for answer in sitting.answers.all() if answer.value is not None]
        asked = sitting.part.min_answers or len(sitting.part.questions.all())
        for answer in answers:
            if answer.grade is None:
                return None
            grades.append(answer.grade)
        grades += [LOWEST_GRADE] * (asked - len(answers))
    return sum(grades) / len(grades)


def _lock_own(annotator: User, attempt: Attempt) -> Attempt:
    locked = (
        Attempt.objects.select_related("qualification")
        .select_for_update(of=("self",), no_key=True)
        .filter(pk=attempt.pk, annotator=annotator)
        .first()
    )
    if locked is None:
        raise NotFoundError("attempt", attempt.pk)
    return locked


def _lock_sitting(annotator: User, sitting: Sitting) -> Sitting:
    """Lock the attempt, which every write of it does first, and read the sitting anew."""
    attempt = _lock_own(annotator, sitting.attempt)
    locked = Sitting.objects.select_related("part").get(pk=sitting.pk)
    locked.attempt = attempt
    return locked
