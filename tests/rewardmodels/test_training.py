"""Training: it learns, its gradient does not depend on the split, and it resumes bit for bit."""

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForSequenceClassification

from language.adapters import use_adapter_
from language.kept_adapters import ADAPTER_FOLDER, load_adapter_, read_adapter, weights_digest
from language.models import load_policy, save_model
from language.runs import RunContext, RunStopped
from language.scalars import create_scalar_model, load_scalar_model, score_rows, share_trunk
from language.tokenizers import train_tokenizer
from records.preferences import Axis, Rating, SafetyBin
from records.reward_configs import MarginTable, RewardModelConfig
from records.rundirs import RunDirectory
from rewardmodels.batches import pair_scores
from rewardmodels.data import Pair, encode_pairs
from rewardmodels.scoring import TokenizerMismatchError
from rewardmodels.training import pair_losses, plan_batches, train
from tests.models import TEXTS, tiny_policy, tiny_tokenizer, write_tiny_policy
from tests.rewardmodels.toys import (
    LEARNING,
    context_for,
    create_run,
    preference,
    write_toy_snapshot,
)
from tests.timings import without_timings

CONFIG = RewardModelConfig(
    seed=3, other_axis_share=0.0, pairs_per_batch=8, checkpoint_every=3, optimizer=LEARNING
)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """80 pairs to train on (10 steps), 40 held out."""
    folder = tmp_path_factory.mktemp("inputs")
    preferences = [preference(i) for i in range(120)]
    test_ids = [f"d{i}" for i in range(80, 120)]
    return {
        "policy": write_tiny_policy(folder / "policy"),
        "snapshot": write_toy_snapshot(folder / "snapshot", preferences, test_ids=test_ids),
    }


