"""Comparisons that were judged elsewhere, by several people, in degrees: aligned by model name."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from records.dialogues import Dialogue
from records.errors import RecordError
from records.imports import ImportReport
from records.preferences import Axis


class ModelResponse(NamedTuple):
    """A response, and the model it is from by the name the set gives it."""

    model: str
    text: str


class GradedJudgement(NamedTuple):
    """What one annotator said of a comparison."""

    annotator: str
    """As the set calls them."""
    grade: int
    """Above zero if the comparison's first response is better, below if the second; 0 is a tie."""
    created_at: str = ""
    """ISO 8601; empty where the set does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedComparison:
    """Two responses to one prompt, in an order that no judgement depends on, and its judgements.

    Raises:
        RecordError: The prompt does not end with a user turn, or nobody judged.
    """

    comparison_id: str
    """Stable: the same comparison has it in every import of the set."""
    dialogue_id: str
    """Comparisons of one dialogue or prompt share it."""
    prompt: Dialogue
    first: ModelResponse
    second: ModelResponse
    judgements: tuple[GradedJudgement, ...]
    """In the order they were made; a person may appear twice."""
    axis: Axis = Axis.HELPFULNESS

    def __post_init__(self) -> None:
        if not self.prompt.is_prompt:
            raise RecordError("prompt", "the last turn of a prompt is the user's")
        if not self.judgements:
            raise RecordError("judgements", f"nobody judged {self.comparison_id}")

    @property
    def problem(self) -> str:
        """Why nobody could be shown this pair; empty if they could."""
        texts = (self.first.text.strip(), self.second.text.strip())
        if not all(texts):
            return "empty response"
        return "both sides are identical" if texts[0] == texts[1] else ""


Reader = Callable[[Path, ImportReport], Iterator[GradedComparison]]
"""Yields a folder's comparisons and counts in the report what it reads, mends and skips."""


class GradedSet(NamedTuple):
    """A published set of judged comparisons."""

    name: str
    title: str
    folder: str
    """Where it lies below the folder of all sets."""
    num_degrees: int
    """Grades run from minus this to this."""
    read: Reader
    licence: str
    names_models: bool = False
    """Whether a response's model is one; else it only tells the two responses apart."""


@dataclass(kw_only=True)
class GradedImport:
    """A set that is being read: `report` is complete once `comparisons` is exhausted."""

    source: GradedSet
    comparisons: Iterator[GradedComparison]
    report: ImportReport = field(default_factory=ImportReport)


def aligned(
    responses: tuple[ModelResponse, ModelResponse], grade: int
) -> tuple[ModelResponse, ModelResponse, int]:
    """Return the responses in the order of their models' names, and the grade turned with them.

    `grade` is above zero where the first of `responses` is better.
    """
    first, second = responses
    if (second.model, second.text) < (first.model, first.text):
        return second, first, -grade
    return first, second, grade


def category_of(grade: int, num_degrees: int) -> int:
    """Return the grade as an ordered category: 0 for "the first is much better" and so on."""
    return num_degrees - grade


def labels_of(
    comparisons: Iterable[GradedComparison], num_degrees: int
) -> Iterator[tuple[str, str, int]]:
    """Yield (comparison id, annotator, category) of every judgement."""
    for comparison in comparisons:
        for judgement in comparison.judgements:
            category = category_of(judgement.grade, num_degrees)
            yield comparison.comparison_id, judgement.annotator, category
