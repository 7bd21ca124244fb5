"""Reviewing comparisons: accept, correct, exclude, ask a lead; each a record, each reversible.

Nothing is deleted and no judgement changes. What holds now is told by `is_active` of exclusions and
corrections, which changes with the record that takes one back, in one transaction.
"""

import uuid

from django.db import IntegrityError, transaction
from django.db.models import F

from annotation.access import REVIEWERS, require_role
from annotation.errors import DecisionError, JudgementError, KeyReusedError
from annotation.models import (
    Comparison,
    Correction,
    Exclusion,
    Judgement,
    ReviewDecision,
    ReviewItem,
    Round,
    User,
)
from annotation.services.verdicts import checked_bin
from records.preferences import Axis, Rating

Kind = ReviewDecision.Kind
MAX_NOTE_CHARACTERS = 5000


def accept_comparison(
    *, reviewer: User, comparison: Comparison, client_key: uuid.UUID, note: str = ""
) -> ReviewDecision:
    """Let all judgements of a comparison stand; what waited for a reviewer is settled.

    The same client key returns the first decision, here and in all functions below.

    Raises:
        NotAllowedError: The person is no reviewer.
    """
    return _decide(reviewer, comparison, Kind.ACCEPT, client_key, note)


def report_unclear(
    *, reviewer: User, comparison: Comparison, client_key: uuid.UUID, note: str
) -> ReviewDecision:
    """Hand a comparison to the lead because the guidelines do not decide it.

    Raises:
        NotAllowedError: The person is no reviewer.
        JudgementError: The note is empty.
    """
    if not note.strip():
        raise JudgementError("note", "say what the guidelines leave open")
    return _decide(reviewer, comparison, Kind.UNCLEAR, client_key, note)


def exclude_judgement(
    *,
    reviewer: User,
    judgement: Judgement,
    reason: str,
    note: str = "",
    client_key: uuid.UUID | None = None,
) -> Exclusion:
    """Keep a judgement out of all snapshots frozen from now on; an exclusion that holds stands.

    Raises:
        NotAllowedError: The person is no reviewer.
        JudgementError: There is no such reason.
    """
    require_role(reviewer, REVIEWERS)
    if reason not in Exclusion.Reason.values:
        reasons = ", ".join(Exclusion.Reason.values)
        raise JudgementError("reason", f"{reason!r} is not one of {reasons}")
    client_key = client_key or uuid.uuid4()
    with transaction.atomic():
        comparison = _lock(judgement.comparison_id)
        repeated = Exclusion.objects.filter(decision__client_key=client_key).first()
        holding = Exclusion.objects.filter(judgement=judgement, is_active=True).first()
        if repeated is not None or holding is not None:
            return repeated or holding  # type: ignore[return-value] # one of them is there
        exclusion = Exclusion.objects.create(
            judgement=judgement, reviewer=reviewer, reason=reason, note=note
        )
        _decide(
            reviewer,
            comparison,
            Kind.EXCLUDE,
            client_key,
            note,
            judgement=judgement,
            exclusion=exclusion,
        )
        _count_excluded(comparison.round_id, 1)
    return exclusion


def correct_judgement(
    *,
    reviewer: User,
    judgement: Judgement,
    chosen_sample_id: int,
    rating: str,
    safety_bin: str | None,
    client_key: uuid.UUID,
    note: str = "",
) -> Correction:
    """Put a verdict of the reviewer's in place of a judgement, which stays; and accept it.

    Snapshots frozen from now on hold the correction. Later turns of the dialogue still answer to
    the response that was chosen then.

    Raises:
        NotAllowedError: The person is no reviewer.
        JudgementError: A value does not fit; names the field.
        DecisionError: The judgement is excluded or corrected; that has to be taken back first.
    """
    require_role(reviewer, REVIEWERS)
    repeated = ReviewDecision.objects.filter(client_key=client_key).first()
    if repeated is not None:
        if repeated.correction is None or repeated.judgement_id != judgement.pk:
            raise KeyReusedError
        return repeated.correction
    with transaction.atomic():
        comparison = _lock(judgement.comparison_id)
        correction = _correction(judgement, comparison, chosen_sample_id, rating, safety_bin)
        correction.reviewer = reviewer
        if Exclusion.objects.filter(judgement=judgement, is_active=True).exists():
            raise DecisionError("this judgement is excluded; take that back first")
        if Correction.objects.filter(judgement=judgement, is_active=True).exists():
            raise DecisionError("this judgement is corrected already; take that back first")
        correction.save(force_insert=True)
        _decide(
            reviewer,
            comparison,
            Kind.CORRECT,
            client_key,
            note,
            judgement=judgement,
            correction=correction,
        )
    return correction


