"""Blind checks: demonstrations are drawn, a policy answers their prompts, reviewers compare."""

import random
import uuid
from collections.abc import Sequence
from typing import NamedTuple

from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from annotation.access import LEADS, REVIEWERS, require_role
from annotation.errors import DecisionError, KeyReusedError, RoundConfigError
from annotation.models import (
    BlindCheck,
    BlindPair,
    BlindVerdict,
    Demonstration,
    DemonstrationReview,
    User,
)
from annotation.models.comparisons import new_seed
from annotation.scale import Side
from annotation.services.sampling import MAX_ATTEMPTS, SAMPLING_LEASE, NewSample, SampleRequest
from records.dialogues import Dialogue as DialogueRecord
from registry.models import PolicyVersion

DEFAULT_PAIRS = 180
"""As many as the paper reviewed by hand (arXiv:2307.09288, section 3.1)."""
NEITHER = "neither"
"""The choice of a reviewer who sees no difference."""
State = BlindPair.State


class BlindJob(NamedTuple):
    """A pair that waits for the policy's response."""

    pair_id: int
    prompt: DialogueRecord
    request: SampleRequest


def open_blind_check(
    *,
    name: str,
    policy: PolicyVersion,
    opened_by: User,
    num_pairs: int = DEFAULT_PAIRS,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_new_tokens: int = 256,
    seed: int | None = None,
) -> BlindCheck:
    """Draw approved demonstrations for a policy to answer, and the side of each response.

    Equal seeds draw equal demonstrations of the same approved ones.

    Raises:
        NotAllowedError: `opened_by` is no lead.
        RoundConfigError: A setting does not fit, or too few demonstrations are approved.
    """
    require_role(opened_by, LEADS)
    _check_settings(name, num_pairs, temperature, top_p, max_new_tokens)
    approved = Demonstration.objects.filter(state=Demonstration.State.APPROVED).order_by("pk")
    revision_ids = list(approved.values_list("current", flat=True))
    if num_pairs > len(revision_ids):
        message = f"{num_pairs} are more than the {len(revision_ids)} approved demonstrations"
        raise RoundConfigError("num_pairs", message)
    seed = new_seed() if seed is None else seed
    stream = random.Random(f"{seed} blind check")
    drawn = stream.sample(revision_ids, num_pairs)
    try:
        with transaction.atomic():
            check = BlindCheck.objects.create(
                name=name.strip(),
                policy=policy,
                temperature=temperature,
                top_p=top_p,
                max_new_tokens=max_new_tokens,
                num_pairs=num_pairs,
                seed=seed,
                opened_by=opened_by,
            )
            BlindPair.objects.bulk_create(
                BlindPair(
                    check_of=check, revision_id=revision_id, model_side=stream.choice(list(Side))
                )
                for revision_id in drawn
            )
    except IntegrityError as error:
        if BlindCheck.objects.filter(name=name.strip()).exists():
            raise RoundConfigError("name", f"there is already a check {name!r}") from error
        raise
    return check


def claim_blind_pairs(*, limit: int, worker: str) -> list[BlindJob]:
    """Lease up to `limit` waiting pairs to `worker`, as comparisons are; none goes to two."""
    lapsed = Q(state=State.SAMPLING, sampling_expires_at__lt=Now())
    with transaction.atomic():
        ids = list(
            BlindPair.objects.filter(Q(state=State.WAITING) | lapsed)
            .order_by("pk")
            .select_for_update(skip_locked=True, no_key=True)
            .values_list("pk", flat=True)[:limit]
        )
        BlindPair.objects.filter(pk__in=ids).update(
            state=State.SAMPLING,
            sampled_by=worker,
            sampling_expires_at=Now() + SAMPLING_LEASE,
            sampling_attempts=F("sampling_attempts") + 1,
        )
    pairs = BlindPair.objects.filter(pk__in=ids).select_related("check_of__policy__artifact")
    return [
        BlindJob(pair.pk, prompt_of_pair(pair), _request(pair))
        for pair in pairs.prefetch_related("revision__turns").order_by("pk")
    ]


def beat_blind_pairs(*, pair_ids: Sequence[int], worker: str) -> int:
    """Renew the worker's leases on these pairs; return how many it still holds."""
    held = BlindPair.objects.filter(pk__in=pair_ids, state=State.SAMPLING, sampled_by=worker)
    return held.update(sampling_expires_at=Now() + SAMPLING_LEASE)


def store_blind_response(*, pair_id: int, sample: NewSample) -> BlindPair:
    """Store the policy's response: the pair is ready for a reviewer.

    An empty one is drawn again with another seed, three times in all. A delivery that comes late
    or twice changes nothing.
    """
    text = sample.text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    with transaction.atomic():
        pair = BlindPair.objects.select_for_update(no_key=True).get(pk=pair_id)
        if pair.state != State.SAMPLING:
            return pair
        if not text.strip():
            return _draw_again(pair, "the policy had nothing to say")
        pair.response_text, pair.response_seed = text, sample.seed
        pair.num_tokens, pair.is_finished = sample.num_tokens, sample.is_finished
        pair.state, pair.sampling_expires_at = State.READY, None
        pair.save()
    return pair


