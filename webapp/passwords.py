"""Passwords that work once: handed out by a lead, replaced by the person at the first sign-in."""

import secrets

from django.db import transaction
from django.http import HttpRequest

from annotation.models import User
from webapp.models import OneTimePassword

_SESSION_KEY = "must_change_password"
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_GROUPS, _GROUP_LENGTH = 4, 4


def new_one_time_password() -> str:
    """Return a password of about 79 bits that can be read out: groups, no look-alike letters."""
    groups = (
        "".join(secrets.choice(_ALPHABET) for _ in range(_GROUP_LENGTH)) for _ in range(_GROUPS)
    )
    return "-".join(groups)


@transaction.atomic
def give_one_time_password(*, user: User) -> str:
    """Replace the user's password by one that works once, and return it."""
    password = new_one_time_password()
    user.set_password(password)
    user.save(update_fields=["password"])
    OneTimePassword.objects.get_or_create(user=user)
    return password


@transaction.atomic
def choose_password(*, user: User, password: str) -> None:
    """Store the password a person has chosen; the one-time password is over."""
    user.set_password(password)
    user.save(update_fields=["password"])
    OneTimePassword.objects.filter(user=user).delete()


def mark_session(request: HttpRequest, user: User) -> None:
    """Note in the session whether this person must choose a password before anything else."""
    if OneTimePassword.objects.filter(user=user).exists():
        request.session[_SESSION_KEY] = True


def unmark_session(request: HttpRequest) -> None:
    """The person has chosen."""
    request.session.pop(_SESSION_KEY, None)


def must_change(request: HttpRequest) -> bool:
    """Whether this session began with a one-time password that still stands."""
    return bool(request.session.get(_SESSION_KEY, False))
