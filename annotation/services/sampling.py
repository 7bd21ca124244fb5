"""Sampling: comparisons that wait are leased to a sampler, which brings back two responses."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from annotation.histories import prompts_of
from annotation.models import Comparison, RoundVariant, Sample, SamplingEvent
from annotation.rendering import rendered
from annotation.services.guard import Response, problem_of_pair
from annotation.services.items import draw_ahead, fail_item
from annotation.slots import give_back_slot
from annotation.streams import drawn_sides, stream_of
from records.dialogues import Dialogue as DialogueRecord
from registry.models import PolicyVersion

SAMPLING_LEASE = timedelta(seconds=120)
"""How long a sampler that shows no sign of life keeps what it has claimed."""
MAX_ATTEMPTS = 3
"""How often a pair is drawn before its author is asked for another prompt."""


class SampleRequest(NamedTuple):
    """One response to be drawn."""

    policy: PolicyVersion
    path: Path
    """The policy's model folder."""
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int


class SamplingJob(NamedTuple):
    """A comparison that waits for its two responses."""

    comparison_id: int
    prompt: DialogueRecord
    requests: tuple[SampleRequest, SampleRequest]


class NewSample(NamedTuple):
    """A response that was drawn, with how."""

    text: str
    policy: PolicyVersion
    temperature: float
    top_p: float
    seed: int
    num_tokens: int
    is_finished: bool
    """False where the token limit cut it short."""


def claim_comparisons_for_sampling(*, limit: int, worker: str) -> list[SamplingJob]:
    """Lease up to `limit` comparisons that somebody waits for to `worker`, the oldest first.

    No comparison goes to two samplers, and none waits for a lock. What a dead sampler held is
    claimed again once its lease has lapsed.
    """
    return _claim(limit, worker, is_ahead=False)


def claim_ahead_for_sampling(*, limit: int, worker: str) -> list[SamplingJob]:
    """Lease up to `limit` comparisons that are drawn before anybody waits for them, likewise."""
    return _claim(limit, worker, is_ahead=True)


def _claim(limit: int, worker: str, *, is_ahead: bool) -> list[SamplingJob]:
    lapsed = Q(state=Comparison.State.SAMPLING, sampling_expires_at__lt=Now())
    with transaction.atomic():
        claimed = list(
            Comparison.objects.to_sample()
            .select_related("round", "dialogue")
            .filter(Q(state=Comparison.State.WAITING) | lapsed, is_ahead=is_ahead)
            .order_by("pk")
            .select_for_update(of=("self",), skip_locked=True, no_key=True)[:limit]
        )
        Comparison.objects.filter(pk__in=[item.pk for item in claimed]).update(
            state=Comparison.State.SAMPLING,
            sampled_by=worker,
            sampling_expires_at=Now() + SAMPLING_LEASE,
            sampling_attempts=F("sampling_attempts") + 1,
        )
    for item in claimed:
        item.sampling_attempts += 1
    prompts = prompts_of(claimed)
    variants = _variants_of({item.round_id for item in claimed})
    return [
        SamplingJob(item.pk, prompts[item.pk], _requests(item, variants[item.round_id]))
        for item in claimed
    ]


def beat_sampling(*, comparison_ids: Sequence[int], worker: str) -> int:
    """Renew the worker's leases on these comparisons; return how many it still holds."""
    held = Comparison.objects.filter(
        pk__in=comparison_ids, state=Comparison.State.SAMPLING, sampled_by=worker
    )
    return held.update(sampling_expires_at=Now() + SAMPLING_LEASE)


