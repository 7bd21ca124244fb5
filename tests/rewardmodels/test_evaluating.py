"""The run that reports on a reward model: by hand where numbers count, end to end for the rest."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from language.models import save_model
from language.scalars import create_scalar_model
from records.preferences import Axis, Rating, SafetyBin
from records.reward_configs import RewardEvaluationConfig, RewardModelConfig
from records.run_configs import RunKind
from records.rundirs import RunDirectory, RunInput, RunSpec
from rewardmodels.evaluating import build_report, evaluate, list_disagreements
from rewardmodels.scored import read_scored_pairs
from rewardmodels.training import train
from tests.models import tiny_tokenizer, write_tiny_policy
from tests.rewardmodels.rows import row
from tests.rewardmodels.toys import (
    LEARNING,
    context_for,
    create_run,
    preference,
    write_toy_snapshot,
)

CONFIG = RewardEvaluationConfig(num_resamples=100, disagreement_confidence=0.5)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model trained on 40 pairs, a random predecessor, and two snapshots with held-out sides."""
    folder = tmp_path_factory.mktemp("inputs")
    newest = [preference(i, round_name="second") for i in range(60)]
    newest += [
        preference(i, axis=Axis.SAFETY, round_name="red", safety_bin=SafetyBin.CHOSEN_SAFE)
        for i in range(60, 70)
    ]
    older = [preference(i, round_name="first") for i in range(100, 110)]
    # Dialogue 0 is on the train side of the newest, and this snapshot would test on it.
    older += [preference(200, dialogue_id="d0", round_name="first"), preference(45)]
    policy = write_tiny_policy(folder / "policy")
    found = {
        "policy": policy,
        "snapshot": write_toy_snapshot(
            folder / "newest", newest, test_ids=[f"d{i}" for i in range(40, 70)]
        ),
    }
    config = RewardModelConfig(seed=3, other_axis_share=0.0, pairs_per_batch=8, optimizer=LEARNING)
    directory, spec = create_run(folder / "training", config, found)
    train(directory, spec, context_for(directory, spec))
    save_model(create_scalar_model(policy, seed=9), tiny_tokenizer(), folder / "previous")
    return {
        "reward_model": directory.outputs / "reward_model",
        "previous": folder / "previous",
        "snapshot": found["snapshot"],
        "mixture_0": write_toy_snapshot(
            folder / "older", older, test_ids=[p.dialogue_id for p in older]
        ),
    }


def evaluation_run(
    root: Path, config: RewardEvaluationConfig, inputs: dict[str, Path]
) -> tuple[RunDirectory, RunSpec]:
    spec = RunSpec(
        kind=RunKind.REWARD_EVALUATION,
        config=config,
        inputs={role: RunInput(path, "0" * 64) for role, path in inputs.items()},
        code_commit="test",
    )
    return RunDirectory.create(root, spec), spec


