"""Review: the queue by filter, one comparison with all decisions on it, taking them back."""

import pytest
from django.test import Client
from django.urls import reverse

from annotation import services
from annotation.models import Correction, Exclusion, Judgement, ReviewDecision, ReviewItem
from annotation.scale import Side
from records.preferences import Axis
from tests.annotation.test_slots import open_overlap_round
from tests.factories import (
    judge,
    judge_slot,
    make_annotator,
    make_judgement,
    make_ready_comparison,
    open_test_round,
)

pytestmark = pytest.mark.django_db
KEY = "5f0c0f0e-6a0e-4d0c-9d7a-0e5b1f1f9a01"


@pytest.fixture
def flagged() -> Judgement:
    comparison = make_ready_comparison(make_annotator("bo"), text="Who is the mayor?")
    services.flag_comparison(
        annotator=comparison.dialogue.annotator, comparison=comparison, note="names a person"
    )
    return judge(comparison, side=Side.RIGHT)


def address_of(judgement: Judgement) -> str:
    return reverse("review-comparison", args=[judgement.comparison_id])


def page_at(client: Client, query: str = "") -> str:
    return client.get(reverse("review") + query).content.decode()


def decide(client: Client, row: Judgement, kind: str, **fields: str) -> str:
    values = {"kind": kind, "client_key": KEY, **fields}
    return client.post(address_of(row), values, follow=True).content.decode()


def test_the_queue_shows_what_waits_and_why(reviewer_client: Client, flagged: Judgement) -> None:
    make_judgement()
    page = page_at(reviewer_client)
    assert page.count(address_of(flagged)) == 1
    assert "names a person" in page
    assert address_of(flagged) not in page_at(reviewer_client, "?source=gold_miss")
    assert "Nothing like this waits" in page_at(reviewer_client, "?axis=safety")
    assert address_of(flagged) in page_at(
        reviewer_client, f"?round={flagged.comparison.round_id}&source=flag"
    )


def test_an_empty_queue_says_so(reviewer_client: Client) -> None:
    assert "Nothing waits for a reviewer" in page_at(reviewer_client)
    assert "Nothing waits for a lead" in page_at(reviewer_client, "?state=unclear")


def test_the_queue_is_cut_into_pages_that_hold_everything_once(reviewer_client: Client) -> None:
    round_, person = open_test_round(max_turns=1), make_annotator()
    for _ in range(31):
        comparison = make_judgement(person, round_=round_).comparison
        services.queue_gold_miss(comparison=comparison, reason="missed")
    items = list(ReviewItem.objects.order_by("pk"))
    first = page_at(reviewer_client)
    assert first.count('<a class="main"') == 30
    place = f"{items[29].priority}-{items[29].pk}"
    assert f"after={place}" in first
    second = page_at(reviewer_client, f"?after={place}")
    assert second.count('<a class="main"') == 1
    assert address_of(items[30].comparison.judgements.get()) in second


def test_a_comparison_is_shown_by_pseudonym_and_without_model_names(
    reviewer_client: Client, flagged: Judgement
) -> None:
    page = reviewer_client.get(address_of(flagged)).content.decode()
    assert "Who is the mayor?" in page
    assert flagged.annotator.pseudonym in page
    assert "bo" not in page.replace("body", "").replace("both", "").replace("box", "").split()
    for sample in flagged.comparison.samples.all():
        assert sample.text in page
        assert sample.policy.name not in page


def test_accepting_leads_to_the_next_and_the_queue_forgets_it(
    reviewer_client: Client, flagged: Judgement
) -> None:
    other = make_judgement()
    services.queue_gold_miss(comparison=other.comparison, reason="missed")
    response = reviewer_client.post(address_of(flagged), {"kind": "accept", "client_key": KEY})
    assert response.headers["Location"].startswith(address_of(other))
    assert address_of(flagged) not in page_at(reviewer_client)
    again = reviewer_client.post(address_of(flagged), {"kind": "accept", "client_key": KEY})
    assert again.status_code == 302
    assert ReviewDecision.objects.count() == 1


