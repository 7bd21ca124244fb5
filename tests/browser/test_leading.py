"""A lead at work in Chromium: plots move, forms are filled, the theme stays."""

import re
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from annotation.models import Round, User
from registry import services
from registry.models import Run
from tests.browser.conftest import NARROW, OpenPage
from tests.factories import make_guidelines, make_policy_version
from tests.registry.factories import claimed, make_run, write_outputs

pytestmark = pytest.mark.django_db(transaction=True)


def record(run: Run, token: Any, step: int) -> None:
    row = {"step": step, "total_steps": 10, "loss": 1 / step, "reward": step / 10, "kl": step * 1.5}
    services.record_metrics(run=run, token=token, rows=[row])


def test_the_plots_of_a_run_move_while_the_lead_watches(open_page: OpenPage, lead: User) -> None:
    run, token = claimed(make_run(name="V1: tuning"))
    page = open_page(reverse("run", args=[run.pk]), user=lead)
    expect(page.get_by_text("No metrics yet")).to_be_visible()
    for step in (1, 2, 3):
        record(run, token, step)
    line = page.locator("polyline").first
    expect(line).to_be_visible()
    expect(page.get_by_text("step 3 of 10")).to_be_visible()
    before = line.get_attribute("points")

    table = page.locator("details[id$='-table']").first
    table.locator("summary").click()
    for step in (4, 5, 6):
        record(run, token, step)
    expect(page.get_by_text("step 6 of 10")).to_be_visible()
    assert page.locator("polyline").first.get_attribute("points") != before
    expect(page.locator("details[id$='-table']").first).to_have_attribute("open", "")

    result = write_outputs(run, {"loss": 0.125}, policy="weights")
    services.finish_run(run=run, token=token, result=result)
    expect(page.get_by_text("0.125")).to_be_visible()
    expect(page.locator("[hx-trigger]")).to_have_count(0)


def test_the_traceback_of_a_run_that_fails_appears_by_itself(
    open_page: OpenPage, lead: User
) -> None:
    run, token = claimed(make_run())
    page = open_page(reverse("run", args=[run.pk]), user=lead)
    failure = {"error": "MemoryError", "message": "out of memory", "traceback": "File x, line 3"}
    services.fail_run(run=run, token=token, failure=failure)
    expect(page.get_by_role("heading", name="MemoryError")).to_be_visible()
    expect(page.get_by_text("File x, line 3")).to_be_visible()


def test_a_round_is_opened(open_page: OpenPage, lead: User) -> None:
    for name in ("V1", "V2"):
        make_policy_version(name)
    guidelines = make_guidelines(lead=lead)
    page = open_page(reverse("new-round"), user=lead)
    page.get_by_label("Name", exact=True).fill("Week 14")
    page.get_by_label("Guidelines").select_option(str(guidelines.pk))
    page.get_by_role("button", name="Open the round").click()
    expect(page.get_by_text("Round Week 14 is open; annotators find it now.")).to_be_visible()
    assert Round.objects.get().variants.count() == 2


def test_enter_in_the_form_of_an_iteration_starts_it_and_fills_nothing_in(
    open_page: OpenPage, lead: User
) -> None:
    make_policy_version("SFT")
    page = open_page(reverse("new-iteration"), user=lead)
    page.get_by_label("Name", exact=True).focus()
    with page.expect_request(lambda request: request.method == "POST") as sent:
        page.keyboard.press("Enter")
    assert "fill_in" not in (sent.value.post_data or "")
    expect(page.locator(".field-error").first).to_be_visible()


def test_closing_asks_first(open_page: OpenPage, lead: User) -> None:
    run = make_run()
    page = open_page(reverse("run", args=[run.pk]), user=lead)
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Cancel").click()
    run.refresh_from_db()
    assert run.state == "queued"
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("The run is cancelled.")).to_be_visible()


def background_of(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_the_theme_follows_the_system_until_somebody_chooses(
    open_page: OpenPage, lead: User
) -> None:
    page = open_page("/dashboard/", user=lead, color_scheme="dark")
    dark = background_of(page)
    page.locator(".user-menu summary").click()
    page.get_by_role("button", name="Light").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    light = background_of(page)
    assert light != dark
    page.wait_for_load_state("networkidle")
    page.reload()
    assert background_of(page) == light


def test_a_help_text_opens_beside_its_field_and_closes_with_escape(
    open_page: OpenPage, lead: User
) -> None:
    make_policy_version("SFT")
    page = open_page(reverse("new-iteration"), user=lead)
    tip = page.locator("details.tip").first
    tip.locator("summary").click()
    expect(tip.locator(".tip-text")).to_be_visible()
    page.keyboard.press("Escape")
    expect(tip.locator(".tip-text")).to_be_hidden()


@pytest.mark.parametrize(
    "name",
    [
        "dashboard",
        "rounds",
        "new-round",
        "iterations",
        "new-iteration",
        "runs",
        "policies",
        "import-policy",
        "people",
    ],
)
def test_no_page_is_wider_than_a_narrow_screen(open_page: OpenPage, lead: User, name: str) -> None:
    make_policy_version("a-version-with-quite-a-long-name-of-its-own")
    make_guidelines(lead=lead)
    make_run(name="A run with a rather long name that has to go somewhere on the screen")
    page = open_page(reverse(name), user=lead, viewport=NARROW)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    page.get_by_label("Menu").click()
    menu = page.get_by_role("navigation", name="Pages")
    expect(menu.get_by_role("link", name=re.compile("^Policies$"))).to_be_visible()
