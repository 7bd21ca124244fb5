"""Tests, covers and breaks in Chromium: by keyboard, by a screen reader's tree, without scripts."""

import re

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from annotation import services
from annotation.models import Answer, Attempt, Comparison, Judgement, User
from annotation.services import PartFields, QuestionFields
from records.preferences import Axis
from tests.browser.conftest import NARROW, OpenPage
from tests.factories import make_qualification, make_ready_comparison, open_test_round

pytestmark = pytest.mark.django_db(transaction=True)

WRITTEN = QuestionFields("written", "Explain why the sky is blue.")
CHOICE = QuestionFields("choice", "Which is right?", ("This one.", "That one."), 0)


@pytest.fixture
def comparison(annotator: User) -> Comparison:
    return make_ready_comparison(annotator, round_=open_test_round(axis=Axis.SAFETY))


def open_dialogue(open_page: OpenPage, comparison: Comparison, **options: object) -> Page:
    address = reverse("dialogue", args=[comparison.dialogue_id])
    return open_page(address, user=comparison.dialogue.annotator, **options)


def test_covered_responses_are_shown_by_a_key_and_not_judged_unseen(
    open_page: OpenPage, comparison: Comparison
) -> None:
    page = open_dialogue(open_page, comparison)
    buttons = page.get_by_role("button", name=re.compile("Show response [AB]"))
    expect(buttons).to_have_count(2)
    # Out of reach for a screen reader as for the eye: it hears the button, not the words.
    assert "Boil it." not in page.locator("#main").aria_snapshot()

    page.keyboard.press("1")
    page.keyboard.press("s")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("covered until you ask to see them")
    expect(buttons.first).to_be_focused()
    assert not Judgement.objects.exists()

    page.keyboard.press("v")
    expect(buttons).to_have_count(0)
    assert "Boil it." in page.locator("#main").aria_snapshot()
    page.keyboard.press("Control+Enter")
    expect(page.get_by_label("Your next message")).to_be_visible()
    assert Judgement.objects.count() == 1


def test_one_response_is_shown_by_enter_and_the_other_stays_covered(
    open_page: OpenPage, comparison: Comparison
) -> None:
    page = open_dialogue(open_page, comparison)
    page.get_by_role("button", name="Show response A").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Show response A")).to_have_count(0)
    expect(page.get_by_role("button", name="Show response B")).to_be_visible()
    assert not Judgement.objects.exists()


def test_on_a_narrow_screen_a_covered_response_does_not_count_as_read(
    open_page: OpenPage, comparison: Comparison
) -> None:
    page = open_dialogue(open_page, comparison, viewport=NARROW)
    expect(page.get_by_role("button", name="Show response A")).to_be_in_viewport()
    tab = page.locator('.response-tabs a[href="#response-a"]')
    page.wait_for_timeout(300)
    expect(tab).not_to_have_attribute("data-seen", "")
    page.get_by_role("button", name="Show response A").click()
    expect(tab).to_have_attribute("data-seen", "")


def test_without_scripts_a_cover_is_a_disclosure(
    open_page: OpenPage, comparison: Comparison
) -> None:
    page = open_dialogue(open_page, comparison, java_script_enabled=False)
    text = comparison.samples.get(side="left").text
    expect(page.get_by_text(text)).to_be_hidden()
    page.get_by_text("Show response A").click()
    expect(page.get_by_text(text)).to_be_visible()


def test_a_test_is_taken_by_keyboard_and_a_killed_page_loses_nothing(
    open_page: OpenPage, annotator: User
) -> None:
    test = make_qualification(
        (PartFields("Write", rule="mean_grade", mark=4, minutes=5), [WRITTEN])
    )
    page = open_page(reverse("test", args=[test.pk]), user=annotator)
    expect(page.get_by_role("button", name="Begin")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile(r"[45]:\d\d left"))).to_be_visible()
    page.get_by_role("textbox").fill("Light is scattered")
    expect(page.locator("[data-saved]")).to_contain_text(re.compile(r"Saved \d"), timeout=20_000)
    address, context = page.url, page.context
    page.close()
    page = context.new_page()
    page.goto(address)
    expect(page.get_by_role("textbox")).to_have_value("Light is scattered")
    page.get_by_role("textbox").fill("Light is scattered by the air.")
    page.get_by_role("button", name="Hand in").dblclick()
    expect(page.get_by_text("It is being graded.")).to_be_visible()
    assert Answer.objects.get().value == "Light is scattered by the air."
    assert Attempt.objects.count() == 1


def test_what_stands_in_the_form_is_handed_in_when_the_time_is_up(
    open_page: OpenPage, annotator: User
) -> None:
    test = make_qualification((PartFields("Judge", minutes=1, mark=1.0), [CHOICE]))
    attempt = services.start_attempt(annotator=annotator, qualification=test)
    sitting = services.start_sitting(annotator=annotator, attempt=attempt)
    page = open_page(reverse("sitting", args=[sitting.pk]), user=annotator)
    page.get_by_label("This one.").check()
    page.clock.install()
    page.reload()
    page.get_by_label("This one.").check()
    page.clock.run_for(61_000)
    expect(page.get_by_text("You have passed.")).to_be_visible()
