"""People: accounts are made here, never by signing up."""

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from annotation.models import User
from annotation.services import create_user
from webapp.access import SignedInRequest, roles
from webapp.forms.accounts import PersonForm
from webapp.passwords import give_one_time_password
from webapp.selectors.people import people_rows

_MAY_CREATE = {
    "lead": ("annotator", "reviewer"),
    "admin": ("annotator", "reviewer", "lead", "admin"),
}


@roles("lead", "admin")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def people(request: SignedInRequest) -> HttpResponseBase:
    """List the people, and create an account; its password is shown on this answer only."""
    allowed = _MAY_CREATE[request.user.role]
    form = PersonForm(request.POST or None, allowed_roles=allowed)
    created: tuple[User, str] | None = None
    if request.method == "POST" and form.is_valid():
        created = _create(form)
        if created is not None:
            form = PersonForm(allowed_roles=allowed)
    context = {
        "form": form,
        "people": people_rows(shows_simulated="simulated" in request.GET),
        "shows_simulated": "simulated" in request.GET,
        "created": created,
        "manageable": allowed,
    }
    status = 422 if form.errors else 200
    return render(request, "webapp/people/list.html", context, status=status)


@roles("lead", "admin")
@never_cache
@require_POST
def reset_password(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Give somebody a new password that works once, shown on this answer only."""
    user = _manageable(request, pk)
    context = {"created": (user, give_one_time_password(user=user)), "is_reset": True}
    return render(request, "webapp/people/password.html", context)


@roles("lead", "admin")
@require_POST
def set_active(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Switch an account off or on; what the person judged stays."""
    user = _manageable(request, pk)
    is_active = request.POST.get("active") == "1"
    User.objects.filter(pk=user.pk).update(is_active=is_active)
    words = "may sign in again" if is_active else "can no longer sign in"
    messages.success(request, f"{user.username} {words}.")
    return redirect("people")


def _create(form: PersonForm) -> tuple[User, str] | None:
    """Create the account; None, with the error at its field, when the name is taken."""
    try:
        with transaction.atomic():
            user = create_user(**form.cleaned_data)
            return user, give_one_time_password(user=user)
    except IntegrityError:
        form.add_error("username", "This user name is taken; choose another.")
        return None


def _manageable(request: SignedInRequest, pk: int) -> User:
    """Return an account this person may manage: leads manage annotators and reviewers."""
    user = get_object_or_404(User, pk=pk, persona="")
    if user.role not in _MAY_CREATE[request.user.role] or user.pk == request.user.pk:
        raise PermissionDenied(f"You may not manage the account of {user.username}.")
    return user
