"""Health: whether the database and Redis answer."""

import logging

from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from redis import Redis
from redis.exceptions import RedisError

from webapp.access import public

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 1.0


@public
@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponseBase:
    """Return 200 when the database and Redis answer, else 503 and which does not."""
    health = {"database": _database_answers(), "redis": _redis_answers()}
    return JsonResponse(health, status=200 if all(health.values()) else 503)


def _database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        logger.exception("the database does not answer")
        return False
    return True


def _redis_answers() -> bool:
    try:
        with Redis.from_url(
            settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=1
        ) as redis:
            redis.ping()
    except RedisError:
        logger.exception("Redis does not answer")
        return False
    return True
