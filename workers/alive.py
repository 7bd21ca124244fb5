"""Which queues have a living worker: each worker process signs in Redis every few seconds."""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterable, Mapping

from workers import redis_keys

logger = logging.getLogger(__name__)

QUEUES = ("cpu", "gpu", "sampling")
SIGN_SECONDS = 2.0
"""Time between two signs of one worker."""
ALIVE_SECONDS = 10.0
"""A worker that has not signed for so long counts as dead."""


def workers_alive() -> Mapping[str, bool]:
    """Return for each queue whether a worker serves it now; all False without Redis.

    One round trip, so that every page can ask.
    """
    since = time.time() - ALIVE_SECONDS
    try:
        pipeline = redis_keys.client().pipeline(transaction=False)
        for queue in QUEUES:
            pipeline.zcount(redis_keys.alive_key(queue), since, "+inf")
        counts = pipeline.execute()
    except redis_keys.UNREACHABLE:
        logger.exception("Redis did not say which workers are alive")
        return dict.fromkeys(QUEUES, False)
    return {queue: count > 0 for queue, count in zip(QUEUES, counts, strict=True)}


def worker_name() -> str:
    """Return a name for this process that no other process has at the same time."""
    return f"{socket.gethostname()}:{os.getpid()}"


class AliveThread(threading.Thread):
    """Signs for one worker process, also while a task keeps its main thread busy."""

    def __init__(self, queues: Iterable[str]) -> None:
        super().__init__(name="alive", daemon=True)
        self._queues = tuple(queues)
        self._name = worker_name()
        self._is_over = threading.Event()

    def run(self) -> None:
        """Sign until `finish`; an unreachable Redis is logged and tried again."""
        while not self._is_over.is_set():
            try:
                self._sign()
            except redis_keys.UNREACHABLE:
                logger.exception("Redis did not take this worker's sign of life")
            self._is_over.wait(SIGN_SECONDS)

    def finish(self) -> None:
        """Take the sign away: the worker stops."""
        self._is_over.set()
        self.join()
        for queue in self._queues:
            redis_keys.client().zrem(redis_keys.alive_key(queue), self._name)

    def _sign(self) -> None:
        now = time.time()
        pipeline = redis_keys.client().pipeline(transaction=False)
        for queue in self._queues:
            key = redis_keys.alive_key(queue)
            pipeline.zadd(key, {self._name: now})
            pipeline.zremrangebyscore(key, "-inf", now - ALIVE_SECONDS)
        pipeline.execute()
