"""Parity with TRL: held-out accuracy after one epoch, three seeds, and the loss of a fixed batch.

Both start from the same weights, head included, and learn from the same pairs, which TRL reads from
our export. Needs `CONCORD_DATA`. Not a measure of speed, nor of hh-rlhf: the model is tiny and
random, and both sides of the data come from the official test split.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.calibration import calibrate
from benchmarks.frame import Result, peer_python, run_child
from benchmarks.reward_model_training import TRL
from benchmarks.rewardruns import HeldOutScores, score_held_out, train_in
from benchmarks.texts import Texts, make_policy
from language.models import save_model
from language.scalars import create_scalar_model
from language.tokenizers import load_tokenizer
from records.exports import export_for_trl
from records.hh_rlhf import import_hh_rlhf
from records.preferences import Preference
from records.reward_configs import MarginTable, RewardModelConfig
from records.run_configs import OptimizerConfig
from records.snapshots import write_snapshot
from records.statistics import wilson_proportion
from rewardmodels.batches import pair_scores
from rewardmodels.data import encode_pairs
from rewardmodels.losses import margins_of, ranking_loss
from rewardmodels.paired import compare_paired
from rewardmodels.scored import credits_of

NUM_TRAIN, NUM_TEST, MAX_TOKENS = 1024, 640, 192
SEEDS = (0, 1, 2)
NUM_FIXED = 16
CONFIG = RewardModelConfig(
    is_general=True,
    num_threads=1,
    device="cpu",
    pairs_per_batch=16,
    max_tokens=MAX_TOKENS,
    margin_table=MarginTable.NONE,
    checkpoint_every=100_000,
    optimizer=OptimizerConfig(learning_rate=1e-3, adam_epsilon=1e-8),
)
HERE = Path(__file__).parent


def run() -> Result:
    """Train three times on each side, and compare pair by pair."""
    before = calibrate()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        test = _prepare(folder)
        ours, theirs, losses = [], [], []
        for seed in SEEDS:
            mine, other, gap = _one_seed(folder, seed, test)
            ours.append(mine)
            theirs.append(other["scores"])
            losses.append(gap)
            version = other["version"]
    credit = credits_of(*_joined(ours))
    peer_credit = credits_of(*_joined(theirs))
    dialogues = [p.dialogue_id for p in test] * len(SEEDS)
    paired = compare_paired(credit, peer_credit, dialogues, num_resamples=2000, seed=0)
    assert paired is not None
    total = credit.size
    return Result(
        name="reward_model_parity",
        unit="held-out accuracy, mean of three seeds",
        ours=round(float(credit.mean()), 4),
        peer=round(float(peer_credit.mean()), 4),
        peer_version=f"TRL {version} RewardTrainer",
        floor_share=None,
        calibration={"before": before, "after": calibrate()},
        details={
            "model": "nano, random, the same for both",
            "source": "hh-rlhf",
            "train_pairs": NUM_TRAIN,
            "test_pairs": len(test),
            "seeds": len(SEEDS),
            "by_seed": [round(float(credits_of(*s).mean()), 4) for s in ours],
            "peer_by_seed": [round(float(credits_of(*s).mean()), 4) for s in theirs],
            "interval": [round(x, 4) for x in wilson_proportion(float(credit.sum()), total)[1:3]],
            "difference": round(paired.difference, 4),
            "difference_interval": [round(paired.low, 4), round(paired.high, 4)],
            "mcnemar_p": round(paired.p_value, 4),
            "fixed_batch_losses": losses,
            "largest_loss_gap": max(abs(gap["ours"] - gap["peer"]) for gap in losses),
        },
    )


def _prepare(folder: Path) -> list[Preference]:
    """Write policy, snapshot and export; return the held-out pairs in their order."""
    data = import_hh_rlhf(Path(os.environ["CONCORD_DATA"]) / "hh-rlhf")
    texts = Texts(data.preferences[:4000], "hh-rlhf")
    tokenizer = make_policy(folder / "policy", "nano", texts)
    by_split: dict[str, list[Preference]] = {"train": [], "test": []}
    for preference in data.preferences:
        encoded = encode_pairs(tokenizer, [preference], max_tokens=MAX_TOKENS)
        # TRL drops pairs that do not fit where we shorten them: both get those that fit.
        if encoded.pairs and not encoded.num_shortened:
            by_split[data.splits[preference.dialogue_id]].append(preference)
    train = _evenly(by_split["train"], NUM_TRAIN)
    test = _evenly(by_split["test"], NUM_TEST)
    splits = {
        p.dialogue_id: split for split, rows in (("train", train), ("test", test)) for p in rows
    }
    write_snapshot(folder / "snapshot", [*train, *test], selection={}, splits=splits)
    export_for_trl(folder / "snapshot", folder / "export", margins=CONFIG.margins)
    return test


def _one_seed(
    folder: Path, seed: int, test: list[Preference]
) -> tuple[HeldOutScores, dict[str, Any], dict[str, float]]:
    tokenizer = load_tokenizer(folder / "policy")
    start = create_scalar_model(folder / "policy", seed=seed)
    save_model(start, tokenizer, folder / f"start-{seed}")
    config = RewardModelConfig.from_json({**CONFIG.to_json(), "seed": seed})
    trained = train_in(
        folder / f"run-{seed}", config, policy=folder / "policy", snapshot=folder / "snapshot"
    )
    mine = score_held_out(trained, test, max_tokens=MAX_TOKENS)
    peer = run_child(
        peer_python("trl", TRL),
        HERE / "peers" / "trl_reward_parity.py",
        *("--model", str(folder / f"start-{seed}")),
        *("--data", str(folder / "export")),
        *("--seed", str(seed)),
        *("--pairs-per-batch", str(config.pairs_per_batch)),
        *("--max-tokens", str(MAX_TOKENS)),
        *("--learning-rate", str(config.optimizer.learning_rate)),
        *("--num-fixed", str(NUM_FIXED)),
        *("--margins", "1.0", "0.5", "0.0"),
    )
    peer["scores"] = HeldOutScores(peer["chosen"], peer["rejected"])
    assert len(peer["chosen"]) == len(test), "TRL has left pairs out"
    # The same sixteen pairs, under the same made-up margins, before any training.
    fixed = encode_pairs(tokenizer, test[:NUM_FIXED], max_tokens=MAX_TOKENS).pairs
    with torch.no_grad():
        scores = pair_scores(start, fixed)
        margins = torch.tensor([(1.0, 0.5, 0.0)[i % 3] for i in range(NUM_FIXED)])
        loss = ranking_loss(*scores, margins).mean().item()
    assert not margins_of([p.rating for p in test], config.margins).any(), "hh-rlhf has no ratings"
    return mine, peer, {"ours": loss, "peer": peer["fixed_loss"]}


def _evenly(rows: list[Preference], count: int) -> list[Preference]:
    """Return about `count` of `rows`, taken evenly over all files."""
    return rows[:: max(1, len(rows) // count)][:count]


def _joined(parts: list[HeldOutScores]) -> tuple[list[float], list[float]]:
    return [x for part in parts for x in part.chosen], [x for part in parts for x in part.rejected]


if __name__ == "__main__":
    print(json.dumps(run().line()))
