"""Waiting comparisons go to one sampler each, and come back with two comparable responses."""

from collections import Counter
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from annotation import services
from annotation.errors import StateError
from annotation.models import Comparison, Round, Sample, SamplingEvent, User
from annotation.selectors import counter_drift, num_waiting, pair_view
from annotation.services import NewSample, SamplingJob
from records.dialogues import Dialogue as DialogueRecord
from tests.factories import (
    answer_job,
    judge,
    make_annotator,
    make_policy_version,
    make_ready_comparison,
    open_test_round,
    start_test_dialogue,
    write_test_prompt,
)
from tests.races import run_at_once


def make_waiting(round_: Round | None = None, annotator: User | None = None) -> Comparison:
    annotator = annotator or make_annotator()
    dialogue = start_test_dialogue(annotator, round_ or open_test_round())
    return write_test_prompt(annotator, dialogue)


def make_many_waiting(round_: Round, number: int) -> list[Comparison]:
    annotator = make_annotator()
    return [make_waiting(round_, annotator) for _ in range(number)]


def claim(limit: int = 100, worker: str = "sampler") -> list[SamplingJob]:
    return services.claim_comparisons_for_sampling(limit=limit, worker=worker)


@pytest.mark.django_db
def test_the_oldest_waiting_comparisons_are_claimed_first() -> None:
    round_ = open_test_round()
    comparisons = make_many_waiting(round_, 3)
    assert num_waiting() == 3

    jobs = claim(limit=2, worker="host:1")

    assert [job.comparison_id for job in jobs] == [comparisons[0].pk, comparisons[1].pk]
    comparisons[0].refresh_from_db()
    assert comparisons[0].state == Comparison.State.SAMPLING
    assert comparisons[0].sampled_by == "host:1"
    assert [job.comparison_id for job in claim()] == [comparisons[2].pk]
    assert claim() == []


@pytest.mark.django_db
def test_two_variants_answer_at_two_temperatures_within_their_ranges() -> None:
    old, new = make_policy_version("SFT"), make_policy_version("V1")
    round_ = open_test_round(policies=[old, new])
    make_many_waiting(round_, 20)

    jobs = claim()

    for job in jobs:
        one, two = job.requests
        assert {one.policy, two.policy} == {old, new}
        assert one.temperature != two.temperature
        assert one.seed != two.seed
        assert all(0.7 <= request.temperature <= 1.0 for request in job.requests)
        assert one.path == one.policy.artifact.location
    firsts = Counter(job.requests[0].policy.name for job in jobs)
    assert set(firsts) == {"SFT", "V1"}, "either variant may come first"


@pytest.mark.django_db
def test_of_three_variants_every_pair_is_drawn() -> None:
    policies = [make_policy_version(name) for name in ("SFT", "V1", "V2")]
    round_ = open_test_round(policies=policies)
    make_many_waiting(round_, 40)

    pairs = {frozenset(request.policy.name for request in job.requests) for job in claim()}

    assert pairs == {
        frozenset({"SFT", "V1"}),
        frozenset({"SFT", "V2"}),
        frozenset({"V1", "V2"}),
    }


@pytest.mark.django_db
def test_a_single_variant_answers_at_two_temperatures() -> None:
    policy = make_policy_version()
    round_ = open_test_round(policies=[policy])
    make_many_waiting(round_, 20)
    for job in claim():
        one, two = job.requests
        assert one.policy == two.policy == policy
        assert one.temperature != two.temperature


@pytest.mark.django_db
def test_the_prompt_holds_the_dialogue_so_far() -> None:
    first = make_ready_comparison(text="How do I boil an egg?", texts=("Boil it.", "Fry it."))
    chosen = judge(first).chosen_sample.text
    write_test_prompt(first.dialogue.annotator, first.dialogue, "How long?")

    (job,) = claim()

    assert job.prompt == DialogueRecord.from_texts("How do I boil an egg?", chosen, "How long?")


