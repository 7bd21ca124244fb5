"""The reviewer's pages of demonstrations: approve, edit and approve, reject, take back."""

import uuid

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotation import services
from annotation.demonstration_selectors import demonstration_draft, get_demonstration_for
from annotation.errors import AnnotationError, DemonstrationError
from annotation.models import Demonstration, DemonstrationRevision
from records.preferences import Axis
from webapp import kept
from webapp.access import SignedInRequest, roles
from webapp.forms.annotate import parse_key
from webapp.forms.demonstrations import (
    DemonstrationReviewForm,
    error_field,
    fields_of_revision,
    plain_lines,
)
from webapp.selectors.demonstrations import demonstration_page, next_to_review, review_queue
from webapp.selectors.dialogues import new_client_key
from webapp.wording import as_sentence

_REVIEWERS = ("reviewer", "lead", "admin")
_DONE = {
    "approved": "Approved as it is.",
    "edited": "Approved with your edits; the author's words stay stored.",
    "rejected": "Sent back to the author with your feedback.",
}


@roles(*_REVIEWERS)
@require_safe
def queue(request: SignedInRequest) -> HttpResponseBase:
    """List what waits for review, the oldest first."""
    after, axis = request.GET.get("after", ""), _axis(request)
    page = review_queue(after=int(after) if after.isdecimal() else None, axis=axis)
    context = {"page": page, "axis": axis, "axes": list(Axis), "is_later": bool(after)}
    return render(request, "webapp/review/demonstrations.html", context)


@roles(*_REVIEWERS)
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def demonstration(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show a demonstration with its history, and take a decision on what waits."""
    row = get_demonstration_for(request.user, pk)
    if request.method != "POST":
        return _page(request, row)
    form = DemonstrationReviewForm(request.POST, assignment=row.assignment)
    if not form.is_valid():
        return _page(request, row, form=form)
    revision = _revision_of(row, form.cleaned_data["revision_id"])
    decision = form.cleaned_data["decision"]
    if decision == "approved" and _is_changed(form, revision):
        form.add_error("decision", "You have edited the words: approve the edit, or undo it.")
        return _page(request, row, form=form)
    try:
        services.review_demonstration(
            reviewer=request.user,
            revision=revision,
            decision=decision,
            client_key=form.cleaned_data["client_key"],
            feedback=form.cleaned_data["feedback"],
            categories=form.categories,
            edited=form.revision() if decision == "edited" else None,
        )
    except DemonstrationError as error:
        form.add_error(error_field(form, error.field), as_sentence(error))
        return _page(request, row, form=form)
    except AnnotationError as error:
        messages.warning(request, as_sentence(error))
        return redirect(_address(row, _axis(request)))
    messages.success(request, _DONE[decision])
    return redirect(_next_address(row, _axis(request)))


@roles(*_REVIEWERS)
@require_POST
def reopen(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Take the last decision back, by a further record."""
    row = get_demonstration_for(request.user, pk)
    try:
        services.reopen_demonstration(
            reviewer=request.user,
            demonstration=row,
            client_key=parse_key(request.POST.get("client_key", "")) or uuid.uuid4(),
            note=request.POST.get("note", "")[:2000],
        )
    except AnnotationError as error:
        messages.warning(request, as_sentence(error))
    else:
        messages.success(request, "Taken back: it waits for a decision again.")
    return redirect("review-demonstration", pk=pk)


def _page(
    request: SignedInRequest,
    row: Demonstration,
    *,
    form: DemonstrationReviewForm | None = None,
) -> HttpResponse:
    row.refresh_from_db(fields=["state", "current", "num_revisions"])
    page = demonstration_page(row)
    is_waiting = row.state == Demonstration.State.SUBMITTED
    status = 200 if form is None else 422
    if form is None and is_waiting and page.current is not None:
        words = dict(kept.take(request)) or demonstration_draft(request.user, row)
        if words.get("revision_id") not in (None, str(page.current.pk)):
            words = {}  # It was revised since: what was typed belongs to other words.
        initial = {
            **fields_of_revision(page.current),
            **words,
            "client_key": new_client_key(),
            "revision_id": page.current.pk,
        }
        form = DemonstrationReviewForm(assignment=row.assignment, initial=initial)
    axis = _axis(request)
    context = {
        "page": page,
        "own": row,
        "form": form if is_waiting else None,
        "shows_edit": form is not None and is_waiting and _is_edited(form, page.current),
        "axis": axis,
        "next_address": _next_address(row, axis),
    }
    return render(request, "webapp/review/demonstration.html", context, status=status)


def _revision_of(row: Demonstration, pk: int) -> DemonstrationRevision:
    """Return the revision that was read; one of another demonstration is never decided on."""
    found = row.revisions.filter(pk=pk).first()
    assert row.current is not None, f"demonstration {row.pk} was never sent"
    return found or row.current


def _is_changed(form: DemonstrationReviewForm, revision: DemonstrationRevision) -> bool:
    before = fields_of_revision(revision)
    return any(
        (form.cleaned_data.get(name) or "") != plain_lines(text)
        for name, text in _comparable(before).items()
    )


def _is_edited(form: DemonstrationReviewForm, revision: DemonstrationRevision | None) -> bool:
    """Whether the fields on the page differ from the stored words, or one of them is wrong."""
    if revision is None:
        return False
    before = _comparable(fields_of_revision(revision))
    return any(
        name in form.fields
        and (plain_lines(str(form[name].value() or "")) != plain_lines(text) or form[name].errors)
        for name, text in before.items()
    )


def _comparable(fields: dict[str, str]) -> dict[str, str]:
    """Return what a reviewer may edit."""
    return {name: text for name, text in fields.items() if name != "num_turns"}


def _axis(request: SignedInRequest) -> str:
    axis = request.GET.get("axis", "")
    return axis if axis in list(Axis) else ""


def _next_address(row: Demonstration, axis: str) -> str:
    following = next_to_review(row, axis)
    if following is None:
        return reverse("review-demonstrations")
    return _address(following, axis)


def _address(row: Demonstration, axis: str) -> str:
    address = reverse("review-demonstration", args=[row.pk])
    return f"{address}?axis={axis}" if axis else address
