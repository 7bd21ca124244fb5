"""Blind checks: a lead opens one, reviewers compare unlabelled answers, the page says who won."""

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from annotation import services
from annotation.blind_check_selectors import (
    blind_pair_view,
    blind_progress,
    blind_results,
    get_blind_check_for,
    get_blind_pair_for,
    next_blind_pair,
)
from annotation.errors import AnnotationError, RoundConfigError
from annotation.models import BlindCheck, BlindPair, Demonstration
from webapp.access import SignedInRequest, roles
from webapp.forms.blind_checks import BlindCheckForm, VerdictForm
from webapp.selectors.dialogues import new_client_key
from webapp.wording import as_sentence
from workers import dispatch
from workers.alive import workers_alive

_REVIEWERS = ("reviewer", "lead", "admin")


@roles(*_REVIEWERS)
@require_safe
def blind_checks(request: SignedInRequest) -> HttpResponseBase:
    """List the checks, the newest first, with how far each is."""
    checks = BlindCheck.objects.select_related("policy").order_by("-pk")[:50]
    rows = [(check, blind_progress(check)) for check in checks]
    return render(request, "webapp/blind/list.html", {"rows": rows})


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def new_blind_check(request: SignedInRequest) -> HttpResponseBase:
    """Open a check; the sampler draws the policy's responses."""
    data = request.POST if request.method == "POST" else None
    form = BlindCheckForm(data)
    if data is not None and form.is_valid():
        try:
            check = services.open_blind_check(**form.cleaned_data, opened_by=request.user)
        except RoundConfigError as error:
            message = str(error).removeprefix(f"{error.field}: ")
            form.add_error(error.field if error.field in form.fields else None, message)
        else:
            dispatch.request_responses()
            messages.success(request, "Opened: the sampler draws the responses now.")
            return redirect("blind-check", pk=check.pk)
    approved = Demonstration.objects.filter(state=Demonstration.State.APPROVED).count()
    status = 422 if data is not None else 200
    context = {"form": form, "num_approved": approved}
    return render(request, "webapp/blind/new.html", context, status=status)


@roles(*_REVIEWERS)
@never_cache
@require_safe
def blind_check(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show a check: progress, and to leads who wins; reviewers judge without knowing."""
    check = get_blind_check_for(request.user, pk)
    progress = blind_progress(check)
    is_lead = request.user.role in ("lead", "admin")
    result, vendors = blind_results(check) if is_lead or progress.is_done else (None, [])
    context = {
        "check": check,
        "progress": progress,
        "result": result,
        "vendors": vendors,
        "next_pair": next_blind_pair(request.user, check),
        "has_sampler": not progress.num_waiting or workers_alive()["sampling"],
        "failed": BlindPair.objects.filter(check_of=check, state=BlindPair.State.FAILED)[:10],
    }
    return render(request, "webapp/blind/check.html", context)


@roles(*_REVIEWERS)
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def blind_pair(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show two answers without a label, and take the reviewer's choice."""
    pair = get_blind_pair_for(request.user, pk)
    if request.method == "POST":
        form = VerdictForm(request.POST)
        if not form.is_valid():
            return _pair_page(request, pair, "Choose A, B or no difference.")
        try:
            services.submit_blind_verdict(reviewer=request.user, pair=pair, **form.cleaned_data)
        except AnnotationError as error:
            messages.info(request, as_sentence(error))
        return _go_on(request, pair)
    if pair.state != BlindPair.State.READY:
        return _go_on(request, pair)
    return _pair_page(request, pair)


def _pair_page(request: SignedInRequest, pair: BlindPair, error: str = "") -> HttpResponse:
    if pair.state != BlindPair.State.READY:
        return _go_on(request, pair)
    context = {
        "check": pair.check_of,
        "view": blind_pair_view(pair),
        "progress": blind_progress(pair.check_of),
        "client_key": new_client_key(),
        "error": error,
    }
    return render(request, "webapp/blind/pair.html", context, status=422 if error else 200)


def _go_on(request: SignedInRequest, pair: BlindPair) -> HttpResponse:
    following = next_blind_pair(request.user, pair.check_of)
    if following is not None and following != pair:
        return redirect("blind-pair", pk=following.pk)
    return redirect("blind-check", pk=pair.check_of_id)
