"""Live responses from a real server, where one is entered as holding the policy."""

from pathlib import Path

import pytest
from pytest_django import Settings

from annotation.models import Comparison, Round, Sample, SamplingEvent, User
from annotation.services import NewVariant, open_round
from language.chat import decode_response
from language.engines import RemoteEngine
from language.generation import GenerationRequest, generate
from records.errors import RecordError
from records.preferences import Axis
from registry.models import PolicyVersion
from registry.services import publish_artifact, register_policy
from tests.factories import (
    make_annotator,
    make_guidelines,
    make_lead,
    start_test_dialogue,
    write_test_prompt,
)
from tests.models import tiny_tokenizer
from tests.serving import (
    prompt_ids,
    serving_transformers,
    spoken_policy,
    write_spoken_policy,
)
from workers import sampling
from workers.sampling import sample_waiting_comparisons

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh(settings: Settings) -> None:
    settings.SAMPLING_THREADS = 1
    settings.SAMPLING_SERVERS = ["lab"]
    sampling._load.cache_clear()


def registered(folder: Path) -> list[PolicyVersion]:
    """Return two policies that differ, registered."""
    paths = [write_spoken_policy(folder / f"spoken-{seed}", seed) for seed in (0, 1)]
    return [
        register_policy(name=path.name, artifact=publish_artifact(path=path, kind="policy"))
        for path in paths
    ]


def write_prompt(policies: list[PolicyVersion], text: str) -> Comparison:
    lead = make_lead()
    round_: Round = open_round(
        name=f"round of {lead}",
        axis=Axis.HELPFULNESS,
        guidelines=make_guidelines(lead=lead),
        variants=[
            # As good as greedy, but a round's two temperatures must differ.
            NewVariant(policy, t, t, max_new_tokens=40)
            for t, policy in zip((0.0, 0.01), policies, strict=True)
        ],
        target_comparisons=100,
        max_turns=3,
        opened_by=lead,
    )
    annotator: User = make_annotator()
    return write_test_prompt(annotator, start_test_dialogue(annotator, round_), text)


@pytest.mark.slow
def test_waiting_comparisons_are_answered_by_the_server_and_outlive_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policies = registered(tmp_path)
    with serving_transformers(tmp_path) as server:
        server.enter(tmp_path, monkeypatch, api="transformers")
        comparison = write_prompt(policies, "hello there")
        sample_waiting_comparisons()
        engines = [sampling._load(policy.artifact.location).engine for policy in policies]
        assert all(isinstance(engine, RemoteEngine) for engine in engines)
    request = GenerationRequest(prompt_ids("hello there"), 0.0, 1.0, 40, seed=0)
    for seed, policy in enumerate(policies):
        sample = Sample.objects.get(comparison=comparison, policy=policy)
        ((ours,),) = generate(spoken_policy(seed), [request], eos_ids=[2])
        assert sample.text == decode_response(tiny_tokenizer(), ours.ids)
        assert sample.is_finished == ours.is_finished

    # The server has gone: the prompt is kept, and each attempt says why.
    orphan = write_prompt(policies, "how are you")
    sample_waiting_comparisons()
    orphan.refresh_from_db()
    assert (orphan.state, orphan.prompt_text) == ("failed", "how are you")
    errors = [e.detail["error"] for e in SamplingEvent.objects.filter(comparison=orphan)]
    assert len(errors) == 3
    assert all("ServerUnavailableError: lab: POST /v1/completions" in error for error in errors)


def test_a_policy_that_no_server_holds_is_sampled_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "servers.json").write_text(
        '{"lab": {"url": "http://127.0.0.1:1", "model": "another-policy"}}'
    )
    monkeypatch.setenv("CONCORD_GENERATION_SERVERS", str(tmp_path / "servers.json"))
    comparison = write_prompt(registered(tmp_path), "hello there")
    sample_waiting_comparisons()
    comparison.refresh_from_db()
    assert comparison.state == "ready"


def test_a_server_that_is_not_in_the_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "servers.json").write_text("{}")
    monkeypatch.setenv("CONCORD_GENERATION_SERVERS", str(tmp_path / "servers.json"))
    with pytest.raises(RecordError, match=r"CONCORD_SAMPLING_SERVERS: .* has no server 'lab'"):
        sampling._load(write_spoken_policy(tmp_path / "spoken"))
