"""The pay report on its page and as a file."""

import csv
import hashlib
import io
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotation.models import Judgement, User
from annotation.pay import last_full_week
from tests.factories import make_annotator, make_demonstration, make_judgement
from webapp.selectors import pay as read

pytestmark = pytest.mark.django_db


def this_week() -> dict[str, str]:
    day = timezone.now().date()
    return {"first": f"{day - timedelta(days=6)}", "last": f"{day}"}


def lines_of(client: Client, **query: str) -> list[list[str]]:
    response = client.get(reverse("pay-csv"), query)
    assert response.headers["Content-Type"].startswith("text/csv")
    assert f"{query['first']}-{query['last']}" in response.headers["Content-Disposition"]
    text = response.getvalue().decode()  # type: ignore[attr-defined]
    digest = hashlib.sha256(text[: text.rindex("#,")].encode()).hexdigest()
    lines = list(csv.reader(io.StringIO(text)))
    assert lines[-1] == ["#", f"rows={len(lines) - 2}", f"sha256={digest}"]
    return lines[1:-1]


def test_people_are_named_and_columns_add_up_and_no_pseudonym_is_told(lead_client: Client) -> None:
    ana, ben = make_annotator("ana"), make_annotator("ben")
    for person in (ana, ana, ben):
        make_judgement(person)
    Judgement.objects.filter(annotator=ana).update(active_seconds=1800)
    Judgement.objects.filter(annotator=ben).update(active_seconds=0)
    make_demonstration(author=ben)

    response = lead_client.get(reverse("pay"), this_week())
    page = response.content.decode()

    assert response.status_code == 200
    for words in (">ana<", ">ben<", "1.00", "0.02", "<strong>1.02</strong>", "2 people"):
        assert words in page, words
    assert "1 judgement came without a time" in page
    assert "0.00*" in page
    for person in (ana, ben):
        assert person.pseudonym not in page
    total = response.context["page"].total
    assert (total.num_judgements, total.own_seconds, total.total_seconds) == (3, 3600, 3660)


def test_the_last_full_week_is_shown_unless_asked_for_another_span(lead_client: Client) -> None:
    judgement = make_judgement(make_annotator("ana"))
    page = lead_client.get(reverse("pay")).content.decode()
    week = last_full_week(timezone.now().date())
    assert f'value="{week.first}"' in page
    assert f'value="{week.last}"' in page
    assert "Nobody worked in these days" in page
    sunday = timezone.now() - timedelta(days=timezone.now().isoweekday())
    Judgement.objects.filter(pk=judgement.pk).update(created_at=sunday)
    assert ">ana<" in lead_client.get(reverse("pay")).content.decode()


TODAY = timezone.now().date()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"first": "2026-01-01"}, "Last day: write a date such as 2026-11-23."),
        ({"first": "", "last": "2026-01-01"}, "First day: write a date such as"),
        ({"first": "yesterday", "last": "2026-01-01"}, "First day: write a date such as"),
        (
            {"first": "2026-01-05", "last": "2026-01-04"},
            "Last day: 2026-01-04 is before the first day, 2026-01-05.",
        ),
        (
            {"first": "2026-01-01", "last": "2026-04-03"},
            "Last day: 93 days from the first; at most 92.",
        ),
        (
            {"first": f"{TODAY}", "last": f"{TODAY + timedelta(days=2)}"},
            f"Last day: {TODAY + timedelta(days=2)} is after today",
        ),
        ({"first": "0001-01-01", "last": "9999-12-31"}, "Last day: 9999-12-31 is after today"),
    ],
)
@pytest.mark.parametrize("name", ["pay", "pay-csv"])
def test_a_span_that_cannot_be_names_the_field_and_its_bound(
    lead_client: Client, name: str, query: dict[str, str], words: str
) -> None:
    response = lead_client.get(reverse(name), query)
    assert response.status_code == 422
    assert words in response.content.decode()


def test_the_longest_span_is_taken(lead_client: Client) -> None:
    query = {"first": "2026-01-01", "last": "2026-04-02"}
    assert lead_client.get(reverse("pay"), query).status_code == 200


def test_the_file_says_what_the_page_says_and_proves_itself_whole(lead_client: Client) -> None:
    make_judgement(make_annotator("=ana"))
    make_demonstration(author=User.objects.get(username="=ana"))
    week = this_week()
    (line,) = lines_of(lead_client, **week)
    span = [week["first"], week["last"]]
    assert line == ["'=ana", *span, "1", "0", "0", "1", "0", "12", "0", "60", "72"]
    assert len(line) == len(read.HEADER)


def test_the_file_is_one_statement_sent_line_by_line(
    lead_client: Client, django_assert_num_queries: Any
) -> None:
    for _ in range(3):
        make_judgement()
    response = lead_client.get(reverse("pay-csv"), this_week())
    assert response.streaming  # type: ignore[attr-defined]
    with django_assert_num_queries(1):
        lines = list(response.streaming_content)  # type: ignore[attr-defined]
    assert len(lines) == 5


def test_the_page_shows_so_many_people_and_sums_over_all(
    lead_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "MAX_ROWS", 2)
    for name in ("ana", "ben", "cyn"):
        make_judgement(make_annotator(name))
    response = lead_client.get(reverse("pay"), this_week())
    page = response.content.decode()
    assert ">ben<" in page
    assert ">cyn<" not in page
    assert "The first 2 people are shown" in page
    assert response.context["page"].total.num_judgements == 3
    assert len(lines_of(lead_client, **this_week())) == 3


def test_the_page_of_people_leads_there(lead_client: Client) -> None:
    assert reverse("pay") in lead_client.get(reverse("people")).content.decode()
