"""Who worked how much in a span of days: counted once each, and read by indexes."""

import uuid
from datetime import UTC, date, datetime, time, timedelta

import pytest
from django.db import connection
from django.db.models import Model
from django.utils import timezone

from annotation import services
from annotation.errors import NotAllowedError
from annotation.models import (
    Comparison,
    DemonstrationRevision,
    Judgement,
    Sitting,
    SlotSkip,
    User,
)
from annotation.pay import PAY, PayRow, Span, last_full_week, pay_parameters, pay_rows
from benchmarks import annotator_seed
from tests.annotation.test_plans import scans_of
from tests.annotation.test_slots import claim, open_overlap_round
from tests.factories import (
    decide,
    judge,
    judge_slot,
    make_annotator,
    make_demonstration,
    make_judgement,
    make_lead,
    make_qualification,
    make_ready_comparison,
    make_reviewer,
    open_test_round,
    take_part,
    words,
)

pytestmark = pytest.mark.django_db

WEEK = Span(date(2026, 3, 2), date(2026, 3, 8))
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


def move(row: Model, to: datetime, field: str = "created_at") -> None:
    """Let something have happened at another time."""
    type(row)._base_manager.filter(pk=row.pk).update(**{field: to})


def report(span: Span = WEEK) -> list[PayRow]:
    return list(pay_rows(make_lead(), span))


def today() -> Span:
    day = timezone.now().date()
    return Span(day, day)


def test_each_kind_of_work_is_counted_and_timed_in_its_own_column() -> None:
    ana = make_annotator("ana")
    judge(make_ready_comparison(ana))  # 12.5 seconds
    make_judgement(make_annotator("ben"), round_=open_overlap_round())
    judge_slot(claim(ana))  # 9 seconds
    skipped = make_ready_comparison(ana)
    services.skip_comparison(annotator=ana, comparison=skipped, reason="too_disturbing")
    other = make_ready_comparison(ana)
    services.skip_comparison(annotator=ana, comparison=other, reason="no_expertise")
    make_judgement(make_annotator("cyn"), round_=open_overlap_round())
    services.skip_slot(annotator=ana, slot=claim(ana), reason="too_disturbing")
    make_demonstration(author=ana)  # 60 seconds
    take_part(ana, make_qualification(), 0)
    take_part(ana, make_qualification(), 0, submits=False)

    rows = {row.username: row for row in report(today())}

    assert list(rows) == ["ana", "ben", "cyn"]
    assert rows["ana"] == PayRow("ana", 2, 0, 2, 1, 1, 12, 9, 60)
    assert rows["ana"].total_seconds == 81
    assert rows["ben"] == PayRow("ben", 1, 0, 0, 0, 0, 12, 0, 0)


def test_what_was_taken_back_counts_in_the_time_alone() -> None:
    judgement = make_judgement(make_annotator("ana"))
    services.retract_judgement(
        annotator=judgement.annotator, judgement=judgement, client_key=uuid.uuid4()
    )
    assert report(today()) == [PayRow("ana", 0, 0, 0, 0, 0, 12, 0, 0)]


def test_a_judgement_without_a_time_is_counted_as_such() -> None:
    Judgement.objects.filter(pk=make_judgement(make_annotator("ana")).pk).update(active_seconds=0)
    assert report(today()) == [PayRow("ana", 1, 1, 0, 0, 0, 0, 0, 0)]


def test_a_demonstration_is_counted_once_and_each_revision_of_its_author_timed() -> None:
    ana, remy = make_annotator("ana"), make_reviewer("remy")
    demonstration = make_demonstration(author=ana)
    decide(demonstration, "rejected", reviewer=remy)
    services.submit_demonstration(
        author=ana, demonstration=demonstration, revision=words(), client_key=uuid.uuid4()
    )
    assert report(today()) == [PayRow("ana", 0, 0, 0, 1, 0, 0, 0, 120)]


