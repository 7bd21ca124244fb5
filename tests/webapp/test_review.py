"""Review: what was judged or flagged, and exclusion with a reason."""

import pytest
from django.test import Client
from django.urls import reverse

from annotation import services
from annotation.models import Exclusion, Judgement
from annotation.scale import Side
from records.preferences import Axis
from tests.factories import (
    judge,
    make_annotator,
    make_judgement,
    make_ready_comparison,
    make_reviewer,
    open_test_round,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def flagged() -> Judgement:
    comparison = make_ready_comparison(make_annotator("bo"), text="Who is the mayor?")
    services.flag_comparison(
        annotator=comparison.dialogue.annotator, comparison=comparison, note="names a person"
    )
    return judge(comparison, side=Side.RIGHT)


def page_at(client: Client, query: str = "") -> str:
    return client.get(reverse("review") + query).content.decode()


def test_flagged_judgements_come_first(reviewer_client: Client, flagged: Judgement) -> None:
    make_judgement()
    page = page_at(reviewer_client)
    assert page.count(reverse("judgement", args=[flagged.pk])) == 1
    assert "names a person" in page
    assert page.count('<a class="main"') == 1
    assert page_at(reviewer_client, "?show=all").count('<a class="main"') == 2


def test_flagged_pairs_that_nobody_has_judged_are_shown_too(reviewer_client: Client) -> None:
    comparison = make_ready_comparison(text="An odd question")
    services.flag_comparison(
        annotator=comparison.dialogue.annotator, comparison=comparison, note="odd"
    )
    assert "An odd question" in page_at(reviewer_client)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "Nothing is flagged"),
        ("?show=all", "Nothing has been judged yet"),
        ("?show=excluded", "Nothing is excluded"),
    ],
)
def test_an_empty_list_says_what_is_missing(
    reviewer_client: Client, query: str, words: str
) -> None:
    assert words in page_at(reviewer_client, query)


def test_a_judgement_is_shown_as_it_was_judged_by_pseudonym_and_without_models(
    reviewer_client: Client, flagged: Judgement
) -> None:
    page = reviewer_client.get(reverse("judgement", args=[flagged.pk])).content.decode()
    right = flagged.comparison.samples.get(side="right")
    assert "<h1>B is better</h1>" in page
    assert page.index("Response B") < page.index(right.text)
    assert flagged.annotator.pseudonym in page
    assert "bo" not in page.replace("body", "").replace("both", "").replace("box", "").split()
    for sample in flagged.comparison.samples.all():
        assert sample.policy.name not in page


def test_a_safety_judgement_shows_its_bin(reviewer_client: Client) -> None:
    judgement = make_judgement(round_=open_test_round(axis=Axis.SAFETY))
    page = reviewer_client.get(reverse("judgement", args=[judgement.pk])).content.decode()
    assert "both safe" in page


def test_excluding_takes_a_reason_and_keeps_the_judgement(
    reviewer_client: Client, flagged: Judgement
) -> None:
    address = reverse("judgement", args=[flagged.pk])
    response = reviewer_client.post(address, {"note": "x"})
    assert response.status_code == 422
    assert "Choose a reason." in response.content.decode()

    fields = {"reason": "personal_data", "note": "a phone number"}
    page = reviewer_client.post(address, fields, follow=True).content.decode()

    exclusion = Exclusion.objects.get()
    assert (exclusion.judgement, exclusion.reason) == (flagged, "personal_data")
    assert exclusion.reviewer.username == "remy"
    assert "Excluded</strong> by remy" in page
    assert "a phone number" in page
    assert Judgement.objects.filter(pk=flagged.pk).exists()
    assert reverse("judgement", args=[flagged.pk]) in page_at(reviewer_client, "?show=excluded")


def test_the_first_exclusion_stands(reviewer_client: Client, flagged: Judgement) -> None:
    services.exclude_judgement(reviewer=make_reviewer(), judgement=flagged, reason="spam")
    address = reverse("judgement", args=[flagged.pk])
    reviewer_client.post(address, {"reason": "other"})
    assert Exclusion.objects.get().reason == "spam"


def test_older_judgements_come_on_further_pages(reviewer_client: Client) -> None:
    round_, person = open_test_round(max_turns=1), make_annotator()
    made = [make_judgement(person, round_=round_) for _ in range(31)]
    first = page_at(reviewer_client, "?show=all")
    assert first.count('<a class="main"') == 30
    assert reverse("judgement", args=[made[0].pk]) not in first
    older = page_at(reviewer_client, f"?show=all&before={made[1].pk}")
    assert reverse("judgement", args=[made[0].pk]) in older


def test_a_judgement_that_is_not_there_is_404(reviewer_client: Client) -> None:
    assert reviewer_client.get(reverse("judgement", args=[999])).status_code == 404
