"""What is believed of a server's answers: nothing that was not asked for."""

import json
from typing import Any

import pytest

from language.servers import VLLMServer, WantedRow, row_seed
from language.transport import ServerError, Transport
from records.servers import ServerConfig
from tests.language.wires import Wire, response, wire

ROW = WantedRow((1, 20, 30), 0.7, 1.0, 8, seed=5, eos_ids=(2, 9))
CHOICE: dict[str, Any] = {
    "index": 0,
    "text": "fine",
    "token_ids": [40, 9],
    "prompt_token_ids": [1, 20, 30],
    "logprobs": {"token_logprobs": [-0.5, -1.5]},
    "finish_reason": "stop",
}


def vllm(server: Wire) -> VLLMServer:
    config = ServerConfig(url=server.url, networks=("127.0.0.0/8",), num_attempts=1)
    made = VLLMServer(Transport("lab", config), config, "concord")
    made.weights = "v1"
    return made


def answer(*choices: dict[str, Any], model: str = "concord") -> bytes:
    return response(json.dumps({"model": model, "choices": choices}).encode())


def test_a_row_states_every_setting_and_is_answered_in_ids() -> None:
    with wire(answer(CHOICE)) as server:
        row = vllm(server).sample(ROW)
    assert row == ((40, 9), "fine", (-0.5, -1.5), True, "v1")
    assert json.loads(server.heard[0].partition(b"\r\n\r\n")[2]) == {
        "model": "concord",
        "prompt": [1, 20, 30],
        "max_tokens": 8,
        "temperature": 0.7,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": 5,
        "ignore_eos": True,
        "stop_token_ids": [2, 9],
        "logprobs": 0,
        "return_token_ids": True,
    }


def test_a_cut_response_is_told_from_an_ended_one() -> None:
    with wire(answer({**CHOICE, "finish_reason": "length"})) as server:
        assert not vllm(server).sample(ROW).is_finished


@pytest.mark.parametrize(
    ("bytes_", "message"),
    [
        (answer(CHOICE, model="other"), "other answered where concord was asked"),
        (answer(), "one response was asked for"),
        (answer(CHOICE, CHOICE), "one response was asked for"),
        (answer({**CHOICE, "prompt_token_ids": [1, 1, 20, 30]}), "other prompt ids than were sent"),
        (answer({**CHOICE, "token_ids": None}), "its answers lack token_ids"),
        (answer({**CHOICE, "logprobs": None}), "its answers lack logprobs"),
        (answer({**CHOICE, "token_ids": [40, 41, 9]}), "differ in number"),
        (answer({**CHOICE, "token_ids": [40, 41]}), r"stopped at token 41, none of the end tokens"),
        (answer({**CHOICE, "finish_reason": "abort"}), "broke a response off: abort"),
        (response(b"<html>sign in</html>"), "its answer lacks 'model': <html>"),
    ],
)
def test_an_answer_to_something_else_is_refused(bytes_: bytes, message: str) -> None:
    with wire(bytes_) as server, pytest.raises(ServerError, match=message):
        vllm(server).sample(ROW)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("0.10.1", r"vLLM 0.10.1 is not known here; run 0.29 or later"),
        ("dev", r"vLLM dev is not known here"),
    ],
)
def test_an_old_vllm_is_refused(version: str, message: str) -> None:
    told = response(json.dumps({"version": version}).encode())
    with wire(told) as server, pytest.raises(ServerError, match=message):
        vllm(server).check_version()


def test_a_new_vllm_that_serves_the_model_is_taken() -> None:
    told = response(b'{"version": "1.2.0rc1+cpu"}')
    with wire(told, response(b'{"data": [{"id": "concord"}]}')) as server:
        vllm(server).check_version()


def test_a_vllm_without_a_page_for_its_weights_says_no_version() -> None:
    with wire(response(b"{}", status="404 Not Found")) as server:
        assert vllm(server).weight_version() is None


def test_seeds_of_rows_are_distinct_and_fit_64_bits() -> None:
    seeds = {row_seed(seed, number) for seed in range(50) for number in range(50)}
    assert len(seeds) == 2500
    assert all(0 <= seed < 2**63 for seed in seeds)
