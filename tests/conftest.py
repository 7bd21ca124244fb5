"""One PostgreSQL and one Redis for the whole session; Django is ready before any test is imported.

Where `DATABASE_URL` or `REDIS_URL` are set, those are used. The data folder is a temporary one in
any case: tests never touch the data of the clone.
"""

import os
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import django

from embedded.paths import secret_key
from embedded.services import ensure_services

_SESSION = ExitStack()


def _begin_session() -> None:
    """Set the environment, then load Django; at import, before any other conftest needs models."""
    folder = TemporaryDirectory(prefix="concord-tests-", ignore_cleanup_errors=True)
    home = Path(_SESSION.enter_context(folder))
    services = _SESSION.enter_context(ensure_services(home, durable=False))
    os.environ.update(services.environment())
    os.environ["CONCORD_HOME"] = str(home)
    os.environ["CONCORD_SECRET_KEY"] = secret_key(home)
    os.environ["CONCORD_RESPONSE_FLOOR_MS"] = "0"
    os.environ["DJANGO_SETTINGS_MODULE"] = "webapp.settings"
    django.setup()


def pytest_unconfigure() -> None:
    """Stop the services and remove the data folder."""
    _SESSION.close()


_begin_session()
