"""The command `score`: every row of the input comes out, with its scores or without."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from language.chat import encode_prompt, encode_response
from language.models import save_model
from language.rows import TokenRow
from language.scalars import create_scalar_model
from records.dialogues import Dialogue
from records.preferences import Axis
from records.prompts import Demonstration, write_demonstrations
from rewardmodels.scorefiles import main
from rewardmodels.scoring import load_score_fn
from tests.models import tiny_tokenizer, write_tiny_policy
from tests.rewardmodels.toys import preference, write_toy_snapshot


@pytest.fixture(scope="module")
def reward_models(tmp_path_factory: pytest.TempPathFactory) -> dict[Axis, Path]:
    folder = tmp_path_factory.mktemp("models")
    policy = write_tiny_policy(folder / "policy")
    for seed, axis in enumerate(Axis):
        save_model(create_scalar_model(policy, seed=seed), tiny_tokenizer(), folder / axis.value)
    return {axis: folder / axis.value for axis in Axis}


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def served(
    reward_models: dict[Axis, Path], prompt: Dialogue, response: str
) -> dict[Axis, torch.Tensor]:
    tokenizer = tiny_tokenizer()
    score_fn = load_score_fn(
        reward_models, device=torch.device("cpu"), dtype=torch.float32, rows_per_batch=1
    )
    prompt_ids = tuple(encode_prompt(tokenizer, prompt))
    return score_fn([TokenRow(prompt_ids, tuple(encode_response(tokenizer, response)))])


def test_responses_of_a_json_lines_file_get_their_scores(
    reward_models: dict[Axis, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = Dialogue.from_texts("how are you?")
    responses = ["i am fine", "tea " * 300, "go away"]
    write_demonstrations(
        tmp_path / "in.jsonl", [Demonstration(prompt=prompt, response=r) for r in responses]
    )
    folders = [f"--{axis.value}={path}" for axis, path in reward_models.items()]
    arguments = [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "--device=cpu"]
    assert main([*arguments, *folders]) == 0
    lines = lines_of(tmp_path / "out.jsonl")
    assert [line["response"] for line in lines] == responses
    assert lines[1]["scores"] is None  # longer than the model's positions
    assert "3 rows, 1 of them too long" in capsys.readouterr().out
    for line in (lines[0], lines[2]):
        expected = served(reward_models, prompt, line["response"])
        for axis in Axis:
            assert line["scores"][axis.value] == pytest.approx(expected[axis].item(), abs=1e-5)


def test_both_responses_of_a_snapshots_preferences_get_their_scores(
    reward_models: dict[Axis, Path], tmp_path: Path
) -> None:
    folder = write_toy_snapshot(tmp_path / "s", [preference(0), preference(1)])
    safety = reward_models[Axis.SAFETY]
    assert main([str(folder), str(tmp_path / "out.jsonl"), f"--safety={safety}"]) == 0
    lines = lines_of(tmp_path / "out.jsonl")
    assert [(line["preference_id"], line["side"]) for line in lines] == [
        ("p0", "chosen"),
        ("p0", "rejected"),
        ("p1", "chosen"),
        ("p1", "rejected"),
    ]
    expected = served({Axis.SAFETY: safety}, preference(1).prompt, preference(1).rejected)
    assert list(lines[3]["scores"]) == ["safety"]
    assert lines[3]["scores"]["safety"] == pytest.approx(expected[Axis.SAFETY].item(), abs=1e-5)


def test_without_a_reward_model_it_says_which_options_to_give(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")])
    assert "--helpfulness FOLDER or --safety FOLDER" in capsys.readouterr().err
