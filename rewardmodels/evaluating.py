"""The run `reward_evaluation`: held-out pairs in, a report on a reward model out.

Shapes: `N` pairs.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from transformers import LlamaForSequenceClassification, PreTrainedTokenizerBase

from language.runs import RunContext, RunStopped
from language.scalars import load_scalar_model
from language.tokenizers import load_tokenizer, tokenizer_digest
from records.files import folder_written_atomically, write_json_atomically
from records.preferences import Preference
from records.reward_configs import RewardEvaluationConfig
from records.rundirs import RunDirectory, RunSpec
from records.snapshots import read_snapshot
from records.statistics import sigmoid
from rewardmodels.axisreports import axis_report
from rewardmodels.biases import position_bias
from rewardmodels.calibration import as_json
from rewardmodels.data import EncodedPairs, encode_pairs
from rewardmodels.mixtures import snapshot_folders
from rewardmodels.reports import score_pairs
from rewardmodels.scored import ScoredPair, scored_pair, write_scored_pairs
from rewardmodels.scoring import shared_digest

TRAINING_PAIRS = "training_pairs.parquet"
_NUM_SHOWN = 100
"""Disagreements in the run's result, for its page; the file in the report has all."""


class HeldOut(NamedTuple):
    """The pairs of an evaluation and what was passed over."""

    preferences: list[Preference]
    skipped: Counter[str]
    """Number passed over, by reason: `duplicate` or `trained_on`."""


def evaluate(run_directory: RunDirectory, spec: RunSpec, context: RunContext) -> None:
    """Score the held-out sides of a run's snapshots and write the output `report`.

    The report holds `report.json` (also the run's result), `pairs.parquet` (every pair with its
    scores) and `disagreements.jsonl`. Reads everything again when it is started again.

    Raises:
        RunStopped: Someone asked the run to stop.
        ValueError: No pair is left to report on, or the models read different token ids.
    """
    config = spec.config
    assert isinstance(config, RewardEvaluationConfig), f"{type(config).__name__} is another run's"
    inputs = {role: item.path for role, item in spec.inputs.items()}
    roles: tuple[str, ...] = ("reward_model", "previous")
    models = {role: inputs[role] for role in roles if role in inputs}
    tokenizer = load_tokenizer(inputs["reward_model"])
    digests = {role: tokenizer_digest(load_tokenizer(path)) for role, path in models.items()}
    shared_digest(digests)
    held_out = read_held_out(snapshot_folders(inputs), config, list(models.values()))

    scores: dict[str, list[tuple[float, float]]] = {}
    positions: dict[str, Any] = {}
    for role, path in models.items():
        model = load_scalar_model(path, dtype=context.dtype, device=context.device)
        if role == "reward_model":
            encoded = _encode(model, tokenizer, held_out, config)
        scores[role] = _scores(model, encoded, config)
        if role == "reward_model":
            positions = _position_biases(model, encoded, held_out, config)
        del model
        if context.stop_requested:
            raise RunStopped
    pairs = _scored_pairs(held_out.preferences, encoded, scores)
    report = build_report(pairs, positions, config)
    report["skipped"] = dict(held_out.skipped + encoded.skipped)
    report["num_shortened"] = encoded.num_shortened
    _log(context, report)
    if context.is_main:
        output = run_directory.outputs / "report"
        listed = list_disagreements(pairs, config)
        _write_report(output, report, pairs, listed, held_out.preferences)
        shown = [_disagreement(pair) for pair in listed[:_NUM_SHOWN]]
        run_directory.write_result({**report, "disagreements": shown}, {"report": output})


def read_held_out(
    folders: Mapping[str, Path], config: RewardEvaluationConfig, models: Iterable[Path]
) -> HeldOut:
    """Return the test sides of `folders`, each preference once.

    Left out and counted are the pairs of dialogues that one of `models` was trained on, as told by
    the list of training pairs beside its weights: another snapshot may have split them otherwise.
    """
    trained_on = {dialogue_id for folder in models for dialogue_id in trained_dialogues(folder)}
    skipped: Counter[str] = Counter()
    found: dict[str, Preference] = {}
    for folder in folders.values():
        for preference in read_snapshot(folder, split="test"):
            if config.axis is not None and preference.axis is not config.axis:
                continue
            if preference.preference_id in found:
                skipped["duplicate"] += 1
            elif preference.dialogue_id in trained_on:
                skipped["trained_on"] += 1
            else:
                found[preference.preference_id] = preference
    return HeldOut(list(found.values()), skipped)


def trained_dialogues(reward_model: Path) -> set[str]:
    """Return the dialogues a reward model was trained on; empty for one that was not made here."""
    path = reward_model / TRAINING_PAIRS
    if not path.exists():
        return set()
    return set(pq.read_table(path, columns=["dialogue_id"])["dialogue_id"].to_pylist())


