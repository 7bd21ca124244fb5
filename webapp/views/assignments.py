"""The lead's pages of demonstrations: assignments, quality by vendor, frozen sets, SFT."""

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotation import services
from annotation.demonstration_selectors import get_assignment_for, get_demonstration_set_for
from annotation.demonstration_sets import freeze_demonstrations
from annotation.errors import RoundConfigError
from annotation.models import Guidelines
from records.errors import RecordError
from records.preferences import Axis
from registry.errors import RegistryError
from webapp.access import SignedInRequest, roles
from webapp.forms.demonstrations import AssignmentForm, FreezeForm
from webapp.selectors.demonstrations import assignments_page, recent_in, set_page
from webapp.views.finetuning import answer_sft_form
from webapp.wording import as_sentence


@roles("lead", "admin")
@require_safe
def assignments(request: SignedInRequest) -> HttpResponseBase:
    """List assignments, vendors and frozen sets."""
    return _list_page(request, FreezeForm())


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def new_assignment(request: SignedInRequest) -> HttpResponseBase:
    """Open an assignment."""
    data = request.POST if request.method == "POST" else None
    form = AssignmentForm(data)
    if data is not None and form.is_valid():
        values = {**form.cleaned_data, "axis": Axis(form.cleaned_data["axis"])}
        try:
            made = services.open_assignment(**values, opened_by=request.user)
        except RoundConfigError as error:
            form.add_error(error.field, str(error).removeprefix(f"{error.field}: "))
        else:
            messages.success(request, f"Assignment {made.name} is open; annotators find it now.")
            return redirect("assignment", pk=made.pk)
    context = {"form": form, "has_guidelines": Guidelines.objects.exists()}
    status = 422 if data is not None else 200
    return render(request, "webapp/assignments/new.html", context, status=status)


@roles("lead", "admin")
@require_safe
def assignment(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show an assignment: how far it is, and what was sent last, by pseudonym."""
    row = get_assignment_for(request.user, pk)
    context = {"assignment": row, "recent": recent_in(row)}
    return render(request, "webapp/assignments/assignment.html", context)


@roles("lead", "admin")
@require_POST
def close_assignment(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Close an assignment; what was begun may still be sent."""
    closed = services.close_assignment(
        assignment=get_assignment_for(request.user, pk), closed_by=request.user
    )
    messages.success(request, f"Assignment {closed.name} takes nothing new.")
    return redirect("assignment", pk=pk)


@roles("lead", "admin")
@require_POST
def freeze(request: SignedInRequest) -> HttpResponseBase:
    """Freeze what is approved in some assignments into a set that SFT reads."""
    form = FreezeForm(request.POST)
    if not form.is_valid():
        return _list_page(request, form)
    try:
        made = freeze_demonstrations(
            assignments=list(form.cleaned_data["assignments"].select_related("guidelines")),
            name=form.cleaned_data["name"].strip(),
            frozen_by=request.user,
        )
    except RecordError as error:
        form.add_error(error.field, as_sentence(error).partition(": ")[2])
        return _list_page(request, form)
    except RegistryError as error:
        form.add_error("name", as_sentence(error))
        return _list_page(request, form)
    messages.success(request, f"Set {made.name} is frozen: {made.manifest['num_rows']} rows.")
    return redirect("demonstration-set", pk=made.pk)


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def demonstration_set(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show a frozen set with what learned from it, and start supervised fine-tuning on it."""
    row = get_demonstration_set_for(request.user, pk)
    return answer_sft_form(
        request,
        demonstrations=row.artifact,
        source=row.name,
        template="webapp/assignments/set.html",
        context=lambda: {"page": set_page(row)},
    )


def _list_page(request: SignedInRequest, form: FreezeForm) -> HttpResponse:
    context = {"page": assignments_page(), "form": form}
    status = 422 if form.is_bound else 200
    return render(request, "webapp/assignments/list.html", context, status=status)
