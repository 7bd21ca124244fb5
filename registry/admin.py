"""The registry in the Django admin."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from registry import services
from registry.errors import RegistryError
from registry.models import (
    Artifact,
    Iteration,
    PolicyVersion,
    RewardModelVersion,
    Run,
    RunInput,
    RunMetric,
    RunOutput,
    Snapshot,
)
from registry.readonly import ReadOnlyAdmin


@admin.register(Artifact)
class ArtifactAdmin(ReadOnlyAdmin):
    """Artifacts."""

    list_display = ("digest", "kind", "num_bytes", "created_at")
    list_filter = ("kind",)
    search_fields = ("digest",)


@admin.register(Snapshot)
class SnapshotAdmin(ReadOnlyAdmin):
    """Snapshots."""

    list_display = ("name", "artifact", "created_at")
    list_select_related = ("artifact",)
    search_fields = ("name",)


@admin.register(PolicyVersion)
class PolicyVersionAdmin(ReadOnlyAdmin):
    """Policy versions; a lead promotes them."""

    list_display = ("name", "parent", "iteration", "stage", "promoted_at", "promoted_by")
    list_select_related = ("parent", "iteration")
    search_fields = ("name",)
    actions = ("promote",)

    @admin.action(description="Promote", permissions=["view"])
    def promote(self, request: HttpRequest, queryset: QuerySet[PolicyVersion]) -> None:
        """Promote each chosen version."""
        for version in queryset:
            services.promote_policy(version=version, by=request.user.get_username())
            messages.success(request, f"{version} is promoted.")


@admin.register(RewardModelVersion)
class RewardModelVersionAdmin(ReadOnlyAdmin):
    """Reward-model versions."""

    list_display = ("name", "axis", "parent", "iteration", "created_at")
    list_filter = ("axis",)
    list_select_related = ("parent", "iteration")
    search_fields = ("name",)


@admin.register(Iteration)
class IterationAdmin(ReadOnlyAdmin):
    """Iterations."""

    list_display = ("number", "name", "state", "stage", "created_at", "finished_at")
    list_filter = ("state", "stage")
    search_fields = ("name",)


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    """Runs; a lead cancels or retries them."""

    list_display = ("id", "__str__", "kind", "state", "iteration", "attempts", "created_at")
    list_filter = ("state", "kind")
    list_select_related = ("iteration",)
    search_fields = ("name", "output_name")
    actions = ("cancel", "retry")

    @admin.action(description="Cancel", permissions=["view"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        """Cancel each chosen run that has not ended."""
        for run in queryset:
            run = services.request_cancel(run=run, by=request.user.get_username())
            messages.info(request, f"{run} is {run.state}.")

    @admin.action(description="Queue again", permissions=["view"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        """Queue each chosen run that failed or was cancelled."""
        for run in queryset:
            try:
                services.retry_run(run=run)
            except RegistryError as error:
                messages.error(request, str(error))
            else:
                messages.success(request, f"{run} is queued.")


@admin.register(RunInput)
class RunInputAdmin(ReadOnlyAdmin):
    """What runs read."""

    list_display = ("run", "role", "artifact")
    list_select_related = ("run", "artifact")


@admin.register(RunOutput)
class RunOutputAdmin(ReadOnlyAdmin):
    """What runs made."""

    list_display = ("run", "name", "artifact")
    list_select_related = ("run", "artifact")


@admin.register(RunMetric)
class RunMetricAdmin(ReadOnlyAdmin):
    """Metrics."""

    list_display = ("run", "step", "values")
    list_select_related = ("run",)