def fail_blind_pair(*, pair_id: int, worker: str, error: str) -> BlindPair:
    """Record that drawing went wrong; it is tried again, three times in all."""
    with transaction.atomic():
        pair = BlindPair.objects.select_for_update(no_key=True).get(pk=pair_id)
        if pair.state == State.SAMPLING and pair.sampled_by == worker:
            _draw_again(pair, error.replace("\0", "\N{REPLACEMENT CHARACTER}"))
    return pair


def submit_blind_verdict(
    *, reviewer: User, pair: BlindPair, choice: str, client_key: uuid.UUID
) -> BlindVerdict:
    """Store which of the two answers a reviewer prefers: `left`, `right` or `neither`.

    The same client key again returns the first verdict.

    Raises:
        NotAllowedError: The person is no reviewer.
        DecisionError: The choice is none, the pair is not ready, or the reviewer knows the answer.
    """
    require_role(reviewer, REVIEWERS)
    if choice not in (Side.LEFT, Side.RIGHT, NEITHER):
        raise DecisionError(f"{choice!r} is not one of left, right, {NEITHER}")
    if knows_answer(reviewer, pair):
        raise DecisionError("you have read this demonstration; another reviewer has to compare it")
    try:
        with transaction.atomic():
            locked = BlindPair.objects.select_for_update(no_key=True).get(pk=pair.pk)
            if locked.state != State.READY:
                raise DecisionError(f"this pair is {locked.state}; go on with the next one")
            verdict = BlindVerdict.objects.create(
                pair=locked,
                reviewer=reviewer,
                outcome=_outcome(choice, locked.model_side),
                client_key=client_key,
            )
            BlindPair.objects.filter(pk=locked.pk).update(state=State.JUDGED)
    except (DecisionError, IntegrityError):
        repeated = BlindVerdict.objects.filter(client_key=client_key).first()
        if repeated is None:
            raise
        if (repeated.pair_id, repeated.reviewer_id) != (pair.pk, reviewer.pk):
            raise KeyReusedError from None
        return repeated
    return verdict


def knows_answer(reviewer: User, pair: BlindPair) -> bool:
    """Whether this person wrote or reviewed the demonstration, and so would recognise it."""
    demonstration = Demonstration.objects.filter(revisions=pair.revision_id)
    reviewed = DemonstrationReview.objects.filter(
        demonstration__in=demonstration, reviewer=reviewer
    )
    return demonstration.filter(author=reviewer).exists() or reviewed.exists()


def prompt_of_pair(pair: BlindPair) -> DialogueRecord:
    """Return the dialogue up to the demonstration's last prompt: what both answers reply to."""
    turns = list(pair.revision.turns.all())
    texts = [text for turn in turns[:-1] for text in (turn.prompt_text, turn.response_text)]
    return DialogueRecord.from_texts(*texts, turns[-1].prompt_text)


def _request(pair: BlindPair) -> SampleRequest:
    check = pair.check_of
    stream = random.Random(f"{pair.response_seed} {pair.pk} {pair.sampling_attempts}")
    return SampleRequest(
        policy=check.policy,
        path=check.policy.artifact.location,
        temperature=check.temperature,
        top_p=check.top_p,
        max_new_tokens=check.max_new_tokens,
        seed=stream.randrange(2**31),
    )


def _draw_again(pair: BlindPair, error: str) -> BlindPair:
    is_last = pair.sampling_attempts >= MAX_ATTEMPTS
    pair.state = State.FAILED if is_last else State.WAITING
    pair.error, pair.sampling_expires_at = error, None
    pair.save(update_fields=["state", "error", "sampling_expires_at"])
    return pair


def _outcome(choice: str, model_side: str) -> str:
    if choice == NEITHER:
        return BlindVerdict.Outcome.NO_DIFFERENCE
    is_model = choice == model_side
    return BlindVerdict.Outcome.MODEL if is_model else BlindVerdict.Outcome.HUMAN


def _check_settings(
    name: str, num_pairs: int, temperature: float, top_p: float, max_new_tokens: int
) -> None:
    if not name.strip():
        raise RoundConfigError("name", "must not be empty")
    if num_pairs < 1:
        raise RoundConfigError("num_pairs", f"{num_pairs} is below 1")
    if not 0.0 <= temperature <= 5.0:
        raise RoundConfigError("temperature", f"{temperature} is not between 0 and 5")
    if not 0.0 < top_p <= 1.0:
        raise RoundConfigError("top_p", f"{top_p} is not above 0 and at most 1")
    if max_new_tokens < 1:
        raise RoundConfigError("max_new_tokens", f"{max_new_tokens} is below 1")
