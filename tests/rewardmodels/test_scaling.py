"""The command `scale`: a curve over data, whose points are runs like any other."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from records.errors import RecordError
from records.policy_configs import SFTConfig
from records.reward_configs import RewardModelConfig
from records.run_configs import RunKind
from records.rundirs import RunDirectory, RunInput, RunSpec
from rewardmodels.scaling import main, plan_shares, point_of, table_of
from tests.models import write_tiny_policy
from tests.rewardmodels.toys import LEARNING, create_run, preference, write_toy_snapshot

CONFIG = RewardModelConfig(
    seed=3, device="cpu", num_threads=1, pairs_per_batch=8, max_tokens=64, optimizer=LEARNING
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The run directory of a reward model with 64 pairs to learn from and 16 held out."""
    test_ids = [f"d{i}" for i in range(64, 80)]
    snapshot = write_toy_snapshot(
        tmp_path / "snapshot", [preference(i) for i in range(80)], test_ids=test_ids
    )
    inputs = {"policy": write_tiny_policy(tmp_path / "policy"), "snapshot": snapshot}
    return create_run(tmp_path / "run", CONFIG, {**inputs, "previous": tmp_path})[0].root


def test_each_share_is_a_run_on_the_same_held_out_pairs(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(root), "--shares", "1", "0.25"]) == 0
    points = json.loads((root / "scaling.json").read_text())["points"]
    assert [(point["data_share"], point["num_train"]) for point in points] == [(0.25, 16), (1, 64)]
    assert [point["num_test"] for point in points] == [16, 16]
    result = RunDirectory(root / "scaling" / "0.25").read_result()
    assert result is not None
    assert points[0]["accuracy"] == result["summary"]["accuracy"]
    assert result["summary"]["previous_accuracy"] is None
    assert "| 0.25 | 16 |" in capsys.readouterr().out


def test_a_share_that_has_its_result_is_left_alone(root: Path) -> None:
    assert main([str(root), "--shares", "0.25"]) == 0
    before = (root / "scaling" / "0.25" / "result.json").stat().st_mtime_ns
    assert main([str(root), "--shares", "0.25", "0.125"]) == 0
    assert (root / "scaling" / "0.25" / "result.json").stat().st_mtime_ns == before
    points = json.loads((root / "scaling.json").read_text())["points"]
    assert [point["num_train"] for point in points] == [8, 16]


def test_a_share_out_of_bounds_is_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(root), "--shares", "1.5"]) == 1
    assert "data_share: 1.5 is above the highest allowed value 1" in capsys.readouterr().err
    assert not (root / "scaling.json").exists()


def test_a_run_of_another_kind_has_no_share_of_pairs(tmp_path: Path) -> None:
    spec = RunSpec(
        kind=RunKind.SFT,
        config=SFTConfig(),
        inputs={"policy": RunInput(tmp_path, "")},
        code_commit="test",
    )
    RunDirectory.create(tmp_path / "run", spec)
    with pytest.raises(RecordError, match="sft is not reward_model"):
        plan_shares(tmp_path / "run", [0.5])


def test_the_table_has_a_line_for_each_point(root: Path) -> None:
    (directory,) = plan_shares(root, [0.5])
    assert directory.read_spec().config == replace(CONFIG, data_share=0.5)
    accuracy = {"value": 0.75, "low": 0.6, "high": 0.875, "n": 16, "ties": 0}
    empty = {"value": None, "low": 0.0, "high": 1.0, "n": 0, "ties": 0}
    summary = {
        "num_train": 1032,
        "num_parameters": 9,
        "num_test": 16,
        "loss": 0.5,
        "accuracy": {"overall": accuracy, "significantly_better": empty},
    }
    directory.write_result(summary, {})
    last = table_of([point_of(directory)]).splitlines()[-1]
    assert last == "| 0.5 | 1,032 | 75.0% | 60.0% to 87.5% | – |"
