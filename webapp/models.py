"""What only the web pages need to remember: whose password works once."""

from django.conf import settings
from django.db import models


class OneTimePassword(models.Model):
    """The password that somebody was handed by a lead; gone once they have chosen their own."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="one_time_password"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"one-time password of {self.user_id}"
