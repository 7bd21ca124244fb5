"""Rejection sampling: the best is chosen, of all iterations, and every phase resumes."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from language.kept_adapters import ADAPTER_FOLDER
from language.logprobs import response_losses
from language.models import load_policy, save_model
from language.runs import RunContext, RunStopped
from language.scalars import create_scalar_model, row_scalars
from language.tokenizers import tokenizer_digest, train_tokenizer
from policies.candidates import read_chunk
from policies.chunks import StoredChunks
from policies.noise import NoiseScoreFn
from policies.pool import PoolSample, prompt_key, read_pool
from policies.rejection_sampling import rejection_sampling
from policies.selection import read_selected_rows, rescore_pool
from policies.sft import sft
from records.policy_configs import RejectionSamplingConfig, SFTConfig
from records.preferences import Axis
from records.prompts import read_demonstrations, read_prompts, write_prompts
from records.run_configs import RunKind, SamplingConfig
from records.rundirs import RunDirectory
from rewardmodels.scoring import load_score_fn
from tests.models import TEXTS, tiny_policy, tiny_tokenizer
from tests.policies.toys import (
    LEARNING,
    StopAfter,
    assert_equal_weights,
    create_run,
    encoded,
    metrics_of,
    prompts,
    row,
    weights_of,
    write_adapter_model,
    write_inputs,
)

ROLES = ("policy", "start", "prompts", "helpfulness", "safety")
CONFIG = RejectionSamplingConfig(
    seed=5,
    device="cpu",
    num_responses=4,
    sampling=SamplingConfig(temperature=1.0, max_new_tokens=120),
    rows_per_batch=12,
    finetune=SFTConfig(
        num_epochs=1.0,
        batch_size=4,
        checkpoint_every=1,
        optimizer=replace(LEARNING, learning_rate=1e-3),
    ),
)
NUM_CHUNKS = 4  # 12 prompts, 3 in a chunk


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = write_inputs(tmp_path_factory.mktemp("inputs"))
    return {role: made[role] for role in ROLES}


@pytest.fixture(scope="module")
def finished(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run from beginning to end without interruption."""
    return run(tmp_path_factory.mktemp("runs") / "whole", CONFIG, inputs)


@pytest.fixture(scope="module")
def second(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path_factory: pytest.TempPathFactory
) -> RunDirectory:
    """The next iteration: other seeds, half of the prompts, and the first one's pool."""
    folder = tmp_path_factory.mktemp("second")
    write_prompts(folder / "prompts.jsonl", list(read_prompts(inputs["prompts"]))[:6])
    sources = {**inputs, "prompts": folder / "prompts.jsonl", "pool": pool_of(finished)}
    return run(folder / "run", replace(CONFIG, seed=6), sources)


def run(root: Path, config: RejectionSamplingConfig, inputs: dict[str, Path]) -> RunDirectory:
    directory, spec = create_run(root, RunKind.REJECTION_SAMPLING, config, inputs)
    rejection_sampling(directory, spec, RunContext(directory, config))
    return directory


def pool_of(directory: RunDirectory) -> Path:
    return directory.outputs / "pool.jsonl"


def summary_of(directory: RunDirectory) -> dict[str, Any]:
    result = directory.read_result()
    assert result is not None
    assert result["outputs"] == {
        "policy": "outputs/policy",
        "pool": "outputs/pool.jsonl",
        "demonstrations": "outputs/demonstrations.jsonl",
    }
    summary: dict[str, Any] = result["summary"]
    return summary


