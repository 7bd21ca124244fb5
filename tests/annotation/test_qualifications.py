"""Tests and tutorials: written, taken by the server's clock, graded, and passed or not."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from annotation import services
from annotation.errors import (
    NoAttemptLeftError,
    NotAllowedError,
    NotFoundError,
    QualificationError,
    StateError,
)
from annotation.models import Answer, Attempt, Qualification, QualificationQuestion, Sitting
from annotation.presets import PAPER_TESTS
from annotation.questions import Value, agrees, checked_value
from annotation.services import PartFields, QualificationFields, QuestionFields
from tests.factories import (
    PAIR,
    grade_all,
    make_annotator,
    make_lead,
    make_qualification,
    make_reviewer,
    take_part,
)
from tests.races import run_at_once

pytestmark = pytest.mark.django_db

WRITTEN = QuestionFields("written", "Explain why the sky is blue.")


def question(kind: str, num_options: int, expected: Any, tolerance: int = 0) -> Any:
    options = [f"option {number}" for number in range(num_options)]
    return QualificationQuestion(
        kind=kind, position=3, options=options, expected=expected, tolerance=tolerance
    )


def let_time_run_out(sitting: Sitting) -> None:
    past = timezone.now() - timedelta(minutes=1)
    Sitting.objects.filter(pk=sitting.pk).update(started_at=past - timedelta(hours=1), due_at=past)


# Questions


@pytest.mark.parametrize(
    ("kind", "expected", "tolerance", "value", "is_agreed"),
    [
        ("choice", 1, 0, 1, True),
        ("choice", 1, 0, 0, False),
        ("pair", 0, 0, 0, True),
        ("ranking", [1, 2, 3], 0, [1, 2, 3], True),
        ("ranking", [1, 2, 3], 0, [1, 3, 2], False),
        # The team ranks the last two alike: either order agrees, a tie agrees too.
        ("ranking", [1, 2, 2], 0, [1, 3, 2], True),
        ("ranking", [1, 2, 2], 0, [1, 2, 2], True),
        # The team tells the first two apart, so a tie of them does not agree.
        ("ranking", [1, 2, 2], 0, [1, 1, 3], False),
        ("grading", [5, 1, 3], 1, [4, 2, 3], True),
        ("grading", [5, 1, 3], 1, [3, 1, 3], False),
        ("grading", [5, 1, 3], 0, [5, 1, 3], True),
        ("pair", 0, 0, None, False),
    ],
)
def test_an_answer_agrees_with_the_team_or_not(
    kind: str, expected: Any, tolerance: int, value: Value, is_agreed: bool
) -> None:
    num_options = 2 if kind == "pair" else 3
    assert agrees(question(kind, num_options, expected, tolerance), value) is is_agreed


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("choice", 3, "choose one of the 3 options"),
        ("choice", "1", "choose one of the 3 options"),
        ("ranking", [1, 2], "give each of the 3 options a rank from 1 to 3"),
        ("ranking", [1, 2, 4], "give each of the 3 options a rank from 1 to 3"),
        ("grading", [1, 2, 6], "give each of the 3 options a grade from 1 to 5"),
        ("written", 5, "asks for a text"),
        ("written", "x" * 20_001, "20001 characters are more than 20000"),
    ],
)
def test_what_is_no_answer_is_refused_by_name(kind: str, value: Value, message: str) -> None:
    with pytest.raises(QualificationError, match=message) as caught:
        checked_value(question(kind, 3, None), value)
    assert caught.value.field == "question 3"


# Writing one


def test_a_draft_is_edited_and_a_published_test_is_not() -> None:
    lead = make_lead()
    draft = services.create_qualification(lead=lead, fields=QualificationFields("Language"))
    part = services.save_part(lead=lead, qualification=draft, fields=PartFields("I"))
    services.save_part(lead=lead, qualification=draft, fields=PartFields("I. Grammar"), part=part)
    asked = services.save_question(lead=lead, part=part, fields=PAIR)
    services.save_question(lead=lead, part=part, fields=PAIR._replace(expected=1), question=asked)
    assert [(p.title, p.questions.get().expected) for p in draft.parts.all()] == [("I. Grammar", 1)]

    services.publish_qualification(lead=lead, qualification=draft)

    for change in (
        lambda: services.change_qualification(
            lead=lead, qualification=draft, fields=QualificationFields("Other")
        ),
        lambda: services.save_part(lead=lead, qualification=draft, fields=PartFields("II")),
        lambda: services.save_question(lead=lead, part=part, fields=PAIR),
        lambda: services.delete_question(lead=lead, question=asked),
        lambda: services.delete_part(lead=lead, part=part),
    ):
        with pytest.raises(QualificationError, match="is published; copy it to change it"):
            change()


def test_only_leads_write_tests() -> None:
    for person in (make_annotator(), make_reviewer()):
        with pytest.raises(NotAllowedError):
            services.create_qualification(lead=person, fields=QualificationFields("Language"))


@pytest.mark.parametrize(
    ("part", "questions", "message"),
    [
        (PartFields("I"), [], "'I' has no questions"),
        (PartFields("I"), [WRITTEN], "written questions, which only a mean grade can judge"),
        (PartFields("I", rule="mean_grade", mark=4), [WRITTEN, PAIR], "all of its questions are"),
        (PartFields("I", rule="count", mark=2), [PAIR], "more agreements than questions"),
        (PartFields("I", rule="count", mark=1, is_strict=True), [PAIR], "more agreements than"),
        (PartFields("I", mark=1.0, is_strict=True), [PAIR], "more than 1 is not reachable"),
        (PartFields("I", joins_previous=True), [PAIR], "has no part before"),
        (PartFields("I", min_answers=1), [PAIR], "fits only written questions"),
    ],
)
def test_what_nobody_could_pass_is_not_published(
    part: PartFields, questions: list[QuestionFields], message: str
) -> None:
    with pytest.raises(QualificationError, match=message):
        make_qualification((part, questions))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        (PartFields(""), "title"),
        (PartFields("I", rule="luck"), "rule"),
        (PartFields("I", mark=1.1), "mark"),
        (PartFields("I", rule="mean_grade", mark=0.5), "mark"),
        (PartFields("I", minutes=0), "minutes"),
        (PartFields("I", min_answers=0), "min_answers"),
    ],
)
def test_a_field_of_a_part_that_does_not_fit_is_named(fields: PartFields, field: str) -> None:
    lead = make_lead()
    draft = services.create_qualification(lead=lead, fields=QualificationFields("Language"))
    with pytest.raises(QualificationError) as caught:
        services.save_part(lead=lead, qualification=draft, fields=fields)
    assert caught.value.field == field


def test_a_name_is_used_once() -> None:
    make_qualification(name="Language")
    with pytest.raises(QualificationError, match="already a test 'Language'"):
        services.create_qualification(lead=make_lead(), fields=QualificationFields("Language"))


def test_the_four_tests_of_the_paper_can_be_published_as_they_stand() -> None:
    lead = make_lead()
    made = services.make_presets(lead=lead)
    assert services.make_presets(lead=lead) == [], "the names are taken: nothing is made twice"
    for qualification in made:
        services.publish_qualification(lead=lead, qualification=qualification)
    marks = [
        [(p.rule, round(p.mark, 3), p.is_strict, p.min_answers, p.minutes) for p in q.parts.all()]
        for q in made[: len(PAPER_TESTS)]
    ]
    # arXiv:2307.09288, A.5.4; 26 of 31 is 0.839.
    assert marks == [
        [
            ("share", 0.9, False, None, 20),
            ("mean_grade", 4.0, False, None, 15),
            ("mean_grade", 4.0, False, None, 15),
        ],
        [("share", 0.8, False, None, None), ("mean_grade", 4.0, False, None, None)],
        [("share", 0.839, True, None, None)],
        [("mean_grade", 4.0, True, 6, None)],
    ]


def test_a_copy_is_a_draft_with_the_same_parts_and_questions() -> None:
    first = make_qualification((PartFields("I", mark=0.5), [PAIR, PAIR]), name="Language")
    copy = services.copy_qualification(lead=make_lead(), qualification=first)
    assert (copy.name, copy.state) == ("Language (2)", "draft")
    part = copy.parts.get()
    assert (part.title, part.mark, part.questions.count()) == ("I", 0.5, 2)
    assert first.parts.get().questions.count() == 2


# Taking one


def test_a_share_of_agreements_is_enough_at_the_mark() -> None:
    part = (PartFields("I", mark=0.8), [PAIR] * 5)
    assert take_part(make_annotator(), make_qualification(part), 0, 0, 0, 0, 1).state == "passed"
    assert take_part(make_annotator(), make_qualification(part), 0, 0, 0, 1, 1).state == "failed"


def test_a_strict_mark_has_to_be_exceeded() -> None:
    part = (PartFields("I", rule="count", mark=2, is_strict=True), [PAIR] * 3)
    assert take_part(make_annotator(), make_qualification(part), 0, 0, 1).state == "failed"
    assert take_part(make_annotator(), make_qualification(part), 0, 0, 0).state == "passed"


def test_the_first_test_of_the_paper_stops_at_its_first_part_or_goes_to_a_grader() -> None:
    test = make_qualification(
        (PartFields("I", mark=0.9), [PAIR] * 10),
        (PartFields("II", rule="mean_grade", mark=4), [WRITTEN]),
        (PartFields("III", rule="mean_grade", mark=4, joins_previous=True), [WRITTEN, WRITTEN]),
    )
    weak = make_annotator()
    assert take_part(weak, test, *[0] * 8, 1, 1).state == "failed"

    for grades, state in (((3, 5, 4), "passed"), ((3, 4, 4), "failed")):  # means 4 and 3.67
        person = make_annotator()
        assert take_part(person, test, *[0] * 9, 1).state == "in_progress"
        assert take_part(person, test, "A text.").state == "in_progress"
        attempt = take_part(person, test, "One.", "Two.")
        assert attempt.state == "grading"
        assert grade_all(attempt, *grades).state == state


def test_at_least_six_of_eight_written_answers_are_asked_for() -> None:
    fields = PartFields("Write", rule="mean_grade", mark=4, is_strict=True, min_answers=6)
    test = make_qualification((fields, [WRITTEN] * 8))
    person = make_annotator()
    with pytest.raises(QualificationError, match="answer at least 6 questions; 5 are answered"):
        take_part(person, test, *["text"] * 5)
    attempt = take_part(person, test, *["text"] * 6)
    assert grade_all(attempt, 5, 4, 4, 4, 4, 4).state == "passed"  # 25/6 is above 4

    even = take_part(make_annotator(), test, *["text"] * 6)
    assert grade_all(even, 4, 4, 4, 4, 4, 4).state == "failed"  # 4 is not above 4


def test_a_missing_answer_is_named_and_nothing_is_handed_in() -> None:
    person, test = make_annotator(), make_qualification((PartFields("I"), [PAIR, PAIR]))
    with pytest.raises(QualificationError, match="question 2 has no answer yet"):
        take_part(person, test, 0)
    assert Attempt.objects.get().state == "in_progress"
    assert Sitting.objects.get().submitted_at is None
    assert Answer.objects.get().value == 0, "what was answered is kept"


def test_what_is_sent_as_the_time_runs_out_counts_though_answers_are_missing() -> None:
    person = make_annotator()
    test = make_qualification((PartFields("I", minutes=5, mark=0.5), [PAIR, PAIR]))
    attempt = take_part(person, test, submits=False)
    just_now = timezone.now() - timedelta(seconds=2)
    Sitting.objects.update(started_at=just_now - timedelta(minutes=5), due_at=just_now)
    assert take_part(person, test, 0).state == "passed"
    assert attempt.sittings.get().answers.get().late_value is None


def test_what_was_kept_in_time_counts_and_what_comes_late_is_kept_beside() -> None:
    person = make_annotator()
    test = make_qualification(
        (PartFields("Write", minutes=10, rule="mean_grade", mark=3), [WRITTEN, WRITTEN])
    )
    attempt = take_part(person, test, "In time.", submits=False)
    sitting = attempt.sittings.get()
    assert sitting.due_at == sitting.started_at + timedelta(minutes=10)
    let_time_run_out(sitting)

    attempt = take_part(person, test, "In time, and more.", "Late.")

    values = sitting.answers.order_by("question__position").values_list("value", "late_value")
    assert list(values) == [("In time.", "In time, and more."), (None, "Late.")]
    # The second answer was asked for and not given in time: it counts as the lowest grade.
    assert grade_all(attempt, 5).state == "passed"  # (5 + 1) / 2 is 3


def test_a_part_handed_in_without_a_word_after_its_time_fails_without_a_grader() -> None:
    person = make_annotator()
    test = make_qualification(
        (PartFields("Write", minutes=10, rule="mean_grade", mark=3), [WRITTEN])
    )
    attempt = take_part(person, test, submits=False)
    let_time_run_out(attempt.sittings.get())
    assert take_part(person, test).state == "failed"


def test_handing_in_twice_changes_nothing() -> None:
    person, test = make_annotator(), make_qualification()
    attempt = take_part(person, test, 0)
    sitting, asked = attempt.sittings.get(), QualificationQuestion.objects.get()
    again = services.submit_sitting(annotator=person, sitting=sitting, values={asked.pk: 1})
    assert (again.state, Answer.objects.get().value) == ("passed", 0)
    with pytest.raises(StateError, match="this part is submitted"):
        services.save_answers(annotator=person, sitting=sitting, values={asked.pk: 1})


def test_nobody_answers_for_another() -> None:
    attempt = take_part(make_annotator(), make_qualification(), 0, submits=False)
    stranger, sitting = make_annotator(), attempt.sittings.get()
    for act in (
        lambda: services.start_sitting(annotator=stranger, attempt=attempt),
        lambda: services.save_answers(annotator=stranger, sitting=sitting, values={}),
        lambda: services.submit_sitting(annotator=stranger, sitting=sitting, values={}),
    ):
        with pytest.raises(NotFoundError):
            act()


def test_an_answer_to_a_question_of_another_part_is_refused() -> None:
    person, test = make_annotator(), make_qualification()
    other = make_qualification().parts.get().questions.get()
    attempt = take_part(person, test, 0, submits=False)
    with pytest.raises(NotFoundError):
        services.save_answers(
            annotator=person, sitting=attempt.sittings.get(), values={other.pk: 0}
        )


def test_attempts_end_with_the_last_failure() -> None:
    person, test = make_annotator(), make_qualification(max_attempts=2)
    assert [take_part(person, test, 1).number for _ in range(2)] == [1, 2]
    with pytest.raises(NoAttemptLeftError, match="all 2 attempts at 'test-"):
        services.start_attempt(annotator=person, qualification=test)


def test_a_pass_expires_and_may_be_renewed_whatever_was_failed_before() -> None:
    person, test = make_annotator(), make_qualification(max_attempts=2, valid_days=30)
    take_part(person, test, 1)
    passed = take_part(person, test, 0)
    assert passed.ended_at is not None
    assert passed.expires_at == passed.ended_at + timedelta(days=30)
    assert services.start_attempt(annotator=person, qualification=test) == passed

    Attempt.objects.filter(pk=passed.pk).update(expires_at=timezone.now())
    renewed = services.start_attempt(annotator=person, qualification=test)
    assert (renewed.number, renewed.state) == (3, "in_progress")


def test_a_draft_or_a_retired_test_cannot_be_begun() -> None:
    lead, person = make_lead(), make_annotator()
    draft = services.create_qualification(lead=lead, fields=QualificationFields("Language"))
    with pytest.raises(QualificationError, match="Language is draft"):
        services.start_attempt(annotator=person, qualification=draft)
    retired = services.retire_qualification(lead=lead, qualification=make_qualification())
    with pytest.raises(QualificationError, match="is retired"):
        services.start_attempt(annotator=person, qualification=retired)


def test_a_tutorial_answers_at_once_and_its_first_answer_stands() -> None:
    person = make_annotator()
    tutorial = make_qualification((PartFields("Pairs", mark=0.0), [PAIR, PAIR]), kind="tutorial")
    attempt = services.start_attempt(annotator=person, qualification=tutorial)
    sitting = services.start_sitting(annotator=person, attempt=attempt)
    first, second = sitting.part.questions.order_by("position")
    for value in (1, 0):
        kept = services.save_answers(annotator=person, sitting=sitting, values={first.pk: value})
        assert (kept[first.pk].value, kept[first.pk].agrees) == (1, False)
    attempt = services.submit_sitting(annotator=person, sitting=sitting, values={second.pk: 0})
    assert attempt.state == "passed"


# Grading


def test_every_answer_needs_a_grade_and_the_first_grades_stand() -> None:
    test = make_qualification((PartFields("Write", rule="mean_grade", mark=4), [WRITTEN] * 2))
    attempt = take_part(make_annotator(), test, "One.", "Two.")
    sitting = attempt.sittings.get()
    one, two = sitting.answers.order_by("question__position")
    reviewer = make_reviewer()
    for grades, message in (
        ({one.pk: 5}, "grade answer 2 from 1 to 5"),
        ({one.pk: 6, two.pk: 5}, "grade answer 1 from 1 to 5"),
    ):
        with pytest.raises(QualificationError, match=message):
            services.grade_sitting(reviewer=reviewer, sitting=sitting, grades=grades, notes={})
    assert not Answer.objects.filter(grade__isnull=False).exists()

    graded = services.grade_sitting(
        reviewer=reviewer, sitting=sitting, grades={one.pk: 5, two.pk: 4}, notes={two.pk: "Dry."}
    )
    assert graded.state == "passed"
    two.refresh_from_db()
    assert (two.grade, two.grader, two.note) == (4, reviewer, "Dry.")
    with pytest.raises(StateError):
        services.grade_sitting(
            reviewer=make_reviewer(), sitting=sitting, grades={one.pk: 1, two.pk: 1}, notes={}
        )


def test_annotators_do_not_grade() -> None:
    test = make_qualification((PartFields("Write", rule="mean_grade", mark=4), [WRITTEN]))
    attempt = take_part(make_annotator(), test, "One.")
    with pytest.raises(NotAllowedError):
        services.grade_sitting(
            reviewer=attempt.annotator, sitting=attempt.sittings.get(), grades={}, notes={}
        )


# Races and constraints


@pytest.mark.django_db(transaction=True)
def test_two_tabs_begin_one_attempt_and_one_part() -> None:
    person, test = make_annotator(), make_qualification()

    def begin() -> tuple[int, int]:
        attempt = services.start_attempt(annotator=person, qualification=test)
        return attempt.pk, services.start_sitting(annotator=person, attempt=attempt).pk

    results = run_at_once([begin] * 4)
    assert len(set(map(str, results))) == 1, results
    assert (Attempt.objects.count(), Sitting.objects.count()) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_two_tabs_hand_in_one_result() -> None:
    person, test = make_annotator(), make_qualification()
    attempt = take_part(person, test, submits=False)
    sitting, asked = attempt.sittings.get(), QualificationQuestion.objects.get()

    def submit(value: int) -> str:
        values = {asked.pk: value}
        return services.submit_sitting(annotator=person, sitting=sitting, values=values).state

    results = run_at_once([lambda v=v: submit(v) for v in (0, 1, 0, 1)])
    assert len(set(map(str, results))) == 1, results
    answer = Answer.objects.get()
    assert Attempt.objects.get().state == results[0] == ("passed" if answer.agrees else "failed")


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"number": 3}, "attempt_within_allowed"),
        ({"state": "passed"}, "attempt_ended_has_time"),
        ({"expires_at": timezone.now()}, "attempt_only_passes_expire"),
    ],
)
def test_the_database_refuses(values: dict[str, Any], constraint: str) -> None:
    attempt = take_part(make_annotator(), make_qualification(), submits=False)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Attempt.objects.filter(pk=attempt.pk).update(**values)


def test_the_database_knows_one_live_attempt_and_grades_of_one_to_five() -> None:
    person, test = make_annotator(), make_qualification()
    attempt = take_part(person, test, 0, submits=False)
    with pytest.raises(IntegrityError, match="attempt_one_at_a_time"), transaction.atomic():
        Attempt.objects.create(qualification=test, annotator=person, number=2, max_attempts=2)
    with pytest.raises(IntegrityError, match="grade_is_one_to_five"), transaction.atomic():
        attempt.sittings.get().answers.update(grade=6, grader=person)
    with pytest.raises(IntegrityError, match="qualification_published"), transaction.atomic():
        Qualification.objects.update(published_at=None)
