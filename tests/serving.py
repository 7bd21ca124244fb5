"""Real OpenAI-compatible servers as child processes, and a policy small enough to be served.

`transformers serve` runs where fastapi, uvicorn and openai are installed, or in the environment of
the Python that CONCORD_TEST_SERVE_PYTHON names; vLLM where CONCORD_TEST_VLLM names its executable.
"""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from transformers import LlamaForCausalLM

from language.chat import encode_prompt, encode_response
from language.generation import GenerationRequest
from language.logprobs import response_losses
from language.models import save_model
from language.rows import TokenRow
from records.dialogues import Dialogue
from records.servers import SERVERS_VARIABLE
from tests.models import tiny_policy, tiny_tokenizer

EXCHANGES = (
    ("how are you today?", "i am fine, thank you."),
    ("what is the sum of 12 and 30?", "the sum is 42."),
    ("tell me how to make tea.", "boil the water, add the leaves, wait three minutes."),
    ("where is the red house?", "it stands by the river."),
)
_START_SECONDS = 240.0


class Running(NamedTuple):
    """A server under way."""

    process: "subprocess.Popen[bytes]"
    url: str

    def environment(self, folder: Path, **fields: Any) -> dict[str, str]:
        """Return the environment that names a file with this server as `lab`."""
        entry = {"url": self.url, "networks": ["127.0.0.0/8"], "dtype": "float32", **fields}
        path = folder / "servers.json"
        path.write_text(json.dumps({"lab": entry}))
        return {SERVERS_VARIABLE: str(path)}

    def enter(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
        """Have the environment of a test name a file with this server as `lab`."""
        for name, value in self.environment(folder, **fields).items():
            monkeypatch.setenv(name, value)


@cache
def _spoken_policy(seed: int) -> LlamaForCausalLM:
    policy = tiny_policy(seed, hidden_size=128, num_heads=2)
    rows = [
        TokenRow(prompt_ids(user), tuple(encode_response(tiny_tokenizer(), answer)))
        for user, answer in EXCHANGES
    ]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        response_losses(policy, rows).mean().backward()
        optimizer.step()
    policy.requires_grad_(False)
    return policy


def spoken_policy(seed: int = 0) -> LlamaForCausalLM:
    """Return a policy that has learned a few answers, so that it speaks and ends; never change it.

    Its heads are as wide as vLLM wants them on a CPU.
    """
    return _spoken_policy(seed)


def write_spoken_policy(folder: Path, seed: int = 0) -> Path:
    """Write `spoken_policy` and its tokenizer into `folder`; return it."""
    save_model(spoken_policy(seed), tiny_tokenizer(), folder)
    return folder


def prompt_ids(*turns: str) -> tuple[int, ...]:
    """Return a prompt of the chat format."""
    return tuple(encode_prompt(tiny_tokenizer(), Dialogue.from_texts(*turns)))


def greedy_requests() -> list[GenerationRequest]:
    """Return greedy requests of one turn and of two, some of which are cut."""
    first, second = EXCHANGES[0], EXCHANGES[1]
    turns = [(user,) for user, _ in EXCHANGES] + [(*first, second[0]), ("say é or\nsomething",)]
    return [
        GenerationRequest(prompt_ids(*texts), 0.0, 1.0, 40 if number % 3 else 6, seed=number)
        for number, texts in enumerate(turns)
    ]


@contextmanager
def serving_transformers(folder: Path) -> Iterator[Running]:
    """Run `transformers serve`; its log lies in `folder`."""
    python = os.environ.get("CONCORD_TEST_SERVE_PYTHON", "")
    missing = [n for n in ("fastapi", "uvicorn", "openai") if not importlib.util.find_spec(n)]
    if missing and not python:
        pytest.skip(f"`transformers serve` needs {', '.join(missing)} (CONCORD_TEST_SERVE_PYTHON)")
    command = [python or sys.executable, "-m", "transformers.cli.transformers", "serve"]
    with _serving([*command, "--device", "cpu"], folder, {"OMP_NUM_THREADS": "1"}) as running:
        yield running


@contextmanager
def serving_vllm(model: Path, folder: Path, *arguments: str) -> Iterator[Running]:
    """Run `vllm serve` on a CPU, with its endpoints for weights; its log lies in `folder`."""
    executable = os.environ.get("CONCORD_TEST_VLLM", "")
    if not executable:
        pytest.skip("CONCORD_TEST_VLLM names no vllm executable")
    environment = {
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
    }
    options = ["--dtype", "float32", "--enforce-eager", "--max-model-len", "256", *arguments]
    with _serving([executable, "serve", str(model), *options], folder, environment) as running:
        yield running


@contextmanager
def _serving(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> Iterator[Running]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    place = ["--host", "127.0.0.1", "--port", str(port)]
    log_path = folder / "server.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*command, *place],
            env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    running = Running(process, f"http://127.0.0.1:{port}")
    try:
        _wait_until_well(running, log_path)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(timeout=30.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_well(running: Running, log_path: Path) -> None:
    give_up_at = time.monotonic() + _START_SECONDS
    while time.monotonic() < give_up_at and running.process.poll() is None:
        try:
            with urllib.request.urlopen(f"{running.url}/health", timeout=5.0):  # noqa: S310
                return
        except OSError:
            time.sleep(0.2)
    log = log_path.read_text(errors="replace")
    raise AssertionError(f"the server did not start:\n{log[-4000:]}")
