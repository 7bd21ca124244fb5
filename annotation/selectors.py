"""The getters that are the only way to a row, and what people see of it."""

from typing import Any, NamedTuple, TypeVar

from django.db.models import Count, Exists, Model, OuterRef, Q, QuerySet, Subquery
from django.utils.safestring import SafeString, mark_safe

from annotation.access import ANNOTATORS, LEADS, REVIEWERS, require_role
from annotation.errors import NotFoundError
from annotation.histories import prompt_of
from annotation.likeness import NEAR_DUPLICATE, bands_of, likeness
from annotation.models import (
    Comparison,
    CounterCheck,
    Dialogue,
    Draft,
    GoldComparison,
    ItemUpload,
    Judgement,
    PromptBand,
    Round,
    Slot,
    User,
)
from annotation.models.kinds import COUNTED_KINDS
from annotation.models.slots import SlotQuerySet
from annotation.prepared import Prepared
from annotation.rendering import RENDERER, render_markdown
from annotation.scale import Side
from annotation.statements import Call
from records.dialogues import Dialogue as DialogueRecord
from records.preferences import Axis

T = TypeVar("T", bound=Model)


class SampleView(NamedTuple):
    """A response as an annotator may see it: nothing tells which model wrote it."""

    sample_id: int
    side: Side
    text: str
    stored_html: str | None = None
    """Its rendering, if the renderer in use made it."""

    @property
    def html(self) -> SafeString:
        """The text as sanitised HTML: as it was stored, or rendered now."""
        if self.stored_html is None:
            return render_markdown(self.text)
        return mark_safe(self.stored_html)  # noqa: S308 - nobody but our renderer writes it


class PairView(NamedTuple):
    """A comparison as an annotator may see it."""

    comparison_id: int
    axis: Axis
    prompt: DialogueRecord
    left: SampleView
    right: SampleView


class RoundProgress(NamedTuple):
    """How far a round is."""

    target: int
    num_judged: int
    num_in_progress: int
    num_excluded: int
    num_further: int = 0
    """Further judgements wanted: overlap and second readings."""
    num_further_judged: int = 0

    @property
    def share(self) -> float:
        """Judged comparisons as a share of the target."""
        return self.num_judged / self.target


def get_round_for(lead: User, pk: int) -> Round:
    """Return a round for its lead.

    Raises:
        NotAllowedError: The person is no lead.
        NotFoundError: There is no such round.
    """
    require_role(lead, LEADS)
    return _one(Round.objects.select_related("guidelines"), "round", pk)


def get_upload_for(lead: User, pk: int) -> ItemUpload:
    """Return an upload of items with its round.

    Raises:
        NotAllowedError: The person is no lead.
        NotFoundError: There is none.
    """
    require_role(lead, LEADS)
    return _one(ItemUpload.objects.select_related("round", "uploaded_by"), "upload", pk)


def get_open_round_for(annotator: User, pk: int) -> Round:
    """Return an open round that an annotator may begin a dialogue in.

    Raises:
        NotAllowedError: The person is no annotator.
        NotFoundError: There is no such open round.
    """
    require_role(annotator, ANNOTATORS)
    return _one(Round.objects.open().select_related("guidelines"), "round", pk)


def get_dialogue_for(annotator: User, pk: int) -> Dialogue:
    """Return a dialogue of this annotator's own.

    Raises:
        NotAllowedError: The person is no annotator.
        NotFoundError: It is somebody else's, or there is none.
    """
    require_role(annotator, ANNOTATORS)
    dialogues = Dialogue.objects.filter(annotator=annotator)
    return _one(dialogues.select_related("round__guidelines"), "dialogue", pk)


def get_comparison_for(annotator: User, pk: int) -> Comparison:
    """Return a comparison of this annotator's own.

    Raises:
        NotAllowedError: The person is no annotator.
        NotFoundError: It is somebody else's, or there is none.
    """
    require_role(annotator, ANNOTATORS)
    comparisons = Comparison.objects.filter(dialogue__annotator=annotator, is_ahead=False)
    related = comparisons.select_related("dialogue", "round__guidelines")
    return _one(related, "comparison", pk)


