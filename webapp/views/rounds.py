"""Rounds and guidelines: the lead opens, follows and closes."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotation import services
from annotation.errors import QualificationError, RoundConfigError
from annotation.models import Guidelines, Requirement, Round
from annotation.pauses import active_pause
from annotation.selectors import get_round_for
from records.errors import RecordError
from records.preferences import Axis
from webapp.access import SignedInRequest, roles
from webapp.forms.access import AccessForm
from webapp.forms.rounds import GuidelinesForm, RoundForm, variant_formset
from webapp.selectors.rounds import round_page, round_rows
from webapp.wording import capitalised


@roles("lead", "admin")
@require_safe
def rounds(request: SignedInRequest) -> HttpResponseBase:
    """List the rounds, the open ones first, and the guidelines."""
    context = {
        "rounds": round_rows(),
        "pause": active_pause(),
        "guidelines": Guidelines.objects.select_related("created_by").order_by("-pk"),
    }
    return render(request, "webapp/rounds/list.html", context)


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def new_round(request: SignedInRequest) -> HttpResponseBase:
    """Open a round."""
    data = request.POST if request.method == "POST" else None
    form = RoundForm(data, request.FILES or None)
    variants, access = variant_formset(data), AccessForm(data)
    are_valid = [form.is_valid(), access.is_valid(), not form.is_sampled or variants.is_valid()]
    if data is not None and all(are_valid):
        answering = variants.variants() if form.is_sampled else ()
        try:
            round_ = services.open_round(
                **form.settings(),
                variants=answering,
                access=access.access(),
                opened_by=request.user,
            )
        except RecordError as error:
            form.add_error("items_file", capitalised(error))
        except QualificationError as error:
            access.add_error("qualifications", f"{capitalised(error)}.")
        except RoundConfigError as error:
            message = str(error).removeprefix(f"{error.field}: ")
            name = "items_file" if error.field == "items" else error.field
            form.add_error(name if name in form.fields else None, message)
        else:
            messages.success(request, f"Round {round_.name} is open; annotators find it now.")
            return redirect("round", pk=round_.pk)
    context = {
        "form": form,
        "variants": variants,
        "access": access,
        "by_axis": Requirement.objects.filter(round=None).select_related("qualification"),
        "has_guidelines": Guidelines.objects.exists(),
    }
    status = 422 if data is not None else 200
    return render(request, "webapp/rounds/new.html", context, status=status)


@roles("lead", "admin")
@require_safe
def round_(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show a round: progress, settings, how it is judged."""
    page = round_page(get_round_for(request.user, pk))
    template = "_progress.html" if request.htmx else "round.html"
    return render(request, f"webapp/rounds/{template}", {"page": page})


@roles("lead", "admin")
@require_POST
def close_round(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Close a round; pairs that are out may still be judged."""
    closed = services.close_round(round_=get_round_for(request.user, pk), closed_by=request.user)
    messages.success(request, f"Round {closed.name} takes no further prompts.")
    return redirect("round", pk=pk)


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def new_guidelines(request: SignedInRequest) -> HttpResponseBase:
    """Publish a version of the guidelines; it may begin from an earlier one."""
    data = request.POST if request.method == "POST" else None
    form = GuidelinesForm(data, initial=_earlier(request.GET.get("from", "")))
    if data is not None and form.is_valid():
        values = {**form.cleaned_data, "axis": Axis(form.cleaned_data["axis"])}
        try:
            made = services.publish_guidelines(**values, created_by=request.user)
        except RoundConfigError as error:
            form.add_error(error.field, str(error).removeprefix(f"{error.field}: "))
        else:
            messages.success(request, f"Guidelines {made} are published.")
            return redirect("guidelines", pk=made.pk)
    status = 422 if data is not None else 200
    return render(request, "webapp/rounds/new_guidelines.html", {"form": form}, status=status)


@roles("lead", "admin", "reviewer")
@require_safe
def guidelines(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show one version of the guidelines and the rounds it was used in."""
    version = get_object_or_404(Guidelines.objects.select_related("created_by"), pk=pk)
    context = {
        "version": version,
        "rounds": Round.objects.filter(guidelines=version).order_by("pk"),
    }
    return render(request, "webapp/rounds/guidelines.html", context)


def _earlier(pk: str) -> dict[str, str]:
    """Return axis and text of an earlier version to begin from."""
    earlier = Guidelines.objects.filter(pk=int(pk)).first() if pk.isdigit() else None
    return {} if earlier is None else {"axis": earlier.axis, "text": earlier.text}
