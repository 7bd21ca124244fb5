"""One PostgreSQL and one Redis for the whole session; Django is ready before any test is imported.

Where `DATABASE_URL` or `REDIS_URL` are set, those are used. The data folder is a temporary one in
any case: tests never touch the data of the clone. Where several processes share the tests, each
has a database of its own in both servers.
"""

import os
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import django
import pytest
from xdist.scheduler import LoadFileScheduling

from embedded.paths import secret_key
from embedded.services import ensure_services

_SESSION = ExitStack()
_WALKTHROUGH = Path("tests/walkthrough")


def _begin_session() -> None:
    """Set the environment, then load Django; at import, before any other conftest needs models."""
    folder = TemporaryDirectory(prefix="concord-tests-", ignore_cleanup_errors=True)
    home = Path(_SESSION.enter_context(folder))
    services = _SESSION.enter_context(ensure_services(home, durable=False))
    os.environ.update(services.environment())
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None:
        _begin_one_of_several(int(worker.removeprefix("gw")))
    os.environ["CONCORD_HOME"] = str(home)
    os.environ["CONCORD_SECRET_KEY"] = secret_key(home)
    os.environ["CONCORD_RESPONSE_FLOOR_MS"] = "0"
    os.environ["PET_LOG_DIR"] = str(home / "torchrun")  # what torchrun leaves goes with the rest
    os.environ["DJANGO_SETTINGS_MODULE"] = "webapp.settings"
    django.setup()


def _begin_one_of_several(number: int) -> None:
    """Keep out of the others' Redis database and off their core; PostgreSQL: see pytest-django."""
    url = urlsplit(os.environ["REDIS_URL"])
    os.environ["REDIS_URL"] = urlunsplit(url._replace(path=f"/{number + 1}"))
    os.environ["OMP_NUM_THREADS"] = "1"


def pytest_cmdline_main(config: pytest.Config) -> None:
    """Keep pytest-django in the other processes from reading the settings before `_begin_session`.

    They inherit the environment of this one.
    """
    if getattr(config.option, "numprocesses", None):
        del os.environ["DJANGO_SETTINGS_MODULE"]


class _Files(LoadFileScheduling):
    """Gives the files out whole, and all walks as one: they share trained models."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return str(_WALKTHROUGH) if Path(file).is_relative_to(_WALKTHROUGH) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Files:
    """Return who gives the tests out where several processes share them."""
    return _Files(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the walks, which take longest."""
    items.sort(key=lambda item: not item.nodeid.startswith(f"{_WALKTHROUGH}/"))


def pytest_unconfigure() -> None:
    """Stop the services and remove the data folder."""
    _SESSION.close()


_begin_session()