@pytest.mark.parametrize("kind", ["judgement", "skip", "skip of a slot", "demonstration", "part"])
def test_a_span_holds_its_first_and_last_day_whole_and_nothing_else(kind: str) -> None:
    ana = make_annotator("ana")
    row, field = _done(kind, ana), "created_at"
    if kind == "part":
        field = "submitted_at"
        Sitting.objects.update(started_at=MONDAY - timedelta(days=9))
    moment = timedelta(microseconds=1)
    end = MONDAY + timedelta(days=7)
    for at, is_within in (
        (MONDAY - moment, False),
        (MONDAY, True),
        (end - moment, True),
        (end, False),
    ):
        move(row, at, field)
        assert bool(report()) is is_within, at


def _done(kind: str, ana: User) -> Model:
    if kind == "judgement":
        return make_judgement(ana)
    if kind == "demonstration":
        make_demonstration(author=ana)
        return DemonstrationRevision.objects.get()
    if kind == "part":
        take_part(ana, make_qualification(), 0)
        return Sitting.objects.get()
    if kind == "skip":
        skipped = make_ready_comparison(ana)
        services.skip_comparison(annotator=ana, comparison=skipped, reason="too_disturbing")
        return Comparison.objects.get()
    move(make_judgement(make_annotator(), round_=open_overlap_round()), MONDAY - timedelta(days=99))
    services.skip_slot(annotator=ana, slot=claim(ana), reason="too_disturbing")
    return SlotSkip.objects.get()


def test_programs_and_idle_people_are_left_out_and_who_is_a_reviewer_by_now_is_not() -> None:
    make_judgement(make_annotator(persona="careful"))
    make_annotator("idle")
    ana = make_annotator("ana")
    make_judgement(ana)
    User.objects.filter(pk=ana.pk).update(role=User.Role.REVIEWER, is_active=False)
    assert [row.username for row in report(today())] == ["ana"]


def test_leads_alone_are_told() -> None:
    for person in (make_annotator(), make_reviewer()):
        with pytest.raises(NotAllowedError):
            pay_rows(person, WEEK)


@pytest.mark.parametrize(
    ("day", "first", "last"),
    [
        (date(2026, 11, 28), date(2026, 11, 16), date(2026, 11, 22)),  # a Saturday
        (date(2026, 11, 29), date(2026, 11, 16), date(2026, 11, 22)),  # a Sunday is not over
        (date(2026, 11, 30), date(2026, 11, 23), date(2026, 11, 29)),  # a Monday
    ],
)
def test_the_last_full_week_is_over(day: date, first: date, last: date) -> None:
    assert last_full_week(day) == Span(first, last)
    assert Span(first, last).num_days == 7


@pytest.mark.django_db(transaction=True)
def test_among_many_judgements_those_of_the_span_are_found_by_index_scans_alone() -> None:
    round_ = open_test_round(target_comparisons=8000)
    authors = [make_annotator().pk for _ in range(3)]
    annotator_seed.fill(
        annotator_seed.Seed(
            round_id=round_.pk,
            guidelines_id=round_.guidelines_id,
            policy_id=round_.variants.first().policy_id,  # type: ignore[union-attr]
            author_ids=authors,
            reader_names=[],
        ),
        first=1,
        last=8000,
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE annotation_judgement SET created_at = now() - id % 365 * interval '1 day'"
        )
        cursor.execute("ANALYZE annotation_judgement, annotation_comparison, annotation_dialogue")
    span = last_full_week(timezone.now().date())

    sql = PAY % {name: f"'{at.isoformat()}'" for name, at in pay_parameters(span).items()}

    big = ("annotation_judgement", "annotation_comparison", "annotation_dialogue")
    scans = list(scans_of(sql))
    assert not [scan for scan in scans if scan[0] == "Seq Scan" and scan[1] in big], scans
    indexes = {index for _, _, index in scans}
    assert {"annotation_judgement_of_day", "annotation_pair_disturbing"} <= indexes, scans
    start = datetime.combine(span.first, time(), tzinfo=UTC)
    own = Judgement.objects.filter(created_at__range=(start, start + timedelta(days=7)))
    assert sum(row.num_judgements for row in report(span)) == own.count() > 100
