"""Artifacts are whole, named by their content, and stored once."""

import hashlib
from pathlib import Path

import pytest
from django.db import IntegrityError, transaction

from records.dialogues import Dialogue
from records.preferences import Axis, Preference
from records.snapshots import read_snapshot, write_snapshot
from registry.errors import ArtifactError, NameTakenError
from registry.models import Artifact, Snapshot
from registry.services import publish_artifact, register_snapshot
from tests.factories import make_policy_version
from tests.races import run_at_once


def a_folder(tmp_path: Path, name: str = "model", text: str = "weights") -> Path:
    folder = tmp_path / name
    (folder / "inner").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "inner" / "model.bin").write_text(text)
    return folder


def a_snapshot_folder(tmp_path: Path, name: str = "snapshot", response: str = "Four.") -> Path:
    preference = Preference(
        preference_id="p1",
        dialogue_id="d1",
        prompt=Dialogue.from_texts("Two and two?"),
        chosen=response,
        rejected="Five.",
        axis=Axis.HELPFULNESS,
    )
    write_snapshot(tmp_path / name, [preference], selection={})
    return tmp_path / name


@pytest.mark.django_db
def test_a_file_is_stored_under_the_digest_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(b"one line\n")

    artifact = publish_artifact(path=path, kind="prompts")

    expected = hashlib.sha256(b"one line\n").hexdigest()
    assert artifact.digest == expected
    assert artifact.path == f"artifacts/{expected[:2]}/{expected}"
    assert artifact.num_bytes == 9
    assert artifact.location.read_bytes() == b"one line\n"
    assert path.exists(), "the source stays where it is"


@pytest.mark.django_db
def test_a_folder_keeps_its_tree(tmp_path: Path) -> None:
    artifact = publish_artifact(path=a_folder(tmp_path), kind="policy")

    assert (artifact.location / "inner" / "model.bin").read_text() == "weights"
    # digest_path: lines "name NUL digest" of the files in sorted order.
    lines = "".join(
        f"{name}\0{hashlib.sha256(data).hexdigest()}\n"
        for name, data in (("config.json", b"{}"), ("inner/model.bin", b"weights"))
    )
    assert artifact.digest == hashlib.sha256(lines.encode()).hexdigest()
    assert artifact.num_bytes == len("{}") + len("weights")


@pytest.mark.django_db
def test_equal_content_is_one_artifact(tmp_path: Path) -> None:
    first = publish_artifact(path=a_folder(tmp_path, "one"), kind="policy")
    second = publish_artifact(path=a_folder(tmp_path, "two"), kind="policy")

    assert first == second
    assert Artifact.objects.count() == 1


@pytest.mark.django_db
def test_later_changes_of_the_source_do_not_reach_the_artifact(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    artifact = publish_artifact(path=folder, kind="policy")

    (folder / "config.json").write_text("changed")

    assert (artifact.location / "config.json").read_text() == "{}"


@pytest.mark.django_db
def test_nothing_half_done_stays_behind(tmp_path: Path) -> None:
    artifact = publish_artifact(path=a_folder(tmp_path), kind="policy")
    publish_artifact(path=a_folder(tmp_path, "again"), kind="policy")

    incoming = artifact.location.parent.parent / "incoming"
    assert list(incoming.iterdir()) == []


@pytest.mark.django_db
def test_a_link_is_refused(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    (folder / "secret").symlink_to("/etc/hostname")

    with pytest.raises(ArtifactError, match="secret is a link"):
        publish_artifact(path=folder, kind="policy")
    assert not Artifact.objects.exists()


@pytest.mark.django_db
def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nothing at"):
        publish_artifact(path=tmp_path / "absent", kind="policy")


@pytest.mark.django_db
def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="'model' is not a kind of artifact: policy,"):
        publish_artifact(path=a_folder(tmp_path), kind="model")


@pytest.mark.django_db(transaction=True)
def test_publishing_at_once_gives_one_artifact(tmp_path: Path) -> None:
    folders = [a_folder(tmp_path, f"copy{i}") for i in range(4)]

    results = run_at_once([lambda f=f: publish_artifact(path=f, kind="policy") for f in folders])

    assert [result for result in results if isinstance(result, Exception)] == []
    assert Artifact.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"digest": "not hex"}, "registry_artifact_digest_is_hex"),
        ({"num_bytes": -1}, "registry_artifact_num_bytes_not_negative"),
    ],
)
def test_the_database_refuses(values: dict[str, object], constraint: str) -> None:
    good = {"digest": "0" * 64, "kind": "policy", "path": "x", "num_bytes": 1}
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Artifact.objects.create(**{**good, **values})


@pytest.mark.django_db
def test_the_database_refuses_a_second_row_of_one_digest() -> None:
    artifact = make_policy_version().artifact
    with pytest.raises(IntegrityError, match="digest_unique"), transaction.atomic():
        Artifact.objects.create(digest=artifact.digest, kind="policy", path="x", num_bytes=1)


@pytest.mark.django_db
def test_a_snapshot_is_registered_with_its_manifest(tmp_path: Path) -> None:
    snapshot = register_snapshot(name="week 1", path=a_snapshot_folder(tmp_path))

    assert snapshot.manifest["num_rows"] == 1
    assert snapshot.manifest["num_by_axis"] == {"helpfulness": 1}
    assert [p.chosen for p in read_snapshot(snapshot.artifact.location)] == ["Four."]
    assert snapshot.round_names == []


@pytest.mark.django_db
def test_registering_the_same_snapshot_again_changes_nothing(tmp_path: Path) -> None:
    first = register_snapshot(name="week 1", path=a_snapshot_folder(tmp_path, "one"))
    second = register_snapshot(name="week 1", path=a_snapshot_folder(tmp_path, "two"))

    assert first == second
    assert Snapshot.objects.count() == 1


@pytest.mark.django_db
def test_a_snapshot_name_belongs_to_one_content(tmp_path: Path) -> None:
    register_snapshot(name="week 1", path=a_snapshot_folder(tmp_path, "one"))

    with pytest.raises(NameTakenError, match="snapshot 'week 1' exists already"):
        register_snapshot(name="week 1", path=a_snapshot_folder(tmp_path, "two", "4"))
