"""Tests as a lead writes, publishes and requires them."""

import pytest
from django.test import Client
from django.urls import reverse

from annotation.models import (
    ContentWarning,
    Qualification,
    QualificationPart,
    QualificationQuestion,
    Requirement,
)
from annotation.services import PartFields
from tests.factories import PAIR, make_judgement, make_qualification, open_test_round

pytestmark = pytest.mark.django_db

PART = {"title": "I. Pairs", "rule": "share", "mark": "0.8"}
QUESTION = {
    "kind": "pair",
    "prompt": "How do I boil an egg?",
    "options": "In water.\n---\nI do not know.",
    "expected": "A",
}


def written(client: Client) -> Qualification:
    client.post(
        reverse("new-qualification"), {"name": "Language", "kind": "test", "max_attempts": "2"}
    )
    return Qualification.objects.get()


def test_a_test_is_written_part_by_part_and_published(lead_client: Client) -> None:
    made = written(lead_client)
    lead_client.post(reverse("new-part", args=[made.pk]), PART)
    part = QualificationPart.objects.get()
    lead_client.post(reverse("new-question", args=[part.pk]), QUESTION)
    question = QualificationQuestion.objects.get()
    assert (question.options, question.expected) == (["In water.", "I do not know."], 0)

    page = lead_client.get(reverse("question", args=[question.pk])).content.decode()
    assert "In water.\n---\nI do not know." in page
    lead_client.post(reverse("question", args=[question.pk]), QUESTION | {"expected": "B"})
    lead_client.post(reverse("part", args=[part.pk]), PART | {"mark": "0.9", "is_strict": "on"})
    address = reverse("act-on-qualification", args=[made.pk])
    page = lead_client.post(address, {"action": "publish"}, follow=True).content.decode()
    assert "Language is published." in page
    assert "more than 90% as our team answers" in page
    assert "Add a part" not in page
    question.refresh_from_db()
    assert question.expected == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expected": ""}, "Say what the team agreed on."),
        ({"expected": "C"}, "&#x27;C&#x27; is not what this kind of question takes."),
        ({"options": "Only one."}, "This kind takes 2 options, not 1."),
        ({"kind": "ranking", "expected": "1"}, "Give each of the 2 options a rank from 1 to 2."),
        ({"kind": "written"}, "is not what this kind of question takes."),
    ],
)
def test_a_mistake_in_a_question_is_named_and_all_words_stay(
    lead_client: Client, changes: dict[str, str], message: str
) -> None:
    made = written(lead_client)
    lead_client.post(reverse("new-part", args=[made.pk]), PART)
    address = reverse("new-question", args=[QualificationPart.objects.get().pk])
    response = lead_client.post(address, QUESTION | changes)
    assert response.status_code == 422
    assert message in response.content.decode()
    assert "How do I boil an egg?" in response.content.decode()
    assert not QualificationQuestion.objects.exists()


def test_what_cannot_be_published_says_why(lead_client: Client) -> None:
    made = written(lead_client)
    address = reverse("act-on-qualification", args=[made.pk])
    page = lead_client.post(address, {"action": "publish"}, follow=True).content.decode()
    assert "It has no parts yet." in page


def test_a_published_test_is_changed_through_a_copy(lead_client: Client) -> None:
    made = make_qualification(name="Language")
    question = QualificationQuestion.objects.get()
    response = lead_client.post(reverse("question", args=[question.pk]), QUESTION)
    assert "is published; copy it to change it" in response.content.decode()
    address = reverse("act-on-qualification", args=[made.pk])
    page = lead_client.post(address, {"action": "copy"}, follow=True).content.decode()
    assert "Language (2)" in page
    assert "Add a part" in page


def test_the_papers_tests_are_made_once(lead_client: Client) -> None:
    for _ in range(2):
        page = lead_client.post(reverse("make-presets"), follow=True).content.decode()
    assert "All of them are there already." in page
    assert list(Qualification.objects.order_by("pk").values_list("name", flat=True)) == [
        "Test 1: Language",
        "Test 2: Alignment",
        "Test 3: Quality",
        "Test 4: Writing",
        "Tutorial: First pairs",
    ]


def test_a_judged_pair_of_the_platform_becomes_a_question(lead_client: Client) -> None:
    judgement = make_judgement()
    made = written(lead_client)
    lead_client.post(reverse("new-part", args=[made.pk]), PART)
    part = QualificationPart.objects.get()
    lead_client.post(reverse("real-pair", args=[part.pk]), {"judgement": str(judgement.pk)})
    question = QualificationQuestion.objects.get()
    samples = {s.side: s.text for s in judgement.comparison.samples.all()}
    assert question.options == [samples["left"], samples["right"]]
    assert question.options[question.expected or 0] == judgement.chosen_sample.text
    assert "How do I boil an egg?" in question.prompt
    page = lead_client.post(
        reverse("real-pair", args=[part.pk]), {"judgement": "987654"}, follow=True
    ).content.decode()
    assert "There is no judgement 987654" in page


def test_questions_and_parts_are_taken_out_of_a_draft(lead_client: Client) -> None:
    made = written(lead_client)
    lead_client.post(reverse("new-part", args=[made.pk]), PART)
    part = QualificationPart.objects.get()
    lead_client.post(reverse("new-question", args=[part.pk]), QUESTION)
    lead_client.post(reverse("delete-question", args=[QualificationQuestion.objects.get().pk]))
    assert not QualificationQuestion.objects.exists()
    lead_client.post(reverse("delete-part", args=[part.pk]))
    assert not QualificationPart.objects.exists()


def test_an_axis_and_a_round_require_what_is_ticked(lead_client: Client) -> None:
    test, other = make_qualification(), make_qualification((PartFields("I"), [PAIR]))
    lead_client.post(reverse("require-for-axis", args=["safety"]), {"qualifications": [test.pk]})
    assert Requirement.objects.get().axis == "safety"
    assert lead_client.post(reverse("require-for-axis", args=["taste"])).status_code == 404

    round_ = open_test_round()
    fields = {"qualifications": [other.pk], "categories": ["violence"]}
    address = reverse("round-access", args=[round_.pk])
    assert lead_client.post(address, fields).headers["Location"] == reverse(
        "round", args=[round_.pk]
    )
    assert Requirement.objects.get(round=round_).qualification == other
    assert ContentWarning.objects.get(round=round_).category == "violence"
    page = lead_client.get(address).content.decode()
    assert page.count(" checked") == 2
    address = reverse("act-on-qualification", args=[other.pk])
    page = lead_client.post(address, {"action": "retire"}, follow=True).content.decode()
    assert "still requires it; lift that first." in page
