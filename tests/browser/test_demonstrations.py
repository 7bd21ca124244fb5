"""Demonstrations and review by keyboard: nothing typed is lost, and without scripts too."""

import pytest
from django.contrib.sessions.models import Session
from django.urls import reverse
from playwright.sync_api import Page, expect

from annotation import services
from annotation.models import Demonstration, Draft, ReviewDecision, User
from tests.browser.conftest import OpenPage
from tests.factories import (
    PASSWORD,
    decide,
    make_demonstration,
    make_judgement,
    make_reviewer,
    make_user,
    open_test_assignment,
    start_test_demonstration,
)

pytestmark = pytest.mark.django_db(transaction=True)
ANSWER = "Eight minutes in boiling water"


@pytest.fixture
def person(transactional_db: None) -> User:
    return make_user(User.Role.ANNOTATOR, "ana", password=PASSWORD)


@pytest.fixture
def begun(person: User) -> Demonstration:
    return start_test_demonstration(person, open_test_assignment("Spring", max_turns=2))


def open_demonstration(open_page: OpenPage, begun: Demonstration, **options: object) -> Page:
    return open_page(reverse("demonstration", args=[begun.pk]), user=begun.author, **options)


def test_two_turns_are_written_and_sent_by_keyboard(
    open_page: OpenPage, begun: Demonstration
) -> None:
    page = open_demonstration(open_page, begun)
    page.get_by_label("The prompt").fill("How do I boil an egg?")
    page.get_by_label("The answer").press_sequentially(ANSWER)
    expect(page.locator("[data-saved][data-state=saved]")).to_contain_text("Saved ")
    assert Draft.objects.get().fields["response_0"] == ANSWER
    page.get_by_role("button", name="Add a turn").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("The user says")).to_have_count(2)
    expect(page.get_by_label("The assistant answers").first).to_have_value(ANSWER)
    page.get_by_label("The user says").nth(1).fill("And soft?")
    page.get_by_label("The assistant answers").nth(1).fill("Four.")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("button", name="Write the next one")).to_be_visible()
    begun.refresh_from_db()
    assert begun.current is not None
    assert [turn.response_text for turn in begun.current.turns.all()] == [ANSWER, "Four."]
    assert page.evaluate("localStorage.length") == 0


def test_what_is_refused_leads_to_the_first_field_that_is_wrong(
    open_page: OpenPage, begun: Demonstration
) -> None:
    page = open_demonstration(open_page, begun)
    page.get_by_label("The prompt").fill("How do I boil an egg?")
    page.get_by_role("button", name="Add a turn").click()
    page.get_by_label("The user says").nth(1).fill("And soft?")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("It is not sent yet")
    expect(page.get_by_label("The assistant answers").first).to_be_focused()
    expect(page.get_by_label("The assistant answers").first).to_be_in_viewport()


def test_words_survive_a_reload_and_an_ended_session(
    open_page: OpenPage, begun: Demonstration
) -> None:
    page = open_demonstration(open_page, begun)
    page.get_by_label("The answer").fill(ANSWER)
    page.reload()
    expect(page.get_by_label("The answer")).to_have_value(ANSWER)
    Session.objects.all().delete()
    page.get_by_label("The prompt").fill("How do I boil an egg?")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("What you typed is kept")).to_be_visible()
    page.get_by_label("User name").fill("ana")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_label("The prompt")).to_have_value("How do I boil an egg?")
    expect(page.get_by_label("The answer")).to_have_value(ANSWER)


def test_it_is_written_without_scripts(open_page: OpenPage, begun: Demonstration) -> None:
    page = open_demonstration(open_page, begun, java_script_enabled=False)
    page.get_by_label("The prompt").fill("How do I boil an egg?")
    page.get_by_role("button", name="Add a turn").click()
    page.get_by_role("button", name="Remove the last turn").click()
    page.get_by_label("The answer").fill(ANSWER)
    page.get_by_role("button", name="Send for review").last.click()
    expect(page.get_by_text("A reviewer reads it next").first).to_be_visible()
    begun.refresh_from_db()
    assert begun.state == "submitted"


def test_a_reviewer_decides_by_single_keys(open_page: OpenPage, person: User) -> None:
    first = make_demonstration("First?", "Won.", author=person)
    second = make_demonstration("Second?", "Two.", author=person)
    page = open_page(reverse("review-demonstration", args=[first.pk]), user=make_reviewer())
    page.keyboard.press("e")
    page.get_by_label("Answer").fill("One.")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("You have edited the words")
    page.get_by_role("button", name="Approve the edit").click()
    expect(page.get_by_text("Second?").first).to_be_visible()
    page.keyboard.press("r")
    expect(page.get_by_role("alert")).to_contain_text("Nothing is decided yet")
    page.locator("main").click(position={"x": 2, "y": 2})
    page.keyboard.press("f")
    page.keyboard.type("Spell it out.")
    expect(page.locator("[data-saved][data-state=saved]")).to_be_visible()
    page.get_by_role("button", name="Send back").click()
    expect(page.get_by_role("heading", name="Nothing waits for review")).to_be_visible()
    second.refresh_from_db()
    assert second.state == "rejected"


def test_a_comparison_is_accepted_and_taken_back_by_keys(open_page: OpenPage) -> None:
    comparison = make_judgement().comparison
    services.queue_gold_miss(comparison=comparison, reason="The gold answer is B.")
    page = open_page(reverse("review"), user=make_reviewer())
    page.keyboard.press("n")
    expect(page.get_by_text("The gold answer is B.")).to_be_visible()
    page.wait_for_load_state()  # until then no key is listened to
    page.keyboard.press("a")
    expect(page.get_by_role("heading", name="Nothing waits for a reviewer")).to_be_visible()
    page.goto(reverse("review-comparison", args=[comparison.pk]))
    page.keyboard.press("u")
    expect(page.get_by_text("Took back: accept")).to_be_visible()
    assert [row.kind for row in ReviewDecision.objects.order_by("pk")] == ["accept", "undo"]


def test_an_approved_edit_is_what_the_author_reads(
    open_page: OpenPage, begun: Demonstration
) -> None:
    done = make_demonstration("Third?", "Three.", author=begun.author)
    decide(done)
    page = open_page(reverse("demonstrations"), user=begun.author)
    page.get_by_role("link", name="Third?").click()
    expect(page.get_by_text("Models learn from it once")).to_be_visible()
