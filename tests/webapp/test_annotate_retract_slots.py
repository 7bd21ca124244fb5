"""`z` on pairs of somebody else: the same page whatever a pair was asked for."""

import re
import uuid

import pytest
from django.test import Client
from django.urls import reverse

from annotation.models import Judgement, Slot, User
from tests.annotation.test_slots import open_overlap_round
from tests.factories import make_annotator, make_judgement
from tests.webapp.conftest import signed_in
from tests.webapp.test_annotate_slots import HTMX, fields_of, page_of, take_slot

pytestmark = pytest.mark.django_db
OFFER = "Take the last judgement back"


def judge_by_form(client: Client, slot: Slot, side: str = "left") -> str:
    """Judge a pair as the plain form does, and return where that leads."""
    response = client.post(reverse("judge-slot", args=[slot.pk]), fields_of(slot, side))
    assert response.status_code == 302
    return response.headers["Location"]


def press(client: Client, name: str, slot: Slot) -> str:
    address = reverse(name, args=[slot.pk])
    response = client.post(address, {"client_key": str(uuid.uuid4())}, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def without_secrets(page: str) -> str:
    """Return what an annotator could tell two pages apart by: no tokens, no numbers."""
    page = re.sub(r'(csrfmiddlewaretoken|client_key)" value="[^"]*"', "", page.split("<main")[1])
    return re.sub(r"\d+", "#", page)


def test_the_pair_comes_back_ticked_and_the_next_one_waits(
    annotator_client: Client, annotator: User
) -> None:
    round_ = open_overlap_round(max_turns=1)
    for _ in range(2):
        make_judgement(round_=round_)
    slot = take_slot(annotator)
    address = judge_by_form(annotator_client, slot, "right")
    following = Slot.objects.get(state="leased")
    assert address == f"{reverse('slot', args=[following.pk])}?last={slot.pk}"
    assert OFFER in annotator_client.get(address).content.decode()
    assert OFFER not in page_of(annotator_client, following)

    page = press(annotator_client, "retract-slot", slot)

    assert "Judge this pair again, or let it stand" in page
    assert "Let it stand" in page
    assert OFFER not in page
    assert "B is better</strong>" in page
    assert reverse("judge-slot", args=[slot.pk]) in page
    page = press(annotator_client, "restore-slot", slot)
    assert "It stands as you had said it." in page
    assert reverse("judge-slot", args=[following.pk]) in page
    assert Judgement.objects.filter(annotator=annotator).count() == 1


def test_htmx_carries_the_offer_along_and_leads_to_the_page(
    annotator_client: Client, annotator: User
) -> None:
    round_ = open_overlap_round(max_turns=1)
    for _ in range(2):
        make_judgement(round_=round_)
    slot = take_slot(annotator)
    response = annotator_client.post(
        reverse("judge-slot", args=[slot.pk]), fields_of(slot), headers=HTMX
    )
    following = Slot.objects.get(state="leased")
    address = f"{reverse('slot', args=[following.pk])}?last={slot.pk}"
    assert response.headers["HX-Push-Url"] == address
    assert OFFER in response.content.decode()
    response = annotator_client.post(reverse("retract-slot", args=[slot.pk]), headers=HTMX)
    assert response.headers["HX-Redirect"] == reverse("slot", args=[slot.pk])


def test_with_nothing_left_the_overview_offers_it(
    annotator_client: Client, annotator: User
) -> None:
    make_judgement(round_=open_overlap_round(target_comparisons=1, max_turns=1))
    slot = take_slot(annotator)
    address = judge_by_form(annotator_client, slot)
    assert address == f"{reverse('annotate')}?last={slot.pk}"
    assert OFFER in annotator_client.get(address).content.decode()
    assert OFFER not in annotator_client.get(reverse("annotate")).content.decode()


def test_a_waiting_page_keeps_the_offer_while_it_asks_again(
    annotator_client: Client, annotator: User
) -> None:
    make_judgement(round_=open_overlap_round(max_turns=1))
    address = judge_by_form(annotator_client, take_slot(annotator))
    path = address.partition("?")[0]
    headers = {**HTMX, "hx-current-url": f"http://testserver{address}"}
    assert OFFER in annotator_client.get(path, headers=headers).content.decode()
    headers["hx-current-url"] = f"http://testserver{path}?last=x"
    assert OFFER not in annotator_client.get(path, headers=headers).content.decode()


def test_all_kinds_look_the_same_while_they_are_taken_back() -> None:
    round_ = open_overlap_round(9, max_turns=1)
    make_judgement(round_=round_)
    seen: list[tuple[str, ...]] = []
    for kind in ("gold", "overlap", "repeat", "second_reading"):
        annotator = make_annotator()
        client = signed_in(annotator)
        slot = take_slot(annotator)
        Slot.objects.filter(pk=slot.pk).update(kind=kind)
        address = judge_by_form(client, slot)
        pages = [
            client.get(address).content.decode(),
            press(client, "retract-slot", slot),
            page_of(client, slot),
            press(client, "restore-slot", slot),
            press(client, "restore-slot", slot),
            press(client, "retract-slot", slot),
            client.get(judge_by_form(client, slot, "right")).content.decode(),
            page_of(client, slot),
        ]
        seen.append((re.sub(r"\d+", "#", address), *map(without_secrets, pages)))
    assert len(set(seen)) == 1
    assert not re.search("gold|overlap|repeat|reading", "".join(seen[0]).lower())


def test_what_cannot_be_taken_back_says_why_and_goes_on(
    annotator_client: Client, annotator: User
) -> None:
    round_ = open_overlap_round(max_turns=1)
    for _ in range(3):
        make_judgement(round_=round_)
    first = take_slot(annotator)
    judge_by_form(annotator_client, first)
    judge_by_form(annotator_client, take_slot(annotator))
    assert "Only what you said last can be taken back" in press(
        annotator_client, "retract-slot", first
    )
    held = Slot.objects.get(state="leased")
    assert "Nothing is said of this pair" in press(annotator_client, "retract-slot", held)
    assert Judgement.objects.filter(annotator=annotator).count() == 2


def test_what_another_annotator_said_is_not_there(annotator_client: Client) -> None:
    make_judgement(round_=open_overlap_round())
    other = make_annotator()
    slot = take_slot(other)
    judge_by_form(signed_in(other), slot)
    for name in ("retract-slot", "restore-slot"):
        assert annotator_client.post(reverse(name, args=[slot.pk])).status_code == 404
