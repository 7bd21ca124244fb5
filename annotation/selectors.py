"""What people see next, and the getters that are the only way to a row."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from django.db.models import Count, F, Model, Q, QuerySet
from django.utils import timezone

from annotation.access import ANNOTATORS, LEADS, REVIEWERS, require_role
from annotation.errors import NotFoundError
from annotation.histories import prompt_of
from annotation.models import Comparison, Dialogue, Draft, Judgement, Round, User
from annotation.scale import Side
from annotation.slots import next_free_at
from records.dialogues import Dialogue as DialogueRecord
from records.preferences import Axis

T = TypeVar("T", bound=Model)


class WorkKind(StrEnum):
    """What an annotator does next."""

    JUDGE = "judge"
    WAIT = "wait"
    WRITE = "write"
    START = "start"
    NOTHING = "nothing"


class NothingReason(StrEnum):
    """Why there is nothing to do."""

    NO_OPEN_ROUND = "no_open_round"
    ROUND_FULL = "round_full"
    ALL_LEASED = "all_leased"
    NOT_AN_ANNOTATOR = "not_an_annotator"


class Work(NamedTuple):
    """The next thing for one annotator."""

    kind: WorkKind
    round: Round | None = None
    dialogue: Dialogue | None = None
    comparison: Comparison | None = None
    """The pair to judge or wait for; with WRITE the failed one whose prompt is to be rewritten."""
    reason: NothingReason | None = None
    next_free_at: datetime | None = None
    """With ALL_LEASED: when the first lease lapses."""


class SampleView(NamedTuple):
    """A response as an annotator may see it: nothing tells which model wrote it."""

    sample_id: int
    side: Side
    text: str


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
    comparisons = Comparison.objects.filter(dialogue__annotator=annotator)
    related = comparisons.select_related("dialogue", "round__guidelines")
    return _one(related, "comparison", pk)


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
        SampleView(samples[side].pk, side, samples[side].text) for side in (Side.LEFT, Side.RIGHT)
    )
    axis = Axis(comparison.round.axis)
    return PairView(comparison.pk, axis, prompt_of(comparison), left, right)


def draft_fields(
    annotator: User, *, dialogue: Dialogue | None = None, comparison: Comparison | None = None
) -> dict[str, Any]:
    """Return the fields last kept for a form, or an empty mapping."""
    draft = Draft.objects.filter(
        annotator=annotator, dialogue=dialogue, comparison=comparison
    ).first()
    return dict(draft.fields) if draft else {}


def open_rounds() -> QuerySet[Round]:
    """Return the rounds that take work, the oldest first."""
    return Round.objects.open().select_related("guidelines").order_by("opened_at", "pk")


def work_for(annotator: User) -> Work:
    """Return what an annotator does next; its cost does not grow with the work done.

    A pair that is ready comes first, then a dialogue that waits for its next prompt, then one whose
    responses are being drawn, then an open round with a free slot.
    """
    if not annotator.has_role(ANNOTATORS):
        return Work(WorkKind.NOTHING, reason=NothingReason.NOT_AN_ANNOTATOR)
    works = [_work_in(dialogue, last) for dialogue, last in _open_dialogues(annotator)]
    for kind in (WorkKind.JUDGE, WorkKind.WRITE, WorkKind.WAIT):
        for work in works:
            if work.kind is kind:
                return work
    rounds = list(open_rounds())
    for round_ in rounds:
        if _has_room(round_):
            return Work(WorkKind.START, round=round_)
    return _nothing(rounds)


def round_progress(round_: Round) -> RoundProgress:
    """Return how far a round is; costs one row."""
    target, reserved, judged, excluded = Round.objects.values_list(
        "target_comparisons", "num_reserved", "num_judged", "num_excluded"
    ).get(pk=round_.pk)
    return RoundProgress(target, judged, reserved - judged, excluded)


def counter_drift(round_: Round) -> dict[str, tuple[int, int]]:
    """Return counters that differ from what they count: name to (stored, counted).

    Counts all comparisons of the round: for a nightly check, not for a page.
    """
    row = Round.objects.get(pk=round_.pk)
    counted = Comparison.objects.filter(round=round_).aggregate(
        num_reserved=Count("pk", filter=Q(holds_slot=True)),
        num_judged=Count("pk", filter=Q(state=Comparison.State.JUDGED)),
    )
    counted["num_excluded"] = Judgement.objects.filter(
        comparison__round=round_, exclusions__is_active=True
    ).count()
    return {
        name: (getattr(row, name), number)
        for name, number in counted.items()
        if getattr(row, name) != number
    }


def num_waiting() -> int:
    """Return how many comparisons have no responses yet: a small partial index answers."""
    return Comparison.objects.to_sample().count()


def _open_dialogues(annotator: User) -> Iterable[tuple[Dialogue, Comparison | None]]:
    """Return the annotator's open dialogues with the newest comparison of their open turn."""
    dialogues = list(
        Dialogue.objects.filter(annotator=annotator, state=Dialogue.State.OPEN)
        .select_related("round__guidelines")
        .order_by("pk")
    )
    if not dialogues:
        return []
    comparisons = Comparison.objects.filter(
        dialogue__in=dialogues, turn=F("dialogue__num_turns")
    ).order_by("pk")
    last = {comparison.dialogue_id: comparison for comparison in comparisons}
    return [(dialogue, last.get(dialogue.pk)) for dialogue in dialogues]


def _work_in(dialogue: Dialogue, last: Comparison | None) -> Work:
    if last is not None:
        last.dialogue, last.round = dialogue, dialogue.round
        if last.state == Comparison.State.READY:
            return Work(WorkKind.JUDGE, dialogue.round, dialogue, last)
        if last.is_live:
            return Work(WorkKind.WAIT, dialogue.round, dialogue, last)
    if not _has_room(dialogue.round):
        return Work(WorkKind.NOTHING, dialogue.round, dialogue)
    failed = last if last is not None and last.state == Comparison.State.FAILED else None
    return Work(WorkKind.WRITE, dialogue.round, dialogue, failed)


def _has_room(round_: Round) -> bool:
    if not round_.is_open:
        return False
    if round_.num_reserved < round_.target_comparisons:
        return True
    first = next_free_at(round_)
    return first is not None and first < timezone.now()


def _nothing(rounds: Sequence[Round]) -> Work:
    if not rounds:
        return Work(WorkKind.NOTHING, reason=NothingReason.NO_OPEN_ROUND)
    times = [(time, round_) for round_ in rounds if (time := next_free_at(round_)) is not None]
    if not times:
        return Work(WorkKind.NOTHING, round=rounds[0], reason=NothingReason.ROUND_FULL)
    time, round_ = min(times, key=lambda item: item[0])
    return Work(WorkKind.NOTHING, round=round_, reason=NothingReason.ALL_LEASED, next_free_at=time)


def _one(rows: QuerySet[T], what: str, pk: int) -> T:
    row = rows.filter(pk=pk).first()
    if row is None:
        raise NotFoundError(what, pk)
    return row
