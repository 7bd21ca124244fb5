"""Addresses worked out once are those that Django works out each time."""

import pytest
from django.urls import NoReverseMatch, reverse, set_script_prefix

from webapp.addresses import address_of


@pytest.mark.parametrize("name", ["slot", "judge-slot", "dialogue", "retract-slot", "judge"])
@pytest.mark.parametrize("pk", [1, 987_654_321, 2**62])
def test_an_address_with_a_number_is_the_reversed_one(name: str, pk: int) -> None:
    assert address_of(name, pk) == reverse(name, args=[pk])


def test_an_address_without_a_number_is_the_reversed_one() -> None:
    assert address_of("draft") == reverse("draft")


def test_an_address_follows_where_the_site_is_mounted() -> None:
    at_the_root = address_of("slot", 7)
    set_script_prefix("/concord/")
    try:
        assert address_of("slot", 7) == f"/concord{at_the_root}" == reverse("slot", args=[7])
    finally:
        set_script_prefix("/")


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(NoReverseMatch):
        address_of("no-such-page", 7)
