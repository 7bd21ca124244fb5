"""Drafts: what is typed or ticked is on the server before it is submitted."""

import json
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from annotation.access import REVIEWERS
from annotation.errors import NotFoundError
from annotation.models import Comparison, Demonstration, Dialogue, Draft, Slot, User

MAX_DRAFT_CHARACTERS = 100_000
MAX_DEMONSTRATION_CHARACTERS = 1_000_000
"""A demonstration has many turns, each as long as a prompt may be."""


def save_draft(
    *,
    annotator: User,
    fields: Mapping[str, Any],
    dialogue: Dialogue | None = None,
    comparison: Comparison | None = None,
    slot: Slot | None = None,
    demonstration: Demonstration | None = None,
) -> Draft:
    """Keep the fields of a form that is not submitted yet, over what was kept before.

    A draft of a dialogue holds its next prompt, one of a comparison or slot its judgement, one of a
    demonstration its words or what a reviewer makes of them. It outlives leases, and goes when the
    form is submitted.

    Raises:
        NotFoundError: The dialogue, comparison, slot or demonstration is not this person's.
        ValueError: Not exactly one of them is given, or the fields are too long.
    """
    if [dialogue, comparison, slot, demonstration].count(None) != 3:
        raise ValueError("a draft belongs to one dialogue, comparison, slot or demonstration")
    if slot is not None:
        _check_slot(annotator, slot)
        comparison = slot.comparison
    elif demonstration is not None:
        if demonstration.author_id != annotator.pk and not annotator.has_role(REVIEWERS):
            raise NotFoundError("demonstration", demonstration.pk)
    else:
        owner = dialogue or (comparison.dialogue if comparison is not None else None)
        assert owner is not None
        if owner.annotator_id != annotator.pk:
            raise NotFoundError("dialogue", owner.pk)
    limit = MAX_DRAFT_CHARACTERS if demonstration is None else MAX_DEMONSTRATION_CHARACTERS
    if len(json.dumps(fields)) > limit:
        raise ValueError(f"a draft holds at most {limit} characters")
    with transaction.atomic():
        draft, _ = Draft.objects.update_or_create(
            annotator=annotator,
            dialogue=dialogue,
            comparison=comparison,
            demonstration=demonstration,
            defaults={"fields": dict(fields)},
        )
    return draft


def _check_slot(annotator: User, slot: Slot) -> None:
    """Pass if the annotator holds the slot, held it last, or began a draft while they did."""
    if slot.annotator_id == annotator.pk:
        return
    if not Draft.objects.filter(annotator=annotator, comparison=slot.comparison_id).exists():
        raise NotFoundError("pair", slot.pk)
