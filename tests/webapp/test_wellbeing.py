"""Consent, guidelines and well-being on the pages of annotators and leads."""

import uuid

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from annotation import services
from annotation.models import (
    CategoryOptOut,
    Consent,
    ConsentDocument,
    Dialogue,
    GuidelinesConfirmation,
    Judgement,
    User,
    WellbeingPolicy,
    WellbeingSettings,
    Withdrawal,
)
from annotation.snapshots import freeze_snapshot
from records.preferences import Axis
from tests.annotation.test_slots import open_overlap_round
from tests.factories import (
    judge,
    make_annotator,
    make_judgement,
    make_lead,
    make_qualification,
    make_ready_comparison,
    open_test_round,
    start_test_dialogue,
)

pytestmark = pytest.mark.django_db


def rounds_page(client: Client) -> str:
    return client.get(reverse("annotate")).content.decode()


# The gate on the annotator's pages


def test_a_round_says_what_is_missing_and_leads_there(annotator_client: Client) -> None:
    round_, test = open_test_round("Week 14"), make_qualification(name="Language")
    services.require_qualifications(lead=make_lead(), qualifications=[test], round_=round_)
    page = rounds_page(annotator_client)
    assert "Pass the test Language" in page
    assert reverse("test", args=[test.pk]) in page
    assert "Start a dialogue" not in page
    response = annotator_client.post(reverse("start", args=[round_.pk]), follow=True)
    assert "You cannot work in" in response.content.decode()
    assert not Dialogue.objects.exists()


def test_a_message_that_may_not_be_sent_now_is_kept_and_shown(
    annotator_client: Client, annotator: User
) -> None:
    round_ = open_test_round()
    dialogue = start_test_dialogue(annotator, round_)
    services.require_qualifications(
        lead=make_lead(), qualifications=[make_qualification()], round_=round_
    )
    fields = {"text": "My careful words", "client_key": str(uuid.uuid4())}
    address = reverse("prompt", args=[dialogue.pk])
    page = annotator_client.post(address, fields, follow=True).content.decode()
    assert "Before you go on" in page
    assert "What you had written is kept" in page
    assert "My careful words" in page


def test_a_break_takes_the_place_of_the_pair_and_says_until_when(
    annotator_client: Client, annotator: User
) -> None:
    round_ = open_test_round(axis=Axis.SAFETY, max_turns=1)
    judge(make_ready_comparison(annotator, round_=round_))
    comparison = make_ready_comparison(annotator, round_=round_)
    address = reverse("dialogue", args=[comparison.dialogue_id])
    assert "Boil it." in annotator_client.get(address).content.decode()
    Judgement.objects.update(active_seconds=3600)
    services.set_wellbeing_policy(
        lead=make_lead(),
        daily_minutes=60,
        stretch_minutes=None,
        break_minutes=15,
        support_text="Call **Kim**.",
    )
    page = annotator_client.get(address).content.decode()
    assert "Time for a break" in page
    assert "<strong>Kim</strong>" in page
    assert "00:00 UTC" in page
    assert "Boil it." not in page


def test_a_further_judgement_is_covered_and_held_back_as_a_dialogue_is(
    annotator_client: Client, annotator: User
) -> None:
    make_judgement(round_=open_overlap_round(axis=Axis.SAFETY))
    slot = services.claim_slot(annotator=annotator)
    assert slot is not None
    address = reverse("slot", args=[slot.pk])
    page = annotator_client.get(address).content.decode()
    assert page.count('<details class="cover">') == 2
    services.save_draft(
        annotator=annotator, slot=slot, fields={"edited_text": "My better response"}
    )
    services.save_wellbeing_choices(
        annotator=annotator, covers_responses=True, opted_out=["hateful_and_harmful"]
    )
    page = annotator_client.get(address).content.decode()
    assert "Before you go on" in page
    assert "until somebody else is given it" in page
    assert "My better response" in page
    assert "Boil it." not in page


def test_the_next_task_says_what_is_missing_first(annotator_client: Client) -> None:
    round_ = open_test_round()
    services.require_qualifications(
        lead=make_lead(), qualifications=[make_qualification(name="Language")], round_=round_
    )
    page = annotator_client.post(reverse("next-task"), follow=True).content.decode()
    assert "pass the test Language; your words are kept." in page


