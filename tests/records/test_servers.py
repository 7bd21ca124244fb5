"""The operator's file of servers: what it may say, and who is named where it is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from records.errors import RecordError
from records.servers import (
    SERVERS_VARIABLE,
    HandOver,
    ServerApi,
    ServerConfig,
    check_engine_name,
    read_servers,
    server_of,
)

ENTRY = {"url": "http://127.0.0.1:8000", "networks": ["127.0.0.0/8"]}


def written(folder: Path, content: Any) -> Path:
    path = folder / "servers.json"
    path.write_text(json.dumps(content))
    return path


def test_servers_are_read_by_name(tmp_path: Path) -> None:
    entry = {**ENTRY, "api": "transformers", "timeout_seconds": 5}
    servers = read_servers(written(tmp_path, {"lab": entry, "other": ENTRY}))
    assert list(servers) == ["lab", "other"]
    lab = servers["lab"]
    assert (lab.api, lab.networks, lab.timeout_seconds) == (
        ServerApi.TRANSFORMERS,
        ("127.0.0.0/8",),
        5.0,
    )
    assert servers["other"].handover is HandOver.NONE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must hold an object"),
        ({"local": ENTRY}, "no server may be named 'local'"),
        ({"http://x": ENTRY}, "no server may be named 'http://x'"),
        ({"lab": "http://x"}, "lab must be an object"),
        ({"lab": {}}, "lab.url: ServerConfig needs a value"),
        ({"lab": {**ENTRY, "ulr": "x"}}, "lab.ulr: ServerConfig has no such field"),
        ({"lab": {**ENTRY, "num_attempts": 0}}, "lab.num_attempts: 0 is below"),
        ({"lab": {**ENTRY, "dtype": "int4"}}, "lab.dtype: 'int4' is not one of float32"),
        ({"lab": {**ENTRY, "handover": "folder"}}, "lab.handover_folder: '' must be an absolute"),
        (
            {"lab": {**ENTRY, "handover": "nccl", "api": "transformers"}},
            "lab.handover: nccl is vLLM's",
        ),
        ({"lab": {**ENTRY, "networks": ["10.0.0.0/99"]}}, "lab.networks: '10.0.0.0/99' is no"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(RecordError) as refused:
        read_servers(written(tmp_path, content))
    assert refused.value.field == SERVERS_VARIABLE
    assert message in str(refused.value)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"servers.json cannot be read"):
        read_servers(tmp_path / "servers.json")


def test_a_server_is_found_in_the_file_that_the_environment_names(tmp_path: Path) -> None:
    environment = {SERVERS_VARIABLE: str(written(tmp_path, {"lab": ENTRY}))}
    assert server_of("engine", "lab", environment) == ServerConfig.from_json(ENTRY)
    with pytest.raises(RecordError, match=r"engine: .* has no server 'lob'; it has lab"):
        server_of("engine", "lob", environment)
    with pytest.raises(RecordError, match=r"engine: 'lab' is a server, but .* names no file"):
        server_of("engine", "lab", {})


@pytest.mark.parametrize("name", ["http://10.0.0.1", "lab:80", "a/b", "", "lab.example"])
def test_an_engine_is_a_name_and_no_address(name: str) -> None:
    with pytest.raises(RecordError, match=r"engine: .* is no name"):
        check_engine_name(name)
