"""PPO of two processes: what one computes, and resumed bit for bit after a kill -9 mid-iteration.

One process's runs are made here; those of two, real ones, by torchrun with gloo.
"""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from records.policy_configs import PPOConfig
from records.ppo_choices import ValueNetwork, WhitenScope
from records.run_configs import RunKind
from records.rundirs import RunDirectory, RunInput, RunSpec
from tests.language.several import work_off
from tests.policies.iterating import iteration_of
from tests.policies.test_ppo import CONFIG, ROLES
from tests.policies.toys import (
    assert_equal_weights,
    metrics_of,
    only,
    weights_of,
    write_inputs,
    write_reward_model,
)
from tests.torchrun import torchrun

# Five rows in minibatches of four: the last has one row, and one of two processes none of it. Few
# tokens at once: processes differ in the number of their groups. Adam turns rounding errors of
# vanishing gradients into steps; its epsilon keeps them small.
TEN = replace(
    CONFIG,
    num_iterations=10,
    batch_size=5,
    minibatch_size=4,
    tokens_per_microbatch=60,
    rows_per_batch=4,
    eval_every=5,
    checkpoint_every=5,
    optimizer=replace(CONFIG.optimizer, adam_epsilon=1e-3),
)
TWO = replace(TEN, num_iterations=2, eval_every=2, checkpoint_every=1)
# All rows are one gradient step: its forward pass is the one that came before the update.
STEP = replace(TWO, minibatch_size=5, tokens_per_microbatch=10_000)
RUNS: dict[str, PPOConfig] = {
    "whole": TEN,
    "running": replace(
        TWO,
        num_epochs=2,
        whiten_scope=WhitenScope.RUNNING,
        kl_target=0.5,
        checkpoint_activations=True,
    ),
    "noise": replace(TWO, score_function="policies.noise:load_score_fn"),
    "shared": replace(TWO, value_network=ValueNetwork.SHARED),
    "adapters": replace(TWO, lora_rank=4),
    "step": STEP,
    "step of adapters": replace(STEP, lora_rank=4),
}


class Runs(NamedTuple):
    """Run directories by name, of one process and of two."""

    one: dict[str, RunDirectory]
    two: dict[str, RunDirectory]
    killed: subprocess.CompletedProcess[str]
    """How torchrun ended after one of its processes was killed."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    made = write_inputs(folder)
    general = write_reward_model(folder / "general", made["policy"], seed=3)
    return {**only(made, *ROLES), "general": general}


def make(root: Path, config: PPOConfig, inputs: Mapping[str, Path]) -> RunDirectory:
    """Write a run directory; policy and reference, one folder, have the same digest."""
    spec = RunSpec(
        kind=RunKind.PPO,
        config=config,
        inputs={role: RunInput(path, f"digest of {path.name}") for role, path in inputs.items()},
        code_commit="test",
    )
    return RunDirectory.create(root, spec)


@pytest.fixture(scope="module")
def runs(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """All runs of this module: two starts of torchrun, the first of which ends with a kill -9."""
    root = tmp_path_factory.mktemp("runs")
    one, two = ({n: make(root / s / n, c, inputs) for n, c in RUNS.items()} for s in ("one", "two"))
    for name in ("killed", "continued"):
        two[name] = make(root / "two" / name, TEN, inputs)
    one["continued"] = make(root / "one" / "continued", TEN, inputs)
    two["adapters, stopped"] = make(root / "two" / "stopped", RUNS["adapters"], inputs)
    two["bfloat16"] = make(root / "two" / "bfloat16", replace(TWO, dtype="bfloat16"), inputs)
    work_off([str(one[name].root) for name in RUNS])
    work_off([f"{two['continued'].root}@5"])

    killed = torchrun("tests.policies.iterating", "killed", str(two["killed"].root), check=False)
    assert [row["step"] for row in metrics_of(two["killed"])] == list(range(7)), killed.stderr
    torchrun(
        "tests.policies.iterating",
        str(two["whole"].root),
        f"{two['adapters, stopped'].root}@1",
        *(str(directory.root) for directory in two.values()),
        f"{one['continued'].root}@5",
    )
    work_off([str(one["continued"].root)])
    return Runs(one, two, killed)


def summary_of(directory: RunDirectory) -> dict[str, Any]:
    result = directory.read_result()
    assert result is not None, directory.read_failure()
    return {name: value for name, value in result["summary"].items() if name != "networks"}


def assert_close(found: RunDirectory, expected: RunDirectory) -> None:
    """Assert that metrics, summary and weights of two runs agree but for rounding."""
    for mine, theirs in zip(metrics_of(found), metrics_of(expected), strict=True):
        assert_alike(mine, theirs)
    assert_alike(summary_of(found), summary_of(expected))
    for output in ("policy", "value"):
        weights, others = (weights_of(run.outputs / output) for run in (found, expected))
        assert list(weights) == list(others)
        for name, tensor in others.items():
            torch.testing.assert_close(weights[name], tensor, atol=1e-5, rtol=0.0)


def assert_alike(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Assert that two rows agree: real numbers but for rounding, all else exactly."""
    assert list(mine) == list(theirs)
    for name, value in theirs.items():
        if name == "event":
            continue  # an alarm's words hold rounded numbers
        is_real = isinstance(value, float)
        expected = pytest.approx(value, abs=1e-5, rel=1e-4) if is_real else value
        assert mine[name] == expected, name


