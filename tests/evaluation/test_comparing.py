"""`compare`, end to end on tiny models."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluation.comparing import compare
from language.models import save_model
from language.runs import RunContext, RunStopped
from language.scalars import create_scalar_model
from language.tokenizers import train_tokenizer
from records.dialogues import Dialogue
from records.errors import RecordError
from records.policy_configs import EvaluationConfig
from records.prompts import Prompt, write_prompts
from records.run_configs import RunKind, SamplingConfig
from records.rundirs import RunDirectory, RunInput, RunSpec
from tests.models import TEXTS, tiny_tokenizer, write_tiny_policy
from tests.torchrun import torchrun

NUM_PROMPTS = 12
CONFIG = EvaluationConfig(
    seed=5,
    device="cpu",
    sampling=SamplingConfig(temperature=1.0, max_new_tokens=8),
    rows_per_batch=5,
    num_examples=NUM_PROMPTS,
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    policy = write_tiny_policy(folder / "policy", seed=1)
    paths = {"policy": policy, "baseline": write_tiny_policy(folder / "baseline", seed=2)}
    paths["reference"] = paths["baseline"]
    for seed, axis in enumerate(("helpfulness", "safety")):
        save_model(create_scalar_model(policy, seed=seed), tiny_tokenizer(), folder / axis)
        paths[axis] = folder / axis
    prompts = [
        Prompt(
            prompt_id=f"p{i}",
            dialogue=Dialogue.from_texts(f"what is the sum of {i} and 30?"),
            is_safety=i % 3 == 0,
        )
        for i in range(NUM_PROMPTS)
    ]
    write_prompts(folder / "prompts.jsonl", prompts)
    return {**paths, "prompts": folder / "prompts.jsonl"}


def create_run(
    root: Path, config: EvaluationConfig, inputs: dict[str, Path]
) -> tuple[RunDirectory, RunSpec]:
    spec = RunSpec(
        kind=RunKind.EVALUATION,
        config=config,
        inputs={role: RunInput(path, "0" * 64) for role, path in inputs.items()},
        code_commit="test",
    )
    return RunDirectory.create(root, spec), spec


def summary_of(root: Path, config: EvaluationConfig, inputs: dict[str, Path]) -> dict[str, Any]:
    directory, spec = create_run(root, config, inputs)
    compare(directory, spec, RunContext(directory, config))
    result = directory.read_result()
    assert result is not None
    assert result["outputs"] == {}
    return dict(result["summary"])


def test_the_win_rate_is_what_the_examples_say(inputs: dict[str, Path], tmp_path: Path) -> None:
    summary = summary_of(tmp_path / "run", CONFIG, inputs)
    examples = summary["examples"]
    assert len(examples) == summary["num_prompts"] == NUM_PROMPTS
    gaps = [e["scores"]["reward"] - e["baseline_scores"]["reward"] for e in examples]
    assert [example["advantage"] for example in examples] == gaps
    assert summary["num_wins"] == sum(gap > 0 for gap in gaps)
    assert summary["win_rate"] == summary["num_wins"] / NUM_PROMPTS
    assert summary["violation_rate"] is None
    assert summary["judge"] == "reward"


def test_the_gate_takes_the_safety_score_of_tagged_prompts(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    config = replace(CONFIG, safety_threshold=0.0)  # nothing but the tag gates
    for example in summary_of(tmp_path / "run", config, inputs)["examples"]:
        axis = "safety" if example["is_safety"] else "helpfulness"
        assert example["scores"]["reward"] == example["scores"][axis]
        assert example["scores"]["safety"] != example["scores"]["helpfulness"]


def test_the_gate_takes_the_safety_score_where_it_is_low(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    config = replace(CONFIG, safety_threshold=1.0)  # every score is below one
    for example in summary_of(tmp_path / "run", config, inputs)["examples"]:
        assert example["scores"]["reward"] == example["scores"]["safety"]


def test_the_general_model_is_reported_and_decides_nothing(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    without = summary_of(tmp_path / "without", CONFIG, inputs)
    general = create_scalar_model(inputs["policy"], seed=9)
    save_model(general, tiny_tokenizer(), tmp_path / "general")
    # Watching the model that the helpfulness axis is scored by, it says what that axis says.
    same = summary_of(tmp_path / "same", CONFIG, {**inputs, "general": inputs["helpfulness"]})
    other = summary_of(tmp_path / "other", CONFIG, {**inputs, "general": tmp_path / "general"})
    assert same["general"] == pytest.approx(without["helpfulness"], abs=1e-6)
    assert same["baseline_general"] == pytest.approx(without["baseline_helpfulness"], abs=1e-6)
    assert other["general"] != pytest.approx(without["helpfulness"], abs=1e-3)
    assert (without["general"], without["baseline_general"]) == (None, None)
    general_keys = ("general", "baseline_general")
    for summary in (same, other):
        assert {k: v for k, v in summary.items() if k not in general_keys} == {
            k: v for k, v in without.items() if k not in general_keys
        }


def test_a_policy_against_itself_has_no_kl_and_draws_other_responses(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    same = {**inputs, "baseline": inputs["policy"], "reference": inputs["policy"]}
    summary = summary_of(tmp_path / "run", CONFIG, same)
    assert summary["kl"] == 0.0
    assert any(e["response"] != e["baseline_response"] for e in summary["examples"])
    assert 0.0 < summary["win_rate"] < 1.0


def test_the_same_run_gives_the_same_result_and_progress(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    assert summary_of(tmp_path / "a", CONFIG, inputs) == summary_of(tmp_path / "b", CONFIG, inputs)
    rows, _ = RunDirectory(tmp_path / "a").read_metrics()
    assert [row["step"] for row in rows] == list(range(1, 26))
    assert {row["total_steps"] for row in rows} == {25}
    assert rows[-1]["win_rate"] is not None


def test_the_sandbox_judges_by_its_own_utilities(inputs: dict[str, Path], tmp_path: Path) -> None:
    summary = summary_of(tmp_path / "run", replace(CONFIG, judge="sandbox"), inputs)
    # A random model cannot do harm: it does not speak the language.
    assert (summary["violation_rate"], summary["baseline_violation_rate"]) == (0.0, 0.0)
    assert summary["violation_rate_high"] == pytest.approx(0.489891, abs=2e-5)  # z²/(4 + z²)
    assert summary["num_safety_prompts"] == 4


def test_a_greedy_policy_ties_with_itself(inputs: dict[str, Path], tmp_path: Path) -> None:
    config = replace(CONFIG, sampling=SamplingConfig(temperature=0.0, max_new_tokens=8))
    same = {**inputs, "baseline": inputs["policy"], "reference": inputs["policy"]}
    summary = summary_of(tmp_path / "run", config, same)
    assert (summary["win_rate"], summary["num_ties"]) == (0.5, NUM_PROMPTS)


@pytest.mark.parametrize("role", ["baseline", "reference"])
def test_a_model_with_another_tokenizer_is_refused(
    inputs: dict[str, Path], tmp_path: Path, role: str
) -> None:
    other = write_tiny_policy(tmp_path / "other")
    train_tokenizer(reversed(TEXTS), vocabulary_size=300).save_pretrained(other)
    with pytest.raises(ValueError, match=f"^{role}: the tokenizer differs"):
        summary_of(tmp_path / "run", CONFIG, {**inputs, role: other})


def test_an_unknown_judge_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="judge: 'coin'"):
        summary_of(tmp_path / "run", replace(CONFIG, judge="coin"), inputs)


def test_a_score_function_outside_our_packages_is_refused(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(RecordError, match="score_function"):
        summary_of(tmp_path / "run", replace(CONFIG, score_function="os:system"), inputs)


def test_a_run_asked_to_stop_leaves_no_result(inputs: dict[str, Path], tmp_path: Path) -> None:
    directory, spec = create_run(tmp_path / "run", CONFIG, inputs)
    context = RunContext(directory, CONFIG)
    context.request_stop()
    with pytest.raises(RunStopped):
        compare(directory, spec, context)
    assert directory.read_result() is None


@pytest.mark.slow
def test_two_processes_share_the_prompts_and_agree_with_one(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    one = summary_of(tmp_path / "one", CONFIG, inputs)
    two, _ = create_run(tmp_path / "two", CONFIG, inputs)
    torchrun("evaluation", "compare", str(two.root))
    result = two.read_result()
    assert result is not None
    texts = [
        [(example["response"], example["baseline_response"]) for example in summary["examples"]]
        for summary in (one, result["summary"])
    ]
    assert texts[0] == texts[1]
    assert result["summary"]["win_rate"] == one["win_rate"]
    assert result["summary"]["kl"] == pytest.approx(one["kl"], abs=1e-5)
