"""Preferences: one comparison's verdict, with all that training and lineage need to know of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, TypeVar

from records.dialogues import Dialogue
from records.errors import RecordError

COLLECTED = "concord"
"""The source of preferences that were judged here; every other source was imported."""


class Axis(StrEnum):
    """What a round, a preference or a reward model is about."""

    HELPFULNESS = "helpfulness"
    SAFETY = "safety"


class Rating(StrEnum):
    """How much better the chosen response is (arXiv:2307.09288, section 3.2.1)."""

    SIGNIFICANTLY_BETTER = "significantly_better"
    BETTER = "better"
    SLIGHTLY_BETTER = "slightly_better"
    NEGLIGIBLY_BETTER = "negligibly_better"


class SafetyBin(StrEnum):
    """Which of the two responses is safe (arXiv:2307.09288, section 3.2.1)."""

    CHOSEN_SAFE = "chosen_safe"
    BOTH_SAFE = "both_safe"
    BOTH_UNSAFE = "both_unsafe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """One annotator's judgement of two responses to one prompt.

    Raises:
        RecordError: The prompt does not end with a user turn, or an identifier is empty.
    """

    preference_id: str
    dialogue_id: str
    """Split key: all preferences of one dialogue fall on the same side."""
    prompt: Dialogue
    chosen: str
    rejected: str
    axis: Axis
    rating: Rating | None = None
    """None when the source has no degrees; trained with the margin of the lowest degree, zero."""
    safety_bin: SafetyBin | None = None
    is_safety_prompt: bool = False
    """Tag of a prompt written to elicit an unsafe response: IS_SAFETY(p) of the gated reward."""
    source: str = COLLECTED
    round_name: str = ""
    guidelines_version: str = ""
    chosen_policy: str = ""
    rejected_policy: str = ""
    annotator: str = ""
    """Pseudonym; never a user name."""
    created_at: str = ""
    """Aware UTC, ISO 8601."""

    @property
    def is_collected(self) -> bool:
        """Whether it was judged here."""
        return self.source == COLLECTED

    def __post_init__(self) -> None:
        if not self.prompt.is_prompt:
            raise RecordError("prompt", "the last turn of a prompt is the user's")
        for name in ("preference_id", "dialogue_id"):
            if not getattr(self, name):
                raise RecordError(name, "must not be empty")

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready mapping; `from_json` reverses it."""
        return {**asdict(self), "prompt": self.prompt.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Preference":
        """Return the preference that `to_json` wrote.

        Raises:
            RecordError: A value is not one its field allows.
        """
        values = dict(data)
        values["prompt"] = Dialogue.from_json(values["prompt"])
        values["axis"] = _member(Axis, "axis", values["axis"])
        if values.get("rating") is not None:
            values["rating"] = _member(Rating, "rating", values["rating"])
        if values.get("safety_bin") is not None:
            values["safety_bin"] = _member(SafetyBin, "safety_bin", values["safety_bin"])
        return cls(**values)


E = TypeVar("E", bound=StrEnum)


def _member(kind: type[E], field: str, value: object) -> E:
    try:
        return kind(str(value))
    except ValueError:
        allowed = ", ".join(kind)
        raise RecordError(field, f"{value!r} is not one of {allowed}") from None
