"""The workers' one model."""

from workers.models.schedules import IterationSchedule

__all__ = ["IterationSchedule"]
