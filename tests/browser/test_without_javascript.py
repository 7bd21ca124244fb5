"""The annotator's task with scripts switched off: plain forms, and a page that reloads itself."""

import pytest
from playwright.sync_api import Page, expect

from annotation.models import Comparison, Judgement, User
from tests.browser.conftest import OpenPage
from tests.factories import draw_samples, make_ready_comparison, open_test_round

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def page(open_page: OpenPage, annotator: User) -> Page:
    open_test_round("Week 14", max_turns=2)
    return open_page("/annotate/", user=annotator, java_script_enabled=False)


def test_the_whole_task_works(page: Page, sampler_is_alive: None) -> None:
    page.get_by_role("button", name="Start a dialogue").click()
    page.get_by_label("Your first message").fill("How do I boil an egg?")
    page.get_by_role("button", name="Send to both").click()
    expect(page.get_by_role("link", name="Reload now")).to_be_visible()
    draw_samples(("In water.", "I do not know."))
    # The page reloads itself every three seconds.
    expect(page.get_by_text("In water.")).to_be_visible()
    page.locator("input[data-number='8']").check()
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_label("Your next message")).to_be_visible()
    judgement = Judgement.objects.get()
    assert (judgement.displayed_side, judgement.rating) == ("right", "significantly_better")
    page.get_by_role("button", name="Finish dialogue").click()
    expect(page.get_by_role("heading", name="Dialogue finished", level=2)).to_be_visible()


def test_a_missing_choice_comes_back_with_a_word(page: Page, annotator: User) -> None:
    comparison = make_ready_comparison(annotator)
    page.goto(f"/annotate/dialogues/{comparison.dialogue_id}/")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_contain_text("Choose one of the eight steps")


def test_sheets_open_and_a_pair_can_be_passed_on(page: Page, annotator: User) -> None:
    comparison = make_ready_comparison(annotator)
    page.goto(f"/annotate/dialogues/{comparison.dialogue_id}/")
    page.get_by_role("button", name="Skip").click()
    page.get_by_label("Both responses are unusable").check()
    page.get_by_role("button", name="Pass on").click()
    expect(page.get_by_text("Passed on.")).to_be_visible()
    assert Comparison.objects.get(pk=comparison.pk).skip_reason == "both_failed"


def test_the_guidelines_open(page: Page, annotator: User) -> None:
    comparison = make_ready_comparison(annotator)
    page.goto(f"/annotate/dialogues/{comparison.dialogue_id}/")
    page.get_by_role("link", name="Guidelines").click()
    expect(page.locator("#guidelines")).to_be_visible()


def test_the_theme_is_switched(page: Page) -> None:
    page.locator(".user-menu summary").click()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
