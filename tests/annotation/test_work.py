"""What an annotator sees next, and the getters that show nobody another's work."""

from collections.abc import Callable

import pytest
from pytest_django import DjangoAssertNumQueries

from annotation import services
from annotation.errors import NotAllowedError, NotFoundError
from annotation.models import User
from annotation.selectors import get_comparison_for, get_dialogue_for, get_judgement_for
from annotation.work import NothingReason, WorkKind, work_for
from tests.annotation.test_prompts import let_lease_lapse
from tests.factories import (
    answer_job,
    draw_samples,
    judge,
    make_admin,
    make_annotator,
    make_judgement,
    make_lead,
    make_ready_comparison,
    make_reviewer,
    open_test_round,
    start_test_dialogue,
    write_test_prompt,
)

pytestmark = pytest.mark.django_db


def test_without_a_round_there_is_nothing_and_it_says_so() -> None:
    work = work_for(make_annotator())
    assert (work.kind, work.reason) == (WorkKind.NOTHING, NothingReason.NO_OPEN_ROUND)


def test_others_than_annotators_have_no_work() -> None:
    open_test_round()
    for person in (make_reviewer(), make_lead(), make_admin()):
        work = work_for(person)
        assert (work.kind, work.reason) == (WorkKind.NOTHING, NothingReason.NOT_AN_ANNOTATOR)


def test_an_annotator_goes_from_start_to_prompt_to_pair_and_on() -> None:
    annotator, round_ = make_annotator(), open_test_round(max_turns=2)

    work = work_for(annotator)
    assert (work.kind, work.round) == (WorkKind.START, round_)

    dialogue = start_test_dialogue(annotator, round_)
    work = work_for(annotator)
    assert (work.kind, work.dialogue, work.comparison) == (WorkKind.WRITE, dialogue, None)

    comparison = write_test_prompt(annotator, dialogue)
    work = work_for(annotator)
    assert (work.kind, work.comparison) == (WorkKind.WAIT, comparison)

    draw_samples()
    work = work_for(annotator)
    assert (work.kind, work.comparison) == (WorkKind.JUDGE, comparison)

    judge(comparison)
    work = work_for(annotator)
    assert (work.kind, work.dialogue, work.comparison) == (WorkKind.WRITE, dialogue, None)

    judge(make_ready_comparison(dialogue=dialogue, text="And then?"))
    assert work_for(annotator).kind is WorkKind.START


def test_a_pair_that_failed_is_shown_for_rewriting() -> None:
    annotator = make_annotator()
    comparison = write_test_prompt(annotator, start_test_dialogue(annotator, open_test_round()))
    for _ in range(3):
        (job,) = services.claim_comparisons_for_sampling(limit=1, worker="sampler")
        answer_job(job, ("Same.", "Same."))

    work = work_for(annotator)

    assert (work.kind, work.comparison) == (WorkKind.WRITE, comparison)
    assert work.comparison is not None
    assert work.comparison.error.startswith("Both policies say the same")


def test_a_ready_pair_comes_before_a_prompt_to_write() -> None:
    annotator, round_ = make_annotator(), open_test_round()
    start_test_dialogue(annotator, round_)
    comparison = make_ready_comparison(annotator, round_=round_)
    work = work_for(annotator)
    assert (work.kind, work.comparison) == (WorkKind.JUDGE, comparison)


def test_a_full_round_says_until_when_its_slots_are_out() -> None:
    round_ = open_test_round(target_comparisons=1)
    comparison = make_ready_comparison(round_=round_)

    work = work_for(make_annotator())
    assert (work.kind, work.reason) == (WorkKind.NOTHING, NothingReason.ALL_LEASED)
    assert work.next_free_at == comparison.lease_expires_at

    judge(comparison)
    work = work_for(make_annotator())
    assert (work.kind, work.reason) == (WorkKind.NOTHING, NothingReason.ROUND_FULL)


def test_a_lapsed_lease_is_work_for_others() -> None:
    comparison = make_ready_comparison(round_=open_test_round(target_comparisons=1))
    let_lease_lapse(comparison)
    assert work_for(make_annotator()).kind is WorkKind.START


def test_a_dialogue_in_a_full_round_gives_way_to_another_round() -> None:
    full = open_test_round(target_comparisons=1)
    annotator = make_annotator()
    start_test_dialogue(annotator, full)
    make_ready_comparison(round_=full)
    other = open_test_round()

    work = work_for(annotator)

    assert (work.kind, work.round) == (WorkKind.START, other)


def test_a_pair_in_a_closed_round_may_still_be_judged() -> None:
    comparison = make_ready_comparison()
    services.close_round(round_=comparison.round, closed_by=make_lead())
    assert work_for(comparison.dialogue.annotator).comparison == comparison


def test_next_work_costs_the_same_after_much_work(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    annotator, round_ = make_annotator(), open_test_round(max_turns=1)
    for _ in range(5):
        make_judgement(annotator, round_=round_)
    make_ready_comparison(annotator, round_=round_)
    # Open dialogues, their newest comparisons, and whether anything is asked of the annotator.
    with django_assert_max_num_queries(3):
        assert work_for(annotator).kind is WorkKind.JUDGE


def test_the_author_gets_their_rows() -> None:
    comparison = make_ready_comparison()
    author = comparison.dialogue.annotator
    assert get_comparison_for(author, comparison.pk) == comparison
    assert get_dialogue_for(author, comparison.dialogue_id) == comparison.dialogue


@pytest.mark.parametrize("make_person", [make_reviewer, make_lead, make_admin])
def test_no_other_role_gets_an_annotators_page(make_person: Callable[[], User]) -> None:
    comparison = make_ready_comparison()
    with pytest.raises(NotAllowedError):
        get_comparison_for(make_person(), comparison.pk)
    with pytest.raises(NotAllowedError):
        get_dialogue_for(make_person(), comparison.dialogue_id)


def test_anothers_row_looks_like_no_row() -> None:
    comparison = make_ready_comparison()
    with pytest.raises(NotFoundError, match=f"no comparison {comparison.pk} of yours"):
        get_comparison_for(make_annotator(), comparison.pk)
    with pytest.raises(NotFoundError, match="no comparison 987654 of yours"):
        get_comparison_for(make_annotator(), 987654)
    with pytest.raises(NotFoundError):
        get_dialogue_for(make_annotator(), comparison.dialogue_id)


def test_reviewers_read_judgements_and_annotators_do_not() -> None:
    judgement = make_judgement()
    assert get_judgement_for(make_reviewer(), judgement.pk) == judgement
    with pytest.raises(NotAllowedError):
        get_judgement_for(judgement.annotator, judgement.pk)
    with pytest.raises(NotFoundError):
        get_judgement_for(make_lead(), 987654)
