"""Policies and reward models: versions, how good they are, and where they came from."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from records.errors import RecordError
from registry.errors import NameTakenError
from registry.models import PolicyVersion, RewardModelVersion
from registry.services import promote_policy
from webapp.access import SignedInRequest, roles
from webapp.forms.imports import ImportForm
from webapp.forms.reward_models import ReportForm
from webapp.report_plots import scaling_plots
from webapp.run_plots import plots_of_result
from webapp.selectors import policies as read
from webapp.selectors.iterations import reward_model_view
from webapp.selectors.reward_models import newest_report, running_reports, scaling_of
from webapp.selectors.runs import names_of
from webapp.wording import as_sentence
from workers.imports import start_import
from workers.reports import start_reward_report, start_scaling


@roles("lead", "admin")
@require_safe
def policies(request: SignedInRequest) -> HttpResponseBase:
    """List the policies and reward models, with win and violation rates by version."""
    rows = read.policy_rows()
    models = list(RewardModelVersion.objects.select_related("iteration").order_by("-pk"))
    context = {
        "rows": rows,
        "win_rates": read.win_rate_plot(rows),
        "violations": read.violation_plot(rows),
        "reward_models": [reward_model_view(version) for version in models],
        "scaling": scaling_plots({"scope": m.axis, "metrics": m.metrics} for m in models),
    }
    return render(request, "webapp/policies/list.html", context)


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def import_policy(request: SignedInRequest) -> HttpResponseBase:
    """Start a run that brings in a policy of the Hugging Face hub."""
    form = ImportForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid() and (config := form.config) is not None:
        try:
            run = start_import(config=config, output_name=form.cleaned_data["output_name"])
        except NameTakenError as error:
            form.add_error("output_name", as_sentence(error))
        else:
            messages.success(request, f"{run} is queued.")
            return redirect("run", pk=run.pk)
    status = 422 if form.is_bound else 200
    return render(request, "webapp/policies/import.html", {"form": form}, status=status)


@roles("lead", "admin")
@require_safe
def policy(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show a policy with its evaluations and its whole lineage."""
    version = get_object_or_404(
        PolicyVersion.objects.select_related("artifact", "parent", "iteration", "run"), pk=pk
    )
    origin = read.origin_of(version)
    inputs = [item for step in origin.lineage.steps for item in step.inputs]
    evaluations = read.evaluations_of({version.artifact_id}).get(version.artifact_id, [])
    context = {
        "policy": version,
        "origin": origin,
        "known": names_of(item.artifact.pk for item in inputs),
        "evaluations": evaluations,
        "result_plots": plots_of_result(evaluations[0].summary) if evaluations else [],
        "examples": evaluations[0].summary.get("examples", [])[:8] if evaluations else [],
        "obedience": read.newest_obedience(version),
        "rounds_served": version.variants.select_related("round").order_by("-pk"),
    }
    return render(request, "webapp/policies/policy.html", context)


@roles("lead", "admin")
@require_POST
def promote(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Let a policy serve annotators."""
    version = get_object_or_404(PolicyVersion, pk=pk)
    promote_policy(version=version, by=request.user.username)
    messages.success(request, f"{version.name} is promoted; rounds may use it now.")
    return redirect("policy", pk=pk)


@roles("lead", "admin")
@require_safe
def reward_model(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show a reward model: its newest report, how its training ended, what it learned from."""
    version = _reward_model_or_404(pk)
    context = {
        "view": reward_model_view(version),
        "version": version,
        "plots": plots_of_result(version.metrics),
        "mixture": version.metrics.get("mixture", []),
        "report": newest_report(version),
        "running": running_reports(version),
        "scaling": scaling_of(version),
    }
    return render(request, "webapp/policies/reward_model.html", context)


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def reward_report(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Start a report on a reward model."""
    version = _reward_model_or_404(pk)
    data = request.POST if request.method == "POST" else None
    form = ReportForm(version, data)
    if data is not None and form.is_valid() and (config := form.config) is not None:
        try:
            run = start_reward_report(
                version=version,
                snapshots=list(form.cleaned_data["snapshots"]),
                config=config,
                previous=form.cleaned_data["previous"],
            )
        except RecordError as error:
            form.add_error(error.field, str(error))
        else:
            messages.success(request, "The report is queued.")
            return redirect("run", pk=run.pk)
    status = 422 if data is not None else 200
    context = {"form": form, "version": version}
    return render(request, "webapp/policies/reward_report.html", context, status=status)


@roles("lead", "admin")
@require_POST
def reward_scaling(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Start the runs of a reward model's curve over data."""
    version = _reward_model_or_404(pk)
    try:
        runs = start_scaling(version=version)
    except RecordError as error:
        messages.error(request, f"Nothing was started: {error}.")
    else:
        messages.success(request, f"Queued: {len(runs)} runs, each on a share of the pairs.")
    return redirect("reward-model", pk=pk)


def _reward_model_or_404(pk: int) -> RewardModelVersion:
    return get_object_or_404(
        RewardModelVersion.objects.select_related("artifact", "parent", "iteration", "run"), pk=pk
    )
