"""A policy of the hub through its run: from a name to responses, or to a sentence on what to do."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from annotation.services import SampleRequest
from records.dialogues import Dialogue
from records.import_configs import ImportConfig
from registry.models import PolicyVersion, Run
from tests.hub import NAME, hub_environment, write_fast_tokenizer, write_hub_cache
from tests.models import tiny_policy, write_tiny_policy
from workers import sampling
from workers.imports import start_import
from workers.launcher import execute_run

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _quick(settings: Settings) -> None:
    settings.RUN_LAUNCHER = "direct"
    settings.SAMPLING_THREADS = 1
    sampling._load.cache_clear()


@pytest.fixture
def enter_home(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Return what gives the worker's environment another HF_HOME, and no network."""

    def enter(home: Path) -> None:
        for name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_CACHE"):
            monkeypatch.delenv(name, raising=False)
        for name in ("HF_HOME", "HF_HUB_OFFLINE", "OMP_NUM_THREADS"):
            monkeypatch.setenv(name, hub_environment(home)[name])

    return enter


def test_the_run_makes_a_version_that_the_sampler_loads(
    tmp_path: Path, enter_home: Callable[[Path], None]
) -> None:
    write_hub_cache(tmp_path, tiny_policy(), write_fast_tokenizer)
    enter_home(tmp_path)
    run = start_import(config=ImportConfig(device="cpu"), output_name="Llama 2 chat")
    execute_run(run.pk)
    run.refresh_from_db()
    assert run.state == Run.State.FINISHED, run.error_message
    version = PolicyVersion.objects.get(name="Llama 2 chat")
    assert (version.run_id, version.parent) == (run.pk, None)
    asked = SampleRequest(
        policy=version,
        path=version.artifact.location,
        temperature=0.7,
        top_p=0.9,
        max_new_tokens=8,
        seed=1,
    )
    prompt = Dialogue.from_texts("hello")
    (drawn,) = sampling.draw_or_explain(asked.path, [(prompt, asked)], lambda _done, _all: None)
    assert not isinstance(drawn, str), drawn
    assert 0 < drawn.num_tokens <= 8


def test_a_run_that_cannot_have_the_model_fails_with_a_sentence_and_no_traceback(
    tmp_path: Path, enter_home: Callable[[Path], None]
) -> None:
    enter_home(tmp_path)
    run = start_import(config=ImportConfig(device="cpu"), output_name="Llama 2 chat")
    execute_run(run.pk)
    run.refresh_from_db()
    assert (run.state, run.error_class) == (Run.State.FAILED, "HubError")
    assert f"hf download {NAME}" in run.error_message
    assert run.error_traceback == ""
    assert not PolicyVersion.objects.exists()


def said_by_command(*arguments: str) -> str:
    out = StringIO()
    call_command("register_policy", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_takes_a_folder_at_once_and_a_name_as_a_run(tmp_path: Path) -> None:
    folder = write_tiny_policy(tmp_path / "policy")
    assert "Base is registered" in said_by_command("Base", str(folder))
    assert PolicyVersion.objects.get().name == "Base"
    assert f"it downloads {NAME} as Chat" in said_by_command("Chat", NAME, "--revision", "v1")
    config = Run.objects.get().typed_config
    assert config == ImportConfig(hub_name=NAME, revision="v1")


def test_the_command_refuses_what_is_neither(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"hub_name: '/nowhere/at/all' is no name on the hub"):
        said_by_command("Base", "/nowhere/at/all")
    (tmp_path / "config.json").write_text('{"model_type": "mistral"}')
    with pytest.raises(CommandError, match="holds no Llama with weights as safetensors"):
        said_by_command("Base", str(tmp_path))
    folder = write_tiny_policy(tmp_path / "policy")
    said_by_command("Base", str(folder))
    with pytest.raises(CommandError, match="version 'Base' exists already"):
        said_by_command("Base", NAME)
