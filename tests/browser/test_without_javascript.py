"""The annotator's task with scripts switched off: plain forms, and a page that reloads itself."""

import pytest
from playwright.sync_api import Page, expect

from annotation.models import Comparison, Judgement, User
from records.preferences import Axis
from tests.annotation.test_slots import open_overlap_round
from tests.browser.conftest import OpenPage
from tests.factories import (
    draw_samples,
    judge,
    make_ready_comparison,
    open_imported_round,
    open_test_round,
    pair_line,
)

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


def test_a_safety_pair_is_judged_with_reasons_and_a_better_response(
    open_page: OpenPage, annotator: User
) -> None:
    round_ = open_test_round(axis=Axis.SAFETY, max_turns=1)
    comparison = make_ready_comparison(annotator, round_=round_)
    address = f"/annotate/dialogues/{comparison.dialogue_id}/"
    page = open_page(address, user=annotator, java_script_enabled=False)
    for side in "AB":
        page.get_by_text(f"Show response {side}").click()
    page.locator("input[data-number='1']").check()
    page.locator("input[name='safe'][value='right']").check()
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_contain_text("You prefer a response that you call unsafe")
    page.locator("input[name='safe'][value='both']").check()
    page.locator("summary", has_text="Neither is acceptable").click()
    page.get_by_label("Both say something untrue").check()
    page.locator("summary", has_text="Make the better one better still").click()
    page.get_by_label("The response as it should be").fill("Boil it for eight minutes.")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name="Dialogue finished", level=2)).to_be_visible()
    judgement = Judgement.objects.get()
    assert (judgement.displayed_side, judgement.safety_bin) == ("left", "both_safe")
    assert judgement.neither_reasons == ["untrue"]
    assert judgement.edit.text == "Boil it for eight minutes."


def test_a_pair_of_somebody_else_is_judged_taken_back_and_stands_again(
    page: Page, annotator: User
) -> None:
    judge(make_ready_comparison(round_=open_overlap_round(max_turns=1)))
    page.goto("/annotate/")
    page.get_by_role("button", name="Next task").click()
    page.locator("input[data-number='7']").check()
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("button", name="Take the last judgement back").click()
    expect(page.get_by_text("Judge this pair again, or let it stand.")).to_be_visible()
    expect(page.locator("input[data-number='7']")).to_be_checked()
    assert not Judgement.objects.filter(annotator=annotator).exists()
    page.get_by_role("button", name="Let it stand").click()
    expect(page.get_by_text("It stands as you had said it.")).to_be_visible()
    assert Judgement.objects.get(annotator=annotator).rating == "better"


def test_an_imported_pair_is_judged_and_the_next_one_follows(
    open_page: OpenPage, annotator: User
) -> None:
    open_imported_round(pair_line("tea"), pair_line("milk"))
    page = open_page("/annotate/", user=annotator, java_script_enabled=False)
    page.get_by_role("button", name="Begin").click()
    for number in (1, 8):
        page.locator(f"input[data-number='{number}']").check()
        page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name="Annotate")).to_be_visible()
    sides = Judgement.objects.order_by("pk").values_list("displayed_side", flat=True)
    assert list(sides) == ["left", "right"]


def test_the_guidelines_open(page: Page, annotator: User) -> None:
    comparison = make_ready_comparison(annotator)
    page.goto(f"/annotate/dialogues/{comparison.dialogue_id}/")
    page.get_by_role("link", name="Guidelines").click()
    expect(page.locator("#guidelines")).to_be_visible()


def test_the_theme_is_switched(page: Page) -> None:
    page.locator(".user-menu summary").click()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
