"""Fixtures for tests of real servers and real processes."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded.services import ensure_services
from tests.embedded.processes import Holder


@pytest.fixture(autouse=True)
def no_services_in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session has services of its own; here each test brings the ones it is about."""
    for name in ("DATABASE_URL", "REDIS_URL", "CONCORD_HOME", "CONCORD_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def finished_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose services were started once and stopped."""
    folder = tmp_path_factory.mktemp("finished") / "home"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATABASE_URL", "REDIS_URL"):
            patch.delenv(name, raising=False)
        with ensure_services(folder):
            pass
    return folder


@pytest.fixture
def home(finished_home: Path, tmp_path: Path) -> Path:
    """A data folder of the test's own; a copy, because making a cluster takes its time."""
    return Path(shutil.copytree(finished_home, tmp_path / "home"))


@pytest.fixture
def empty_home(tmp_path: Path) -> Path:
    """A data folder that does not exist yet."""
    return tmp_path / "home"


@pytest.fixture
def holder(home: Path) -> Iterator[Holder]:
    """Another process that holds the services of `home`."""
    with Holder.start(home) as running:
        yield running


@pytest.fixture
def as_root() -> None:
    """Skip where the tests do not run as root."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
