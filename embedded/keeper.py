"""The keeper: one process per data folder that owns both servers and outlives its askers.

`python -m embedded.keeper FOLDER LOCK_DESCRIPTOR` listens on `FOLDER/keeper.sock`, goes into the
background and serves until the last connection has gone. One connection is one user of the
services: a line of JSON says which ones, a line of JSON gives their URLs, and from then on the
connection only has to stay open.
"""

import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from embedded.children import signal_socket
from embedded.errors import ServiceError
from embedded.postgresql import PostgreSQL
from embedded.redisserver import Redis
from embedded.servers import Server
from embedded.services import socket_address

_SERVERS: dict[str, Callable[[Path, bool], Server]] = {"postgres": PostgreSQL, "redis": Redis}
_FIRST_CONNECTION_SECONDS = 30.0
"""So long the keeper waits for whoever started it; it was killed if it has not come by then."""
_REQUEST_TIMEOUT_SECONDS = 10.0
_RESTARTS_PER_MINUTE = 5


@dataclass
class Keeper:
    """The state of one keeper: its servers and the connections that need them."""

    folder: Path
    listener: socket.socket
    servers: dict[str, Server] = field(default_factory=dict)
    connections: set[socket.socket] = field(default_factory=set)
    restarts: list[float] = field(default_factory=list)
    is_stopping: bool = False

    def serve(self) -> None:
        """Serve until the last connection goes, SIGTERM comes or a server cannot be kept up."""
        with selectors.DefaultSelector() as selector, signal_socket() as signals:
            selector.register(self.listener, selectors.EVENT_READ)
            selector.register(signals, selectors.EVENT_READ)
            timeout: float | None = _FIRST_CONNECTION_SECONDS
            while not self.is_stopping:
                events = selector.select(timeout)
                if not events and not self.connections:
                    break
                timeout = None
                for key, _ in events:
                    if key.fileobj is self.listener:
                        self._welcome(selector)
                    elif key.fileobj is signals:
                        signals.recv(4096)
                        self._keep_up()
                    elif isinstance(key.fileobj, socket.socket):
                        self._dismiss(key.fileobj, selector)

    def _welcome(self, selector: selectors.BaseSelector) -> None:
        connection, _ = self.listener.accept()
        connection.settimeout(_REQUEST_TIMEOUT_SECONDS)
        try:
            answer = self._answer(json.loads(_read_line(connection)))
            connection.sendall(json.dumps(answer).encode() + b"\n")
        except (OSError, ValueError) as error:
            _say(f"a connection went before it was served: {error!r}")
            self._drop(connection)
            return
        if "error" in answer:
            self._drop(connection)
            return
        self.connections.add(connection)
        selector.register(connection, selectors.EVENT_READ)

    def _answer(self, request: dict[str, object]) -> dict[str, str]:
        names = request["services"]
        assert isinstance(names, list), request
        try:
            for name in names:
                if name not in self.servers:
                    server = _SERVERS[name](self.folder, bool(request["durable"]))
                    server.start()
                    self.servers[name] = server
                    _say(f"{name} runs as process {server.process.pid}")
        except (ServiceError, OSError) as error:
            return {"error": str(error)}
        return {name: self.servers[name].url for name in names}

    def _dismiss(self, connection: socket.socket, selector: selectors.BaseSelector) -> None:
        """Let one user go. The last one is only let go when the servers have stopped."""
        selector.unregister(connection)
        if len(self.connections) == 1:
            self.is_stopping = True
        else:
            self.connections.discard(connection)
            connection.close()

    def _drop(self, connection: socket.socket) -> None:
        connection.close()
        if not self.connections:
            self.is_stopping = True

    def _keep_up(self) -> None:
        """Start servers that died again, on their ports; give up when that happens too often."""
        for name, server in self.servers.items():
            status = server.process.poll()
            if status is None or self.is_stopping:
                continue
            now = time.monotonic()
            self.restarts = [moment for moment in self.restarts if now - moment < 60] + [now]
            _say(f"{name} ended with status {status}")
            if len(self.restarts) > _RESTARTS_PER_MINUTE:
                _say(f"{name} ends again and again: the services stop")
                self.is_stopping = True
                return
            try:
                server.start()
            except (ServiceError, OSError) as error:
                _say(f"{name} could not be started again: {error}")
                self.is_stopping = True

    def stop(self) -> None:
        """Take no more users and stop the servers."""
        self.listener.close()
        (self.folder / "keeper.sock").unlink(missing_ok=True)
        for name, server in self.servers.items():
            server.stop()
            _say(f"{name} stopped")


def main() -> None:
    """Listen, go into the background, serve."""
    folder = Path(sys.argv[1])
    # sys.argv[2] is the descriptor of the lock; it stays open as long as this process lives.
    (folder / "keeper.sock").unlink(missing_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(socket_address(descriptor))
    listener.listen(128)
    os.close(descriptor)
    if os.fork():
        os._exit(0)  # whoever started us may connect now
    os.setsid()
    keeper = Keeper(folder, listener)

    def on_signal(number: int, _frame: object) -> None:
        if number == signal.SIGTERM:
            keeper.is_stopping = True

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGCHLD, on_signal)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    status = 1
    try:
        keeper.serve()
        status = 0
    finally:
        if status:
            traceback.print_exc()
        keeper.stop()
        # The users who wait for the end see it when their connection closes. Left to the kernel,
        # that happens together with the release of the lock, when this process is as good as gone.
        os._exit(status)


def _read_line(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        data = connection.recv(65536)
        if not data:
            raise ConnectionError("closed before it asked")
        line += data
    return line


def _say(message: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