@pytest.mark.django_db
def test_what_a_dead_sampler_held_is_claimed_again() -> None:
    comparison = make_waiting()
    (lost,) = claim(worker="dead")
    assert claim(worker="alive") == []
    past = timezone.now() - timedelta(seconds=1)
    Comparison.objects.filter(pk=comparison.pk).update(sampling_expires_at=past)

    (job,) = claim(worker="alive")

    assert job.comparison_id == lost.comparison_id
    assert job.requests != lost.requests, "another attempt draws anew"
    assert services.beat_sampling(comparison_ids=[comparison.pk], worker="dead") == 0
    assert services.beat_sampling(comparison_ids=[comparison.pk], worker="alive") == 1


@pytest.mark.django_db(transaction=True)
def test_no_comparison_goes_to_two_samplers() -> None:
    round_ = open_test_round()
    made = {comparison.pk for comparison in make_many_waiting(round_, 12)}

    results = run_at_once([lambda i=i: claim(limit=5, worker=f"sampler-{i}") for i in range(4)])

    assert not [result for result in results if isinstance(result, Exception)], results
    claimed = [job.comparison_id for jobs in results for job in jobs]  # type: ignore[union-attr]
    assert len(claimed) == len(set(claimed))
    claimed += [job.comparison_id for job in claim()]
    assert set(claimed) == made


@pytest.mark.django_db
def test_two_responses_make_a_comparison_ready() -> None:
    make_waiting()
    (job,) = claim()

    comparison = answer_job(job, ("Hello!", "Go away."))

    assert comparison.state == Comparison.State.READY
    assert comparison.ready_at is not None
    samples = {sample.text: sample for sample in comparison.samples.all()}
    assert set(samples) == {"Hello!", "Go away."}
    request = job.requests[0]
    sample = samples["Hello!"]
    assert (sample.policy, sample.temperature, sample.seed) == (
        request.policy,
        request.temperature,
        request.seed,
    )


@pytest.mark.django_db
def test_sides_are_drawn_and_stored() -> None:
    round_ = open_test_round()
    make_many_waiting(round_, 40)
    for job in claim():
        answer_job(job, ("first", "second"))

    num_left = Sample.objects.filter(side="left", text="first").count()

    # 40 fair coins: 8 to 32 heads but for one case in 100,000.
    assert 8 <= num_left <= 32
    assert Sample.objects.filter(side="left").count() == 40


@pytest.mark.django_db
def test_what_an_annotator_sees_names_no_model() -> None:
    policies = [make_policy_version("SFT-secret"), make_policy_version("V1-secret")]
    comparison = make_ready_comparison(round_=open_test_round(policies=policies))

    view = pair_view(comparison)

    assert {view.left.text, view.right.text} == {"Boil it.", "I do not know."}
    assert (view.left.side, view.right.side) == ("left", "right")
    assert "secret" not in repr(view)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (("", "Hello."), "empty"),
        ((" \n", "Hello."), "empty"),
        (("Hello.", "Hello. "), "identical"),
    ],
)
def test_a_pair_nobody_could_compare_is_drawn_again(texts: tuple[str, str], reason: str) -> None:
    make_waiting()
    (first,) = claim()

    comparison = answer_job(first, texts)

    assert comparison.state == Comparison.State.WAITING
    assert not Sample.objects.exists()
    event = SamplingEvent.objects.get()
    assert (event.reason, event.attempt) == (reason, 1)
    assert event.detail["texts"] == list(texts)
    (second,) = claim()
    assert {r.seed for r in second.requests}.isdisjoint({r.seed for r in first.requests})


@pytest.mark.django_db
def test_zero_bytes_which_the_database_refuses_are_replaced() -> None:
    make_waiting()
    (job,) = claim()
    answer_job(job, ("\0", "\0"))  # identical: kept with the event

    assert SamplingEvent.objects.get().detail["texts"] == ["\ufffd", "\ufffd"]
    (job,) = claim(worker="host:1")
    services.fail_sampling(comparison_id=job.comparison_id, worker="host:1", error="bad \0")
    assert SamplingEvent.objects.latest("pk").detail == {"error": "bad \ufffd"}
    (job,) = claim()
    comparison = answer_job(job, ("Hello\0!", "Go away."))
    assert {sample.text for sample in comparison.samples.all()} == {"Hello\ufffd!", "Go away."}


