"""A policy of the Hugging Face hub: from its name to loaded weights, and why it cannot be had."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from language.chat import encode_prompt
from language.generation import GenerationRequest, generate
from language.kept_adapters import weights_digest
from language.models import load_policy
from language.tokenizers import load_tokenizer, tokenizer_digest
from records.dialogues import Dialogue
from records.errors import RecordError
from records.import_configs import ImportConfig
from records.run_configs import RunKind
from records.rundirs import RunDirectory
from tests.hub import COMMIT, NAME, hub_environment, write_fast_tokenizer, write_hub_cache
from tests.language.wires import Wire, response, wire
from tests.models import tiny_policy, tiny_tokenizer
from tests.policies.toys import create_run

ROOT = Path(__file__).resolve().parents[2]
BY_NAME = """
import json, sys
from language.chat import encode_prompt
from language.models import load_policy, max_positions_of
from language.tokenizers import load_tokenizer, tokenizer_digest
from records.dialogues import Dialogue
name = sys.argv[1]
policy, tokenizer = load_policy(name), load_tokenizer(name)
ids = encode_prompt(tokenizer, Dialogue.from_texts("hello"))
print(json.dumps({
    "norm": policy.model.norm.weight.sum().item(),
    "positions": max_positions_of(name),
    "class": type(tokenizer).__name__,
    "digest": tokenizer_digest(tokenizer),
    "prompt": tokenizer.decode(ids),
}))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    write_hub_cache(folder, tiny_policy(), write_fast_tokenizer)
    return folder


