"""Policies and reward models: versions, how good they are, and where they came from."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from registry.models import PolicyVersion, RewardModelVersion
from registry.services import promote_policy
from webapp.access import SignedInRequest, roles
from webapp.run_plots import plots_of_result
from webapp.selectors import policies as read
from webapp.selectors.iterations import reward_model_view
from webapp.selectors.runs import names_of


@roles("lead", "admin")
@require_safe
def policies(request: SignedInRequest) -> HttpResponseBase:
    """List the policies and reward models, with win and violation rates by version."""
    rows = read.policy_rows()
    models = RewardModelVersion.objects.select_related("iteration").order_by("-pk")
    context = {
        "rows": rows,
        "win_rates": read.win_rate_plot(rows),
        "violations": read.violation_plot(rows),
        "reward_models": [reward_model_view(version) for version in models],
    }
    return render(request, "webapp/policies/list.html", context)


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
    """Show a reward model: accuracy by rating beside its predecessor and the length baseline."""
    version = get_object_or_404(
        RewardModelVersion.objects.select_related("artifact", "parent", "iteration", "run"), pk=pk
    )
    context = {
        "view": reward_model_view(version),
        "version": version,
        "plots": plots_of_result(version.metrics),
    }
    return render(request, "webapp/policies/reward_model.html", context)
