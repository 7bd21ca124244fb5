"""What a reviewer sees: the pair as it was judged, by pseudonym, without model names."""

from dataclasses import dataclass
from typing import NamedTuple

from annotation.histories import prompt_of
from annotation.models import Comparison, Exclusion, Judgement, Sample
from annotation.scale import Side
from records.dialogues import Turn

PAGE_SIZE = 30


class ReviewPage(NamedTuple):
    """One page of judgements, and where the next one begins."""

    judgements: list[Judgement]
    next_before: int | None


@dataclass(frozen=True, kw_only=True)
class ReviewItem:
    """One judgement with everything a reviewer needs to decide."""

    judgement: Judgement
    turns: tuple[Turn, ...]
    left: Sample
    right: Sample
    exclusion: Exclusion | None


def review_list(shown: str, *, before: int | None = None) -> ReviewPage:
    """Return judgements below id `before`: `flagged`, `excluded`, or all of them."""
    rows = Judgement.objects.select_related(
        "comparison__round", "annotator", "chosen_sample"
    ).prefetch_related("exclusions")
    if shown == "flagged":
        rows = rows.filter(comparison__is_flagged=True)
    elif shown == "excluded":
        rows = rows.filter(exclusions__isnull=False)
    if before is not None:
        rows = rows.filter(pk__lt=before)
    found = list(rows.order_by("-pk")[: PAGE_SIZE + 1])
    page = found[:PAGE_SIZE]
    return ReviewPage(page, page[-1].pk if len(found) > PAGE_SIZE else None)


def flagged_without_judgement() -> list[Comparison]:
    """Return flagged pairs that nobody has judged, the newest first."""
    flagged = Comparison.objects.filter(is_flagged=True, judgements__isnull=True)
    return list(flagged.select_related("round").order_by("-pk")[:PAGE_SIZE])


def review_item(judgement: Judgement) -> ReviewItem:
    """Return a judgement with its prompt, both responses, and its exclusion where there is one."""
    samples = {sample.side: sample for sample in judgement.comparison.samples.all()}
    return ReviewItem(
        judgement=judgement,
        turns=prompt_of(judgement.comparison).turns,
        left=samples[Side.LEFT],
        right=samples[Side.RIGHT],
        exclusion=judgement.exclusions.select_related("reviewer").first(),
    )
