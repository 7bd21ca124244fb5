"""SFT and the loop it shares: the loss, its normaliser, learning, resuming."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from language.adapters import PROJECTIONS, use_adapter_
from language.checkpoints import latest_checkpoint
from language.generation import GenerationRequest, generate
from language.kept_adapters import ADAPTER_FOLDER, load_adapter_, read_adapter, weights_digest
from language.logprobs import response_losses
from language.models import load_policy
from language.rows import TokenRow
from language.runs import RunContext, RunStopped
from policies.encoding import encode_demonstrations
from policies.sft import num_finetune_steps, sft
from records.policy_configs import SFTConfig
from records.prompts import write_demonstrations
from records.run_configs import RunKind
from records.rundirs import RunDirectory
from tests.models import tiny_policy, tiny_tokenizer
from tests.policies.toys import (
    LEARNING,
    StopAfter,
    assert_equal_weights,
    create_run,
    demonstrations,
    metrics_of,
    only,
    weights_of,
    write_inputs,
)

CONFIG = SFTConfig(
    seed=3, device="cpu", num_epochs=2.0, batch_size=4, checkpoint_every=2, optimizer=LEARNING
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return only(write_inputs(tmp_path_factory.mktemp("inputs")), "policy", "demonstrations")


@pytest.fixture(scope="module")
def finished(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run from beginning to end without interruption: 24 rows in steps of 4."""
    return run(tmp_path_factory.mktemp("runs") / "whole", CONFIG, inputs)


def run(root: Path, config: SFTConfig, inputs: dict[str, Path]) -> RunDirectory:
    directory, spec = create_run(root, RunKind.SFT, config, inputs)
    sft(directory, spec, RunContext(directory, config))
    return directory


def rows() -> list[TokenRow]:
    return encode_demonstrations(tiny_tokenizer(), demonstrations(), max_tokens=256).rows


def gradients(groups: list[list[TokenRow]]) -> dict[str, torch.Tensor]:
    """Return the gradient of the mean loss over all groups' response tokens."""
    model = tiny_policy()
    num_tokens = sum(len(row.response_ids) for group in groups for row in group)
    for group in groups:
        torch.autograd.backward(response_losses(model, group).sum() / num_tokens)
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_the_loss_is_that_of_each_response_token_given_all_before_it() -> None:
    model = tiny_policy()
    made = rows()[:4]
    expected = []
    for item in made:
        ids = torch.tensor([*item.prompt_ids, *item.response_ids])
        logits_TV = model(input_ids=ids[None]).logits[0].double()
        losses_T = F.cross_entropy(logits_TV[:-1], ids[1:], reduction="none")
        expected += losses_T[len(item.prompt_ids) - 1 :].tolist()
    losses_M = response_losses(model, made)
    assert losses_M.tolist() == pytest.approx(expected, abs=1e-5)
    assert len(expected) == sum(len(item.response_ids) for item in made)


def test_the_end_token_is_learned() -> None:
    (item,) = rows()[:1]
    assert item.response_ids[-1] == 2
    losses_M = response_losses(tiny_policy(), [item])
    assert len(losses_M) == len(item.response_ids)
    assert losses_M[-1] > 0


def test_packed_rows_have_the_losses_and_gradients_of_rows_that_stand_alone() -> None:
    made = rows()[:8]
    together, alone = gradients([made]), gradients([[item] for item in made])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-4)
    model = tiny_policy()
    separate = torch.cat([response_losses(model, [item]) for item in made])
    torch.testing.assert_close(response_losses(model, made), separate, atol=1e-5, rtol=0.0)


def test_the_gradient_of_a_batch_is_that_of_its_ragged_parts() -> None:
    made = rows()[:8]
    whole = gradients([made])
    parts = gradients([made[:1], made[1:3], made[3:4], made[4:]])
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=1e-4)
    # The mean of the parts' means, the classical mistake, is another gradient.
    wrong = [gradients([made[:1]]), gradients([made[1:]])]
    head = "lm_head.weight"
    assert not torch.allclose((wrong[0][head] + wrong[1][head]) / 2, whole[head], atol=1e-3)


def test_a_run_in_micro_batches_equals_one_without(inputs: dict[str, Path], tmp_path: Path) -> None:
    config = replace(CONFIG, optimizer=replace(LEARNING, learning_rate=1e-3))
    whole = run(tmp_path / "whole", config, inputs)
    parts = run(tmp_path / "parts", replace(config, tokens_per_microbatch=70), inputs)
    for one, other in zip(metrics_of(whole), metrics_of(parts), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)


