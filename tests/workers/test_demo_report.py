"""The demo's last page: the figures of a reward model's own report, and the same ones as JSON."""

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from records.reward_configs import RewardModelConfig
from rewardmodels.data import Pair
from rewardmodels.reports import report_on
from tests.models import tiny_tokenizer, write_tiny_policy
from tests.rewardmodels.toys import preference
from workers.demo.report import VersionFigures, accuracies, print_accuracies, write_result


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a reward-model run reports on eight toy pairs."""
    from language.scalars import create_scalar_model
    from rewardmodels.data import encode_pairs

    policy = write_tiny_policy(tmp_path_factory.mktemp("policy") / "policy")
    model = create_scalar_model(policy, seed=0)
    pairs: list[Pair] = encode_pairs(
        tiny_tokenizer(), [preference(index) for index in range(8)], max_tokens=128
    ).pairs
    with torch.no_grad():
        return report_on(model, pairs, config=RewardModelConfig(), previous=None)


def test_accuracies_are_plain_numbers_by_rating_with_the_length_baseline(
    summary: dict[str, object],
) -> None:
    figures = accuracies(summary)
    assert set(figures) == {
        "overall", "significantly_better", "better", "slightly_better", "negligibly_better",
        "length_baseline",
    }  # fmt: skip
    # `red` and `blue` are as long in tokens or not; whichever, it is a share.
    assert all(0.0 <= value <= 1.0 for value in figures.values())


def test_the_table_and_the_file_say_the_same(tmp_path: Path) -> None:
    accuracy = {"helpfulness": {"overall": 0.8125, "length_baseline": 0.5}}
    versions = [VersionFigures(name="V1", win_rate=0.75, accuracy=accuracy)]
    output = io.StringIO()
    print_accuracies(Console(file=output, width=120), versions)
    assert "81.2%" in output.getvalue()
    assert "50.0%" in output.getvalue()
    write_result(tmp_path / "demo" / "result.json", versions, seconds=12.34)
    written = json.loads((tmp_path / "demo" / "result.json").read_text())
    assert written["seconds"] == 12.3
    assert written["versions"][0]["accuracy"] == accuracy
