"""Which code is running: every run stores the commit it was made with."""

import subprocess
from functools import cache

from django.conf import settings


@cache
def code_commit() -> str:
    """Return the commit of this checkout, with `-dirty` when files differ from it.

    Images hold no repository: there `CONCORD_COMMIT` says it. Without either it is `unknown`.
    """
    if settings.CODE_COMMIT:
        return str(settings.CODE_COMMIT)
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"
