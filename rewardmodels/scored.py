"""Held-out comparisons with their scores: the rows that every figure of a report is made of."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from records.preferences import Preference, Rating

_DEGREES = {rating: len(Rating) - place for place, rating in enumerate(Rating)}
"""4 for significantly better, down to 1 for negligibly better."""


class ScoredPair(NamedTuple):
    """A comparison, its raw scores, and what they are looked at by. Sorts and stores as it is."""

    preference_id: str
    dialogue_id: str
    comparison: str
    """Digest of prompt and both responses: equal for several people's judgements of one pair."""
    axis: str
    round_name: str
    """Name of the round, else of the source it was imported from."""
    rating: str | None
    safety_bin: str | None
    is_chosen_first: bool
    """Whether the chosen response sorts before the rejected one: a side that no judgement moves."""
    chosen_score: float
    rejected_score: float
    previous_chosen_score: float | None
    previous_rejected_score: float | None
    chosen_tokens: int
    rejected_tokens: int

    @property
    def difference(self) -> float:
        """How much higher the chosen response scores."""
        return self.chosen_score - self.rejected_score

    @property
    def degree(self) -> int | None:
        """The rating from 1 to 4, None without one."""
        return None if self.rating is None else _DEGREES[Rating(self.rating)]


def scored_pair(
    preference: Preference,
    *,
    scores: tuple[float, float],
    previous_scores: tuple[float, float] | None,
    num_tokens: tuple[int, int],
) -> ScoredPair:
    """Return the row of `preference`; each tuple holds the chosen response's value first."""
    texts = sorted([preference.chosen, preference.rejected])
    parts = [str(preference.prompt.to_json()), *texts]
    previous = previous_scores or (None, None)
    return ScoredPair(
        preference_id=preference.preference_id,
        dialogue_id=preference.dialogue_id,
        comparison=hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32],
        axis=preference.axis.value,
        round_name=preference.round_name or preference.source,
        rating=None if preference.rating is None else preference.rating.value,
        safety_bin=None if preference.safety_bin is None else preference.safety_bin.value,
        is_chosen_first=preference.chosen == texts[0],
        chosen_score=scores[0],
        rejected_score=scores[1],
        previous_chosen_score=previous[0],
        previous_rejected_score=previous[1],
        chosen_tokens=num_tokens[0],
        rejected_tokens=num_tokens[1],
    )


def write_scored_pairs(path: Path, pairs: Sequence[ScoredPair]) -> None:
    """Write one row for each pair as Parquet."""
    schema = pa.schema([(name, _ARROW_TYPES[name]) for name in ScoredPair._fields])
    table = pa.Table.from_pylist([pair._asdict() for pair in pairs], schema=schema)
    pq.write_table(table, path, compression="zstd")


def read_scored_pairs(path: Path) -> list[ScoredPair]:
    """Return the pairs that `write_scored_pairs` wrote."""
    return [ScoredPair(**row) for row in pq.read_table(path).to_pylist()]


def credits_of(chosen: Sequence[float], rejected: Sequence[float]) -> np.ndarray:
    """Return credit_N: 1 where the chosen response is higher, 1/2 on a tie, else 0."""
    differences_N = np.asarray(chosen, dtype=float) - np.asarray(rejected, dtype=float)
    return np.asarray((np.sign(differences_N) + 1) / 2)


_ARROW_TYPES = {
    **dict.fromkeys(ScoredPair._fields, pa.string()),
    "is_chosen_first": pa.bool_(),
    "chosen_score": pa.float64(),
    "rejected_score": pa.float64(),
    "previous_chosen_score": pa.float64(),
    "previous_rejected_score": pa.float64(),
    "chosen_tokens": pa.int64(),
    "rejected_tokens": pa.int64(),
}