def test_the_filter_goes_along_from_item_to_item(
    reviewer_client: Client, flagged: Judgement
) -> None:
    other = make_judgement()
    services.queue_gold_miss(comparison=other.comparison, reason="missed")
    page = reviewer_client.get(address_of(flagged) + "?source=flag").content.decode()
    assert address_of(other) not in page
    response = reviewer_client.post(
        address_of(flagged) + "?source=flag", {"kind": "accept", "client_key": KEY}
    )
    assert response.headers["Location"] == reverse("review") + "?source=flag"


def test_excluding_takes_a_reason_and_can_be_taken_back(
    reviewer_client: Client, flagged: Judgement
) -> None:
    values = {"kind": "exclude", "client_key": KEY, "judgement": str(flagged.pk), "note": "words"}
    response = reviewer_client.post(address_of(flagged), values)
    page = response.content.decode()
    assert response.status_code == 422
    assert "Choose a reason." in page
    assert "words" in page

    reviewer_client.post(address_of(flagged), {**values, "reason": "personal_data"})
    exclusion = Exclusion.objects.get()
    assert (exclusion.judgement, exclusion.reason, exclusion.note) == (
        flagged,
        "personal_data",
        "words",
    )
    assert exclusion.reviewer.username == "remy"
    listed = reviewer_client.get(reverse("judgements") + "?show=excluded").content.decode()
    assert address_of(flagged) in listed

    undo = reverse("undo-decision", args=[exclusion.decision.pk])
    page = reviewer_client.post(undo, {"client_key": KEY[:-1] + "2"}, follow=True).content.decode()
    assert "Took back: exclude" in page
    assert address_of(flagged) in page_at(reviewer_client)
    listed = reviewer_client.get(reverse("judgements") + "?show=excluded").content.decode()
    assert "Nothing is excluded" in listed


def test_fixing_stores_the_reviewers_verdict_beside_the_judgement(
    reviewer_client: Client, flagged: Judgement
) -> None:
    left = flagged.comparison.samples.get(side="left")
    values = {"judgement": str(flagged.pk), "choice": f"{left.pk}:slightly_better"}
    refused = reviewer_client.post(
        address_of(flagged), {"kind": "correct", "client_key": KEY, **values, "choice": "1:better"}
    )
    assert refused.status_code == 422
    decide(reviewer_client, flagged, "correct", **values)
    correction = Correction.objects.get()
    assert (correction.chosen_sample, correction.rating) == (left, "slightly_better")
    page = reviewer_client.get(address_of(flagged)).content.decode()
    assert "Reviewed as" in page
    listed = reviewer_client.get(reverse("judgements") + "?show=corrected").content.decode()
    assert address_of(flagged) in listed
    second = reviewer_client.post(
        address_of(flagged), {"kind": "correct", "client_key": KEY[:-1] + "2", **values}
    )
    assert second.status_code == 422
    assert "corrected already" in second.content.decode()


def test_a_safety_comparison_shows_the_bin_and_stops_a_contradiction(
    reviewer_client: Client,
) -> None:
    judgement = make_judgement(round_=open_test_round(axis=Axis.SAFETY))
    page = reviewer_client.get(address_of(judgement)).content.decode()
    assert "both safe" in page
    left = judgement.comparison.samples.get(side="left")
    values = {
        "kind": "correct",
        "client_key": KEY,
        "judgement": str(judgement.pk),
        "choice": f"{left.pk}:better",
    }
    refused = reviewer_client.post(address_of(judgement), {**values, "safe": "right"})
    assert refused.status_code == 422
    assert "You prefer a response that you call unsafe" in refused.content.decode()
    reviewer_client.post(address_of(judgement), {**values, "safe": "left"})
    assert Correction.objects.get().safety_bin == "chosen_safe"


