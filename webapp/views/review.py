"""Review: the queue, one comparison with every decision on it, and judgements to look through."""

import uuid
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotation import services
from annotation.access import LEADS
from annotation.errors import AnnotationError, JudgementError
from annotation.models import Comparison, ReviewItem, Round
from annotation.review_selectors import (
    ComparisonReview,
    get_comparison_to_review,
    get_decision_for,
    review_of,
)
from annotation.selectors import get_judgement_for
from records.preferences import Axis
from webapp import kept
from webapp.access import SignedInRequest, roles
from webapp.forms.annotate import parse_key
from webapp.forms.review import (
    AcceptForm,
    CorrectionForm,
    DecisionForm,
    ExclusionForm,
    GoldForm,
    UnclearForm,
)
from webapp.selectors.dialogues import new_client_key
from webapp.selectors.gold import gold_of
from webapp.selectors.review import QueueView, judgement_list, queue_rows
from webapp.wording import as_sentence

_REVIEWERS = ("reviewer", "lead", "admin")
_FIELD_OF_ERROR = {"chosen_sample_id": "choice", "rating": "choice", "safety_bin": "safe"}
_DONE = {
    "accept": "Accepted: the judgements stand.",
    "correct": "Corrected: snapshots frozen from now on hold your verdict.",
    "exclude": "Excluded: no snapshot frozen from now on holds it.",
    "unclear": "Handed to the lead, with your note.",
}


@roles(*_REVIEWERS)
@require_safe
def review(request: SignedInRequest) -> HttpResponseBase:
    """List what waits for a reviewer, or for a lead, by source, round and axis."""
    view = QueueView.of(request.GET)
    rows, next_after = queue_rows(view)
    context = {
        "view": view,
        "rows": rows,
        "next_after": next_after,
        "sources": ReviewItem.Source.values,
        "axes": list(Axis),
        "rounds": Round.objects.order_by("-pk")[:200],
        "is_filtered": bool(view.queue.source or view.queue.round_id or view.queue.axis),
    }
    return render(request, "webapp/review/list.html", context)


@roles("lead", "admin")
@require_POST
def find_disagreements(request: SignedInRequest) -> HttpResponseBase:
    """Queue the disagreements of open rounds that nobody has queued yet."""
    found = sum(services.queue_disagreements(round_=row) for row in Round.objects.open())
    messages.success(request, f"{found} new disagreements wait for a reviewer.")
    return redirect("review")


@roles(*_REVIEWERS)
@require_safe
def judgements(request: SignedInRequest) -> HttpResponseBase:
    """List judgements, the newest first: all, corrected or excluded ones."""
    shown = request.GET.get("show", "all")
    before = request.GET.get("before", "")
    page = judgement_list(shown, before=int(before) if before.isdecimal() else None)
    return render(request, "webapp/review/judgements.html", {"page": page, "shown": shown})