@pytest.fixture(scope="module")
def finished(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run from beginning to end without interruption."""
    return run(tmp_path_factory.mktemp("runs") / "whole", CONFIG, inputs)


def run(root: Path, config: RewardModelConfig, inputs: dict[str, Path]) -> RunDirectory:
    directory, spec = create_run(root, config, inputs)
    train(directory, spec, context_for(directory, spec))
    return directory


def weights(directory: RunDirectory) -> dict[str, torch.Tensor]:
    return load_file(directory.outputs / "reward_model" / "model.safetensors")


def summary_of(directory: RunDirectory) -> dict[str, Any]:
    result = directory.read_result()
    assert result is not None
    return dict(result["summary"])


def toy_pairs(count: int, **fields: Any) -> list[Pair]:
    items = [preference(i, **fields) for i in range(count)]
    return encode_pairs(tiny_tokenizer(), items, max_tokens=256).pairs


def gradients(
    folder: Path, groups: Sequence[Sequence[Pair]], config: RewardModelConfig
) -> torch.Tensor:
    """Return the gradient of the mean loss, accumulated over `groups`."""
    model = create_scalar_model(folder, seed=0)
    num_pairs = sum(len(group) for group in groups)
    for group in groups:
        losses = pair_losses(*pair_scores(model, group), group, config)
        torch.autograd.backward(losses.sum() / num_pairs)
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_one_epoch_beats_chance_and_the_report_says_so(finished: RunDirectory) -> None:
    summary = summary_of(finished)
    assert summary["accuracy"]["overall"]["low"] > 0.6
    assert summary["accuracy"]["overall"]["n"] == 40
    assert sum(summary["accuracy"][rating.value]["n"] for rating in Rating) == 40
    # `red` and `blue` take as many words, so length alone knows next to nothing.
    assert summary["length_baseline"]["overall"]["n"] == 40
    assert (summary["num_train"], summary["num_test"], summary["skipped"]) == (80, 40, {})
    assert summary["previous_accuracy"] is None
    assert sum(summary["score_histogram"]["chosen"]) == 40
    assert summary["loss"] < math.log(2)


def test_made_pairs_teach_what_no_comparison_shows(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path
) -> None:
    directory = run(tmp_path / "run", replace(CONFIG, made_share=0.5, num_epochs=3.0), inputs)
    summary = summary_of(directory)
    assert (summary["num_train"], summary["num_test"]) == (80, 40)
    assert 60 <= summary["num_made"] <= 80
    assert summary_of(finished)["num_made"] == 0
    # Held-out responses said three times over: `red` is what comparisons prefer.
    looping = [_said_three_times(pair) for pair in toy_pairs(120)[80:]]
    taught, untaught = (share_preferred(one, looping) for one in (directory, finished))
    assert untaught < 0.5 < 0.8 < taught


def _said_three_times(pair: Pair) -> Pair:
    """Return the chosen response against itself, said three times over."""
    *ids, end = pair.chosen.response_ids
    return pair._replace(rejected=pair.chosen._replace(response_ids=(*ids * 3, end)))


def share_preferred(directory: RunDirectory, pairs: list[Pair]) -> float:
    """Return how often the run's model prefers what was chosen."""
    model = load_scalar_model(directory.outputs / "reward_model")
    with torch.no_grad():
        chosen_N, rejected_N = pair_scores(model, pairs)
    return float((chosen_N > rejected_N).float().mean())


def test_every_step_has_its_metrics(finished: RunDirectory) -> None:
    rows, _ = finished.read_metrics()
    assert [row["step"] for row in rows] == list(range(1, 11))
    assert {row["total_steps"] for row in rows} == {10}
    for name in ("loss", "accuracy", "margin", "grad_norm", "tokens", "pairs_per_second"):
        assert all(math.isfinite(row[name]) for row in rows), name
    # Warm-up of five steps, then constant: 1/5, 2/5, ... of 0.01.
    expected = [0.002, 0.004, 0.006, 0.008, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01]
    assert [row["learning_rate"] for row in rows] == pytest.approx(expected)


def test_a_tiny_model_learns_eight_pairs_by_heart(inputs: dict[str, Path], tmp_path: Path) -> None:
    rows = [preference(i, dialogue_id="train") for i in range(8)]
    held_out = [
        replace(row, preference_id=f"t{i}", dialogue_id="test") for i, row in enumerate(rows)
    ]
    snapshot = write_toy_snapshot(tmp_path / "s", rows + held_out, test_ids=["test"])
    config = replace(CONFIG, num_epochs=30.0, checkpoint_every=100)
    summary = summary_of(run(tmp_path / "run", config, {**inputs, "snapshot": snapshot}))
    assert summary["accuracy"]["overall"]["value"] == 1.0
    # Margins up to 1 and still a loss near zero: the scores are far apart.
    assert summary["loss"] < 0.1


def test_a_stopped_run_goes_on_bit_for_bit(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path
) -> None:
    class StopsAfterFive(RunContext):
        def log(self, step: int, **metrics: float | str | None) -> None:
            super().log(step, **metrics)
            if step == 5:
                self.request_stop()

    directory, spec = create_run(tmp_path / "run", CONFIG, inputs)
    with pytest.raises(RunStopped):
        train(directory, spec, StopsAfterFive(directory, CONFIG))
    assert len(directory.read_metrics()[0]) == 5
    assert directory.read_result() is None
    torch.manual_seed(99)  # whatever the next process begins with
    train(directory, spec, context_for(directory, spec))
    assert_same(directory, finished)


def test_rows_written_after_the_last_checkpoint_are_written_again(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path
) -> None:
    class PowerCut(RunContext):
        def log(self, step: int, **metrics: float | str | None) -> None:
            super().log(step, **metrics)
            if step == 5:
                raise ConnectionAbortedError("no checkpoint of step 5 is left behind")

    directory, spec = create_run(tmp_path / "run", CONFIG, inputs)
    with pytest.raises(ConnectionAbortedError):
        train(directory, spec, PowerCut(directory, CONFIG))
    train(directory, spec, context_for(directory, spec))
    assert_same(directory, finished)


@pytest.mark.slow
def test_the_command_stops_on_sigterm_and_goes_on_when_started_again(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    config = replace(CONFIG, num_epochs=8.0, checkpoint_every=1000, num_threads=1)
    whole = run(tmp_path / "whole", config, inputs)
    directory, _ = create_run(tmp_path / "run", config, inputs)
    command = [sys.executable, "-m", "rewardmodels", "train", str(directory.root)]
    process = subprocess.Popen(command, cwd=ROOT)
    deadline = time.monotonic() + 60
    while len(directory.read_metrics()[0]) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 130
    assert len(directory.read_metrics()[0]) < 80
    assert subprocess.run(command, cwd=ROOT, check=False, timeout=120).returncode == 0
    assert_same(directory, whole)


@pytest.mark.parametrize("safety_loss_weight", [0.0, 0.5])
def test_the_gradient_does_not_depend_on_micro_batches(
    inputs: dict[str, Path], safety_loss_weight: float
) -> None:
    config = replace(CONFIG, safety_loss_weight=safety_loss_weight)
    pairs = toy_pairs(8, axis=Axis.SAFETY, safety_bin=SafetyBin.CHOSEN_SAFE)
    whole = gradients(inputs["policy"], [pairs], config)
    ragged = gradients(inputs["policy"], [pairs[:1], pairs[1:4], pairs[4:]], config)
    torch.testing.assert_close(ragged, whole, atol=1e-6, rtol=1e-4)


def test_a_run_in_micro_batches_equals_one_without(inputs: dict[str, Path], tmp_path: Path) -> None:
    optimizer = replace(LEARNING, learning_rate=1e-3)
    whole = run(tmp_path / "whole", replace(CONFIG, optimizer=optimizer), inputs)
    config = replace(CONFIG, optimizer=optimizer, tokens_per_microbatch=64)
    split = run(tmp_path / "split", config, inputs)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(split)[name], tensor, atol=1e-5, rtol=0.0)


def test_layers_computed_again_in_the_backward_pass_change_nothing(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path
) -> None:
    again = run(tmp_path / "again", replace(CONFIG, checkpoint_activations=True), inputs)
    for name, tensor in weights(finished).items():
        torch.testing.assert_close(weights(again)[name], tensor, atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_adapters_learn_and_leave_a_plain_model_with_its_head(
    inputs: dict[str, Path], tmp_path: Path, dtype: str
) -> None:
    optimizer = replace(LEARNING, learning_rate=3e-2)
    config = replace(CONFIG, lora_rank=4, dtype=dtype, optimizer=optimizer, num_epochs=2.0)
    directory = run(tmp_path / "run", config, inputs)
    assert summary_of(directory)["accuracy"]["overall"]["low"] > 0.6
    before = create_scalar_model(inputs["policy"], seed=CONFIG.seed).state_dict()
    after = weights(directory)
    assert after.keys() == before.keys()
    assert torch.equal(after["model.embed_tokens.weight"].float(), _rounded(before, dtype))
    assert not torch.equal(after["score.weight"].float(), before["score.weight"])
    change = after["model.layers.0.mlp.up_proj.weight"].float()
    change = change - before["model.layers.0.mlp.up_proj.weight"]
    assert change.abs().max() > 1e-3
    if dtype == "float32":
        assert torch.linalg.matrix_rank(change, rtol=1e-3) == 4


def test_adapters_are_kept_beside_what_they_were_merged_into(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    config = replace(CONFIG, lora_rank=4, lora_alpha=16)
    folder = run(tmp_path / "run", config, inputs).outputs / "reward_model"
    kept = read_adapter(folder / ADAPTER_FOLDER)
    assert kept is not None
    assert kept.base_digest == weights_digest(inputs["policy"])
    assert (kept.weights.rank, kept.weights.alpha) == (4, 16)
    policy = load_policy(inputs["policy"])
    load_adapter_(policy.model, kept.weights, name="helpfulness")
    use_adapter_(policy.model, "helpfulness")
    model = share_trunk(policy)
    model.score.weight.data.copy_(kept.weights.head)
    rows = [pair.chosen for pair in toy_pairs(6)]
    merged = LlamaForSequenceClassification.from_pretrained(folder)
    torch.testing.assert_close(
        score_rows(model, rows, rows_per_batch=6),
        score_rows(merged, rows, rows_per_batch=6),
        atol=1e-5,
        rtol=0.0,
    )


def test_a_model_that_was_trained_whole_keeps_no_adapter(finished: RunDirectory) -> None:
    assert read_adapter(finished.outputs / "reward_model" / ADAPTER_FOLDER) is None


def _rounded(state: dict[str, torch.Tensor], dtype: str) -> torch.Tensor:
    return state["model.embed_tokens.weight"].to(getattr(torch, dtype)).float()


def test_bfloat16_learns_too_and_resumes_bit_for_bit(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    config = replace(CONFIG, dtype="bfloat16")
    whole = run(tmp_path / "whole", config, inputs)
    assert summary_of(whole)["accuracy"]["overall"]["low"] > 0.6
    assert {tensor.dtype for tensor in weights(whole).values()} == {torch.bfloat16}

    class PowerCut(RunContext):
        def log(self, step: int, **metrics: float | str | None) -> None:
            super().log(step, **metrics)
            if step == 5:
                raise ConnectionAbortedError("no checkpoint of step 5 is left behind")

    directory, spec = create_run(tmp_path / "run", config, inputs)
    with pytest.raises(ConnectionAbortedError):
        train(directory, spec, PowerCut(directory, config))
    train(directory, spec, context_for(directory, spec))
    assert_same(directory, whole)


def test_the_losses_of_pairs_carry_the_margins_of_the_table() -> None:
    pairs = toy_pairs(1, rating=Rating.SIGNIFICANTLY_BETTER)
    config = replace(CONFIG, margin_table=MarginTable.LARGE)
    losses = pair_losses(torch.tensor([4.0]), torch.tensor([0.0]), pairs, config)
    assert losses.item() == pytest.approx(math.log1p(math.exp(-1.0)))  # 4 - 0 - 3 = 1


def test_the_safety_loss_is_added_with_its_weight() -> None:
    pairs = toy_pairs(1, rating=None, safety_bin=SafetyBin.CHOSEN_SAFE)
    config = replace(CONFIG, safety_loss_weight=0.5)
    losses = pair_losses(torch.tensor([0.0]), torch.tensor([0.0]), pairs, config)
    assert losses.item() == pytest.approx(2 * math.log(2))  # ln 2 + 0.5 · (ln 2 + ln 2)


@pytest.mark.parametrize(
    ("num_epochs", "num_steps"),
    # 30 pairs in batches of 8 are 4 steps an epoch.
    [(1.0, 4), (2.0, 8), (0.5, 2), (1.25, 5), (0.01, 1)],
)
def test_an_epoch_takes_every_pair_once(num_epochs: float, num_steps: int) -> None:
    config = replace(CONFIG, num_epochs=num_epochs)
    batches = plan_batches(30, config, torch.Generator().manual_seed(1))
    assert len(batches) == num_steps
    if num_steps >= 4:
        assert sorted(i for batch in batches[:4] for i in batch) == list(range(30))


def test_the_predecessor_is_judged_on_the_same_pairs(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path
) -> None:
    previous = finished.outputs / "reward_model"
    config = replace(CONFIG, optimizer=replace(LEARNING, learning_rate=1e-9))  # learns nothing
    summary = summary_of(run(tmp_path / "run", config, {**inputs, "previous": previous}))
    assert summary["previous_accuracy"] == summary_of(finished)["accuracy"]
    learned, fresh = (summary[key]["overall"] for key in ("previous_accuracy", "accuracy"))
    assert learned["low"] > fresh["value"]


def test_a_predecessor_with_another_tokenizer_is_refused(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path
) -> None:
    previous = tmp_path / "previous"
    model = load_scalar_model(finished.outputs / "reward_model")
    save_model(model, train_tokenizer(reversed(TEXTS), vocabulary_size=300), previous)
    with pytest.raises(TokenizerMismatchError, match="previous"):
        run(tmp_path / "run", CONFIG, {**inputs, "previous": previous})


def test_the_output_loads_and_holds_a_tokenizer(finished: RunDirectory) -> None:
    folder = finished.outputs / "reward_model"
    assert load_scalar_model(folder).score.out_features == 1
    assert (folder / "tokenizer.json").exists()
    assert json.loads((folder / "config.json").read_text())["architectures"] == [
        "LlamaForSequenceClassification"
    ]


def test_a_snapshot_without_pairs_of_the_axis_is_refused(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="no safety pair"):
        run(tmp_path / "run", replace(CONFIG, axis=Axis.SAFETY), inputs)


def test_an_empty_test_side_reports_nothing_rather_than_failing(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    snapshot = write_toy_snapshot(tmp_path / "s", [preference(i) for i in range(8)])
    summary = summary_of(run(tmp_path / "run", CONFIG, {**inputs, "snapshot": snapshot}))
    assert summary["accuracy"]["overall"] == {
        "value": None,
        "low": 0.0,
        "high": 1.0,
        "n": 0,
        "ties": 0,
    }
    assert summary["loss"] is None


def test_a_diverging_run_fails_loudly_and_leaves_no_broken_checkpoint(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    policy = tiny_policy()
    policy.model.norm.weight.data.fill_(torch.nan)
    broken = tmp_path / "policy"
    save_model(policy, tiny_tokenizer(), broken)
    with pytest.raises(FloatingPointError, match="step 1"):
        run(tmp_path / "run", CONFIG, {**inputs, "policy": broken})
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def assert_same(resumed: RunDirectory, whole: RunDirectory) -> None:
    """Assert that metrics, result and weights agree in every bit."""
    assert without_timings(resumed.read_metrics()[0]) == without_timings(whole.read_metrics()[0])
    assert summary_of(resumed) == summary_of(whole)
    expected = weights(whole)
    assert expected.keys() == weights(resumed).keys()
    for name, tensor in weights(resumed).items():
        assert torch.equal(tensor, expected[name]), name
