"""The shared loop: two processes that cut the model between them do what one does, and resume.

One process's run is made here; those of two, real ones, by torchrun with gloo. They share a start.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors import safe_open
from transformers import LlamaForSequenceClassification

from language.runs import RunStopped, seed_everything
from language.scalars import load_scalar_model, score_rows
from language.training import micro_batches
from records.policy_configs import PretrainConfig, SFTConfig
from records.preferences import Axis, SafetyBin
from records.prompts import write_demonstrations
from records.reward_configs import RewardModelConfig
from records.run_configs import ModelShape, OptimizerConfig, RunConfig, RunKind, Schedule
from records.rundirs import RunDirectory
from rewardmodels.data import encode_pairs
from tests.language.several import COMMANDS, Interrupted
from tests.models import tiny_tokenizer, write_tiny_policy
from tests.policies.toys import (
    create_run,
    demonstrations,
    metrics_of,
    weights_of,
    write_reward_model,
)
from tests.rewardmodels.toys import preference, write_toy_snapshot
from tests.torchrun import torchrun

ROOT = Path(__file__).resolve().parents[2]
# Adam turns rounding errors of vanishing gradients into steps; its epsilon keeps them small.
OPTIMIZER = OptimizerConfig(
    learning_rate=1e-3, adam_epsilon=1e-3, min_warmup_steps=2, schedule=Schedule.COSINE
)
REWARD = RewardModelConfig(
    seed=3, device="cpu", other_axis_share=0.0, pairs_per_batch=8, checkpoint_every=5,
    optimizer=OPTIMIZER,
)  # fmt: skip
SFT = SFTConfig(
    seed=3, device="cpu", num_epochs=2.0, batch_size=5, checkpoint_every=2, optimizer=OPTIMIZER
)
RUNS: dict[str, tuple[RunKind, RunConfig]] = {
    # 82 pairs: three steps of 27 pairs and one of a single pair, which one process has none of.
    "uneven": (RunKind.REWARD_MODEL, replace(REWARD, pairs_per_batch=27, safety_loss_weight=0.5)),
    "accumulated": (
        RunKind.REWARD_MODEL,
        replace(REWARD, tokens_per_microbatch=64, num_epochs=0.4),
    ),
    "adapters": (
        RunKind.REWARD_MODEL,
        replace(REWARD, lora_rank=4, checkpoint_activations=True, tokens_per_microbatch=100),
    ),
    "sft": (RunKind.SFT, SFT),
    "sft_accumulated": (
        RunKind.SFT,
        replace(SFT, tokens_per_microbatch=70, checkpoint_activations=True),
    ),
    "pretrain": (
        RunKind.PRETRAIN,
        PretrainConfig(
            shape=ModelShape(hidden_size=32, intermediate_size=64, num_layers=2, max_positions=128),
            vocabulary_size=300, tokens_per_batch=200, device="cpu", optimizer=OPTIMIZER,
        ),
    ),
}  # fmt: skip
BFLOAT16 = replace(
    REWARD, dtype="bfloat16", lora_rank=4, optimizer=replace(OPTIMIZER, learning_rate=3e-2)
)

SEVERAL = "tests.language.several"


class Folders(NamedTuple):
    """Run directories by name, of one process and of two."""

    one: dict[str, RunDirectory]
    two: dict[str, RunDirectory]
    killed: subprocess.CompletedProcess[str]
    """How torchrun ended after one of its processes was killed."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """82 pairs to train on, of which some have safety bins, and 41 held out; 12 demonstrations."""
    folder = tmp_path_factory.mktemp("inputs")
    bins = [None, *SafetyBin]
    preferences = [
        preference(i, dialogue_id=f"d{i}", axis=Axis.HELPFULNESS, safety_bin=bins[i % 4])
        for i in range(123)
    ]
    write_demonstrations(folder / "demonstrations.jsonl", demonstrations())
    policy = write_tiny_policy(folder / "policy")
    return {
        "policy": policy,
        "previous": write_reward_model(folder / "previous", policy, seed=9),
        "demonstrations": folder / "demonstrations.jsonl",
        "snapshot": write_toy_snapshot(
            folder / "snapshot", preferences, test_ids=[f"d{i}" for i in range(82, 123)]
        ),
    }


def make(root: Path, kind: RunKind, config: RunConfig, inputs: dict[str, Path]) -> RunDirectory:
    roles = {
        RunKind.REWARD_MODEL: ("policy", "snapshot", "previous"),
        RunKind.SFT: ("policy", "demonstrations"),
        RunKind.PRETRAIN: ("demonstrations",),
    }[kind]
    directory, _ = create_run(root, kind, config, {role: inputs[role] for role in roles})
    return directory


def run_alone(directory: RunDirectory, *, stop_at: int = 0) -> None:
    """Do a run in this process, as a fresh one would."""
    spec = directory.read_spec()
    seed_everything(spec.config.seed)
    try:
        COMMANDS[spec.kind](directory, spec, Interrupted(directory, spec.config, stop_at=stop_at))
    except RunStopped:
        assert stop_at


@pytest.fixture(scope="module")
def folders(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folders]:
    """All runs of this module: two starts of torchrun, the first of which ends with a kill -9."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("runs")
    one = {name: make(root / "one" / name, *RUNS[name], inputs) for name in RUNS}
    two = {name: make(root / "two" / name, *RUNS[name], inputs) for name in RUNS}
    reward = (RunKind.REWARD_MODEL, replace(REWARD, num_epochs=0.9))
    for name in ("whole", "killed", "continued"):
        two[name] = make(root / "two" / name, *reward, inputs)
    one["whole"] = make(root / "one" / "whole", *reward, inputs)
    one["continued"] = make(root / "one" / "continued", *reward, inputs)
    two["bfloat16"] = make(root / "two" / "bfloat16", RunKind.REWARD_MODEL, BFLOAT16, inputs)

    for name in (*RUNS, "whole"):
        run_alone(one[name])
    run_alone(two["continued"], stop_at=5)
    killed = torchrun(SEVERAL, "killed", str(two["killed"].root), "7", check=False)
    assert two["killed"].read_failure() is None, killed.stderr
    assert [row["step"] for row in metrics_of(two["killed"])] == list(range(1, 8))
    torchrun(
        SEVERAL,
        *(str(directory.root) for directory in two.values()),
        f"{one['continued'].root}@5",
    )
    run_alone(one["continued"])
    torch.set_num_threads(before)
    return Folders(one, two, killed)