@roles(*_REVIEWERS)
@require_safe
def judgement(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Lead to the comparison a judgement is of."""
    row = get_judgement_for(request.user, pk)
    return redirect("review-comparison", pk=row.comparison_id)


@roles(*_REVIEWERS)
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def comparison(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show a comparison with all its judgements, and take a decision on it."""
    page = review_of(get_comparison_to_review(request.user, pk))
    view = QueueView.of(request.GET)
    if request.method != "POST":
        return comparison_page(request, page, view)
    kind = request.POST.get("kind", "")
    if kind not in _DONE or (kind in ("correct", "exclude") and not page.judgements):
        messages.warning(request, "Choose one of the decisions on this page.")
        return comparison_page(request, page, view, status=422)
    form = _form(kind, page, request.POST)
    if not form.is_valid():
        return comparison_page(request, page, view, refused={kind: form}, status=422)
    try:
        _decide(request, kind, page, form)
    except JudgementError as error:
        field = _FIELD_OF_ERROR.get(error.field, error.field)
        form.add_error(field if field in form.fields else None, as_sentence(error))
        return comparison_page(request, page, view, refused={kind: form}, status=422)
    except AnnotationError as error:
        form.add_error(None, as_sentence(error))
        return comparison_page(request, page, view, refused={kind: form}, status=422)
    messages.success(request, f"{_DONE[kind]} It can be taken back on its page.")
    return redirect(view.next_address(pk))


@roles(*_REVIEWERS)
@require_POST
def undo(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Take a decision back, by a further record."""
    decision = get_decision_for(request.user, pk)
    try:
        services.undo_decision(
            reviewer=request.user,
            decision=decision,
            client_key=parse_key(request.POST.get("client_key", "")) or uuid.uuid4(),
            note=request.POST.get("note", "")[:2000],
        )
    except AnnotationError as error:
        messages.warning(request, as_sentence(error))
    else:
        messages.success(request, "Taken back: what it had settled waits again.")
    address = reverse("review-comparison", args=[decision.comparison_id])
    return redirect(address + QueueView.of(request.GET).query)


@roles(*_REVIEWERS)
@require_POST
def second_reading(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Have a comparison read by one more person, who does not know that it is a second time."""
    comparison = get_comparison_to_review(request.user, pk)
    try:
        services.ask_second_reading(reviewer=request.user, comparison=comparison)
    except AnnotationError as error:
        messages.warning(request, as_sentence(error))
    else:
        messages.success(request, "One more person is asked; their judgement appears here.")
    return redirect(reverse("review-comparison", args=[pk]) + QueueView.of(request.GET).query)


def _decide(
    request: SignedInRequest, kind: str, page: ComparisonReview, form: DecisionForm
) -> None:
    data = form.cleaned_data
    common: dict[str, Any] = {
        "reviewer": request.user,
        "note": data["note"],
        "client_key": data["client_key"],
    }
    if kind == "accept":
        services.accept_comparison(comparison=page.comparison, **common)
    elif kind == "unclear":
        services.report_unclear(comparison=page.comparison, **common)
    else:
        by_id = {item.judgement.pk: item.judgement for item in page.judgements}
        chosen = by_id[data["judgement"]]
        if kind == "exclude":
            services.exclude_judgement(judgement=chosen, reason=data["reason"], **common)
        else:
            assert isinstance(form, CorrectionForm), type(form).__name__
            services.correct_judgement(judgement=chosen, **form.verdict(), **common)


def comparison_page(
    request: SignedInRequest,
    page: ComparisonReview,
    view: QueueView,
    *,
    refused: dict[str, DecisionForm] | None = None,
    refused_gold: GoldForm | None = None,
    status: int = 200,
) -> HttpResponse:
    """Return the page of a comparison, with the forms that were refused as they were sent."""
    words = dict(kept.take(request))
    forms = {kind: _form(kind, page, None, words) for kind in _DONE} | (refused or {})
    context = {
        "page": page,
        "view": view,
        "forms": forms,
        "opened": next(iter(refused)) if refused else words.get("kind", ""),
        "next_address": view.next_address(page.comparison.pk),
        "is_judged": page.comparison.state == Comparison.State.JUDGED,
        "gold": gold_of(page.comparison.pk),
        "gold_form": refused_gold or _gold_form(request, page),
    }
    return render(request, "webapp/review/comparison.html", context, status=status)


def _gold_form(request: SignedInRequest, page: ComparisonReview) -> GoldForm | None:
    """Return the form by which a lead makes a judged comparison gold; None for others."""
    if not page.judgements or not request.user.has_role(LEADS):
        return None
    return GoldForm(axis=Axis(page.comparison.round.axis))


def _form(
    kind: str,
    page: ComparisonReview,
    data: Any,  # noqa: ANN401 - a QueryDict or None
    words: dict[str, str] | None = None,
) -> DecisionForm:
    """Return the form of a decision, empty or with what was typed before a session ended."""
    mine = words if words and words.get("kind") == kind else {}
    initial = {**mine, "client_key": new_client_key()}
    makers: dict[str, Callable[[], DecisionForm]] = {
        "accept": lambda: AcceptForm(data, initial=initial),
        "unclear": lambda: UnclearForm(data, initial=initial),
        "exclude": lambda: ExclusionForm(data, judgements=page.judgements, initial=initial),
        "correct": lambda: CorrectionForm(
            data, judgements=page.judgements, comparison=page.comparison, initial=initial
        ),
    }
    return makers[kind]()
