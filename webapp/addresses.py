"""Addresses by name and number, without asking the URLconf each time."""

from functools import cache

from django.urls import get_script_prefix, reverse

_STAND_IN = 987_654_321
"""The number in an address that is worked out once; others take its place."""


def address_of(name: str, pk: int | None = None) -> str:
    """Return what `reverse` returns for a name and at most one whole number, at less cost.

    Raises:
        NoReverseMatch: There is no such address.
    """
    before, after = _around(name, get_script_prefix(), has_number=pk is not None)
    return before if pk is None else f"{before}{pk}{after}"


@cache
def _around(name: str, prefix: str, *, has_number: bool) -> tuple[str, str]:
    """Return what stands before and after the number; `prefix` is where the site is mounted."""
    address = reverse(name, args=[_STAND_IN] if has_number else [])
    assert address.startswith(prefix), (address, prefix)
    before, _, after = address.partition(str(_STAND_IN))
    return before, after