def get_slot_for(annotator: User, pk: int) -> Slot:
    """Return a slot that this annotator holds, held last, or has a draft for.

    Raises:
        NotAllowedError: The person is no annotator.
        NotFoundError: It is somebody else's, or there is none.
    """
    return _slot_by(_OWN_SLOT, annotator, pk)


def get_slot_to_judge_for(annotator: User, pk: int) -> Slot:
    """Return the slot that `get_slot_for` returns, with what storing a judgement of it takes.

    Raises:
        NotAllowedError: The person is no annotator.
        NotFoundError: It is somebody else's, or there is none.
    """
    return _slot_by(_SLOT_TO_JUDGE, annotator, pk)


def get_gold_for(lead: User, pk: int) -> GoldComparison:
    """Return a gold comparison for a lead.

    Raises:
        NotAllowedError: The person is no lead.
        NotFoundError: There is none.
    """
    require_role(lead, LEADS)
    return _one(GoldComparison.objects.select_related("comparison"), "gold comparison", pk)


def get_judgement_for(reviewer: User, pk: int) -> Judgement:
    """Return any judgement, for a reviewer.

    Raises:
        NotAllowedError: The person is no reviewer.
        NotFoundError: There is none.
    """
    require_role(reviewer, REVIEWERS)
    related = Judgement.objects.select_related("comparison__round", "chosen_sample", "guidelines")
    return _one(related, "judgement", pk)


def pair_view(comparison: Comparison) -> PairView:
    """Return what an annotator may see of a comparison whose two responses are there."""
    samples = {sample.side: sample for sample in comparison.samples.all()}
    left, right = (
        _sample_view(side, sample.pk, sample.text, sample.html, sample.renderer)
        for side, sample in ((side, samples[side]) for side in (Side.LEFT, Side.RIGHT))
    )
    axis = Axis(comparison.round.axis)
    return PairView(comparison.pk, axis, prompt_of(comparison), left, right)


def slot_pair_view(slot: Slot) -> PairView:
    """Return what an annotator may see of a slot that a selector has returned."""
    comparison = slot.comparison
    comparison.round = slot.round
    return PairView(
        comparison.pk,
        Axis(slot.round.axis),
        prompt_of(comparison),
        _sample_view(Side.LEFT, slot.left_id, slot.left_text, slot.left_html, slot.left_renderer),
        _sample_view(
            Side.RIGHT, slot.right_id, slot.right_text, slot.right_html, slot.right_renderer
        ),
    )


def draft_fields(
    annotator: User, *, dialogue: Dialogue | None = None, comparison: Comparison | None = None
) -> dict[str, Any]:
    """Return the fields last kept for a form, or an empty mapping."""
    draft = Draft.objects.filter(
        annotator=annotator, dialogue=dialogue, comparison=comparison
    ).first()
    return dict(draft.fields) if draft else {}


def near_duplicate_of(
    round_: Round, text: str, *, besides: Dialogue | None = None
) -> Comparison | None:
    """Return an earlier first prompt of the round that asks nearly the same; None if none does.

    Those of the dialogue `besides` do not count: a prompt may be written again after a failure.
    Looks at a bounded number of candidates, however many prompts there are.
    """
    bands = PromptBand.objects.filter(round=round_, value__in=bands_of(text))
    candidates = {band.comparison for band in bands.select_related("comparison__dialogue")[:40]}
    ranked = [
        (likeness(text, item.prompt_text), -item.pk, item)
        for item in candidates
        if item.dialogue != besides
    ]
    best = max(ranked, default=None, key=lambda row: row[:2])
    return best[2] if best is not None and best[0] >= NEAR_DUPLICATE else None


def open_rounds() -> QuerySet[Round]:
    """Return the rounds that take work, the oldest first."""
    return Round.objects.open().select_related("guidelines").order_by("opened_at", "pk")


def held_slot(annotator: User) -> Slot | None:
    """Return the slot that an annotator holds; they hold one at most."""
    return _HELD_SLOT.first(annotator=annotator.pk)


def held_slot_after(claim: Call, annotator: User) -> Slot | None:
    """Return the slot that an annotator holds once a statement has been run, in one message.

    It comes with what its page shows; its round is read when it is asked for. What the statement
    raises is raised here.
    """
    return _CLAIMED_SLOT.first(annotator=annotator.pk, after=claim)


