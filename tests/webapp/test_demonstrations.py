"""The author's pages: write, add turns, send once, read feedback, send again."""

import pytest
from django.test import Client
from django.urls import reverse

from annotation.demonstration_selectors import demonstration_draft, revisions_of
from annotation.models import Assignment, Demonstration, Draft, User
from records.preferences import Axis
from tests.factories import (
    decide,
    make_annotator,
    make_demonstration,
    open_test_assignment,
    start_test_demonstration,
    words,
)
from tests.webapp.conftest import signed_in

pytestmark = pytest.mark.django_db
KEY = "5f0c0f0e-6a0e-4d0c-9d7a-0e5b1f1f9a01"
WORDS = {"do": "submit", "client_key": KEY, "active_seconds": "30", "num_turns": "1"}
EGG = {**WORDS, "prompt_0": "How do I boil an egg?", "response_0": "Eight minutes.\r\nThen cool."}


@pytest.fixture
def begun(annotator: User) -> Demonstration:
    return start_test_demonstration(annotator, open_test_assignment("Spring", max_turns=2))


def address(demonstration: Demonstration, name: str = "demonstration") -> str:
    return reverse(name, args=[demonstration.pk])


def test_the_list_shows_open_assignments_and_what_came_back_first(
    annotator_client: Client, annotator: User
) -> None:
    waiting = make_demonstration("First?", "1.", author=annotator)
    back = make_demonstration("Second?", "2.", author=annotator)
    decide(back, "rejected")
    make_demonstration("Somebody else's?", "3.")
    open_test_assignment("Spring")
    page = annotator_client.get(reverse("demonstrations")).content.decode()
    assert "Spring" in page
    assert page.index("Second?") < page.index("First?")
    assert "came back with feedback" in page
    assert address(waiting) in page
    assert "Somebody else" not in page


def test_without_an_open_assignment_the_list_says_so(annotator_client: Client) -> None:
    page = annotator_client.get(reverse("demonstrations")).content.decode()
    assert "No assignment is open" in page


def test_beginning_twice_with_one_form_begins_one(annotator_client: Client) -> None:
    assignment = open_test_assignment()
    for _ in range(2):
        start = reverse("start-demonstration", args=[assignment.pk])
        response = annotator_client.post(start, {"client_key": KEY})
    begun = Demonstration.objects.get()
    assert response.headers["Location"] == address(begun)


def test_a_full_assignment_leads_back_with_a_word(annotator_client: Client) -> None:
    assignment = open_test_assignment(target_demonstrations=1)
    make_demonstration(assignment=assignment)
    start = reverse("start-demonstration", args=[assignment.pk])
    page = annotator_client.post(start, {"client_key": KEY}, follow=True).content.decode()
    assert "takes no more work" in page


def test_sending_stores_the_words_with_plain_line_ends(
    annotator_client: Client, begun: Demonstration
) -> None:
    for _ in range(2):
        page = annotator_client.post(address(begun), EGG, follow=True).content.decode()
    assert "A reviewer reads it next" in page
    (revision,) = revisions_of(begun)
    (turn,) = revision.turns.all()
    assert turn.response_text == "Eight minutes.\nThen cool."
    assert revision.active_seconds == 30.0


def test_what_is_missing_is_named_and_what_was_typed_stays(
    annotator_client: Client, begun: Demonstration
) -> None:
    fields = {**EGG, "response_0": "", "prompt_0": "My long question"}
    response = annotator_client.post(address(begun), fields)
    page = response.content.decode()
    assert response.status_code == 422
    assert "Write this first: it is empty." in page
    assert "My long question" in page
    response = annotator_client.post(address(begun), {**EGG, "prompt_0": "[INST] Hello"})
    assert response.status_code == 422
    assert "may not hold [INST]" in response.content.decode()


def test_a_turn_is_added_and_an_empty_one_removed_without_losing_a_word(
    annotator_client: Client, begun: Demonstration
) -> None:
    annotator_client.post(address(begun), {**EGG, "do": "add"})
    page = annotator_client.get(address(begun)).content.decode()
    assert 'name="prompt_1"' in page
    assert "Eight minutes." in page
    assert 'value="add"' not in page  # two turns are the most here

    two = {**EGG, "num_turns": "2", "prompt_1": "Why?", "response_1": ""}
    page = annotator_client.post(
        address(begun), {**two, "do": "remove"}, follow=True
    ).content.decode()
    assert "The last turn is not empty" in page
    assert "Why?" in page
    annotator_client.post(address(begun), {**two, "prompt_1": "", "do": "remove"})
    assert 'name="prompt_1"' not in annotator_client.get(address(begun)).content.decode()


