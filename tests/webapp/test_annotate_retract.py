"""The annotator's page: take the last judgement back, and let it stand after all."""

import uuid

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotation.models import Comparison, Judgement, Retraction, User
from annotation.scale import Side
from records.preferences import Axis, Rating, SafetyBin
from tests.factories import (
    judge,
    make_annotator,
    make_judgement,
    make_ready_comparison,
    open_test_round,
    write_test_prompt,
)
from tests.webapp.conftest import signed_in
from tests.webapp.test_annotate import page_of
from webapp.selectors.people import people_rows
from webapp.selectors.timesheet import timesheet_csv

pytestmark = pytest.mark.django_db
OFFER = "Take the last judgement back"


def press(client: Client, name: str, comparison: Comparison, key: str = "") -> str:
    """Press "take back" or "let it stand" and return the page that follows."""
    address = reverse(name, args=[comparison.pk])
    response = client.post(address, {"client_key": key or str(uuid.uuid4())}, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def test_the_pair_comes_back_with_the_same_answers_ticked(
    annotator_client: Client, annotator: User
) -> None:
    comparison = make_ready_comparison(annotator, round_=open_test_round(axis=Axis.SAFETY))
    judgement = judge(
        comparison,
        side=Side.RIGHT,
        rating=Rating.SLIGHTLY_BETTER,
        safety_bin=SafetyBin.CHOSEN_SAFE,
    )
    assert OFFER in page_of(annotator_client, comparison.dialogue)
    page = press(annotator_client, "retract", comparison)
    assert "Judge this pair again, or let it stand" in page
    assert page.count(" checked") == 2
    chosen = f'value="{judgement.chosen_sample_id}:slightly_better"'
    assert " checked" in page.partition(chosen)[2].partition("</label>")[0]
    assert " checked" in page.partition('name="safe" value="right"')[2].partition("</label>")[0]


@pytest.mark.parametrize(
    ("safety_bin", "ticked"),
    [
        (SafetyBin.CHOSEN_SAFE, "left"),
        (SafetyBin.BOTH_SAFE, "both"),
        (SafetyBin.BOTH_UNSAFE, "neither"),
    ],
)
def test_the_bin_comes_back_in_the_words_of_the_form(
    annotator_client: Client, annotator: User, safety_bin: SafetyBin, ticked: str
) -> None:
    comparison = make_ready_comparison(annotator, round_=open_test_round(axis=Axis.SAFETY))
    judge(comparison, safety_bin=safety_bin)
    page = press(annotator_client, "retract", comparison)
    after = page.partition(f'name="safe" value="{ticked}"')[2]
    assert " checked" in after.partition("</label>")[0]


def test_pressed_twice_it_is_one_record(annotator_client: Client, annotator: User) -> None:
    comparison = make_judgement(annotator).comparison
    key = str(uuid.uuid4())
    press(annotator_client, "retract", comparison, key)
    page = press(annotator_client, "retract", comparison, key)
    assert "Nothing is said of this pair" in page
    assert Retraction.objects.count() == 1


def test_it_stands_again_by_the_same_button(annotator_client: Client, annotator: User) -> None:
    judgement = make_judgement(annotator)
    page = press(annotator_client, "retract", judgement.comparison)
    assert "Let it stand" in page
    page = press(annotator_client, "restore", judgement.comparison)
    assert "It stands as you had said it." in page
    assert "Your next message" in page
    assert Judgement.objects.get() == judgement


def test_a_dialogue_that_has_gone_on_offers_nothing_and_says_why(
    annotator_client: Client, annotator: User
) -> None:
    judgement = make_judgement(annotator)
    comparison = judgement.comparison
    write_test_prompt(annotator, comparison.dialogue, "And soft?")
    assert OFFER not in page_of(annotator_client, comparison.dialogue)
    assert "The dialogue has gone on since" in press(annotator_client, "retract", comparison)
    assert Judgement.objects.get() == judgement


def test_what_was_never_taken_back_is_not_let_stand(
    annotator_client: Client, annotator: User
) -> None:
    comparison = make_ready_comparison(annotator)
    assert "Let it stand" not in page_of(annotator_client, comparison.dialogue)
    assert "Compare two responses" in press(annotator_client, "restore", comparison)


def test_what_another_annotator_said_is_not_there(annotator_client: Client) -> None:
    comparison = make_judgement().comparison
    for name in ("retract", "restore"):
        assert annotator_client.post(reverse(name, args=[comparison.pk])).status_code == 404
    assert signed_in(make_annotator()).get(reverse("annotate")).status_code == 200
    assert Judgement.objects.exists()


def test_time_worked_stays_in_the_time_report_and_the_judgement_is_not_counted(
    annotator_client: Client, annotator: User
) -> None:
    comparison = make_judgement(annotator).comparison
    press(annotator_client, "retract", comparison)
    (line,) = [
        line
        for line in timesheet_csv(timezone.now().date().replace(day=1))
        if annotator.pseudonym in line
    ]
    assert line.strip().endswith(",0,12,0")
    (row,) = [row for row in people_rows(shows_simulated=False) if row.user == annotator]
    assert row.num_judged == 0