def test_a_tiny_policy_learns_its_demonstrations_by_heart(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    tokenizer, learned = tiny_tokenizer(), demonstrations(6)
    write_demonstrations(tmp_path / "demonstrations.jsonl", learned)
    config = replace(CONFIG, num_epochs=60.0, batch_size=6, checkpoint_every=1000)
    sources = {**inputs, "demonstrations": tmp_path / "demonstrations.jsonl"}
    directory = run(tmp_path / "run", config, sources)
    result = directory.read_result()
    assert result is not None
    assert result["summary"]["loss"] < 0.05
    policy = load_policy(directory.outputs / "policy")
    for item in encode_demonstrations(tokenizer, learned, max_tokens=256).rows:
        request = GenerationRequest(item.prompt_ids, 0.0, 1.0, 60, seed=0)
        ((response,),) = generate(policy, [request], eos_ids=[2])
        assert response.ids == item.response_ids
        assert response.is_finished


def test_the_summary_counts_what_was_left_out(inputs: dict[str, Path], tmp_path: Path) -> None:
    directory = run(tmp_path / "run", replace(CONFIG, max_tokens=60, num_epochs=1.0), inputs)
    result = directory.read_result()
    assert result is not None
    summary = result["summary"]
    assert summary["num_demonstrations"] + sum(summary["skipped"].values()) == 12
    assert summary["num_shortened"] > 0


def test_nothing_to_train_on_is_an_error(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none is left; skipped \{'too_long': 12"):
        run(tmp_path / "run", replace(CONFIG, max_tokens=16), inputs)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path, steps: int
) -> None:
    directory, spec = create_run(tmp_path / "run", RunKind.SFT, CONFIG, inputs)
    with pytest.raises(RunStopped):
        sft(directory, spec, StopAfter(directory, CONFIG, steps=steps))
    assert len(metrics_of(directory)) == steps
    sft(directory, spec, RunContext(directory, CONFIG))
    assert metrics_of(directory) == metrics_of(finished)
    assert_equal_weights(directory.outputs / "policy", finished.outputs / "policy")


def test_a_run_killed_after_its_checkpoint_drops_the_rows_it_writes_again(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path
) -> None:
    directory, spec = create_run(tmp_path / "run", RunKind.SFT, CONFIG, inputs)
    with pytest.raises(RunStopped):
        sft(directory, spec, StopAfter(directory, CONFIG, steps=3))
    for path in directory.checkpoints.glob("step-00000003"):  # as if it had not been written yet
        (path / "manifest.json").unlink()
    checkpoint = latest_checkpoint(directory.checkpoints)
    assert checkpoint is not None
    assert checkpoint.step == 2
    sft(directory, spec, RunContext(directory, CONFIG))
    assert metrics_of(directory) == metrics_of(finished)
    assert_equal_weights(directory.outputs / "policy", finished.outputs / "policy")


def test_the_learning_rate_follows_its_schedule(finished: RunDirectory) -> None:
    assert [row["learning_rate"] for row in metrics_of(finished)] == [0.01] * 6
    assert [row["total_steps"] for row in metrics_of(finished)] == [6] * 6


def test_the_number_of_steps_is_known_beforehand() -> None:
    assert num_finetune_steps(12, CONFIG) == 6
    assert num_finetune_steps(13, CONFIG) == 7
    assert num_finetune_steps(1, replace(CONFIG, num_epochs=0.1)) == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_adapters_are_trained_merged_and_kept(
    inputs: dict[str, Path], tmp_path: Path, dtype: str
) -> None:
    config = replace(CONFIG, lora_rank=4, lora_alpha=8, dtype=dtype)
    directory = run(tmp_path / "run", config, inputs)
    losses = [row["loss"] for row in metrics_of(directory)]
    assert losses[-1] < losses[0] - 0.1
    before, after = weights_of(inputs["policy"]), weights_of(directory.outputs / "policy")
    changed = {
        name for name in before if not torch.equal(before[name].to(after[name]), after[name])
    }
    assert {name.split(".")[4] for name in changed} == set(PROJECTIONS)
    assert len(changed) == 2 * 7, "two layers; embedding, norms and head are as they were"

    kept = read_adapter(directory.outputs / "policy" / ADAPTER_FOLDER)
    assert kept is not None
    assert kept.base_digest == weights_digest(inputs["policy"])
    policy = load_policy(inputs["policy"], dtype=getattr(torch, dtype))
    load_adapter_(policy.model, kept.weights, name="policy")
    use_adapter_(policy.model, "policy")
    merged = load_policy(directory.outputs / "policy", dtype=getattr(torch, dtype))
    with torch.no_grad():
        ours_M, theirs_M = response_losses(policy, rows()), response_losses(merged, rows())
    tolerance = 1e-5 if dtype == "float32" else 0.1
    torch.testing.assert_close(ours_M, theirs_M, atol=tolerance, rtol=0.0)


def test_adapters_resume_bit_for_bit(inputs: dict[str, Path], tmp_path: Path) -> None:
    config = replace(CONFIG, lora_rank=4)
    whole = run(tmp_path / "whole", config, inputs)
    directory, spec = create_run(tmp_path / "parts", RunKind.SFT, config, inputs)
    with pytest.raises(RunStopped):
        sft(directory, spec, StopAfter(directory, config, steps=3))
    sft(directory, spec, RunContext(directory, config))
    assert_equal_weights(directory.outputs / "policy", whole.outputs / "policy")
    for path in (whole.outputs / "policy" / ADAPTER_FOLDER).iterdir():
        other = directory.outputs / "policy" / ADAPTER_FOLDER / path.name
        assert path.read_bytes() == other.read_bytes()
