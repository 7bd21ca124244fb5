"""Snapshots: judged comparisons are frozen as preferences, streamed in a stable order."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, FilteredRelation, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from annotation.models import Exclusion, Judgement, Round, Sample
from records.dialogues import Dialogue as DialogueRecord
from records.preferences import Axis, Preference, Rating, SafetyBin
from records.snapshots import write_snapshot
from registry.errors import NameTakenError
from registry.models import Snapshot
from registry.paths import data_dir
from registry.services import register_snapshot

_ROWS_AT_ONCE = 1000


def freeze_snapshot(*, rounds: Sequence[Round], name: str, test_share: float = 0.1) -> Snapshot:
    """Freeze the judged and not excluded comparisons of `rounds`.

    Equal rows give an equal digest. Memory does not grow with their number. Freezing the same
    rounds under the same name again returns the first snapshot, whatever was judged since.

    Raises:
        NameTakenError: The name belongs to a snapshot of other rounds or another split.
        RecordError: There is nothing to freeze, or `test_share` is outside [0, 1).
    """
    ordered = sorted(rounds, key=lambda round_: round_.pk)
    selection: dict[str, Any] = {
        "rounds": [_round_json(round_) for round_ in ordered],
        "test_share": test_share,
    }
    existing = Snapshot.objects.filter(name=name).first()
    if existing is not None:
        if existing.manifest["selection"] != selection:
            raise NameTakenError("snapshot", name)
        return existing
    return _write(name, preferences_of(ordered), selection=selection, test_share=test_share)


def import_preferences(
    *,
    preferences: Iterable[Preference],
    name: str,
    splits: Mapping[str, str] | None = None,
    test_share: float = 0.1,
    selection: Mapping[str, Any] | None = None,
) -> Snapshot:
    """Register preferences that were not annotated here as a snapshot.

    Args:
        preferences: What to freeze, in a stable order.
        name: Name of the snapshot.
        splits: Dialogue id to `train` or `test`, for sets that bring their own split.
        test_share: Share of dialogues held out, where there is no `splits`.
        selection: Where they come from, for the manifest.

    Raises:
        NameTakenError: The name belongs to other preferences.
        RecordError: There are none.
    """
    return _write(
        name,
        preferences,
        selection={"imported": dict(selection or {})},
        test_share=test_share,
        splits=splits,
    )


def preferences_of(rounds: Sequence[Round]) -> Iterator[Preference]:
    """Yield the preferences of `rounds` by dialogue and turn, as they stand after review.

    What is excluded now is left out, what is corrected now is yielded as the reviewer judged it.

    An excluded judgement is still history for the turns after it: its response was chosen then,
    and the later prompts answer to it.
    """
    # The transaction keeps the cursor on the server; one query sees one state of the rows.
    with transaction.atomic():
        texts: list[str] = []
        dialogue_uuid = None
        for values in _rows_of(rounds).iterator(chunk_size=_ROWS_AT_ONCE):
            row = _Row._make(values)
            if row.dialogue_uuid != dialogue_uuid:
                texts, dialogue_uuid = [], row.dialogue_uuid
            texts.append(row.prompt_text)
            if not row.is_excluded:
                yield _preference(row, DialogueRecord.from_texts(*texts))
            texts.append(row.chosen_text)


class _Row(NamedTuple):
    uuid: UUID
    dialogue_uuid: UUID
    prompt_text: str
    chosen_text: str
    """Chosen then: what the next prompt answers to."""
    standing_text: str
    """Preferred after review: the annotator's choice, or the reviewer's."""
    rejected_text: str
    axis: str
    rating: str
    safety_bin: str
    round_name: str
    guidelines_version: str
    chosen_policy: str
    rejected_policy: str
    pseudonym: str
    created_at: datetime
    is_excluded: bool


def _rows_of(rounds: Sequence[Round]) -> QuerySet[Judgement, tuple[Any, ...]]:
    standing = Sample.objects.filter(pk=OuterRef("standing_sample"))
    rejected = Sample.objects.filter(comparison=OuterRef("comparison")).exclude(
        pk=OuterRef("standing_sample")
    )
    return (
        Judgement.objects.filter(comparison__round__in=[round_.pk for round_ in rounds])
        .order_by("comparison__dialogue", "comparison__turn", "slot")
        .annotate(
            correction=FilteredRelation("corrections", condition=Q(corrections__is_active=True))
        )
        .annotate(standing_sample=Coalesce("correction__chosen_sample", "chosen_sample"))
        .annotate(
            standing_text=Subquery(standing.values("text")),
            standing_policy=Subquery(standing.values("policy__name")),
            rejected_text=Subquery(rejected.values("text")),
            rejected_policy=Subquery(rejected.values("policy__name")),
            standing_rating=Coalesce("correction__rating", "rating"),
            standing_bin=Coalesce("correction__safety_bin", "safety_bin"),
            judged_by=Coalesce("correction__reviewer__pseudonym", "annotator__pseudonym"),
            judged_at=Coalesce("correction__created_at", "created_at"),
            is_excluded=Exists(Exclusion.objects.filter(judgement=OuterRef("pk"), is_active=True)),
        )
        .values_list(
            "uuid",
            "comparison__dialogue__uuid",
            "comparison__prompt_text",
            "chosen_sample__text",
            "standing_text",
            "rejected_text",
            "axis",
            "standing_rating",
            "standing_bin",
            "comparison__round__name",
            "guidelines__version",
            "standing_policy",
            "rejected_policy",
            "judged_by",
            "judged_at",
            "is_excluded",
        )
    )


def _preference(row: _Row, prompt: DialogueRecord) -> Preference:
    return Preference(
        preference_id=str(row.uuid),
        dialogue_id=str(row.dialogue_uuid),
        prompt=prompt,
        chosen=row.standing_text,
        rejected=row.rejected_text,
        axis=Axis(row.axis),
        rating=Rating(row.rating),
        safety_bin=SafetyBin(row.safety_bin) if row.safety_bin else None,
        # In a safety round people write prompts to draw out unsafe responses.
        is_safety_prompt=row.axis == Axis.SAFETY,
        round_name=row.round_name,
        guidelines_version=row.guidelines_version,
        chosen_policy=row.chosen_policy,
        rejected_policy=row.rejected_policy,
        annotator=row.pseudonym,
        created_at=row.created_at.astimezone(UTC).isoformat(),
    )


def _round_json(round_: Round) -> dict[str, Any]:
    return {
        "id": round_.pk,
        "name": round_.name,
        "axis": round_.axis,
        "guidelines_version": round_.guidelines.version,
    }


def _write(
    name: str,
    preferences: Iterable[Preference],
    *,
    selection: Mapping[str, Any],
    test_share: float,
    splits: Mapping[str, str] | None = None,
) -> Snapshot:
    scratch = data_dir() / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        path = Path(folder) / "snapshot"
        write_snapshot(path, preferences, selection=selection, test_share=test_share, splits=splits)
        return register_snapshot(name=name, path=path)
