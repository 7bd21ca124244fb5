"""The annotator's pages: choose a round, write, wait, judge, go on.

One address per dialogue shows whatever its author does next; it answers htmx with the task alone.
"""

import uuid

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from annotation import services
from annotation.eligibility import Need, missing_for, missing_in
from annotation.errors import (
    AlreadyJudgedError,
    AnnotationError,
    JudgementError,
    NotEligibleError,
    NotFoundError,
    PromptError,
    RoundClosedError,
    StateError,
)
from annotation.exposure import CATEGORY_WORDS, categories_of, covers_responses
from annotation.models import Comparison, Dialogue, WellbeingPolicy
from annotation.selectors import (
    draft_fields,
    get_comparison_for,
    get_dialogue_for,
    get_open_round_for,
    is_held,
    open_rounds,
    pair_view,
    work_for,
)
from records.preferences import Axis
from webapp import kept
from webapp.access import SignedInRequest, roles
from webapp.forms.annotate import (
    DraftForm,
    FlagForm,
    JudgementForm,
    PromptForm,
    SkipForm,
    parse_key,
)
from webapp.selectors.dialogues import (
    Task,
    TaskKind,
    new_client_key,
    open_dialogues_of,
    task_of,
    unwritten_dialogue_of,
)
from workers import dispatch
from workers.alive import workers_alive

_NOT_DRAFTED = {"csrfmiddlewaretoken", "client_key", "dialogue", "comparison"}


@roles("annotator")
@never_cache
@require_safe
def annotate(request: SignedInRequest) -> HttpResponseBase:
    """Show the dialogues to go on with and the open rounds, or why there is nothing to do."""
    rounds = list(open_rounds())
    context = {
        "work": work_for(request.user),
        "dialogues": open_dialogues_of(request.user),
        "rounds": rounds,
        "missing": missing_for(request.user, rounds),
        "warnings": {
            pk: ", ".join(CATEGORY_WORDS[category] for category in categories)
            for pk, categories in categories_of(rounds).items()
        },
    }
    return render(request, "webapp/annotate/rounds.html", context)


