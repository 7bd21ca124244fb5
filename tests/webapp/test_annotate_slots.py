"""Pairs of others on the annotator's pages: the next task, judged, passed on, dealt with."""

import uuid

import pytest
from django.test import Client
from django.urls import reverse

from annotation import services
from annotation.models import Draft, Judgement, Round, Slot, SlotSkip, User
from annotation.scale import Side
from annotation.services import Overlap
from tests.annotation.test_slots import let_slot_lapse, open_overlap_round
from tests.factories import (
    judge_slot,
    make_annotator,
    make_judgement,
    make_lead,
    make_ready_comparison,
    open_test_round,
)

pytestmark = pytest.mark.django_db
HTMX = {"hx-request": "true"}


def take_slot(annotator: User) -> Slot:
    slot = services.claim_slot(annotator=annotator)
    assert slot is not None
    return slot


def page_of(client: Client, slot: Slot) -> str:
    response = client.get(reverse("slot", args=[slot.pk]))
    assert response.status_code == 200
    return response.content.decode()


def fields_of(slot: Slot, side: str = "left", rating: str = "better") -> dict[str, str]:
    sample = slot.comparison.samples.get(side=side)
    return {"choice": f"{sample.pk}:{rating}", "client_key": str(uuid.uuid4())}


def next_of(client: Client) -> str:
    response = client.post(reverse("next-task"))
    assert response.status_code == 302
    return response.headers["Location"]


@pytest.fixture
def round_(annotator: User) -> Round:
    round_ = open_overlap_round(max_turns=1)
    make_judgement(round_=round_)
    return round_


def test_the_next_task_is_a_pair_of_somebody_else(
    annotator_client: Client, annotator: User, round_: Round
) -> None:
    address = next_of(annotator_client)
    slot = Slot.objects.get()
    assert (address, slot.annotator) == (reverse("slot", args=[slot.pk]), annotator)
    page = page_of(annotator_client, slot)
    assert "Asked" in page
    assert slot.comparison.prompt_text in page
    for sample in slot.comparison.samples.all():
        assert sample.text in page
        assert sample.policy.name not in page
    assert next_of(annotator_client) == address, "who holds one is led back to it"


def test_a_judgement_is_stored_and_leads_on(
    annotator_client: Client, annotator: User, round_: Round
) -> None:
    slot = take_slot(annotator)
    response = annotator_client.post(
        reverse("judge-slot", args=[slot.pk]), fields_of(slot, "right")
    )
    judgement = Judgement.objects.get(annotator=annotator)
    assert (judgement.slot, judgement.displayed_side) == (1, "right")
    assert response.status_code == 302
    assert "/annotate/dialogues/" in response.headers["Location"], "writing comes after slots"


def test_htmx_is_given_the_next_pair_at_once(
    annotator_client: Client, annotator: User, round_: Round
) -> None:
    make_judgement(round_=round_)
    slot = take_slot(annotator)
    response = annotator_client.post(
        reverse("judge-slot", args=[slot.pk]), fields_of(slot), headers=HTMX
    )
    following = Slot.objects.get(state="leased")
    assert response.status_code == 200
    address = reverse("slot", args=[following.pk])
    assert response.headers["HX-Push-Url"] == f"{address}?last={slot.pk}"
    page = response.content.decode()
    assert "<html" not in page
    assert reverse("judge-slot", args=[following.pk]) in page


def test_another_round_brings_its_own_page(
    annotator_client: Client, annotator: User, round_: Round
) -> None:
    make_judgement(round_=open_overlap_round())
    slot = take_slot(annotator)
    response = annotator_client.post(
        reverse("judge-slot", args=[slot.pk]), fields_of(slot), headers=HTMX
    )
    address = reverse("slot", args=[Slot.objects.get(state="leased").pk])
    assert response.headers["HX-Redirect"] == f"{address}?last={slot.pk}"


def test_gold_and_overlap_look_the_same(annotator_client: Client, annotator: User) -> None:
    gold_round = open_test_round("Same name", overlap=Overlap(gold_share=1.0), max_turns=1)
    gold = make_judgement(round_=gold_round)
    services.declare_gold(
        comparison=gold.comparison,
        expected_side=Side.LEFT,
        declared_by=make_lead(),
    )
    slot = take_slot(annotator)
    assert slot.kind == "gold"
    pages = []
    for kind in ("gold", "overlap", "repeat", "second_reading"):
        Slot.objects.filter(pk=slot.pk).update(kind=kind)
        page = page_of(annotator_client, slot)
        key = page.split('name="client_key" value="')[1].split('"')[0]
        tokens = {part.split('"')[0] for part in page.split('csrfmiddlewaretoken" value="')[1:]}
        for secret in (key, *tokens):
            page = page.replace(secret, "")
        pages.append(page.split("<main")[1])
    assert len(set(pages)) == 1
    assert "gold" not in pages[0].lower()


