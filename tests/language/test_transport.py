"""The wire to a server: what is refused, what is bounded, and what is asked again."""

import shutil
import socket
import ssl
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from language.addresses import ForbiddenAddressError, allowed_addresses, origin_of
from language.transport import (
    ServerAnswerError,
    ServerError,
    ServerTimeoutError,
    ServerUnavailableError,
    Transport,
)
from records.errors import RecordError
from records.servers import ServerConfig
from tests.language.wires import response, wire

HERE = ("127.0.0.0/8",)
FINE = response(b'{"status": "ok"}')


def transport(url: str, **changes: Any) -> Transport:
    config = ServerConfig(url=url, networks=HERE, backoff_seconds=0.0, num_attempts=3)
    return Transport("lab", replace(config, **changes), pause=lambda _: None)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_an_answer_is_its_json() -> None:
    with wire(FINE) as server:
        answer = transport(server.url).ask("POST", "/x", {"a": 1}, may_repeat=True)
    assert answer == {"status": "ok"}
    head, _, body = server.heard[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /x HTTP/1.1")
    assert body == b'{"a": 1}'


def test_a_token_is_read_from_its_file_and_sent(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    with wire(FINE) as server:
        asked = transport(server.url, token_file=str(tmp_path / "token"))
        asked.ask("GET", "/x", may_repeat=True)
    assert b"Authorization: Bearer secret\r\n" in server.heard[0]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://127.0.0.1:8000", "http:// or https://"),
        ("file:///etc/passwd", "http:// or https://"),
        ("http://user:word@127.0.0.1:8000", "no user name"),
        ("http://127.0.0.1:8000/v1", "end after the port"),
        ("http://127.0.0.1:8000?a=b", "end after the port"),
        ("http://127.0.0.1:80000", "is no URL"),
        ("http://:8000", "must hold a host"),
    ],
)
def test_a_url_that_is_no_origin_is_refused(url: str, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        Transport("lab", ServerConfig(url=url))


@pytest.mark.parametrize(
    ("url", "networks", "message"),
    [
        # private, and not allowed
        ("http://127.0.0.1:80", (), "private address"),
        ("https://10.1.2.3", (), "private address"),
        ("https://10.1.2.3", ("192.168.0.0/16",), "private address"),
        ("https://[::1]", (), "private address"),
        # an IPv4 address in IPv6 dress is the same address
        ("https://[::ffff:127.0.0.1]", (), "private address"),
        # shorthand that resolves to this machine
        ("http://0x7f000001", (), "private address"),
        # cloud metadata, allowed by mistake
        ("http://169.254.169.254", ("0.0.0.0/0",), "never asked"),
        ("http://[fe80::1]", ("::/0",), "never asked"),
        ("http://0.0.0.0", ("0.0.0.0/0",), "never asked"),
        # public, and in the clear
        ("http://8.8.8.8", (), "https alone"),
    ],
)
def test_an_address_that_was_not_allowed_is_refused(
    url: str, networks: tuple[str, ...], message: str
) -> None:
    asked = Transport("lab", ServerConfig(url=url, networks=networks))
    with pytest.raises(ForbiddenAddressError, match=message):
        asked.ask("GET", "/x", may_repeat=True)


def test_allowed_addresses_are_those_that_a_name_resolves_to() -> None:
    origin = origin_of("http://localhost:8000")
    assert "127.0.0.1" in allowed_addresses(origin, ["127.0.0.0/8", "::1/128"])
    assert allowed_addresses(origin_of("https://8.8.8.8"), []) == ["8.8.8.8"]


def test_a_refused_address_is_not_connected_to() -> None:
    with wire(FINE) as server:
        asked = Transport("lab", ServerConfig(url=server.url))
        with pytest.raises(ForbiddenAddressError):
            asked.ask("GET", "/x", may_repeat=True)
        time.sleep(0.05)
        assert server.heard == []


def test_a_redirect_is_not_followed() -> None:
    with wire(FINE) as target:
        sent_on = response(b"", f"Location: {target.url}/x", status="307 Temporary Redirect")
        with (
            wire(sent_on) as server,
            pytest.raises(ServerAnswerError, match="redirects are refused") as refused,
        ):
            transport(server.url).ask("POST", "/x", {}, may_repeat=True)
        assert refused.value.status == 307
        assert target.heard == []


@pytest.mark.parametrize("has_length", [True, False])
def test_an_answer_over_size_is_refused(has_length: bool) -> None:
    body = b'"' + b"x" * 5000 + b'"'
    whole = response(body) if has_length else b"HTTP/1.0 200 OK\r\n\r\n" + body
    with wire(whole) as server:
        with pytest.raises(ServerAnswerError, match="max_response_bytes = 1024"):
            transport(server.url, max_response_bytes=1024).ask("GET", "/x", may_repeat=True)
        assert len(transport(server.url).ask("GET", "/x", may_repeat=True)) == 5000


def test_a_server_that_says_nothing_times_out_once() -> None:
    with wire(FINE, drip_seconds=1.0) as server:
        began = time.monotonic()
        with pytest.raises(ServerTimeoutError, match=r"no whole answer within 0.2 s"):
            transport(server.url, timeout_seconds=0.2).ask("GET", "/x", may_repeat=True)
        assert time.monotonic() - began < 5.0
        assert len(server.heard) == 1


def test_a_body_that_drips_does_not_put_the_time_off() -> None:
    answer = response(b'"' + b"x" * 1000 + b'"')
    with wire(answer, drip_seconds=0.01) as server, pytest.raises(ServerTimeoutError):
        transport(server.url, timeout_seconds=1.0).ask("GET", "/x", may_repeat=True)


def test_a_broken_connection_is_asked_again() -> None:
    with wire(None, response(b'{"a', length=100), FINE) as server:
        assert transport(server.url).ask("POST", "/x", {}, may_repeat=True) == {"status": "ok"}
        assert len(server.heard) == 3


def test_a_busy_server_is_asked_again_after_the_pause_it_names() -> None:
    pauses: list[float] = []
    busy = response(b"{}", "Retry-After: 7", status="503 Service Unavailable")
    with wire(busy, FINE) as server:
        config = ServerConfig(url=server.url, networks=HERE, backoff_seconds=0.5)
        asked = Transport("lab", config, pause=pauses.append)
        assert asked.ask("GET", "/x", may_repeat=True) == {"status": "ok"}
    assert pauses == [7.0]


def test_pauses_double_and_are_partly_chance() -> None:
    pauses: list[float] = []
    config = ServerConfig(url=f"http://127.0.0.1:{free_port()}", networks=HERE, backoff_seconds=1.0)
    with pytest.raises(ServerUnavailableError):
        Transport("lab", config, pause=pauses.append).ask("GET", "/x", may_repeat=True)
    assert len(pauses) == 3
    assert all(0.5 * 2**k <= pause <= 2**k for k, pause in enumerate(pauses))


def test_what_must_not_be_repeated_is_sent_once() -> None:
    with (
        wire(None, FINE) as server,
        pytest.raises(ServerUnavailableError, match="1 times of 1"),
    ):
        transport(server.url).ask("POST", "/update_weights", {}, may_repeat=False)
    assert len(server.heard) == 1


def test_a_refusal_is_not_asked_again() -> None:
    with (
        wire(response(b'{"error": "no such model"}', status="404 Not Found")) as server,
        pytest.raises(ServerAnswerError, match=r"status 404: .*no such model") as refused,
    ):
        transport(server.url).ask("POST", "/x", {}, may_repeat=True)
    assert refused.value.status == 404
    assert len(server.heard) == 1


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a file with a key and a certificate of our own for 127.0.0.1."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate")
    path = tmp_path / "own.pem"
    names = ["-subj", "/CN=lab", "-addext", "subjectAltName=IP:127.0.0.1"]
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *names]
    files = ["-keyout", str(path), "-out", str(tmp_path / "own.crt")]
    subprocess.run([openssl, "req", *options, *files], check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "own.crt").read_text())
    return path


def test_a_certificate_is_checked(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with wire(FINE, tls=tls) as server:
        url = server.url.replace("http:", "https:")
        with pytest.raises(ServerError, match=r"lab: its certificate does not hold: self"):
            transport(url).ask("GET", "/x", may_repeat=True)
        assert server.heard == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_name("own.crt")))
        assert transport(url).ask("GET", "/x", may_repeat=True) == {"status": "ok"}


def test_a_server_that_is_not_there_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ServerUnavailableError, match=f"lab: .*is the server at {url} running"):
        transport(url).ask("GET", "/x", may_repeat=True)
