"""Health: what a load balancer asks."""

import json
import os
import subprocess
import sys

import pytest
from django.test import Client

SCRIPT = """
import json, django
django.setup()
from django.test import Client
response = Client(headers={"host": "localhost"}).get("/healthz")
print(json.dumps([response.status_code, response.json()]))
"""


@pytest.mark.django_db
def test_everything_answers(client: Client) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"database": True, "redis": True})
    assert "no-store" in response.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("name", "url", "health"),
    [
        ("REDIS_URL", "redis://127.0.0.1:1/0", {"database": True, "redis": False}),
        ("DATABASE_URL", "postgres://u:p@127.0.0.1:1/none", {"database": False, "redis": True}),
    ],
)
def test_what_does_not_answer_is_named_at_once(
    name: str, url: str, health: dict[str, bool]
) -> None:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, name: url},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.stdout, result.stderr
    assert json.loads(result.stdout) == [503, health]