def round_progress(round_: Round) -> RoundProgress:
    """Return how far a round is; costs one row."""
    return progress_of(Round.objects.get(pk=round_.pk))


def progress_of(round_: Round) -> RoundProgress:
    """Return how far a round was when its row was read."""
    return RoundProgress(
        target=round_.target_comparisons,
        num_judged=round_.num_judged,
        num_in_progress=round_.num_reserved - round_.num_judged,
        num_excluded=round_.num_excluded,
        num_further=round_.num_further,
        num_further_judged=round_.num_further_judged,
    )


def counter_drift(round_: Round) -> dict[str, tuple[int, int]]:
    """Return counters that differ from what they count: name to (stored, counted).

    Counts all comparisons of the round: for a nightly check, not for a page.
    """
    row = Round.objects.get(pk=round_.pk)
    counted = Comparison.objects.filter(round=round_).aggregate(
        num_reserved=Count("pk", filter=Q(holds_slot=True)),
        num_judged=Count("pk", filter=Q(state=Comparison.State.JUDGED)),
    )
    slots = Slot.objects.filter(round=round_, kind__in=COUNTED_KINDS)
    counted |= slots.aggregate(
        num_further=Count("pk"),
        num_further_judged=Count("pk", filter=Q(state=Slot.State.JUDGED)),
    )
    counted["num_excluded"] = Judgement.objects.filter(
        comparison__round=round_, exclusions__is_active=True
    ).count()
    return {
        name: (getattr(row, name), number)
        for name, number in counted.items()
        if getattr(row, name) != number
    }


def newest_drift() -> CounterCheck | None:
    """Return the newest check of all counters, if one differed in it."""
    newest = CounterCheck.objects.order_by("-pk").first()
    return newest if newest is not None and newest.drift else None


def num_waiting() -> int:
    """Return how many comparisons have no responses yet: a small partial index answers."""
    return Comparison.objects.to_sample().count()


def _own_slot(pk: int, annotator: int) -> QuerySet[Slot]:
    return _with_draft(_own(pk, annotator).with_pair(), annotator)


def _slot_to_judge(pk: int, annotator: int) -> QuerySet[Slot]:
    return _own(pk, annotator).with_what_is_judged()


def _own(pk: int, annotator: int) -> SlotQuerySet:
    drafts = Draft.objects.filter(annotator=annotator, comparison=OuterRef("comparison"))
    return Slot.objects.filter(Q(annotator=annotator) | Exists(drafts), pk=pk)


def _held_slot(annotator: int) -> QuerySet[Slot]:
    return _with_draft(_held(annotator).with_pair(), annotator)


def _claimed_slot(annotator: int) -> QuerySet[Slot]:
    return _with_draft(_held(annotator).with_what_is_shown(), annotator)


def _held(annotator: int) -> SlotQuerySet:
    return Slot.objects.filter(annotator=annotator, state=Slot.State.LEASED)


def _with_draft(slots: QuerySet[Slot], annotator: int) -> QuerySet[Slot]:
    """Annotate slots with the fields of the annotator's draft."""
    drafts = Draft.objects.filter(annotator=annotator, comparison=OuterRef("comparison"))
    fields: dict[str, Any] = {"draft_fields": Subquery(drafts.values("fields")[:1])}
    return slots.annotate(**fields)


_OWN_SLOT = Prepared("own_slot", _own_slot, "pk", "annotator")
_SLOT_TO_JUDGE = Prepared("slot_to_judge", _slot_to_judge, "pk", "annotator")
_HELD_SLOT = Prepared("held_slot", _held_slot, "annotator")
_CLAIMED_SLOT = Prepared("claimed_slot", _claimed_slot, "annotator")


def _sample_view(side: Side, pk: int, text: str, html: str, renderer: str) -> SampleView:
    return SampleView(pk, side, text, html if renderer == RENDERER else None)


def _one(rows: QuerySet[T], what: str, pk: int) -> T:
    row = rows.filter(pk=pk).first()
    if row is None:
        raise NotFoundError(what, pk)
    return row


def _slot_by(statement: Prepared[Slot], annotator: User, pk: int) -> Slot:
    require_role(annotator, ANNOTATORS)
    slot = statement.first(pk=pk, annotator=annotator.pk)
    if slot is None:
        raise NotFoundError("pair", pk)
    return slot
