"""Well-being: warnings, what is not wanted, and how much is enough."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from annotation import services
from annotation.eligibility import Need, missing_in
from annotation.errors import NotAllowedError, NotEligibleError, RoundConfigError
from annotation.exposure import break_of, categories_of, covers_responses, exposure_of
from annotation.models import Judgement, Round, User, WellbeingPolicy
from annotation.work import NothingReason, WorkKind, work_for
from records.preferences import Axis
from tests.factories import (
    judge,
    make_annotator,
    make_judgement,
    make_lead,
    make_ready_comparison,
    make_reviewer,
    open_test_round,
    start_test_dialogue,
)

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """Return a list whose last entry is the time that exposure goes by."""
    times = [NOON]
    monkeypatch.setattr("annotation.exposure.timezone.now", lambda: times[-1])
    return times


def bound(daily: int | None = None, stretch: int | None = None, pause: int = 15) -> None:
    services.set_wellbeing_policy(
        lead=make_lead(),
        daily_minutes=daily,
        stretch_minutes=stretch,
        break_minutes=pause,
        support_text="",
    )


def worked(annotator: User, round_: Round, *spells: tuple[datetime, float]) -> None:
    """Let the annotator have judged at these times, for so many minutes each."""
    for at, minutes in spells:
        judgement = make_judgement(annotator, round_=round_)
        Judgement.objects.filter(pk=judgement.pk).update(created_at=at, active_seconds=60 * minutes)


def at(hour: int, minute: int = 0) -> datetime:
    return NOON.replace(hour=hour, minute=minute)


def test_a_safety_round_holds_the_three_risks_unless_its_lead_says_otherwise() -> None:
    safety, helpful = open_test_round(axis=Axis.SAFETY), open_test_round()
    risks = ("illicit_and_criminal", "hateful_and_harmful", "unqualified_advice")
    assert categories_of([safety, helpful]) == {safety.pk: risks, helpful.pk: ()}
    lead = make_lead()
    services.set_content_warnings(lead=lead, round_=safety, categories=["violence"])
    services.set_content_warnings(lead=lead, round_=helpful, categories=["self_harm"])
    assert categories_of([safety, helpful]) == {
        safety.pk: ("violence",),
        helpful.pk: ("self_harm",),
    }


def test_a_round_of_a_category_that_is_not_wanted_is_not_offered() -> None:
    annotator, safety = make_annotator(), open_test_round(axis=Axis.SAFETY)
    services.save_wellbeing_choices(
        annotator=annotator, covers_responses=True, opted_out=["hateful_and_harmful"]
    )
    (missing,) = missing_in(annotator, safety)
    assert missing.need is Need.OPTED_OUT
    assert missing.message == "you asked not to be offered: hateful and harmful behaviour"
    assert work_for(annotator).reason is NothingReason.NOT_YET

    lead = make_lead()
    services.set_content_warnings(lead=lead, round_=safety, categories=["unqualified_advice"])
    assert missing_in(annotator, safety) == ()
    services.save_wellbeing_choices(annotator=annotator, covers_responses=True, opted_out=[])
    services.set_content_warnings(lead=lead, round_=safety, categories=[])
    assert missing_in(annotator, safety) == ()


def test_responses_are_covered_in_warned_rounds_unless_the_annotator_wants_otherwise() -> None:
    annotator = make_annotator()
    safety, helpful, warned = (open_test_round(axis=axis) for axis in (*Axis, Axis.HELPFULNESS))
    safety, helpful = (safety, helpful) if safety.axis == Axis.SAFETY else (helpful, safety)
    services.set_content_warnings(lead=make_lead(), round_=warned, categories=["violence"])
    rounds = (safety, helpful, warned)
    assert [covers_responses(annotator, round_) for round_ in rounds] == [True, False, True]
    services.save_wellbeing_choices(annotator=annotator, covers_responses=False, opted_out=[])
    assert not any(covers_responses(annotator, round_) for round_ in rounds)


def test_the_days_minutes_are_those_of_unsafe_rounds_since_midnight(clock: list[datetime]) -> None:
    annotator = make_annotator()
    safety, helpful, warned = (
        open_test_round(axis=Axis.SAFETY, max_turns=1),
        open_test_round(max_turns=1),
        open_test_round(max_turns=1),
    )
    services.set_content_warnings(lead=make_lead(), round_=warned, categories=["violence"])
    worked(annotator, safety, (at(0) - timedelta(minutes=1), 30), (at(1), 10))
    worked(annotator, helpful, (at(9), 60))
    worked(annotator, warned, (at(10), 7))
    worked(make_annotator(), safety, (at(11), 90))
    assert exposure_of(annotator).seconds_today == 60 * 17


def test_when_the_days_minutes_are_used_up_no_unsafe_work_is_offered_until_midnight(
    clock: list[datetime],
) -> None:
    bound(daily=20)
    annotator, safety = make_annotator(), open_test_round(axis=Axis.SAFETY, max_turns=1)
    worked(annotator, safety, (at(9), 12), (at(11), 7.9))
    assert break_of(annotator) is None
    worked(annotator, safety, (at(11, 30), 0.1))
    rest = break_of(annotator)
    assert rest is not None
    assert rest.until == at(0) + timedelta(days=1)
    assert rest.message == "today's 20 minutes with unsafe texts are used up"
    (missing,) = missing_in(annotator, safety)
    assert (missing.need, missing.until) == (Need.BREAK, rest.until)
    helpful = open_test_round()
    assert work_for(annotator).round == helpful


def test_a_pair_that_waits_for_a_break_may_still_be_judged_but_is_not_offered(
    clock: list[datetime],
) -> None:
    annotator, safety = make_annotator(), open_test_round(axis=Axis.SAFETY, max_turns=1)
    comparison = make_ready_comparison(annotator, round_=safety)
    assert work_for(annotator).kind is WorkKind.JUDGE
    worked(annotator, safety, (at(9), 30))
    bound(daily=30)
    assert work_for(annotator).reason is NothingReason.NOT_YET
    judge(comparison)
    with pytest.raises(NotEligibleError, match="today's 30 minutes"):
        start_test_dialogue(annotator, safety)


def test_a_break_is_due_after_a_stretch_and_over_after_its_minutes(clock: list[datetime]) -> None:
    bound(stretch=45, pause=15)
    annotator, safety = make_annotator(), open_test_round(axis=Axis.SAFETY, max_turns=1)
    # 30 minutes to 10:00, a pause of 16 minutes, 20 minutes to 10:36: the pause was a break.
    worked(annotator, safety, (at(10), 30), (at(10, 36), 20))
    assert exposure_of(annotator).seconds_since_break == 60 * 20
    # A pause of 4 minutes is none: 20 + 25 minutes are a stretch.
    worked(annotator, safety, (at(11, 5), 25))
    clock.append(at(11, 6))
    rest = break_of(annotator)
    assert rest is not None
    assert rest.until == at(11, 20)
    assert rest.message == "after 45 minutes with unsafe texts a break is due"
    clock.append(at(11, 20))
    assert break_of(annotator) is None
    worked(annotator, safety, (at(11, 25), 4))
    clock.append(at(11, 26))
    assert break_of(annotator) is None, "a new stretch has begun"


def test_one_persons_bound_takes_the_place_of_everybodys(clock: list[datetime]) -> None:
    bound(daily=60)
    lead, annotator = make_lead(), make_annotator()
    safety = open_test_round(axis=Axis.SAFETY, max_turns=1)
    worked(annotator, safety, (at(9), 30))
    assert break_of(annotator) is None
    services.set_daily_minutes(lead=lead, annotator=annotator, minutes=30)
    assert break_of(annotator) is not None
    services.set_daily_minutes(lead=lead, annotator=annotator, minutes=None)
    assert break_of(annotator) is None
    services.set_daily_minutes(lead=lead, annotator=annotator, minutes=0)
    assert break_of(annotator) is not None


def test_choosing_does_not_lift_the_bound_a_lead_set() -> None:
    annotator = make_annotator()
    services.set_daily_minutes(lead=make_lead(), annotator=annotator, minutes=10)
    services.save_wellbeing_choices(annotator=annotator, covers_responses=False, opted_out=[])
    assert exposure_of(annotator).daily_minutes == 10


def test_only_leads_set_bounds_and_warnings() -> None:
    round_ = open_test_round()
    for person in (make_annotator(), make_reviewer()):
        with pytest.raises(NotAllowedError):
            services.set_daily_minutes(lead=person, annotator=person, minutes=None)
        with pytest.raises(NotAllowedError):
            services.set_content_warnings(lead=person, round_=round_, categories=[])


@pytest.mark.parametrize(("daily", "stretch", "pause"), [(0, 1, 1), (1441, 1, 1), (1, 0, 1)])
def test_a_bound_outside_a_day_is_refused(daily: int, stretch: int, pause: int) -> None:
    with pytest.raises(RoundConfigError, match="is not within 1 to 1440"):
        bound(daily, stretch, pause)


def test_an_unknown_category_is_refused() -> None:
    with pytest.raises(RoundConfigError, match="'spiders' is not one of illicit_and_criminal"):
        services.set_content_warnings(
            lead=make_lead(), round_=open_test_round(), categories=["spiders"]
        )
    with pytest.raises(RoundConfigError, match="'spiders'"):
        services.save_wellbeing_choices(
            annotator=make_annotator(), covers_responses=True, opted_out=["spiders"]
        )


def test_the_database_holds_one_policy() -> None:
    bound(daily=10)
    bound(daily=20)
    assert WellbeingPolicy.objects.get().daily_minutes == 20
    with pytest.raises(IntegrityError, match="wellbeing_one_row"), transaction.atomic():
        WellbeingPolicy.objects.create(pk=2, break_minutes=1, updated_by=make_lead())
