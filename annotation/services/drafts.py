"""Drafts: what is typed or ticked is on the server before it is submitted."""

import json
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from annotation.errors import NotFoundError
from annotation.models import Comparison, Dialogue, Draft, Slot, User

MAX_DRAFT_CHARACTERS = 100_000


def save_draft(
    *,
    annotator: User,
    fields: Mapping[str, Any],
    dialogue: Dialogue | None = None,
    comparison: Comparison | None = None,
    slot: Slot | None = None,
) -> Draft:
    """Keep the fields of a form that is not submitted yet, over what was kept before.

    A draft of a dialogue holds its next prompt, one of a comparison or slot its judgement. It
    outlives leases, and goes when the form is submitted.

    Raises:
        NotFoundError: The dialogue, comparison or slot is not this annotator's.
        ValueError: Not exactly one of the three is given, or the fields are too long.
    """
    if sum(thing is not None for thing in (dialogue, comparison, slot)) != 1:
        raise ValueError("a draft belongs to one dialogue or to one comparison")
    if slot is not None:
        _check_slot(annotator, slot)
        comparison = slot.comparison
    else:
        owner = dialogue or (comparison.dialogue if comparison is not None else None)
        assert owner is not None
        if owner.annotator_id != annotator.pk:
            raise NotFoundError("dialogue", owner.pk)
    if len(json.dumps(fields)) > MAX_DRAFT_CHARACTERS:
        raise ValueError(f"a draft holds at most {MAX_DRAFT_CHARACTERS} characters")
    with transaction.atomic():
        draft, _ = Draft.objects.update_or_create(
            annotator=annotator,
            dialogue=dialogue,
            comparison=comparison,
            defaults={"fields": dict(fields)},
        )
    return draft


def _check_slot(annotator: User, slot: Slot) -> None:
    """Pass if the annotator holds the slot, held it last, or began a draft while they did."""
    if slot.annotator_id == annotator.pk:
        return
    if not Draft.objects.filter(annotator=annotator, comparison=slot.comparison_id).exists():
        raise NotFoundError("pair", slot.pk)
