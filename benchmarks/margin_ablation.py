"""Margin ablation on the sandbox: held-out accuracy by rating without margin, small and large.

As Table 28 of arXiv:2307.09288, on simulated judgements: a policy that has learned the sandbox's
language, pairs of responses of mixed quality, the sandbox's reward-model preset, one epoch.
"""

import random
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.calibration import calibrate
from benchmarks.frame import Result
from benchmarks.rewardruns import HeldOutScores, score_held_out, train_in
from language.runs import RunContext, seed_everything
from policies.pretrain import pretrain
from records.dialogues import Dialogue
from records.policy_configs import PretrainConfig
from records.preferences import Axis, Preference, Rating
from records.presets import SANDBOX, preset
from records.prompts import Demonstration, write_demonstrations
from records.reward_configs import MarginTable
from records.run_configs import RunKind
from records.rundirs import RunDirectory, RunInput, RunSpec
from records.snapshots import write_snapshot
from records.statistics import sigmoid, wilson_proportion
from rewardmodels.paired import compare_paired
from rewardmodels.scored import credits_of
from simulation.annotators import PERSONAS, SimulatedAnnotator
from simulation.corpus import sample_corpus
from simulation.grammar import CORPUS_QUALITY, write_response
from simulation.parsing import understand

NUM_DIALOGUES, NUM_TRAIN, NUM_TEST = 14_000, 4000, 2000
"""The corpus is the demo's: on a smaller one the policy has learned too little to tell responses
apart, and every margin gives chance."""
SEEDS = (0, 1, 2)
TABLES = (MarginTable.NONE, MarginTable.SMALL, MarginTable.LARGE)
_NEAR_ONE = 0.95


def run() -> Result:
    """Train a reward model with each table and seed, on the same pairs."""
    before = calibrate()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        policy = _policy(folder)
        test = _pairs("test", NUM_TEST)
        pairs = [*_pairs("train", NUM_TRAIN), *test]
        splits = {p.dialogue_id: p.dialogue_id.partition("-")[0] for p in pairs}
        write_snapshot(folder / "snapshot", pairs, selection={}, splits=splits)
        scores = {
            table: [_scores(folder, table, seed, policy, test) for seed in SEEDS]
            for table in TABLES
        }
    figures = {table.value: _by_rating(test, runs) for table, runs in scores.items()}
    for line in _table(figures):
        print(line, file=sys.stderr)
    small, none = (_credits(scores[t]) for t in (MarginTable.SMALL, MarginTable.NONE))
    gain = compare_paired(
        small, none, [p.dialogue_id for p in test] * len(SEEDS), num_resamples=2000, seed=0
    )
    assert gain is not None
    return Result(
        name="margin_ablation",
        unit="held-out accuracy with the small margin; the peer is no margin",
        ours=round(float(small.mean()), 4),
        peer=round(float(none.mean()), 4),
        peer_version="the same without a margin",
        floor_share=None,
        calibration={"before": before, "after": calibrate()},
        details={
            "train_pairs": NUM_TRAIN,
            "test_pairs": NUM_TEST,
            "seeds": len(SEEDS),
            "by_rating": figures,
            "small_over_none": round(gain.difference, 4),
            "interval": [round(gain.low, 4), round(gain.high, 4)],
        },
    )


def _policy(folder: Path) -> Path:
    """Return a policy trained on a small corpus, so that a reward model has something to go on."""
    torch.set_num_threads(1)
    rows = (
        Demonstration(prompt=Dialogue(d.turns[:-1], system=d.system), response=d.turns[-1].text)
        for d in sample_corpus(1, NUM_DIALOGUES)
    )
    write_demonstrations(folder / "corpus.jsonl", rows)
    config = PretrainConfig(num_threads=1, device="cpu", checkpoint_every=100_000)
    spec = RunSpec(
        kind=RunKind.PRETRAIN,
        config=config,
        inputs={"demonstrations": RunInput(folder / "corpus.jsonl", "")},
        code_commit="benchmark",
    )
    directory = RunDirectory.create(folder / "pretrain", spec)
    seed_everything(config.seed)
    pretrain(directory, spec, RunContext(directory, config))
    return directory.outputs / "policy"


def _pairs(split: str, count: int) -> list[Preference]:
    """Return simulated judgements of two responses of mixed quality to one prompt."""
    rng = random.Random(f"ablation:{split}")
    annotator = SimulatedAnnotator(PERSONAS["average"], 1 if split == "train" else 2)
    pairs: list[Preference] = []
    while len(pairs) < count:
        prompt = annotator.write_prompt(Axis.HELPFULNESS).dialogue
        texts = [write_response(rng, understand(prompt), CORPUS_QUALITY) for _ in range(2)]
        if texts[0] == texts[1]:
            continue
        verdict = annotator.judge(prompt, texts[0], texts[1], Axis.HELPFULNESS)
        chosen, rejected = texts if verdict.prefers_left else texts[::-1]
        pairs.append(
            Preference(
                preference_id=f"{split}-{len(pairs)}",
                dialogue_id=f"{split}-{len(pairs)}",
                prompt=prompt,
                chosen=chosen,
                rejected=rejected,
                axis=Axis.HELPFULNESS,
                rating=verdict.rating,
            )
        )
    return pairs


def _scores(
    folder: Path, table: MarginTable, seed: int, policy: Path, test: list[Preference]
) -> HeldOutScores:
    config = replace(
        preset(SANDBOX, Axis.HELPFULNESS),
        seed=seed,
        margin_table=table,
        device="cpu",
        checkpoint_every=100_000,
    )
    root = folder / f"{table}-{seed}"
    model = train_in(root, config, policy=policy, snapshot=folder / "snapshot")
    return score_held_out(model, test, max_tokens=config.max_tokens)


def _credits(runs: list[HeldOutScores]) -> np.ndarray:
    chosen = [x for scores in runs for x in scores.chosen]
    return credits_of(chosen, [x for scores in runs for x in scores.rejected])


def _by_rating(test: list[Preference], runs: list[HeldOutScores]) -> dict[str, dict[str, float]]:
    """Return accuracy with its interval by rating and overall, and the share of scores near 1."""
    gained = _credits(runs)
    ratings = [p.rating for p in test] * len(runs)
    figures: dict[str, dict[str, float]] = {}
    for name, wanted in (*((r.value, r) for r in Rating), ("overall", None)):
        own = [c for c, rating in zip(gained, ratings, strict=True) if wanted in (None, rating)]
        share = wilson_proportion(float(sum(own)), len(own))
        assert share.value is not None, f"no pair is rated {name}"
        figures[name] = {
            "value": round(share.value, 4),
            "low": round(share.low, 4),
            "high": round(share.high, 4),
            "n": share.n,
        }
    every = [x for scores in runs for x in (*scores.chosen, *scores.rejected)]
    near = sum(sigmoid(x) > _NEAR_ONE or sigmoid(x) < 1 - _NEAR_ONE for x in every)
    figures["scores_near_0_or_1"] = {"value": round(near / len(every), 4)}
    return figures


def _table(figures: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Return the table as Markdown, one line a margin."""
    names = [*(r.value for r in Rating), "overall", "scores_near_0_or_1"]
    lines = [f"| margin | {' | '.join(name.replace('_', ' ') for name in names)} |"]
    lines.append("| --- " * (len(names) + 1) + "|")
    for table, row in figures.items():
        cells = " | ".join(f"{100 * row[name]['value']:.1f}" for name in names)
        lines.append(f"| {table} | {cells} |")
    return lines
