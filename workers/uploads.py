"""Uploads of items: a worker of the cpu queue checks or adds them, and says how far it is."""

import logging

from annotation.services import fail_upload
from annotation.services import work_on_upload as work
from workers import redis_keys

logger = logging.getLogger(__name__)

_HINT_SECONDS = 60
"""How long a share that was read stands; longer than a lot takes."""


def work_on_upload(upload_id: int) -> None:
    """Check an upload, or add its items; nothing to do if another worker is at it or was."""

    def tell(share: float) -> None:
        try:
            redis_keys.client().set(redis_keys.upload_key(upload_id), share, ex=_HINT_SECONDS)
        except redis_keys.UNREACHABLE:
            logger.warning("Redis did not take how far upload %d is read", upload_id)

    try:
        work(upload_id, on_progress=tell)
    except Exception as error:
        logger.exception("Upload %d failed", upload_id)
        fail_upload(upload_id=upload_id, error=f"{type(error).__name__}: {error}")


def share_read(upload_id: int) -> float | None:
    """Return the share of an upload that its worker has read; None if nobody says."""
    try:
        value = redis_keys.client().get(redis_keys.upload_key(upload_id))
    except redis_keys.UNREACHABLE:
        return None
    return None if value is None else float(value)
