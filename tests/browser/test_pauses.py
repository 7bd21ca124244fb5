"""Maintenance in Chromium, from the lead's form to the annotator's page."""

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from annotation.models import Pause, User
from tests.browser.conftest import OpenPage
from tests.factories import open_test_round

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_lead_pauses_and_an_annotator_reads_why_until_it_is_over(
    open_page: OpenPage, lead: User, annotator: User
) -> None:
    open_test_round("Week 14")
    page = open_page(reverse("rounds"), user=lead)
    page.get_by_role("link", name="Pause annotation").click()
    page.get_by_label("What annotators read").fill("We replace a disk.")
    page.get_by_role("button", name="Pause annotation").click()
    expect(page.get_by_text("Annotation is paused.")).to_be_visible()

    theirs = open_page(reverse("annotate"), user=annotator)
    expect(theirs.get_by_role("heading", name="Paused for maintenance")).to_be_visible()
    expect(theirs.get_by_text("We replace a disk.")).to_be_visible()
    expect(theirs.get_by_role("button", name="Start a dialogue")).to_have_count(0)

    page.goto(reverse("dashboard"))
    page.get_by_role("button", name="End the pause").click()
    expect(page.get_by_text("The pause is over")).to_be_visible()
    assert Pause.objects.get().ended_by == lead
    theirs.get_by_role("link", name="Look again").click()
    expect(theirs.get_by_role("button", name="Start a dialogue")).to_be_visible()