def output_of(directory: RunDirectory) -> Path:
    result = directory.read_result()
    assert result is not None, directory.read_failure()
    (name,) = result["outputs"].values()
    return directory.root / name


def summary_of(directory: RunDirectory) -> dict[str, Any]:
    result = directory.read_result()
    assert result is not None
    return dict(result["summary"])


def assert_close(found: RunDirectory, expected: RunDirectory) -> None:
    """Assert that metrics, weights and report of two runs agree but for rounding."""
    for mine, theirs in zip(metrics_of(found), metrics_of(expected), strict=True):
        assert list(mine) == list(theirs)
        assert mine == pytest.approx(theirs, abs=1e-5, rel=1e-4)
    weights, expected_weights = weights_of(output_of(found)), weights_of(output_of(expected))
    assert list(weights) == list(expected_weights)
    for name, tensor in expected_weights.items():
        torch.testing.assert_close(weights[name], tensor, atol=1e-5, rtol=0.0)
    assert summary_of(found)["loss"] == pytest.approx(summary_of(expected)["loss"], abs=1e-5)


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_learn_what_one_does(folders: Folders, name: str) -> None:
    assert_close(folders.two[name], folders.one[name])


def test_two_processes_report_what_one_does(folders: Folders) -> None:
    found, expected = summary_of(folders.two["uneven"]), summary_of(folders.one["uneven"])
    assert found["num_test"] == 41
    assert found["previous_accuracy"]["overall"]["n"] == 41
    for name in ("accuracy", "accuracy_by_safety_bin", "previous_accuracy", "num_parameters"):
        assert found[name] == expected[name], name


@pytest.mark.parametrize("name", ["uneven", "adapters", "sft"])
def test_what_two_processes_write_is_laid_out_as_what_one_writes(
    folders: Folders, name: str
) -> None:
    two, one = output_of(folders.two[name]), output_of(folders.one[name])
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
    texts = [path.name for path in one.glob("*.json")]
    assert "config.json" in texts
    for text in texts:
        assert (two / text).read_bytes() == (one / text).read_bytes(), text


