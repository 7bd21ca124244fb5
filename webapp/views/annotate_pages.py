"""How a task becomes a page, or for htmx a part of one; shared by dialogues and slots."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django_htmx.http import HttpResponseClientRedirect, push_url

from annotation import services
from annotation.eligibility import Need, missing_in
from annotation.errors import JudgementError, NoItemLeftError, NotEligibleError, PausedError
from annotation.exposure import covers_responses
from annotation.models import Dialogue, Round, WellbeingPolicy
from annotation.pauses import pause_for
from annotation.selectors import draft_fields, get_dialogue_for
from annotation.work import Work, WorkKind, is_held
from records.preferences import Axis
from webapp import kept
from webapp.access import SignedInRequest
from webapp.forms.annotate import JudgementForm, PromptForm, SkipForm, parse_key
from webapp.parts import render_part
from webapp.selectors.dialogues import (
    Task,
    TaskKind,
    new_client_key,
    slot_task_of,
    task_of,
    unwritten_dialogue_of,
)
from webapp.wording import capitalised
from workers import dispatch
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
    last_slot: int | None = None,
) -> HttpResponse:
    """Return the whole page, or for htmx the task alone.

    `last_slot` is the pair of somebody else's that was judged just now, if any.
    """
    words = kept.take(request)
    context = {
        "task": task,
        "form": form or _fresh_form(request, task, dict(words)),
        "skip_reasons": SkipForm.REASONS,
        "waiting_mark": waiting_mark(task),
        "has_sampler": task.kind is not TaskKind.WAIT or workers_alive()["sampling"],
        "shows_guidelines": "guidelines" in request.GET,
        "pause": pause_for(request.user) if task.kind is TaskKind.NOTHING else None,
        "is_covered": task.kind is TaskKind.JUDGE and covers_responses(request.user, task.round),
        "now": timezone.now(),
        "last_slot": last_slot_of(request) if last_slot is None else last_slot,
    }
    if request.htmx and task.kind is TaskKind.JUDGE:  # each step of an annotator: no detour
        part = render_part(request, "webapp/annotate/_judge.jinja", context)
        return HttpResponse(part, status=status)
    template = "_task.html" if request.htmx else "dialogue.html"
    return render(request, f"webapp/annotate/{template}", context, status=status)


def held_page(request: SignedInRequest, task: Task) -> HttpResponse | None:
    """Return what is missing before this work goes on; None where nothing is."""
    if task.kind not in (TaskKind.WRITE, TaskKind.JUDGE):
        return None
    missing = missing_in(request.user, task.round)
    if not is_held(task.kind, missing):
        return None
    context = {
        "task": task,
        "missing": missing,
        "is_break": all(item.need in (Need.BREAK, Need.MAINTENANCE) for item in missing),
        "policy": WellbeingPolicy.objects.first(),
        "draft": _draft_text(request, task),
    }
    template = "_held.html" if request.htmx else "held.html"
    return render(request, f"webapp/wellbeing/{template}", context)


def show(request: SignedInRequest, task: Task) -> HttpResponse:
    """Return the page of a task, or of what is missing before it may be done."""
    return held_page(request, task) or task_page(request, task)


def go_on(request: SignedInRequest, own: Dialogue) -> HttpResponseBase:
    """Show what comes next in a dialogue; htmx is spared a second request."""
    if not request.htmx:
        return redirect("dialogue", pk=own.pk)
    return show(request, task_of(get_dialogue_for(request.user, own.pk)))


def go_on_or_next(request: SignedInRequest, own: Dialogue) -> HttpResponseBase:
    """Show what comes next in a dialogue; after the end of an imported one, the next task."""
    if not own.is_imported:
        return go_on(request, own)
    dispatch.request_responses()
    own.refresh_from_db(fields=["state"])
    return go_on(request, own) if own.is_open else go_to_next(request, leaving=own.round)


def go_to(request: SignedInRequest, address: str) -> HttpResponseBase:
    """Lead to another page, as a form or as htmx."""
    return HttpResponseClientRedirect(address) if request.htmx else redirect(address)


def go_to_next(
    request: SignedInRequest, *, leaving: Round | None = None, last_slot: int | None = None
) -> HttpResponseBase:
    """Take the next work and show it, wherever it is; say so on the overview if there is none.

    htmx stays on its page while the round, whose guidelines stand beside it, is the same. The
    address tells which pair was judged last, so that it may be taken back from there.
    """
    query = "" if last_slot is None else f"?last={last_slot}"
    work = services.take_work(annotator=request.user)
    reason = _NOTHING
    try:
        task = _task_for(request, work)
    except (NotEligibleError, NoItemLeftError, PausedError) as error:
        task, reason = None, as_sentence(error)
    if task is None:
        if work.pause is not None:
            reason = capitalised(work.pause.notice)
        elif work.missing and work.round is not None:
            reason = as_sentence(NotEligibleError(work.round.name, work.missing[0].message))
        messages.info(request, reason)
        return go_to(request, reverse("annotate") + query)
    address = task.urls.page + query
    if not request.htmx or leaving != task.round:
        return go_to(request, address)
    return push_url(task_page(request, task, last_slot=last_slot), address)


def begin_dialogue(request: SignedInRequest, round_: Round) -> Dialogue:
    """Begin a dialogue, or return one in which nothing was written yet.

    Raises:
        RoundClosedError: The round takes no more work.
        PausedError: Annotation is paused.
        NotEligibleError: Something is missing before this person may work in the round.
        NoItemLeftError: No imported item is for this person.
    """
    key = parse_key(request.POST.get("client_key", "")) or parse_key(new_client_key())
    assert key is not None
    begun = unwritten_dialogue_of(request.user, round_) or services.start_dialogue(
        annotator=request.user, round_=round_, client_key=key
    )
    if begun.is_imported:
        dispatch.request_responses()
    return begun


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


def last_slot_of(request: SignedInRequest) -> int | None:
    """Return which pair of somebody else's was judged last, as the address of the page tells.

    Whether that is still so is found out when it is taken back.
    """
    value = request.GET.get("last", "")
    if not value and request.htmx and request.method == "GET":  # a page that waits asks again
        query = urlsplit(request.htmx.current_url or "").query
        value = parse_qs(query).get("last", [""])[0]
    return int(value) if value.isdecimal() and len(value) < 19 else None


def _task_for(request: SignedInRequest, work: Work) -> Task | None:
    """Return the task that is the work, begun where it is a new dialogue; None for no work."""
    if work.kind is WorkKind.SLOT and work.slot is not None:
        return slot_task_of(work.slot, request.user)
    if work.kind is WorkKind.START and work.round is not None:
        return task_of(begin_dialogue(request, work.round))
    if work.dialogue is not None and work.kind is not WorkKind.NOTHING:
        return task_of(work.dialogue)
    return None


def _draft_text(request: SignedInRequest, task: Task) -> str:
    """Return the words of a task's draft: of a message, or of a better response."""
    if task.kind is TaskKind.JUDGE:
        return str(_draft_of(request, task).get("edited_text", ""))
    return str(draft_fields(request.user, dialogue=task.dialogue).get("text", ""))


def _fresh_form(request: SignedInRequest, task: Task, words: dict[str, str]) -> TaskForm | None:
    """Return the task's form filled with what was typed before: kept words, then the draft."""
    if task.kind is TaskKind.JUDGE and task.pair is not None:
        saved = words or _draft_of(request, task)
        return JudgementForm.of(task.pair, initial={**saved, "client_key": new_client_key()})
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
