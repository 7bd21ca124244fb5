"""The active time of a pair in the header: it runs while somebody is there, and is what is sent."""

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from annotation.models import Judgement, User
from tests.browser.conftest import NARROW, WIDE, OpenPage
from tests.factories import make_ready_comparison

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_header_shows_the_active_time_of_a_pair_and_stands_still_while_nobody_is_there(
    open_page: OpenPage, annotator: User
) -> None:
    comparison = make_ready_comparison(annotator)
    page = open_page(reverse("dialogue", args=[comparison.dialogue_id]), user=annotator)
    page.clock.install()
    page.reload()
    clock = page.locator("#active-time")
    expect(clock).to_have_text("0:00")
    expect(clock).to_have_attribute("aria-hidden", "true")
    page.clock.run_for(30_000)
    expect(clock).to_have_text("0:30")
    page.clock.run_for(600_000)
    expect(clock).to_have_attribute("data-away", "")
    expect(clock).to_have_text("1:00")
    page.keyboard.press("1")
    page.clock.run_for(5_000)
    expect(clock).to_have_text("1:05")

    page.set_viewport_size(NARROW)
    expect(clock).to_be_hidden()
    page.set_viewport_size(WIDE)
    expect(clock).to_be_visible()
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_label("Your next message")).to_be_visible()
    expect(page.locator("#active-time")).to_be_hidden()
    assert Judgement.objects.get().active_seconds == pytest.approx(65, abs=1.5)


def test_without_javascript_no_time_is_shown(open_page: OpenPage, annotator: User) -> None:
    comparison = make_ready_comparison(annotator)
    address = reverse("dialogue", args=[comparison.dialogue_id])
    page = open_page(address, user=annotator, java_script_enabled=False)
    expect(page.get_by_text("Boil it.")).to_be_visible()
    expect(page.locator("#active-time")).to_be_hidden()
