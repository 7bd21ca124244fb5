"""Signing in, choosing a password, and creating people."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm, SetPasswordForm
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from annotation.models import User

if TYPE_CHECKING:
    _SetPasswordForm = SetPasswordForm[User]
else:  # generic in the type stubs only
    _SetPasswordForm = SetPasswordForm


class SignInForm(AuthenticationForm):
    """User name and password; one message for every reason why they do not fit."""

    error_messages = {  # noqa: RUF012 - Django's own declaration
        "invalid_login": "User name and password do not match. Mind upper and lower case.",
        "inactive": "User name and password do not match. Mind upper and lower case.",
    }

    def __init__(self, request: HttpRequest | None = None, data: Any = None) -> None:  # noqa: ANN401 - a QueryDict or None
        super().__init__(request, data)
        self.fields["username"].label = "User name"


class NewPasswordForm(_SetPasswordForm):
    """A new password, typed twice; the old one is asked for unless it was a one-time password."""

    old_password = forms.CharField(
        label="Current password",
        strip=False,
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )
    field_order = ("old_password", "new_password1", "new_password2")

    def __init__(self, user: User, data: object = None, *, must_change: bool) -> None:
        super().__init__(user, data)
        self.fields["new_password1"].help_text = "At least 8 characters, not a common password."
        self.fields["new_password2"].label = "New password again"
        self.fields["new_password2"].help_text = ""
        if must_change:
            del self.fields["old_password"]
        else:
            self.fields["old_password"].required = True

    def clean_old_password(self) -> str:
        """Check the current password."""
        password: str = self.cleaned_data["old_password"]
        if not self.user.check_password(password):
            raise ValidationError("This is not your current password.")
        return password


class PersonForm(forms.Form):
    """A new account."""

    username = forms.CharField(
        label="User name",
        max_length=60,
        validators=[User.username_validator],
        help_text="Letters, digits and @ . + - _ only. Exports never show it.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none"}),
    )
    role = forms.ChoiceField(choices=User.Role.choices, help_text="What this person may do.")

    def __init__(self, data: object = None, *, allowed_roles: tuple[str, ...]) -> None:
        super().__init__(data)  # type: ignore[arg-type] # QueryDict or None
        self.fields["role"].choices = [  # type: ignore[attr-defined] # a ChoiceField
            (value, label) for value, label in User.Role.choices if value in allowed_roles
        ]
