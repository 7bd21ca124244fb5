"""Nothing typed is lost: to a closed browser, a lost connection, an ended session."""

import pytest
from django.contrib.sessions.models import Session
from django.urls import reverse
from playwright.sync_api import Page, expect

from annotation.models import Comparison, Dialogue, Draft, User
from tests.browser.conftest import OpenPage
from tests.factories import (
    PASSWORD,
    make_ready_comparison,
    make_user,
    open_test_round,
    start_test_dialogue,
)

pytestmark = pytest.mark.django_db(transaction=True)
WORDS = "A message that took long to write"


@pytest.fixture
def person(transactional_db: None) -> User:
    return make_user(User.Role.ANNOTATOR, "ana", password=PASSWORD)


@pytest.fixture
def dialogue(person: User) -> Dialogue:
    return start_test_dialogue(person, open_test_round())


def open_dialogue(open_page: OpenPage, dialogue: Dialogue) -> Page:
    return open_page(reverse("dialogue", args=[dialogue.pk]), user=dialogue.annotator)


def test_a_draft_is_saved_two_seconds_after_the_last_key_and_survives_closing_the_browser(
    open_page: OpenPage, dialogue: Dialogue
) -> None:
    page = open_dialogue(open_page, dialogue)
    page.get_by_label("Your first message").press_sequentially(WORDS)
    assert not Draft.objects.exists()
    expect(page.locator("[data-saved][data-state=saved]")).to_contain_text("Saved ")
    assert Draft.objects.get().fields == {"text": WORDS}
    page.context.close()

    again = open_dialogue(open_page, dialogue)
    expect(again.get_by_label("Your first message")).to_have_value(WORDS)


def test_control_s_saves_at_once(open_page: OpenPage, dialogue: Dialogue) -> None:
    page = open_dialogue(open_page, dialogue)
    page.get_by_label("Your first message").fill(WORDS)
    page.keyboard.press("Control+s")
    expect(page.locator("[data-saved][data-state=saved]")).to_be_visible(timeout=1500)
    assert Draft.objects.exists()


def test_words_typed_a_moment_before_a_reload_are_still_there(
    open_page: OpenPage, dialogue: Dialogue
) -> None:
    page = open_dialogue(open_page, dialogue)
    page.get_by_label("Your first message").press_sequentially(WORDS)
    page.reload()
    assert page.get_by_label("Your first message").input_value() == WORDS
    expect(page.locator("[data-saved][data-state=saved]")).to_be_visible()
    assert Draft.objects.get().fields == {"text": WORDS}


def test_without_a_connection_the_words_stay_in_the_browser_and_are_sent_later(
    open_page: OpenPage, dialogue: Dialogue
) -> None:
    page = open_dialogue(open_page, dialogue)
    page.context.set_offline(True)
    page.get_by_label("Your first message").fill(WORDS)
    expect(page.locator("[data-saved]")).to_contain_text("Not connected.")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("The server cannot be reached.")).to_be_visible()
    expect(page.get_by_label("Your first message")).to_have_value(WORDS)
    page.context.set_offline(False)
    expect(page.locator("[data-saved][data-state=saved]")).to_be_visible()
    assert Draft.objects.get().fields == {"text": WORDS}
    page.keyboard.press("Control+Enter")
    expect(page.locator(".waiting")).to_be_visible()
    assert Comparison.objects.get().prompt_text == WORDS


def test_an_ended_session_leads_through_the_sign_in_page_back_to_the_same_words(
    open_page: OpenPage, dialogue: Dialogue
) -> None:
    page = open_dialogue(open_page, dialogue)
    Session.objects.all().delete()
    page.get_by_label("Your first message").fill(WORDS)
    expect(page.locator("[data-saved]")).to_contain_text("You are signed out.")
    page.get_by_role("link", name="sign in").click()
    sign_in_by_hand(page)
    expect(page.get_by_label("Your first message")).to_have_value(WORDS)
    expect(page.locator("[data-saved][data-state=saved]")).to_be_visible()


def test_words_sent_after_the_session_ended_are_there_after_signing_in(
    open_page: OpenPage, dialogue: Dialogue
) -> None:
    page = open_dialogue(open_page, dialogue)
    Session.objects.all().delete()
    page.get_by_label("Your first message").fill(WORDS)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("What you typed is kept")).to_be_visible()
    sign_in_by_hand(page)
    expect(page.get_by_label("Your first message")).to_have_value(WORDS)
    assert page.url.endswith(reverse("dialogue", args=[dialogue.pk]))


def test_a_ticked_judgement_is_ticked_again_after_a_reload(
    open_page: OpenPage, person: User
) -> None:
    comparison = make_ready_comparison(person)
    page = open_page(reverse("dialogue", args=[comparison.dialogue_id]), user=person)
    page.keyboard.press("6")
    page.reload()
    expect(page.locator("input[name=choice]:checked")).to_have_attribute("data-number", "6")


def test_what_was_sent_leaves_nothing_behind_in_the_browser(
    open_page: OpenPage, dialogue: Dialogue
) -> None:
    page = open_dialogue(open_page, dialogue)
    page.get_by_label("Your first message").fill(WORDS)
    page.keyboard.press("Control+Enter")
    expect(page.locator(".waiting")).to_be_visible()
    assert page.evaluate("localStorage.length") == 0


def sign_in_by_hand(page: Page) -> None:
    page.get_by_label("User name").fill("ana")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
