"""Imported dialogues in Chromium: by keyboard alone, and the form that opens their round."""

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from annotation.models import Judgement, Round, User
from tests.browser.conftest import OpenPage
from tests.factories import (
    draw_ahead,
    draw_samples,
    lines_of,
    make_guidelines,
    make_policy_version,
    open_imported_round,
    prompt_line,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_imported_dialogues_follow_each_other_by_keyboard_alone(
    open_page: OpenPage, annotator: User, sampler_is_alive: None
) -> None:
    open_imported_round(
        prompt_line("a", "How do I boil an egg?", "And how long?"), prompt_line("b", "What is tea?")
    )
    page = open_page(reverse("annotate"), user=annotator)
    keys = page.keyboard
    expect(page.get_by_role("button", name="Begin")).to_be_focused()
    keys.press("Enter")

    expect(page.get_by_text("How do I boil an egg?")).to_be_visible()
    expect(page.get_by_text("Two responses are being written.")).to_be_visible()
    expect(page.get_by_role("textbox")).to_have_count(0)
    draw_samples(("Boil it.", "I do not know."))
    draw_ahead(("Eight minutes.", "Until it is done."))
    expect(page.get_by_text("Boil it.")).to_be_visible()
    keys.press("1")
    keys.press("Enter")

    # The next pair is there already: no word of waiting.
    expect(page.get_by_text("And how long?")).to_be_visible()
    expect(page.get_by_text("Eight minutes.")).to_be_visible()
    draw_ahead(("A drink.", "A leaf, dried."))
    keys.press("7")
    keys.press("Enter")

    expect(page.get_by_text("What is tea?")).to_be_visible()
    expect(page.get_by_text("A leaf, dried.")).to_be_visible()
    keys.press("8")
    keys.press("Enter")
    expect(page.get_by_role("heading", name="This round is complete")).to_be_visible()
    ratings = list(Judgement.objects.order_by("pk").values_list("rating", flat=True))
    assert ratings == ["significantly_better", "better", "significantly_better"]


def test_the_form_asks_what_the_source_needs(open_page: OpenPage, lead: User) -> None:
    make_guidelines(lead=lead)
    for name in ("V1", "V2"):
        make_policy_version(name)
    page = open_page(reverse("new-round"), user=lead)
    file = page.get_by_label("File of prompts or pairs")
    expect(file).to_be_hidden()
    expect(page.get_by_label("Target")).to_be_visible()
    page.get_by_label("Imported pairs of responses").check()
    expect(file).to_be_visible()
    expect(page.get_by_label("Target")).to_be_hidden()
    expect(page.get_by_role("heading", name="Who answers")).to_be_hidden()
    page.get_by_label("Imported prompts").check()
    expect(page.get_by_role("heading", name="Who answers")).to_be_visible()

    page.get_by_label("Name", exact=True).fill("Week 14")
    page.get_by_label("Guidelines").select_option(index=1)
    content = lines_of([prompt_line("a", "How do I boil an egg?", "And how long?")])
    upload = {"name": "week.jsonl", "mimeType": "application/jsonl", "buffer": content}
    file.set_input_files(files=[upload])  # type: ignore[list-item]
    page.get_by_role("button", name="Open the round").click()
    expect(page.get_by_role("heading", name="Week 14")).to_be_visible()
    assert Round.objects.get().target_comparisons == 2