def test_a_choice_that_is_missing_comes_back_with_a_word(
    annotator_client: Client, annotator: User, round_: Round
) -> None:
    slot = take_slot(annotator)
    response = annotator_client.post(
        reverse("judge-slot", args=[slot.pk]), {"client_key": str(uuid.uuid4())}
    )
    assert response.status_code == 422
    assert "Choose one of the eight steps" in response.content.decode()


def test_a_judgement_sent_twice_is_stored_once_and_a_second_tab_is_told(
    annotator_client: Client, annotator: User, round_: Round
) -> None:
    slot = take_slot(annotator)
    address, fields = reverse("judge-slot", args=[slot.pk]), fields_of(slot)
    for _ in range(2):
        assert annotator_client.post(address, fields).status_code == 302
    response = annotator_client.post(address, fields_of(slot, "right"), follow=True)
    assert "already been dealt with" in response.content.decode()
    assert Judgement.objects.get(annotator=annotator).displayed_side == "left"


def test_a_draft_is_kept_ticked_again_and_survives_the_lease(
    annotator_client: Client, annotator: User, round_: Round
) -> None:
    slot = take_slot(annotator)
    draft = {"slot": str(slot.pk), "choice": fields_of(slot, "right")["choice"]}
    assert annotator_client.post(reverse("draft"), draft).status_code == 200
    assert "B is better</strong>" in page_of(annotator_client, slot)
    let_slot_lapse(slot)
    assert "B is better</strong>" in page_of(annotator_client, slot)
    annotator_client.post(reverse("judge-slot", args=[slot.pk]), fields_of(slot, "right"))
    assert Judgement.objects.filter(annotator=annotator).count() == 1
    assert not Draft.objects.exists()


def test_a_pair_given_to_others_meanwhile_says_so_and_keeps_the_words(
    annotator_client: Client, annotator: User, round_: Round
) -> None:
    slot = take_slot(annotator)
    draft = {"slot": str(slot.pk), "choice": fields_of(slot)["choice"]}
    annotator_client.post(reverse("draft"), draft)
    let_slot_lapse(slot)
    take_slot(make_annotator())
    assert "This pair has been dealt with" in page_of(annotator_client, slot)
    response = annotator_client.post(
        reverse("judge-slot", args=[slot.pk]), fields_of(slot), follow=True
    )
    assert "given to somebody else" in response.content.decode()
    assert Draft.objects.get().fields == {"choice": draft["choice"]}


def test_passing_on_and_flagging(annotator_client: Client, annotator: User, round_: Round) -> None:
    slot = take_slot(annotator)
    response = annotator_client.post(
        reverse("flag-slot", args=[slot.pk]), {"note": "a name"}, follow=True
    )
    assert "a reviewer will look at it" in response.content.decode()
    slot.comparison.refresh_from_db()
    assert slot.comparison.flag_note == "a name"
    annotator_client.post(reverse("skip-slot", args=[slot.pk]), {"reason": "too_disturbing"})
    assert SlotSkip.objects.get().reason == "too_disturbing"
    slot.refresh_from_db()
    assert slot.state == "free"


def test_a_beat_renews_the_lease(annotator_client: Client, annotator: User, round_: Round) -> None:
    slot = take_slot(annotator)
    before = slot.lease_expires_at
    assert annotator_client.post(reverse("beat-slot", args=[slot.pk])).status_code == 204
    slot.refresh_from_db()
    assert slot.lease_expires_at is not None
    assert before is not None
    assert slot.lease_expires_at > before


def test_a_strangers_slot_is_not_there(annotator_client: Client, round_: Round) -> None:
    slot = take_slot(make_annotator())
    assert annotator_client.get(reverse("slot", args=[slot.pk])).status_code == 404
    for name in ("judge-slot", "skip-slot", "flag-slot", "beat-slot"):
        assert annotator_client.post(reverse(name, args=[slot.pk])).status_code == 404


def test_a_judged_slot_says_that_it_is_done(
    annotator_client: Client, annotator: User, round_: Round
) -> None:
    slot = take_slot(annotator)
    judge_slot(slot)
    assert "This pair has been dealt with" in page_of(annotator_client, slot)


def test_without_slots_the_next_task_is_ones_own_pair_or_a_new_dialogue(
    annotator_client: Client, annotator: User
) -> None:
    assert next_of(annotator_client) == reverse("annotate")
    round_ = open_test_round()
    begun = next_of(annotator_client)
    assert begun.startswith("/annotate/dialogues/")
    assert next_of(annotator_client) == begun
    ready = make_ready_comparison(annotator, round_=round_)
    assert next_of(annotator_client) == reverse("dialogue", args=[ready.dialogue_id])


def test_the_overview_offers_the_next_task_though_all_prompts_are_written(
    annotator_client: Client,
) -> None:
    make_judgement(round_=open_overlap_round(target_comparisons=1, max_turns=1))
    page = annotator_client.get(reverse("annotate")).content.decode()
    assert "Next task" in page
    assert "This round is complete" not in page
