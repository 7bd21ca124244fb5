"""A blind check hides who wrote what, draws each response once, and counts who is preferred."""

import uuid
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from annotation import services
from annotation.blind_check_selectors import (
    blind_pair_view,
    blind_progress,
    blind_results,
    get_blind_pair_for,
    next_blind_pair,
)
from annotation.errors import DecisionError, NotAllowedError, NotFoundError, RoundConfigError
from annotation.models import Assignment, BlindCheck, BlindPair, BlindVerdict, User
from annotation.services import BlindJob, NewSample
from records.dialogues import Dialogue as DialogueRecord
from records.statistics import wilson_proportion
from tests.factories import (
    decide,
    make_demonstration,
    make_lead,
    make_policy_version,
    make_reviewer,
    open_test_assignment,
)

pytestmark = pytest.mark.django_db


def approve(number: int, *, assignment: Assignment | None = None) -> None:
    for index in range(number):
        decide(make_demonstration(f"Question {index}?", f"Human {index}.", assignment=assignment))


def open_check(num_pairs: int, **values: object) -> BlindCheck:
    settings: dict[str, object] = {
        "name": f"check {uuid.uuid4()}",
        "policy": make_policy_version(),
        "opened_by": make_lead(),
        "seed": 5,
    }
    return services.open_blind_check(num_pairs=num_pairs, **{**settings, **values})  # type: ignore[arg-type]


def answer(job: BlindJob, text: str = "Model.") -> BlindPair:
    request = job.request
    sample = NewSample(
        text, request.policy, request.temperature, request.top_p, request.seed, 3, True
    )
    return services.store_blind_response(pair_id=job.pair_id, sample=sample)


def ready_check(num_pairs: int) -> BlindCheck:
    check = open_check(num_pairs)
    for job in services.claim_blind_pairs(limit=100, worker="w"):
        answer(job)
    return check


def judge_pair(pair: BlindPair, outcome: str, reviewer: User | None = None) -> BlindVerdict:
    human_side = "right" if pair.model_side == "left" else "left"
    choice = {"model": pair.model_side, "human": human_side}.get(outcome, "neither")
    return services.submit_blind_verdict(
        reviewer=reviewer or make_reviewer(), pair=pair, choice=choice, client_key=uuid.uuid4()
    )


def test_equal_seeds_draw_equal_demonstrations_and_sides() -> None:
    approve(12)
    drawn = [
        list(check.pairs.order_by("pk").values_list("revision", "model_side"))
        for check in (open_check(6), open_check(6), open_check(6, seed=6))
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert len({revision for revision, _ in drawn[0]}) == 6
    assert {side for _, side in drawn[0] + drawn[2]} == {"left", "right"}


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({"num_pairs": 3}, "num_pairs", "3 are more than the 2 approved"),
        ({"num_pairs": 0}, "num_pairs", "0 is below 1"),
        ({"temperature": 5.1}, "temperature", "5.1 is not between 0 and 5"),
        ({"top_p": 0.0}, "top_p", "0.0 is not above 0"),
        ({"max_new_tokens": 0}, "max_new_tokens", "0 is below 1"),
        ({"name": " "}, "name", "must not be empty"),
    ],
)
def test_a_check_that_cannot_be_opened_names_the_setting(
    values: dict[str, object], field: str, message: str
) -> None:
    approve(2)
    with pytest.raises(RoundConfigError, match=message) as refused:
        open_check(**{"num_pairs": 1, **values})  # type: ignore[arg-type]
    assert refused.value.field == field


def test_only_leads_open_and_names_are_taken_once() -> None:
    approve(1)
    open_check(1, name="SFT 1")
    with pytest.raises(RoundConfigError, match="already a check"):
        open_check(1, name="SFT 1")
    with pytest.raises(NotAllowedError):
        open_check(1, opened_by=make_reviewer())


def test_a_job_asks_for_the_last_prompt_with_the_dialogue_before_it() -> None:
    decide(make_demonstration("One?", "1.", "Two?", "2."))
    policy = make_policy_version()
    open_check(1, policy=policy, temperature=0.7, top_p=0.9, max_new_tokens=32)
    (job,) = services.claim_blind_pairs(limit=9, worker="w")
    assert job.prompt == DialogueRecord.from_texts("One?", "1.", "Two?")
    assert job.request[:5] == (policy, policy.artifact.location, 0.7, 0.9, 32)
    assert services.claim_blind_pairs(limit=9, worker="other") == []


