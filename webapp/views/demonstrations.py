"""The author's pages of demonstrations: choose an assignment, write, send, read the feedback."""

import uuid
from collections.abc import Mapping

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotation import services
from annotation.demonstration_selectors import (
    demonstration_draft,
    get_demonstration_for,
    get_open_assignment_for,
)
from annotation.errors import (
    AnnotationError,
    AssignmentClosedError,
    AssignmentFullError,
    DemonstrationError,
    DemonstrationStateError,
    NotFoundError,
    PausedError,
)
from annotation.models import Assignment, Demonstration
from annotation.pauses import pause_for
from webapp import kept
from webapp.access import SignedInRequest, roles
from webapp.forms.annotate import parse_key
from webapp.forms.demonstrations import (
    DemonstrationForm,
    error_field,
    fields_of_revision,
    is_begun,
    turns_in,
)
from webapp.selectors.demonstrations import demonstration_page, demonstrations_of
from webapp.selectors.dialogues import new_client_key
from webapp.wording import as_sentence

_NOT_DRAFTED = {"csrfmiddlewaretoken", "client_key", "active_seconds", "demonstration", "do"}


@roles("annotator")
@never_cache
@require_safe
def demonstrations(request: SignedInRequest) -> HttpResponseBase:
    """Show the author's demonstrations and the open assignments."""
    context = {
        "mine": demonstrations_of(request.user),
        "pause": pause_for(request.user),
        "assignments": Assignment.objects.open().select_related("guidelines").order_by("pk"),
    }
    return render(request, "webapp/demonstrations/list.html", context)


@roles("annotator")
@require_POST
def start(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Begin a demonstration; the same form sent twice begins one."""
    key = parse_key(request.POST.get("client_key", "")) or uuid.uuid4()
    try:
        assignment = get_open_assignment_for(request.user, pk)
        begun = services.start_demonstration(
            author=request.user, assignment=assignment, client_key=key
        )
    except (NotFoundError, AssignmentClosedError, AssignmentFullError):
        messages.info(request, "This assignment takes no more work. Choose another one.")
        return redirect("demonstrations")
    except PausedError as error:
        messages.info(request, as_sentence(error))
        return redirect("demonstrations")
    return redirect("demonstration", pk=begun.pk)


@roles("annotator")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def demonstration(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show a demonstration to its author; take its words, or one turn more or less."""
    own = get_demonstration_for(request.user, pk)
    if request.method != "POST":
        return _task_page(request, own)
    if request.POST.get("do") in ("add", "remove"):
        return _change_turns(request, own)
    form = DemonstrationForm(request.POST, assignment=own.assignment)
    if not form.is_valid():
        return _task_page(request, own, form=form)
    try:
        services.submit_demonstration(
            author=request.user,
            demonstration=own,
            revision=form.revision(),
            client_key=form.cleaned_data["client_key"],
        )
    except DemonstrationError as error:
        form.add_error(error_field(form, error.field), as_sentence(error))
        return _task_page(request, own, form=form)
    except AnnotationError as error:
        messages.warning(request, as_sentence(error))
    else:
        messages.success(request, "Sent: a reviewer reads it next.")
    return redirect("demonstration", pk=pk)


@roles("annotator")
@require_POST
def withdraw(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Give up a demonstration; its words stay stored."""
    own = get_demonstration_for(request.user, pk)
    try:
        services.withdraw_demonstration(author=request.user, demonstration=own)
    except DemonstrationStateError as error:
        messages.info(request, as_sentence(error))
        return redirect("demonstration", pk=pk)
    messages.info(request, "Given up; its place is free for somebody else.")
    return redirect("demonstrations")


@roles("annotator", "reviewer", "lead", "admin")
@require_POST
def draft(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Keep what an author or a reviewer has typed and not yet sent; answers with the time."""
    try:
        kept_draft = services.keep_demonstration_draft(
            person=request.user,
            demonstration=get_demonstration_for(request.user, pk),
            fields=drafted(request.POST),
        )
    except ValueError as error:
        return JsonResponse({"error": str(error)}, status=400)
    return JsonResponse({"saved_at": kept_draft.updated_at.isoformat()})


def drafted(post: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of a form that a draft keeps."""
    return {name: post[name] for name in post if name not in _NOT_DRAFTED}


def _change_turns(request: SignedInRequest, own: Demonstration) -> HttpResponseBase:
    """Keep everything typed, with one turn more, or less where the last one is empty."""
    fields = drafted(request.POST)
    shown = turns_in(fields, own.assignment)
    if request.POST["do"] == "add":
        shown = min(shown + 1, own.assignment.max_turns)
    elif fields.get(f"prompt_{shown - 1}") or fields.get(f"response_{shown - 1}"):
        messages.warning(request, "The last turn is not empty. Clear its text to remove it.")
    else:
        shown = max(1, shown - 1)
    try:
        services.keep_demonstration_draft(
            person=request.user,
            demonstration=own,
            fields={**fields, "num_turns": str(shown)},
        )
    except ValueError as error:
        messages.error(request, as_sentence(error))
        return _task_page(request, own, form=_refilled(request, own))
    return redirect("demonstration", pk=own.pk)


def _task_page(
    request: SignedInRequest, own: Demonstration, *, form: DemonstrationForm | None = None
) -> HttpResponse:
    """Return the whole page, or for htmx the task alone."""
    own.refresh_from_db(fields=["state", "holds_slot"])
    fields = dict(kept.take(request)) or demonstration_draft(request.user, own)
    page = demonstration_page(own)
    status = 200 if form is None else 422
    if form is None and own.is_in_hands:
        before = fields_of_revision(page.current) if page.current is not None else {}
        initial = {**before, **fields, "client_key": new_client_key()}
        form = DemonstrationForm(assignment=own.assignment, initial=initial)
    context = {
        "page": page,
        "own": own,
        "assignment": own.assignment,
        "form": form if own.is_in_hands else None,
        "words_kept": None if own.is_in_hands else _texts(fields),
        "is_begun": is_begun(own, fields),
        "shows_guidelines": "guidelines" in request.GET,
    }
    template = "_task.html" if request.htmx else "demonstration.html"
    return render(request, f"webapp/demonstrations/{template}", context, status=status)


def _refilled(request: SignedInRequest, own: Demonstration) -> DemonstrationForm:
    fields = {**drafted(request.POST), "client_key": new_client_key()}
    return DemonstrationForm(assignment=own.assignment, initial=fields)


def _texts(fields: Mapping[str, str]) -> list[str]:
    """Return what a draft holds in the order it was written."""
    names = sorted(
        (name for name in fields if name.startswith(("prompt_", "response_"))),
        key=lambda name: (int(name.rpartition("_")[2] or 0), name),
    )
    return [fields[name] for name in names if fields[name]]
