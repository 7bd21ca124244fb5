"""Snapshots: judged comparisons are frozen as preferences, streamed in a stable order."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from django.db import transaction
from django.db.models import Exists, FilteredRelation, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from annotation.models import Exclusion, Judgement, Round, Sample
from annotation.models.kinds import SILENT_KINDS
from annotation.withdrawals import withdrawn
from records.dialogues import Dialogue as DialogueRecord
from records.preferences import Axis, Preference, Rating, SafetyBin
from records.snapshots import write_snapshot
from registry.errors import NameTakenError
from registry.models import Snapshot
from registry.paths import data_dir
from registry.services import register_snapshot

EDITED_BY_A_PERSON = "edited by a person"
"""Stands for a policy where the better response was written by an annotator."""
_ROWS_AT_ONCE = 1000


def freeze_snapshot(*, rounds: Sequence[Round], name: str, test_share: float = 0.1) -> Snapshot:
    """Freeze the judged, not excluded and not withdrawn comparisons of `rounds`.

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

    What is excluded now or withdrawn is left out, what is corrected now is yielded as the reviewer
    judged it. Several people's judgements of one comparison are a preference each: where they agree
    the pair weighs more, where they do not it teaches doubt, and the split by dialogue keeps them
    together. Gold comparisons and repeats measure annotators and are left out.

    A response that an annotator made better stands above both: edited over chosen, and chosen over
    rejected, are two preferences; that of edited over rejected follows and is left out. Where a
    reviewer prefers the other response the edit says nothing, and is left out too.

    An excluded judgement is still history for the turns after it: its response was chosen then,
    and the later prompts answer to it. What continues the dialogue is its author's choice.
    """
    # The transaction keeps the cursor on the server; one query sees one state of the rows.
    with transaction.atomic():
        texts: list[str] = []
        dialogue_uuid, chosen_text = None, ""
        for values in _rows_of(rounds).iterator(chunk_size=_ROWS_AT_ONCE):
            row = _Row._make(values)
            if row.dialogue_uuid != dialogue_uuid:
                texts, dialogue_uuid = list(row.opening), row.dialogue_uuid
            del texts[len(row.opening) + 2 * row.turn :]
            system = row.own_system_prompt or row.system_prompt
            prompt = DialogueRecord.from_texts(*texts, row.prompt_text, system=system)
            if not row.is_excluded:
                yield from _preferences(row, prompt)
            if row.slot == 0:
                chosen_text = row.chosen_text if row.edited_text is None else row.edited_text
            texts += [row.prompt_text, chosen_text]


class _Row(NamedTuple):
    uuid: UUID
    dialogue_uuid: UUID
    turn: int
    slot: int
    system_prompt: str
    own_system_prompt: str
    """Of an imported dialogue."""
    opening: list[str]
    item_uuid: UUID | None
    prompt_text: str
    edited_text: str | None
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
    edited_by: str
    created_at: datetime
    is_excluded: bool


def _rows_of(rounds: Sequence[Round]) -> QuerySet[Judgement, tuple[Any, ...]]:
    standing = Sample.objects.filter(pk=OuterRef("standing_sample"))
    rejected = Sample.objects.filter(comparison=OuterRef("comparison")).exclude(
        pk=OuterRef("standing_sample")
    )
    return (
        Judgement.objects.filter(comparison__round__in=[round_.pk for round_ in rounds])
        .exclude(kind__in=SILENT_KINDS)
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
            is_excluded=Exists(Exclusion.objects.filter(judgement=OuterRef("pk"), is_active=True))
            | withdrawn(),
        )
        .values_list(
            "uuid",
            "comparison__dialogue__uuid",
            "comparison__turn",
            "slot",
            "comparison__round__system_prompt",
            "comparison__dialogue__system_prompt",
            "comparison__dialogue__opening",
            "comparison__dialogue__item__uuid",
            "comparison__prompt_text",
            "edit__text",
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
            "annotator__pseudonym",
            "judged_at",
            "is_excluded",
        )
    )


def _preferences(row: _Row, prompt: DialogueRecord) -> Iterator[Preference]:
    """Yield what one judgement says: chosen over rejected, and its edit over chosen."""
    preference = _preference(row, prompt)
    yield preference
    if row.edited_text is None or row.standing_text != row.chosen_text:
        return
    is_chosen_safe = preference.safety_bin in (SafetyBin.CHOSEN_SAFE, SafetyBin.BOTH_SAFE)
    yield replace(
        preference,
        preference_id=str(uuid5(row.uuid, "edit")),
        chosen=row.edited_text,
        rejected=row.chosen_text,
        # Nobody was asked by how much the edit is better, or whether it is safe.
        rating=None,
        safety_bin=SafetyBin.BOTH_SAFE if is_chosen_safe else None,
        chosen_policy=EDITED_BY_A_PERSON,
        rejected_policy=row.chosen_policy,
        annotator=row.edited_by,
    )


def _preference(row: _Row, prompt: DialogueRecord) -> Preference:
    return Preference(
        preference_id=str(row.uuid),
        # An item that somebody else went on with stays on one side of the split.
        dialogue_id=str(row.item_uuid or row.dialogue_uuid),
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
