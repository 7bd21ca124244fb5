"""The container files: what is in which image, and that no secret has a default."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedded.postgresql import PostgreSQL
from embedded.processes import web, workers
from tests.embedded.processes import PROJECT

TORCH_WORLD = {"torch", "transformers", "tokenizers", "safetensors", "peft", "accelerate"}


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
    return loaded


def services() -> dict[str, Any]:
    found: dict[str, Any] = compose()["services"]
    return found


def dockerfile(name: str) -> str:
    return (PROJECT / "docker" / f"{name}.Dockerfile").read_text()


def copied_into(name: str) -> list[str]:
    return re.findall(r"^COPY (\S+) ", dockerfile(name), flags=re.MULTILINE)


def packages_of(lock: str) -> set[str]:
    lines = (PROJECT / "requirements" / lock).read_text().splitlines()
    return {line.partition("==")[0] for line in lines if line and not line.startswith("#")}


def queue_of(command: list[str] | tuple[str, ...]) -> str | None:
    return command[command.index("-Q") + 1] if "-Q" in command else None


def test_the_web_image_has_no_torch() -> None:
    assert "pip install -r requirements/web.lock" in dockerfile("web")
    assert dockerfile("web").count("pip install") == 1
    assert packages_of("web.lock") & TORCH_WORLD == set()
    assert not [name for name in packages_of("web.lock") if name.startswith("nvidia")]


def test_the_worker_image_has_torch_in_the_same_versions_of_everything_else() -> None:
    assert "pip install -r requirements/worker.lock" in dockerfile("worker")
    assert packages_of("worker.lock") >= TORCH_WORLD
    web_lines = set((PROJECT / "requirements/web.lock").read_text().splitlines()[1:])
    worker_lines = set((PROJECT / "requirements/worker.lock").read_text().splitlines()[1:])
    assert web_lines <= worker_lines


@pytest.mark.parametrize("name", ["web", "worker"])
def test_an_image_copies_only_what_exists(name: str) -> None:
    assert [path for path in copied_into(name) if not (PROJECT / path).exists()] == []


def test_the_web_image_holds_every_package_that_the_web_imports(tmp_path: Path) -> None:
    for path in copied_into("web"):
        if (PROJECT / path).is_dir():
            shutil.copytree(PROJECT / path, tmp_path / path)
        elif path == "manage.py":
            shutil.copy(PROJECT / path, tmp_path)
    environment = {
        **os.environ,
        "CONCORD_SECRET_KEY": "only-for-this-check",
        "DATABASE_URL": "postgres://nobody@nowhere/nothing",
        "CONCORD_HOME": str(tmp_path / "data"),
    }
    code = (
        "import sys; sys.modules.update(dict.fromkeys("
        f"{sorted(TORCH_WORLD)!r})); "  # None: importing it raises ImportError
        "import django; from django.conf import settings; django.setup(); "
        "import webapp.urls, workers.tasks"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**environment, "DJANGO_SETTINGS_MODULE": "webapp.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr


def test_no_secret_has_a_default() -> None:
    text = (PROJECT / "docker-compose.yml").read_text()
    for name in ("CONCORD_SECRET_KEY", "POSTGRES_PASSWORD", "REDIS_PASSWORD"):
        uses = re.findall(rf"\$\{{{name}(.*?)\}}", text)
        assert uses, name
        assert all(use.startswith(":?") for use in uses), name


def test_databases_and_queues_are_reached_from_inside_alone() -> None:
    published = {name for name, service in services().items() if "ports" in service}
    assert published == {"web"}


def test_every_queue_has_a_service_as_on_one_machine() -> None:
    here = {queue_of(process.command) for process in (web(8000), *workers(Path()))} - {None}
    there = {queue_of(service.get("command", [])) for service in services().values()} - {None}
    assert there == here


@pytest.mark.parametrize("name", ["gpu-worker", "sampling-worker", "vllm"])
def test_a_service_with_a_model_gets_a_gpu(name: str) -> None:
    (device,) = services()[name]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]


def test_everything_of_ours_waits_for_the_migrations() -> None:
    ours = [n for n, s in services().items() if s.get("image", "").startswith("concord")]
    assert len(ours) == 6
    for name in set(ours) - {"migrate"}:
        condition = services()[name]["depends_on"]["migrate"]["condition"]
        assert condition == "service_completed_successfully", name


def test_every_service_is_watched_or_says_why_not() -> None:
    unwatched = {name for name, service in services().items() if "healthcheck" not in service}
    assert unwatched == {"migrate"}  # it ends


def test_vllm_is_started_on_request_alone() -> None:
    assert {n for n, s in services().items() if "profiles" in s} == {"vllm"}


def test_the_container_runs_the_same_major_version_of_postgresql(tmp_path: Path) -> None:
    postgres = PostgreSQL(tmp_path, durable=False).programs / "postgres"
    text = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=True)
    major = text.stdout.split()[2].partition(".")[0]
    assert services()["postgres"]["image"] == f"postgres:{major}"