@pytest.mark.django_db
def test_after_three_useless_pairs_the_author_is_asked_for_another_prompt() -> None:
    comparison = make_waiting()
    for _ in range(3):
        (job,) = claim()
        answer_job(job, ("Same.", "Same."))

    comparison.refresh_from_db()
    assert comparison.state == Comparison.State.FAILED
    assert "say the same" in comparison.error
    assert SamplingEvent.objects.count() == 3
    assert not comparison.holds_slot
    assert counter_drift(comparison.round) == {}
    assert claim() == []
    again = write_test_prompt(comparison.dialogue.annotator, comparison.dialogue, "Otherwise?")
    assert again.turn == comparison.turn


@pytest.mark.django_db
def test_an_error_is_recorded_and_tried_again() -> None:
    comparison = make_waiting()
    for attempt in range(1, 4):
        (job,) = claim(worker="host:1")
        services.fail_sampling(
            comparison_id=job.comparison_id, worker="host:1", error=f"out of memory {attempt}"
        )

    comparison.refresh_from_db()
    assert comparison.state == Comparison.State.FAILED
    assert "out of memory" not in comparison.error, "the annotator is not shown internals"
    events = list(SamplingEvent.objects.order_by("pk").values_list("attempt", "reason", "detail"))
    assert events[0] == (1, "error", {"error": "out of memory 1"})
    assert len(events) == 3


@pytest.mark.django_db
def test_a_sampler_without_lease_cannot_fail_a_comparison() -> None:
    comparison = make_waiting()
    claim(worker="alive")

    services.fail_sampling(comparison_id=comparison.pk, worker="dead", error="gone")

    comparison.refresh_from_db()
    assert comparison.state == Comparison.State.SAMPLING
    assert not SamplingEvent.objects.exists()


@pytest.mark.django_db
def test_responses_delivered_twice_are_stored_once() -> None:
    make_waiting()
    (job,) = claim()
    answer_job(job, ("Hello!", "Go away."))

    comparison = answer_job(job, ("Too", "late"))

    assert comparison.state == Comparison.State.READY
    assert set(comparison.samples.values_list("text", flat=True)) == {"Hello!", "Go away."}


@pytest.mark.django_db
def test_responses_to_a_skipped_prompt_are_dropped() -> None:
    comparison = make_waiting()
    (job,) = claim()
    services.skip_comparison(
        annotator=comparison.dialogue.annotator, comparison=comparison, reason="other"
    )

    assert answer_job(job, ("Hello!", "Go away.")).state == Comparison.State.SKIPPED
    assert not Sample.objects.exists()


@pytest.mark.django_db
def test_a_comparison_takes_two_samples() -> None:
    make_waiting()
    (job,) = claim()
    request = job.requests[0]
    sample = NewSample("Hi", request.policy, 1.0, 1.0, request.seed, 1, True)
    with pytest.raises(ValueError, match="takes 2 samples, not 1"):
        services.store_samples(comparison_id=job.comparison_id, samples=[sample])


@pytest.mark.django_db
def test_a_comparison_that_waits_cannot_be_judged() -> None:
    comparison = make_waiting()
    with pytest.raises(StateError, match="is waiting; only ready"):
        services.submit_comparison(
            annotator=comparison.dialogue.annotator,
            comparison=comparison,
            chosen_sample_id=0,
            rating="better",
            safety_bin=None,
            client_key=comparison.client_key,
            active_seconds=1.0,
        )


@pytest.mark.django_db
def test_the_database_refuses_an_empty_or_third_sample() -> None:
    sample = make_ready_comparison().samples.get(side="left")
    with pytest.raises(IntegrityError, match="sample_not_empty"), transaction.atomic():
        Sample.objects.filter(pk=sample.pk).update(text="")
    sample.pk = None
    with pytest.raises(IntegrityError, match="sample_side_unique"), transaction.atomic():
        sample.save(force_insert=True)


@pytest.mark.django_db
def test_claiming_costs_the_same_however_many_wait(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    round_ = open_test_round()
    make_many_waiting(round_, 10)
    # Savepoint, claim, update, release, variants; no history as all are first turns.
    with django_assert_max_num_queries(5):
        assert len(claim()) == 10
