"""The demo's accounts: one person per role to sign in with, and a crowd of simulated annotators."""

from typing import NamedTuple

from annotation.models import User
from annotation.services import create_user
from workers.simulated import simulated_annotators

PASSWORD = "concord-demo"  # noqa: S105 - printed at the end; for a machine of one's own
CROWD_MIX = {"careful": 0.92, "average": 0.04, "hasty": 0.02, "position_biased": 0.02}
"""Shares of the personas: people who passed a test, and the few whom the test let through.

Their known quality runs from 93% down to 78% agreement with the truth.
"""


class Logins(NamedTuple):
    """One account per role."""

    admin: User
    lead: User
    reviewer: User
    annotator: User


def logins() -> Logins:
    """Return the account of each role, made on first use."""
    return Logins(*(_account(role) for role in ("admin", "lead", "reviewer", "annotator")))


def crowd(num_annotators: int) -> list[User]:
    """Return the simulated annotators."""
    return simulated_annotators(num_annotators, mix=CROWD_MIX)


def _account(role: str) -> User:
    user = User.objects.filter(username=role).first()
    return user or create_user(username=role, role=User.Role(role), password=PASSWORD)