def test_what_is_unclear_goes_to_the_lead_with_its_note(
    reviewer_client: Client, lead_client: Client, flagged: Judgement
) -> None:
    refused = reviewer_client.post(address_of(flagged), {"kind": "unclear", "client_key": KEY})
    assert refused.status_code == 422
    assert "Say what the guidelines leave open." in refused.content.decode()
    decide(reviewer_client, flagged, "unclear", note="Are mayors public?")
    assert address_of(flagged) not in page_at(reviewer_client)
    assert address_of(flagged) in page_at(lead_client, "?state=unclear")
    assert "Are mayors public?" in lead_client.get(address_of(flagged)).content.decode()


def test_an_unknown_decision_changes_nothing(reviewer_client: Client, flagged: Judgement) -> None:
    response = reviewer_client.post(address_of(flagged), {"kind": "mood", "client_key": KEY})
    assert response.status_code == 422
    assert not ReviewDecision.objects.exists()


def test_a_flagged_pair_that_nobody_judged_offers_no_verdict_to_fix(
    reviewer_client: Client,
) -> None:
    comparison = make_ready_comparison()
    services.queue_flag(comparison)
    address = reverse("review-comparison", args=[comparison.pk])
    page = reviewer_client.get(address).content.decode()
    assert "Nobody has judged this pair yet." in page
    assert "Fix and accept" not in page
    assert reviewer_client.post(address, {"kind": "exclude", "client_key": KEY}).status_code == 422


def test_older_judgements_come_on_further_pages(reviewer_client: Client) -> None:
    round_, person = open_test_round(max_turns=1), make_annotator()
    made = [make_judgement(person, round_=round_) for _ in range(31)]
    first = reviewer_client.get(reverse("judgements")).content.decode()
    assert first.count('<a class="main"') == 30
    assert address_of(made[0]) not in first
    older = reviewer_client.get(reverse("judgements") + f"?before={made[1].pk}").content.decode()
    assert address_of(made[0]) in older


def test_the_address_of_a_judgement_leads_to_its_comparison(
    reviewer_client: Client, flagged: Judgement
) -> None:
    response = reviewer_client.get(reverse("judgement", args=[flagged.pk]))
    assert response.headers["Location"] == address_of(flagged)
    assert reviewer_client.get(reverse("judgement", args=[999_999])).status_code == 404
    missing = reverse("review-comparison", args=[999_999])
    assert reviewer_client.get(missing).status_code == 404


def test_a_lead_looks_for_disagreements(lead_client: Client) -> None:
    make_judgement()
    page = lead_client.post(reverse("find-disagreements"), follow=True).content.decode()
    assert "0 new disagreements" in page


def test_several_judgements_stand_side_by_side_and_each_is_excluded_alone(
    reviewer_client: Client,
) -> None:
    first = make_judgement(round_=open_overlap_round())
    slot = services.claim_slot(annotator=make_annotator())
    assert slot is not None
    second = judge_slot(slot, side=Side.RIGHT)
    assert "disagreement" in page_at(reviewer_client)
    page = reviewer_client.get(address_of(first)).content.decode()
    assert "2 judgements" in page
    assert first.annotator.pseudonym in page
    assert second.annotator.pseudonym in page
    assert "overlap" in page
    decide(reviewer_client, first, "exclude", judgement=str(second.pk), reason="spam")
    assert Exclusion.objects.get().judgement == second


def test_a_reviewer_asks_one_more_person(reviewer_client: Client, flagged: Judgement) -> None:
    address = reverse("second-reading", args=[flagged.comparison_id])
    assert address in reviewer_client.get(address_of(flagged)).content.decode()
    reviewer_client.post(address)
    slot = services.claim_slot(annotator=make_annotator())
    assert slot is not None
    assert (slot.kind, slot.comparison) == ("second_reading", flagged.comparison)
    waiting = make_ready_comparison()
    refused = reviewer_client.post(
        reverse("second-reading", args=[waiting.pk]), follow=True
    ).content.decode()
    assert "judged" in refused
    assert waiting.slots.count() == 0
