"""Maintenance on the pages of leads and annotators."""

import uuid
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotation import services
from annotation.models import Dialogue, Pause, User
from annotation.pauses import active_pause
from tests.annotation.test_pauses import in_hours, let_pass, pause
from tests.annotation.test_slots import claim, open_overlap_round
from tests.factories import (
    make_judgement,
    make_lead,
    make_qualification,
    make_ready_comparison,
    open_test_assignment,
    open_test_round,
    start_test_dialogue,
)
from tests.webapp.conftest import signed_in

pytestmark = pytest.mark.django_db


def page_of(client: Client, name: str, *args: int) -> str:
    return client.get(reverse(name, args=args)).content.decode()


def told(paused: Pause) -> str:
    """Return the time as pages write it."""
    assert paused.back_at is not None
    return f"{paused.back_at.day} {paused.back_at:%b, %H:%M} UTC"


# Leads


def test_a_lead_pauses_sees_it_and_ends_it(lead_client: Client, lead: User) -> None:
    assert "Pause annotation" in page_of(lead_client, "rounds")
    back_at = (timezone.now() + timedelta(hours=3)).replace(second=0, microsecond=0)
    fields = {"sentence": "We move <house>.", "back_at": f"{back_at:%Y-%m-%dT%H:%M}"}
    response = lead_client.post(reverse("pause"), fields)
    assert response.headers["Location"] == reverse("rounds")
    paused = Pause.objects.get()
    assert (paused.begun_by, paused.back_at) == (lead, back_at)

    for name in ("rounds", "dashboard", "pause"):
        page = page_of(lead_client, name)
        assert "Annotation is paused." in page
        assert "We move &lt;house&gt;." in page
        assert f"By maria since {paused.begun_at.day}" in page
        assert told(paused) in page
        assert reverse("end-pause", args=[paused.pk]) in page

    address = reverse("end-pause", args=[paused.pk])
    response = lead_client.post(address, {"next": reverse("dashboard")}, follow=True)
    assert response.redirect_chain == [(reverse("dashboard"), 302)]
    assert "The pause is over" in response.content.decode()
    assert "Annotation is paused." not in page_of(lead_client, "rounds")
    assert "We move &lt;house&gt;." in page_of(lead_client, "pause"), "it stays listed"
    assert lead_client.post(reverse("end-pause", args=[987654])).status_code == 404


def test_the_dashboard_renews_its_notice_by_itself(lead_client: Client) -> None:
    pause("A disk.")
    headers = {"hx-request": "true"}
    page = lead_client.get(reverse("dashboard"), headers=headers).content.decode()
    assert "A disk." in page
    assert page.count("csrfmiddlewaretoken") == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sentence": ""}, "This field is required."),
        ({"sentence": "x" * 301}, "at most 300 characters (it has 301)"),
        ({"sentence": "A disk.", "back_at": "soon"}, "Enter a valid date/time."),
        ({"sentence": "A disk.", "back_at": "2020-01-01T10:00"}, "is not within the 30 days"),
        ({"sentence": "A disk.", "ends_itself": "on"}, "Say when, if the pause is to end by"),
    ],
)
def test_a_pause_that_cannot_be_says_why_and_keeps_what_was_typed(
    lead_client: Client, fields: dict[str, str], words: str
) -> None:
    response = lead_client.post(reverse("pause"), fields)
    assert response.status_code == 422
    page = response.content.decode()
    assert words in page
    assert fields["sentence"] in page
    assert not Pause.objects.exists()


def test_a_second_lead_is_told_that_there_is_a_pause(lead_client: Client) -> None:
    paused = pause("The first one's.")
    response = lead_client.post(reverse("pause"), {"sentence": "The second one's."})
    assert response.status_code == 422
    page = response.content.decode()
    assert "Annotation is paused already; change that pause, or end it first." in page
    assert "The second one&#x27;s." in page
    assert Pause.objects.get() == paused


def test_a_lead_changes_what_is_said_and_annotation_does_not_go_on_in_between(
    lead_client: Client,
) -> None:
    paused = let_pass(pause("One hour.", back_at=in_hours(1)))
    page = page_of(lead_client, "pause")
    assert "It was expected to end on" in page
    assert 'value="One hour."' in page
    fields = {"sentence": "Two hours.", "changes": str(paused.pk)}
    assert lead_client.post(reverse("pause"), fields).status_code == 302
    held = active_pause()
    assert held is not None
    assert held.sentence == "Two hours."
    response = lead_client.post(reverse("pause"), fields | {"sentence": "Three hours."})
    assert response.status_code == 422
    assert "This pause is over" in response.content.decode()
    assert active_pause() == held
    assert page_of(lead_client, "pause").count("One hour.") == 1


def test_an_earlier_pause_that_ended_by_itself_is_listed_as_such(lead_client: Client) -> None:
    let_pass(pause("A night.", back_at=in_hours(1), ends_itself=True))
    page = page_of(lead_client, "pause")
    assert "by itself</span>" in page
    assert "Annotation is paused." not in page


