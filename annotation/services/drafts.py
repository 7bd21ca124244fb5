"""Drafts: what is typed or ticked is on the server before it is submitted."""

import json
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from annotation.errors import NotFoundError
from annotation.models import Comparison, Dialogue, Draft, User

MAX_DRAFT_CHARACTERS = 100_000


def save_draft(
    *,
    annotator: User,
    fields: Mapping[str, Any],
    dialogue: Dialogue | None = None,
    comparison: Comparison | None = None,
) -> Draft:
    """Keep the fields of a form that is not submitted yet, over what was kept before.

    A draft of a dialogue holds its next prompt, one of a comparison its judgement. It outlives
    leases, and goes when the form is submitted.

    Raises:
        NotFoundError: The dialogue or comparison is not this annotator's.
        ValueError: Not exactly one of the two is given, or the fields are too long.
    """
    if comparison is not None and dialogue is None:
        owner = comparison.dialogue
    elif dialogue is not None and comparison is None:
        owner = dialogue
    else:
        raise ValueError("a draft belongs to one dialogue or to one comparison")
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
