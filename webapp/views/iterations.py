"""Iterations: start, follow, decide, and the schedule that starts them."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotation.models import Round
from registry.errors import RegistryError
from registry.models import Iteration, PolicyVersion
from webapp.access import SignedInRequest, roles
from webapp.forms.iterations import IterationForm, ScheduleForm, with_preset
from webapp.schedules import current_schedule, next_week, set_schedule
from webapp.selectors.iterations import iteration_page, steps_of
from workers.iterations import (
    accept_candidate,
    decline_candidate,
    retry_iteration,
    start_iteration,
    stop_iteration,
)


@roles("lead", "admin")
@require_safe
def iterations(request: SignedInRequest) -> HttpResponseBase:
    """List the iterations, the newest first, with the schedule."""
    rows = Iteration.objects.select_related("previous_policy", "snapshot").order_by("-number")
    context = {
        "iterations": [(row, steps_of(row, [])) for row in rows],
        "schedule": current_schedule(),
        "can_start": PolicyVersion.objects.exists(),
        "has_judgements": Round.objects.filter(num_judged__gt=0).exists(),
    }
    return render(request, "webapp/iterations/list.html", context)


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def new_iteration(request: SignedInRequest) -> HttpResponseBase:
    """Start an iteration; its config begins as the newest one's."""
    newest = Iteration.objects.order_by("-number").first()
    data = request.POST if request.method == "POST" else None
    if data is not None and "fill_in" in data:
        form = IterationForm(with_preset(data))
        return render(request, "webapp/iterations/new.html", {"form": form})
    form = IterationForm(data, values=newest.config if newest else None)
    if data is not None and form.is_valid() and (config := form.config) is not None:
        values = form.cleaned_data
        try:
            iteration = start_iteration(
                name=values["name"],
                config=config,
                base_policy=values["base_policy"],
                start_policy=values["start_policy"],
                previous_policy=values["previous_policy"],
            )
        except RegistryError as error:
            form.add_error("name", f"{error}.")
        else:
            messages.success(request, f"Iteration {iteration.name} has started.")
            return redirect("iteration", pk=iteration.pk)
    status = 422 if data is not None else 200
    return render(request, "webapp/iterations/new.html", {"form": form}, status=status)


@roles("lead", "admin")
@require_safe
def iteration(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show an iteration: stages, runs, reward models, evaluation, decision."""
    row = get_object_or_404(
        Iteration.objects.select_related(
            "base_policy", "start_policy", "previous_policy", "snapshot"
        ),
        pk=pk,
    )
    template = "_page.html" if request.htmx else "iteration.html"
    context = {"page": iteration_page(row)}
    return render(request, f"webapp/iterations/{template}", context)


@roles("lead", "admin")
@require_POST
def decide(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Promote the candidate of an iteration, or decline it with a reason."""
    row = get_object_or_404(Iteration, pk=pk)
    by, reason = request.user.username, request.POST.get("reason", "").strip()
    try:
        if request.POST.get("decision") == "promote":
            promoted = accept_candidate(iteration=row, by=by)
            messages.success(request, f"{promoted.name} is promoted; rounds may use it now.")
        elif not reason:
            messages.warning(request, "Say why the candidate is declined.")
        else:
            decline_candidate(iteration=row, by=by, reason=reason)
            messages.success(request, "Declined; the reason is stored with the iteration.")
    except RegistryError as error:
        messages.error(request, f"Nothing was changed: {error}.")
    return redirect("iteration", pk=pk)


@roles("lead", "admin")
@require_POST
def retry(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Take a failed or stopped iteration up again."""
    row = get_object_or_404(Iteration, pk=pk)
    try:
        retry_iteration(iteration=row)
    except RegistryError as error:
        messages.error(request, f"Not taken up: {error}.")
    else:
        messages.success(request, "Taken up again where it ended.")
    return redirect("iteration", pk=pk)


@roles("lead", "admin")
@require_POST
def stop(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """End a running iteration and cancel its runs."""
    row = get_object_or_404(Iteration, pk=pk)
    reason = request.POST.get("reason", "").strip() or "no reason given"
    try:
        stop_iteration(iteration=row, by=request.user.username, reason=reason)
    except RegistryError as error:
        messages.error(request, f"Nothing was changed: {error}.")
    else:
        messages.success(request, "The iteration is stopped; its runs are told to end.")
    return redirect("iteration", pk=pk)


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def schedule(request: SignedInRequest) -> HttpResponseBase:
    """Set when iterations start by themselves; they take the newest iteration's config."""
    current = current_schedule()
    initial = {
        "is_enabled": current.is_enabled if current else True,
        "every_hours": current.every_hours if current else 168,
        "next_start_at": current.next_start_at if current else next_week(),
        "closes_rounds": current.closes_rounds if current else True,
        "base_policy": current.base_policy if current else PolicyVersion.objects.first(),
    }
    data = request.POST if request.method == "POST" else None
    form = ScheduleForm(data, initial=initial)
    if data is not None and form.is_valid():
        newest = Iteration.objects.order_by("-number").first()
        template = {k: v for k, v in (newest.config if newest else {}).items() if k != "rounds"}
        set_schedule(**form.cleaned_data, config={**template, "snapshot": None})
        messages.success(request, "The schedule is stored.")
        return redirect("iterations")
    context = {"form": form, "schedule": current}
    status = 422 if data is not None else 200
    return render(request, "webapp/iterations/schedule.html", context, status=status)
