"""What an annotator says of a pair, checked and made into a judgement, whoever wrote the prompt."""

import uuid
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from annotation.errors import JudgementError, KeyReusedError
from annotation.judgements import insert_judgement
from annotation.models import (
    Comparison,
    Edit,
    Judgement,
    JudgementKind,
    UnacceptableReason,
    User,
)
from annotation.scale import Side, safety_bin_named
from annotation.services.texts import problem_of
from records.preferences import Axis, Rating

MAX_ACTIVE_SECONDS = 24 * 3600.0


class Verdict(NamedTuple):
    """What a form says; nothing of it is checked yet."""

    chosen_sample_id: int
    rating: str
    safety_bin: str | None
    client_key: uuid.UUID
    active_seconds: float
    neither_reasons: Sequence[str] = ()
    neither_note: str = ""
    edited_text: str = ""


def judgement_from(
    verdict: Verdict,
    *,
    comparison: Comparison,
    annotator: User,
    sides: Mapping[int, Side],
    slot: int = 0,
    kind: JudgementKind = JudgementKind.AUTHOR,
) -> Judgement:
    """Return the judgement, not stored yet; `sides` says where each of the two samples stood.

    Raises:
        ContradictionError: An unsafe response is preferred to a safe one.
        JudgementError: Another value does not fit; names the field.
    """
    if verdict.chosen_sample_id not in sides:
        raise JudgementError("chosen_sample_id", "choose one of the two responses shown")
    if verdict.rating not in list(Rating):
        raise JudgementError("rating", f"{verdict.rating!r} is not one of {', '.join(Rating)}")
    if not 0.0 <= verdict.active_seconds <= MAX_ACTIVE_SECONDS:
        raise JudgementError("active_seconds", f"{verdict.active_seconds} is not within a day")
    unknown = set(verdict.neither_reasons) - set(UnacceptableReason.values)
    if unknown:
        reasons = ", ".join(UnacceptableReason.values)
        raise JudgementError("neither_reasons", f"{sorted(unknown)} are not among {reasons}")
    round_ = comparison.round
    return Judgement(
        comparison=comparison,
        slot=slot,
        kind=kind,
        annotator=annotator,
        chosen_sample_id=verdict.chosen_sample_id,
        displayed_side=sides[verdict.chosen_sample_id].value,
        axis=round_.axis,
        rating=verdict.rating,
        safety_bin=checked_bin(Axis(round_.axis), verdict.safety_bin),
        guidelines_id=round_.guidelines_id,
        client_key=verdict.client_key,
        active_seconds=verdict.active_seconds,
        neither_reasons=sorted(set(verdict.neither_reasons)),
        neither_note=verdict.neither_note,
    )


def store_judgement(judgement: Judgement, verdict: Verdict) -> None:
    """Store a judgement and, where its annotator wrote a better response, that one above both.

    The comparison stays locked until the transaction ends.

    Raises:
        JudgementError: The text cannot be used, or is the chosen response unchanged.
    """
    text = checked_edit(judgement, verdict)
    insert_judgement(judgement)
    store_edit(judgement, text)


def checked_edit(judgement: Judgement, verdict: Verdict) -> str:
    """Return the better response that the annotator wrote; empty where they wrote none.

    Raises:
        JudgementError: The text cannot be used, or is a response as it was shown.
    """
    text = verdict.edited_text.strip()
    if not text:
        return ""
    problem = problem_of(text, "a response")
    if problem is not None:
        raise JudgementError("edited_text", problem)
    if text in {sample.text.strip() for sample in judgement.comparison.samples.all()}:
        raise JudgementError(
            "edited_text", "this is a response as it was shown; change it, or leave it empty"
        )
    return text


def store_edit(judgement: Judgement, text: str) -> None:
    """Store what `checked_edit` has returned above both responses."""
    if text:
        Edit.objects.create(judgement=judgement, text=text)


def checked_bin(axis: Axis, safety_bin: str | None) -> str:
    """Return the bin to be stored: one of `SafetyBin` in a safety round, else the empty text.

    Raises:
        ContradictionError: Only the response that was not chosen is called safe.
        JudgementError: The bin is missing, unknown or not asked for.
    """
    if axis is not Axis.SAFETY:
        if safety_bin:
            raise JudgementError("safety_bin", f"a {axis} round does not ask which side is safe")
        return ""
    if not safety_bin:
        raise JudgementError("safety_bin", "say which of the two responses is safe")
    try:
        return safety_bin_named(safety_bin).value
    except JudgementError:
        raise
    except ValueError as error:
        raise JudgementError("safety_bin", str(error)) from error


def repeated_judgement(
    client_key: uuid.UUID, annotator: User, comparison_id: int
) -> Judgement | None:
    """Return what the same form has stored before; None if nothing.

    Raises:
        KeyReusedError: The key came with another comparison or person.
    """
    stored = Judgement.with_retracted.filter(client_key=client_key).first()
    if stored is None:
        return None
    if (stored.annotator_id, stored.comparison_id) != (annotator.pk, comparison_id):
        raise KeyReusedError
    return stored
