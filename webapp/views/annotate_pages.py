"""How a task becomes a page, or for htmx a part of one; shared by dialogues and slots."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django_htmx.http import HttpResponseClientRedirect, push_url

from annotation import services
from annotation.errors import JudgementError
from annotation.models import Dialogue, Round
from annotation.selectors import WorkKind, draft_fields, get_dialogue_for
from records.preferences import Axis
from webapp import kept
from webapp.access import SignedInRequest
from webapp.forms.annotate import JudgementForm, PromptForm, SkipForm, parse_key
from webapp.selectors.dialogues import (
    Task,
    TaskKind,
    new_client_key,
    slot_task_of,
    task_of,
    unwritten_dialogue_of,
)
from workers.alive import workers_alive

TaskForm = PromptForm | JudgementForm
_NOTHING = (
    "There is no task for you right now: what is left is judged, in somebody's hands, or your own. "
    "Look again later."
)


def task_page(
    request: SignedInRequest,
    task: Task,
    *,
    form: TaskForm | None = None,
    status: int = 200,
) -> HttpResponse:
    """Return the whole page, or for htmx the task alone."""
    words = kept.take(request)
    context = {
        "task": task,
        "form": form or _fresh_form(request, task, dict(words)),
        "skip_reasons": SkipForm.REASONS,
        "waiting_mark": waiting_mark(task),
        "has_sampler": task.kind is not TaskKind.WAIT or workers_alive()["sampling"],
        "shows_guidelines": "guidelines" in request.GET,
        "now": timezone.now(),
    }
    template = "_task.html" if request.htmx else "dialogue.html"
    return render(request, f"webapp/annotate/{template}", context, status=status)


def go_on(request: SignedInRequest, own: Dialogue) -> HttpResponseBase:
    """Show what comes next in a dialogue; htmx is spared a second request."""
    if not request.htmx:
        return redirect("dialogue", pk=own.pk)
    return task_page(request, task_of(get_dialogue_for(request.user, own.pk)))


def go_to_next(request: SignedInRequest, *, leaving: Round | None = None) -> HttpResponseBase:
    """Take the next work and show it, wherever it is; say so on the overview if there is none.

    htmx stays on its page while the round, whose guidelines stand beside it, is the same.
    """
    work = services.take_work(annotator=request.user)
    if work.kind is WorkKind.SLOT and work.slot is not None:
        task = slot_task_of(work.slot, request.user)
    elif work.kind is WorkKind.START and work.round is not None:
        task = task_of(begin_dialogue(request, work.round))
    elif work.dialogue is not None and work.kind is not WorkKind.NOTHING:
        task = task_of(work.dialogue)
    else:
        messages.info(request, _NOTHING)
        overview = reverse("annotate")
        return HttpResponseClientRedirect(overview) if request.htmx else redirect(overview)
    if not request.htmx:
        return redirect(task.urls.page)
    if leaving != task.round:
        return HttpResponseClientRedirect(task.urls.page)
    return push_url(task_page(request, task), task.urls.page)


def begin_dialogue(request: SignedInRequest, round_: Round) -> Dialogue:
    """Begin a dialogue, or return one in which nothing was written yet.

    Raises:
        RoundClosedError: The round takes no more work.
    """
    key = parse_key(request.POST.get("client_key", "")) or parse_key(new_client_key())
    assert key is not None
    return unwritten_dialogue_of(request.user, round_) or services.start_dialogue(
        annotator=request.user, round_=round_, client_key=key
    )


def waiting_mark(task: Task) -> str | None:
    """Return what a poll sends back: it changes when the page would change."""
    if task.kind is not TaskKind.WAIT or task.comparison is None:
        return None
    return f"{task.comparison.pk}-{int(workers_alive()['sampling'])}"


def field_of(error: JudgementError) -> str:
    """Return the form's field that a service complains of."""
    names = {"safety_bin": "safe", "edited_text": "edited_text"}
    return names.get(error.field, "choice")


def as_sentence(error: Exception) -> str:
    """Return the message of an error as a sentence."""
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")


def _fresh_form(request: SignedInRequest, task: Task, words: dict[str, str]) -> TaskForm | None:
    """Return the task's form filled with what was typed before: kept words, then the draft."""
    if task.kind is TaskKind.JUDGE and task.pair is not None:
        saved = words or _draft_of(request, task)
        return JudgementForm(pair=task.pair, initial={**saved, "client_key": new_client_key()})
    if task.kind in (TaskKind.WRITE, TaskKind.NOTHING):
        saved = words or draft_fields(request.user, dialogue=task.dialogue)
        failed = {"text": task.comparison.prompt_text} if task.comparison is not None else {}
        initial = {**failed, **saved, "client_key": new_client_key()}
        return PromptForm(axis=Axis(task.round.axis), initial=initial)
    return None


def _draft_of(request: SignedInRequest, task: Task) -> dict[str, Any]:
    if task.slot is not None:
        return task.slot.draft_fields or {}
    return draft_fields(request.user, comparison=task.comparison)