def undo_decision(
    *, reviewer: User, decision: ReviewDecision, client_key: uuid.UUID, note: str = ""
) -> ReviewDecision:
    """Take a decision back by a further record; what it settled waits again, counters follow.

    Taking it back twice returns the first record.

    Raises:
        NotAllowedError: The person is no reviewer.
        DecisionError: It is itself a taking back: decide anew instead.
    """
    require_role(reviewer, REVIEWERS)
    if decision.kind == Kind.UNDO:
        raise DecisionError("taking back is not taken back; decide anew instead")
    with transaction.atomic():
        comparison = _lock(decision.comparison_id)
        existing = ReviewDecision.objects.filter(reverses=decision).first()
        if existing is not None:
            return existing
        undo = ReviewDecision.objects.create(
            comparison=comparison,
            judgement_id=decision.judgement_id,
            kind=Kind.UNDO,
            reviewer=reviewer,
            note=note.strip(),
            reverses=decision,
            client_key=client_key,
        )
        Correction.objects.filter(decision=decision).update(is_active=False)
        _reopen_items(decision)
        if Exclusion.objects.filter(decision=decision, is_active=True).update(is_active=False):
            _count_excluded(comparison.round_id, -1)
    return undo


def _decide(
    reviewer: User,
    comparison: Comparison,
    kind: str,
    client_key: uuid.UUID,
    note: str,
    *,
    judgement: Judgement | None = None,
    exclusion: Exclusion | None = None,
    correction: Correction | None = None,
) -> ReviewDecision:
    """Store a decision and settle what waits: with a lead if it is unclear, for good otherwise."""
    require_role(reviewer, REVIEWERS)
    if len(note) > MAX_NOTE_CHARACTERS:
        raise JudgementError("note", f"{len(note)} characters are more than {MAX_NOTE_CHARACTERS}")
    try:
        with transaction.atomic():
            _lock(comparison.pk)
            decision = ReviewDecision.objects.create(
                comparison=comparison,
                judgement=judgement,
                kind=kind,
                reviewer=reviewer,
                note=note.strip(),
                exclusion=exclusion,
                correction=correction,
                client_key=client_key,
            )
            waiting = [ReviewItem.State.OPEN]
            state = ReviewItem.State.UNCLEAR
            if kind != Kind.UNCLEAR:
                waiting.append(ReviewItem.State.UNCLEAR)
                state = ReviewItem.State.DECIDED
            items = ReviewItem.objects.filter(comparison=comparison, state__in=waiting)
            items.update(state=state, decided_by=decision)
    except IntegrityError:
        repeated = ReviewDecision.objects.filter(client_key=client_key).first()
        if repeated is None:
            raise
        if (repeated.comparison_id, repeated.kind) != (comparison.pk, kind):
            raise KeyReusedError from None
        return repeated
    return decision


def _reopen_items(decision: ReviewDecision) -> None:
    """Let what a decision settled wait again: with the lead, if it was unclear before."""
    unclear = ReviewDecision.objects.filter(
        comparison=decision.comparison_id,
        kind=Kind.UNCLEAR,
        reversed_by__isnull=True,
        pk__lt=decision.pk,
    )
    before = unclear.order_by("-pk").first()
    settled = ReviewItem.objects.filter(decided_by=decision)
    if before is not None:
        settled.update(state=ReviewItem.State.UNCLEAR, decided_by=before)
    else:
        settled.update(state=ReviewItem.State.OPEN, decided_by=None)


def _correction(
    judgement: Judgement,
    comparison: Comparison,
    chosen_sample_id: int,
    rating: str,
    safety_bin: str | None,
) -> Correction:
    chosen = next((s for s in comparison.samples.all() if s.pk == chosen_sample_id), None)
    if chosen is None:
        raise JudgementError("chosen_sample_id", "choose one of the two responses shown")
    if rating not in list(Rating):
        raise JudgementError("rating", f"{rating!r} is not one of {', '.join(Rating)}")
    corrected_bin = checked_bin(Axis(judgement.axis), safety_bin)
    before = (judgement.chosen_sample_id, judgement.rating, judgement.safety_bin)
    if before == (chosen.pk, rating, corrected_bin):
        raise JudgementError("rating", "this is what was judged: accept it instead")
    return Correction(
        judgement=judgement,
        comparison=comparison,
        chosen_sample=chosen,
        displayed_side=chosen.side,
        axis=judgement.axis,
        rating=rating,
        safety_bin=corrected_bin,
    )


def _lock(comparison_id: int) -> Comparison:
    """Lock the comparison until the transaction ends: decisions on it come one after another."""
    return Comparison.objects.select_for_update(no_key=True).get(pk=comparison_id)


def _count_excluded(round_id: int, number: int) -> None:
    Round.objects.filter(pk=round_id).update(num_excluded=F("num_excluded") + number)
