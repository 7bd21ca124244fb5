"""Sessions in the database, as Django keeps them, read by a statement that is planned once."""

from typing import Any

from django.contrib.sessions.backends import db
from django.db import InterfaceError, OperationalError, connection

from annotation.statements import Statement

_LOAD = Statement(
    "session",
    """
    SELECT session_data FROM django_session
    WHERE session_key = %(key)s AND expire_date > statement_timestamp()
    """,
)


class SessionStore(db.SessionStore):
    """Django's sessions; only how they are read differs."""

    def load(self) -> dict[str, Any]:
        """Return the data of the session; nothing, and its key forgotten, if there is none."""
        row = self._row()
        if row is None:
            self._session_key = None
            return {}
        data: dict[str, Any] = self.decode(row[0])
        return data

    def _row(self) -> tuple[Any, ...] | None:
        values = {"key": self.session_key}
        # A request begins with this statement, so it shows whether the connection is alive: the
        # one that Django would send before it (CONN_HEALTH_CHECKS) is spared.
        connection.health_check_done = True  # type: ignore[attr-defined] # the stubs lack it
        try:
            return _LOAD.row(values)
        except (OperationalError, InterfaceError):
            if connection.in_atomic_block:
                raise
            connection.close()
            return _LOAD.row(values)
