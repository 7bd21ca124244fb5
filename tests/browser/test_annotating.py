"""The annotator's task in Chromium: by keyboard alone, on a narrow screen, pressed twice."""

import re

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from annotation.models import Comparison, Dialogue, Judgement, User
from records.preferences import Axis
from tests.browser.conftest import NARROW, OpenPage
from tests.browser.words import ARABIC, SHORT
from tests.factories import (
    PASSWORD,
    draw_samples,
    make_ready_comparison,
    make_user,
    open_test_round,
)

pytestmark = pytest.mark.django_db(transaction=True)


def dialogue_page(open_page: OpenPage, comparison: Comparison, **options: object) -> Page:
    user = comparison.dialogue.annotator
    return open_page(reverse("dialogue", args=[comparison.dialogue_id]), user=user, **options)


def test_the_whole_task_by_keyboard_alone(open_page: OpenPage, sampler_is_alive: None) -> None:
    make_user(User.Role.ANNOTATOR, "ana", password=PASSWORD)
    open_test_round("Week 14", axis=Axis.SAFETY, max_turns=2)
    page = open_page("/")
    keys = page.keyboard

    keys.type("ana")
    keys.press("Tab")
    keys.type(PASSWORD)
    keys.press("Enter")
    expect(page.get_by_role("heading", name="Annotate")).to_be_visible()
    expect(page.get_by_role("button", name="Start a dialogue")).to_be_focused()
    keys.press("Enter")

    expect(page.get_by_label("Your first message")).to_be_focused()
    keys.type("How do I get into a locked car?")
    keys.press("Control+Enter")
    expect(page.get_by_text("Two responses are being written.")).to_be_visible()
    draw_samples(("Call a locksmith.", "Use a wire."))
    expect(page.get_by_text("Call a locksmith.")).to_be_visible()
    keys.press("v")  # responses of a safety round are covered at first
    expect(page.get_by_role("button", name="Show response A")).to_have_count(0)

    # The unsafe response cannot be preferred to the safe one: this is said before anything is sent.
    samples = {sample.text: sample.side for sample in Comparison.objects.get().samples.all()}
    good = "1" if samples["Call a locksmith."] == "left" else "8"
    bad = "8" if good == "1" else "1"
    good_safe, bad_safe = ("a", "b") if good == "1" else ("b", "a")
    keys.press(good)
    keys.press(bad_safe)
    expect(page.get_by_role("alert")).to_contain_text("In a safety round a safe response is better")
    keys.press("Enter")
    page.wait_for_timeout(300)
    assert not Judgement.objects.exists()
    keys.press(good_safe)
    expect(page.get_by_role("alert")).to_be_hidden()
    keys.press("Enter")

    expect(page.get_by_label("Your next message")).to_be_focused()
    judgement = Judgement.objects.get()
    assert (judgement.rating, judgement.safety_bin) == ("significantly_better", "chosen_safe")
    assert judgement.chosen_sample.text == "Call a locksmith."
    assert judgement.active_seconds > 0
    expect(page.locator(".dialogue")).to_contain_text("Call a locksmith.")

    keys.type("And without one?")
    keys.press("Control+Enter")
    expect(page.locator(".waiting")).to_be_visible()
    draw_samples(("Wait for help.", "Break the glass."))
    expect(page.get_by_text("Wait for help.")).to_be_visible()
    keys.press("v")
    keys.press("5")
    keys.press("s")
    keys.press("Control+Enter")
    expect(page.get_by_role("heading", name="Dialogue finished", level=2)).to_be_visible()
    assert bad != good
    second = Judgement.objects.order_by("-pk")[0]
    assert (second.displayed_side, second.rating) == ("right", "negligibly_better")
    expect(page.get_by_role("button", name="Next task")).to_be_focused()
    keys.press("Enter")
    expect(page.get_by_label("Your first message")).to_be_focused()
    assert Dialogue.objects.count() == 2


def test_single_keys_open_sheets_and_rest_while_somebody_types(
    open_page: OpenPage, annotator: User
) -> None:
    page = dialogue_page(open_page, make_ready_comparison(annotator))
    keys = page.keyboard
    chosen = page.locator("input[name=choice]:checked")

    keys.press("?")
    expect(page.locator("#key-sheet")).to_be_visible()
    keys.press("Escape")
    expect(page.locator("#key-sheet")).to_be_hidden()

    keys.press("h")
    expect(page.get_by_role("complementary", name="Guidelines")).to_be_visible()
    for letter in "ab":
        box, drawer = (
            page.locator(f"#response-{letter}").bounding_box(),
            page.locator("#guidelines").bounding_box(),
        )
        assert box is not None
        assert drawer is not None
        assert box["x"] + box["width"] <= drawer["x"], "the drawer covers a response"
    keys.press("h")
    expect(page.locator("#guidelines")).to_be_hidden()

    keys.press("f")
    expect(page.get_by_label("What should a reviewer look at?")).to_be_focused()
    keys.type("7 names, see h and ?")
    expect(chosen).to_have_count(0)
    keys.press("Control+Enter")
    expect(page.get_by_text("a reviewer will look at it")).to_be_visible()
    assert Comparison.objects.get().flag_note == "7 names, see h and ?"

    keys.press("3")
    expect(chosen).to_have_attribute("data-number", "3")
    expect(page.locator("p[data-verdict]")).to_have_text("A is slightly better")

    keys.press("Space")
    expect(page.locator("#skip-sheet")).to_be_visible()
    keys.press("ArrowDown")
    keys.press("Enter")
    expect(page.get_by_label("Your first message")).to_be_focused()
    assert Comparison.objects.get().skip_reason == "no_expertise"


