"""Toy preferences and reward-model runs on tiny models."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from language.runs import RunContext
from records.dialogues import Dialogue
from records.preferences import Axis, Preference, Rating
from records.reward_configs import RewardModelConfig
from records.run_configs import OptimizerConfig, RunKind, Schedule
from records.rundirs import RunDirectory, RunInput, RunSpec
from records.snapshots import write_snapshot

WORDS = ["tea", "water", "hill", "river", "house", "today", "three", "safe"]
LEARNING = OptimizerConfig(learning_rate=1e-2, schedule=Schedule.CONSTANT, weight_decay=0.0)


def preference(index: int, **fields: Any) -> Preference:
    """Return a comparison whose chosen response says `red` where the rejected one says `blue`."""
    rng = random.Random(index)
    words = rng.choices(WORDS, k=rng.randint(1, 4))
    place = rng.randint(0, len(words))
    chosen, rejected = (
        " ".join([*words[:place], colour, *words[place:]]) for colour in ("red", "blue")
    )
    values: dict[str, Any] = {
        "preference_id": f"p{index}",
        "dialogue_id": f"d{index}",
        "prompt": Dialogue.from_texts("tell me more about " + rng.choice(WORDS)),
        "chosen": chosen,
        "rejected": rejected,
        "axis": Axis.HELPFULNESS,
        "rating": list(Rating)[index % 4],
    }
    return Preference(**(values | fields))


def write_toy_snapshot(
    folder: Path, preferences: Sequence[Preference], *, test_ids: Sequence[str] = ()
) -> Path:
    """Write a snapshot whose test side is exactly the dialogues `test_ids`."""
    splits = {p.dialogue_id: "test" if p.dialogue_id in test_ids else "train" for p in preferences}
    write_snapshot(folder, preferences, selection={}, splits=splits)
    return folder


def create_run(
    root: Path, config: RewardModelConfig, inputs: dict[str, Path]
) -> tuple[RunDirectory, RunSpec]:
    """Write a run directory for `config` and return it with its spec."""
    spec = RunSpec(
        kind=RunKind.REWARD_MODEL,
        config=config,
        inputs={role: RunInput(path, "0" * 64) for role, path in inputs.items()},
        code_commit="test",
    )
    return RunDirectory.create(root, spec), spec


def context_for(run_directory: RunDirectory, spec: RunSpec) -> RunContext:
    """Return the context that the command line would make for a single process."""
    return RunContext(run_directory, spec.config)
