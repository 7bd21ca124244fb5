"""A database of its own, a web process, and annotators who judge pair after pair over HTTP."""

import http.client
import os
import re
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import psycopg2

from benchmarks import annotator_seed
from benchmarks.frame import ROOT

_DATABASE = "concord_benchmark"
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_HTMX = {"HX-Request": "true"}


class LoopFigures(NamedTuple):
    """What the loop cost; a loop is the submit of a judgement with the next pair in the answer."""

    num_rows: int
    num_annotators: int
    num_loops: int
    web_cpu_seconds: float
    database_cpu_seconds: float
    seconds: list[float]
    """Wall time of each loop."""
    web_megabytes: float
    queries_per_loop: int
    thinking_seconds: float

    @property
    def loops_per_cpu_second(self) -> float:
        """Loops per CPU second of web and database together."""
        return self.num_loops / (self.web_cpu_seconds + self.database_cpu_seconds)

    def details(self) -> dict[str, float]:
        """Return the parts, for the result's line."""
        ranked = sorted(self.seconds)

        def percentile(share: float) -> float:
            return round(1000 * ranked[min(len(ranked) - 1, int(share * len(ranked)))], 1)

        return {
            "comparisons_in_database": self.num_rows,
            "annotators": self.num_annotators,
            "thinking_seconds": self.thinking_seconds,
            "loops": self.num_loops,
            "web_cpu_ms": round(1000 * self.web_cpu_seconds / self.num_loops, 2),
            "database_cpu_ms": round(1000 * self.database_cpu_seconds / self.num_loops, 2),
            "p50_ms": round(1000 * statistics.median(ranked), 1),
            "p95_ms": percentile(0.95),
            "p99_ms": percentile(0.99),
            "queries_per_loop": self.queries_per_loop,
            "web_megabytes": round(self.web_megabytes),
        }


def measure(
    sizes: Sequence[int],
    crowds: Sequence[int],
    *,
    num_loops: int,
    thinking_seconds: float = 0.0,
) -> Iterator[LoopFigures]:
    """Fill a database to each of `sizes` and let each of `crowds` judge `num_loops` pairs in all.

    The largest crowd works once more at each size with `thinking_seconds` between two loops.
    """
    with own_database() as url:
        os.environ["DATABASE_URL"] = url
        seed = annotator_seed.begin(max(crowds))
        num_rows = 0
        for size in sizes:
            annotator_seed.fill(seed, first=num_rows + 1, last=size)
            num_rows = size
            cookies = annotator_seed.sessions(seed)
            num_queries = annotator_seed.queries_per_loop(cookies[0])
            with _web() as (process_id, port):
                clients = [_Client(port, cookie) for cookie in cookies]
                for crowd, pause in [
                    *((crowd, 0.0) for crowd in crowds),
                    *([(max(crowds), thinking_seconds)] if thinking_seconds else []),
                ]:
                    yield _work(
                        clients[:crowd], url, process_id, num_rows, num_loops, num_queries, pause
                    )