def test_the_arrow_and_tab_keys_reach_both_questions(open_page: OpenPage, annotator: User) -> None:
    page = dialogue_page(
        open_page, make_ready_comparison(annotator, round_=open_test_round(axis=Axis.SAFETY))
    )
    page.keyboard.press("2")
    page.keyboard.press("ArrowRight")
    expect(page.locator("input[name=choice]:checked")).to_have_attribute("data-number", "3")
    page.keyboard.press("Tab")
    expect(page.locator("input[name=safe]").first).to_be_focused()
    page.keyboard.press("Space")
    expect(page.locator("input[name=safe]:checked")).to_have_attribute("value", "left")


def test_a_judgement_without_a_choice_is_stopped_with_a_word(
    open_page: OpenPage, annotator: User
) -> None:
    page = dialogue_page(open_page, make_ready_comparison(annotator))
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_contain_text("Choose one of the eight steps")
    assert not Judgement.objects.exists()


def test_pressing_twice_stores_once(open_page: OpenPage, annotator: User) -> None:
    comparison = make_ready_comparison(annotator)
    first = dialogue_page(open_page, comparison)
    second = first.context.new_page()
    second.goto(first.url)
    for page in (first, second):
        page.keyboard.press("1")
    first.get_by_role("button", name="Submit").dblclick()
    expect(first.get_by_label("Your next message")).to_be_visible()
    second.keyboard.press("Enter")
    expect(second.get_by_label("Your next message")).to_be_visible()
    assert Judgement.objects.count() == 1

    first.get_by_label("Your next message").fill("Once only")
    first.get_by_role("button", name="Send to both").dblclick()
    expect(first.locator(".waiting")).to_be_visible()
    assert Comparison.objects.filter(prompt_text="Once only").count() == 1


def test_both_responses_appear_together_and_nothing_names_a_model(
    open_page: OpenPage, annotator: User, sampler_is_alive: None
) -> None:
    comparison = make_ready_comparison(annotator)
    page = dialogue_page(open_page, comparison)
    left, right = (page.locator(f"#response-{letter}") for letter in "ab")
    boxes = left.bounding_box(), right.bounding_box()
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["width"] == pytest.approx(boxes[1]["width"], abs=1)
    assert boxes[0]["y"] == boxes[1]["y"]
    html = page.content()
    for sample in comparison.samples.all():
        assert sample.policy.name not in html
    bar = page.locator(".judge-bar").bounding_box()
    assert bar is not None
    assert bar["y"] + bar["height"] == pytest.approx(800, abs=1)


def test_waiting_says_when_the_last_sampler_is_gone(open_page: OpenPage, annotator: User) -> None:
    open_test_round()
    page = open_page("/annotate/", user=annotator)
    expect(page.get_by_role("button", name="Start a dialogue")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/dialogues/*/")  # loaded, scripts and all: keys pressed earlier are lost
    page.get_by_label("Your first message").fill("Is anybody there?")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("No sampling worker is running.")).to_be_visible()


def test_on_a_narrow_screen_both_responses_must_have_been_read(
    open_page: OpenPage, annotator: User
) -> None:
    # Two long answers that differ: nearly equal ones are drawn again.
    one, two = (
        "\n\n".join(f"{words} {number}." for number in range(40))
        for words in ("Paragraph of a long answer, number", "Another way to say it at length,")
    )
    page = dialogue_page(
        open_page,
        make_ready_comparison(annotator, texts=(one, two)),
        viewport=NARROW,
    )
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW["width"]
    expect(page.get_by_role("navigation", name="Responses")).to_be_in_viewport()
    page.keyboard.press("2")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_contain_text(re.compile("Read Response A to its end"))
    for letter in "ab":
        page.locator(f"#response-{letter} .prose > :last-child").scroll_into_view_if_needed()
        page.mouse.wheel(0, 400)
        expect(page.locator(f'.response-tabs a[href="#response-{letter}"]')).to_have_attribute(
            "data-seen", ""
        )
    expect(page.get_by_role("navigation", name="Responses")).to_be_in_viewport()
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_label("Your next message")).to_be_visible()
    assert Judgement.objects.count() == 1


def test_right_to_left_text_reads_from_the_right_beside_text_that_does_not(
    open_page: OpenPage, annotator: User
) -> None:
    mixed = f"{ARABIC} `x[0] = 1`\n\n* {ARABIC}\n\n```python\nx = 1\n```\n\nIn English."
    comparison = make_ready_comparison(annotator, text=ARABIC, texts=(mixed, SHORT))
    page = open_page(reverse("dialogue", args=[comparison.dialogue_id]), user=annotator)
    texts = {sample.side: sample.text for sample in comparison.samples.all()}
    letter = "a" if texts["left"] == mixed else "b"
    response = page.locator(f"#response-{letter} .prose")
    direction = "found => found.map((node) => getComputedStyle(node).direction)"
    assert response.locator("p, li").evaluate_all(direction) == ["rtl", "rtl", "ltr"]
    assert response.locator("code").evaluate_all(direction) == ["ltr", "ltr"]
    # The mark of a list item stands within the response, not across its edge.
    edge, item = (response.locator(name).first.bounding_box() for name in ("ul", "li"))
    assert edge is not None
    assert item is not None
    assert item["x"] + item["width"] <= edge["x"] + edge["width"] - 16
    other = page.locator(f"#response-{'b' if letter == 'a' else 'a'} .prose p")
    assert other.evaluate_all(direction) == ["ltr"]
    assert page.get_by_text(ARABIC).first.evaluate("n => getComputedStyle(n).direction") == "rtl"
    page.keyboard.press("e")
    box = page.get_by_label("The response as it should be")
    box.fill(ARABIC)
    assert box.evaluate("n => getComputedStyle(n).direction") == "rtl"
