"""Presets: every number is the paper's, and each can be printed as a run's config."""

import json
from pathlib import Path

import pytest

from records.__main__ import main
from records.errors import RecordError
from records.preferences import Axis
from records.presets import PRESETS, preset
from records.reward_configs import MARGINS, MarginTable, RewardModelConfig, Whole
from records.run_configs import RunKind, Schedule
from records.rundirs import RunDirectory
from records.sft_presets import SFT_PRESETS, sft_preset


@pytest.mark.parametrize(
    ("name", "learning_rate"),
    [("rm-7b", 1e-5), ("rm-13b", 1e-5), ("rm-34b", 1e-5), ("rm-70b", 5e-6)],
)
@pytest.mark.parametrize("axis", list(Axis))
def test_the_papers_numbers(name: str, learning_rate: float, axis: Axis) -> None:
    """arXiv:2307.09288, section 3.2.2 (page 12), and section 2.2 for the optimizer."""
    config = preset(name, axis)
    optimizer = config.optimizer
    assert config.axis is axis
    assert config.num_epochs == 1.0
    assert config.pairs_per_batch == 512
    assert config.max_tokens == 4096
    assert optimizer.learning_rate == learning_rate
    assert optimizer.schedule is Schedule.COSINE
    assert optimizer.min_learning_rate_ratio == 0.1
    assert (optimizer.warmup_ratio, optimizer.min_warmup_steps) == (0.03, 5)
    assert (optimizer.adam_beta1, optimizer.adam_beta2) == (0.9, 0.95)
    assert optimizer.adam_epsilon == 1e-5
    assert (optimizer.weight_decay, optimizer.max_grad_norm) == (0.1, 1.0)


@pytest.mark.parametrize("name", ["rm-7b", "rm-13b", "rm-34b", "rm-70b"])
def test_the_papers_mixtures(name: str) -> None:
    helpfulness, safety = preset(name, Axis.HELPFULNESS), preset(name, Axis.SAFETY)
    assert (helpfulness.whole, helpfulness.other_axis_share) == (Whole.COLLECTED, 0.5)
    assert (safety.whole, safety.other_axis_share) == (Whole.AXIS, 0.1)
    assert helpfulness.safety_loss_weight == 0.0  # the auxiliary loss is the safety model's
    assert safety.safety_loss_weight > 0.0


def test_the_margins_are_those_of_table_27() -> None:
    assert [*MARGINS[MarginTable.SMALL].values()] == [1.0, 2 / 3, 1 / 3, 0.0]
    assert [*MARGINS[MarginTable.LARGE].values()] == [3.0, 2.0, 1.0, 0.0]


def test_the_sandboxs_preset_fits_its_model() -> None:
    config = preset("rm-sandbox", Axis.SAFETY)
    assert (config.pairs_per_batch, config.max_tokens, config.num_threads) == (16, 256, 1)
    assert (config.optimizer.learning_rate, config.optimizer.adam_epsilon) == (1e-3, 1e-8)
    assert config.safety_loss_weight == 1.0


@pytest.mark.parametrize("name", ["sft-7b", "sft-13b", "sft-34b", "sft-70b"])
def test_the_papers_numbers_of_sft(name: str) -> None:
    """arXiv:2307.09288, section 3.1 (page 9)."""
    config = sft_preset(name)
    assert (config.num_epochs, config.batch_size, config.max_tokens) == (2.0, 64, 4096)
    assert config.optimizer.schedule is Schedule.COSINE
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay) == (2e-5, 0.1)
    assert config.dtype == "bfloat16"


@pytest.mark.parametrize("name", list(SFT_PRESETS))
def test_the_command_prints_presets_of_sft(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preset", name, "--input", f"policy={tmp_path}/base"]) == 0
    (tmp_path / "config.json").write_text(capsys.readouterr().out)
    spec = RunDirectory(tmp_path).read_spec()
    assert (spec.kind, spec.config) == (RunKind.SFT, sft_preset(name))


def test_an_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(RecordError, match=r"rm-8b.*rm-70b"):
        preset("rm-8b", Axis.SAFETY)
    with pytest.raises(RecordError, match=r"sft-8b.*sft-70b"):
        sft_preset("sft-8b")


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_command_prints_a_config_that_a_run_directory_reads(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = ["--input", f"policy={tmp_path}/sft", "--input", f"snapshot={tmp_path}/s"]
    assert main(["preset", name, "--axis", "safety", *inputs]) == 0
    (tmp_path / "config.json").write_text(capsys.readouterr().out)
    spec = RunDirectory(tmp_path).read_spec()
    assert spec.kind is RunKind.REWARD_MODEL
    assert spec.config == preset(name, Axis.SAFETY)
    assert isinstance(spec.config, RewardModelConfig)
    assert {role: item.path for role, item in spec.inputs.items()} == {
        "policy": tmp_path / "sft",
        "snapshot": tmp_path / "s",
    }


def test_an_input_that_is_no_role_and_path_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preset", "rm-7b", "--input", "models/sft"]) == 1
    assert "input: 'models/sft' is not ROLE=PATH" in capsys.readouterr().err


def test_without_a_command_the_reference_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# Configuration of runs")
    assert json.dumps("custom_margins").strip('"') in out
