"""The servers we know, each behind one small interface: vLLM and `transformers serve`.

vLLM takes and returns token ids and log-probabilities. `transformers serve` takes and returns text
and says no log-probabilities: what it answered is encoded again, and may be other tokens than were
sampled, with the same text.
"""

import hashlib
import json
import re
from copy import deepcopy
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from transformers import PreTrainedTokenizerBase

from language.chat import E_INST
from language.tokenizers import bos_id_of, pad_id_of, plain_ids
from language.transport import ServerAnswerError, ServerError, Transport
from records.errors import RecordError
from records.servers import ServerApi, ServerConfig

MIN_VLLM = (0, 29)
"""The first vLLM whose weight-transfer endpoints are those that `language.handover` calls."""


class LogprobsKind(StrEnum):
    """Which log-probabilities a server gives; the proof of its weights finds out."""

    AS_DRAWN = "as drawn"
    UNTEMPERED = "untempered"


class WantedRow(NamedTuple):
    """One response to ask for."""

    prompt_ids: tuple[int, ...]
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int
    eos_ids: tuple[int, ...]


class ServedRow(NamedTuple):
    """One response as a server gave it."""

    ids: tuple[int, ...]
    """The end token included where there is one."""
    text: str
    logprobs: tuple[float, ...]
    """Empty where the server gives none."""
    is_finished: bool
    """Whether it ended by itself; False when it was cut."""
    weights: str
    """What the weights go by that the server was last given."""


class Server(Protocol):
    """A server that holds one policy.

    Attributes:
        transport: Asks it.
        config: Its entry in the operator's file.
        model: Name that it knows the policy by.
        weights: What its weights go by.
        gives_tokens: Whether it returns the ids it sampled and their log-probabilities.
        max_connections: Requests that may be under way at once.
    """

    transport: Transport
    config: ServerConfig
    model: str
    weights: str
    gives_tokens: bool
    max_connections: int

    def check_version(self) -> None:
        """Raise `ServerError` where the server is none that we know how to ask."""
        ...

    def sample(self, row: WantedRow) -> ServedRow:
        """Return one response; asking again is safe, for the row has a seed."""
        ...

    def weight_version(self) -> str | None:
        """Return the version of the weights as the server itself says it, if it does."""
        ...


