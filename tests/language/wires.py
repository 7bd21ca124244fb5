"""Small real HTTP servers that misbehave on the wire, for what no well-kept server does."""

import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


def response(
    body: bytes, *headers: str, status: str = "200 OK", length: int | None = None
) -> bytes:
    """Return the bytes of an HTTP answer; `length` is what it says of its body.

    It says that the connection ends with it: a client that kept the connection would send its
    next request into a closing one, and now and then be reset.
    """
    stated = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {stated}", "Connection: close"]
    lines += [*headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Wire:
    """What a server heard, and where it is.

    Attributes:
        heard: The bytes of each request.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.heard: list[bytes] = []

    @property
    def url(self) -> str:
        """Its URL on this machine."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def wire(
    *answers: bytes | None, drip_seconds: float = 0.0, tls: ssl.SSLContext | None = None
) -> Iterator[Wire]:
    """Run a server that gives one answer a connection, the last again and again.

    None hangs up in the middle of a request. With `drip_seconds` a byte goes out at a time.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    if tls is not None:
        listener = tls.wrap_socket(listener, server_side=True)
    serving = Wire(listener.getsockname()[1])

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except ssl.SSLError:
                continue  # the client does not trust us
            except OSError:
                return
            with connection:
                serving.heard.append(_request(connection))
                answer = answers[min(len(serving.heard), len(answers)) - 1]
                try:
                    for part in _parts(answer or b"", drip_seconds):
                        connection.sendall(part)
                except OSError:
                    continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield serving
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=5.0)


def _request(connection: socket.socket) -> bytes:
    """Return one whole request: head and body may come in parts."""
    data = b""
    while True:
        head, end, body = data.partition(b"\r\n\r\n")
        stated = re.search(rb"(?i)content-length: (\d+)", head)
        if end and len(body) >= (int(stated[1]) if stated else 0):
            return data
        part = connection.recv(2**16)
        if not part:
            return data
        data += part


def _parts(answer: bytes, drip_seconds: float) -> Iterator[bytes]:
    if not drip_seconds:
        yield answer
        return
    for index in range(len(answer)):
        time.sleep(drip_seconds)
        yield answer[index : index + 1]
