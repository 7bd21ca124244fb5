"""Importers of graded sets: aligned by model, counted, and exact about what is wrong where."""

import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from records.dialogues import Dialogue
from records.errors import RecordError
from records.graded import (
    GradedComparison,
    GradedImport,
    GradedJudgement,
    ModelResponse,
    aligned,
    labels_of,
)
from records.graded_sets import GRADED_SETS, read_graded_set
from records.preferences import Axis

TULU = {
    "annotation_id": 1,
    "instance_id": "task_1",
    "prompt": "Name a fruit.\n",
    "model_a": "zebra",
    "model_b": "ape",
    "completion_a": "An apple.",
    "completion_b": "A stone.",
    "preference": "a-is-better",
    "evaluator": "ann_01",
    "timestamp": "2023-05-18T19:57:27",
}
PANDALM = {
    "idx": 3,
    "cmp_key": "bloom-7b_ape-1.5",
    "instruction": "Is it so?",
    "input": "Snow is white.",
    "response1": True,
    "response2": "Yes.",
    "annotator1": 1,
    "annotator2": 2,
    "annotator3": 0,
}


def write(folder: Path, name: str, *rows: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / name, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return folder


def write_tulu(folder: Path, *changes: dict[str, Any]) -> Path:
    return write(folder, "annotations.jsonl.gz", *({**TULU, **change} for change in changes))


def read(name: str, folder: Path) -> tuple[list[GradedComparison], GradedImport]:
    data = read_graded_set(name, folder)
    return list(data.comparisons), data


def test_the_order_of_the_models_decides_and_the_grade_turns_with_it() -> None:
    ape, zebra = ModelResponse("ape", "a"), ModelResponse("zebra", "z")
    assert aligned((ape, zebra), 2) == (ape, zebra, 2)
    assert aligned((zebra, ape), 2) == (ape, zebra, -2)


def test_two_annotations_of_one_comparison_meet_whichever_side_a_model_was_on(
    tmp_path: Path,
) -> None:
    turned = {
        "model_a": TULU["model_b"],
        "model_b": TULU["model_a"],
        "completion_a": TULU["completion_b"],
        "completion_b": TULU["completion_a"],
        "preference": "b-is-slightly-better",
        "evaluator": "ann_02",
        "timestamp": "2023-05-01T00:00:00",
    }
    (comparison,), data = read("tulu1", write_tulu(tmp_path, {}, turned))
    assert comparison.first == ModelResponse("ape", "A stone.")
    assert comparison.prompt == Dialogue.from_texts("Name a fruit.")
    # Both prefer the zebra, the second response; the earlier one slightly.
    assert [(j.annotator, j.grade) for j in comparison.judgements] == [
        ("ann_02", -1),
        ("ann_01", -2),
    ]
    assert list(labels_of([comparison], 2)) == [
        ("task_1 ape zebra", "ann_02", 3),
        ("task_1 ape zebra", "ann_01", 4),
    ]
    assert (data.report.num_read, data.report.num_kept) == (2, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preference": "a-rocks"}, "preference: .* line 2: 'a-rocks' is not one of a-is-better"),
        ({"evaluator": ""}, "evaluator: annotations.jsonl.gz line 2: is empty"),
        ({"model_b": "zebra"}, "model_b: .* line 2: 'zebra' is model_a too"),
        ({"completion_a": "A pear."}, "completion_a: .* line 2: differs from line 1"),
        ({"prompt": 7}, "prompt: .* line 1: 7 is not text"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_field(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    rows = [change] if "line 1" in message and "line 2" not in message else [{}, change]
    with pytest.raises(RecordError, match=message):
        read("tulu1", write_tulu(tmp_path, *rows))


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    row = {name: value for name, value in TULU.items() if name != "evaluator"}
    folder = write(tmp_path, "annotations.jsonl.gz", row)
    with pytest.raises(RecordError, match=r"evaluator: annotations.jsonl.gz line 1: is missing"):
        read("tulu1", folder)


def test_what_is_no_json_and_no_gzip_is_named(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "annotations.jsonl.gz", "wt") as file:
        file.write("{]\n")
    with pytest.raises(RecordError, match="line 1 is no JSON"):
        read("tulu1", tmp_path)
    (tmp_path / "annotations.jsonl.gz").write_text("plain")
    with pytest.raises(RecordError, match="is not gzipped"):
        read("tulu1", tmp_path)


def test_a_truth_value_is_the_word_it_was_and_three_people_judge(tmp_path: Path) -> None:
    (comparison,), data = read("pandalm", write(tmp_path, "testset-v1.shared.jsonl.gz", PANDALM))
    assert comparison.first == ModelResponse("ape-1.5", "Yes.")
    assert comparison.second == ModelResponse("bloom-7b", "True")
    assert comparison.prompt == Dialogue.from_texts("Is it so?\n\nSnow is white.")
    assert [judgement.grade for judgement in comparison.judgements] == [-1, 1, 0]
    assert data.report.mended == {"response held as a truth value": 1}


def test_four_answers_make_six_pairs_of_one_dialogue(tmp_path: Path) -> None:
    row = {
        "question": "Who?",
        "passages": [["Title", "Title\n\nIt was Ann.", "And Bob."]],
        **{f"prediction {number}": f"Answer {number}." for number in range(1, 5)},
        "preference": [0, 1, 2, 1, 1, 2],
    }
    folder = write(tmp_path, "qa_feedback_dev.shared.jsonl.gz", row)
    comparisons, _ = read("fine-grained-rlhf", folder)
    assert len({item.dialogue_id for item in comparisons}) == 1
    assert [(c.first.text, c.second.text, c.judgements[0].grade) for c in comparisons[:3]] == [
        ("Answer 1.", "Answer 2.", 0),
        ("Answer 1.", "Answer 3.", 1),
        ("Answer 1.", "Answer 4.", -1),
    ]
    assert comparisons[0].prompt.turns[0].text == "Title\n\nIt was Ann. And Bob.\n\nWho?"
    bad = write(tmp_path, "qa_feedback_dev.shared.jsonl.gz", {**row, "preference": [0, 1]})
    with pytest.raises(RecordError, match=r"preference: .* line 1: .* is not six numbers"):
        read("fine-grained-rlhf", bad)


def message(name: str, role: str, *replies: dict[str, Any], rank: int | None = None) -> Any:
    return {"message_id": name, "text": f"text {name}", "role": role, "rank": rank,
            "replies": list(replies)}  # fmt: skip


def test_ranked_siblings_of_a_tree_are_pairs_with_their_way_from_the_root(tmp_path: Path) -> None:
    deep = message(
        "q2",
        "prompter",
        message("b1", "assistant", rank=1),
        message("b0", "assistant", rank=0),
        message("b-", "assistant"),
    )
    root = message("q1", "prompter", message("a0", "assistant", deep, rank=0))
    alone = message("q3", "prompter", message("c0", "assistant", rank=0))
    folder = write(
        tmp_path,
        "en_100_tree.shared.jsonl.gz",
        {"message_tree_id": "tree", "prompt": root},
        {"message_tree_id": "bare", "prompt": alone},
    )
    (comparison,), data = read("oasst", folder)
    assert comparison.prompt == Dialogue.from_texts("text q1", "text a0", "text q2")
    assert comparison.dialogue_id == "tree"
    assert (comparison.first.text, comparison.judgements[0].grade) == ("text b0", 1)
    assert data.report.skipped == {"tree without two ranked siblings": 1}


def test_turns_of_a_dialogue_are_found_in_hhh_and_its_axis_is_safety_where_harm_is_meant(
    tmp_path: Path,
) -> None:
    row = {"subset": "harmless", "prompt": "Hi\n\nAssistant: Hello\n\nHuman: How?"}
    pair = {"chosen": "No.", "rejected": "So."}
    other = {"subset": "helpful", "prompt": "Hi", "chosen": "Yes.", "rejected": "No."}
    folder = write(tmp_path, "hhh_alignment.jsonl.gz", {**row, **pair}, other)
    (harmless, helpful), _ = read("hhh", folder)
    assert harmless.prompt == Dialogue.from_texts("Hi", "Hello", "How?")
    assert (harmless.axis, helpful.axis) == (Axis.SAFETY, Axis.HELPFULNESS)
    assert (harmless.first.text, harmless.judgements[0].grade) == ("No.", 1)
    # The order of the texts, not which of them was chosen, decides what comes first.
    assert (helpful.first.text, helpful.judgements[0].grade) == ("No.", -1)


def test_what_nobody_could_be_shown_says_why() -> None:
    def pair(one: str, two: str) -> str:
        (comparison,) = [
            GradedComparison(
                comparison_id="x",
                dialogue_id="x",
                prompt=Dialogue.from_texts("Hi"),
                first=ModelResponse("a", one),
                second=ModelResponse("b", two),
                judgements=(GradedJudgement("ann", 1),),
            )
        ]
        return comparison.problem

    assert pair("", "x") == "empty response"
    assert pair(" x", "x\n") == "both sides are identical"
    assert pair("x", "y") == ""


def test_an_unknown_set_and_an_absent_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="set: 'tulu9' is not one of tulu1, pandalm"):
        read_graded_set("tulu9", tmp_path)
    with pytest.raises(RecordError, match="folder: there is no folder"):
        read_graded_set("tulu1", tmp_path / "nowhere")
    with pytest.raises(RecordError, match="data: there is no file"):
        read("tulu1", tmp_path)


@pytest.mark.parametrize(
    # Rows as in the sets' own description; comparisons and judgements as counted from them.
    ("name", "num_rows", "num_comparisons", "num_judgements"),
    [
        ("tulu1", 881, 771, 881),
        ("pandalm", 800, 800, 2400),
        ("fine-grained-rlhf", 397, 397 * 6, 397 * 6),
        ("oasst", 84, 619, 619),
        ("hhh", 221, 221, 221),
        ("llmbar", 100 + 134 + 92 + 200, 526, 526),
    ],
)
def test_the_shared_sets_are_read_whole(
    name: str, num_rows: int, num_comparisons: int, num_judgements: int
) -> None:
    if "CONCORD_DATA" not in os.environ:
        pytest.skip("CONCORD_DATA does not point to the shared data sets")
    comparisons, data = read(name, Path(os.environ["CONCORD_DATA"]))
    assert data.report.num_read == data.report.num_kept == num_rows
    assert len({item.comparison_id for item in comparisons}) == len(comparisons) == num_comparisons
    assert sum(len(item.judgements) for item in comparisons) == num_judgements
    degrees = data.source.num_degrees
    assert all(abs(j.grade) <= degrees for item in comparisons for j in item.judgements)


def test_the_shared_tulu_set_has_the_people_and_repeats_it_is_described_with() -> None:
    if "CONCORD_DATA" not in os.environ:
        pytest.skip("CONCORD_DATA does not point to the shared data sets")
    comparisons, _ = read("tulu1", Path(os.environ["CONCORD_DATA"]))
    people = [Counter(j.annotator for j in item.judgements) for item in comparisons]
    assert len(set().union(*people)) == 16
    assert sum(len(names) >= 2 for names in people) == 87
    assert sum(max(names.values()) > 1 for names in people) == 4


def test_every_set_says_how_it_is_licensed() -> None:
    assert {item.licence for item in GRADED_SETS.values()} == {"Apache-2.0", "MIT"}
