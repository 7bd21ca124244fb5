"""What a reward model learns from: rows of snapshots, taken whole or drawn, and recorded."""

import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from records.preferences import Axis, Preference
from records.reward_configs import RewardModelConfig, Whole
from records.snapshots import read_snapshot


class MixturePart(NamedTuple):
    """Rows of one snapshot, axis and source that were treated alike."""

    snapshot: str
    """Role of the input: `snapshot` or `mixture_0`, `mixture_1`, ..."""
    axis: str
    source: str
    is_whole: bool
    """True where every row is taken, False where rows are drawn."""
    num_available: int
    num_taken: int


class Selection(NamedTuple):
    """The preferences of a run before they are encoded."""

    train: list[Preference]
    """Those taken whole in the order of the snapshots, then those drawn in the order drawn."""
    roles: list[str]
    """The snapshot that each of `train` came from."""
    num_whole: int
    """How many of `train` were taken whole."""
    test: list[Preference]
    skipped: Counter[str]
    """Number passed over, by reason: `duplicate` or `held_out`."""
    parts: list[MixturePart]


class _Candidate(NamedTuple):
    role: str
    preference: Preference


def snapshot_folders(inputs: Mapping[str, Path]) -> dict[str, Path]:
    """Return the folders of `snapshot`, `mixture_0`, `mixture_1`, ... in this order."""
    mixtures = sorted(
        (name for name in inputs if name.startswith("mixture_")),
        key=lambda name: int(name.removeprefix("mixture_")),
    )
    return {name: inputs[name] for name in ["snapshot", *mixtures]}


def select_preferences(folders: Mapping[str, Path], config: RewardModelConfig) -> Selection:
    """Return what the reward model of `config` learns from and is tested on.

    Training takes whole what `config.whole` says, and adds as many rows, drawn uniformly from all
    others, as make `config.other_axis_share` of the result (fewer where there are not enough); a
    general model takes everything. Of what was taken, `config.data_share` is kept. A preference
    that lies in several snapshots is taken once, and none is trained on whose dialogue is on the
    test side of any of them. The test set is the test side of the first, newest, snapshot, of the
    model's axis, and of the others what training would take whole: all held-out rounds together.
    Depends on `config.seed` alone.
    """
    candidates, skipped = _train_candidates(folders)
    whole = [c for c in candidates if _is_whole(c.preference, config)]
    others = [c for c in candidates if not _is_whole(c.preference, config)]
    share = config.other_axis_share
    wanted = min(len(others), round(len(whole) * share / (1 - share)))
    drawn = random.Random(f"{config.seed}:other axis").sample(others, wanted)
    every = [*whole, *drawn]
    places = _places_kept(len(every), config)
    taken = [every[place] for place in places]
    return Selection(
        train=[c.preference for c in taken],
        roles=[c.role for c in taken],
        num_whole=sum(place < len(whole) for place in places),
        test=_test_side(folders, config),
        skipped=skipped,
        parts=_parts(candidates, taken, config),
    )


def is_in_scope(preference: Preference, config: RewardModelConfig) -> bool:
    """Return whether the model of `config` is about this preference."""
    return config.is_general or preference.axis is config.axis


def write_selection(path: Path, selection: Selection) -> None:
    """Write one row for each preference that was selected: which it is, where from, and how."""
    rows = [
        {
            "preference_id": preference.preference_id,
            "dialogue_id": preference.dialogue_id,
            "snapshot": role,
            "axis": preference.axis.value,
            "source": preference.source,
            "is_whole": index < selection.num_whole,
        }
        for index, (preference, role) in enumerate(
            zip(selection.train, selection.roles, strict=True)
        )
    ]
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")


def parts_as_json(selection: Selection) -> list[dict[str, Any]]:
    """Return the parts of the mixture, ready for a run's result."""
    return [part._asdict() for part in selection.parts]


def _train_candidates(folders: Mapping[str, Path]) -> tuple[list[_Candidate], Counter[str]]:
    """Return the train sides without duplicates and without dialogues that any test side holds."""
    held_out = {
        preference.dialogue_id
        for folder in folders.values()
        for preference in read_snapshot(folder, split="test")
    }
    skipped: Counter[str] = Counter()
    seen: set[str] = set()
    candidates: list[_Candidate] = []
    for role, folder in folders.items():
        for preference in read_snapshot(folder, split="train"):
            if preference.preference_id in seen:
                skipped["duplicate"] += 1
            elif preference.dialogue_id in held_out:
                skipped["held_out"] += 1
            else:
                candidates.append(_Candidate(role, preference))
            seen.add(preference.preference_id)
    return candidates, skipped


def _test_side(folders: Mapping[str, Path], config: RewardModelConfig) -> list[Preference]:
    found: dict[str, Preference] = {}
    for role, folder in folders.items():
        belongs = is_in_scope if role == "snapshot" else _is_whole
        for preference in read_snapshot(folder, split="test"):
            if belongs(preference, config):
                found.setdefault(preference.preference_id, preference)
    return list(found.values())


def _places_kept(num_rows: int, config: RewardModelConfig) -> list[int]:
    """Return, in order, the places of the rows that are learned from; at least one."""
    places = list(range(num_rows))
    random.Random(f"{config.seed}:data share").shuffle(places)
    return sorted(places[: max(1, round(config.data_share * num_rows))])


def _is_whole(preference: Preference, config: RewardModelConfig) -> bool:
    is_own = is_in_scope(preference, config)
    if config.is_general or config.whole is Whole.AXIS:
        return is_own
    return is_own and preference.is_collected


def _parts(
    candidates: list[_Candidate], taken: list[_Candidate], config: RewardModelConfig
) -> list[MixturePart]:
    def key(candidate: _Candidate) -> tuple[str, Axis, str]:
        return candidate.role, candidate.preference.axis, candidate.preference.source

    is_whole = {key(c): _is_whole(c.preference, config) for c in candidates}
    num_available, num_taken = Counter(map(key, candidates)), Counter(map(key, taken))
    return [
        MixturePart(role, axis.value, source, is_whole[part], count, num_taken[part])
        for part, count in num_available.items()
        for role, axis, source in [part]
    ]
