"""A real vLLM on a CPU in place of the process's own model: ids, log-probabilities, weights."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from language.engines import LocalEngine, RemoteEngine, open_engine
from language.proofs import WrongWeightsError
from language.servers import LogprobsKind
from language.transport import ServerError
from tests.language.asking import ENDS, largest_error, ragged_requests, request
from tests.models import tiny_tokenizer
from tests.serving import (
    Running,
    greedy_requests,
    serving_vllm,
    spoken_policy,
    write_spoken_policy,
)

pytestmark = pytest.mark.slow
EOS = 2
NAME = "concord"
SAMPLED = [
    request(1, 20, 33, temperature=1.0, num_responses=3),
    request(1, 20, 33, temperature=0.7, num_responses=3),
    request(1, 30, temperature=0.7, top_p=0.5),
    request(1, 30, temperature=1.0, top_p=0.5),
    request(1, 30, temperature=0.0),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spoken_policy(tmp_path_factory.mktemp("policies") / "spoken")


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A vLLM as docs/howto/vllm.md starts it."""
    options = ["--served-model-name", NAME, "--logprobs-mode", "processed_logprobs"]
    with serving_vllm(folder, tmp_path_factory.mktemp("vllm"), *options) as running:
        yield running


def engine_on(
    server: Running, tmp_path: Path, *, seed: int = 0, version: str = "v1", **fields: Any
) -> RemoteEngine:
    """Return the engine, to which weights are handed over: a test may find any in the server."""
    handover = {"handover": "folder", "handover_folder": str(tmp_path / "weights")}
    engine = open_engine(
        "lab",
        spoken_policy(seed),
        tiny_tokenizer(),
        version=version,
        environment=server.environment(tmp_path, **{"model": NAME, **handover, **fields}),
    )
    assert isinstance(engine, RemoteEngine)
    return engine


def post(server: Running, path: str, body: dict[str, Any]) -> None:
    asked = urllib.request.Request(  # noqa: S310 - a server of this test
        server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=60.0):  # noqa: S310
        pass


def test_greedy_ids_are_those_of_the_local_engine(server: Running, tmp_path: Path) -> None:
    asked = [*greedy_requests(), *(r._replace(temperature=0.0) for r in ragged_requests(6))]
    theirs = engine_on(server, tmp_path).generate(asked, eos_ids=ENDS)
    ours = LocalEngine(spoken_policy()).generate(asked, eos_ids=ENDS)
    for mine, yours in zip(ours, theirs, strict=True):
        assert [(r.ids, r.is_finished) for r in yours] == [(r.ids, r.is_finished) for r in mine]
        assert yours[0].logprobs == pytest.approx(mine[0].logprobs, abs=1e-4)
        assert set(yours[0].sampling_logprobs) == {0.0}


def test_log_probabilities_are_the_policys(server: Running, tmp_path: Path) -> None:
    engine = engine_on(server, tmp_path)
    assert engine.proof.logprobs_kind is LogprobsKind.AS_DRAWN
    assert engine.proof.mean_gap < 1e-4
    generated = engine.generate(SAMPLED, eos_ids=ENDS)
    uncut = [0, 1, 4]
    error = largest_error(
        spoken_policy(), [SAMPLED[i] for i in uncut], [generated[i] for i in uncut]
    )
    assert error < 1e-4
    assert all(r.weights == "v1" for responses in generated for r in responses)


def test_what_is_not_known_of_a_cut_distribution_is_empty(server: Running, tmp_path: Path) -> None:
    generated = engine_on(server, tmp_path).generate(SAMPLED, eos_ids=ENDS)
    known = [
        (bool(r.logprobs), bool(r.sampling_logprobs), bool(r.untempered_logprobs))
        for r, *_ in generated
    ]
    assert known == [
        (True, True, True),  # temperature 1: all three are one
        (True, True, False),  # tempered, uncut: as drawn is tempered
        (False, True, False),  # cut: as drawn alone
        (False, True, False),
        (True, True, True),  # greedy: drawn with certainty
    ]


