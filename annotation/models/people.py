"""People: annotators, reviewers, leads and admins, known to exports by a pseudonym only."""

import secrets
from collections.abc import Collection

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q

from annotation.models.checks import one_of


def new_pseudonym() -> str:
    """Return a name that says nothing about the person."""
    return f"p-{secrets.token_hex(6)}"


class User(AbstractUser):
    """Somebody who signs in, or a simulated annotator."""

    class Role(models.TextChoices):
        """What a person may do; no role includes another, except that admins may use the admin."""

        ANNOTATOR = "annotator"
        REVIEWER = "reviewer"
        LEAD = "lead"
        ADMIN = "admin"

    role = models.CharField(max_length=10, choices=Role, default=Role.ANNOTATOR)
    pseudonym = models.CharField(max_length=40, default=new_pseudonym, editable=False)
    persona = models.CharField(
        max_length=40, blank=True, help_text="Name of the simulated persona; empty for people."
    )

    class Meta(AbstractUser.Meta):
        constraints = [
            models.UniqueConstraint(fields=["pseudonym"], name="annotation_user_pseudonym_unique"),
            models.CheckConstraint(
                condition=~Q(pseudonym=""), name="annotation_user_has_pseudonym"
            ),
            one_of(
                "role",
                ("annotator", "reviewer", "lead", "admin"),
                name="annotation_user_role_known",
            ),
        ]

    def __str__(self) -> str:
        return self.username

    @property
    def is_simulated(self) -> bool:
        """Whether a program judges in this name."""
        return bool(self.persona)

    def has_role(self, roles: Collection[str]) -> bool:
        """Whether this person is active and has one of `roles`."""
        return self.is_active and self.role in roles