@pytest.fixture(scope="module")
def finished(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The run as a person starts it."""
    directory, _ = evaluation_run(tmp_path_factory.mktemp("runs") / "r", CONFIG, inputs)
    command = [sys.executable, "-m", "rewardmodels", "evaluate", str(directory.root)]
    result = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    return directory


def result_of(directory: RunDirectory) -> dict[str, Any]:
    result = directory.read_result()
    assert result is not None
    return result


def test_every_held_out_pair_is_reported_or_counted(finished: RunDirectory) -> None:
    summary = result_of(finished)["summary"]
    assert summary["num_pairs"] == 40
    # p45 is in both snapshots; d0 was trained on.
    assert summary["skipped"] == {"duplicate": 1, "trained_on": 1}
    helpfulness, safety = summary["axes"]["helpfulness"], summary["axes"]["safety"]
    assert (helpfulness["num_pairs"], safety["num_pairs"]) == (30, 10)
    rounds = helpfulness["accuracy_by_round"]
    assert {name: accuracy["n"] for name, accuracy in rounds.items()} == {"first": 10, "second": 20}
    assert sum(helpfulness["accuracy"][rating]["n"] for rating in Rating) == 30
    assert sum(item["n"] for item in helpfulness["reliability"]) == 30


def test_the_trained_model_gains_over_the_random_one(finished: RunDirectory) -> None:
    helpfulness = result_of(finished)["summary"]["axes"]["helpfulness"]
    gain = helpfulness["previous"]["gain"]
    own, previous = helpfulness["accuracy"], helpfulness["previous"]["accuracy"]
    assert own["overall"]["low"] > 0.6
    expected = own["overall"]["value"] - previous["overall"]["value"]
    assert gain["difference"] == pytest.approx(expected)
    assert gain["low"] <= gain["difference"] <= gain["high"]
    assert helpfulness["length_baseline"]["accuracy"]["overall"]["n"] == 30


def test_unsafe_responses_are_looked_for_only_where_there_are_bins(finished: RunDirectory) -> None:
    axes = result_of(finished)["summary"]["axes"]
    assert axes["helpfulness"]["unsafe"] is None
    assert axes["safety"]["unsafe"]["num_unsafe"] == 10
    assert axes["safety"]["accuracy_by_safety_bin"]["chosen_safe"]["n"] == 10


def test_scoring_side_by_side_shows_no_bias_of_position(finished: RunDirectory) -> None:
    position = result_of(finished)["summary"]["axes"]["helpfulness"]["position_bias"]
    assert position["num_pairs"] == 30
    assert position["max_difference"] < 1e-5


def test_the_report_folder_holds_every_pair_and_the_disagreements(finished: RunDirectory) -> None:
    result = result_of(finished)
    assert result["outputs"] == {"report": "outputs/report"}
    folder = finished.outputs / "report"
    report = json.loads((folder / "report.json").read_text())
    assert report["axes"] == result["summary"]["axes"]
    pairs = read_scored_pairs(folder / "pairs.parquet")
    assert len(pairs) == 40
    again = build_report(pairs, {}, CONFIG)  # the figures follow from the rows alone
    assert again["axes"]["helpfulness"]["accuracy"] == report["axes"]["helpfulness"]["accuracy"]
    lines = [json.loads(line) for line in (folder / "disagreements.jsonl").read_text().splitlines()]
    assert [line["preference_id"] for line in lines] == [
        item["preference_id"] for item in result["summary"]["disagreements"]
    ]
    wrong = {p.preference_id for p in pairs if p.chosen_score <= p.rejected_score}
    assert {line["preference_id"] for line in lines} == wrong
    assert all({"prompt", "chosen", "rejected", "comparison"} <= line.keys() for line in lines)


def test_the_same_run_twice_gives_the_same_report(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path
) -> None:
    directory, spec = evaluation_run(tmp_path / "again", CONFIG, inputs)
    evaluate(directory, spec, context_for(directory, spec))
    assert result_of(directory)["summary"] == result_of(finished)["summary"]


def test_one_axis_alone_can_be_reported_on(inputs: dict[str, Path], tmp_path: Path) -> None:
    config = RewardEvaluationConfig(axis=Axis.SAFETY, num_resamples=100, num_position_pairs=0)
    without = {role: path for role, path in inputs.items() if role != "previous"}
    directory, spec = evaluation_run(tmp_path / "run", config, without)
    evaluate(directory, spec, context_for(directory, spec))
    axes = result_of(directory)["summary"]["axes"]
    assert list(axes) == ["safety"]
    assert axes["safety"]["previous"] is None
    assert axes["safety"]["position_bias"] is None


def test_nothing_held_out_is_an_error_that_says_what_was_left_out(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    folder = write_toy_snapshot(tmp_path / "s", [preference(0)], test_ids=["d0"])
    directory, spec = evaluation_run(
        tmp_path / "run", CONFIG, {"reward_model": inputs["reward_model"], "snapshot": folder}
    )
    with pytest.raises(ValueError, match=r"no held-out pair.*trained_on"):
        evaluate(directory, spec, context_for(directory, spec))


def test_disagreements_are_those_the_model_is_sure_of_the_surest_first() -> None:
    pairs = [
        row(0.0, 1.0, preference_id="unsure"),  # σ(1) = 0.73
        row(0.0, 3.0, preference_id="sure"),  # 0.953
        row(0.0, 9.0, preference_id="surest"),
        row(9.0, 0.0, preference_id="right"),
    ]
    config = RewardEvaluationConfig(disagreement_confidence=0.9)
    assert [p.preference_id for p in list_disagreements(pairs, config)] == ["surest", "sure"]
    config = RewardEvaluationConfig(disagreement_confidence=0.9, max_disagreements=1)
    assert [p.preference_id for p in list_disagreements(pairs, config)] == ["surest"]


def test_the_accuracy_of_a_report_by_hand() -> None:
    pairs = [
        row(1.0, 0.0, rating=Rating.BETTER, dialogue_id="a", round_name="r1"),
        row(0.0, 0.0, rating=Rating.BETTER, dialogue_id="a", round_name="r2"),
        row(0.0, 2.0, rating=Rating.SLIGHTLY_BETTER, dialogue_id="b", round_name="r2"),
    ]
    report = build_report(pairs, {}, CONFIG)["axes"]["helpfulness"]
    assert report["accuracy"]["overall"]["value"] == 0.5
    assert report["accuracy"]["overall"]["ties"] == 1
    assert report["accuracy"]["better"]["value"] == 0.75
    assert report["accuracy"]["slightly_better"]["value"] == 0.0
    assert report["accuracy"]["significantly_better"]["value"] is None
    assert report["accuracy_by_round"]["r2"]["value"] == 0.25
    assert report["num_dialogues"] == 2
    # -log σ(1) = 0.313262, log 2 = 0.693147, -log σ(-2) = 2.126928.
    assert report["loss"] == pytest.approx((0.313262 + 0.693147 + 2.126928) / 3, abs=1e-6)
    assert report["margin"] == pytest.approx(-1 / 3)
