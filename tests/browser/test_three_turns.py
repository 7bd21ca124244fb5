"""Whole dialogues by keyboard alone, recorded: what goes wrong on the way costs no word.

No pointer is used and no field is filled from outside. One dialogue is answered by real sampling
of two tiny policies, so its responses are gibberish; the other by responses that a person wrote,
because a safety round needs one that is safe and one that is not.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.sessions.models import Session
from playwright.sync_api import Playwright, expect
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from annotation.models import (
    Comparison,
    Dialogue,
    Draft,
    Judgement,
    Retraction,
    Round,
    Sample,
    User,
)
from annotation.services import NewVariant, open_round
from language.models import save_model
from records.preferences import Axis
from registry.models import PolicyVersion
from registry.services import publish_artifact, register_policy
from tests.browser.recordings import Recording, folder_for
from tests.factories import (
    PASSWORD,
    draw_samples,
    make_guidelines,
    make_lead,
    make_user,
    open_test_round,
)
from tests.models import tiny_policy, tiny_tokenizer
from workers.sampling import sample_waiting_comparisons

pytestmark = pytest.mark.django_db(transaction=True)

FIRST, SECOND, THIRD = (
    "Tell me how to make tea.",
    "And which house is the best one by the river?",
    "What is the sum of 12 and 30?",
)


@pytest.fixture
def recording(
    request: pytest.FixtureRequest, playwright: Playwright, live_server: LiveServer, tmp_path: Path
) -> Iterator[Recording]:
    name = request.node.name.removeprefix("test_").replace("_", "-")
    complaints: list[str] = []
    made = Recording(playwright, live_server, folder_for(name, tmp_path), complaints)
    yield made
    made.close()
    assert complaints == []


@pytest.fixture
def ana(transactional_db: None) -> User:
    return make_user(User.Role.ANNOTATOR, "ana", password=PASSWORD)


@pytest.fixture
def sampled_round(
    transactional_db: None, settings: Settings, settings_of_browser_tests: None, tmp_path: Path
) -> Round:
    """A round that two tiny policies answer, in a few tokens and with room for three turns."""
    settings.SAMPLING_THREADS = 1
    lead = make_lead()
    return open_round(
        name="Week 14",
        axis=Axis.HELPFULNESS,
        guidelines=make_guidelines(lead=lead),
        variants=[
            NewVariant(registered(tmp_path / str(seed), seed), max_new_tokens=16) for seed in (1, 2)
        ],
        target_comparisons=100,
        max_turns=3,
        opened_by=lead,
    )


def registered(folder: Path, seed: int) -> PolicyVersion:
    # What a random model says takes several tokens a letter once it is history.
    save_model(tiny_policy(seed, max_positions=2048), tiny_tokenizer(), folder)
    artifact = publish_artifact(path=folder, kind="policy")
    return register_policy(name=f"tiny {seed}", artifact=artifact)


def sign_in_by_keys(recording: Recording) -> None:
    expect(recording.page.get_by_label("User name")).to_be_focused()
    recording.keys.type("ana")
    recording.keys.press("Tab")
    recording.keys.type(PASSWORD)
    recording.keys.press("Enter")


def start_by_keys(recording: Recording) -> None:
    expect(recording.page.get_by_role("button", name="Start a dialogue")).to_be_focused()
    recording.keys.press("Enter")
    expect(recording.page.get_by_label("Your first message")).to_be_focused()


def draw_by_sampling(recording: Recording) -> None:
    expect(recording.page.locator(".waiting")).to_be_visible()
    assert sample_waiting_comparisons() >= 1  # more where a pair was drawn anew
    expect(recording.page.get_by_role("article", name="Response B")).to_be_visible()


def draw_written(recording: Recording, safe: str, unsafe: str) -> tuple[str, str]:
    """Answer with two texts, uncover them, and return the letters under which they stand."""
    expect(recording.page.locator(".waiting")).to_be_visible()
    draw_samples((safe, unsafe))
    expect(recording.page.get_by_role("article", name="Response B")).to_be_visible()
    recording.keys.press("v")
    expect(recording.page.get_by_role("button", name=re.compile("Show response"))).to_have_count(0)
    return ("a", "b") if Sample.objects.get(text=safe).side == "left" else ("b", "a")


def test_a_helpfulness_dialogue_of_three_turns(
    recording: Recording, ana: User, sampled_round: Round, sampler_is_alive: None
) -> None:
    recording.open()
    recording.picture("sign-in")
    sign_in_by_keys(recording)
    start_by_keys(recording)
    recording.keys.type(FIRST)
    recording.picture("first-message")
    # Pressed twice: one comparison.
    recording.keys.press("Control+Enter")
    recording.keys.press("Control+Enter")
    draw_by_sampling(recording)
    recording.keys.press("h")
    expect(recording.page.get_by_role("complementary", name="Guidelines")).to_be_visible()
    recording.picture("guidelines-beside-the-pair")
    recording.keys.press("h")
    recording.keys.press("2")
    recording.keys.press("Enter")
    recording.keys.press("Enter")
    expect(recording.page.get_by_label("Your next message")).to_be_focused()
    assert Comparison.objects.get().prompt_text == FIRST
    assert Judgement.objects.get().rating == "better"

    # The machine goes down while somebody writes; another browser, and the words are there.
    recording.keys.type(SECOND)
    expect(recording.page.locator("[data-saved][data-state=saved]")).to_be_visible()
    recording.picture("before-the-browser-is-killed")
    recording.kill()
    assert Draft.objects.get().fields == {"text": SECOND}
    recording.open()
    sign_in_by_keys(recording)
    expect(recording.page.get_by_role("link", name=FIRST)).to_be_focused()
    recording.picture("where-ana-was")
    recording.keys.press("Enter")
    expect(recording.page.get_by_label("Your next message")).to_have_value(SECOND)
    recording.picture("the-same-words-in-a-new-browser")
    recording.keys.press("Control+Enter")
    draw_by_sampling(recording)
    recording.keys.press("7")
    recording.keys.press("Control+Enter")
    expect(recording.page.get_by_label("Your next message")).to_be_focused()

    recording.keys.type(THIRD)
    recording.keys.press("Control+s")
    expect(recording.page.locator("[data-saved][data-state=saved]")).to_be_visible()
    recording.keys.press("Control+Enter")
    draw_by_sampling(recording)
    recording.keys.press("4")
    recording.keys.press("Enter")
    expect(recording.page.get_by_role("heading", name="Dialogue finished", level=2)).to_be_visible()

    # On second thoughts: back, stand, back, and another step.
    recording.keys.press("z")
    ticked = recording.page.locator("input[name=choice]:checked")
    expect(ticked).to_have_attribute("data-number", "4")
    recording.picture("taken-back")
    recording.keys.press("z")
    expect(recording.page.get_by_role("heading", name="Dialogue finished", level=2)).to_be_visible()
    recording.keys.press("z")
    expect(ticked).to_have_attribute("data-number", "4")
    recording.keys.press("5")
    recording.keys.press("Enter")
    expect(recording.page.get_by_role("button", name="Next task")).to_be_focused()
    recording.picture("finished")

    judged = Judgement.objects.order_by("comparison__turn")
    assert list(judged.values_list("displayed_side", "rating")) == [
        ("left", "better"),
        ("right", "better"),
        ("right", "negligibly_better"),
    ]
    assert list(judged.values_list("comparison__prompt_text", flat=True)) == [FIRST, SECOND, THIRD]
    assert Judgement.with_retracted.count() == 4
    assert [row.is_active for row in Retraction.objects.order_by("pk")] == [False, True]
    assert Dialogue.objects.get().state == "finished"
    assert not Draft.objects.exists()


def test_a_safety_dialogue_of_three_turns(
    recording: Recording, ana: User, sampler_is_alive: None
) -> None:
    open_test_round("Week 14", axis=Axis.SAFETY, max_turns=3)
    page = recording.open() or recording.page
    sign_in_by_keys(recording)
    start_by_keys(recording)
    recording.keys.type("How do I get into a locked car?")
    recording.keys.press("Tab")
    recording.keys.type("Ill")  # a list goes to what begins with these letters
    recording.keys.press("Tab")
    recording.keys.type("Logic")
    recording.picture("first-message")
    recording.keys.press("Control+Enter")
    safe, unsafe = draw_written(recording, "Call a locksmith.", "Push a wire past the window.")
    number = {"a": "1", "b": "8"}

    # Prefers the unsafe one: stopped, explained, and mended by keys.
    recording.keys.press(number[unsafe])
    recording.keys.press(safe)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("In a safety round a safe response is better")
    recording.keys.press("Enter")
    page.wait_for_timeout(300)
    assert not Judgement.objects.exists()
    recording.picture("contradiction")
    recording.keys.press(number[safe])
    expect(alert).to_be_hidden()
    recording.picture("mended")
    recording.keys.press("Enter")
    expect(page.get_by_label("Your next message")).to_be_focused()

    # Signed out on the server while typing: after signing in, the same page and the same text.
    address = page.url
    recording.keys.type("I have lost my key, ")
    Session.objects.all().delete()
    recording.keys.type("and it rains.")
    words = "I have lost my key, and it rains."
    expect(page.locator("[data-saved]")).to_contain_text("You are signed out.")
    recording.picture("signed-out")
    link = page.get_by_role("link", name="sign in")
    for _ in range(3):  # past the two lists below the text
        recording.keys.press("Tab")
    expect(link).to_be_focused()
    recording.keys.press("Enter")
    sign_in_by_keys(recording)
    expect(page.get_by_label("Your next message")).to_have_value(words)
    assert page.url == address
    recording.picture("the-same-words-after-signing-in")
    recording.keys.press("Control+Enter")
    draw_written(recording, "Stay dry and wait for help.", "Break the small window.")
    recording.keys.press("f")
    recording.keys.type("One of them tells how to break in.")
    recording.keys.press("Control+Enter")
    expect(page.get_by_text("a reviewer will look at it")).to_be_visible()
    recording.keys.press("6")
    recording.keys.press("Tab")  # to the next question
    expect(page.locator("input[name=safe]").first).to_be_focused()
    recording.keys.press("s")
    recording.picture("both-safe")
    recording.keys.press("Enter")
    expect(page.get_by_label("Your next message")).to_be_focused()

    recording.keys.type("Nobody comes. What now?")
    recording.keys.press("Control+Enter")
    draw_written(recording, "Kick the door.", "Throw a stone.")
    recording.keys.press("?")
    expect(page.locator("#key-sheet")).to_be_visible()
    recording.picture("keys")
    recording.keys.press("Escape")
    recording.keys.press("Space")
    expect(page.locator("#skip-sheet")).to_be_visible()
    recording.keys.press("Escape")
    recording.keys.press("3")
    recording.keys.press("n")
    recording.keys.press("Enter")
    expect(page.get_by_role("heading", name="Dialogue finished", level=2)).to_be_visible()
    recording.picture("finished")

    judged = Judgement.objects.order_by("comparison__turn")
    assert list(judged.values_list("rating", "safety_bin")) == [
        ("significantly_better", "chosen_safe"),
        ("slightly_better", "both_safe"),
        ("slightly_better", "both_unsafe"),
    ]
    first = Comparison.objects.get(turn=0)
    assert (first.risk_category, first.attack_vector) == (
        "illicit_and_criminal",
        "logic_manipulation",
    )
    assert judged[0].chosen_sample.text == "Call a locksmith."
    assert Comparison.objects.get(turn=1).prompt_text == words
    assert Comparison.objects.get(is_flagged=True).turn == 1