def store_samples(*, comparison_id: int, samples: Sequence[NewSample]) -> Comparison:
    """Store the two responses on randomly drawn sides: the comparison is ready to be judged.

    A pair that nobody could compare (`guard.problem_of_pair`) is recorded as an event and drawn
    again with other seeds, the third time from other variants; after that the comparison fails,
    and its author is asked for another prompt. A delivery that comes late or twice changes nothing.
    The pair is shown no sooner than a fixed time after the prompt, so that its speed tells nothing.
    Of an imported dialogue, what may come next is then drawn ahead.

    Raises:
        ValueError: There are not exactly two samples.
    """
    if len(samples) != 2:
        raise ValueError(f"a comparison takes 2 samples, not {len(samples)}")
    samples = [sample._replace(text=_storable(sample.text)) for sample in samples]
    renderings = [rendered(sample.text) for sample in samples]
    with transaction.atomic():
        comparison = _locked(comparison_id)
        if comparison.state != Comparison.State.SAMPLING:
            return comparison
        problem = _problem_of(comparison, samples)
        if problem is not None:
            texts = [sample.text for sample in samples]
            _draw_again(comparison, problem, {"texts": texts})
            return comparison
        Sample.objects.bulk_create(
            Sample(comparison=comparison, side=side, **sample._asdict(), **rendering)
            for side, sample, rendering in zip(
                drawn_sides(comparison), samples, renderings, strict=True
            )
        )
        comparison.state = Comparison.State.READY
        comparison.sampling_expires_at = None
        if not comparison.is_ahead:
            floor = timedelta(milliseconds=settings.RESPONSE_FLOOR_MS)
            # What was drawn ahead is waited for since its turn came: `ready_at` was set then.
            earliest = comparison.ready_at or comparison.created_at + floor
            comparison.ready_at = max(timezone.now(), earliest)
        comparison.save(update_fields=["state", "ready_at", "sampling_expires_at"])
        if comparison.dialogue.item_id is not None and not comparison.is_ahead:
            draw_ahead(comparison)
    return comparison


def fail_sampling(*, comparison_id: int, worker: str, error: str) -> Comparison:
    """Record that drawing went wrong; it is tried again, three times in all.

    A sampler that has lost its lease changes nothing.
    """
    with transaction.atomic():
        comparison = _locked(comparison_id)
        if comparison.state == Comparison.State.SAMPLING and comparison.sampled_by == worker:
            detail = {"error": _storable(error)}
            _draw_again(comparison, SamplingEvent.Reason.ERROR, detail)
    return comparison


def _requests(
    comparison: Comparison, variants: Sequence[RoundVariant]
) -> tuple[SampleRequest, SampleRequest]:
    """Draw which two variants answer and at which two temperatures.

    With one variant both responses are its own. The draw depends on the comparison's secret seed
    and the attempt alone, so it can be repeated. The second attempt asks the same variants again
    with other seeds, the third draws variants anew.
    """
    stream = stream_of(comparison, f"variants {(comparison.sampling_attempts + 1) // 2}")
    first, second = stream.sample(variants, 2) if len(variants) > 1 else (variants[0],) * 2
    temperatures = [
        round(stream.uniform(variant.temperature_low, variant.temperature_high), 2)
        for variant in (first, second)
    ]
    if temperatures[0] == temperatures[1]:
        temperatures = [first.temperature_low, second.temperature_high]
        if temperatures[0] == temperatures[1]:
            temperatures = [first.temperature_high, second.temperature_low]
    seed_stream = stream_of(comparison, f"seeds {comparison.sampling_attempts}")
    seeds = [seed_stream.randrange(2**31) for _ in range(2)]
    one, two = (
        SampleRequest(
            policy=variant.policy,
            path=variant.policy.artifact.location,
            temperature=temperature,
            top_p=variant.top_p,
            max_new_tokens=variant.max_new_tokens,
            seed=seed,
        )
        for variant, temperature, seed in zip((first, second), temperatures, seeds, strict=True)
    )
    return one, two