def test_several_turns_are_sent_together(annotator_client: Client, begun: Demonstration) -> None:
    fields = {**EGG, "num_turns": "2", "prompt_1": "Why?", "response_1": "It sets."}
    annotator_client.post(address(begun), fields)
    (revision,) = revisions_of(begun)
    assert [turn.prompt_text for turn in revision.turns.all()] == ["How do I boil an egg?", "Why?"]


def test_a_safety_demonstration_asks_for_risk_and_attack_first(
    annotator_client: Client, annotator: User
) -> None:
    begun = start_test_demonstration(annotator, open_test_assignment(axis=Axis.SAFETY))
    page = annotator_client.get(address(begun)).content.decode()
    assert page.index("1. What it probes") < page.index("2. The adversarial prompt")
    assert page.index("2. The adversarial") < page.index("3. The safe and helpful answer")
    assert annotator_client.post(address(begun), EGG).status_code == 422
    fields = {**EGG, "risk_category": "unqualified_advice", "attack_vector": "logic_manipulation"}
    annotator_client.post(address(begun), fields)
    (revision,) = revisions_of(begun)
    assert revision.risk_category == "unqualified_advice"


def test_feedback_is_shown_with_the_words_to_change_and_no_reviewers_name(
    annotator_client: Client, begun: Demonstration
) -> None:
    annotator_client.post(address(begun), EGG)
    review = decide(begun, "rejected", feedback="Say how large the egg is.")
    page = annotator_client.get(address(begun)).content.decode()
    assert "Say how large the egg is." in page
    assert "Eight minutes." in page
    assert review.reviewer.username not in page

    again = {**EGG, "client_key": KEY.replace("01", "02"), "response_0": "Eight, if it is large."}
    annotator_client.post(address(begun), again)
    begun.refresh_from_db()
    assert (begun.state, begun.num_revisions) == ("submitted", 2)


def test_an_approved_edit_shows_what_models_learn_from_and_keeps_the_authors_words(
    annotator_client: Client, begun: Demonstration
) -> None:
    annotator_client.post(address(begun), EGG)
    decide(begun, "edited", edited=words("How do I boil an egg?", "Nine minutes."))
    page = annotator_client.get(address(begun)).content.decode()
    assert "Approved with edits." in page
    assert page.index("Nine minutes.") < page.index("Eight minutes.")


def test_a_draft_is_kept_and_answers_with_the_time(
    annotator_client: Client, begun: Demonstration
) -> None:
    fields = {"demonstration": begun.pk, "prompt_0": "Half a", "num_turns": "1"}
    response = annotator_client.post(address(begun, "demonstration-draft"), fields)
    assert response.json()["saved_at"]
    assert demonstration_draft(begun.author, begun) == {"prompt_0": "Half a", "num_turns": "1"}
    assert "Half a" in annotator_client.get(address(begun)).content.decode()
    too_long = annotator_client.post(
        address(begun, "demonstration-draft"), {"prompt_0": "x" * 1_000_001}
    )
    assert too_long.status_code == 400
    assert "1000000 characters" in too_long.json()["error"]


def test_words_sent_after_the_session_ended_stand_in_the_form_again(
    annotator: User, begun: Demonstration
) -> None:
    nobody = Client()
    page = nobody.post(address(begun), EGG, headers={"referer": address(begun)})
    assert page.status_code == 401
    assert "What you typed is kept" in page.content.decode()
    assert "Eight minutes." in page.content.decode()


def test_giving_up_frees_the_place_and_shows_what_is_kept(
    annotator_client: Client, begun: Demonstration
) -> None:
    annotator_client.post(address(begun, "demonstration-draft"), {"prompt_0": "Half a"})
    annotator_client.post(address(begun, "give-up"))
    assert Assignment.objects.get().num_reserved == 0
    page = annotator_client.get(address(begun)).content.decode()
    assert "Kept, not sent" in page
    assert "Half a" in page


def test_somebody_elses_demonstration_is_not_there(begun: Demonstration) -> None:
    stranger = signed_in(make_annotator())
    assert stranger.get(address(begun)).status_code == 404
    assert stranger.post(address(begun, "demonstration-draft"), {}).status_code == 404
    assert not Draft.objects.exists()


def test_htmx_gets_the_task_alone(annotator_client: Client, begun: Demonstration) -> None:
    page = annotator_client.get(address(begun), headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in page
    assert 'id="task"' in page
