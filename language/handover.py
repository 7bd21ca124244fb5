"""New weights for a server: read from a folder, or broadcast from GPU to GPU.

Either way the server pauses first and answers what is under way, and its prefix cache is emptied
before it goes on. Where that fails it stays paused: it may hold weights of both kinds.
"""

import base64
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.cuda import nccl
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from language.adapters import plain_state
from language.servers import Server, TransformersServer
from language.templates import save_tokenizer
from language.transport import ServerAnswerError, ServerError, ServerTimeoutError
from records.files import folder_written_atomically
from records.servers import HandOver

_PREFIX = "weights-"
_POLL_SECONDS = 0.01


class WeightSender(Protocol):
    """Gives a server new weights."""

    def send(
        self, policy: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, version: str
    ) -> None:
        """Have the server answer with the weights of `policy`, which go by the name `version`.

        Raises:
            ServerError: It did not take them; says what to do.
        """
        ...


def create_sender(server: Server) -> WeightSender | None:
    """Return the way that the server's entry names, or None where an operator sees to it."""
    if server.config.handover is HandOver.NONE:
        return None
    return FolderSender(server) if server.config.handover is HandOver.FOLDER else NcclSender(server)


class FolderSender:
    """Writes the weights into a folder that the server reads; the one before is removed."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def send(
        self, policy: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, version: str
    ) -> None:
        """Write the folder, and have the server load it; vLLM reads new weights in place."""
        server = self._server
        parent = Path(server.config.handover_folder)
        folder = parent / f"{_PREFIX}{re.sub(r'[^A-Za-z0-9.-]', '-', version)}"
        with folder_written_atomically(folder) as temporary:
            policy.save_pretrained(temporary, state_dict=plain_state(policy))
            save_tokenizer(tokenizer, temporary)
        if isinstance(server, TransformersServer):
            server.model = str(folder)
            server.load()
        else:
            with _paused(server):
                body = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
                _tell(server, "/collective_rpc", body)
                _name_weights(server, version)
        server.weights = version
        for earlier in parent.glob(f"{_PREFIX}*"):
            if earlier != folder:
                shutil.rmtree(earlier, ignore_errors=True)


class NcclSender:
    """Broadcasts the weights from this process's GPU to all of a vLLM's, which join its group.

    vLLM is started with `--weight-transfer-config '{"backend": "nccl"}'` on other GPUs than this
    process's, in the version of NCCL that this torch has.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._communicator: object | None = None

    def send(
        self, policy: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, version: str
    ) -> None:
        """Broadcast every weight in the order of its announcement; the tokenizer stays there."""
        del tokenizer
        server, device = self._server, policy.device
        if device.type != "cuda":
            raise ServerError(
                server.transport.name,
                f"handover nccl sends from a GPU, and the policy is on {device}; use folder",
            )
        weights = plain_state(policy)
        with torch.cuda.device(device), _paused(server):
            if self._communicator is None:
                self._communicator = self._join(device)
            _tell(server, "/start_weight_update", {"is_checkpoint_format": True})
            with _telling(server, "/update_weights", {"update_info": describe(weights)}) as told:
                for tensor in weights.values():
                    sent = tensor.detach().to(device).contiguous()
                    nccl.broadcast([sent], 0, comms=[self._communicator])
                self._wait_for_device(told)
            _tell(server, "/finish_weight_update", {"weight_version": version})
        server.weights = version

    def _join(self, device: torch.device) -> object:
        """Open the group: this process is rank 0, the server's workers are the others."""
        server = self._server
        answer = server.transport.ask("GET", "/get_world_size", may_repeat=True)
        world_size = 1 + int(answer["world_size"])
        unique_id = nccl.unique_id()
        info = {
            "nccl_unique_id_b64": base64.b64encode(unique_id).decode(),
            "rank_offset": 1,
            "world_size": world_size,
            "packed": False,
        }
        body = {"init_info": info}
        with _telling(server, "/init_weight_transfer_engine", body) as told:
            joined = _in_background(lambda: join_group(device, world_size, unique_id))
            wait([joined, told], timeout=server.config.timeout_seconds, return_when=FIRST_EXCEPTION)
            if told.done() and told.exception() is not None:
                told.result()
            if not joined.done():
                raise ServerTimeoutError(
                    server.transport.name,
                    "its workers did not join the group; can they reach this host, and have both "
                    f"sides the same NCCL (here {'.'.join(map(str, nccl.version()))})?",
                )
            return joined.result()

    def _wait_for_device(self, told: "Future[Any]") -> None:
        """Wait for the broadcasts, but not when the server has failed: they would never end."""
        sent = torch.cuda.Event()
        sent.record()
        give_up_at = time.monotonic() + self._server.config.timeout_seconds
        while not sent.query():
            if told.done() and told.exception() is not None:
                return
            if time.monotonic() > give_up_at:
                raise ServerTimeoutError(
                    self._server.transport.name, "its workers did not take the weights in time"
                )
            time.sleep(_POLL_SECONDS)


def describe(weights: Mapping[str, Tensor]) -> dict[str, list[Any]]:
    """Return the announcement of a broadcast: names, types and shapes in its order."""
    return {
        "names": list(weights),
        "dtype_names": [str(tensor.dtype).removeprefix("torch.") for tensor in weights.values()],
        "shapes": [list(tensor.shape) for tensor in weights.values()],
    }


def join_group(device: torch.device, world_size: int, unique_id: bytes) -> object:
    """Return the communicator of rank 0.

    vLLM's workers open theirs with the sum of one number, which this side must take part in.
    """
    with torch.cuda.device(device):
        communicator: object = nccl.init_rank(world_size, unique_id, 0)
        nccl.all_reduce([torch.zeros(1, device=device)], comms=[communicator])
        torch.cuda.synchronize()
    return communicator


@contextmanager
def _paused(server: Server) -> Iterator[None]:
    """Let the server finish what is under way and take nothing new; empty its cache; go on."""
    _tell(server, "/pause?mode=wait", None)
    yield
    answer = _tell(server, "/reset_prefix_cache", None)
    if isinstance(answer, dict) and answer.get("success") is False:
        raise ServerError(server.transport.name, "it kept its prefix cache; restart it")
    _tell(server, "/resume", None)


@contextmanager
def _telling(server: Server, path: str, body: Mapping[str, Any]) -> "Iterator[Future[Any]]":
    """Tell the server something that it answers once both sides have done their part."""
    told = _in_background(lambda: _tell(server, path, body))
    yield told
    told.result()


def _in_background(work: Callable[[], object]) -> "Future[Any]":
    """Return the future of `work`, in a thread that does not outlive the process: it may hang."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - whoever waits raises it
            future.set_exception(error)

    threading.Thread(target=run, name="handover", daemon=True).start()
    return future


def _name_weights(server: Server, version: str) -> None:
    """Tell the server what its weights go by; an older vLLM has no place for it."""
    try:
        _tell(server, "/update_weight_version", {"new_version": version})
    except ServerError as error:
        if not isinstance(error.__cause__, ServerAnswerError) or error.__cause__.status != 404:
            raise


def _tell(server: Server, path: str, body: Mapping[str, Any] | None) -> Any:  # noqa: ANN401
    """Return the answer to something told once.

    Raises:
        ServerError: It was not taken; says what to do.
    """
    try:
        return server.transport.ask("POST", path, body or {}, may_repeat=False)
    except ServerAnswerError as error:
        remedy = "Restart it on known weights"
        if error.status == 404:
            remedy = "Start it with VLLM_SERVER_DEV_MODE=1, on a network of its own"
        raise ServerError(server.transport.name, f"{error}. {remedy}") from error
