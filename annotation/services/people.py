"""People: accounts are made by leads or by command, never by signing up."""

from collections.abc import Iterable
from typing import NamedTuple

from django.contrib.auth.hashers import make_password
from django.db import transaction

from annotation.models import User


class NewUser(NamedTuple):
    """An account to be made."""

    username: str
    role: str = User.Role.ANNOTATOR
    password: str = ""
    """Empty for accounts that nobody signs in to, such as simulated annotators."""
    persona: str = ""


def create_user(*, username: str, role: str, password: str = "", persona: str = "") -> User:
    """Create one account; only admins may use the Django admin.

    Raises:
        IntegrityError: The user name is taken.
        ValueError: There is no such role.
    """
    (user,) = create_users(users=[NewUser(username, role, password, persona)])
    return user


def create_users(*, users: Iterable[NewUser]) -> list[User]:
    """Create all of these accounts or none.

    Raises:
        IntegrityError: A user name is taken.
        ValueError: There is no such role.
    """
    rows = [_user(new) for new in users]
    with transaction.atomic():
        return User.objects.bulk_create(rows)


def save_account(*, user: User) -> User:
    """Store an account that a form has made or changed; its rights follow its role."""
    _grant_rights(user)
    user.save()
    return user


def _user(new: NewUser) -> User:
    user = User(
        username=User.normalize_username(new.username),
        role=User.Role(new.role),
        # An empty password is stored as one that can never be entered.
        password=make_password(new.password or None),
        persona=new.persona,
    )
    _grant_rights(user)
    return user


def _grant_rights(user: User) -> None:
    user.is_staff = user.is_superuser = user.role == User.Role.ADMIN