def test_the_response_with_the_highest_gated_score_is_selected(
    inputs: dict[str, Path], finished: RunDirectory
) -> None:
    """Scored once more, from the ids on file, by the reward models themselves."""
    score_fn = load_score_fn(
        {axis: inputs[axis.value] for axis in Axis},
        device=torch.device("cpu"),
        dtype=torch.float32,
        rows_per_batch=8,
    )
    folder = StoredChunks(finished.checkpoints / "candidates")
    items = encoded(*read_prompts(inputs["prompts"]))
    selected = iter(read_selected_rows(finished.outputs / "demonstrations.jsonl"))
    groups = [group for n in range(NUM_CHUNKS) for group in read_chunk(folder.read(n)).candidates]
    num_selected = 0
    for item, group in zip(items, groups, strict=True):
        ended = [row(item.ids, c.ids) for c in group if c.is_finished]
        if not ended:
            continue
        scores = score_fn(ended)
        safety_B, helpfulness_B = scores[Axis.SAFETY], scores[Axis.HELPFULNESS]
        is_gated_B = (safety_B.sigmoid() < 0.15) | item.prompt.is_safety
        best = int(torch.where(is_gated_B, safety_B, helpfulness_B).argmax())
        assert next(selected) == ended[best]
        num_selected += 1
    assert next(selected, None) is None
    assert num_selected == summary_of(finished)["num_selected"] > 4


