"""A database of its own with judged-to-be comparisons, a web process, and one annotator's loop."""

import http.client
import os
import re
import resource
import socket
import statistics
import subprocess
import sys
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import psycopg2

from benchmarks.frame import ROOT

_DATABASE = "concord_benchmark"
_PASSWORD = "annotator-loop-benchmark"  # noqa: S105 - of a database that lives for a minute
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class LoopFigures(NamedTuple):
    """What the loop cost; a loop is the submit of a judgement and the page that follows."""

    num_loops: int
    web_cpu_seconds: float
    database_cpu_seconds: float
    seconds: list[float]
    """Wall time of each loop."""
    web_megabytes: float

    @property
    def loops_per_cpu_second(self) -> float:
        """Loops per CPU second of web and database together."""
        return self.num_loops / (self.web_cpu_seconds + self.database_cpu_seconds)

    def details(self) -> dict[str, float]:
        """Return the parts, for the result's line."""
        ranked = sorted(self.seconds)
        return {
            "loops": self.num_loops,
            "comparisons_in_database": self.num_loops,
            "annotators": 1,
            "web_cpu_ms": round(1000 * self.web_cpu_seconds / self.num_loops, 2),
            "database_cpu_ms": round(1000 * self.database_cpu_seconds / self.num_loops, 2),
            "p50_ms": round(1000 * statistics.median(ranked), 1),
            "p95_ms": round(1000 * ranked[int(0.95 * len(ranked))], 1),
            "web_megabytes": round(self.web_megabytes),
        }


def measure(num_loops: int) -> LoopFigures:
    """Seed a database, serve it, and judge `num_loops` comparisons over HTTP."""
    with _own_database() as url:
        os.environ["DATABASE_URL"] = url
        pairs = _seed(num_loops + 5)
        with _web() as (process_id, port):
            client = _Client(port)
            client.sign_in("annotator", _PASSWORD)
            for pair in pairs[:5]:  # warm-up
                client.judge(*pair)
            web, database = _cpu_seconds(_tree(process_id)), _cpu_seconds(_backends(url))
            seconds = [client.judge(*pair) for pair in pairs[5:]]
            return LoopFigures(
                num_loops=num_loops,
                web_cpu_seconds=_cpu_seconds(_tree(process_id)) - web,
                database_cpu_seconds=_cpu_seconds(_backends(url)) - database,
                seconds=seconds,
                web_megabytes=max(map(_megabytes, _tree(process_id)[1:])),
            )


class _Client:
    """A browser's share of the loop: one connection, cookies, forms."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._cookies: dict[str, str] = {}

    def sign_in(self, username: str, password: str) -> None:
        """Sign in through the form."""
        self._send("GET", "/sign-in/")
        fields = {"username": username, "password": password, "next": "/annotate/"}
        status, _ = self._send("POST", "/sign-in/", fields)
        assert status == 302, f"sign-in answered {status}"

    def judge(self, dialogue_id: int, comparison_id: int) -> float:
        """Open the pair, then time the submit of a judgement and the page after it."""
        path = f"/annotate/dialogues/{dialogue_id}/"
        _, page = self._send("GET", path)
        choices = re.findall(r'name="choice" value="([^"]+)"', page)
        assert len(choices) == 8, f"the page of comparison {comparison_id} shows no pair"
        fields = {"choice": choices[1], "client_key": str(uuid.uuid4()), "active_seconds": "20"}
        start = time.perf_counter()
        status, _ = self._send("POST", f"/annotate/comparisons/{comparison_id}/judge/", fields)
        assert status == 302, f"the judgement answered {status}"
        self._send("GET", path)
        return time.perf_counter() - start

    def _send(
        self, method: str, path: str, fields: dict[str, str] | None = None
    ) -> tuple[int, str]:
        headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in self._cookies.items())}
        body = None
        if fields is not None:
            token = self._cookies["csrftoken"]
            body = urllib.parse.urlencode({**fields, "csrfmiddlewaretoken": token})
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        text = response.read().decode()
        for cookie in response.headers.get_all("Set-Cookie") or ():
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name] = value
        return response.status, text


@contextmanager
def _own_database() -> Iterator[str]:
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


def _seed(count: int) -> list[tuple[int, int]]:
    """Return (dialogue id, comparison id) of `count` pairs that wait to be judged."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    from annotation import services
    from annotation.services import NewSample, NewVariant
    from records.preferences import Axis
    from registry.models import Artifact
    from registry.services import publish_artifact, register_policy

    lead = services.create_user(username="lead", role="lead")
    annotator = services.create_user(username="annotator", role="annotator", password=_PASSWORD)
    artifact = publish_artifact(path=Path(__file__), kind=Artifact.Kind.POLICY)
    policy = register_policy(name="benchmark", artifact=artifact)
    guidelines = services.publish_guidelines(
        axis=Axis.HELPFULNESS, version="1", text="Choose the better one.", created_by=lead
    )
    round_ = services.open_round(
        name="benchmark",
        axis=Axis.HELPFULNESS,
        guidelines=guidelines,
        variants=[NewVariant(policy)],
        target_comparisons=count,
        max_turns=1,
        opened_by=lead,
    )
    pairs = []
    for index in range(count):
        dialogue = services.start_dialogue(
            annotator=annotator, round_=round_, client_key=uuid.uuid4()
        )
        comparison = services.write_prompt(
            annotator=annotator,
            dialogue=dialogue,
            text=f"What is {index} plus {index}?",
            client_key=uuid.uuid4(),
        )
        (job,) = services.claim_comparisons_for_sampling(limit=1, worker="benchmark")
        samples = [
            NewSample(
                policy=policy,
                text=f"The answer is **{2 * index + number}**.",
                temperature=request.temperature,
                top_p=request.top_p,
                seed=request.seed,
                num_tokens=8,
                is_finished=True,
            )
            for number, request in enumerate(job.requests)
        ]
        services.store_samples(comparison_id=comparison.pk, samples=samples)
        pairs.append((dialogue.pk, comparison.pk))
    return pairs


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