def row_seed(seed: int, number: int) -> int:
    """Return a seed in [0, 2**63) for one of a request's responses, distinct for each."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{number}".encode()).digest()[:8]) >> 1


def open_server(
    name: str, config: ServerConfig, tokenizer: PreTrainedTokenizerBase, *, path: Path | None
) -> "VLLMServer | TransformersServer":
    """Return the server of an entry; nothing is asked of it yet.

    Raises:
        RecordError: Its entry leaves open what the policy is called there.
    """
    model = config.model or (str(path.resolve()) if path else "")
    if not model:
        raise RecordError("model", f"{name}: enter the name that it serves the policy under")
    transport = Transport(name, config)
    if config.api is ServerApi.VLLM:
        return VLLMServer(transport, config, model)
    return TransformersServer(transport, config, model, tokenizer)


class VLLMServer:
    """`vllm serve`, or its container, in an environment of its own."""

    gives_tokens = True

    def __init__(self, transport: Transport, config: ServerConfig, model: str) -> None:
        self.transport, self.config, self.model = transport, config, model
        self.weights = ""
        self.max_connections = config.num_connections

    def check_version(self) -> None:
        """Raise where it is older than 0.29 or does not serve the model.

        Raises:
            ServerError: It is; says what to do.
        """
        name = self.transport.name
        version = self.transport.ask("GET", "/version", may_repeat=True)
        text = str(_field(name, version, "version"))
        numbers = re.match(r"(\d+)\.(\d+)", text)
        if numbers is None or tuple(int(part) for part in numbers.groups()) < MIN_VLLM:
            least = ".".join(map(str, MIN_VLLM))
            raise ServerError(name, f"vLLM {text} is not known here; run {least} or later")
        listed = self.transport.ask("GET", "/v1/models", may_repeat=True)
        served = [str(_field(name, item, "id")) for item in _field(name, listed, "data")]
        if self.model not in served:
            raise ServerError(
                name,
                f"it serves {', '.join(served) or 'nothing'}, not {self.model}; start it with "
                f"--served-model-name {self.model} or change `model` in its entry",
            )

    def sample(self, row: WantedRow) -> ServedRow:
        """Return one response, in the ids that were sampled.

        Every setting is stated: what is left out, vLLM takes from the model's folder. The end
        tokens are the row's alone.

        Raises:
            ServerError: No answer, or one that is not to what was asked.
        """
        body = {
            "model": self.model,
            "prompt": list(row.prompt_ids),
            "max_tokens": row.max_new_tokens,
            "temperature": row.temperature,
            "top_p": row.top_p,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "seed": row.seed,
            "ignore_eos": True,
            "stop_token_ids": list(row.eos_ids),
            "logprobs": 0,
            "return_token_ids": True,
        }
        answer = self.transport.ask("POST", "/v1/completions", body, may_repeat=True)
        choice = self._checked(row, answer)
        logprobs = _field(self.transport.name, choice["logprobs"], "token_logprobs")
        ids, is_finished = tuple(choice["token_ids"]), choice["finish_reason"] == "stop"
        if is_finished and ids[-1] not in row.eos_ids:
            raise ServerError(
                self.transport.name,
                f"it stopped at token {ids[-1]}, none of the end tokens {list(row.eos_ids)}; start "
                "it with --generation-config vllm",
            )
        known = tuple(float(value) for value in logprobs)
        return ServedRow(ids, str(choice["text"]), known, is_finished, self.weights)

    def weight_version(self) -> str | None:
        """Return what `/weight_info` says; None where this vLLM has no such page."""
        try:
            answer = self.transport.ask("GET", "/weight_info", may_repeat=True)
        except ServerAnswerError as error:
            if error.status == 404:
                return None
            raise
        return str(_field(self.transport.name, answer, "weight_version"))

    def _checked(self, row: WantedRow, answer: object) -> dict[str, Any]:
        """Return the one choice of an answer that is about the row."""
        name = self.transport.name
        _refuse_other_model(name, answer, self.model)
        choice = _only_choice(name, answer)
        for key in ("token_ids", "logprobs", "prompt_token_ids", "finish_reason", "text"):
            if _field(name, choice, key) is None:
                raise ServerError(name, f"its answers lack {key}; is it a vLLM, unchanged?")
        if tuple(choice["prompt_token_ids"]) != row.prompt_ids:
            raise ServerError(name, "it answered other prompt ids than were sent")
        if choice["finish_reason"] not in {"stop", "length"}:
            raise ServerError(name, f"it broke a response off: {choice['finish_reason']}")
        if len(choice["token_ids"]) != len(choice["logprobs"]["token_logprobs"]):
            raise ServerError(name, "its tokens and log-probabilities differ in number")
        checked: dict[str, Any] = choice
        return checked


class TransformersServer:
    """`transformers serve`; one request at a time, as its seed is the process's."""

    gives_tokens = False
    max_connections = 1

    def __init__(
        self,
        transport: Transport,
        config: ServerConfig,
        model: str,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        self.transport, self.config, self.model = transport, config, model
        self.weights = ""
        self._tokenizer = tokenizer
        # The server reads special tokens out of text; ours never does.
        self._theirs = deepcopy(tokenizer)
        self._theirs.split_special_tokens = False
        self._prompt_text = lru_cache(maxsize=1024)(self._find_prompt_text)

    def check_version(self) -> None:
        """Raise where it is unwell or cannot load the model; it tells no version.

        Raises:
            ServerError: It says so, or speaks otherwise than `transformers serve`.
        """
        name = self.transport.name
        health = self.transport.ask("GET", "/health", may_repeat=True)
        if _field(name, health, "status") != "ok":
            raise ServerError(name, f"it is unwell: {health}")
        self.load()

    def load(self) -> None:
        """Have the server load `model`, a folder that it reads under the same path.

        Raises:
            ServerError: It cannot.
        """
        body = {"model": self.model}
        told = str(self.transport.ask("POST", "/load_model", body, may_repeat=True))
        lines = [line.removeprefix("data: ") for line in told.splitlines() if line.strip()]
        if not lines or '"ready"' not in lines[-1]:
            raise ServerError(
                self.transport.name,
                f"it did not load {self.model}: {lines[-1][:300] if lines else 'no answer'}; "
                "the folder must lie under the same path there",
            )

    def sample(self, row: WantedRow) -> ServedRow:
        """Return one response; its ids are those of its text, not those that were sampled.

        Where they are more than were allowed, as bytes that are no text become, they are cut.

        Raises:
            ServerError: No answer, or one that is not to what was asked.
        """
        settings = {
            "max_new_tokens": row.max_new_tokens,
            "do_sample": row.temperature > 0.0,
            "eos_token_id": list(row.eos_ids),
            "pad_token_id": pad_id_of(self._tokenizer),
        }
        if row.temperature > 0.0:
            settings |= {"temperature": row.temperature, "top_p": row.top_p, "top_k": 0}
        body = {
            "model": self.model,
            "prompt": self._prompt_text(row.prompt_ids),
            "seed": row.seed,
            "generation_config": json.dumps(settings),
        }
        answer = self.transport.ask("POST", "/v1/completions", body, may_repeat=True)
        name = self.transport.name
        _refuse_other_model(name, answer, f"{self.model}@main")
        choice = _only_choice(name, answer)
        num_read = _field(name, _field(name, answer, "usage"), "prompt_tokens")
        if num_read != len(row.prompt_ids):
            raise ServerError(
                name, f"it read {num_read} prompt tokens where {len(row.prompt_ids)} were meant"
            )
        text = str(_field(name, choice, "text"))
        # An end token that is the last one allowed looks like a cut to this server, and stays one.
        has_ended = _field(name, choice, "finish_reason") == "stop"
        ids = self._ids_of(text)
        is_finished = has_ended and len(ids) < row.max_new_tokens
        end = row.eos_ids[:1]
        # A cut response that holds no text at all is shown as an end that was not reached.
        ids = (*ids, *end) if is_finished else ids[: row.max_new_tokens] or end
        return ServedRow(ids, text, (), is_finished, self.weights)

    def weight_version(self) -> str | None:
        """Return None: every answer repeats the folder it came from, and no version beside it."""
        return None

    def _find_prompt_text(self, ids: tuple[int, ...]) -> str:
        """Return the text that the server's tokenizer makes `ids` of.

        Raises:
            ServerError: There is none.
        """
        whole = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        assert isinstance(whole, str)
        begin = self._tokenizer.decode([bos_id_of(self._tokenizer)], skip_special_tokens=False)
        for text in (whole, whole.removeprefix(str(begin))):
            if tuple(self._theirs(text).input_ids) == ids:
                return text
        raise ServerError(
            self.transport.name,
            f"it takes text alone, and no text has exactly the {len(ids)} ids of this prompt; "
            "use vLLM, which takes ids",
        )

    def _ids_of(self, text: str) -> tuple[int, ...]:
        """Return the ids of a response's text, as they follow a prompt of the chat format."""
        tag_ids = plain_ids(self._tokenizer, E_INST)
        return tuple(plain_ids(self._tokenizer, f"{E_INST} {text.strip()}")[len(tag_ids) :])


def _only_choice(name: str, answer: object) -> Any:  # noqa: ANN401 - a part of some JSON
    choices = _field(name, answer, "choices")
    if not isinstance(choices, list) or len(choices) != 1:
        raise ServerError(name, f"one response was asked for, not {str(choices)[:200]}")
    return choices[0]


def _refuse_other_model(name: str, answer: object, model: str) -> None:
    served = _field(name, answer, "model")
    if served != model:
        raise ServerError(name, f"{served} answered where {model} was asked")


def _field(name: str, answer: object, key: str) -> Any:  # noqa: ANN401 - a part of some JSON
    if not isinstance(answer, dict) or key not in answer:
        raise ServerError(name, f"its answer lacks {key!r}: {str(answer)[:200]}")
    return answer[key]
