"""The reviewer's and the lead's pages of demonstrations, down to the SFT run."""

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from annotation.demonstration_selectors import reviews_of, revisions_of
from annotation.demonstration_sets import freeze_demonstrations
from annotation.models import Assignment, Demonstration, DemonstrationSet, User
from records.preferences import Axis
from registry.models import Run
from tests.factories import (
    decide,
    make_annotator,
    make_demonstration,
    make_guidelines,
    make_policy_version,
    open_test_assignment,
)

pytestmark = pytest.mark.django_db
KEY = "5f0c0f0e-6a0e-4d0c-9d7a-0e5b1f1f9a01"


@pytest.fixture
def sent() -> Demonstration:
    return make_demonstration(
        "How do I boil an egg?", "Eight minuts.", author=make_annotator("ana-maria")
    )


def address(demonstration: Demonstration) -> str:
    return reverse("review-demonstration", args=[demonstration.pk])


def form_of(demonstration: Demonstration, **changes: str) -> dict[str, str]:
    return {
        "client_key": KEY,
        "num_turns": "1",
        "revision_id": str(demonstration.current_id),
        "prompt_0": "How do I boil an egg?",
        "response_0": "Eight minuts.",
        "feedback": "",
        **changes,
    }


def test_the_queue_shows_what_waits_by_pseudonym(
    reviewer_client: Client, sent: Demonstration
) -> None:
    decide(make_demonstration("Decided?", "Yes."))
    page = reviewer_client.get(reverse("review-demonstrations")).content.decode()
    assert "How do I boil an egg?" in page
    assert sent.author.pseudonym in page
    assert "ana-maria" not in page
    assert "Decided?" not in page
    other = reviewer_client.get(reverse("review-demonstrations") + "?axis=safety").content.decode()
    assert "Nothing waits for review" in other


