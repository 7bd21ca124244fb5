"""Uploads of items: a file is received, checked, accepted or dropped, and its items added."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from django.db import transaction
from django.utils import timezone

from annotation.access import LEADS, require_role
from annotation.errors import AnnotationError, RoundClosedError, RoundConfigError, StateError
from annotation.models import ItemUpload, Round, User
from annotation.services.importing_items import AddedItems, add_items, check_items
from records.errors import RecordError
from records.item_files import ENDINGS, open_item_file
from records.round_items import ItemKind
from registry.paths import data_dir

MAX_UPLOAD_BYTES = 100 * 2**20
MAX_UNPACKED_BYTES = 500 * 2**20
"""What a gzipped upload may unpack to; the command has no such bound."""
MAX_NAME_CHARACTERS = 200

State = ItemUpload.State


def receive_items(*, lead: User, round_: Round, name: str, chunks: Iterable[bytes]) -> ItemUpload:
    """Store a file for a round that asks imported items; it waits for a worker to check it.

    Args:
        lead: Who uploads it.
        round_: The round its items are for.
        name: The file's name; one that ends in `.gz` is unpacked. It names no place here.
        chunks: Its bytes.

    Raises:
        NotAllowedError: `lead` is no lead.
        RoundClosedError: The round takes no more work.
        RoundConfigError: The round's prompts are written by annotators, or the file is empty, too
            large, of another kind, or its name too long.
    """
    require_role(lead, LEADS)
    if not round_.is_imported:
        raise RoundConfigError("source", f"the prompts of {round_.name!r} are written in it")
    if not round_.is_open:
        raise RoundClosedError(round_.name, keeps_words=False)
    if len(name) > MAX_NAME_CHARACTERS:
        raise RoundConfigError(
            "file", f"its name has {len(name)} characters, more than {MAX_NAME_CHARACTERS}"
        )
    if not name.endswith(ENDINGS):
        raise RoundConfigError("file", f"{name!r} does not end in one of {', '.join(ENDINGS)}")
    upload = ItemUpload(round=round_, name=name, uploaded_by=lead)
    path = path_of(upload)
    try:
        upload.num_bytes = _write(path, chunks)
        with transaction.atomic():
            upload.save(force_insert=True)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return upload


def accept_upload(*, lead: User, upload: ItemUpload) -> ItemUpload:
    """Have the new items of a checked upload added. Idempotent.

    Raises:
        NotAllowedError: `lead` is no lead.
        StateError: It is not checked, or holds nothing new.
    """
    require_role(lead, LEADS)
    with transaction.atomic():
        locked = _locked(upload)
        if locked.state in (State.ADDING, State.ADDED):
            return locked
        if locked.state != State.CHECKED:
            raise StateError(locked.state, State.CHECKED, "upload")
        if not locked.num_items:
            raise StateError("without new items", "one that holds some", "upload")
        locked.state = State.ADDING
        locked.save(update_fields=["state"])
    return locked


def drop_upload(*, lead: User, upload: ItemUpload) -> ItemUpload:
    """Forget a checked upload; nothing of it is added. Idempotent.

    Raises:
        NotAllowedError: `lead` is no lead.
        StateError: A worker is at it, or it is over.
    """
    require_role(lead, LEADS)
    with transaction.atomic():
        locked = _locked(upload)
        if locked.state == State.DROPPED:
            return locked
        if locked.state != State.CHECKED:
            raise StateError(locked.state, State.CHECKED, "upload")
        _finish(locked, State.DROPPED)
    path_of(locked).unlink(missing_ok=True)
    return locked


def work_on_upload(
    upload_id: int, *, on_progress: Callable[[float], None] | None = None
) -> ItemUpload | None:
    """Check an upload, or add its items if a lead has accepted it; None if it is another's.

    The row stays locked meanwhile: a second worker finds nothing to do, and when one dies the next
    one begins anew. `on_progress` is told the share of the file that is read.
    """
    with transaction.atomic():
        waiting = ItemUpload.objects.select_related("round", "uploaded_by").filter(
            pk=upload_id, state__in=ItemUpload.WORKED_ON
        )
        upload = waiting.select_for_update(of=("self",), skip_locked=True, no_key=True).first()
        if upload is None:
            return None
        try:
            _work(upload, on_progress or (lambda _: None))
        except (RecordError, AnnotationError) as error:
            upload.error = str(error)
            _finish(upload, State.REFUSED)
    if not upload.is_worked_on and upload.state != State.CHECKED:
        path_of(upload).unlink(missing_ok=True)
    return upload


def fail_upload(*, upload_id: int, error: str) -> None:
    """Refuse an upload whose worker met an error that nobody foresaw: a repeat would meet it."""
    with transaction.atomic():
        waiting = ItemUpload.objects.filter(pk=upload_id, state__in=ItemUpload.WORKED_ON)
        upload = waiting.select_for_update(no_key=True).first()
        if upload is None:
            return
        upload.error = error
        _finish(upload, State.REFUSED)
    path_of(upload).unlink(missing_ok=True)


def path_of(upload: ItemUpload) -> Path:
    """Return where the file of an upload lies."""
    return data_dir() / "uploads" / str(upload.uuid)


def _work(upload: ItemUpload, on_progress: Callable[[float], None]) -> None:
    """Read the file and move the upload on.

    Raises:
        RecordError: A line is wrong, or the file is gone.
        AnnotationError: The round does not take the items, or its lead may not add them any more.
    """
    round_ = upload.round
    with open_item_file(path_of(upload), name=upload.name, max_bytes=MAX_UNPACKED_BYTES) as file:
        items = file.items(ItemKind(round_.source))

        def tell(_: int) -> None:
            on_progress(file.share)

        lead = upload.uploaded_by
        if upload.state == State.CHECKING:
            found = check_items(lead=lead, round_=round_, items=items, on_progress=tell)
        else:
            found = add_items(
                lead=lead, round_=round_, items=items, on_progress=tell, skips_known=True
            )
    _note(upload, found)
    if upload.state == State.CHECKING:
        upload.state = State.CHECKED
        upload.save()
    else:
        _finish(upload, State.ADDED)


def _note(upload: ItemUpload, found: AddedItems) -> None:
    upload.num_items, upload.num_turns = found.num_items, found.num_turns
    upload.num_known = found.num_known
    upload.left_out = dict(found.left_out)


def _finish(upload: ItemUpload, state: str) -> None:
    upload.state, upload.finished_at = state, timezone.now()
    upload.save()


def _write(path: Path, chunks: Iterable[bytes]) -> int:
    """Write a file whole, and return its size.

    Raises:
        RoundConfigError: It is empty or too large.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    num_bytes = 0
    with path.open("xb") as file:
        for chunk in chunks:
            num_bytes += len(chunk)
            if num_bytes > MAX_UPLOAD_BYTES:
                bound = f"{MAX_UPLOAD_BYTES // 2**20} MB"
                raise RoundConfigError("file", f"it is larger than {bound}")
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if not num_bytes:
        raise RoundConfigError("file", "it is empty")
    return num_bytes


def _locked(upload: ItemUpload) -> ItemUpload:
    """Lock the row, after a worker that is at it."""
    return ItemUpload.objects.select_for_update(no_key=True).get(pk=upload.pk)
