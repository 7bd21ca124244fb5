"""Check constraints that several models need."""

from collections.abc import Iterable

from django.db import models
from django.db.models import Q

from records.preferences import Axis

AXIS_CHOICES = [(axis.value, axis.value) for axis in Axis]


def one_of(field: str, values: Iterable[str], *, name: str) -> models.CheckConstraint:
    """Return the constraint that `field` holds one of `values`."""
    condition = Q(**{f"{field}__in": [str(value) for value in values]})
    return models.CheckConstraint(condition=condition, name=name)
