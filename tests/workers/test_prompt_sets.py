"""Prompts for training and evaluation come from an artifact, or from what annotators wrote."""

import tempfile
from pathlib import Path

import pytest

from annotation.snapshots import import_preferences
from records.dialogues import Dialogue
from records.errors import RecordError
from records.preferences import Axis, Preference
from records.prompts import Prompt, read_prompts, write_prompts
from registry.models import Artifact, Snapshot
from registry.services import publish_artifact
from workers.prompt_sets import PromptUse, prompt_set

pytestmark = pytest.mark.django_db


def snapshot(num_dialogues: int = 60, *, name: str = "asked") -> Snapshot:
    """Two turns a dialogue; every fourth dialogue is on the test side."""
    preferences = [
        Preference(
            preference_id=f"p{dialogue}.{turn}",
            dialogue_id=f"d{dialogue}",
            prompt=Dialogue.from_texts(*(f"{dialogue}:{i}" for i in range(2 * turn + 1))),
            chosen="yes",
            rejected="no",
            axis=Axis.HELPFULNESS,
            is_safety_prompt=dialogue % 2 == 0,
        )
        for dialogue in range(num_dialogues)
        for turn in range(2)
    ]
    splits = {f"d{i}": "test" if i % 4 == 0 else "train" for i in range(num_dialogues)}
    return import_preferences(preferences=preferences, name=name, splits=splits)


def drawn(source: Snapshot, use: PromptUse, *, max_prompts: int = 1000) -> list[Prompt]:
    artifact = prompt_set("", snapshot=source, use=use, max_prompts=max_prompts)
    assert artifact.kind == Artifact.Kind.PROMPTS
    return list(read_prompts(artifact.location))


def dialogues_of(prompts: list[Prompt]) -> set[str]:
    return {prompt.prompt_id.split(".")[0] for prompt in prompts}


def test_training_takes_the_train_side_and_keeps_the_safety_tag() -> None:
    prompts = drawn(snapshot(), PromptUse.TRAINING)
    assert len(prompts) == 90  # 45 of 60 dialogues, two turns each
    by_id = {prompt.prompt_id: prompt for prompt in prompts}
    assert by_id["p2.0"].is_safety
    assert not by_id["p1.0"].is_safety
    assert by_id["p1.1"].dialogue == Dialogue.from_texts("1:0", "1:1", "1:2")


def test_no_dialogue_serves_two_uses() -> None:
    source = snapshot()
    sets = [dialogues_of(drawn(source, use)) for use in PromptUse]
    assert [len(item) for item in sets] == [45, len(sets[1]), 15 - len(sets[1])]
    assert 0 < len(sets[1]) < 15
    assert sets[0].isdisjoint(sets[1] | sets[2])
    assert sets[1].isdisjoint(sets[2])


def test_equal_snapshots_give_equal_prompts_and_fewer_are_a_beginning_of_more() -> None:
    source = snapshot()
    assert drawn(source, PromptUse.TRAINING) == drawn(source, PromptUse.TRAINING)
    few = drawn(source, PromptUse.TRAINING, max_prompts=7)
    assert few == drawn(source, PromptUse.TRAINING)[:7]
    assert dialogues_of(few) != {"p1", "p2", "p3", "p5"}  # not simply the oldest


def test_a_digest_names_prompts_of_ones_own() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prompts.jsonl"
        write_prompts(path, [Prompt(prompt_id="mine", dialogue=Dialogue.from_texts("hello"))])
        artifact = publish_artifact(path=path, kind=Artifact.Kind.PROMPTS)
    found = prompt_set(artifact.digest, snapshot=snapshot(), use=PromptUse.TRAINING, max_prompts=1)
    assert found == artifact


def test_a_digest_of_anything_else_is_refused() -> None:
    source = snapshot()
    with pytest.raises(RecordError, match="no artifact of prompts"):
        prompt_set(source.artifact.digest, snapshot=source, use=PromptUse.TRAINING, max_prompts=1)


def test_a_snapshot_without_a_test_side_says_that_prompts_are_missing() -> None:
    source = snapshot(1)  # its one dialogue is on the test side
    with pytest.raises(RecordError, match="has no prompts for training"):
        drawn(source, PromptUse.TRAINING)