@pytest.fixture(scope="module")
def brought_in(home: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run that found the model in the cache, without a network."""
    directory = imported(tmp_path_factory.mktemp("run"), hub_environment(home))
    assert directory.read_failure() is None
    return directory


def imported(root: Path, environment: dict[str, str], **fields: str) -> RunDirectory:
    """Start the run as a worker does, by its command, and return its folder."""
    config = ImportConfig(device="cpu", **fields)
    directory, _ = create_run(root / "run", RunKind.IMPORT, config, {})
    command = [sys.executable, "-m", "policies", "import", str(directory.root)]
    subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=120)
    return directory


def failure_of(directory: RunDirectory) -> str:
    """Return why a run failed, which is said without a traceback."""
    failure = directory.read_failure()
    assert failure is not None
    assert failure["error"] in {"HubError", "UnusableModelError"}
    assert failure["traceback"] == ""
    return failure["message"]


@pytest.fixture
def refusing(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """A hub that answers every question with one status and error code."""
    status, code = request.param
    answer = response(b'{"error": "no"}', f"X-Error-Code: {code}", status=status)
    with wire(answer) as serving:
        yield serving


def test_a_name_is_all_that_loading_needs(home: Path) -> None:
    command = [sys.executable, "-c", BY_NAME, NAME]
    done = subprocess.run(
        command, cwd=ROOT, env=hub_environment(home), check=True, capture_output=True, timeout=120
    )
    said = json.loads(done.stdout)
    half = tiny_policy().model.norm.weight.half().float().sum().item()
    assert said["norm"] == pytest.approx(half, abs=1e-4)
    assert (said["positions"], said["class"]) == (256, "LlamaTokenizer")
    assert said["digest"] == tokenizer_digest(tiny_tokenizer())
    # No system prompt stands before a user's words unless somebody wrote one.
    assert said["prompt"] == "<s> [INST] hello [/INST]"


def test_the_run_writes_the_very_weights_and_a_tokenizer_of_ours(
    home: Path, brought_in: RunDirectory
) -> None:
    result = brought_in.read_result()
    assert result is not None
    assert result["summary"] == {
        "hub_name": NAME,
        "commit": COMMIT,
        "num_parameters": tiny_policy().num_parameters(),
        "dtype": "F16",
        "vocabulary_size": len(tiny_tokenizer()),
    }
    output = brought_in.outputs / "policy"
    (snapshot,) = (home / "hub").glob("*/snapshots/*")
    assert weights_digest(output) == weights_digest(snapshot)
    assert not any(path.is_symlink() for path in output.iterdir())
    assert len(list(output.glob("*.safetensors"))) > 1
    assert tokenizer_digest(load_tokenizer(output)) == tokenizer_digest(tiny_tokenizer())
    assert json.loads((output / "generation_config.json").read_text())["temperature"] == 0.6


def test_what_was_brought_in_answers_as_the_model_it_is(brought_in: RunDirectory) -> None:
    output = brought_in.outputs / "policy"
    original = tiny_policy()
    with torch.no_grad():
        for weight in original.parameters():
            weight.copy_(weight.half())
    ids = tuple(encode_prompt(load_tokenizer(output), Dialogue.from_texts("hello")))
    asked = [GenerationRequest(ids, 0.0, 1.0, 12, seed=0)]
    assert generate(load_policy(output), asked, eos_ids=[2]) == generate(
        original, asked, eos_ids=[2]
    )


def test_without_network_and_cache_the_run_says_what_to_do(tmp_path: Path) -> None:
    said = failure_of(imported(tmp_path, hub_environment(tmp_path)))
    assert f"{NAME} is not in {tmp_path}/hub, and HF_HUB_OFFLINE is set" in said
    assert f"hf download {NAME}" in said
    assert "manage.py register_policy NAME FOLDER" in said


def test_a_hub_that_does_not_answer_is_named(tmp_path: Path) -> None:
    away = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    said = failure_of(imported(tmp_path, hub_environment(tmp_path, **away)))
    assert "the hub at http://127.0.0.1:9 does not answer" in said


@pytest.mark.parametrize("refusing", [("401 Unauthorized", "GatedRepo")], indirect=True)
def test_a_gated_model_without_a_token_asks_for_licence_and_token(
    refusing: Wire, tmp_path: Path
) -> None:
    there = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": refusing.url}
    said = failure_of(imported(tmp_path, hub_environment(tmp_path, **there)))
    assert f"{NAME} is gated, and the worker has no token" in said
    assert f"Accept the licence on {refusing.url}/{NAME}" in said
    assert "set HF_TOKEN" in said


@pytest.mark.parametrize("refusing", [("403 Forbidden", "GatedRepo")], indirect=True)
def test_a_token_without_access_asks_for_the_licence(refusing: Wire, tmp_path: Path) -> None:
    there = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": refusing.url, "HF_TOKEN": "hf_of_a_stranger"}
    directory = imported(tmp_path, hub_environment(tmp_path, **there))
    said = failure_of(directory)
    assert "the account of the worker's HF_TOKEN has no access to it" in said
    assert any(b"hf_of_a_stranger" in heard for heard in refusing.heard)
    assert "hf_of_a_stranger" not in "".join(
        path.read_text() for path in directory.root.rglob("*") if path.is_file()
    )


@pytest.mark.parametrize("refusing", [("404 Not Found", "RepoNotFound")], indirect=True)
def test_a_name_that_the_hub_does_not_know_is_said_to_be_unknown(
    refusing: Wire, tmp_path: Path
) -> None:
    there = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": refusing.url}
    said = failure_of(imported(tmp_path, hub_environment(tmp_path, **there), hub_name="a/b"))
    assert "the hub has no model a/b" in said


def broken(kind: str, snapshot: Path) -> str:
    """Break a model of the cache; return what is to be said of it."""
    config_path = snapshot / "config.json"
    config: dict[str, Any] = json.loads(config_path.read_text())
    if kind == "another kind":
        config["model_type"] = "mistral"
    elif kind == "other shapes":
        config["intermediate_size"] += 8
    else:
        for path in snapshot.glob("*.safetensors"):
            path.unlink()
    config_path.unlink()
    config_path.write_text(json.dumps(config))
    return {
        "another kind": "a model of type 'mistral', not llama",
        "other shapes": "has shape",
        "no safetensors": "it has no weights as safetensors",
    }[kind]


@pytest.mark.parametrize("kind", ["another kind", "other shapes", "no safetensors"])
def test_what_is_no_llama_in_safetensors_cannot_be_used(tmp_path: Path, kind: str) -> None:
    snapshot = write_hub_cache(tmp_path, tiny_policy(), write_fast_tokenizer)
    expected = broken(kind, snapshot)
    said = failure_of(imported(tmp_path, hub_environment(tmp_path)))
    assert said.startswith(f"{NAME} cannot be used: ")
    assert expected in said


@pytest.mark.parametrize(
    "name", ["llama", "/etc/passwd", "../models/llama", "a/b/c", "a/..b", "http://a/b", "a/b "]
)
def test_what_is_no_name_on_the_hub_is_refused(name: str) -> None:
    with pytest.raises(RecordError, match=r"hub_name: .* is no name on the hub"):
        ImportConfig(hub_name=name)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    for load in (load_policy, load_tokenizer):
        with pytest.raises(FileNotFoundError, match="nowhere: there is no such folder"):
            load(tmp_path / "nowhere")
