"""The pages of blind checks: nothing tells the answers apart, and nobody sees the score early."""

import pytest
from django.test import Client
from django.urls import reverse

from annotation import services
from annotation.models import BlindCheck, BlindPair, BlindVerdict
from tests.annotation.test_blind_checks import answer, approve, judge_pair, open_check, ready_check
from tests.factories import make_policy_version

pytestmark = pytest.mark.django_db
KEY = "5f0c0f0e-6a0e-4d0c-9d7a-0e5b1f1f9a01"


def page_of(client: Client, name: str, pk: int) -> str:
    return client.get(reverse(name, args=[pk])).content.decode()


def test_a_lead_opens_a_check_and_is_told_what_is_wrong(lead_client: Client) -> None:
    approve(2)
    policy = make_policy_version("SFT")
    assert (
        "2 demonstrations are approved"
        in lead_client.get(reverse("new-blind-check")).content.decode()
    )
    fields = {
        "name": "SFT against people",
        "policy": policy.pk,
        "num_pairs": "3",
        "temperature": "1.0",
        "top_p": "1.0",
        "max_new_tokens": "64",
    }
    refused = lead_client.post(reverse("new-blind-check"), fields)
    assert refused.status_code == 422
    assert "3 are more than the 2 approved" in refused.content.decode()
    lead_client.post(reverse("new-blind-check"), {**fields, "num_pairs": "2"})
    check = BlindCheck.objects.get()
    page = page_of(lead_client, "blind-check", check.pk)
    assert "0 of 2" in page.replace("<strong>", "").replace("</strong>", "")
    assert "No sampling worker is running" in page
    assert "SFT against people" in lead_client.get(reverse("blind-checks")).content.decode()


def test_a_reviewer_compares_pair_after_pair_without_a_label(reviewer_client: Client) -> None:
    approve(2)
    check = ready_check(2)
    first, second = check.pairs.order_by("pk")
    page = page_of(reviewer_client, "blind-pair", first.pk)
    assert "Model." in page
    assert "Human " in page
    assert check.policy.name not in page
    for word in ("model_side", "human</", "data-model"):
        assert word not in page
    address = reverse("blind-pair", args=[first.pk])
    refused = reviewer_client.post(address, {"client_key": KEY})
    assert refused.status_code == 422
    assert "Choose A, B or no difference." in refused.content.decode()
    response = reviewer_client.post(address, {"client_key": KEY, "choice": first.model_side})
    assert response.headers["Location"] == reverse("blind-pair", args=[second.pk])
    assert BlindVerdict.objects.get().outcome == "model"
    last = reviewer_client.post(
        reverse("blind-pair", args=[second.pk]),
        {"client_key": KEY.replace("01", "02"), "choice": "neither"},
    )
    assert last.headers["Location"] == reverse("blind-check", args=[check.pk])


def test_the_result_is_for_leads_and_for_reviewers_once_all_is_judged(
    reviewer_client: Client, lead_client: Client
) -> None:
    approve(2)
    check = ready_check(2)
    first, second = check.pairs.order_by("pk")
    judge_pair(first, "model")
    assert "The policy wins" in page_of(lead_client, "blind-check", check.pk)
    page = page_of(reviewer_client, "blind-check", check.pk)
    assert "The policy wins" not in page
    assert "should not know how it stands" in page
    assert check.policy.name not in page
    judge_pair(second, "no_difference")
    assert "The policy wins" in page_of(reviewer_client, "blind-check", check.pk)


def test_a_pair_that_is_judged_leads_on(reviewer_client: Client) -> None:
    approve(1)
    check = ready_check(1)
    pair = check.pairs.get()
    judge_pair(pair, "human")
    response = reviewer_client.get(reverse("blind-pair", args=[pair.pk]))
    assert response.headers["Location"] == reverse("blind-check", args=[check.pk])


def test_pairs_without_a_response_say_why(lead_client: Client) -> None:
    approve(1)
    check = open_check(1)
    for _ in range(3):
        (job,) = services.claim_blind_pairs(limit=9, worker="w")
        answer(job, "")
    assert BlindPair.objects.get().state == "failed"
    assert "The policy had nothing to say" in page_of(lead_client, "blind-check", check.pk)
