"""Who may: the checks behind every service and getter."""

from annotation.errors import NotAllowedError
from annotation.models import User

ANNOTATORS = (User.Role.ANNOTATOR,)
REVIEWERS = (User.Role.REVIEWER, User.Role.LEAD, User.Role.ADMIN)
LEADS = (User.Role.LEAD, User.Role.ADMIN)


def require_role(user: User, roles: tuple[User.Role, ...]) -> None:
    """Pass if `user` is active and has one of `roles`.

    Raises:
        NotAllowedError: They have not.
    """
    if not user.has_role(roles):
        role = user.role if user.is_active else "none, because you are not active"
        raise NotAllowedError(role, " or ".join(roles))
