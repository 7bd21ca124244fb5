"""A real `transformers serve` in place of the process's own model."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from language.chat import decode_response
from language.engines import Engine, LocalEngine, RemoteEngine, open_engine
from language.generation import GenerationRequest
from language.proofs import WrongWeightsError
from language.transport import ServerError, ServerUnavailableError
from records.errors import RecordError
from tests.models import tiny_tokenizer
from tests.serving import (
    Running,
    greedy_requests,
    prompt_ids,
    serving_transformers,
    spoken_policy,
    write_spoken_policy,
)

pytestmark = pytest.mark.slow
EOS = 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving_transformers(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spoken_policy(tmp_path_factory.mktemp("policies") / "spoken")


def engine_on(server: Running, folder: Path, tmp_path: Path, **fields: Any) -> RemoteEngine:
    engine = open_engine(
        "lab",
        spoken_policy(),
        tiny_tokenizer(),
        version="v1",
        path=folder,
        environment=server.environment(tmp_path, api="transformers", **fields),
    )
    assert isinstance(engine, RemoteEngine)
    return engine


def texts_of(engine: Engine, requests: list[GenerationRequest]) -> list[tuple[str, bool]]:
    generated = engine.generate(requests, eos_ids=[EOS])
    return [(decode_response(tiny_tokenizer(), r.ids), r.is_finished) for (r,) in generated]


def test_greedy_texts_are_those_of_the_local_engine(
    server: Running, folder: Path, tmp_path: Path
) -> None:
    engine = engine_on(server, folder, tmp_path)
    ours = texts_of(LocalEngine(spoken_policy()), greedy_requests())
    assert texts_of(engine, greedy_requests()) == ours
    assert ("the sum is 42.", True) in ours
    assert {is_finished for _, is_finished in ours} == {True, False}


def test_the_ids_are_those_of_the_text_with_the_end_token(
    server: Running, folder: Path, tmp_path: Path
) -> None:
    request = greedy_requests()[1]
    ((theirs,),) = engine_on(server, folder, tmp_path).generate([request], eos_ids=[EOS])
    ((ours,),) = LocalEngine(spoken_policy()).generate([request], eos_ids=[EOS])
    assert theirs.ids[-1] == EOS
    assert (theirs.logprobs, theirs.untempered_logprobs) == ((), ())
    assert theirs.weights == "v1"
    # The policy learned to say a space before the end token, and the text has lost it.
    assert theirs.ids == (*ours.ids[:-2], EOS)


def test_every_response_has_a_seed_of_its_own_and_comes_again(
    server: Running, folder: Path, tmp_path: Path
) -> None:
    engine = engine_on(server, folder, tmp_path)
    asked = [
        GenerationRequest(prompt_ids("hello"), 3.0, 1.0, 12, seed=seed, num_responses=4)
        for seed in (1, 2)
    ]
    first, again = (engine.generate(asked, eos_ids=[EOS]) for _ in range(2))
    assert [[r.ids for r in group] for group in again] == [[r.ids for r in g] for g in first]
    assert len({response.ids for group in first for response in group}) == 8


def test_each_of_several_end_tokens_stops(server: Running, folder: Path, tmp_path: Path) -> None:
    request = greedy_requests()[1]
    ((whole,),) = LocalEngine(spoken_policy()).generate([request], eos_ids=[EOS])
    stop = whole.ids[3]
    ((cut,),) = engine_on(server, folder, tmp_path).generate([request], eos_ids=[EOS, stop])
    assert cut.is_finished
    assert len(cut.ids) <= 4


def test_progress_is_told(server: Running, folder: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    engine_on(server, folder, tmp_path).generate(
        greedy_requests()[:3], eos_ids=[EOS], on_progress=lambda *counts: told.append(counts)
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_other_weights_are_found_out(server: Running, tmp_path: Path) -> None:
    other = write_spoken_policy(tmp_path / "other", seed=1)
    with pytest.raises(WrongWeightsError, match=r"lab: .*greedy texts are not ours.*than v1"):
        engine_on(server, other, tmp_path)


def test_weights_are_handed_over_in_a_folder(server: Running, folder: Path, tmp_path: Path) -> None:
    handover = {"handover": "folder", "handover_folder": str(tmp_path / "weights")}
    engine = engine_on(server, folder, tmp_path, **handover)
    engine.take_weights(spoken_policy(1), "step 2")
    ours = texts_of(LocalEngine(spoken_policy(1)), greedy_requests())
    assert texts_of(engine, greedy_requests()) == ours
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["weights-step-2"]
    ((response,),) = engine.generate(greedy_requests()[:1], eos_ids=[EOS])
    assert response.weights == "step 2"


def test_changed_weights_without_a_hand_over_are_refused(
    server: Running, folder: Path, tmp_path: Path
) -> None:
    engine = engine_on(server, folder, tmp_path)
    with pytest.raises(ServerError, match=r"`handover` in its entry is none; set it"):
        engine.take_weights(spoken_policy(1), "step 2")


def test_a_folder_that_the_server_cannot_read_is_named(server: Running, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"it did not load .*nowhere.*same path there"):
        engine_on(server, tmp_path / "nowhere", tmp_path)


def test_a_prompt_that_no_text_stands_for_is_refused(
    server: Running, folder: Path, tmp_path: Path
) -> None:
    # Two halves of a merged word, apart: text puts them together.
    halves = GenerationRequest((1, *range(260, 300)), 0.0, 1.0, 4, seed=0)
    with pytest.raises(ServerError, match=r"no text has exactly the 41 ids"):
        engine_on(server, folder, tmp_path).generate([halves], eos_ids=[EOS])


def test_a_server_of_another_kind_is_told_apart(
    server: Running, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ServerError, match=r"lab: GET /version: status 404"):
        open_engine(
            "lab",
            spoken_policy(),
            tiny_tokenizer(),
            version="v1",
            path=folder,
            environment=server.environment(tmp_path, api="vllm"),
        )


def test_a_server_that_dies_at_work_is_named_after_all_attempts(
    folder: Path, tmp_path: Path
) -> None:
    with serving_transformers(tmp_path) as dying:
        engine = engine_on(dying, folder, tmp_path, num_attempts=3, backoff_seconds=0.05)
        killer = threading.Timer(0.3, dying.process.kill)
        killer.start()
        long = [GenerationRequest(prompt_ids("hello"), 5.0, 1.0, 200, s) for s in range(50)]
        began = time.monotonic()
        with pytest.raises(ServerUnavailableError, match=r"3 times of 3; is the server at"):
            engine.generate(long, eos_ids=[EOS])
        assert time.monotonic() - began < 20.0
        killer.join()


def test_an_engine_without_a_file_of_servers_is_refused(folder: Path) -> None:
    with pytest.raises(RecordError, match=r"engine: 'lab' is a server, but .* names no file"):
        open_engine("lab", spoken_policy(), tiny_tokenizer(), version="v1", environment={})


def test_processes_that_share_a_server_hand_nothing_over(
    server: Running, folder: Path, tmp_path: Path
) -> None:
    fields = {"handover": "folder", "handover_folder": str(tmp_path)}
    with pytest.raises(RecordError, match=r"engine: several processes share lab"):
        open_engine(
            "lab",
            spoken_policy(),
            tiny_tokenizer(),
            version="v1",
            path=folder,
            is_shared=True,
            environment=server.environment(tmp_path, api="transformers", **fields),
        )
