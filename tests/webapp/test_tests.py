"""Tests as annotators take them, and as reviewers grade them."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from annotation.models import Answer, Attempt, Qualification, Sitting, User
from annotation.services import PartFields, QuestionFields
from tests.factories import (
    PAIR,
    make_annotator,
    make_qualification,
    take_part,
)
from tests.webapp.conftest import signed_in

pytestmark = pytest.mark.django_db

CHOICE = QuestionFields("choice", "Which is right?", ("This one.", "That one."), 0)
RANKING = QuestionFields("ranking", "Rank them.", ("Good.", "Bad.", "Worse."), [1, 2, 3])
GRADING = QuestionFields("grading", "Grade them.", ("Good.", "Bad."), [5, 1], tolerance=1)
WRITTEN = QuestionFields("written", "Explain why the sky is blue.")


def begin(client: Client, test: Qualification) -> str:
    """Begin the next part and return the address of its page."""
    return client.post(reverse("test", args=[test.pk])).headers["Location"]


def names(test: Qualification) -> list[str]:
    parts = test.parts.order_by("position")
    return [f"q{q.pk}" for part in parts for q in part.questions.order_by("position")]


def test_without_a_test_the_list_says_that_nothing_is_asked(annotator_client: Client) -> None:
    assert "There are no tests" in annotator_client.get(reverse("tests")).content.decode()


def test_a_test_of_all_machine_graded_kinds_is_taken_and_passed(
    annotator_client: Client, annotator: User
) -> None:
    test = make_qualification((PartFields("Judge"), [CHOICE, RANKING, GRADING, PAIR]))
    assert "Begin" in annotator_client.get(reverse("test", args=[test.pk])).content.decode()
    address = begin(annotator_client, test)
    page = annotator_client.get(address).content.decode()
    assert page.count("<fieldset") == 4
    choice, ranking, grading, pair = names(test)
    fields = {choice: "0", pair: "0"}
    fields |= {f"{ranking}-{i}": str(i + 1) for i in range(3)}
    fields |= {f"{grading}-0": "4", f"{grading}-1": "2"}
    response = annotator_client.post(address, fields, follow=True)
    assert "You have passed." in response.content.decode()
    assert Attempt.objects.get(annotator=annotator).state == "passed"
    assert "passed" in annotator_client.get(reverse("tests")).content.decode()


def test_a_missing_answer_is_named_and_all_others_stand_in_the_form(
    annotator_client: Client,
) -> None:
    test = make_qualification((PartFields("Judge"), [RANKING, CHOICE]))
    address = begin(annotator_client, test)
    ranking, _ = names(test)
    fields = {f"{ranking}-0": "1", f"{ranking}-1": "2"}
    response = annotator_client.post(address, fields)
    page = response.content.decode()
    assert response.status_code == 422
    assert "Give each of the 3 options a rank from 1 to 3." in page
    assert page.count(" selected>") == 2

    response = annotator_client.post(address, {**fields, f"{ranking}-2": "3"})
    assert "Question 2 has no answer yet." in response.content.decode()
    assert Sitting.objects.get().submitted_at is None


def test_written_words_are_kept_as_they_are_typed_and_stand_there_again(
    annotator_client: Client,
) -> None:
    test = make_qualification((PartFields("I", rule="mean_grade", mark=4), [WRITTEN]))
    address = begin(annotator_client, test)
    (name,) = names(test)
    saved = annotator_client.post(f"{address}draft/", {name: "Light is", "sitting": "1"})
    assert saved.status_code == 200
    assert "saved_at" in saved.json()
    assert "Light is</textarea>" in annotator_client.get(address).content.decode()
    assert begin(annotator_client, test) == address, "a second tab goes on where the first was"


def test_a_draft_that_is_half_ranked_keeps_what_is_whole(annotator_client: Client) -> None:
    test = make_qualification((PartFields("Judge"), [RANKING, CHOICE]))
    address = begin(annotator_client, test)
    ranking, choice = names(test)
    fields = {f"{ranking}-0": "1", choice: "1"}
    assert annotator_client.post(f"{address}draft/", fields).status_code == 200
    assert list(Answer.objects.values_list("value", flat=True)) == [1]


def test_after_the_time_the_page_says_so_and_what_was_kept_is_handed_in(
    annotator_client: Client,
) -> None:
    test = make_qualification((PartFields("I", minutes=5, rule="mean_grade", mark=4), [WRITTEN]))
    address = begin(annotator_client, test)
    (name,) = names(test)
    page = annotator_client.get(address).content.decode()
    assert "Hand in by" in page
    assert 'data-seconds-left="300"' in page
    annotator_client.post(f"{address}draft/", {name: "In time."})
    past = timezone.now() - timedelta(minutes=1)
    Sitting.objects.update(started_at=past - timedelta(minutes=5), due_at=past)
    page = annotator_client.get(address).content.decode()
    assert "The time is up." in page
    assert "In time." in page
    annotator_client.post(f"{address}draft/", {name: "In time. And late."})
    annotator_client.post(address)
    answer = Answer.objects.get()
    assert (answer.value, answer.late_value) == ("In time.", "In time. And late.")
    assert Attempt.objects.get().state == "grading"
    assert (
        "It is being graded."
        in annotator_client.get(reverse("test", args=[test.pk])).content.decode()
    )


def test_handing_in_twice_leads_to_the_same_result(annotator_client: Client) -> None:
    test = make_qualification()
    address = begin(annotator_client, test)
    (name,) = names(test)
    for value in ("0", "1"):
        response = annotator_client.post(address, {name: value})
        assert response.headers["Location"] == reverse("test", args=[test.pk])
    assert Attempt.objects.get().state == "passed"
    assert annotator_client.get(address).headers["Location"] == reverse("test", args=[test.pk])


def test_when_no_attempt_is_left_the_page_offers_none(
    annotator_client: Client, annotator: User
) -> None:
    test = make_qualification(max_attempts=1)
    take_part(annotator, test, 1)
    page = annotator_client.get(reverse("test", args=[test.pk])).content.decode()
    assert "No attempt is left." in page
    assert "Try again" not in page
    response = annotator_client.post(reverse("test", args=[test.pk]), follow=True)
    assert "All 1 attempts at" in response.content.decode()


def test_a_tutorial_explains_each_pair_before_the_next(annotator_client: Client) -> None:
    second = PAIR._replace(prompt="How do I make tea?", explanation="Water first.")
    tutorial = make_qualification(
        (PartFields("Pairs", mark=0.0), [PAIR, second]), kind="tutorial", name="First pairs"
    )
    address = begin(annotator_client, tutorial)
    page = annotator_client.get(address).content.decode()
    assert "How do I boil an egg?" in page
    assert "How do I make tea?" not in page
    assert "The first one helps." not in page, "the explanation comes after the answer"

    assert "Choose an answer first." in annotator_client.post(address, {}).content.decode()
    one, two = names(tutorial)
    page = annotator_client.post(address, {one: "1"}, follow=True).content.decode()
    assert "Our team sees it otherwise" in page
    assert "The first one helps." in page
    assert "How do I make tea?" in page
    page = annotator_client.post(address, {two: "0"}, follow=True).content.decode()
    assert "As our team sees it." in page
    page = annotator_client.post(address, {"finish": "1"}, follow=True).content.decode()
    assert "You have gone through it." in page


def test_somebody_elses_part_is_not_there(annotator_client: Client) -> None:
    attempt = take_part(make_annotator(), make_qualification(), submits=False)
    for name in ("sitting", "sitting-draft"):
        address = reverse(name, args=[attempt.sittings.get().pk])
        assert annotator_client.post(address, {}).status_code == 404


def test_a_written_answer_is_graded_by_a_reviewer_who_sees_no_name(
    annotator_client: Client, annotator: User, reviewer_client: Client
) -> None:
    test = make_qualification((PartFields("I", rule="mean_grade", mark=4), [WRITTEN, WRITTEN]))
    attempt = take_part(annotator, test, "Light is <b>scattered</b>.", "Ask a physicist.")
    page = reviewer_client.get(reverse("gradings")).content.decode()
    assert annotator.pseudonym in page
    assert annotator.username not in page
    address = reverse("grading", args=[attempt.sittings.get().pk])
    page = reviewer_client.get(address).content.decode()
    assert "Light is &lt;b&gt;scattered&lt;/b&gt;." in page
    one, two = Answer.objects.order_by("pk")
    fields = {f"grade-{one.pk}": "5", f"note-{one.pk}": "Short and right."}
    response = reviewer_client.post(address, fields)
    assert response.status_code == 422
    assert "Grade this answer." in response.content.decode()
    assert "Short and right." in response.content.decode()
    response = reviewer_client.post(address, {**fields, f"grade-{two.pk}": "3"}, follow=True)
    assert "Nothing waits for a grade" in response.content.decode()
    assert reviewer_client.get(address).status_code == 404
    page = annotator_client.get(reverse("test", args=[test.pk])).content.decode()
    assert "You have passed." in page
    assert "Short and right." in page


def test_the_page_of_a_part_costs_the_same_for_many_questions(
    annotator_client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    test = make_qualification((PartFields("Judge"), [PAIR] * 20))
    address = begin(annotator_client, test)
    # Session, user, the part with its attempt, answers, questions.
    with django_assert_max_num_queries(5):
        annotator_client.get(address)


def test_words_typed_into_a_test_outlive_the_session(annotator: User) -> None:
    client = signed_in(annotator)
    test = make_qualification((PartFields("I", rule="mean_grade", mark=4), [WRITTEN]))
    address = begin(client, test)
    (name,) = names(test)
    client.logout()
    response = client.post(address, {name: "My careful words"}, headers={"referer": address})
    assert response.status_code == 401
    assert "My careful words" in response.content.decode()


def test_a_failed_attempt_may_be_tried_again_and_says_how_often(
    annotator_client: Client, annotator: User
) -> None:
    test = make_qualification((PartFields("I"), [PAIR]), max_attempts=2)
    take_part(annotator, test, 1)
    page = annotator_client.get(reverse("test", args=[test.pk])).content.decode()
    assert "1 attempt left" in page
    assert "0 of 1 as our team answers" in page
    begin(annotator_client, test)
    assert Attempt.objects.filter(annotator=annotator).count() == 2