def _work(
    clients: "Sequence[_Client]",
    url: str,
    process_id: int,
    num_rows: int,
    num_loops: int,
    num_queries: int,
    pause: float,
) -> LoopFigures:
    for client in clients:  # warm-up: a first pair, and one loop
        client.begin()
        client.judge()
    each = max(2, num_loops // len(clients))
    web, database = _cpu_seconds(_tree(process_id)), _cpu_seconds(_backends(url))
    seconds: list[list[float]] = [[] for _ in clients]

    def annotate(index: int) -> None:
        time.sleep(pause * index / len(clients))
        for _ in range(each):
            seconds[index].append(clients[index].judge())
            time.sleep(pause)

    threads = [threading.Thread(target=annotate, args=(i,)) for i in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [value for row in seconds for value in row]
    assert len(done) == each * len(clients), "an annotator has stopped early"
    return LoopFigures(
        num_rows=num_rows,
        num_annotators=len(clients),
        num_loops=len(done),
        web_cpu_seconds=_cpu_seconds(_tree(process_id)) - web,
        database_cpu_seconds=_cpu_seconds(_backends(url)) - database,
        seconds=done,
        web_megabytes=max(map(_megabytes, _tree(process_id)[1:])),
        queries_per_loop=num_queries,
        thinking_seconds=pause,
    )


class _Client:
    """A browser's share of the loop: one connection, cookies, the htmx form."""

    def __init__(self, port: int, session: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._cookies = {"sessionid": session}
        self._page = ""

    def begin(self) -> None:
        """Take the next task and open its page."""
        self._send("GET", "/annotate/")
        status, address, _ = self._send("POST", "/annotate/next/", {})
        assert status == 302, f"the next task answered {status}"
        self._page = self._send("GET", address)[2]

    def judge(self) -> float:
        """Submit a judgement of the pair on the page; return the seconds until the next one."""
        choices = re.findall(r'name="choice" value="([^"]+)"', self._page)
        assert len(choices) == 8, "the page shows no pair"
        address = re.findall(r'hx-post="([^"]+/judge/)"', self._page)[0]
        fields = {"choice": choices[1], "client_key": str(uuid.uuid4()), "active_seconds": "20"}
        start = time.perf_counter()
        status, _, self._page = self._send("POST", address, fields, _HTMX)
        seconds = time.perf_counter() - start
        assert status == 200, f"the judgement answered {status}"
        return seconds

    def _send(
        self,
        method: str,
        path: str,
        fields: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, str, str]:
        sent = {
            "Cookie": "; ".join(f"{k}={v}" for k, v in self._cookies.items()),
            **(headers or {}),
        }
        body = None
        if fields is not None:
            token = self._cookies["csrftoken"]
            body = urllib.parse.urlencode({**fields, "csrfmiddlewaretoken": token})
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            self._connection.request(method, path, body, sent)
            response = self._connection.getresponse()
        except ConnectionError:
            # The server closes connections that rest; the client key makes a repeat harmless.
            self._connection.close()
            self._connection.request(method, path, body, sent)
            response = self._connection.getresponse()
        text = response.read().decode()
        for cookie in response.headers.get_all("Set-Cookie") or ():
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name] = value
        return response.status, response.headers.get("Location", ""), text


@contextmanager
def own_database() -> Iterator[str]:
    """Make an empty database beside that of `DATABASE_URL`, yield its address, and drop it."""
    parts = urlsplit(os.environ["DATABASE_URL"])

    def execute(statement: str) -> None:
        with closing(psycopg2.connect(urlunsplit(parts))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)

    execute(f"DROP DATABASE IF EXISTS {_DATABASE} WITH (FORCE)")
    execute(f"CREATE DATABASE {_DATABASE}")
    try:
        yield urlunsplit(parts._replace(path=f"/{_DATABASE}"))
    finally:
        from django.db import connections

        connections.close_all()
        execute(f"DROP DATABASE {_DATABASE} WITH (FORCE)")


@contextmanager
def _web() -> Iterator[tuple[int, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ("--workers", "1", "--threads", "4", "--bind", f"127.0.0.1:{port}")
    command = [sys.executable, "-m", "gunicorn", "webapp.wsgi", *options, "--no-control-socket"]
    environment: dict[str, Any] = {**os.environ, "CONCORD_LOG_LEVEL": "WARNING"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as child:
        try:
            _wait_until_open(port)
            yield child.pid, port
        finally:
            child.terminate()


def _wait_until_open(port: int, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _tree(process_id: int) -> list[int]:
    """Return a process and its children."""
    children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()
    return [process_id, *map(int, children)]


def _backends(url: str) -> list[int]:
    """Return the PostgreSQL processes that serve our database."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            [_DATABASE],
        )
        return [pid for (pid,) in cursor.fetchall()]


def _cpu_seconds(process_ids: list[int]) -> float:
    ticks = 0
    for process_id in process_ids:
        fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # user and system time
    return ticks / _TICKS_PER_SECOND


def _megabytes(process_id: int) -> float:
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20
