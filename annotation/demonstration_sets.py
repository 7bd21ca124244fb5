"""Demonstration sets: approved demonstrations are frozen as the file that SFT reads."""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction

from annotation.access import LEADS, require_role
from annotation.models import (
    Assignment,
    Demonstration,
    DemonstrationRevision,
    DemonstrationSet,
    DemonstrationSetItem,
    User,
)
from annotation.withdrawals import withdrawn
from records.dialogues import Dialogue as DialogueRecord
from records.errors import RecordError
from records.prompts import Demonstration as DemonstrationRecord
from records.prompts import write_demonstrations
from registry.errors import NameTakenError
from registry.models import Artifact
from registry.paths import data_dir
from registry.services import publish_artifact

_ROWS_AT_ONCE = 1000


def freeze_demonstrations(
    *, assignments: Sequence[Assignment], name: str, frozen_by: User
) -> DemonstrationSet:
    """Freeze the approved demonstrations of `assignments`, each turn a row, in a stable order.

    What its author took back by withdrawing consent is left out. Equal rows give an equal artifact.
    Freezing the same assignments under the same name again returns the first set, whatever was
    approved since.

    Raises:
        NotAllowedError: `frozen_by` is no lead.
        NameTakenError: The name belongs to a set of other assignments.
        RecordError: There is nothing to freeze, or the name is empty.
    """
    require_role(frozen_by, LEADS)
    if not name.strip():
        raise RecordError("name", "must not be empty")
    ordered = sorted(assignments, key=lambda assignment: assignment.pk)
    selection = [_assignment_json(assignment) for assignment in ordered]
    existing = DemonstrationSet.objects.filter(name=name).first()
    if existing is not None:
        return _same(existing, selection)
    try:
        return _freeze(ordered, selection, name, frozen_by)
    except IntegrityError:
        return _same(DemonstrationSet.objects.get(name=name), selection)


def records_of(revisions: Iterable[DemonstrationRevision]) -> Iterator[DemonstrationRecord]:
    """Yield each turn with the dialogue before it as its prompt: every answer is learned from."""
    for revision in revisions:
        texts: list[str] = []
        for turn in revision.turns.all():
            prompt = DialogueRecord.from_texts(*texts, turn.prompt_text)
            yield DemonstrationRecord(
                prompt=prompt,
                response=turn.response_text,
                source=revision.demonstration.author.pseudonym,
            )
            texts += [turn.prompt_text, turn.response_text]


def _freeze(
    assignments: Sequence[Assignment],
    selection: list[dict[str, Any]],
    name: str,
    frozen_by: User,
) -> DemonstrationSet:
    scratch = data_dir() / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    frozen: list[int] = []
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=scratch) as folder, transaction.atomic():
        path = Path(folder) / "demonstrations.jsonl"
        revisions = _noted(_approved_revisions(assignments), frozen, counts)
        num_rows = write_demonstrations(path, records_of(revisions))
        if not frozen:
            raise RecordError("assignments", "none of their demonstrations is approved yet")
        artifact = publish_artifact(path=path, kind=Artifact.Kind.DEMONSTRATIONS)
        made = DemonstrationSet.objects.create(
            name=name,
            artifact=artifact,
            frozen_by=frozen_by,
            manifest={
                "num_rows": num_rows,
                "num_demonstrations": len(frozen),
                "num_by_axis": _counted(counts, "axis:"),
                "num_by_vendor": _counted(counts, "vendor:"),
                "assignments": selection,
            },
        )
        DemonstrationSetItem.objects.bulk_create(
            (DemonstrationSetItem(demonstration_set=made, revision_id=pk) for pk in frozen),
            batch_size=_ROWS_AT_ONCE,
        )
    return made


def _approved_revisions(assignments: Sequence[Assignment]) -> Iterator[DemonstrationRevision]:
    revisions = DemonstrationRevision.objects.filter(
        pk__in=Demonstration.objects.filter(
            ~withdrawn("author"),
            assignment__in=[assignment.pk for assignment in assignments],
            state=Demonstration.State.APPROVED,
        ).values("current")
    )
    related = revisions.select_related("demonstration__author", "demonstration__assignment")
    return (
        related.prefetch_related("turns")
        .order_by("demonstration")
        .iterator(chunk_size=_ROWS_AT_ONCE)
    )


def _noted(
    revisions: Iterable[DemonstrationRevision], frozen: list[int], counts: Counter[str]
) -> Iterator[DemonstrationRevision]:
    for revision in revisions:
        assignment = revision.demonstration.assignment
        frozen.append(revision.pk)
        counts[f"axis:{assignment.axis}"] += 1
        counts[f"vendor:{assignment.vendor}"] += 1
        yield revision


def _counted(counts: Counter[str], prefix: str) -> dict[str, int]:
    return {
        key.removeprefix(prefix): count
        for key, count in sorted(counts.items())
        if key.startswith(prefix)
    }


def _assignment_json(assignment: Assignment) -> dict[str, Any]:
    return {
        "id": assignment.pk,
        "name": assignment.name,
        "axis": assignment.axis,
        "vendor": assignment.vendor,
        "guidelines_version": assignment.guidelines.version,
    }


def _same(existing: DemonstrationSet, selection: list[dict[str, Any]]) -> DemonstrationSet:
    if existing.manifest["assignments"] != selection:
        raise NameTakenError("demonstration set", existing.name)
    return existing
