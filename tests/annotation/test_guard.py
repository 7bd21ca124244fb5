"""The guard: what must not be compared is drawn again, replaced, and the event kept."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from pytest_django import Settings

from annotation import services
from annotation.models import Comparison, SamplingEvent
from annotation.services import NewSample, SamplingJob
from annotation.services.guard import Response, names_itself, problem_of_pair
from annotation.work import WorkKind, work_for
from tests.factories import (
    answer_job,
    make_annotator,
    make_policy_version,
    make_ready_comparison,
    open_test_round,
    start_test_dialogue,
    write_test_prompt,
)

LONG = "Put the egg into boiling water, wait for six minutes, cool it and peel it carefully."


def done(text: str) -> Response:
    return Response(text, True, 5, 64)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (("Boil it.", "Fry it."), None),
        (("", "Fry it."), "empty"),
        (("Boil it.", "Boil it. "), "identical"),
        (("Boil it.", "boil it"), "near_identical"),
        ((LONG, LONG.removesuffix("ly.")), "near_identical"),
        ((LONG, LONG.replace("carefully", "and serve it with salt on warm toast")), None),
        (("As ChatGPT, I cannot.", "Fry it."), "names_itself"),
        (("Boil it. [INST] And then?", "Fry it."), "holds_tag"),
    ],
)
def test_pairs_that_nobody_should_compare(texts: tuple[str, str], reason: str | None) -> None:
    assert problem_of_pair([done(text) for text in texts], []) == reason


@pytest.mark.parametrize(
    ("is_finished", "num_tokens", "limit", "reason"),
    [
        (True, 5, 64, None),
        (False, 64, 64, None),  # the limit cut it: a long response, not an error
        (False, 5, 64, "truncated"),
        (False, 5, None, None),
    ],
)
def test_a_response_that_stopped_neither_at_its_end_nor_at_its_limit_was_cut_by_an_error(
    is_finished: bool, num_tokens: int, limit: int | None, reason: str | None
) -> None:
    responses = [done("Boil it."), Response("Fry", is_finished, num_tokens, limit)]
    assert problem_of_pair(responses, []) == reason


@pytest.mark.parametrize(
    ("text", "is_named"),
    [
        ("I am ChatGPT, and I boil eggs.", True),
        ("Hello! I'm Claude.", True),
        ("I’m an AI assistant called Gemini.", True),
        ("As a large language model, Llama, I cannot eat.", True),
        ("I was trained by a team at OpenAI.", True),
        ("I am a language model developed by Meta.", True),
        ("My name is helpful-v7.", True),
        ("Android was developed by Google.", False),
        ("ChatGPT and Claude are two assistants.", False),
        ("Use an assistant such as Claude.", False),
        ("I am an AI assistant, so I cannot eat.", False),
        ("The llama is a domesticated animal of the Andes.", False),
        ("I am llamas' best friend.", False),
        ("helpful-v7 is a name.", False),
    ],
)
def test_to_introduce_oneself_is_not_to_mention_somebody(text: str, is_named: bool) -> None:
    assert names_itself(text, ["helpful-v7"]) is is_named


def claim() -> SamplingJob:
    (job,) = services.claim_comparisons_for_sampling(limit=1, worker="w")
    return job


def waiting(policies: Sequence[str] = ()) -> Comparison:
    round_ = open_test_round(policies=[make_policy_version(name) for name in policies])
    annotator = make_annotator()
    return write_test_prompt(annotator, start_test_dialogue(annotator, round_))


@pytest.mark.django_db
def test_the_same_variants_try_once_more_then_the_pair_is_replaced() -> None:
    """Of five variants the third attempt draws another pair; 20 comparisons show it."""
    num_replaced = 0
    for number in range(20):
        waiting([f"P{number}-{letter}" for letter in "abcde"])
        pairs = []
        for attempt in range(1, 4):
            job = claim()
            pairs.append([(r.policy.pk, r.temperature) for r in job.requests])
            answer_job(job, ("Same.", "same") if attempt < 3 else ("One.", "Another thing."))
        assert pairs[0] == pairs[1]
        num_replaced += pairs[2] != pairs[0]
    assert num_replaced >= 19
    assert SamplingEvent.objects.filter(reason="near_identical").count() == 40
    assert Comparison.objects.filter(state="ready").count() == 20


@pytest.mark.django_db
def test_a_response_that_names_its_policy_is_replaced_and_the_event_kept() -> None:
    comparison = waiting(["helpful-v7", "helpful-v8"])
    answer_job(claim(), ("I am helpful-v7.", "Boil it."))
    event = SamplingEvent.objects.get()
    assert (event.reason, event.attempt) == ("names_itself", 1)
    assert event.detail["texts"] == ["I am helpful-v7.", "Boil it."]
    comparison.refresh_from_db()
    assert comparison.state == "waiting"


@pytest.mark.django_db
def test_a_response_cut_by_an_error_is_drawn_again() -> None:
    waiting()
    job = claim()
    request = job.requests[0]
    samples = [
        NewSample(text, request.policy, 1.0, 1.0, 1, num_tokens, is_finished)
        for text, num_tokens, is_finished in (("Boil it.", 4, True), ("Put the", 3, False))
    ]
    services.store_samples(comparison_id=job.comparison_id, samples=samples)
    assert SamplingEvent.objects.get().reason == "truncated"


@pytest.mark.django_db
def test_a_quick_pair_is_shown_no_sooner_than_a_slow_one(settings: Settings) -> None:
    settings.RESPONSE_FLOOR_MS = 60_000
    comparison = make_ready_comparison()
    annotator = comparison.dialogue.annotator
    assert comparison.ready_at == comparison.created_at + timedelta(minutes=1)
    assert work_for(annotator).kind is WorkKind.WAIT
    assert services.take_work(annotator=annotator).kind is WorkKind.WAIT
    Comparison.objects.update(ready_at=comparison.created_at)
    assert work_for(annotator).kind is WorkKind.JUDGE
    assert services.take_work(annotator=annotator).kind is WorkKind.JUDGE
