"""Scored pairs made by hand."""

from typing import Any

from rewardmodels.scored import ScoredPair


def row(chosen: float, rejected: float, **fields: Any) -> ScoredPair:
    """Return a scored pair of which only what a test names matters."""
    values: dict[str, Any] = {
        "preference_id": "p",
        "dialogue_id": "d",
        "comparison": "c",
        "axis": "helpfulness",
        "round_name": "r1",
        "rating": None,
        "safety_bin": None,
        "is_chosen_first": True,
        "chosen_score": chosen,
        "rejected_score": rejected,
        "previous_chosen_score": None,
        "previous_rejected_score": None,
        "chosen_tokens": 1,
        "rejected_tokens": 1,
    }
    return ScoredPair(**(values | fields))
