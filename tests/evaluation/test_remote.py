"""Evaluations whose responses a real server draws."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation.comparing import compare
from evaluation.persistence import measure_persistence
from language.proofs import WrongWeightsError
from language.runs import Command, RunContext
from language.transport import ServerUnavailableError
from records.errors import RecordError
from records.instruction_configs import PersistenceConfig
from records.policy_configs import EvaluationConfig
from records.run_configs import RunConfig, RunKind, SamplingConfig
from tests.policies.toys import create_run, only, write_inputs, write_reward_model
from tests.serving import Running, serving_transformers, write_spoken_policy

GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=24)
COMPARED = EvaluationConfig(device="cpu", sampling=GREEDY, num_examples=12)
PERSISTENCE = PersistenceConfig(device="cpu", num_dialogues=4, num_turns=2, sampling=GREEDY)
ROLES = ("policy", "baseline", "prompts")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    policy = write_spoken_policy(folder / "policy")
    return {
        **only(write_inputs(folder / "all"), "prompts"),
        "policy": policy,
        "baseline": write_spoken_policy(folder / "baseline", seed=1),
        "reference": policy,
        "helpfulness": write_reward_model(folder / "helpfulness", policy, seed=1),
        "safety": write_reward_model(folder / "safety", policy, seed=2),
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving_transformers(tmp_path_factory.mktemp("server")) as running:
        yield running


def summary_of(
    root: Path, command: Command, kind: RunKind, config: RunConfig, inputs: dict[str, Path]
) -> dict[str, Any]:
    directory, spec = create_run(root, kind, config, inputs)
    command(directory, spec, RunContext(directory, config))
    result = directory.read_result()
    assert result is not None
    return dict(result["summary"])


def compared(root: Path, config: EvaluationConfig, inputs: dict[str, Path]) -> dict[str, Any]:
    return summary_of(root, compare, RunKind.EVALUATION, config, inputs)


def measured(root: Path, config: PersistenceConfig, inputs: dict[str, Path]) -> dict[str, Any]:
    roles = only(inputs, *ROLES)
    return summary_of(root, measure_persistence, RunKind.PERSISTENCE, config, roles)


def texts_of(summary: dict[str, Any]) -> list[tuple[str, str]]:
    return [(e["response"], e["baseline_response"]) for e in summary["examples"]]


@pytest.mark.slow
@pytest.mark.parametrize("is_handed", [False, True])
def test_one_server_that_can_change_answers_for_both_policies(
    server: Running,
    inputs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_handed: bool,
) -> None:
    """It loads any folder by its path, or is handed the weights of each."""
    handed = {"handover": "folder", "handover_folder": str(tmp_path / "weights")}
    fields = handed if is_handed else {}
    server.enter(tmp_path, monkeypatch, api="transformers", **fields)
    config = replace(COMPARED, engine="lab", baseline_engine="lab")
    served = compared(tmp_path / "served", config, inputs)
    local = compared(tmp_path / "local", COMPARED, inputs)
    assert len(texts_of(local)) == 12
    assert texts_of(served) == texts_of(local), "greedy texts are the same"
    assert any(ours != other for ours, other in texts_of(served))


@pytest.mark.slow
def test_the_policy_alone_may_be_at_a_server_that_holds_nothing_else(
    server: Running, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.enter(tmp_path, monkeypatch, api="transformers", model=str(inputs["policy"].resolve()))
    served = compared(tmp_path / "served", replace(COMPARED, engine="lab"), inputs)
    assert texts_of(served) == texts_of(compared(tmp_path / "local", COMPARED, inputs))
    config = replace(COMPARED, baseline_engine="lab")
    with pytest.raises(WrongWeightsError, match="lab"):
        compared(tmp_path / "wrong", config, inputs)


@pytest.mark.slow
def test_dialogues_and_the_questions_aside_are_held_at_a_server(
    server: Running, inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.enter(tmp_path, monkeypatch, api="transformers")
    config = replace(PERSISTENCE, engine="lab", baseline_engine="lab")
    served = measured(tmp_path / "served", config, inputs)
    assert served == measured(tmp_path / "local", PERSISTENCE, inputs)
    assert all(len(example["policy"]) == 2 for example in served["examples"])


@pytest.mark.slow
@pytest.mark.parametrize("field", ["engine", "baseline_engine"])
def test_nothing_is_drawn_here_where_the_server_is_gone(
    server: Running,
    inputs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    field: str,
) -> None:
    gone = {"url": "http://127.0.0.1:9", "num_attempts": 1}
    server.enter(tmp_path, monkeypatch, api="transformers", **gone)
    with pytest.raises(ServerUnavailableError, match="lab"):
        compared(tmp_path / "compared", replace(COMPARED, **{field: "lab"}), inputs)
    with pytest.raises(ServerUnavailableError, match="lab"):
        measured(tmp_path / "measured", replace(PERSISTENCE, **{field: "lab"}), inputs)


@pytest.mark.parametrize("field", ["engine", "baseline_engine"])
def test_an_address_is_no_engine(field: str) -> None:
    for config in (COMPARED, PERSISTENCE):
        with pytest.raises(RecordError, match=rf"^{field}: 'http://10\.0\.0\.1' is no name"):
            replace(config, **{field: "http://10.0.0.1"})


def test_an_engine_for_no_baseline_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    alone = only(inputs, "policy", "prompts")
    config = replace(PERSISTENCE, baseline_engine="lab")
    with pytest.raises(RecordError, match=r"^baseline_engine: lab has nothing to draw"):
        summary_of(tmp_path / "run", measure_persistence, RunKind.PERSISTENCE, config, alone)


def test_a_server_that_no_file_names_is_an_error_of_its_field(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONCORD_GENERATION_SERVERS", raising=False)
    with pytest.raises(RecordError, match=r"^baseline_engine: 'lab' is a server, but"):
        compared(tmp_path / "run", replace(COMPARED, baseline_engine="lab"), inputs)