def test_every_response_has_a_seed_of_its_own_and_comes_again(
    server: Running, tmp_path: Path
) -> None:
    engine = engine_on(server, tmp_path)
    asked = [request(1, 20, temperature=2.0, seed=seed, num_responses=6) for seed in (1, 2)]
    first, again = (engine.generate(asked, eos_ids=[EOS]) for _ in range(2))
    assert [[r.ids for r in group] for group in again] == [[r.ids for r in g] for g in first]
    assert len({response.ids for group in first for response in group}) == 12


def test_each_of_several_end_tokens_stops_and_no_other(server: Running, tmp_path: Path) -> None:
    engine = engine_on(server, tmp_path)
    asked = greedy_requests()[1]
    ((whole,),) = LocalEngine(spoken_policy()).generate([asked], eos_ids=[EOS])
    ((cut,),) = engine.generate([asked], eos_ids=[EOS, whole.ids[3]])
    assert (cut.ids, cut.is_finished) == (whole.ids[:4], True)
    ((beyond,),) = engine.generate([asked], eos_ids=[whole.ids[3] + 1])
    assert EOS in beyond.ids[:-1]


def test_new_weights_answer_and_no_cached_prefix_outlives_them(
    server: Running, tmp_path: Path
) -> None:
    engine = engine_on(server, tmp_path)
    asked = [r._replace(prompt_ids=(*r.prompt_ids, *range(20, 100))) for r in greedy_requests()]
    before = engine.generate(asked, eos_ids=[EOS])
    engine.take_weights(spoken_policy(1), "v2")
    after = engine.generate(asked, eos_ids=[EOS])
    fresh = LocalEngine(spoken_policy(1)).generate(asked, eos_ids=[EOS])
    assert [r.ids for (r,) in after] == [r.ids for (r,) in fresh]
    assert [r.ids for (r,) in after] != [r.ids for (r,) in before]
    assert after[0][0].logprobs == pytest.approx(fresh[0][0].logprobs, abs=1e-4)
    assert {r.weights for (r,) in after} == {"v2"}


def test_other_weights_are_found_out_by_how_much(server: Running, tmp_path: Path) -> None:
    engine_on(server, tmp_path)
    with pytest.raises(WrongWeightsError, match=r"lab: its log-probabilities of \d+ tokens are .*"):
        engine_on(server, tmp_path, seed=1, handover="none")


def test_a_server_that_lost_its_weights_is_found_out(server: Running, tmp_path: Path) -> None:
    engine = engine_on(server, tmp_path)
    post(server, "/update_weight_version", {"new_version": "default"})
    with pytest.raises(WrongWeightsError, match=r"says that its weights are 'default', not 'v1'"):
        engine.generate(greedy_requests()[:1], eos_ids=[EOS])


def test_a_name_that_it_does_not_serve_is_refused(server: Running, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"it serves concord, not other; start it with"):
        engine_on(server, tmp_path, model="other")


def test_nccl_needs_a_gpu_on_this_side(server: Running, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"handover nccl sends from a GPU.*use folder"):
        engine_on(server, tmp_path, handover="nccl")


def test_untempered_log_probabilities_are_told_from_tempered_ones(
    folder: Path, tmp_path: Path
) -> None:
    with serving_vllm(folder, tmp_path, "--served-model-name", NAME) as raw:
        engine = engine_on(raw, tmp_path, handover="none")
        assert engine.proof.logprobs_kind is LogprobsKind.UNTEMPERED
        generated = engine.generate(SAMPLED, eos_ids=ENDS)
    known = [
        (bool(r.logprobs), bool(r.sampling_logprobs), bool(r.untempered_logprobs))
        for r, *_ in generated
    ]
    assert known == [
        (True, True, True),
        (False, False, True),
        (False, False, True),
        (True, False, True),
        (True, True, True),
    ]
    assert largest_error(spoken_policy(), SAMPLED[:1], generated[:1]) < 1e-4
    as_untempered = [[r._replace(logprobs=r.untempered_logprobs) for r in generated[1]]]
    at_one = [SAMPLED[1]._replace(temperature=1.0)]
    assert largest_error(spoken_policy(), at_one, as_untempered) < 1e-4
