"""The sampler draws ahead once nobody waits; a live one has the next pair there."""

from pathlib import Path

import pytest
from pytest_django import Settings

from annotation.models import Comparison, Round
from annotation.scale import Side
from annotation.services.texts import problem_of
from registry.models import PolicyVersion
from registry.services import publish_artifact, register_policy
from tests.factories import (
    judge,
    make_annotator,
    open_imported_round,
    prompt_line,
    start_test_dialogue,
)
from tests.models import write_tiny_policy
from tests.workers.live import forget_messages, live_worker, wait_until
from workers import dispatch
from workers.sampling import sample_waiting_comparisons


@pytest.fixture
def policies(tmp_path: Path, settings: Settings) -> list[PolicyVersion]:
    settings.SAMPLING_THREADS = 1
    paths = [write_tiny_policy(tmp_path / str(seed), seed=seed) for seed in (1, 2)]
    return [
        register_policy(name=path.name, artifact=publish_artifact(path=path, kind="policy"))
        for path in paths
    ]


def open_round(policies: list[PolicyVersion]) -> Round:
    rows = [prompt_line(name, "how are you", "and now", "tell me more") for name in "ab"]
    return open_imported_round(*rows, policies=policies, max_new_tokens=6)


def clean_side(comparison: Comparison) -> Side:
    """Return a side without marks of the chat format, which policies without training may say."""
    samples = comparison.samples.order_by("side")
    return next(Side(sample.side) for sample in samples if not problem_of(sample.text, "it"))


@pytest.mark.django_db
def test_the_sampler_draws_what_is_waited_for_and_then_ahead_of_both_choices(
    policies: list[PolicyVersion], settings: Settings
) -> None:
    settings.PREFETCH_ROWS = 2
    dialogue = start_test_dialogue(make_annotator(), open_round(policies))

    assert sample_waiting_comparisons() >= 3

    first = Comparison.objects.live().get(dialogue=dialogue)
    guesses = Comparison.objects.filter(dialogue=dialogue, is_ahead=True)
    assert (first.state, guesses.count()) == ("ready", 2)
    assert not Comparison.objects.to_sample().exists()
    judge(first, side=clean_side(first))
    shown = Comparison.objects.live().get(dialogue=dialogue)
    assert (shown.turn, shown.state) == (1, "ready")
    assert {sample.policy for sample in shown.samples.all()} == set(policies)


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_live_sampler_keeps_ahead_of_somebody_who_judges(policies: list[PolicyVersion]) -> None:
    forget_messages()
    round_ = open_round(policies)
    annotator = make_annotator()
    with live_worker("sampling", num_processes=1):
        for _ in range(2):
            dialogue = start_test_dialogue(annotator, round_)
            dispatch.request_responses()
            for turn in range(3):
                comparison = Comparison.objects.live().get(dialogue=dialogue, turn=turn)
                wait_until(lambda c=comparison: Comparison.objects.get(pk=c.pk).state == "ready")
                wait_until(lambda: not Comparison.objects.to_sample().exists())
                judge(comparison, side=clean_side(comparison))
                following = Comparison.objects.live().filter(dialogue=dialogue)
                assert all(item.state == "ready" for item in following), "it is there at once"
                dispatch.request_responses()
    round_.refresh_from_db()
    assert round_.num_judged == round_.target_comparisons == 6
    assert set(round_.items.values_list("state", flat=True)) == {"finished"}
    # Of each of the four later turns, what was drawn for the other choice is kept apart.
    assert Comparison.objects.filter(state="discarded").count() == 4
    assert Comparison.objects.filter(state="judged", turn__gt=0, assumed_sample=None).count() == 0
