"""Review: judged and flagged pairs, and exclusion with a reason."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from annotation import services
from annotation.errors import JudgementError
from annotation.selectors import get_judgement_for
from webapp.access import SignedInRequest, roles
from webapp.forms.review import ExclusionForm
from webapp.selectors.review import flagged_without_judgement, review_item, review_list


@roles("reviewer", "lead", "admin")
@require_safe
def review(request: SignedInRequest) -> HttpResponseBase:
    """List judgements, the newest first: all, flagged ones, or excluded ones."""
    shown = request.GET.get("show", "flagged")
    before = request.GET.get("before", "")
    page = review_list(shown, before=int(before) if before.isdigit() else None)
    context = {
        "page": page,
        "shown": shown,
        "open_flags": flagged_without_judgement() if shown == "flagged" else [],
    }
    return render(request, "webapp/review/list.html", context)


@roles("reviewer", "lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def judgement(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show a judgement with both responses, and exclude it with a reason."""
    row = get_judgement_for(request.user, pk)
    data = request.POST if request.method == "POST" else None
    form = ExclusionForm(data)
    if data is not None and form.is_valid():
        try:
            services.exclude_judgement(reviewer=request.user, judgement=row, **form.cleaned_data)
        except JudgementError as error:
            form.add_error("reason", str(error))
        else:
            messages.success(request, "Excluded: no snapshot frozen from now on holds it.")
            return redirect("judgement", pk=pk)
    context = {"item": review_item(row), "form": form}
    status = 422 if data is not None else 200
    return render(request, "webapp/review/judgement.html", context, status=status)
