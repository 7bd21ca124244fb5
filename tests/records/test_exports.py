"""Exports for TRL: the four columns, the margins, and a template that gives our very ids."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from language.chat import encode_dialogue
from records.__main__ import main
from records.dialogues import Dialogue
from records.exports import export_for_trl, messages_of
from records.preferences import Axis, Rating
from records.reward_configs import MARGINS, MarginTable
from records.snapshots import write_snapshot
from tests.models import tiny_tokenizer
from tests.rewardmodels.toys import preference


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    prompt = Dialogue.from_texts("hello", "hello there", "how are you?", system="be kind")
    rows = [
        preference(0, prompt=prompt, rating=Rating.BETTER, chosen="i am fine", rejected="go away"),
        preference(1, rating=None),
        preference(2, chosen="the red house", rejected=" the red house  "),
        preference(3, axis=Axis.SAFETY),
    ]
    splits = {"d0": "train", "d1": "train", "d2": "train", "d3": "test"}
    write_snapshot(tmp_path / "snapshot", rows, selection={}, splits=splits)
    return tmp_path / "snapshot"


def test_a_row_is_prompt_chosen_rejected_and_the_margin_of_its_rating(
    snapshot: Path, tmp_path: Path
) -> None:
    counts = export_for_trl(snapshot, tmp_path / "out", margins=MARGINS[MarginTable.LARGE])
    assert counts == {"train": 2, "test": 1, "identical": 1}
    table = pq.read_table(tmp_path / "out" / "train.parquet")
    assert table.column_names == ["prompt", "chosen", "rejected", "margin"]
    first, second = table.to_pylist()
    assert first == {
        "prompt": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "hello there"},
            {"role": "user", "content": "how are you?"},
        ],
        "chosen": [{"role": "assistant", "content": "i am fine"}],
        "rejected": [{"role": "assistant", "content": "go away"}],
        "margin": 2.0,
    }
    assert second["margin"] == 0.0  # without a rating there is no margin


def test_the_command_exports_one_axis_and_says_how_much(
    snapshot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export-trl", str(snapshot), str(tmp_path / "out"), "--axis", "safety"]) == 0
    assert json.loads(capsys.readouterr().out) == {"train": 0, "test": 1, "identical": 0}
    assert pq.read_table(tmp_path / "out" / "train.parquet").num_rows == 0


def test_a_folder_that_is_no_snapshot_is_an_error_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export-trl", str(tmp_path / "nowhere"), str(tmp_path / "out")]) == 1
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("system", ["", "be kind"])
def test_the_template_gives_the_ids_that_our_own_training_reads(
    system: str, snapshot: Path, tmp_path: Path
) -> None:
    export_for_trl(snapshot, tmp_path / "out")
    template = (tmp_path / "out" / "chat_template.jinja").read_text()
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    prompt = Dialogue.from_texts(" hello ", "hello there\n\nyou", "what is\nit?", system=system)
    item = preference(5, prompt=prompt, chosen=" the red house ")
    answer = {"role": "assistant", "content": item.chosen}
    encoded = tokenizer.apply_chat_template(
        [*messages_of(item), answer], chat_template=template, tokenize=True, return_dict=True
    )
    assert encoded["input_ids"] == list(
        encode_dialogue(tiny_tokenizer(), prompt.followed_by(item.chosen)).ids
    )
