"""Two processes share dialogues, answers, temperatures and rows, and make what one makes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from language.runs import seed_everything
from records.constraints import write_constraints
from records.instruction_configs import PersistenceConfig
from records.preprompts import Preprompt, write_preprompts
from records.run_configs import OptimizerConfig, RunConfig, RunKind
from records.rundirs import RunDirectory
from tests.language.several import COMMANDS, Interrupted
from tests.models import write_tiny_policy
from tests.policies import (
    test_context_distillation,
    test_ghost_attention,
    test_rejection_sampling,
    test_temperature_sweep,
)
from tests.policies.toys import create_run, metrics_of, only, weights_of, write_inputs
from tests.torchrun import torchrun

# Adam turns rounding errors of vanishing gradients into steps; its epsilon keeps them small.
TUNING = OptimizerConfig(learning_rate=1e-3, adam_epsilon=1e-3, min_warmup_steps=0)
GHOST = test_ghost_attention.CONFIG
DISTILLATION = test_context_distillation.CONFIG
SWEPT = test_temperature_sweep.SWEPT
RUNS: dict[str, tuple[RunKind, RunConfig]] = {
    "ghost": (
        RunKind.GHOST_ATTENTION,
        replace(GHOST, finetune=replace(GHOST.finetune, optimizer=TUNING)),
    ),
    "distilled": (
        RunKind.CONTEXT_DISTILLATION,
        replace(DISTILLATION, finetune=replace(DISTILLATION.finetune, optimizer=TUNING)),
    ),
    "swept": (
        RunKind.REJECTION_SAMPLING,
        replace(SWEPT, finetune=replace(SWEPT.finetune, optimizer=TUNING)),
    ),
    "measured": (
        RunKind.PERSISTENCE,
        PersistenceConfig(device="cpu", num_dialogues=5, num_turns=2, sampling=GHOST.sampling),
    ),
}
ROLES = {
    "ghost": ("policy", "start", "prompts", "constraints"),
    "distilled": ("policy", "start", "prompts", "preprompts", "safety"),
    "swept": test_rejection_sampling.ROLES,
    "measured": ("policy", "baseline", "prompts"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, dict[str, RunDirectory]]:
    """The runs of one process and of two, real ones, by torchrun with gloo."""
    root = tmp_path_factory.mktemp("runs")
    made = write_inputs(root / "inputs")
    policy = test_ghost_attention.speaking_policy(root / "speaking")
    write_constraints(root / "constraints.jsonl", test_ghost_attention.CONSTRAINTS)
    write_preprompts(root / "preprompts.jsonl", [Preprompt(text="be kind")])
    inputs = {
        **made,
        "policy": policy,
        "start": policy,
        "baseline": write_tiny_policy(root / "baseline", seed=4),
        "constraints": root / "constraints.jsonl",
        "preprompts": root / "preprompts.jsonl",
    }
    folders = {
        number: {
            name: create_run(root / number / name, *RUNS[name], only(inputs, *ROLES[name]))[0]
            for name in RUNS
        }
        for number in ("one", "two")
    }
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for directory in folders["one"].values():
        spec = directory.read_spec()
        seed_everything(spec.config.seed)
        COMMANDS[spec.kind](directory, spec, Interrupted(directory, spec.config))
    torch.set_num_threads(before)
    roots = (str(directory.root) for directory in folders["two"].values())
    torchrun("tests.language.several", *roots)
    return folders


def summary_of(directory: RunDirectory) -> dict[str, Any]:
    result = directory.read_result()
    assert result is not None
    return dict(result["summary"])


@pytest.mark.parametrize("name", ["ghost", "distilled", "swept"])
def test_two_processes_learn_what_one_does(
    folders: Mapping[str, dict[str, RunDirectory]], name: str
) -> None:
    one, two = folders["one"][name], folders["two"][name]
    for mine, theirs in zip(metrics_of(two), metrics_of(one), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4, rel=1e-3)
    rows = "outputs/demonstrations.jsonl"
    assert (two.root / rows).read_bytes() == (one.root / rows).read_bytes()
    weights, expected = weights_of(two.outputs / "policy"), weights_of(one.outputs / "policy")
    for name_, tensor in expected.items():
        torch.testing.assert_close(weights[name_], tensor, atol=1e-5, rtol=0.0)


def test_two_processes_take_the_temperature_that_one_takes(
    folders: Mapping[str, dict[str, RunDirectory]],
) -> None:
    one, two = (folders[number]["swept"] for number in ("one", "two"))
    assert [row.get("sweep_temperature") for row in metrics_of(two)[:6]] == [
        0.6, 0.6, 1.0, 1.0, 1.4, 1.4
    ]  # fmt: skip
    for file in ("sweep.json", "selection.json"):
        assert (two.checkpoints / file).read_bytes() == (one.checkpoints / file).read_bytes()


def test_two_processes_measure_what_one_does(
    folders: Mapping[str, dict[str, RunDirectory]],
) -> None:
    assert summary_of(folders["two"]["measured"]) == summary_of(folders["one"]["measured"])
