"""The sampler answers everything that waits, in one batch per policy, and loses no prompt."""

import shutil
from pathlib import Path

import pytest
from pytest_django import Settings

from annotation.models import Comparison, Round, Sample, SamplingEvent, User
from annotation.services import NewVariant, open_round
from records.preferences import Axis
from registry.models import PolicyVersion
from registry.services import publish_artifact, register_policy
from tests.factories import (
    make_annotator,
    make_guidelines,
    make_lead,
    make_policy_version,
    start_test_dialogue,
    write_test_prompt,
)
from tests.models import write_tiny_policy
from workers.sampling import sample_waiting_comparisons

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two tiny policies that differ."""
    folder = tmp_path_factory.mktemp("policies")
    return [write_tiny_policy(folder / str(seed), seed=seed) for seed in (1, 2)]


@pytest.fixture(autouse=True)
def _one_thread(settings: Settings) -> None:
    settings.SAMPLING_THREADS = 1


def registered(weights: list[Path]) -> list[PolicyVersion]:
    return [
        register_policy(name=f"policy {i}", artifact=publish_artifact(path=path, kind="policy"))
        for i, path in enumerate(weights)
    ]


def write_prompts(policies: list[PolicyVersion], texts: list[str]) -> list[Comparison]:
    """Return comparisons of as many annotators, in one round that `policies` answer."""
    lead = make_lead()
    round_ = open_round(
        name=f"round of {lead}",
        axis=Axis.HELPFULNESS,
        guidelines=make_guidelines(lead=lead),
        variants=[NewVariant(p, 0.7, 1.2, top_p=0.9, max_new_tokens=12) for p in policies],
        target_comparisons=100,
        max_turns=3,
        opened_by=lead,
    )
    return [write_prompt(make_annotator(), round_, text) for text in texts]


def write_prompt(annotator: User, round_: Round, text: str) -> Comparison:
    return write_test_prompt(annotator, start_test_dialogue(annotator, round_), text)


def states(comparisons: list[Comparison]) -> list[str]:
    return [Comparison.objects.get(pk=comparison.pk).state for comparison in comparisons]


def test_all_that_waits_is_answered_by_both_policies(
    weights: list[Path], settings: Settings
) -> None:
    settings.SAMPLING_ROWS = 6  # three comparisons at once: seven need three batches
    policies = registered(weights)
    comparisons = write_prompts(policies, [f"tell me more about {i}" for i in range(7)])
    assert sample_waiting_comparisons() >= 7
    assert states(comparisons) == ["ready"] * 7
    for comparison in comparisons:
        samples = list(Sample.objects.filter(comparison=comparison))
        assert {sample.policy for sample in samples} == set(policies)
        assert {sample.side for sample in samples} == {"left", "right"}
        assert samples[0].temperature != samples[1].temperature
        assert all(0.7 <= sample.temperature <= 1.2 for sample in samples)
        assert all(1 <= sample.num_tokens <= 12 for sample in samples)
    assert sample_waiting_comparisons() == 0


def test_a_response_depends_on_its_own_seed_not_on_its_neighbours(weights: list[Path]) -> None:
    policies = registered(weights)
    comparisons = write_prompts(policies, ["how are you", "what is the sum of 1 and 2"])
    sample_waiting_comparisons()
    first = Sample.objects.filter(comparison=comparisons[0]).order_by("policy")
    together = [(sample.seed, sample.text) for sample in first]
    Sample.objects.filter(comparison=comparisons[0]).delete()
    Comparison.objects.filter(pk=comparisons[0].pk).update(state="waiting", sampling_attempts=0)
    sample_waiting_comparisons()
    assert [(sample.seed, sample.text) for sample in first.all()] == together


def test_a_policy_that_cannot_be_loaded_fails_its_own_comparisons_and_keeps_the_prompts(
    weights: list[Path],
) -> None:
    good, _ = registered(weights)
    answered = write_prompts([good], ["how are you"])
    broken = write_prompts([make_policy_version("broken")], ["tell me more"])
    sample_waiting_comparisons()
    assert states(answered) == ["ready"]
    (comparison,) = Comparison.objects.filter(pk=broken[0].pk)
    assert (comparison.state, comparison.prompt_text) == ("failed", "tell me more")
    events = SamplingEvent.objects.filter(comparison=comparison)
    assert [event.attempt for event in events.order_by("pk")] == [1, 2, 3]


def test_a_prompt_that_does_not_fit_the_policy_says_so(weights: list[Path]) -> None:
    policies = registered(weights)
    fits, long = write_prompts(policies, ["how are you", "tell me more " * 200])
    sample_waiting_comparisons()
    assert states([fits, long]) == ["ready", "failed"]
    event = SamplingEvent.objects.filter(comparison=long).first()
    assert event is not None
    assert event.detail["error"] == (
        "ValueError: the prompt does not fit into 244 tokens; write a shorter one"
    )


def test_policies_stay_loaded(weights: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "gone"
    shutil.copytree(weights[0], path)
    artifact = publish_artifact(path=path, kind="policy")
    policy = register_policy(name="once", artifact=artifact)
    write_prompts([policy], ["how are you"])
    sample_waiting_comparisons()
    shutil.move(artifact.location, tmp_path / "aside")
    again = write_prompts([policy], ["and now"])
    sample_waiting_comparisons()
    shutil.move(tmp_path / "aside", artifact.location)
    assert states(again) == ["ready"]