def test_reward_models_on_one_base_choose_what_they_choose_whole(
    inputs: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared, whole = dict(inputs), dict(inputs)
    for seed, role in enumerate(("helpfulness", "safety", "general"), start=1):
        shared[role] = write_adapter_model(tmp_path / role, inputs["policy"], seed=seed)
        whole[role] = tmp_path / f"{role} whole"
        shutil.copytree(shared[role], whole[role], ignore=shutil.ignore_patterns(ADAPTER_FOLDER))
    with caplog.at_level(logging.INFO, logger="language.scalar_sets"):
        one = run(tmp_path / "shared", CONFIG, shared)
        other = run(tmp_path / "whole", CONFIG, whole)
    held = [message.removeprefix("scalar models: ") for message in caplog.messages]
    assert held[1:3] == [
        "safety is an adapter on the layers of helpfulness",
        "general is an adapter on the layers of helpfulness",
    ]
    assert [text.endswith("it kept no adapter") for text in held[3:]] == [True] * 3
    selected, expected = (
        read_selected_rows(made.outputs / "demonstrations.jsonl") for made in (one, other)
    )
    assert selected == expected
    ours, theirs = summary_of(one), summary_of(other)
    for name in ("mean_score", "mean_best_score", "mean_general", "selected_score"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-5), name


def test_the_general_model_scores_every_response_and_chooses_none(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path
) -> None:
    general = create_scalar_model(inputs["policy"], seed=77)
    save_model(general, tiny_tokenizer(), tmp_path / "general")
    directory = run(tmp_path / "run", CONFIG, {**inputs, "general": tmp_path / "general"})

    selected = "outputs/demonstrations.jsonl"
    assert (directory.root / selected).read_text() == (finished.root / selected).read_text()
    assert_equal_weights(
        directory.outputs / "policy", finished.outputs / "policy"
    )  # nothing else has changed either
    scores: list[float] = []
    bests: list[float] = []
    folder = StoredChunks(directory.checkpoints / "candidates")
    items = iter(encoded(*read_prompts(inputs["prompts"])))
    for group in (
        group for n in range(NUM_CHUNKS) for group in read_chunk(folder.read(n)).candidates
    ):
        item = next(items)
        with torch.no_grad():
            own = [row_scalars(general, [row(item.ids, c.ids)]).item() for c in group]
        assert [c.general for c in group] == pytest.approx(own, abs=1e-5)
        scores += own
        bests.append(own[max(range(len(group)), key=lambda i: group[i].score)])
    summary = summary_of(directory)
    assert summary["mean_general"] == pytest.approx(sum(scores) / len(scores), abs=1e-5)
    assert summary["mean_best_general"] == pytest.approx(sum(bests) / len(bests), abs=1e-5)
    first = metrics_of(directory)[0]
    assert first["general"] == pytest.approx(sum(scores[:12]) / 12, abs=1e-5)
    assert first["best_general"] == pytest.approx(sum(bests[:3]) / 3, abs=1e-5)
    assert "mean_general" not in summary_of(finished)


def test_no_response_without_an_end_is_ever_kept(finished: RunDirectory) -> None:
    assert summary_of(finished)["finished_share"] < 1.0  # there were some
    selected = read_selected_rows(finished.outputs / "demonstrations.jsonl")
    assert all(item.response_ids[-1] == 2 for item in selected)
    assert all(item.ids[-1] == 2 for item in read_pool(pool_of(finished)))


def test_the_selection_reads_as_demonstrations(finished: RunDirectory) -> None:
    selected = list(read_demonstrations(finished.outputs / "demonstrations.jsonl"))
    assert len(selected) == summary_of(finished)["num_selected"]
    assert {item.source for item in selected} == {"digest of policy"}


def test_sampling_and_fine_tuning_are_one_row_of_steps(finished: RunDirectory) -> None:
    rows = metrics_of(finished)
    total = rows[0]["total_steps"]
    assert [values["step"] for values in rows] == list(range(1, len(rows) + 1))
    assert [("best_score" in values) for values in rows[:5]] == [True] * 4 + [False]
    assert all("loss" in values for values in rows[NUM_CHUNKS:])
    assert rows[-1]["step"] <= total
    for values in rows[:NUM_CHUNKS]:
        assert values["best_score"] >= values["score"]
        assert values["num_responses"] == 12


def test_the_summary_says_what_was_gained(finished: RunDirectory) -> None:
    summary = summary_of(finished)
    curve = summary["curve"]
    assert [point["n"] for point in curve] == [1, 2, 3, 4]
    assert curve[0]["max"] == pytest.approx(curve[0]["median"])
    assert curve[0]["max"] == pytest.approx(summary["mean_score"])
    assert curve[-1]["max"] == pytest.approx(summary["mean_best_score"])
    assert curve[-1]["median"] == pytest.approx(summary["median_score"])
    assert summary["mean_best_score"] > summary["mean_score"]
    assert summary["share_from_pool"] == 0.0
    assert summary["num_samples"] == 48


def test_the_fine_tuned_policy_differs_from_its_start(
    inputs: dict[str, Path], finished: RunDirectory
) -> None:
    head = "lm_head.weight"
    before = weights_of(inputs["start"])[head]
    assert not torch.equal(weights_of(finished.outputs / "policy")[head], before)


def test_earlier_samples_compete_and_their_prompts_are_kept(
    inputs: dict[str, Path], finished: RunDirectory, second: RunDirectory
) -> None:
    first_pool, second_pool = list(read_pool(pool_of(finished))), list(read_pool(pool_of(second)))
    assert {sample.iteration for sample in first_pool} == {1}
    assert {sample.iteration for sample in second_pool} == {1, 2}
    assert {prompt_key(s.prompt) for s in first_pool} <= {prompt_key(s.prompt) for s in second_pool}
    for key in {prompt_key(s.prompt) for s in second_pool}:
        scores = [s.score for s in second_pool if prompt_key(s.prompt) == key]
        earlier = [s.score for s in first_pool if prompt_key(s.prompt) == key]
        assert len(scores) <= CONFIG.pool_size
        assert scores == sorted(scores, reverse=True)
        assert not earlier or scores[0] >= max(earlier) - 1e-5
    assert 0.0 < summary_of(second)["share_from_pool"] < 1.0
    assert summary_of(second)["num_pool"] == len(first_pool)


def test_the_pool_is_scored_again_by_the_newest_reward_models(finished: RunDirectory) -> None:
    pool = list(read_pool(pool_of(finished)))
    tokenizer = tiny_tokenizer()
    score_fn = NoiseScoreFn("any")
    rescored = rescore_pool(
        pool, score_fn, tokenizer, max_tokens=136, max_row_tokens=256, threshold=0.0
    ).samples
    assert [sample.ids for sample in rescored] == [sample.ids for sample in pool]
    for old, new in zip(pool, rescored, strict=True):
        (item,) = encoded(old.prompt)
        axis = Axis.SAFETY if old.prompt.is_safety else Axis.HELPFULNESS
        assert new.score == pytest.approx(score_fn([row(item.ids, old.ids)])[axis].item())
        assert new.score != old.score


def test_a_pool_of_another_tokenizer_is_encoded_anew() -> None:
    (prompt,) = prompts(1)
    sample = PoolSample(prompt, "thank you.", (9, 9, 9), "another tokenizer", "v1", 1, 0.0)
    (kept,) = rescore_pool(
        [sample],
        NoiseScoreFn("any"),
        tiny_tokenizer(),
        max_tokens=100,
        max_row_tokens=256,
        threshold=0.15,
    ).samples
    assert kept.tokenizer == tokenizer_digest(tiny_tokenizer())
    assert kept.ids != sample.ids
    assert kept.ids[-1] == 2


def test_pool_prompts_that_no_longer_fit_are_counted() -> None:
    (prompt,) = prompts(1)
    digest = tokenizer_digest(tiny_tokenizer())
    sample = PoolSample(prompt, "no", (9, 2), digest, "v1", 1, 0.0)
    rescored = rescore_pool(
        [sample, sample],
        NoiseScoreFn("any"),
        tiny_tokenizer(),
        max_tokens=4,
        max_row_tokens=256,
        threshold=0.15,
    )
    assert rescored.samples == []
    assert rescored.skipped == {"too_long": 2}


def test_pool_responses_that_no_longer_fit_are_counted() -> None:
    (prompt,) = prompts(1)
    (item,) = encoded(prompt)
    digest = tokenizer_digest(tiny_tokenizer())
    short = PoolSample(prompt, "no", (9, 2), digest, "v1", 1, 0.0)
    longer = short._replace(response="no no", ids=(9, 9, 2))
    rescored = rescore_pool(
        [longer, short],
        NoiseScoreFn("any"),
        tiny_tokenizer(),
        max_tokens=100,
        max_row_tokens=len(item.ids) + 2,
        threshold=0.15,
    )
    assert [sample.response for sample in rescored.samples] == ["no"]
    assert rescored.skipped == {"too_long": 1}


@pytest.mark.parametrize("steps", [1, 3, NUM_CHUNKS, NUM_CHUNKS + 1, NUM_CHUNKS + 2])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path, steps: int
) -> None:
    directory, spec = create_run(tmp_path / "run", RunKind.REJECTION_SAMPLING, CONFIG, inputs)
    with pytest.raises(RunStopped):
        rejection_sampling(directory, spec, StopAfter(directory, CONFIG, steps=steps))
    assert len(metrics_of(directory)) == steps
    rejection_sampling(directory, spec, RunContext(directory, CONFIG))
    assert_same(directory, finished)


