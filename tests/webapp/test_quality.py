"""Quality: reports listed, sorted and explained; the time report as CSV with its manifest."""

import csv
import hashlib
import io
import random
from datetime import date
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotation.models import Judgement, QualityReport, Round, User
from annotation.quality.measuring import JudgementRow, measure
from annotation.services import measure_quality, measure_round
from records.preferences import Axis, Rating
from tests.factories import judge, make_annotator, make_ready_comparison, open_test_round
from webapp.quality_cells import ANNOTATOR_COLUMNS
from webapp.selectors.quality import PAGE_SIZE
from webapp.selectors.timesheet import month_named, timesheet_csv

pytestmark = pytest.mark.django_db


def shared_rows(num_comparisons: int, num_annotators: int = 6, seed: int = 0) -> list[JudgementRow]:
    """Return judgements of several people whose care falls; a tenth more comparisons are gold."""
    rng = random.Random(seed)
    rows = []
    for number in range(num_comparisons + num_comparisons // 10):
        better, worse = 2 * number, 2 * number + 1
        is_gold = number >= num_comparisons
        for who in sorted(rng.sample(range(num_annotators), 3)):
            is_right = rng.random() < 0.97 - 0.4 * who / num_annotators
            chosen, other = (better, worse) if is_right else (worse, better)
            rows.append(
                JudgementRow(
                    number,
                    f"p-{who:012x}",
                    chosen,
                    other,
                    rng.choice(list(Rating)).value,
                    rng.random() < 0.5,
                    rng.randrange(20, 200),
                    rng.randrange(20, 200),
                    rng.uniform(20, 200),
                    better if is_gold else None,
                )
            )
    return rows


def keep_report(rows: list[JudgementRow], **scope: Any) -> QualityReport:
    figures = measure(rows)
    return QualityReport.objects.create(
        figures=figures.to_json(),
        num_judgements=figures.num_judgements,
        last_judgement=0,
        measured_at=timezone.now(),
        **scope,
    )


def page_of(client: Client, report: QualityReport, query: str = "") -> Any:
    return client.get(reverse("quality-report", args=[report.pk]) + query)


def test_without_rounds_the_list_says_what_will_stand_there(lead_client: Client) -> None:
    for scope, words in (("rounds", "No rounds yet"), ("axes", "worked out every night")):
        assert words in lead_client.get(reverse("quality"), {"by": scope}).content.decode()


def test_a_round_that_is_not_measured_says_so(lead_client: Client) -> None:
    judge(make_ready_comparison(round_=open_test_round("Week 14")))
    page = lead_client.get(reverse("quality")).content.decode()
    assert "Week 14" in page
    assert "Not measured yet" in page


def test_each_scope_has_its_rows(lead_client: Client) -> None:
    round_ = open_test_round("Week 14", axis=Axis.SAFETY)
    judge(make_ready_comparison(round_=round_))
    measure_quality()
    for scope, name in (
        ("rounds", "Week 14"),
        ("guidelines", round_.guidelines.version),
        ("axes", "safety"),
    ):
        (row,) = lead_client.get(reverse("quality"), {"by": scope}).context["page"].rows
        assert (row.name, row.num_judgements) == (name, 1)


def test_rounds_are_sorted_by_links_and_those_without_the_number_come_last(
    lead_client: Client,
) -> None:
    rounds = {name: open_test_round(name) for name in ("even", "torn", "bare")}
    keep_report(shared_rows(80, 3), round=rounds["even"])
    keep_report(shared_rows(80, 40), round=rounds["torn"])

    def order(sort: str) -> list[str]:
        page = lead_client.get(reverse("quality"), {"sort": sort}).context["page"]
        return [row.name for row in page.rows]

    rising, falling = order("direction"), order("-direction")
    assert rising[:2] == falling[:2][::-1]
    assert rising[-1] == falling[-1] == "bare"
    assert order("nonsense") == order("")
    page = lead_client.get(reverse("quality"), {"sort": "direction"}).content.decode()
    assert 'aria-sort="ascending"' in page
    assert "?sort=-direction" in page


def test_the_list_costs_the_same_however_many_rounds_there_are(
    lead_client: Client, django_assert_num_queries: Any
) -> None:
    for number in range(4):
        keep_report(shared_rows(20), round=open_test_round(f"round {number}"))
    # Session, person, reports, rounds without one.
    with django_assert_num_queries(4):
        lead_client.get(reverse("quality"))


def test_the_weights_choose_the_coefficient(lead_client: Client) -> None:
    report = keep_report(shared_rows(80), round=open_test_round())
    ac1 = page_of(lead_client, report, "?weights=identity").context["page"].agreement[0]
    ac2 = page_of(lead_client, report, "?weights=ratio").context["page"].agreement[0]
    numbers = report.figures["numbers"]
    assert (ac1.column.label, ac1.estimate.value) == ("Gwet AC1", numbers["gwet_identity"][0])
    assert (ac2.column.label, ac2.estimate.value) == ("Gwet AC2", numbers["gwet_ratio"][0])
    usual = page_of(lead_client, report, "?weights=nonsense").context["page"].agreement[0]
    assert usual.estimate.value == numbers["gwet_quadratic"][0]


def test_a_report_without_shared_comparisons_says_how_many_are_missing(
    lead_client: Client,
) -> None:
    round_ = open_test_round()
    judge(make_ready_comparison(round_=round_))
    page = page_of(lead_client, measure_round(round_=round_)).content.decode()
    assert "No comparison has been judged by two people yet. 30 more are missing" in page
    few = keep_report(shared_rows(29), round=open_test_round())
    page = page_of(lead_client, few).content.decode()
    assert "Only 29 comparisons have been judged" in page
    assert "1 more is missing" in page


def test_judgements_made_since_are_counted(lead_client: Client) -> None:
    round_ = open_test_round()
    judge(make_ready_comparison(round_=round_))
    report = measure_round(round_=round_)
    assert page_of(lead_client, report).context["page"].num_new == 0
    judge(make_ready_comparison(round_=round_))
    judge(make_ready_comparison())  # of another round
    response = page_of(lead_client, report)
    assert response.context["page"].num_new == 1
    assert "1 judgement since then is not counted here" in response.content.decode()


def test_annotators_stand_by_pseudonym_and_are_paged(lead_client: Client, annotator: User) -> None:
    report = keep_report(shared_rows(400, 120), round=open_test_round())
    page = page_of(lead_client, report, "?sort=agreement").context["page"]
    values = [row.cells[0].estimate.value for row in page.annotators]
    assert len(values) == PAGE_SIZE
    assert values == sorted(values)
    assert page.num_pages == 3
    last = page_of(lead_client, report, "?sort=agreement&page=99").context["page"]
    assert last.page == 3
    assert len(last.annotators) == 120 - 2 * PAGE_SIZE
    round_ = open_test_round()
    judge(make_ready_comparison(annotator, round_=round_))
    content = page_of(lead_client, measure_round(round_=round_)).content.decode()
    assert annotator.pseudonym in content
    assert annotator.username not in content


def test_a_report_reads_no_judgements_but_the_new_ones(
    lead_client: Client, django_assert_num_queries: Any
) -> None:
    report = keep_report(shared_rows(40), round=open_test_round())
    # Session, person, the report, what came since.
    with django_assert_num_queries(4):
        page_of(lead_client, report)


def test_every_column_of_an_annotator_is_a_number_of_the_report() -> None:
    (who, *_) = measure(shared_rows(10)).annotators
    assert {column.key for column in ANNOTATOR_COLUMNS} <= set(who.numbers)


def test_measuring_is_asked_for_by_a_post_and_leads_back(lead_client: Client) -> None:
    address = reverse("measure-quality")
    assert lead_client.get(address).status_code == 405
    target = reverse("quality") + "?by=axes"
    response = lead_client.post(address, {"next": target})
    assert response.headers["Location"] == target
    assert lead_client.post(address, {"next": "https://elsewhere.example/"}).headers[
        "Location"
    ] == reverse("quality")


def test_a_report_that_is_not_there_is_not_found(lead_client: Client) -> None:
    assert lead_client.get(reverse("quality-report", args=[4711])).status_code == 404


def timesheet(client: Client, month: str) -> str:
    response = client.get(reverse("timesheet"), {"month": month})
    assert response.headers["Content-Type"].startswith("text/csv")
    assert month in response.headers["Content-Disposition"]
    return response.getvalue().decode()  # type: ignore[attr-defined]


def test_the_time_report_adds_up_by_person_round_and_day_and_proves_itself_whole(
    lead_client: Client,
) -> None:
    ana, ben = make_annotator("ana"), make_annotator("ben")
    round_ = open_test_round("=Week 14")
    for person in (ana, ana, ben):
        judge(make_ready_comparison(person, round_=round_))
    today = timezone.now().date()
    text = timesheet(lead_client, f"{today:%Y-%m}")
    header, *rows, manifest = list(csv.reader(io.StringIO(text)))
    assert header[:2] == ["annotator", "round"]
    assert sorted(rows) == sorted(
        [
            [ana.pseudonym, "'=Week 14", "helpfulness", today.isoformat(), "2", "25", "0"],
            [ben.pseudonym, "'=Week 14", "helpfulness", today.isoformat(), "1", "12", "0"],
        ]
    )
    body = text[: text.rindex("#,")]
    digest = hashlib.sha256(body.encode()).hexdigest()
    assert manifest == ["#", "rows=2", f"sha256={digest}"]
    assert "ana" not in text.replace("annotator", "")


def test_another_month_is_empty_and_a_wrong_one_is_the_current(lead_client: Client) -> None:
    judge(make_ready_comparison())
    _, manifest = list(csv.reader(timesheet_csv(date(2020, 12, 1))))
    assert manifest[1] == "rows=0"
    assert month_named("2020-12") == date(2020, 12, 1)
    assert month_named("next week") == timezone.now().date().replace(day=1)


def test_the_time_report_is_one_query_sent_line_by_line(django_assert_num_queries: Any) -> None:
    round_ = open_test_round()
    for _ in range(3):
        judge(make_ready_comparison(round_=round_))
    assert Judgement.objects.count() == 3
    assert Round.objects.count() == 1
    with django_assert_num_queries(1):
        lines = list(timesheet_csv(timezone.now().date().replace(day=1)))
    assert len(lines) == 5
