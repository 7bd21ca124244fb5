"""Accounts, guidelines and rounds: who may open one, and what a round must fulfil."""

from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.db import IntegrityError, transaction

from annotation import services
from annotation.errors import NotAllowedError, NotFoundError, RoundConfigError
from annotation.models import Dialogue, Round, User
from annotation.selectors import get_open_round_for, get_round_for, open_rounds
from annotation.services import NewUser, NewVariant
from records.preferences import Axis
from tests.factories import (
    PASSWORD,
    judge,
    make_admin,
    make_annotator,
    make_guidelines,
    make_lead,
    make_policy_version,
    make_ready_comparison,
    make_reviewer,
    make_user,
    open_test_round,
    start_test_dialogue,
)

pytestmark = pytest.mark.django_db


def open_round(**changes: Any) -> Round:
    lead = changes.pop("opened_by", None) or make_lead()
    values = {
        "name": "week 1",
        "axis": Axis.HELPFULNESS,
        "guidelines": make_guidelines(),
        "variants": [NewVariant(make_policy_version()), NewVariant(make_policy_version())],
        "target_comparisons": 10,
        "max_turns": 3,
        "opened_by": lead,
    }
    return services.open_round(**{**values, **changes})


def test_a_person_signs_in_with_their_password() -> None:
    user = make_user(User.Role.ANNOTATOR, "ada", password=PASSWORD)
    assert authenticate(username="ada", password=PASSWORD) == user


def test_a_simulated_annotator_cannot_sign_in() -> None:
    user = make_annotator("sim-1", persona="careful")
    assert user.is_simulated
    assert not user.has_usable_password()
    assert authenticate(username="sim-1", password="") is None


def test_pseudonyms_differ_and_do_not_tell_the_name() -> None:
    one, two = make_annotator("ada"), make_annotator("grace")
    assert one.pseudonym != two.pseudonym
    assert "ada" not in one.pseudonym


def test_only_admins_may_use_the_django_admin() -> None:
    people = [make_annotator(), make_reviewer(), make_lead(), make_admin()]
    assert [user.is_staff for user in people] == [False, False, False, True]


def test_many_accounts_are_made_or_none() -> None:
    make_annotator("ada")
    with pytest.raises(IntegrityError), transaction.atomic():
        services.create_users(users=[NewUser("grace"), NewUser("ada")])
    assert not User.objects.filter(username="grace").exists()


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(ValueError, match="'boss' is not a valid"):
        services.create_user(username="ada", role="boss")


def test_a_round_is_open_with_its_variants() -> None:
    round_ = open_round()
    assert round_.is_open
    assert round_.variants.count() == 2
    assert list(open_rounds()) == [round_]


def test_annotators_and_reviewers_cannot_open_rounds() -> None:
    for user in (make_annotator(), make_reviewer()):
        with pytest.raises(NotAllowedError, match="needs the role lead or admin"):
            open_round(opened_by=user)
    assert open_round(opened_by=make_admin()).is_open


def test_a_lead_who_left_cannot_open_rounds() -> None:
    lead = make_lead()
    User.objects.filter(pk=lead.pk).update(is_active=False)
    lead.refresh_from_db()
    with pytest.raises(NotAllowedError, match="not active"):
        open_round(opened_by=lead)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"target_comparisons": 0}, "target_comparisons"),
        ({"max_turns": 0}, "max_turns"),
        ({"max_turns": 101}, "max_turns"),
        ({"axis": Axis.SAFETY}, "guidelines"),  # the guidelines are for helpfulness
        ({"variants": []}, "variants"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(RoundConfigError) as caught:
        open_round(**changes)
    assert caught.value.field == field
    assert not Round.objects.exists()


@pytest.mark.parametrize(
    ("sampling", "field"),
    [
        ({"temperature_low": -0.1}, "temperature_low"),
        ({"temperature_low": 1.2, "temperature_high": 1.0}, "temperature_low"),
        ({"temperature_high": 5.1}, "temperature_low"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        # One variant at one temperature gives the same distribution twice.
        ({"temperature_low": 1.0, "temperature_high": 1.0}, "temperature_high"),
    ],
)
def test_sampling_settings_are_checked(sampling: dict[str, Any], field: str) -> None:
    with pytest.raises(RoundConfigError) as caught:
        open_round(variants=[NewVariant(make_policy_version(), **sampling)])
    assert caught.value.field == field


def test_a_policy_answers_once_in_a_round() -> None:
    policy = make_policy_version()
    with pytest.raises(RoundConfigError, match="named twice"):
        open_round(variants=[NewVariant(policy), NewVariant(policy)])


def test_a_round_name_is_used_once() -> None:
    open_round()
    with pytest.raises(RoundConfigError, match="already a round 'week 1'"):
        open_round()


def test_guidelines_of_one_version_have_one_text() -> None:
    lead = make_lead()
    values = {"axis": Axis.SAFETY, "version": "1", "created_by": lead}
    first = services.publish_guidelines(text="Be safe.", **values)

    assert services.publish_guidelines(text="Be safe.", **values) == first
    with pytest.raises(RoundConfigError, match="use a new version"):
        services.publish_guidelines(text="Be very safe.", **values)


def test_a_closed_round_is_found_by_its_lead_only() -> None:
    round_ = open_test_round()
    lead = make_lead()
    annotator = make_annotator()
    assert get_open_round_for(annotator, round_.pk) == round_

    closed = services.close_round(round_=round_, closed_by=lead)

    assert not closed.is_open
    assert closed.closed_at is not None
    assert get_round_for(lead, round_.pk) == round_
    with pytest.raises(NotFoundError):
        get_open_round_for(annotator, round_.pk)
    again = services.close_round(round_=round_, closed_by=lead)
    assert again.closed_at == closed.closed_at


def test_annotators_cannot_close_rounds_or_read_the_leads_page() -> None:
    round_ = open_test_round()
    with pytest.raises(NotAllowedError):
        services.close_round(round_=round_, closed_by=make_annotator())
    with pytest.raises(NotAllowedError):
        get_round_for(make_annotator(), round_.pk)


def test_closing_a_round_ends_its_dialogues_that_wait_for_a_prompt() -> None:
    round_ = open_test_round()
    idle = start_test_dialogue(make_annotator(), round_)
    comparison = make_ready_comparison(round_=round_)

    services.close_round(round_=round_, closed_by=make_lead())

    idle.refresh_from_db()
    assert idle.state == Dialogue.State.FINISHED
    comparison.dialogue.refresh_from_db()
    assert comparison.dialogue.is_open, "its pair is out and may still be judged"
    judge(comparison)
    comparison.dialogue.refresh_from_db()
    assert not comparison.dialogue.is_open


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"num_reserved": 11}, "round_within_target"),
        ({"num_judged": 1}, "round_counters_nested"),
        ({"num_excluded": 1}, "round_counters_nested"),
        ({"state": "closed"}, "round_closed_has_time"),
        ({"axis": "honesty"}, "round_axis_known"),
        ({"target_comparisons": 0}, "round_targets_positive"),
    ],
)
def test_the_database_refuses(values: dict[str, Any], constraint: str) -> None:
    round_ = open_round()
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Round.objects.filter(pk=round_.pk).update(**values)