def test_transformers_loads_what_two_processes_wrote_and_scores_the_same(folders: Folders) -> None:
    folder = output_of(folders.two["adapters"])
    theirs = LlamaForSequenceClassification.from_pretrained(folder)
    items = [preference(i) for i in range(200, 206)]
    rows = [p.chosen for p in encode_pairs(tiny_tokenizer(), items, max_tokens=256).pairs]
    ours = score_rows(load_scalar_model(folder), rows, rows_per_batch=4)
    with torch.no_grad():
        expected = [
            theirs(input_ids=torch.tensor([[*row.prompt_ids, *row.response_ids]])).logits.item()
            for row in rows
        ]
    assert ours.tolist() == pytest.approx(expected, abs=1e-5)
    alone = load_scalar_model(output_of(folders.one["adapters"]))
    alone_scores = score_rows(alone, rows, rows_per_batch=4)
    torch.testing.assert_close(ours, alone_scores, atol=1e-4, rtol=0.0)


def test_a_killed_process_ends_the_run_with_a_clear_error(folders: Folders) -> None:
    assert folders.killed.returncode != 0
    assert "process 0 of 2 ends, as another one is gone" in folders.killed.stderr
    assert "the run goes on from its last checkpoint" in folders.killed.stderr
    assert "exitcode  : -9" in folders.killed.stderr  # by which the launcher knows to resume it


def test_five_steps_a_kill_and_five_more_are_ten_bit_for_bit(folders: Folders) -> None:
    assert_equal(folders.two["killed"], folders.two["whole"])
    assert len(metrics_of(folders.two["whole"])) == 10


def test_one_process_that_is_killed_goes_on_bit_for_bit(
    folders: Folders, inputs: dict[str, Path], tmp_path: Path
) -> None:
    config = folders.one["whole"].read_spec().config
    directory = make(tmp_path / "killed", RunKind.REWARD_MODEL, config, inputs)
    command = [sys.executable, "-m", "tests.language.several", "killed", str(directory.root), "7"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=600)
    assert ended.returncode == -9
    assert len(metrics_of(directory)) == 7
    torch.manual_seed(99)  # whatever the next process begins with
    run_alone(directory)
    assert_equal(directory, folders.one["whole"])


def assert_equal(resumed: RunDirectory, whole: RunDirectory) -> None:
    """Assert that metrics, result and weights agree in every bit."""
    assert metrics_of(resumed) == metrics_of(whole)
    assert summary_of(resumed) == summary_of(whole)
    weights, expected = weights_of(output_of(resumed)), weights_of(output_of(whole))
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)


def test_one_process_begins_and_two_go_on(folders: Folders) -> None:
    assert_close(folders.two["continued"], folders.one["whole"])


def test_two_processes_begin_and_one_goes_on(folders: Folders) -> None:
    assert_close(folders.one["continued"], folders.one["whole"])


def test_each_process_keeps_half_of_the_weights_in_its_file_of_a_checkpoint(
    folders: Folders,
) -> None:
    (*_, newest) = sorted(folders.two["whole"].checkpoints.glob("step-*"))
    sizes = []
    for number in (1, 2):
        path = newest / f"tensors-0000{number}-of-00002.safetensors"
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(("model.", "optimizer."))]  # noqa: SIM118
            sizes.append(sum(file.get_tensor(name).numel() for name in names))
    # Matrices are cut evenly; the head, a single row, is the first one's.
    assert sizes[1] == pytest.approx(sizes[0], rel=0.01)


def test_bfloat16_and_adapters_learn_in_two_processes(folders: Folders) -> None:
    directory = folders.two["bfloat16"]
    assert summary_of(directory)["accuracy"]["overall"]["low"] > 0.6
    weights = weights_of(output_of(directory))
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert not any("lora" in name for name in weights)


def test_every_process_has_as_many_micro_batches() -> None:
    lengths = [9, 8, 8, 3, 1]
    first = micro_batches(lengths, tokens=10, rank=0, world_size=2)
    second = micro_batches(lengths, tokens=10, rank=1, world_size=2)
    # Lengths 9, 8, 1 make two groups; 8 and 3 are two groups as well.
    assert first == [[0, 4], [2]]
    assert second == [[1], [3]]
    assert micro_batches([5], tokens=10, rank=1, world_size=2) == [[]]


def test_one_process_has_the_micro_batches_of_split_by_tokens() -> None:
    assert micro_batches([9, 8, 3, 1], tokens=10, rank=0, world_size=1) == [[0, 3], [1], [2]]
