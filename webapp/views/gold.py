"""Gold: a lead says what the right answer to a pair is, and sees how it was answered."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from annotation import services
from annotation.errors import AnnotationError
from annotation.review_selectors import get_comparison_to_review, review_of
from annotation.selectors import get_gold_for, get_round_for
from records.preferences import Axis
from webapp.access import SignedInRequest, roles
from webapp.forms.review import GoldForm
from webapp.selectors.gold import gold_rows
from webapp.selectors.review import QueueView
from webapp.views.review import comparison_page
from webapp.wording import as_sentence


@roles("lead", "admin")
@require_safe
def gold(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """List the gold comparisons of a round with their answers."""
    round_ = get_round_for(request.user, pk)
    context = {"round": round_, "rows": gold_rows(round_)}
    return render(request, "webapp/rounds/gold.html", context)


@roles("lead", "admin")
@require_POST
def declare_gold(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Make a comparison gold: from now on it is put silently before others of its round."""
    comparison = get_comparison_to_review(request.user, pk)
    form = GoldForm(request.POST, axis=Axis(comparison.round.axis))
    if form.is_valid():
        try:
            services.declare_gold(comparison=comparison, declared_by=request.user, **form.answer())
        except AnnotationError as error:
            form.add_error(None, as_sentence(error))
    if not form.is_valid():
        page, view = review_of(comparison), QueueView.of(request.GET)
        return comparison_page(request, page, view, refused_gold=form, status=422)
    messages.success(request, f"Comparison {pk} is gold: it is put silently before others.")
    return redirect("gold", pk=comparison.round_id)


@roles("lead", "admin")
@require_POST
def retire_gold(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Put a gold comparison before nobody any more, or, where it is retired, serve it again."""
    row = get_gold_for(request.user, pk)
    if row.retired_at is None:
        services.retire_gold(gold=row, retired_by=request.user)
        messages.success(request, "Retired: nobody is asked it any more. What was judged stays.")
    else:
        services.serve_gold(gold=row, served_by=request.user)
        messages.success(request, "Served again.")
    return redirect("gold", pk=row.round_id)
