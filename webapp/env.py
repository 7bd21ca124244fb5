"""Typed readers of environment variables; each error names the variable."""

import os

from django.core.exceptions import ImproperlyConfigured

_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}


def text(name: str, default: str = "") -> str:
    """Return the variable, or `default` where it is unset."""
    return os.environ.get(name, default)


def flag(name: str, *, default: bool = False) -> bool:
    """Return the variable as a boolean.

    Raises:
        ImproperlyConfigured: The value is not one of 1, true, yes, on, 0, false, no, off.
    """
    value = os.environ.get(name)
    if value is None:
        return default
    if value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    raise ImproperlyConfigured(f"{name}={value!r} is not a boolean: use 1 or 0")


def whole_number(name: str, default: int, *, low: int = 0) -> int:
    """Return the variable as an integer of at least `low`.

    Raises:
        ImproperlyConfigured: The value is not an integer or is below `low`.
    """
    value = os.environ.get(name)
    if value is None:
        return default
    if not value.lstrip("-").isdigit() or int(value) < low:
        raise ImproperlyConfigured(f"{name}={value!r} is not a whole number of at least {low}")
    return int(value)


def names(name: str, default: str = "") -> list[str]:
    """Return the variable split at commas, blanks dropped."""
    return [part.strip() for part in text(name, default).split(",") if part.strip()]
