"""Celery: queues, schedule, the supervisor of runs, live sampling, the iteration state machine."""

from workers.celery import app

__all__ = ["app"]