def test_responses_of_a_safety_round_are_covered_and_work_without_scripts(
    annotator_client: Client, annotator: User
) -> None:
    safety = make_ready_comparison(annotator, round_=open_test_round(axis=Axis.SAFETY))
    helpful = make_ready_comparison(annotator)
    for comparison, number in ((safety, 2), (helpful, 0)):
        address = reverse("dialogue", args=[comparison.dialogue_id])
        page = annotator_client.get(address).content.decode()
        assert page.count('<details class="cover">') == number
    services.save_wellbeing_choices(annotator=annotator, covers_responses=False, opted_out=[])
    address = reverse("dialogue", args=[safety.dialogue_id])
    assert 'class="cover"' not in annotator_client.get(address).content.decode()


def test_a_round_warns_of_what_it_may_contain(annotator_client: Client) -> None:
    open_test_round()
    assert "May contain" not in rounds_page(annotator_client)
    open_test_round(axis=Axis.SAFETY)
    assert "illicit and criminal activity, hateful and harmful behaviour" in rounds_page(
        annotator_client
    )


# Consent


def test_consent_is_asked_for_given_and_taken_back(
    annotator_client: Client, annotator: User
) -> None:
    document = services.publish_consent_document(
        version="1", text="We **store** what you judge.", created_by=make_lead()
    )
    open_test_round()
    assert reverse("consent") in rounds_page(annotator_client)
    assert "<strong>store</strong>" in annotator_client.get(reverse("consent")).content.decode()
    annotator_client.post(reverse("give-consent", args=[document.pk]))
    assert Consent.objects.get().annotator == annotator
    assert "Start a dialogue" in rounds_page(annotator_client)

    key = {"client_key": str(uuid.uuid4())}
    response = annotator_client.post(reverse("withdraw"), {**key, "note": "I moved on."})
    assert response.status_code == 422
    assert "Tick the box if you are sure." in response.content.decode()
    assert "I moved on." in response.content.decode()
    for _ in range(2):
        annotator_client.post(reverse("withdraw"), {**key, "is_sure": "on", "note": "I moved on."})
    assert Withdrawal.objects.get().note == "I moved on."
    page = annotator_client.get(reverse("consent")).content.decode()
    assert "You withdrew on" in page
    assert "I consent" in page
    assert "Start a dialogue" not in rounds_page(annotator_client)


def test_an_old_version_cannot_be_consented_to(annotator_client: Client) -> None:
    lead = make_lead()
    old = services.publish_consent_document(version="1", text="Old.", created_by=lead)
    services.publish_consent_document(version="2", text="New.", created_by=lead)
    response = annotator_client.post(reverse("give-consent", args=[old.pk]), follow=True)
    assert "There is a newer version" in response.content.decode()
    assert annotator_client.post(reverse("give-consent", args=[987654])).status_code == 404


def test_a_lead_publishes_consent_and_sees_what_a_withdrawal_reaches(lead_client: Client) -> None:
    fields = {"version": "1", "text": "Text."}
    assert lead_client.post(reverse("consent-documents"), fields).status_code == 302
    response = lead_client.post(reverse("consent-documents"), fields | {"text": "Other."})
    assert response.status_code == 422
    assert "use a new version" in response.content.decode()

    annotator, round_ = make_annotator("bo"), open_test_round(max_turns=1)
    services.give_consent(annotator=annotator, document=ConsentDocument.objects.get())
    make_judgement(annotator, round_=round_)
    freeze_snapshot(rounds=[round_], name="week 1")
    withdrawal = services.withdraw_consent(annotator=annotator, client_key=uuid.uuid4())
    page = lead_client.get(reverse("consent-documents")).content.decode()
    assert annotator.pseudonym in page
    page = lead_client.get(reverse("withdrawal", args=[withdrawal.pk])).content.decode()
    assert "week 1" in page
    assert annotator.pseudonym in page
    assert ">bo<" not in page


# Guidelines