def build_report(
    pairs: Sequence[ScoredPair], positions: Mapping[str, Any], config: RewardEvaluationConfig
) -> dict[str, Any]:
    """Return the report on scored `pairs`, ready for JSON: `num_pairs`, and `axes` by axis."""
    by_axis: dict[str, list[ScoredPair]] = {}
    for pair in pairs:
        by_axis.setdefault(pair.axis, []).append(pair)
    axes = {axis: axis_report(by_axis[axis], config) for axis in sorted(by_axis)}
    for axis, report in axes.items():
        report["position_bias"] = positions.get(axis)
    return {"num_pairs": len(pairs), "axes": axes}


def list_disagreements(
    pairs: Sequence[ScoredPair], config: RewardEvaluationConfig
) -> list[ScoredPair]:
    """Return the pairs on which the model is sure that people chose the worse response.

    Sure means σ(rejected - chosen) of at least `disagreement_confidence`; the surest come first.
    """
    sure = [p for p in pairs if sigmoid(-p.difference) >= config.disagreement_confidence]
    sure.sort(key=lambda pair: (pair.difference, pair.preference_id))
    return sure[: config.max_disagreements]


def _encode(
    model: LlamaForSequenceClassification,
    tokenizer: PreTrainedTokenizerBase,
    held_out: HeldOut,
    config: RewardEvaluationConfig,
) -> EncodedPairs:
    max_tokens = min(config.max_tokens, model.config.max_position_embeddings)
    encoded = encode_pairs(tokenizer, held_out.preferences, max_tokens=max_tokens)
    if not encoded.pairs:
        skipped = dict(held_out.skipped + encoded.skipped)
        raise ValueError(f"snapshot: no held-out pair is left to report on; skipped {skipped}")
    return encoded


def _scores(
    model: LlamaForSequenceClassification,
    encoded: EncodedPairs,
    config: RewardEvaluationConfig,
) -> list[tuple[float, float]]:
    chosen_N, rejected_N = score_pairs(
        model, encoded.pairs, tokens_per_microbatch=config.tokens_per_microbatch
    )
    if not (chosen_N.isfinite().all() and rejected_N.isfinite().all()):
        raise ValueError("a score is NaN or infinite: the model has diverged")
    return list(zip(chosen_N.tolist(), rejected_N.tolist(), strict=True))


def _position_biases(
    model: LlamaForSequenceClassification,
    encoded: EncodedPairs,
    held_out: HeldOut,
    config: RewardEvaluationConfig,
) -> dict[str, Any]:
    axes = [held_out.preferences[index].axis.value for index in encoded.kept]
    found = {}
    for axis in set(axes):
        own = [pair for pair, name in zip(encoded.pairs, axes, strict=True) if name == axis]
        own = own[: config.num_position_pairs]
        found[axis] = as_json(position_bias(model, own))
    return found


def _scored_pairs(
    preferences: Sequence[Preference],
    encoded: EncodedPairs,
    scores: Mapping[str, Sequence[tuple[float, float]]],
) -> list[ScoredPair]:
    previous = scores.get("previous")
    return [
        scored_pair(
            preferences[index],
            scores=scores["reward_model"][place],
            previous_scores=None if previous is None else previous[place],
            num_tokens=(len(pair.chosen.response_ids), len(pair.rejected.response_ids)),
        )
        for place, (index, pair) in enumerate(zip(encoded.kept, encoded.pairs, strict=True))
    ]


def _log(context: RunContext, report: Mapping[str, Any]) -> None:
    """Write one row of metrics: the accuracies, so that the run's page shows how it ended."""
    accuracies = {
        f"accuracy_{axis}": axis_figures["accuracy"]["overall"]["value"]
        for axis, axis_figures in report["axes"].items()
    }
    context.log(1, total_steps=1, pairs=report["num_pairs"], **accuracies)


def _write_report(
    output: Path,
    report: Mapping[str, Any],
    pairs: Sequence[ScoredPair],
    disagreements: Sequence[ScoredPair],
    preferences: Iterable[Preference],
) -> None:
    by_id = {preference.preference_id: preference for preference in preferences}
    with folder_written_atomically(output) as folder:
        write_json_atomically(folder / "report.json", report)
        write_scored_pairs(folder / "pairs.parquet", pairs)
        with (folder / "disagreements.jsonl").open("w", encoding="utf-8") as file:
            for pair in disagreements:
                preference = by_id[pair.preference_id]
                line = {
                    **_disagreement(pair),
                    "prompt": preference.prompt.to_json(),
                    "chosen": preference.chosen,
                    "rejected": preference.rejected,
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _disagreement(pair: ScoredPair) -> dict[str, Any]:
    """Return what identifies a disagreement; `preference_id` is the judgement's own id."""
    names = (
        "preference_id dialogue_id comparison axis round_name rating safety_bin "
        "chosen_score rejected_score"
    )
    fields = {name: getattr(pair, name) for name in names.split()}
    return {**fields, "confidence": sigmoid(-pair.difference)}