def test_what_a_dead_sampler_held_is_claimed_again_and_its_late_answer_changes_nothing() -> None:
    approve(1)
    open_check(1)
    (job,) = services.claim_blind_pairs(limit=9, worker="dead")
    assert services.beat_blind_pairs(pair_ids=[job.pair_id], worker="dead") == 1
    BlindPair.objects.update(sampling_expires_at=timezone.now() - timedelta(seconds=1))
    (again,) = services.claim_blind_pairs(limit=9, worker="alive")
    assert services.beat_blind_pairs(pair_ids=[job.pair_id], worker="dead") == 0
    assert services.fail_blind_pair(pair_id=job.pair_id, worker="dead", error="x").error == ""
    answer(again, "First.")
    assert answer(job, "Late.").response_text == "First."


def test_an_empty_response_is_drawn_again_with_another_seed_and_given_up_after_three() -> None:
    approve(1)
    open_check(1)
    seeds = set()
    for _ in range(3):
        (job,) = services.claim_blind_pairs(limit=9, worker="w")
        seeds.add(job.request.seed)
        pair = answer(job, " ")
    assert len(seeds) == 3
    assert (pair.state, pair.error) == ("failed", "the policy had nothing to say")
    assert services.claim_blind_pairs(limit=9, worker="w") == []


def test_the_two_answers_are_shown_on_the_stored_sides() -> None:
    approve(8)
    check = ready_check(8)
    sides = set()
    for pair in check.pairs.all():
        view = blind_pair_view(pair)
        model = view.left if pair.model_side == "left" else view.right
        human = view.right if pair.model_side == "left" else view.left
        assert model == "Model."
        assert human.startswith("Human ")
        sides.add(pair.model_side)
    assert sides == {"left", "right"}


def test_the_result_counts_no_difference_as_half_by_vendor_too() -> None:
    approve(3, assignment=open_test_assignment(vendor="North"))
    approve(1, assignment=open_test_assignment(vendor="South"))
    check = ready_check(4)
    pairs = list(check.pairs.order_by("revision__demonstration__assignment__vendor", "pk"))
    for pair, outcome in zip(pairs, ("model", "human", "no_difference", "human"), strict=True):
        judge_pair(pair, outcome)
    whole, (north, south) = blind_results(check)
    assert (whole.num_model, whole.num_human, whole.num_no_difference) == (1, 2, 1)
    assert whole.win_rate == wilson_proportion(1.5, 4)
    assert (north.label, north.win_rate) == ("North", wilson_proportion(1.5, 3))
    assert (south.label, south.win_rate) == ("South", wilson_proportion(0, 1))
    assert blind_progress(check)[:4] == (4, 4, 0, 0)
    assert blind_progress(check).is_done


def test_before_anything_is_judged_there_is_no_win_rate() -> None:
    approve(1)
    whole, vendors = blind_results(ready_check(1))
    assert whole.win_rate.value is None
    assert vendors == []


def test_who_has_read_a_demonstration_does_not_compare_it() -> None:
    reviewer = make_reviewer()
    decide(make_demonstration("Known?", "Yes."), reviewer=reviewer)
    check = ready_check(1)
    pair = check.pairs.get()
    assert next_blind_pair(reviewer, check) is None
    assert next_blind_pair(make_reviewer(), check) == pair
    with pytest.raises(NotFoundError):
        get_blind_pair_for(reviewer, pair.pk)
    with pytest.raises(DecisionError, match="you have read"):
        judge_pair(pair, "model", reviewer)


def test_a_pair_is_judged_once_and_the_same_form_twice_is_one_verdict() -> None:
    approve(1)
    pair = ready_check(1).pairs.get()
    reviewer, key = make_reviewer(), uuid.uuid4()
    first, second = (
        services.submit_blind_verdict(
            reviewer=reviewer, pair=pair, choice="neither", client_key=key
        )
        for _ in range(2)
    )
    assert first == second
    with pytest.raises(DecisionError, match="this pair is judged"):
        judge_pair(pair, "model")
    with pytest.raises(DecisionError, match="'A' is not one of"):
        services.submit_blind_verdict(
            reviewer=reviewer, pair=pair, choice="A", client_key=uuid.uuid4()
        )
    with pytest.raises(IntegrityError), transaction.atomic():
        BlindVerdict.objects.create(
            pair=pair, reviewer=reviewer, outcome="model", client_key=uuid.uuid4()
        )
