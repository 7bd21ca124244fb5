"""Questions to a server by HTTP: guarded, bounded in time and size, repeated where that is safe."""

import http.client
import json
import random
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from language.addresses import ForbiddenAddressError, Origin, allowed_addresses, origin_of
from records.errors import RecordError
from records.servers import ServerConfig

_WORTH_REPEATING = {429, 502, 503, 504}
_MAX_PAUSE_SECONDS = 60.0
_CHUNK_BYTES = 2**16
_SHOWN_CHARACTERS = 300


class ServerError(Exception):
    """A server did not do what was asked.

    Attributes:
        server: Its name.
    """

    def __init__(self, server: str, message: str) -> None:
        super().__init__(f"{server}: {message}")
        self.server = server


class ServerUnavailableError(ServerError):
    """No answer came, in time or at all; another attempt may fare better."""


class ServerTimeoutError(ServerUnavailableError):
    """The answer was not complete in time."""


class ServerAnswerError(ServerError):
    """An answer came, and it is a refusal, a redirect, too long, or not what was asked for.

    Attributes:
        status: Of the answer.
    """

    def __init__(self, server: str, message: str, *, status: int = 200) -> None:
        super().__init__(server, message)
        self.status = status


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Sends questions to one server; may be used by many threads at once.

    Redirects are never followed, proxies never asked, and nothing but the configured host is
    reached.
    """

    def __init__(
        self, name: str, config: ServerConfig, *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self.name = name
        self.config = config
        self.origin = origin_of(config.url)
        self._pause = pause
        self._tls = ssl.create_default_context() if self.origin.is_secure else None
        self._token = ""
        if config.token_file:
            try:
                self._token = Path(config.token_file).read_text(encoding="utf-8").strip()
            except (OSError, ValueError) as error:
                raise RecordError("token_file", f"cannot be read: {error}") from error

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        may_repeat: bool,
    ) -> Any:  # noqa: ANN401 - whatever the server says
        """Return the answer's JSON, or its text where it is none.

        `may_repeat` says that asking twice does no harm: then it is asked again, after pauses that
        double, where the connection broke or the server was busy. An answer that takes too long is
        never asked for again: the server may still be at work on it.

        Raises:
            ServerUnavailableError: No answer after all attempts.
            ServerTimeoutError: The answer took longer than allowed.
            ServerAnswerError: An error status, a redirect, or an answer that is too long.
            ServerError: Its certificate does not hold.
            ForbiddenAddressError: The guard refuses the server's address.
        """
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        num_attempts = self.config.num_attempts if may_repeat else 1
        seconds = self.config.timeout_seconds
        for attempt in range(1, num_attempts + 1):
            pause = self._pause_after(attempt)
            try:
                answer = self._exchange(method, path, content, seconds)
            except TimeoutError as error:
                raise ServerTimeoutError(
                    self.name, f"{method} {path}: no whole answer within {seconds:g} s"
                ) from error
            except ssl.SSLCertVerificationError as error:
                raise ServerError(
                    self.name, f"its certificate does not hold: {error.verify_message}"
                ) from error
            except (OSError, http.client.HTTPException) as error:
                if attempt == num_attempts:
                    raise ServerUnavailableError(
                        self.name,
                        f"{method} {path}: {type(error).__name__}: {error}, {attempt} times of "
                        f"{num_attempts}; is the server at {self.config.url} running?",
                    ) from error
            else:
                if answer.status not in _WORTH_REPEATING or attempt == num_attempts:
                    return self._content(method, path, answer)
                pause = max(pause, _retry_after(answer))
            self._pause(min(pause, _MAX_PAUSE_SECONDS))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _pause_after(self, attempt: int) -> float:
        """Return how long to wait: half of it by chance, so that threads do not come together."""
        return self.config.backoff_seconds * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.0)

    def _exchange(self, method: str, path: str, content: bytes | None, seconds: float) -> _Answer:
        """Send one request and read its answer; connect and whole answer each have their limit."""
        connection = _GuardedConnection(self.origin, self.config, self._tls)
        headers = {"Accept": "application/json", "Connection": "close"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            connection.connect()
            sock = connection.sock  # `getresponse` takes it from the connection, and reads on
            give_up_at = time.monotonic() + seconds
            sock.settimeout(seconds)
            connection.request(method, path, body=content, headers=headers)
            response = connection.getresponse()
            body = self._read(path, response, sock, give_up_at)
            return _Answer(response.status, dict(response.getheaders()), body)
        finally:
            connection.close()

    def _read(
        self,
        path: str,
        response: http.client.HTTPResponse,
        sock: socket.socket,
        give_up_at: float,
    ) -> bytes:
        parts: list[bytes] = []
        num_bytes = 0
        while True:
            left = give_up_at - time.monotonic()
            if left <= 0.0:
                raise TimeoutError
            if sock.fileno() >= 0:
                sock.settimeout(left)
            part = response.read1(_CHUNK_BYTES)
            if not part:
                break
            parts.append(part)
            num_bytes += len(part)
            if num_bytes > self.config.max_response_bytes:
                raise ServerAnswerError(
                    self.name,
                    f"{path}: the answer is longer than max_response_bytes = "
                    f"{self.config.max_response_bytes}",
                    status=response.status,
                )
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return b"".join(parts)

    def _content(self, method: str, path: str, answer: _Answer) -> Any:  # noqa: ANN401
        text = answer.body.decode("utf-8", errors="replace")
        asked = f"{method} {path}"
        if 300 <= answer.status < 400:
            target = answer.headers.get("Location", "nowhere")
            raise ServerAnswerError(
                self.name,
                f"{asked}: it sends us on to {target[:_SHOWN_CHARACTERS]}; redirects are refused, "
                "so enter the server's own URL",
                status=answer.status,
            )
        if answer.status >= 400:
            raise ServerAnswerError(
                self.name,
                f"{asked}: status {answer.status}: {text[:_SHOWN_CHARACTERS]}",
                status=answer.status,
            )
        try:
            return json.loads(text)
        except ValueError:
            return text


class _GuardedConnection(http.client.HTTPConnection):
    """A connection to an address that was checked, under the name it was looked up by."""

    def __init__(self, origin: Origin, config: ServerConfig, tls: ssl.SSLContext | None) -> None:
        super().__init__(origin.host, origin.port, timeout=config.connect_timeout_seconds)
        self._origin, self._config, self._tls = origin, config, tls
        self.sock: socket.socket

    def connect(self) -> None:
        """Connect to the first address that answers.

        Raises:
            ForbiddenAddressError: The guard refuses an address.
            OSError: None answers.
        """
        failure: OSError | None = None
        for address in allowed_addresses(self._origin, self._config.networks):
            try:
                plain = socket.create_connection(
                    (address, self._origin.port), self._config.connect_timeout_seconds
                )
            except OSError as error:
                failure = error
                continue
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            host = self._origin.host
            self.sock = self._tls.wrap_socket(plain, server_hostname=host) if self._tls else plain
            return
        # A connection that takes too long is like one that is refused: nothing was asked yet.
        raise ConnectionError(str(failure)) from failure


def _retry_after(answer: _Answer) -> float:
    """Return the seconds that a busy server asks for; 0 where it says none or a date."""
    value = answer.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0


__all__ = [
    "ForbiddenAddressError",
    "ServerAnswerError",
    "ServerError",
    "ServerTimeoutError",
    "ServerUnavailableError",
    "Transport",
]
