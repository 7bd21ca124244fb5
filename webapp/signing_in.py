"""Who a session belongs to, read anew with every request by a statement that is planned once."""

from django.contrib.auth.backends import ModelBackend
from django.db.models import QuerySet

from annotation.models import User
from annotation.prepared import Prepared


def _user(pk: int) -> QuerySet[User]:
    return User.objects.filter(pk=pk)


_USER = Prepared("user", _user, "pk")


class Backend(ModelBackend):
    """Django's own: names and passwords. Who is not active is nobody, from the next request on."""

    def get_user(self, user_id: int) -> User | None:
        """Return the person as their row is now; None if they may not sign in."""
        user = _USER.first(pk=user_id)
        return user if user is not None and self.user_can_authenticate(user) else None
