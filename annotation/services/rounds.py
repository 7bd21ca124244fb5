"""Rounds: guidelines are published, rounds opened and closed."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from annotation.access import LEADS, require_role
from annotation.errors import RoundConfigError
from annotation.models import (
    Comparison,
    Dialogue,
    Guidelines,
    Qualification,
    Round,
    RoundVariant,
    User,
)
from annotation.services.importing_items import store_items
from annotation.services.items import release_all_kept
from annotation.services.qualifications import require_qualifications
from annotation.services.texts import problem_of
from annotation.services.wellbeing import set_content_warnings
from records.preferences import Axis
from records.round_items import RoundItem
from registry.models import PolicyVersion


class NewVariant(NamedTuple):
    """A policy version that is to answer in a round."""

    policy: PolicyVersion
    temperature_low: float = 0.7
    temperature_high: float = 1.0
    """Each response is drawn at a temperature between the two."""
    top_p: float = 1.0
    max_new_tokens: int = 64


class Overlap(NamedTuple):
    """Who else judges the comparisons of a round, and what measures the annotators."""

    overlap_share: float = 0.0
    """Share of comparisons that several people judge."""
    judgements_per_comparison: int = 1
    """How many people judge such a comparison in all, its author included."""
    gold_share: float = 0.0
    """Share of tasks that are comparisons whose answer is known."""
    repeat_share: float = 0.0
    """Share of tasks that repeat a judgement of the annotator's own."""
    repeat_after: int = 50
    """Judgements that lie between a judgement and its repeat, at least."""


NO_OVERLAP = Overlap()


class Guidance(NamedTuple):
    """What annotators are told while they write, and what the policies are told first."""

    min_turns: int = 1
    """Turns before a dialogue may end, unless its pair is passed on."""
    system_prompt: str = ""
    topic: str = ""
    goal: str = ""
    good_examples: str = ""
    """Good first prompts, one a line."""
    bad_examples: str = ""
    """Bad first prompts, one a line."""


NO_GUIDANCE = Guidance()


class Access(NamedTuple):
    """Who may work in a round, and what they are warned of."""

    qualifications: Collection[Qualification] = ()
    """What the round requires besides what its axis does."""
    categories: Collection[str] = ()
    """What it may contain: some of `ContentCategory`; a safety round without any has its own."""


OPEN_TO_ALL = Access()


def publish_guidelines(*, axis: Axis, version: str, text: str, created_by: User) -> Guidelines:
    """Publish what annotators are told; publishing the same again returns the first row.

    Raises:
        NotAllowedError: `created_by` is no lead.
        RoundConfigError: There is another text under this version.
    """
    require_role(created_by, LEADS)
    with transaction.atomic():
        guidelines, is_new = Guidelines.objects.get_or_create(
            axis=axis.value, version=version, defaults={"text": text, "created_by": created_by}
        )
    if not is_new and guidelines.text != text:
        raise RoundConfigError("version", f"{axis} {version} has another text; use a new version")
    return guidelines


def open_round(
    *,
    name: str,
    axis: Axis,
    guidelines: Guidelines,
    variants: Sequence[NewVariant] = (),
    target_comparisons: int = 0,
    max_turns: int = 1,
    opened_by: User,
    overlap: Overlap = NO_OVERLAP,
    guidance: Guidance = NO_GUIDANCE,
    source: str = Round.Source.WRITTEN,
    items: Iterable[RoundItem] = (),
    access: Access = OPEN_TO_ALL,
) -> Round:
    """Open a round: from now on annotators find it.

    With imported items it is opened with all of them or not at all, and its target is their turns.

    Args:
        name: What people call it; unique.
        axis: Helpfulness or safety; a safety round asks for the safety bin.
        guidelines: A version of this axis's guidelines.
        variants: The policy versions that answer; two for a test of new against previous; none
            for imported pairs.
        target_comparisons: How many comparisons may be judged; never exceeded. Imported items bring
            their own.
        max_turns: Comparisons in one dialogue, at most; one for imported pairs.
        opened_by: A lead.
        overlap: Further judgements by others, gold comparisons and repeats.
        guidance: System prompt, fewest turns, topic, goal and examples.
        source: Where prompts come from: one of `Round.Source`.
        items: What is asked where they are imported, as `records.round_items` reads it.
        access: Required qualifications and content warnings; `set_access` changes them later.

    Raises:
        NotAllowedError: `opened_by` is no lead.
        QualificationError: A required test is not published.
        RecordError: A line of the file is wrong; names the field, the line and the bound.
        RoundConfigError: A setting does not fit; names it.
    """
    require_role(opened_by, LEADS)
    _check_source(source, target_comparisons, max_turns, guidance.min_turns)
    if source != Round.Source.PAIRS:
        _check_variants(variants)
    elif variants:
        raise RoundConfigError("variants", "no policy answers where pairs are imported")
    _check_round(axis, guidelines, max_turns)
    _check_overlap(overlap)
    _check_guidance(guidance, max_turns)
    try:
        with transaction.atomic():
            round_ = Round.objects.create(
                name=name,
                axis=axis.value,
                source=source,
                guidelines=guidelines,
                target_comparisons=target_comparisons or 1,
                max_turns=max_turns,
                opened_by=opened_by,
                **overlap._asdict(),
                **guidance._asdict(),
            )
            RoundVariant.objects.bulk_create(
                RoundVariant(round=round_, **variant._asdict()) for variant in variants
            )
            set_access(lead=opened_by, round_=round_, access=access)
            if round_.is_imported:
                round_.target_comparisons = store_items(round_, items).num_turns
                round_.save(update_fields=["target_comparisons"])
    except IntegrityError as error:
        if Round.objects.filter(name=name).exists():
            raise RoundConfigError("name", f"there is already a round {name!r}") from error
        raise
    return round_