def test_rewards_advantages_and_weights_of_an_iteration_are_those_of_one_process(
    runs: Runs,
) -> None:
    expected = iteration_of(runs.one["whole"])
    parts = [
        load_file(runs.two["whole"].root / f"iteration-{rank}.safetensors") for rank in range(2)
    ]
    assert_shared_out([part.pop("held") for part in parts], expected.pop("held"), expected)
    assert all(torch.equal(parts[0][name], parts[1][name]) for name in expected)
    assert torch.equal(parts[0]["ids_M"], expected["ids_M"])
    for name, tensor in expected.items():
        torch.testing.assert_close(parts[0][name], tensor, atol=1e-5, rtol=1e-5, msg=name)
    assert_white(parts[0]["advantages_M"])


def assert_shared_out(
    held: Sequence[Tensor], held_by_one: Tensor, weights: Mapping[str, Tensor]
) -> None:
    """Assert that two processes together hold what one does, and the three reward models."""
    assert held[1][0].item() == pytest.approx(held[0][0].item(), rel=0.01)
    more, gradients, moments = (held[0] + held[1] - held_by_one).tolist()
    reward_model = sum(t.nbytes for name, t in weights.items() if name.startswith("value_model."))
    assert (more, gradients, moments) == (3 * reward_model, 0, 0)


def assert_white(values: Tensor) -> None:
    """Assert that the values of all processes together have mean 0 and deviation 1."""
    assert values.double().mean().item() == pytest.approx(0.0, abs=1e-6)
    assert values.double().std(correction=0).item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_learn_what_one_does(runs: Runs, name: str) -> None:
    assert_close(runs.two[name], runs.one[name])
    assert any(row["kl"] != 0.0 for row in metrics_of(runs.two[name])[1:]), "the policy learns"


def test_a_killed_process_ends_the_run_with_a_clear_error(runs: Runs) -> None:
    assert runs.killed.returncode != 0
    assert "exitcode  : -9" in runs.killed.stderr
    assert "process 0 of 2 ends, as another one is gone" in runs.killed.stderr
    assert runs.two["killed"].read_failure() is None


def test_five_iterations_a_kill_within_the_seventh_and_five_more_are_ten_bit_for_bit(
    runs: Runs,
) -> None:
    assert_equal(runs.two["killed"], runs.two["whole"])
    assert len(metrics_of(runs.two["whole"])) == 11


def assert_equal(resumed: RunDirectory, whole: RunDirectory) -> None:
    """Assert that metrics, summary and weights agree in every bit."""
    assert metrics_of(resumed) == metrics_of(whole)
    assert summary_of(resumed) == summary_of(whole)
    for output in ("policy", "value"):
        assert_equal_weights(resumed.outputs / output, whole.outputs / output)


def test_adapters_that_each_process_holds_whole_are_resumed_bit_for_bit(runs: Runs) -> None:
    assert_equal(runs.two["adapters, stopped"], runs.two["adapters"])


def test_one_process_begins_and_two_go_on(runs: Runs) -> None:
    assert_close(runs.two["continued"], runs.one["whole"])


def test_two_processes_begin_and_one_goes_on(runs: Runs) -> None:
    assert_close(runs.one["continued"], runs.one["whole"])


def test_each_process_keeps_half_of_the_weights_in_its_file_of_a_checkpoint(runs: Runs) -> None:
    (*_, newest) = sorted(runs.two["whole"].checkpoints.glob("step-*"))
    sizes = []
    for number in (1, 2):
        path = newest / f"tensors-0000{number}-of-00002.safetensors"
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if not name.startswith("rng")]  # noqa: SIM118
            sizes.append(sum(file.get_tensor(name).numel() for name in names))
    # Matrices are cut evenly; the value head, a single row, is the first one's.
    assert sizes[1] == pytest.approx(sizes[0], rel=0.01)


def test_what_two_processes_write_is_laid_out_as_what_one_writes(runs: Runs) -> None:
    for output in ("policy", "value"):
        two, one = (made["whole"].outputs / output for made in (runs.two, runs.one))
        assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
        for text in one.glob("*.json"):
            assert (two / text.name).read_bytes() == text.read_bytes(), text.name


def test_only_the_best_policy_is_kept(runs: Runs) -> None:
    for directory in (runs.two["whole"], runs.two["killed"]):
        best = f"best-{summary_of(directory)['best_iteration']:08d}"
        assert best in {path.name for path in directory.checkpoints.glob("best-*")}


def test_the_log_of_the_result_says_what_is_cut(runs: Runs) -> None:
    words = {}
    for name in ("whole", "noise", "shared", "adapters"):
        result = runs.two[name].read_result()
        assert result is not None
        words[name] = result["summary"]["networks"]
    assert words["whole"] == (
        "policy, value model, reference and reward models are cut over 2 processes"
    )
    assert words["noise"].startswith("policy, value model and reference are cut over 2 processes")
    assert words["shared"].endswith("in each of 2 processes")
    assert words["adapters"].endswith("in each of 2 processes")


def test_bfloat16_runs_in_two_processes(runs: Runs) -> None:
    rows = metrics_of(runs.two["bfloat16"])[1:]
    assert all(row["ratio_max_deviation"] < 0.05 for row in rows)
    weights = weights_of(runs.two["bfloat16"].outputs / "policy")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