def test_the_queue_is_paged_by_id_at_the_same_cost(
    reviewer_client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    made = [make_demonstration() for _ in range(31)]
    with django_assert_max_num_queries(4):
        page = reviewer_client.get(reverse("review-demonstrations")).content.decode()
    assert address(made[29]) in page
    assert address(made[30]) not in page
    later = reviewer_client.get(reverse("review-demonstrations") + f"?after={made[29].pk}")
    assert address(made[30]) in later.content.decode()


def test_approving_leads_to_the_next(reviewer_client: Client, sent: Demonstration) -> None:
    following = make_demonstration()
    response = reviewer_client.post(address(sent), form_of(sent, decision="approved"))
    assert response.headers["Location"] == address(following)
    sent.refresh_from_db()
    assert sent.state == "approved"
    last = reviewer_client.post(
        address(following),
        form_of(
            following,
            client_key=KEY.replace("01", "02"),
            response_0="Eight minutes in boiling water.",
            decision="approved",
        ),
    )
    assert last.headers["Location"] == reverse("review-demonstrations")


def test_edited_words_are_approved_only_as_an_edit(
    reviewer_client: Client, sent: Demonstration
) -> None:
    mended = form_of(sent, response_0="Eight minutes.")
    response = reviewer_client.post(address(sent), {**mended, "decision": "approved"})
    page = response.content.decode()
    assert response.status_code == 422
    assert "You have edited the words" in page
    assert "Eight minutes." in page
    reviewer_client.post(address(sent), {**mended, "decision": "edited"})
    first, second = revisions_of(sent)
    assert second.written_by.username == "remy"
    assert [turn.response_text for turn in first.turns.all()] == ["Eight minuts."]
    assert [turn.response_text for turn in second.turns.all()] == ["Eight minutes."]


def test_sending_back_needs_feedback_and_keeps_the_categories(
    reviewer_client: Client, sent: Demonstration
) -> None:
    fields = form_of(sent, decision="rejected", category_language_errors="on")
    response = reviewer_client.post(address(sent), fields)
    assert response.status_code == 422
    assert "Say what the author should change" in response.content.decode()
    reviewer_client.post(address(sent), {**fields, "feedback": "It is minutes."})
    (review,) = reviews_of(sent)
    assert (review.decision, review.categories) == ("rejected", ["language_errors"])


def test_a_decision_that_comes_too_late_says_so(
    reviewer_client: Client, sent: Demonstration
) -> None:
    decide(sent)
    page = reviewer_client.post(
        address(sent), form_of(sent, decision="rejected", feedback="No."), follow=True
    ).content.decode()
    assert "is approved" in page
    assert len(reviews_of(sent)) == 1


def test_a_decision_is_taken_back_and_stays_in_the_history(
    reviewer_client: Client, sent: Demonstration
) -> None:
    decide(sent)
    reopen = reverse("reopen-demonstration", args=[sent.pk])
    page = reviewer_client.post(
        reopen, {"client_key": KEY, "note": "too soon"}, follow=True
    ).content.decode()
    assert "waits for a decision again" in page
    assert "Decision taken back" in page
    assert "too soon" in page
    assert [row.decision for row in reviews_of(sent)] == ["approved", "reopened"]


def test_a_reviewers_words_are_drafted_and_forgotten_with_a_new_revision(
    reviewer_client: Client, sent: Demonstration
) -> None:
    draft = reverse("demonstration-draft", args=[sent.pk])
    fields = {"revision_id": str(sent.current_id), "feedback": "Half a sentence"}
    assert reviewer_client.post(draft, fields).status_code == 200
    assert "Half a sentence" in reviewer_client.get(address(sent)).content.decode()
    reviewer_client.post(draft, {**fields, "revision_id": "0"})
    assert "Half a sentence" not in reviewer_client.get(address(sent)).content.decode()


def test_a_lead_opens_follows_and_closes_an_assignment(lead_client: Client, lead: User) -> None:
    guidelines = make_guidelines(lead=lead)
    fields = {
        "name": "Spring",
        "axis": "helpfulness",
        "guidelines": guidelines.pk,
        "vendor": "North",
        "target_demonstrations": "50",
        "max_turns": "2",
    }
    refused = lead_client.post(reverse("new-assignment"), {**fields, "axis": "safety"})
    assert refused.status_code == 422
    assert "for another axis" in refused.content.decode()
    lead_client.post(reverse("new-assignment"), fields)
    made = Assignment.objects.get()
    sent = make_demonstration("Hello?", "Hello.", assignment=made)
    page = lead_client.get(reverse("assignment", args=[made.pk])).content.decode()
    assert "North" in page
    assert sent.author.pseudonym in page
    lead_client.post(reverse("close-assignment", args=[made.pk]))
    made.refresh_from_db()
    assert not made.is_open


def test_the_leads_list_tells_vendors_apart(lead_client: Client) -> None:
    page = lead_client.get(reverse("assignments")).content.decode()
    assert "No assignments yet" in page
    decide(make_demonstration(assignment=open_test_assignment(vendor="North")))
    decide(make_demonstration(assignment=open_test_assignment()), "rejected")
    page = lead_client.get(reverse("assignments")).content.decode()
    assert "<strong>North</strong>" in page
    assert "<strong>No vendor</strong>" in page


def test_a_set_is_frozen_and_sft_is_started_from_its_page(lead_client: Client) -> None:
    assignment = open_test_assignment("Spring", axis=Axis.SAFETY)
    decide(make_demonstration("Hello?", "Hello.", assignment=assignment))
    empty = lead_client.post(reverse("freeze-demonstrations"), {"name": "SFT 1"})
    assert empty.status_code == 422
    assert "Choose at least one assignment." in empty.content.decode()
    lead_client.post(
        reverse("freeze-demonstrations"), {"name": "SFT 1", "assignments": [assignment.pk]}
    )
    made = DemonstrationSet.objects.get()
    page_address = reverse("demonstration-set", args=[made.pk])
    page = lead_client.get(page_address).content.decode()
    assert made.artifact.digest in page
    assert "No run has read it yet." in page

    base = make_policy_version("Base")
    settings = form_fields(lead_client, page_address)
    fields = {**settings, "output_name": "SFT", "policy": str(base.pk)}
    wrong = lead_client.post(page_address, {**fields, "num_epochs": "0"})
    assert wrong.status_code == 422
    lead_client.post(page_address, fields)
    run = Run.objects.get()
    assert {item.role: item.artifact for item in run.run_inputs.all()} == {
        "policy": base.artifact,
        "demonstrations": made.artifact,
    }
    assert (run.kind, run.output_name, run.config["num_epochs"]) == ("sft", "SFT", 2.0)
    taken = lead_client.post(page_address, fields)
    assert taken.status_code == 422
    assert "choose another name" in taken.content.decode()
    page = lead_client.get(page_address).content.decode()
    assert reverse("run", args=[run.pk]) in page
    assert "SFT 1" in lead_client.get(reverse("run", args=[run.pk])).content.decode()


def test_freezing_under_a_taken_name_says_so(lead_client: Client, lead: User) -> None:
    one, two = open_test_assignment(), open_test_assignment()
    for assignment in (one, two):
        decide(make_demonstration(assignment=assignment))
    freeze_demonstrations(assignments=[one], name="SFT 1", frozen_by=lead)
    response = lead_client.post(
        reverse("freeze-demonstrations"), {"name": "SFT 1", "assignments": [two.pk]}
    )
    assert response.status_code == 422
    assert "exists already" in response.content.decode()


def form_fields(client: Client, page: str) -> dict[str, str]:
    """Return the settings as the page fills them in."""
    form = client.get(page).context["form"]
    values = {field.name: field.value() for field in form}
    return {
        name: str(value)
        for name, value in values.items()
        if value is not None and value is not False
    }