def _draw_again(comparison: Comparison, reason: str, detail: dict[str, Any]) -> None:
    """Send a comparison back to the queue, or give it up after its last attempt."""
    SamplingEvent.objects.create(
        comparison=comparison,
        attempt=comparison.sampling_attempts,
        reason=reason,
        detail=detail,
    )
    comparison.sampling_expires_at = None
    comparison.state = Comparison.State.WAITING
    if comparison.sampling_attempts >= MAX_ATTEMPTS:
        _give_up(comparison, SamplingEvent.Reason(reason))
    else:
        comparison.save(update_fields=["state", "sampling_expires_at"])


def _give_up(comparison: Comparison, reason: SamplingEvent.Reason) -> None:
    """Ask its author for another prompt; an imported one is set aside, a guess is forgotten."""
    had_slot, comparison.holds_slot = comparison.holds_slot, False
    if comparison.assumed_sample_id is not None and comparison.is_ahead:
        comparison.state = Comparison.State.DISCARDED
        comparison.discard_reason = Comparison.DiscardReason.NO_PAIR
    else:
        comparison.state = Comparison.State.FAILED
        comparison.is_ahead = False
        comparison.error = _EXPLANATIONS[reason]
    fields = ("state", "is_ahead", "discard_reason", "sampling_expires_at", "holds_slot", "error")
    comparison.save(update_fields=fields)
    if comparison.state == Comparison.State.FAILED and comparison.dialogue.item_id is not None:
        fail_item(comparison.dialogue, was_held=had_slot)
    if had_slot:
        give_back_slot(comparison.round_id)


_EXPLANATIONS = {
    SamplingEvent.Reason.EMPTY: (
        "The policies had nothing to say to this prompt. Please put it in another way."
    ),
    SamplingEvent.Reason.IDENTICAL: (
        "Both policies say the same to this prompt, so there is nothing to compare. Please ask "
        "something more open."
    ),
    SamplingEvent.Reason.NEAR_IDENTICAL: (
        "Both policies say nearly the same to this prompt, so there is little to compare. Please "
        "ask something more open."
    ),
    SamplingEvent.Reason.TRUNCATED: (
        "The responses broke off. Please try another prompt; the lead can see why."
    ),
    SamplingEvent.Reason.HOLDS_TAG: (
        "The responses held marks of the chat format. Please try another prompt; the lead can see "
        "why."
    ),
    SamplingEvent.Reason.NAMES_ITSELF: (
        "The responses said who wrote them, so they could not be compared fairly. Please ask about "
        "something else than the assistants themselves."
    ),
    SamplingEvent.Reason.REPLACED: (
        "The policies of this round were replaced while they answered. Please send it again."
    ),
    SamplingEvent.Reason.ERROR: (
        "The responses could not be drawn. Please try another prompt; the lead can see why."
    ),
}


def _storable(text: str) -> str:
    """Return `text` without zero bytes, which a policy may sample and PostgreSQL does not take."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _locked(comparison_id: int) -> Comparison:
    comparisons = Comparison.objects.select_related("dialogue", "round")
    return comparisons.select_for_update(of=("self",), no_key=True).get(pk=comparison_id)


def _problem_of(
    comparison: Comparison, samples: Sequence[NewSample]
) -> SamplingEvent.Reason | None:
    variants = RoundVariant.objects.filter(round=comparison.round_id).values_list(
        "policy", "policy__name", "max_new_tokens"
    )
    limits = {policy: limit for policy, _, limit in variants}
    if any(item.policy.pk not in limits for item in samples):
        return SamplingEvent.Reason.REPLACED
    responses = [
        Response(item.text, item.is_finished, item.num_tokens, limits[item.policy.pk])
        for item in samples
    ]
    return problem_of_pair(responses, [name for _, name, _ in variants])


def _variants_of(round_ids: set[int]) -> dict[int, list[RoundVariant]]:
    variants: dict[int, list[RoundVariant]] = {round_id: [] for round_id in round_ids}
    rows = RoundVariant.objects.filter(round__in=round_ids).select_related("policy__artifact")
    for variant in rows.order_by("pk"):
        variants[variant.round_id].append(variant)
    return variants
