"""Servers that generate for us: what is known of each, from one file that an operator writes."""

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from records.errors import RecordError
from records.fields import Config, bounded

LOCAL = "local"
"""The engine of the process itself, which no server may be named after."""
SERVERS_VARIABLE = "CONCORD_GENERATION_SERVERS"
"""The environment variable that names the file."""
_NAME = re.compile(r"[A-Za-z0-9_-]+")


class ServerApi(StrEnum):
    """Which server it is, so what may be asked of it beyond the OpenAI interface."""

    VLLM = "vllm"
    TRANSFORMERS = "transformers"


class HandOver(StrEnum):
    """How new weights reach a server.

    `none`: an operator starts it on them. `folder`: they are written into `handover_folder` and the
    server loads them from there. `nccl`: they are broadcast from GPU to GPU (vLLM alone).
    """

    NONE = "none"
    FOLDER = "folder"
    NCCL = "nccl"


@dataclass(frozen=True, kw_only=True)
class ServerConfig(Config):
    """One server of the file that `CONCORD_GENERATION_SERVERS` names.

    The file is the list of what may be reached: runs and settings hold a server's name, and no
    address comes from anywhere else.
    """

    url: str
    """Scheme, host and port, such as `http://127.0.0.1:8000`. http only within `networks`."""
    api: ServerApi = ServerApi.VLLM
    """vllm (0.29 or later), or transformers (`transformers serve`), which gives neither token ids
    nor log-probabilities."""
    model: str = ""
    """Name under which it serves the policy, which every answer must repeat; empty stands for the
    policy's folder, the name that servers give it by themselves."""
    networks: tuple[str, ...] = ()
    """Private networks its addresses may lie in, such as `127.0.0.0/8` or `172.16.0.0/12`. Public
    addresses need none; link-local ones, where clouds keep their metadata, are always refused."""
    token_file: str = ""
    """File that holds the bearer token it asks for; empty where it asks for none."""
    dtype: str = "bfloat16"
    """Type it computes in, float32, bfloat16 or float16: how far its log-probabilities may be from
    ours."""
    handover: HandOver = HandOver.NONE
    """How new weights reach it: none, folder or nccl."""
    handover_folder: str = ""
    """Folder of this server's own, which we write and it reads under the same path; for `handover`
    folder."""
    connect_timeout_seconds: float = bounded(5.0, above=0.0, high=300.0)
    """Longest wait for a connection."""
    timeout_seconds: float = bounded(600.0, above=0.0, high=86400.0)
    """Longest wait for a whole answer."""
    num_attempts: int = bounded(4, low=1, high=20)
    """Times a request is sent where no answer comes; only what is safe to repeat is repeated."""
    backoff_seconds: float = bounded(0.5, low=0.0, high=60.0)
    """Pause before the second attempt; it doubles with each further one, up to a minute."""
    num_connections: int = bounded(256, low=1, high=4096)
    """Requests under way at once; to `transformers serve` one, as its seed is the process's."""
    max_response_bytes: int = bounded(64 * 2**20, low=1024)
    """Longest answer that is read."""
    num_proof_prompts: int = bounded(4, low=1, high=256)
    """Prompts whose log-probabilities are asked for and recomputed, to prove the weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dtype not in PROOF_TOLERANCES:
            raise RecordError(
                "dtype", f"{self.dtype!r} is not one of {', '.join(PROOF_TOLERANCES)}"
            )
        for network in self.networks:
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError as error:
                raise RecordError("networks", f"{network!r} is no network: {error}") from error
        if self.handover is HandOver.FOLDER and not Path(self.handover_folder).is_absolute():
            raise RecordError(
                "handover_folder", f"{self.handover_folder!r} must be an absolute path"
            )
        if self.handover is HandOver.NCCL and self.api is not ServerApi.VLLM:
            raise RecordError("handover", f"nccl is vLLM's; {self.api} takes folder or none")


PROOF_TOLERANCES = {"float32": 1e-3, "float16": 0.01, "bfloat16": 0.03}
"""Nats a token that log-probabilities of the same weights may be apart, on average, by type."""


def read_servers(path: Path) -> dict[str, ServerConfig]:
    """Return the servers of a JSON file: an object of names, each with the fields of a server.

    Raises:
        RecordError: The file is none, or a server's name or field is out of bounds; says which.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(SERVERS_VARIABLE, f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise RecordError(SERVERS_VARIABLE, f"{path} must hold an object of servers by name")
    servers = {}
    for name, fields in content.items():
        if name == LOCAL or not _NAME.fullmatch(name):
            raise RecordError(SERVERS_VARIABLE, f"{path}: no server may be named {name!r}")
        if not isinstance(fields, dict):
            raise RecordError(SERVERS_VARIABLE, f"{path}: {name} must be an object of fields")
        try:
            servers[name] = ServerConfig.from_json(fields)
        except RecordError as error:
            raise RecordError(SERVERS_VARIABLE, f"{path}: {name}.{error}") from error
    return servers


def check_engine_name(name: str, field: str = "engine") -> None:
    """Raise where `name` cannot name an engine: addresses stand in the operator's file alone.

    Raises:
        RecordError: It holds other signs than letters, digits, dashes and underscores.
    """
    if not _NAME.fullmatch(name):
        raise RecordError(
            field,
            f"{name!r} is no name of letters, digits, - and _; an address is entered in the file "
            f"that {SERVERS_VARIABLE} names",
        )


def server_of(field: str, name: str, environment: Mapping[str, str]) -> ServerConfig:
    """Return the server called `name` in the file that the environment names.

    Raises:
        RecordError: There is no file or no such server; names `field`, whose value `name` is.
    """
    path = environment.get(SERVERS_VARIABLE, "")
    if not path:
        raise RecordError(field, f"{name!r} is a server, but {SERVERS_VARIABLE} names no file")
    servers = read_servers(Path(path))
    if name not in servers:
        known = ", ".join(sorted(servers)) or "none"
        raise RecordError(field, f"{path} has no server {name!r}; it has {known}")
    return servers[name]
