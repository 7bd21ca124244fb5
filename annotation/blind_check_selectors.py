"""Blind checks as people read them: the next pair, unlabelled, and who won."""

from typing import NamedTuple

from django.db.models import Count, Q

from annotation.access import LEADS, REVIEWERS, require_role
from annotation.errors import NotFoundError
from annotation.models import (
    BlindCheck,
    BlindPair,
    BlindVerdict,
    Demonstration,
    DemonstrationReview,
    User,
)
from annotation.scale import Side
from annotation.services.blind_checks import knows_answer, prompt_of_pair
from records.dialogues import Dialogue as DialogueRecord
from records.statistics import Proportion, wilson_proportion

Outcome = BlindVerdict.Outcome


class BlindPairView(NamedTuple):
    """A pair as a reviewer may see it: nothing tells which answer a person wrote."""

    pair_id: int
    prompt: DialogueRecord
    left: str
    right: str


class BlindResult(NamedTuple):
    """How often the model's answer was preferred."""

    label: str
    """The vendor; empty for none, and for the whole check."""
    num_model: int
    num_human: int
    num_no_difference: int
    win_rate: Proportion
    """(model + no difference / 2) / judged, with its 95% interval."""


class BlindProgress(NamedTuple):
    """How far a check is."""

    num_pairs: int
    num_judged: int
    num_ready: int
    num_waiting: int
    num_failed: int

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to draw or to judge."""
        return self.num_ready + self.num_waiting == 0


def get_blind_check_for(reviewer: User, pk: int) -> BlindCheck:
    """Return a check, for a reviewer or lead.

    Raises:
        NotAllowedError: The person is neither.
        NotFoundError: There is none.
    """
    require_role(reviewer, (*REVIEWERS, *LEADS))
    check = BlindCheck.objects.select_related("policy", "opened_by").filter(pk=pk).first()
    if check is None:
        raise NotFoundError("blind check", pk)
    return check


def get_blind_pair_for(reviewer: User, pk: int) -> BlindPair:
    """Return a pair that this reviewer may judge, or has judged.

    Raises:
        NotAllowedError: The person is no reviewer.
        NotFoundError: There is none, or the reviewer knows which answer is the person's.
    """
    require_role(reviewer, REVIEWERS)
    pair = BlindPair.objects.select_related("check_of").filter(pk=pk).first()
    if pair is None or knows_answer(reviewer, pair):
        raise NotFoundError("pair", pk)
    return pair


def next_blind_pair(reviewer: User, check: BlindCheck) -> BlindPair | None:
    """Return the next pair that is ready and whose demonstration this reviewer has not read."""
    read = DemonstrationReview.objects.filter(reviewer=reviewer).values("demonstration")
    ready = BlindPair.objects.filter(check_of=check, state=BlindPair.State.READY)
    unknown = ready.exclude(revision__demonstration__in=read).exclude(
        revision__demonstration__in=Demonstration.objects.filter(author=reviewer)
    )
    return unknown.select_related("check_of").order_by("pk").first()


def blind_pair_view(pair: BlindPair) -> BlindPairView:
    """Return what a reviewer may see of a pair that is ready."""
    human = list(pair.revision.turns.all())[-1].response_text
    is_left = pair.model_side == Side.LEFT
    left, right = (pair.response_text, human) if is_left else (human, pair.response_text)
    return BlindPairView(pair.pk, prompt_of_pair(pair), left, right)


def blind_progress(check: BlindCheck) -> BlindProgress:
    """Return how far a check is; a check has some hundred pairs."""
    state = BlindPair.State
    counts = BlindPair.objects.filter(check_of=check).aggregate(
        judged=Count("pk", filter=Q(state=state.JUDGED)),
        ready=Count("pk", filter=Q(state=state.READY)),
        waiting=Count("pk", filter=Q(state__in=[state.WAITING, state.SAMPLING])),
        failed=Count("pk", filter=Q(state=state.FAILED)),
    )
    return BlindProgress(
        check.num_pairs, counts["judged"], counts["ready"], counts["waiting"], counts["failed"]
    )


def blind_results(check: BlindCheck) -> tuple[BlindResult, list[BlindResult]]:
    """Return the result of the whole check, and that of each vendor by name."""
    rows = (
        BlindVerdict.objects.filter(pair__check_of=check)
        .values_list("pair__revision__demonstration__assignment__vendor", "outcome")
        .annotate(Count("pk"))
        .order_by("pair__revision__demonstration__assignment__vendor")
    )
    by_vendor: dict[str, dict[str, int]] = {}
    total: dict[str, int] = {}
    for vendor, outcome, count in rows:
        by_vendor.setdefault(vendor, {})[outcome] = count
        total[outcome] = total.get(outcome, 0) + count
    vendors = [_result(vendor, counts) for vendor, counts in by_vendor.items()]
    return _result("", total), vendors


def num_blind_pairs_waiting() -> int:
    """Return how many pairs have no response yet: a small partial index answers."""
    state = BlindPair.State
    return BlindPair.objects.filter(state__in=[state.WAITING, state.SAMPLING]).count()


def _result(label: str, counts: dict[str, int]) -> BlindResult:
    model, human, neither = (
        counts.get(outcome, 0) for outcome in (Outcome.MODEL, Outcome.HUMAN, Outcome.NO_DIFFERENCE)
    )
    return BlindResult(
        label,
        model,
        human,
        neither,
        wilson_proportion(model + neither / 2, model + human + neither),
    )