@roles("annotator")
@require_POST
def start(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Begin a dialogue in a round; the same form sent twice begins one."""
    key = parse_key(request.POST.get("client_key", "")) or uuid.uuid4()
    try:
        round_ = get_open_round_for(request.user, pk)
        begun = unwritten_dialogue_of(request.user, round_) or services.start_dialogue(
            annotator=request.user, round_=round_, client_key=key
        )
    except (NotFoundError, RoundClosedError):
        messages.info(request, "This round takes no more work. Choose another one.")
        return redirect("annotate")
    except NotEligibleError as error:
        messages.info(request, _sentence(error))
        return redirect("annotate")
    return redirect("dialogue", pk=begun.pk)


@roles("annotator")
@never_cache
@require_safe
def dialogue(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show what comes next in a dialogue; a poll that would change nothing is answered with 204."""
    task = task_of(get_dialogue_for(request.user, pk))
    mark = _waiting_mark(task)
    if request.htmx and mark is not None and request.GET.get("waiting") == mark:
        return HttpResponse(status=204)
    return _held_page(request, task) or _task_page(request, task)


@roles("annotator")
@require_POST
def prompt(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Store the next prompt of a dialogue and have its two responses drawn."""
    own = get_dialogue_for(request.user, pk)
    form = PromptForm(request.POST, axis=Axis(own.round.axis), initial={})
    if not form.is_valid():
        return _task_page(request, task_of(own), form=form, status=422)
    try:
        services.write_prompt(annotator=request.user, dialogue=own, **form.cleaned_data)
    except PromptError as error:
        form.add_error("text", _sentence(error))
        return _task_page(request, task_of(own), form=form, status=422)
    except AnnotationError as error:
        messages.warning(request, _sentence(error))
    else:
        dispatch.request_responses()
    return _go_on(own)


@roles("annotator")
@require_POST
def judge(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Store a judgement; the chosen response continues the dialogue."""
    comparison = get_comparison_for(request.user, pk)
    own = comparison.dialogue
    if comparison.state not in (Comparison.State.READY, Comparison.State.JUDGED):
        messages.warning(request, f"This pair is {comparison.state} and cannot be judged.")
        return _go_on(own)
    form = JudgementForm(request.POST, pair=pair_view(comparison))
    if not form.is_valid():
        return _judge_again(request, own, comparison, form)
    data = form.cleaned_data
    try:
        services.submit_comparison(
            annotator=request.user,
            comparison=comparison,
            chosen_sample_id=data["chosen_sample_id"],
            rating=data["rating"],
            safety_bin=data["safety_bin"],
            client_key=data["client_key"],
            active_seconds=min(data["active_seconds"] or 0.0, 24 * 3600.0),
        )
    except JudgementError as error:
        form.add_error("safe" if error.field == "safety_bin" else "choice", _sentence(error))
        return _judge_again(request, own, comparison, form)
    except (AlreadyJudgedError, StateError):
        messages.info(request, "This pair had already been dealt with; here is what comes next.")
    except AnnotationError as error:
        form.add_error(None, _sentence(error))
        return _judge_again(request, own, comparison, form)
    return _go_on(own)


@roles("annotator")
@require_POST
def skip(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Pass on a pair, with a reason."""
    comparison = get_comparison_for(request.user, pk)
    form = SkipForm(request.POST)
    if not form.is_valid():
        messages.warning(request, "Choose a reason for passing on.")
        return _go_on(comparison.dialogue)
    try:
        services.skip_comparison(annotator=request.user, comparison=comparison, **form.cleaned_data)
    except StateError as error:
        messages.info(request, _sentence(error))
        return _go_on(comparison.dialogue)
    if form.cleaned_data["reason"] == Comparison.SkipReason.TOO_DISTURBING:
        messages.info(request, "Passed on. Take a break if you like; it costs you nothing.")
    else:
        messages.info(request, "Passed on. Write another message, or finish the dialogue.")
    return _go_on(comparison.dialogue)


@roles("annotator")
@require_POST
def flag(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Bring a pair before a reviewer; it may still be judged."""
    comparison = get_comparison_for(request.user, pk)
    form = FlagForm(request.POST)
    if form.is_valid():
        note = form.cleaned_data["note"]
        services.flag_comparison(annotator=request.user, comparison=comparison, note=note)
        messages.success(request, "Flagged: a reviewer will look at it. You may still judge it.")
    else:
        messages.warning(request, "Say in a few words what a reviewer should see.")
    return _go_on(comparison.dialogue)


@roles("annotator")
@require_POST
def finish(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """End a dialogue before it has all its turns."""
    own = get_dialogue_for(request.user, pk)
    services.finish_dialogue(annotator=request.user, dialogue=own)
    return _go_on(own)


@roles("annotator")
@require_POST
def beat(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Keep the slot of a pair that is being looked at."""
    services.beat_comparison(
        annotator=request.user, comparison=get_comparison_for(request.user, pk)
    )
    return HttpResponse(status=204)


@roles("annotator")
@require_POST
def draft(request: SignedInRequest) -> HttpResponseBase:
    """Keep what is typed or ticked and not yet submitted; answers with the time."""
    form = DraftForm(request.POST)
    if not form.is_valid():
        return JsonResponse(
            {"error": "a draft belongs to a dialogue or to a comparison"}, status=400
        )
    ids = form.cleaned_data
    is_dialogue = ids["dialogue"] is not None
    fields = {name: request.POST[name] for name in request.POST if name not in _NOT_DRAFTED}
    try:
        kept_draft = services.save_draft(
            annotator=request.user,
            dialogue=get_dialogue_for(request.user, ids["dialogue"]) if is_dialogue else None,
            comparison=None if is_dialogue else get_comparison_for(request.user, ids["comparison"]),
            fields=fields,
        )
    except ValueError as error:
        return JsonResponse({"error": str(error)}, status=400)
    return JsonResponse({"saved_at": kept_draft.updated_at.isoformat()})


def _task_page(
    request: SignedInRequest,
    task: Task,
    *,
    form: PromptForm | JudgementForm | None = None,
    status: int = 200,
) -> HttpResponse:
    """Return the whole page, or for htmx the task alone."""
    words = kept.take(request)
    context = {
        "task": task,
        "form": form or _fresh_form(request, task, dict(words)),
        "skip_reasons": SkipForm.REASONS,
        "waiting_mark": _waiting_mark(task),
        "has_sampler": task.kind is not TaskKind.WAIT or workers_alive()["sampling"],
        "shows_guidelines": "guidelines" in request.GET,
        "is_covered": task.kind is TaskKind.JUDGE and covers_responses(request.user, task.round),
        "now": timezone.now(),
    }
    template = "_task.html" if request.htmx else "dialogue.html"
    return render(request, f"webapp/annotate/{template}", context, status=status)


def _held_page(request: SignedInRequest, task: Task) -> HttpResponse | None:
    """Return what is missing before this dialogue goes on; None where nothing is."""
    if task.kind in (TaskKind.FINISHED, TaskKind.WAIT, TaskKind.NOTHING):
        return None
    missing = missing_in(request.user, task.round)
    if not is_held(task.kind, missing):
        return None
    context = {
        "task": task,
        "missing": missing,
        "is_break": all(item.need is Need.BREAK for item in missing),
        "policy": WellbeingPolicy.objects.first(),
        "draft": draft_fields(request.user, dialogue=task.dialogue).get("text", ""),
    }
    template = "_held.html" if request.htmx else "held.html"
    return render(request, f"webapp/wellbeing/{template}", context)


def _fresh_form(
    request: SignedInRequest, task: Task, words: dict[str, str]
) -> PromptForm | JudgementForm | None:
    """Return the task's form filled with what was typed before: kept words, then the draft."""
    if task.kind is TaskKind.JUDGE and task.pair is not None:
        saved = words or draft_fields(request.user, comparison=task.comparison)
        return JudgementForm(pair=task.pair, initial={**saved, "client_key": new_client_key()})
    if task.kind in (TaskKind.WRITE, TaskKind.NOTHING):
        saved = words or draft_fields(request.user, dialogue=task.dialogue)
        failed = {"text": task.comparison.prompt_text} if task.comparison is not None else {}
        initial = {**failed, **saved, "client_key": new_client_key()}
        return PromptForm(axis=Axis(task.round.axis), initial=initial)
    return None


def _judge_again(
    request: SignedInRequest, own: Dialogue, comparison: Comparison, form: JudgementForm
) -> HttpResponseBase:
    task = task_of(own)
    if task.comparison != comparison:
        messages.info(request, "This pair had already been dealt with; here is what comes next.")
        return _go_on(own)
    return _task_page(request, task, form=form, status=422)


def _waiting_mark(task: Task) -> str | None:
    """Return what a poll sends back: it changes when the page would change."""
    if task.kind is not TaskKind.WAIT or task.comparison is None:
        return None
    return f"{task.comparison.pk}-{int(workers_alive()['sampling'])}"


def _go_on(own: Dialogue) -> HttpResponseBase:
    return redirect("dialogue", pk=own.pk)


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")
