"""The few Redis keys beside Celery's own: they hold hints, never the truth."""

from typing import Any

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from workers.celery import app

UNREACHABLE = (OperationalError, RedisError)
"""What is raised when Redis is away: by the connection, or by a command."""
SAMPLER_NUDGED = "concord:sampler-nudged"
"""Set while a nudge of the sampler is on its way."""


def alive_key(queue: str) -> str:
    """Return the sorted set of worker processes that serve `queue`, by time of last sign."""
    return f"concord:alive:{queue}"


def upload_key(upload_id: int) -> str:
    """Return where the worker at an upload says how far it has read."""
    return f"concord:upload:{upload_id}"


def client() -> Any:  # noqa: ANN401 - kombu hides which Redis client it made
    """Return the Redis client of the broker connection: one address for messages and hints."""
    with app.connection_or_acquire() as connection:
        return connection.default_channel.client