def test_finished_chunks_are_not_sampled_again(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path
) -> None:
    directory, spec = create_run(tmp_path / "run", RunKind.REJECTION_SAMPLING, CONFIG, inputs)
    with pytest.raises(RunStopped):
        rejection_sampling(directory, spec, StopAfter(directory, CONFIG, steps=2))
    files = sorted((directory.checkpoints / "candidates").iterdir())
    assert [path.name for path in files] == ["chunk-000000.json", "chunk-000001.json"]
    before = [path.stat().st_mtime_ns for path in files]
    rejection_sampling(directory, spec, RunContext(directory, CONFIG))
    assert [path.stat().st_mtime_ns for path in files] == before
    assert_same(directory, finished)


def test_a_row_whose_chunk_was_lost_is_written_again(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path
) -> None:
    directory, spec = create_run(tmp_path / "run", RunKind.REJECTION_SAMPLING, CONFIG, inputs)
    with pytest.raises(RunStopped):
        rejection_sampling(directory, spec, StopAfter(directory, CONFIG, steps=2))
    (directory.checkpoints / "candidates" / "chunk-000001.json").unlink()
    rejection_sampling(directory, spec, RunContext(directory, CONFIG))
    assert_same(directory, finished)


def assert_same(one: RunDirectory, other: RunDirectory) -> None:
    assert metrics_of(one) == metrics_of(other)
    assert_equal_weights(one.outputs / "policy", other.outputs / "policy")
    assert pool_of(one).read_bytes() == pool_of(other).read_bytes()
    assert summary_of(one) == summary_of(other)


def test_responses_of_a_prompt_differ_and_follow_from_the_seed(finished: RunDirectory) -> None:
    chunk = read_chunk(StoredChunks(finished.checkpoints / "candidates").read(0))
    assert all(len({c.ids for c in group}) == 4 for group in chunk.candidates)
    assert chunk.candidates[0][0].ids != chunk.candidates[1][0].ids


