"""Runs whose responses a real server draws."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from language.runs import RunContext
from language.transport import ServerUnavailableError
from policies.candidates import read_chunk
from policies.chunks import StoredChunks
from policies.context_distillation import context_distillation, read_pairs
from policies.ghost_attention import ghost_attention
from policies.ppo import ppo
from policies.rejection_sampling import rejection_sampling
from records.constraints import write_constraints
from records.errors import RecordError
from records.instruction_configs import ContextDistillationConfig, GhostAttentionConfig
from records.policy_configs import PPOConfig, RejectionSamplingConfig, SFTConfig
from records.preprompts import Preprompt, write_preprompts
from records.prompts import read_demonstrations
from records.run_configs import RunKind, SamplingConfig
from records.rundirs import RunDirectory
from simulation.instructions import sandbox_constraints
from tests.policies.toys import (
    LEARNING,
    create_run,
    metrics_of,
    only,
    weights_of,
    write_inputs,
    write_reward_model,
)
from tests.serving import Running, serving_transformers, serving_vllm, write_spoken_policy

RS_ROLES = ("policy", "start", "prompts", "helpfulness", "safety")
PPO_ROLES = ("policy", "reference", "prompts", "heldout_prompts", "helpfulness", "safety")
RS = RejectionSamplingConfig(
    device="cpu",
    engine="lab",
    num_responses=3,
    sampling=SamplingConfig(temperature=1.0, max_new_tokens=40),
    sweep_temperatures=(0.7, 1.0),
    num_sweep_prompts=4,
    rows_per_batch=12,
    finetune=SFTConfig(num_epochs=1.0, batch_size=4, optimizer=LEARNING),
)
PPO = PPOConfig(
    device="cpu",
    engine="lab",
    num_iterations=3,
    batch_size=8,
    minibatch_size=4,
    eval_every=2,
    sampling=SamplingConfig(max_new_tokens=20),
    optimizer=replace(LEARNING, learning_rate=1e-3),
    value_learning_rate=1e-3,
)
FINETUNING = SFTConfig(num_epochs=1.0, batch_size=4, optimizer=LEARNING)
GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=40)
GHOST = GhostAttentionConfig(
    device="cpu",
    num_dialogues=4,
    max_turns=3,
    sampling=GREEDY,
    rows_per_batch=2,
    finetune=FINETUNING,
)
DISTILLATION = ContextDistillationConfig(
    device="cpu", sampling=GREEDY, rows_per_batch=4, finetune=FINETUNING
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    policy = write_spoken_policy(folder / "spoken")
    write_constraints(folder / "constraints.jsonl", sandbox_constraints())
    write_preprompts(folder / "preprompts.jsonl", [Preprompt(text="be kind")])
    return {
        **write_inputs(folder),
        **{name: folder / f"{name}.jsonl" for name in ("constraints", "preprompts")},
        **dict.fromkeys(("policy", "start", "reference"), policy),
        "helpfulness": write_reward_model(folder / "spoken-helpfulness", policy, seed=1),
        "safety": write_reward_model(folder / "spoken-safety", policy, seed=2),
    }


@pytest.fixture(scope="module")
def transformers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving_transformers(tmp_path_factory.mktemp("server")) as running:
        yield running


def run_ppo(root: Path, config: PPOConfig, inputs: dict[str, Path]) -> RunDirectory:
    directory, spec = create_run(root, RunKind.PPO, config, only(inputs, *PPO_ROLES))
    ppo(directory, spec, RunContext(directory, config))
    return directory


@pytest.mark.slow
def test_rejection_sampling_draws_its_candidates_at_a_server(
    transformers: Running, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers.enter(tmp_path, monkeypatch, api="transformers")
    directory, spec = create_run(
        tmp_path / "run", RunKind.REJECTION_SAMPLING, RS, only(inputs, *RS_ROLES)
    )
    rejection_sampling(directory, spec, RunContext(directory, RS))
    stored = StoredChunks(directory.checkpoints / "candidates")
    chunks = [read_chunk(stored.read(number)) for number in range(3)]
    drawn = [c for chunk in chunks for group in chunk.candidates for c in group]
    assert len(drawn) == 36
    assert any(candidate.is_finished for candidate in drawn)
    result = directory.read_result()
    assert result is not None
    assert result["summary"]["num_samples"] == 36
    tried = result["summary"]["sweep"]["temperatures"]
    assert [figures["temperature"] for figures in tried] == [0.7, 1.0]
    assert result["summary"]["temperature"] in (0.7, 1.0)


def run_ghost_attention(
    root: Path, config: GhostAttentionConfig, inputs: dict[str, Path]
) -> RunDirectory:
    roles = ("policy", "start", "prompts", "constraints")
    directory, spec = create_run(root, RunKind.GHOST_ATTENTION, config, only(inputs, *roles))
    ghost_attention(directory, spec, RunContext(directory, config))
    return directory


def run_distillation(
    root: Path, config: ContextDistillationConfig, inputs: dict[str, Path]
) -> RunDirectory:
    roles = ("policy", "start", "prompts", "preprompts", "safety")
    directory, spec = create_run(root, RunKind.CONTEXT_DISTILLATION, config, only(inputs, *roles))
    context_distillation(directory, spec, RunContext(directory, config))
    return directory


@pytest.mark.slow
def test_ghost_attention_holds_its_dialogues_at_a_server(
    transformers: Running, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers.enter(tmp_path, monkeypatch, api="transformers")
    served = run_ghost_attention(tmp_path / "served", replace(GHOST, engine="lab"), inputs)
    local = run_ghost_attention(tmp_path / "local", GHOST, inputs)
    ours, theirs = (
        list(read_demonstrations(directory.outputs / "demonstrations.jsonl"))
        for directory in (local, served)
    )
    assert len(ours) > 0
    assert theirs == ours, "greedy texts are the same, turn after turn"


@pytest.mark.slow
def test_context_distillation_has_its_answers_drawn_at_a_server(
    transformers: Running, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers.enter(tmp_path, monkeypatch, api="transformers")
    config = replace(DISTILLATION, engine="lab")
    served = run_distillation(tmp_path / "served", config, inputs)
    local = run_distillation(tmp_path / "local", DISTILLATION, inputs)
    ours, theirs = (
        [
            (answer.text, answer.is_finished)
            for number in range(3)
            for pair in read_pairs(StoredChunks(made.checkpoints / "answers").read(number))
            for answer in pair
        ]
        for made in (local, served)
    )
    assert len(ours) == 12
    assert theirs == ours


@pytest.mark.slow
def test_neither_goes_on_by_itself_where_its_server_is_gone(
    transformers: Running, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {"url": "http://127.0.0.1:9", "num_attempts": 1}
    transformers.enter(tmp_path, monkeypatch, api="transformers", **gone)
    with pytest.raises(ServerUnavailableError, match="lab"):
        run_ghost_attention(tmp_path / "ghost", replace(GHOST, engine="lab"), inputs)
    with pytest.raises(ServerUnavailableError, match="lab"):
        run_distillation(tmp_path / "distilled", replace(DISTILLATION, engine="lab"), inputs)


@pytest.mark.slow
def test_ppo_does_without_a_server_that_says_no_log_probabilities(
    transformers: Running, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"handover": "folder", "handover_folder": str(tmp_path / "weights")}
    transformers.enter(tmp_path, monkeypatch, api="transformers", **fields)
    with pytest.raises(ValueError, match=r"engine: it does not say the log-probabilities"):
        run_ppo(tmp_path / "run", PPO, inputs)


@pytest.mark.slow
def test_ppo_hands_its_weights_to_a_vllm_before_each_iteration(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--served-model-name", "concord", "--logprobs-mode", "processed_logprobs"]
    with serving_vllm(inputs["policy"], tmp_path, *options) as server:
        fields = {"handover": "folder", "handover_folder": str(tmp_path / "weights")}
        server.enter(tmp_path, monkeypatch, model="concord", **fields)
        directory = run_ppo(tmp_path / "run", PPO, inputs)
    rows = metrics_of(directory)
    # The trainer's own log-probabilities: a server one step behind would be far off.
    assert [row["sampler_gap_max"] < 1e-4 for row in rows if row["step"] > 0] == [True] * 3
    assert {path.name for path in (tmp_path / "weights").iterdir()} == {"weights-run-3"}
    before = weights_of(inputs["policy"])["model.norm.weight"]
    assert not before.equal(weights_of(directory.outputs / "policy")["model.norm.weight"])


def test_an_address_is_no_engine() -> None:
    with pytest.raises(RecordError, match=r"engine: 'http://10.0.0.1:8000' is no name"):
        replace(PPO, engine="http://10.0.0.1:8000")
    with pytest.raises(RecordError, match=r"engine: 'lab/v1' is no name"):
        replace(RS, engine="lab/v1")
