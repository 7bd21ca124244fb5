"""Guidelines as versions: their history, what changed between two, and confirming a new one."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from annotation import services
from annotation.errors import NotFoundError
from annotation.models import Guidelines
from webapp.access import EVERY_ROLE, SignedInRequest, roles
from webapp.selectors.guidelines import comparison_of, histories


@roles(*EVERY_ROLE)
@require_safe
def history(request: SignedInRequest) -> HttpResponseBase:
    """List the versions of each axis, with who confirmed what for annotators."""
    context = {"histories": histories(request.user)}
    return render(request, "webapp/guidelines/history.html", context)


@roles(*EVERY_ROLE)
@require_safe
def compared(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show one version, with what changed since another; annotators confirm it here."""
    against = request.GET.get("against", "")
    page = comparison_of(_version(pk), request.user, int(against) if against.isdigit() else None)
    return render(request, "webapp/guidelines/compared.html", {"page": page})


@roles("annotator")
@require_POST
def confirm(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Record that one has seen what is new, and go on."""
    version = _version(pk)
    services.confirm_guidelines(annotator=request.user, guidelines=version)
    messages.success(request, f"Confirmed: {version.axis} guidelines {version.version}.")
    return redirect("annotate")


def _version(pk: int) -> Guidelines:
    version = Guidelines.objects.select_related("created_by").filter(pk=pk).first()
    if version is None:
        raise NotFoundError("version of the guidelines", pk)
    return version
