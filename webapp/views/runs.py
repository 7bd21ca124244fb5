"""Runs: the list, and the page of one run with live plots."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import retarget

from records.run_configs import RunKind
from registry.errors import RegistryError
from registry.models import Run
from registry.services import request_cancel, retry_run
from webapp.access import SignedInRequest, roles
from webapp.selectors import runs as read
from workers import dispatch
from workers.alive import workers_alive


@roles("lead", "admin")
@require_safe
def runs(request: SignedInRequest) -> HttpResponseBase:
    """List the runs, the newest first, by state and kind."""
    state, kind = request.GET.get("state", ""), request.GET.get("kind", "")
    before = request.GET.get("before", "")
    page = read.run_list(
        state=state if state in Run.State.values else "",
        kind=kind if kind in list(RunKind) else "",
        before=int(before) if before.isdigit() else None,
    )
    context = {
        "page": page,
        "progress": read.progress_of(page.runs),
        "state": state,
        "kind": kind,
        "states": Run.State.values,
        "kinds": list(RunKind),
        "alive": workers_alive(),
    }
    template = "_rows.html" if request.htmx else "list.html"
    return render(request, f"webapp/runs/{template}", context)


@roles("lead", "admin")
@require_safe
def run(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show a run; while it is alive the page asks for its live part every two seconds."""
    row = get_object_or_404(Run.objects.select_related("iteration"), pk=pk)
    context: dict[str, object] = {
        "run": row,
        "progress": read.progress_of([row]).get(row.pk),
        "plots": read.plots_of(row),
        "events": read.events_of(row),
        "log": read.log_tail(row),
        "gpu_is_alive": workers_alive()["gpu"],
    }
    if request.htmx and not row.is_ended:
        return render(request, "webapp/runs/_live.html", context)
    outputs = read.outputs_of(row)
    context |= {
        "result_plots": read.result_plots_of(row),
        "summary": read.summary_rows(row.result),
        "inputs": read.inputs_of(row),
        "outputs": outputs,
        "has_demonstrations": any(file.role == read.DEMONSTRATIONS for file in outputs),
        "config": read.config_rows(row),
    }
    if request.htmx:
        # It has ended since the last look: the whole page changes, not only its live part.
        return retarget(render(request, "webapp/runs/_page.html", context), "#run-page")
    return render(request, "webapp/runs/run.html", context)


@roles("lead", "admin")
@require_POST
def cancel(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Ask for the end of a run; it saves a checkpoint first."""
    row = request_cancel(run=get_object_or_404(Run, pk=pk), by=request.user.username)
    if row.state == Run.State.CANCELLED:
        messages.success(request, "The run is cancelled.")
    elif row.is_ended:
        messages.info(request, f"The run has already {row.state}.")
    else:
        messages.success(request, "The worker is told to stop; the run saves a checkpoint first.")
    return redirect("run", pk=pk)


@roles("lead", "admin")
@require_POST
def retry(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Queue a failed or cancelled run again."""
    row = get_object_or_404(Run, pk=pk)
    try:
        retry_run(run=row)
    except RegistryError as error:
        messages.error(request, f"Not queued: {error}.")
    else:
        dispatch.request_run(row.pk)
        messages.success(request, "Queued again; it resumes from its last checkpoint.")
    return redirect("run", pk=pk)
