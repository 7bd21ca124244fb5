"""Publishing artifacts: files go in under the name of their content, whole or not at all."""

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from django.db import transaction

from records.digests import digest_path
from records.files import sync_folder
from records.snapshots import SnapshotManifest, read_manifest
from registry.errors import ArtifactError, NameTakenError
from registry.models import Artifact, Run, Snapshot
from registry.paths import artifact_path, data_dir


def publish_artifact(*, path: Path, kind: str, run: Run | None = None) -> Artifact:
    """Store the file or folder at `path` under its digest and return its row.

    Publishing the same content twice, or from two processes at once, gives one row and one copy.

    Args:
        path: What to publish; it stays where it is.
        kind: One of `Artifact.Kind`.
        run: The run in whose folder `path` lies, if any. Its files are linked rather than copied
            where the file system allows: nothing writes to them after the run has finished.

    Raises:
        ArtifactError: There is nothing at `path`, it holds links, or `kind` is not known.
    """
    if kind not in Artifact.Kind.values:
        raise ArtifactError(
            f"{kind!r} is not a kind of artifact: {', '.join(Artifact.Kind.values)}"
        )
    digest, num_bytes = _store(path, copy=shutil.copy2 if run is None else _link_or_copy)
    with transaction.atomic():
        artifact, _ = Artifact.objects.get_or_create(
            digest=digest,
            defaults={"kind": kind, "path": artifact_path(digest), "num_bytes": num_bytes},
        )
    return artifact


def register_snapshot(*, name: str, path: Path) -> Snapshot:
    """Publish the snapshot folder at `path` and return its row.

    The same content under the same name is the same snapshot, so a repeat changes nothing.

    Raises:
        NameTakenError: Another snapshot has this name.
        RecordError: `path` is not a snapshot that this version reads.
    """
    manifest = read_manifest(path)
    artifact = publish_artifact(path=path, kind=Artifact.Kind.SNAPSHOT)
    with transaction.atomic():
        snapshot, is_new = Snapshot.objects.get_or_create(
            name=name, defaults={"artifact": artifact, "manifest": _manifest_json(manifest)}
        )
    if not is_new and snapshot.artifact_id != artifact.pk:
        raise NameTakenError("snapshot", name)
    return snapshot


def _manifest_json(manifest: SnapshotManifest) -> dict[str, object]:
    return dict(vars(manifest))


def _store(path: Path, *, copy: Callable[[str, str], object]) -> tuple[str, int]:
    """Bring `path` into the artifact store; return digest and size.

    What is hashed is the staged copy, so the name always fits the content.
    """
    _refuse_links(path)
    incoming = data_dir() / "artifacts" / "incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    staged = incoming / uuid.uuid4().hex
    try:
        if path.is_dir():
            shutil.copytree(path, staged, copy_function=copy)
        else:
            copy(str(path), str(staged))
        num_bytes = _sync(staged)
        digest = digest_path(staged)
        target = data_dir() / artifact_path(digest)
        target.parent.mkdir(exist_ok=True)
        try:
            staged.rename(target)
        except OSError:
            # A folder is never renamed over a full one: this content is already there.
            if not target.exists():
                raise
        sync_folder(target.parent)
    finally:
        if staged.is_dir():
            shutil.rmtree(staged)
        else:
            staged.unlink(missing_ok=True)
    return digest, num_bytes


def _refuse_links(path: Path) -> None:
    if not path.exists():
        raise ArtifactError(f"there is nothing at {path} to publish")
    for item in (path, *(path.rglob("*") if path.is_dir() else ())):
        if item.is_symlink():
            raise ArtifactError(f"{item} is a link; an artifact holds its files itself")


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _sync(path: Path) -> int:
    """Flush a file, or all files of a folder, to disk; return their size in bytes."""
    items = [path, *path.rglob("*")] if path.is_dir() else [path]
    num_bytes = 0
    for item in items:
        if item.is_dir():
            sync_folder(item)
            continue
        with item.open("rb") as file:
            os.fsync(file.fileno())
        num_bytes += item.stat().st_size
    return num_bytes
