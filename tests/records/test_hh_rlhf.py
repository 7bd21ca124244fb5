"""The hh-rlhf importer: every known irregularity is mended or skipped, and counted."""

import gzip
import json
import os
from pathlib import Path

import pytest

from records.dialogues import Dialogue
from records.errors import RecordError
from records.hh_rlhf import import_hh_rlhf, parse_dialogue, parse_pair
from records.imports import SkippedRowError
from records.preferences import Axis

START = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: more?\n\nAssistant:"


def write_rows(path: Path, *rows: tuple[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as file:
        for chosen, rejected in rows:
            file.write(json.dumps({"chosen": chosen, "rejected": rejected}) + "\n")


def test_the_prompt_is_all_that_both_sides_share() -> None:
    prompt, chosen, rejected, is_joined = parse_pair(START + " yes", START + " no")
    assert prompt == Dialogue.from_texts("hi", "hello", "more?")
    assert (chosen, rejected, is_joined) == ("yes", "no", False)


def test_role_names_inside_running_text_are_text() -> None:
    turns, _ = parse_dialogue("\n\nHuman: what does\nHuman: mean in Assistant: logs?")
    assert [turn.text for turn in turns] == ["what does\nHuman: mean in Assistant: logs?"]


def test_neighbouring_turns_of_one_role_are_joined() -> None:
    turns, is_joined = parse_dialogue("\n\nHuman: a\n\nHuman: b\n\nAssistant: c")
    assert [turn.text for turn in turns] == ["a\n\nb", "c"]
    assert is_joined


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        (START + " yes", START + " yes", "both sides are identical"),
        (START + " yes", START, "empty response"),
        (START + " yes", START + " no\n\nHuman: x\n\nAssistant: y", "sides differ before the last"),
        ("\n\nHuman: a\n\nAssistant: b", "\n\nHuman: c\n\nAssistant: d", "sides differ before"),
        ("Hello\n\nHuman: a\n\nAssistant: b", START + " no", "does not begin with a human turn"),
        ("\n\nHuman:\n\nAssistant: b", "\n\nHuman:\n\nAssistant: c", "empty turn in the prompt"),
    ],
)
def test_rows_without_a_comparison_are_skipped_with_a_reason(
    chosen: str, rejected: str, reason: str
) -> None:
    with pytest.raises(SkippedRowError, match=reason):
        parse_pair(chosen, rejected)


def test_an_import_counts_and_nothing_leaks_from_train_to_test(tmp_path: Path) -> None:
    other = START.replace("hi", "HI!")  # the same conversation, by its first human turn
    write_rows(tmp_path / "helpful" / "train.jsonl.gz", (START + " yes", START + " no"))
    write_rows(
        tmp_path / "harmless" / "test.jsonl.gz",
        (other + " a", other + " b"),
        ("\n\nHuman: steal?\n\nAssistant: no", "\n\nHuman: steal?\n\nAssistant: sure"),
    )
    data = import_hh_rlhf(tmp_path)
    assert data.report.num_read == 3
    assert data.report.num_kept == len(data.preferences) == 2
    assert data.report.skipped == {"conversation is also in train": 1}
    helpful, harmless = data.preferences
    assert (helpful.axis, harmless.axis) == (Axis.HELPFULNESS, Axis.SAFETY)
    assert harmless.is_safety_prompt
    assert not helpful.is_safety_prompt
    assert [data.splits[p.dialogue_id] for p in data.preferences] == ["train", "test"]


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="data: no train"):
        import_hh_rlhf(tmp_path)


def test_the_shared_set_is_read_with_every_exception_counted() -> None:
    if "CONCORD_DATA" not in os.environ:
        pytest.skip("CONCORD_DATA does not point to the shared data sets")
    report = import_hh_rlhf(Path(os.environ["CONCORD_DATA"]) / "hh-rlhf").report
    assert report.num_read == 6691
    assert report.skipped["both sides are identical"] == 31
    assert report.skipped["empty response"] == 8
    assert report.mended["neighbouring turns of one role joined"] == 20
    assert report.num_kept + report.skipped.total() == report.num_read