def set_access(*, lead: User, round_: Round, access: Access) -> None:
    """Set who may work in a round and what they are warned of, in place of what was set before.

    Raises:
        NotAllowedError: `lead` is no lead.
        QualificationError: A required test is not published.
        RoundConfigError: There is no such category.
    """
    with transaction.atomic():
        require_qualifications(lead=lead, qualifications=access.qualifications, round_=round_)
        set_content_warnings(lead=lead, round_=round_, categories=access.categories)


def close_round(*, round_: Round, closed_by: User) -> Round:
    """Take no further prompts; pairs that are out may still be judged. Idempotent.

    Raises:
        NotAllowedError: `closed_by` is no lead.
    """
    require_role(closed_by, LEADS)
    with transaction.atomic():
        Round.objects.filter(pk=round_.pk, state=Round.State.OPEN).update(
            state=Round.State.CLOSED, closed_at=Now()
        )
        # Dialogues with a pair out end when that pair is judged.
        unfinished = Comparison.objects.live().filter(dialogue=OuterRef("pk"))
        Dialogue.objects.filter(
            ~Exists(unfinished), round=round_, state=Dialogue.State.OPEN
        ).update(state=Dialogue.State.FINISHED, finished_at=Now())
    if round_.is_imported:
        # In the order in which rows are locked everywhere, the round comes last.
        release_all_kept(round_)
        waiting = Comparison.objects.to_sample().filter(round=round_, is_ahead=True)
        waiting.discard(Comparison.DiscardReason.ENDED)
    round_.refresh_from_db()
    return round_


def _check_source(source: str, target_comparisons: int, max_turns: int, min_turns: int) -> None:
    if source not in Round.Source.values:
        sources = ", ".join(Round.Source.values)
        raise RoundConfigError("source", f"{source!r} is not one of {sources}")
    if source == Round.Source.WRITTEN:
        if target_comparisons < 1:
            raise RoundConfigError("target_comparisons", f"{target_comparisons} is below 1")
        return
    if target_comparisons:
        raise RoundConfigError("target_comparisons", "imported items bring their own target")
    if min_turns != 1:
        raise RoundConfigError("min_turns", f"{min_turns} is not 1: the file says how many turns")
    if source == Round.Source.PAIRS and max_turns != 1:
        raise RoundConfigError("max_turns", f"{max_turns} is not 1, as it is for imported pairs")


def _check_round(axis: Axis, guidelines: Guidelines, max_turns: int) -> None:
    if guidelines.axis != axis:
        raise RoundConfigError("guidelines", f"{guidelines} are for another axis than {axis}")
    if not 1 <= max_turns <= 100:
        raise RoundConfigError("max_turns", f"{max_turns} is not between 1 and 100")


def _check_overlap(overlap: Overlap) -> None:
    for name in ("overlap_share", "gold_share", "repeat_share"):
        share = getattr(overlap, name)
        if not 0.0 <= share <= 1.0:
            raise RoundConfigError(name, f"{share} is not between 0 and 1")
    if overlap.gold_share + overlap.repeat_share > 1.0:
        raise RoundConfigError("repeat_share", "gold and repeats together are more than all tasks")
    if not 1 <= overlap.judgements_per_comparison <= 20:
        raise RoundConfigError(
            "judgements_per_comparison",
            f"{overlap.judgements_per_comparison} is not between 1 and 20",
        )
    if overlap.overlap_share and overlap.judgements_per_comparison < 2:
        raise RoundConfigError(
            "judgements_per_comparison", "comparisons that several people judge need at least 2"
        )
    if overlap.repeat_after < 1:
        raise RoundConfigError("repeat_after", f"{overlap.repeat_after} is below 1")


def _check_guidance(guidance: Guidance, max_turns: int) -> None:
    if not 1 <= guidance.min_turns <= max_turns:
        raise RoundConfigError(
            "min_turns", f"{guidance.min_turns} is not between 1 and {max_turns}"
        )
    if len(guidance.topic) > 200:
        raise RoundConfigError("topic", f"{len(guidance.topic)} characters are more than 200")
    for name in ("system_prompt", "goal", "good_examples", "bad_examples"):
        problem = problem_of(getattr(guidance, name), "this text")
        if problem is not None:
            raise RoundConfigError(name, problem)


def _check_variants(variants: Sequence[NewVariant]) -> None:
    if not variants:
        raise RoundConfigError("variants", "a round needs at least one policy version")
    if len({variant.policy.pk for variant in variants}) < len(variants):
        raise RoundConfigError("variants", "a policy version is named twice")
    for variant in variants:
        low, high = variant.temperature_low, variant.temperature_high
        if not 0.0 <= low <= high <= 5.0:
            raise RoundConfigError("temperature_low", f"{low} to {high} is not within 0 to 5")
        if not 0.0 < variant.top_p <= 1.0:
            raise RoundConfigError("top_p", f"{variant.top_p} is not above 0 and at most 1")
        if variant.max_new_tokens < 1:
            raise RoundConfigError("max_new_tokens", f"{variant.max_new_tokens} is below 1")
    if len({t for v in variants for t in (v.temperature_low, v.temperature_high)}) < 2:
        raise RoundConfigError(
            "temperature_high", "the two responses need different temperatures: widen the range"
        )
