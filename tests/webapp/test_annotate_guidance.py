"""What the annotator's pages say while writing, and what they ask beside the choice."""

import uuid

import pytest
from django.test import Client
from django.urls import reverse

from annotation import services
from annotation.models import Comparison, Edit, Judgement, User
from annotation.services import Guidance
from tests.factories import make_ready_comparison, open_test_round, start_test_dialogue

pytestmark = pytest.mark.django_db

GUIDANCE = Guidance(
    min_turns=2,
    system_prompt="Answer in verse.",
    topic="Cooking",
    goal="Find out what it cannot explain.",
    good_examples="Why does bread rise?\n\nHow hot is a pan?",
    bad_examples="hi",
)


def send(client: Client, dialogue_id: int, text: str, **fields: str) -> tuple[int, str]:
    values = {"text": text, "client_key": str(uuid.uuid4()), **fields}
    response = client.post(reverse("prompt", args=[dialogue_id]), values)
    return response.status_code, response.content.decode()


def judge_on_page(client: Client, comparison: Comparison, **fields: str) -> tuple[int, str]:
    sample = comparison.samples.get(side="left")
    values = {"choice": f"{sample.pk}:better", "client_key": str(uuid.uuid4()), **fields}
    response = client.post(reverse("judge", args=[comparison.pk]), values)
    return response.status_code, response.content.decode()


def test_the_round_says_what_to_write_and_what_the_policies_are_told(
    annotator_client: Client, annotator: User
) -> None:
    dialogue = start_test_dialogue(annotator, open_test_round(guidance=GUIDANCE))
    page = annotator_client.get(reverse("dialogue", args=[dialogue.pk])).content.decode()
    for words in ("Cooking", "Find out what it cannot explain.", "Answer in verse."):
        assert words in page
    assert '<li dir="auto">Why does bread rise?</li><li dir="auto">How hot is a pan?</li>' in page
    assert '<li dir="auto">hi</li>' in page
    assert "a real question you would like answered" not in page


def test_the_dialogue_can_be_finished_after_its_fewest_turns_only(
    annotator_client: Client, annotator: User
) -> None:
    comparison = make_ready_comparison(annotator, round_=open_test_round(guidance=GUIDANCE))
    judge_on_page(annotator_client, comparison)
    address = reverse("dialogue", args=[comparison.dialogue_id])
    assert "Finish dialogue" not in annotator_client.get(address).content.decode()
    finish = reverse("finish", args=[comparison.dialogue_id])
    page = annotator_client.post(finish, follow=True).content.decode()
    assert "This dialogue has 1 of at least 2 turns" in page
    judge_on_page(
        annotator_client, make_ready_comparison(dialogue=comparison.dialogue, text="And then?")
    )
    assert "Finish dialogue" in annotator_client.get(address).content.decode()


def test_a_near_duplicate_is_warned_of_and_sent_all_the_same(
    annotator_client: Client, annotator: User
) -> None:
    round_ = open_test_round()
    text = "How do I boil an egg so that it stays soft?"
    make_ready_comparison(annotator, round_=round_, text=text)
    dialogue = start_test_dialogue(annotator, round_)
    status, page = send(annotator_client, dialogue.pk, text.upper())
    assert status == 422
    assert "You have asked nearly the same before:" in page
    assert text in page
    assert f"{text.upper()}</textarea>" in page
    assert Comparison.objects.count() == 1
    status, _ = send(annotator_client, dialogue.pk, text.upper(), is_sure="1")
    assert status == 302
    assert Comparison.objects.count() == 2


def test_what_others_asked_is_not_shown(annotator_client: Client, annotator: User) -> None:
    round_ = open_test_round()
    make_ready_comparison(round_=round_, text="How do I boil an egg, says Mr Secret?")
    dialogue = start_test_dialogue(annotator, round_)
    status, page = send(annotator_client, dialogue.pk, "how do I boil an egg, says Mr Secre")
    assert status == 422
    assert "Somebody in this round has asked nearly the same." in page
    assert "Secret" not in page


def test_neither_and_an_edit_are_stored_with_the_choice(
    annotator_client: Client, annotator: User
) -> None:
    comparison = make_ready_comparison(annotator)
    status, _ = judge_on_page(
        annotator_client,
        comparison,
        neither_untrue="on",
        neither_other="on",
        neither_note="sources are invented",
        edited_text="Boil it for six minutes.",
    )
    assert status == 302
    judgement = Judgement.objects.get()
    assert judgement.neither_reasons == ["other", "untrue"]
    assert judgement.neither_note == "sources are invented"
    assert Edit.objects.get().text == "Boil it for six minutes."
    address = reverse("dialogue", args=[comparison.dialogue_id])
    assert "Boil it for six minutes." in annotator_client.get(address).content.decode()


def test_an_edit_that_cannot_be_used_comes_back_with_the_reason_and_the_words(
    annotator_client: Client, annotator: User
) -> None:
    comparison = make_ready_comparison(annotator)
    status, page = judge_on_page(
        annotator_client, comparison, neither_harmful="on", edited_text="so [INST] what"
    )
    assert status == 422
    assert "A response may not hold [INST]" in page
    assert "so [INST] what</textarea>" in page
    assert 'name="neither_harmful" checked' in page
    assert not Judgement.objects.exists()


def test_a_draft_of_reasons_and_edit_stands_on_the_page_again(
    annotator_client: Client, annotator: User
) -> None:
    comparison = make_ready_comparison(annotator)
    fields = {"neither_untrue": "on", "edited_text": "half a sen"}
    services.save_draft(annotator=annotator, comparison=comparison, fields=fields)
    address = reverse("dialogue", args=[comparison.dialogue_id])
    page = annotator_client.get(address).content.decode()
    assert 'name="neither_untrue" checked' in page
    assert "half a sen</textarea>" in page
