"""Signing in and out, choosing a password, choosing light or dark."""

from django.contrib import messages
from django.contrib.auth import login, logout, update_session_auth_hash
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from webapp import kept, passwords
from webapp.access import EVERY_ROLE, SignedInRequest, public, roles, safe_target
from webapp.forms.accounts import NewPasswordForm, SignInForm
from webapp.frame import THEME_COOKIE, THEMES

_YEAR_SECONDS = 365 * 24 * 3600


def sign_in_page(
    request: HttpRequest, *, target: str, fields: str = "", form: SignInForm | None = None
) -> HttpResponse:
    """Return the sign-in form; `fields` are words to carry through it, as JSON."""
    is_answer = request.method == "POST"
    context = {
        "form": form or SignInForm(request),
        "target": target,
        "target_is_page": target not in ("", "/", reverse("home")),
        "kept_fields": fields,
    }
    return render(
        request, "webapp/accounts/sign_in.html", context, status=401 if is_answer else 200
    )


@public
@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponseBase:
    """Show the sign-in form, and sign in: a fresh session key, then back to where one was."""
    if request.method != "POST":
        target = safe_target(request, request.GET.get("next", ""))
        if request.user.is_authenticated:
            return redirect(target)
        return sign_in_page(request, target=target)
    target = safe_target(request, request.POST.get("next", ""))
    words = request.POST.get("kept", "")
    form = SignInForm(request, request.POST)
    if not form.is_valid():
        return sign_in_page(request, target=target, fields=words, form=form)
    user = form.get_user()
    login(request, user)
    passwords.mark_session(request, user)
    kept.remember(request, target, words)
    return redirect(target)


@public
@require_POST
def sign_out(request: HttpRequest) -> HttpResponseBase:
    """End the session."""
    logout(request)
    return redirect("sign-in")


@roles(*EVERY_ROLE)
@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def password(request: SignedInRequest) -> HttpResponseBase:
    """Choose a password of one's own."""
    must_change = passwords.must_change(request)
    data = request.POST if request.method == "POST" else None
    form = NewPasswordForm(request.user, data, must_change=must_change)
    if request.method == "POST" and form.is_valid():
        passwords.choose_password(user=request.user, password=form.cleaned_data["new_password1"])
        update_session_auth_hash(request, request.user)
        passwords.unmark_session(request)
        messages.success(request, "Your new password is saved.")
        return redirect("home")
    context = {"form": form, "must_change": must_change}
    status = 422 if data is not None else 200
    return render(request, "webapp/accounts/password.html", context, status=status)


@public
@require_POST
def theme(request: HttpRequest) -> HttpResponseBase:
    """Store the choice of light, dark or the system's preference in a cookie."""
    response = redirect(safe_target(request, request.POST.get("next", "")))
    choice = request.POST.get("theme", "")
    if choice in THEMES:
        response.set_cookie(
            THEME_COOKIE,
            choice,
            max_age=_YEAR_SECONDS,
            samesite="Lax",
            secure=request.is_secure(),
            httponly=True,
        )
    return response
