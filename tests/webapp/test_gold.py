"""A lead makes pairs gold, sees how they were answered, and retires them."""

import pytest
from django.test import Client
from django.urls import reverse

from annotation.models import GoldComparison
from annotation.scale import Side
from annotation.services import Overlap, claim_slot, declare_gold
from records.preferences import Axis
from tests.factories import judge_slot, make_annotator, make_judgement, make_lead, open_test_round

pytestmark = pytest.mark.django_db


def test_without_gold_the_page_says_where_to_begin(lead_client: Client) -> None:
    page = lead_client.get(reverse("gold", args=[open_test_round().pk])).content.decode()
    assert "No gold yet" in page
    assert "without a share of gold" in page


def test_a_judged_pair_is_made_gold_answered_and_retired(lead_client: Client) -> None:
    round_ = open_test_round(overlap=Overlap(gold_share=1.0), max_turns=1)
    comparison = make_judgement(round_=round_).comparison
    review = reverse("review-comparison", args=[comparison.pk])
    assert "Make it gold" in lead_client.get(review).content.decode()

    address = reverse("declare-gold", args=[comparison.pk])
    fields = {"gold-expected": "right", "gold-note": "B names the source."}
    response = lead_client.post(address, fields)
    assert response.headers["Location"] == reverse("gold", args=[round_.pk])
    gold = GoldComparison.objects.get(comparison=comparison)
    assert (gold.expected_side, gold.note) == ("right", "B names the source.")
    page = lead_client.get(review).content.decode()
    assert "B names the source." in page
    assert "Make it gold" not in page

    for side in (Side.LEFT, Side.RIGHT):
        slot = claim_slot(annotator=make_annotator(), round_=round_)
        assert slot is not None
        judge_slot(slot, side=side)
    (row,) = lead_client.get(reverse("gold", args=[round_.pk])).context["rows"]
    assert (row.num_judged, row.num_right, row.letter) == (2, 1, "B")

    retire = reverse("retire-gold", args=[gold.pk])
    lead_client.post(retire)
    assert claim_slot(annotator=make_annotator(), round_=round_) is None
    assert "Serve again" in lead_client.get(reverse("gold", args=[round_.pk])).content.decode()
    lead_client.post(retire)
    assert claim_slot(annotator=make_annotator(), round_=round_) is not None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "Say which response everybody should choose."),
        ({"gold-expected": "left"}, "Say which of the two responses is safe."),
        ({"gold-expected": "left", "gold-safe": "right"}, "safe"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_with_a_word(
    lead_client: Client, fields: dict[str, str], message: str
) -> None:
    comparison = make_judgement(round_=open_test_round(axis=Axis.SAFETY)).comparison
    fields = {**fields, "gold-note": "because of the source"}
    response = lead_client.post(reverse("declare-gold", args=[comparison.pk]), fields)
    assert response.status_code == 422
    assert message in response.content.decode()
    assert "because of the source" in response.content.decode(), "what was typed stays"
    assert not GoldComparison.objects.exists()


def test_another_answer_than_the_first_is_refused(lead_client: Client) -> None:
    comparison = make_judgement().comparison
    declare_gold(comparison=comparison, expected_side=Side.LEFT, declared_by=make_lead())
    address = reverse("declare-gold", args=[comparison.pk])
    page = lead_client.post(address, {"gold-expected": "right"}).content.decode()
    assert "another answer already" in page


def test_a_reviewer_sees_that_a_pair_is_gold_and_cannot_make_it_so(reviewer_client: Client) -> None:
    comparison = make_judgement().comparison
    review = reverse("review-comparison", args=[comparison.pk])
    assert "Make it gold" not in reviewer_client.get(review).content.decode()
    declare_gold(comparison=comparison, expected_side=Side.LEFT, declared_by=make_lead())
    assert "A is expected" in reviewer_client.get(review).content.decode()