# Annotators


def test_every_place_that_would_offer_work_says_maintenance_and_until_when(
    annotator_client: Client,
) -> None:
    open_test_round(), open_test_assignment()
    test = make_qualification()
    paused = pause("We move house.", back_at=in_hours(2))
    for name, button in (
        ("annotate", "Start a dialogue"),
        ("demonstrations", "Write a demonstration"),
        ("tests", "Begin</button>"),
    ):
        page = page_of(annotator_client, name)
        assert "Paused for maintenance" in page, name
        assert "We move house." in page, name
        assert told(paused) in page, name
        assert button not in page, name
    page = page_of(annotator_client, "test", test.pk)
    assert "Paused for maintenance" in page
    assert "Begin</button>" not in page
    services.end_pause(lead=make_lead(), pause=paused)
    assert "Start a dialogue" in page_of(annotator_client, "annotate")
    assert "Begin</button>" in page_of(annotator_client, "test", test.pk)


@pytest.mark.parametrize("name", ["annotate", "demonstrations", "tests"])
def test_an_empty_site_says_maintenance_too(annotator_client: Client, name: str) -> None:
    pause("We move house.")
    page = page_of(annotator_client, name)
    assert "We move house." in page
    assert "No round is open" not in page
    assert "No assignment is open" not in page


def test_a_button_of_a_page_that_was_open_before_is_answered_with_the_sentence(
    annotator_client: Client,
) -> None:
    round_, assignment, test = open_test_round(), open_test_assignment(), make_qualification()
    pause("We move house.")
    addresses = [
        reverse("start", args=[round_.pk]),
        reverse("next-task"),
        reverse("start-demonstration", args=[assignment.pk]),
        reverse("test", args=[test.pk]),
    ]
    for address in addresses:
        response = annotator_client.post(address, {"client_key": str(uuid.uuid4())}, follow=True)
        text = response.content.decode()
        assert "Annotation is paused for maintenance: We move house." in text, address
    assert not Dialogue.objects.exists()


def test_what_is_in_hand_is_offered_judged_and_written(
    annotator_client: Client, annotator: User
) -> None:
    make_judgement(round_=open_overlap_round())
    slot = claim(annotator)
    dialogue = start_test_dialogue(annotator, open_test_round())
    ready = make_ready_comparison(annotator)
    pause()
    page = page_of(annotator_client, "annotate")
    assert "Paused for maintenance" in page
    assert "Next task" in page
    assert reverse("dialogue", args=[dialogue.pk]) in page
    response = annotator_client.post(reverse("next-task"))
    assert response.headers["Location"] == reverse("dialogue", args=[ready.dialogue_id])
    assert "Boil it." in page_of(annotator_client, "slot", slot.pk)
    assert "Your first message" in page_of(annotator_client, "dialogue", dialogue.pk)
    fields = {"text": "How do I boil rice?", "client_key": str(uuid.uuid4())}
    annotator_client.post(reverse("prompt", args=[dialogue.pk]), fields)
    assert dialogue.comparisons.count() == 1


def test_after_the_last_pair_of_others_the_next_task_is_maintenance(
    annotator_client: Client, annotator: User
) -> None:
    make_judgement(round_=open_overlap_round())
    slot = claim(annotator)
    pause("We move house.")
    response = annotator_client.post(
        reverse("skip-slot", args=[slot.pk]), {"reason": "other"}, follow=True
    )
    text = response.content.decode()
    assert "Annotation is paused for maintenance: We move house." in text
    assert response.redirect_chain[-1][0] == reverse("annotate")


def test_a_dialogue_whose_round_has_nothing_left_says_both(
    annotator_client: Client, annotator: User
) -> None:
    round_ = open_test_round("Week 14", target_comparisons=1)
    dialogue = start_test_dialogue(annotator, round_)
    make_ready_comparison(round_=round_)
    pause("We move house.")
    page = page_of(annotator_client, "dialogue", dialogue.pk)
    assert "All comparisons left in Week 14 are being worked on." in page
    assert "We move house." in page


def test_who_reviews_and_who_leads_go_on(lead_client: Client, reviewer_client: Client) -> None:
    judgement = make_judgement()
    pause()
    for client in (lead_client, reviewer_client):
        assert client.get(reverse("review")).status_code == 200
        address = reverse("review-comparison", args=[judgement.comparison_id])
        assert client.get(address).status_code == 200


def test_only_leads_reach_the_page(annotator_client: Client, reviewer_client: Client) -> None:
    paused = pause()
    for client in (annotator_client, reviewer_client, Client()):
        client.post(reverse("end-pause", args=[paused.pk]))
        client.post(reverse("pause"), {"sentence": "Mine."})
    assert Pause.objects.get() == active_pause() == paused
    assert signed_in(make_lead()).get(reverse("pause")).status_code == 200