def test_new_guidelines_are_shown_as_differences_and_confirmed(
    annotator_client: Client, annotator: User
) -> None:
    lead = make_lead()
    first = open_test_round(lead=lead)
    start_test_dialogue(annotator, first)
    newer = services.publish_guidelines(
        axis=Axis.HELPFULNESS,
        version="next",
        text=first.guidelines.text.replace("better", "kinder"),
        created_by=lead,
    )
    open_test_round("Week 15")
    assert reverse("guidelines-compared", args=[newer.pk]) in rounds_page(annotator_client)
    page = annotator_client.get(reverse("guidelines-compared", args=[newer.pk])).content.decode()
    assert '<del><span class="visually-hidden"> removed: </span>better' in page
    assert '<ins><span class="visually-hidden"> added: </span>kinder' in page
    assert "I have read what is new" in page
    annotator_client.post(reverse("confirm-guidelines", args=[newer.pk]))
    confirmation = GuidelinesConfirmation.objects.get(guidelines=newer)
    assert confirmation.earlier == first.guidelines
    assert rounds_page(annotator_client).count("Start a dialogue") == 2
    history = annotator_client.get(reverse("guidelines-history")).content.decode()
    assert "What changed since" in history


def test_the_history_costs_the_same_for_many_versions(
    lead_client: Client, lead: User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(6):
        services.publish_guidelines(
            axis=Axis.SAFETY, version=f"{number}", text=f"Text {number}.", created_by=lead
        )
    # Session, user, versions, what this person confirmed.
    with django_assert_max_num_queries(4):
        lead_client.get(reverse("guidelines-history"))


def test_any_two_versions_are_compared(lead_client: Client, lead: User) -> None:
    one, two, three = (
        services.publish_guidelines(
            axis=Axis.SAFETY, version=v, text=f"Number {v}.", created_by=lead
        )
        for v in ("one", "two", "three")
    )
    address = reverse("guidelines-compared", args=[three.pk])
    assert "Since two" in lead_client.get(address).content.decode()
    page = lead_client.get(f"{address}?against={one.pk}").content.decode()
    assert "Since one" in page
    assert "I have read" not in page
    assert "Since two" in lead_client.get(f"{address}?against=x").content.decode()
    page = lead_client.get(reverse("guidelines-compared", args=[one.pk])).content.decode()
    assert "Since" not in page, "the first version has nothing before it"
    assert two.version in page


# Well-being


def test_an_annotator_chooses_what_not_to_see(annotator_client: Client, annotator: User) -> None:
    page = annotator_client.get(reverse("wellbeing")).content.decode()
    assert page.count(" checked") == 1, "responses are covered from the start"
    annotator_client.post(reverse("wellbeing"), {"opted_out": ["violence", "self_harm"]})
    assert set(CategoryOptOut.objects.values_list("category", flat=True)) == {
        "violence",
        "self_harm",
    }
    assert not WellbeingSettings.objects.get(annotator=annotator).covers_responses
    response = annotator_client.post(reverse("wellbeing"), {"opted_out": ["spiders"]})
    assert response.status_code == 422


def test_a_lead_sets_bounds_for_all_and_for_one(
    lead_client: Client, annotator_client: Client, annotator: User
) -> None:
    fields = {"daily_minutes": "90", "break_minutes": "15", "support_text": "Call **Kim**."}
    lead_client.post(reverse("wellbeing-policy"), fields)
    assert WellbeingPolicy.objects.get().daily_minutes == 90
    page = annotator_client.get(reverse("wellbeing")).content.decode()
    assert "of 90" in page
    assert "<strong>Kim</strong>" in page
    address = reverse("daily-minutes", args=[annotator.pk])
    lead_client.post(address, {"minutes": "20"})
    assert "of 20" in annotator_client.get(reverse("wellbeing")).content.decode()
    page = lead_client.post(address, {"minutes": "2000"}, follow=True).content.decode()
    assert "less than or equal to 1440" in page
    response = lead_client.post(reverse("wellbeing-policy"), fields | {"break_minutes": "0"})
    assert response.status_code == 422
    assert lead_client.post(reverse("daily-minutes", args=[make_lead().pk])).status_code == 404
