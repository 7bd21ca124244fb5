"""Snapshots: the same preferences give the same digest, and no dialogue is on both sides."""

import json
from pathlib import Path

import pytest

from records.dialogues import Dialogue
from records.errors import RecordError
from records.preferences import Axis, Preference, Rating
from records.snapshots import read_manifest, read_snapshot, split_of, write_snapshot


def preferences(count: int) -> list[Preference]:
    return [
        Preference(
            preference_id=f"p{i}",
            dialogue_id=f"d{i // 3}",
            prompt=Dialogue.from_texts(f"question {i}"),
            chosen="yes ✓",
            rejected="no",
            axis=Axis.SAFETY if i % 4 == 0 else Axis.HELPFULNESS,
            rating=list(Rating)[i % 4],
        )
        for i in range(count)
    ]


def test_a_snapshot_gives_back_what_was_written(tmp_path: Path) -> None:
    rows = preferences(300)
    manifest = write_snapshot(tmp_path / "s", rows, selection={"rounds": ["one"]})
    assert list(read_snapshot(tmp_path / "s")) == rows
    assert manifest == read_manifest(tmp_path / "s")
    assert manifest.num_train + manifest.num_test == manifest.num_rows == 300
    assert manifest.num_by_axis == {"helpfulness": 225, "safety": 75}
    assert manifest.selection == {"rounds": ["one"]}


def test_equal_preferences_give_equal_digests_and_others_do_not(tmp_path: Path) -> None:
    rows = preferences(50)
    first = write_snapshot(tmp_path / "a", rows, selection={})
    again = write_snapshot(tmp_path / "b", rows, selection={})
    other = write_snapshot(tmp_path / "c", rows[:-1], selection={})
    assert first.digest == again.digest
    assert first.digest != other.digest


def test_no_dialogue_is_on_both_sides(tmp_path: Path) -> None:
    write_snapshot(tmp_path / "s", preferences(600), selection={}, test_share=0.3)
    train = {p.dialogue_id for p in read_snapshot(tmp_path / "s", split="train")}
    test = {p.dialogue_id for p in read_snapshot(tmp_path / "s", split="test")}
    assert train
    assert test
    assert not train & test


def test_the_split_depends_on_the_dialogue_alone_and_meets_its_share() -> None:
    splits = [split_of(f"dialogue {i}", test_share=0.2) for i in range(5000)]
    # Binomial: 1000 expected, standard deviation 28; five of them either way.
    assert 860 < splits.count("test") < 1140
    assert splits == [split_of(f"dialogue {i}", test_share=0.2) for i in range(5000)]


def test_a_split_that_comes_with_the_data_is_kept(tmp_path: Path) -> None:
    rows = preferences(6)
    write_snapshot(tmp_path / "s", rows, selection={}, splits={"d0": "test", "d1": "train"})
    assert [p.dialogue_id for p in read_snapshot(tmp_path / "s", split="test")] == ["d0"] * 3


def test_another_schema_version_is_refused_by_name(tmp_path: Path) -> None:
    write_snapshot(tmp_path / "s", preferences(3), selection={})
    path = tmp_path / "s" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(RecordError, match="schema_version: 99 is not 1"):
        list(read_snapshot(tmp_path / "s"))


def test_a_failed_write_leaves_no_snapshot_behind(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="at least one preference"):
        write_snapshot(tmp_path / "s", [], selection={})
    with pytest.raises(RecordError, match=r"test_share: 1\.0 is outside"):
        write_snapshot(tmp_path / "s", preferences(1), selection={}, test_share=1.0)
    assert list(tmp_path.iterdir()) == []