def test_against_noise_the_luckiest_response_is_selected(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    config = replace(CONFIG, score_function="policies.noise:load_score_fn")
    summary = summary_of(run(tmp_path / "run", config, inputs))
    assert summary["selected_score"] > summary["mean_score"] + 0.5


def test_no_pool_is_handed_on_when_none_is_wanted(inputs: dict[str, Path], tmp_path: Path) -> None:
    directory = run(tmp_path / "run", replace(CONFIG, pool_size=0), inputs)
    assert list(read_pool(pool_of(directory))) == []


def test_responses_that_never_end_are_an_error_that_says_what_to_do(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    config = replace(CONFIG, sampling=SamplingConfig(max_new_tokens=1, temperature=0.01))
    with pytest.raises(ValueError, match="allow longer ones"):
        run(tmp_path / "run", config, inputs)


def test_a_start_model_with_another_tokenizer_is_refused(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    save_model(tiny_policy(), train_tokenizer(TEXTS, vocabulary_size=300), tmp_path / "other")
    with pytest.raises(ValueError, match="start: their tokenizer"):
        run(tmp_path / "run", CONFIG, {**inputs, "start": tmp_path / "other"})


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy of half the width and one layer, with the large one's tokenizer."""
    folder = tmp_path_factory.mktemp("small")
    shape = tiny_policy(seed=3, num_layers=1, hidden_size=16, num_heads=2)
    save_model(shape, tiny_tokenizer(), folder)
    return folder


def test_a_small_policy_learns_what_was_selected_of_a_large_ones_responses(
    inputs: dict[str, Path], finished: RunDirectory, small: Path, tmp_path: Path
) -> None:
    directory = run(tmp_path / "run", CONFIG, {**inputs, "start": small})
    selected = "outputs/demonstrations.jsonl"
    assert (directory.root / selected).read_bytes() == (finished.root / selected).read_bytes()
    assert pool_of(directory).read_bytes() == pool_of(finished).read_bytes()
    before, after = load_policy(small), load_policy(directory.outputs / "policy")
    assert after.config.hidden_size == 16
    assert after.config.num_hidden_layers == 1
    assert {k: v.shape for k, v in weights_of(small).items()} == {
        k: v.shape for k, v in weights_of(directory.outputs / "policy").items()
    }
    rows = read_selected_rows(directory.root / selected)
    with torch.no_grad():
        losses = [float(response_losses(policy, rows).mean()) for policy in (before, after)]
    assert losses[1] < losses[0] - 0.01


def test_another_run_may_be_fine_tuned_on_the_selection_as_on_any_demonstrations(
    finished: RunDirectory, small: Path, tmp_path: Path
) -> None:
    """One large policy's selection teaches any number of small ones, sampled once."""
    sources = {"policy": small, "demonstrations": finished.outputs / "demonstrations.jsonl"}
    config = replace(CONFIG.finetune, device="cpu")
    directory, spec = create_run(tmp_path / "run", RunKind.SFT, config, sources)
    sft(directory, spec, RunContext(directory, config))
    result = directory.read_result()
    assert result is not None
    # Texts are encoded anew: what a random policy writes may then be too long, or imitate a tag.
    learned, skipped = result["summary"]["num_demonstrations"], result["summary"]["skipped"]
    assert learned + sum(skipped.values()) == summary_of(finished)["num_selected"]
    assert learned > 0
    assert load_policy(directory.outputs / "policy").config.hidden_size == 16


def test_prompts_that_do_not_fit_the_smaller_policy_are_left_out_and_counted(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    lengths = [len(item.ids) for item in encoded(*read_prompts(inputs["prompts"]))]
    limit = sorted(lengths)[6]
    positions = CONFIG.sampling.max_new_tokens + limit
    save_model(tiny_policy(max_positions=positions), tiny_tokenizer(), tmp_path / "short")
    directory = run(tmp_path / "run", CONFIG, {**inputs, "start": tmp_path / "short"})
    summary = summary_of(directory)
    assert summary["skipped"] == {"too_long": sum(length > limit for length in lengths)}
    assert 0 < summary["num_prompts"] < len(lengths)
    rows = read_selected_rows(directory.outputs / "demonstrations.jsonl")
    assert max(item.num_tokens for item in rows) <= positions
