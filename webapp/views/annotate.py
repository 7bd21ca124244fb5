"""The annotator's pages: choose a round, write, wait, judge, go on.

One address per dialogue shows whatever its author does next; it answers htmx with the task alone.
"""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from annotation import services
from annotation.errors import (
    AlreadyJudgedError,
    AnnotationError,
    JudgementError,
    NoItemLeftError,
    NotEligibleError,
    NotFoundError,
    PausedError,
    PromptError,
    RoundClosedError,
    StateError,
    TooFewTurnsError,
)
from annotation.models import Comparison, Dialogue, User
from annotation.selectors import (
    get_comparison_for,
    get_dialogue_for,
    get_open_round_for,
    get_slot_for,
    near_duplicate_of,
    pair_view,
)
from records.preferences import Axis
from webapp.access import SignedInRequest, roles
from webapp.forms.annotate import DraftForm, FlagForm, JudgementForm, PromptForm, SkipForm
from webapp.selectors.dialogues import overview_of, task_of
from webapp.views.annotate_pages import (
    as_sentence,
    begin_dialogue,
    field_of,
    go_on,
    go_on_or_next,
    last_slot_of,
    show,
    task_page,
    waiting_mark,
)
from workers import dispatch

_NOT_DRAFTED = {"csrfmiddlewaretoken", "client_key", "dialogue", "comparison", "slot"}


@roles("annotator")
@never_cache
@require_safe
def annotate(request: SignedInRequest) -> HttpResponseBase:
    """Show the dialogues to go on with and the open rounds, or why there is nothing to do."""
    context = {"overview": overview_of(request.user), "last_slot": last_slot_of(request)}
    return render(request, "webapp/annotate/rounds.html", context)


@roles("annotator")
@require_POST
def start(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Begin a dialogue in a round; the same form sent twice begins one."""
    try:
        begun = begin_dialogue(request, get_open_round_for(request.user, pk))
    except (NotFoundError, RoundClosedError):
        messages.info(request, "This round takes no more work. Choose another one.")
        return redirect("annotate")
    except (NotEligibleError, NoItemLeftError, PausedError) as error:
        messages.info(request, as_sentence(error))
        return redirect("annotate")
    return redirect("dialogue", pk=begun.pk)


@roles("annotator")
@never_cache
@require_safe
def dialogue(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show what comes next in a dialogue; a poll that would change nothing is answered with 204."""
    task = task_of(get_dialogue_for(request.user, pk))
    mark = waiting_mark(task)
    if request.htmx and mark is not None and request.GET.get("waiting") == mark:
        return HttpResponse(status=204)
    return show(request, task)


@roles("annotator")
@require_POST
def prompt(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Store the next prompt of a dialogue and have its two responses drawn."""
    own = get_dialogue_for(request.user, pk)
    form = PromptForm(request.POST, axis=Axis(own.round.axis), initial={})
    if not form.is_valid():
        return task_page(request, task_of(own), form=form, status=422)
    values = dict(form.cleaned_data)
    if not values.pop("is_sure") and own.num_turns == 0:
        form.near_duplicate = near_duplicate_of(own.round, values["text"], besides=own)
        if form.near_duplicate is not None:
            return task_page(request, task_of(own), form=form, status=422)
    try:
        services.write_prompt(annotator=request.user, dialogue=own, **values)
    except PromptError as error:
        form.add_error("text", as_sentence(error))
        return task_page(request, task_of(own), form=form, status=422)
    except AnnotationError as error:
        messages.warning(request, as_sentence(error))
    else:
        dispatch.request_responses()
    return go_on(request, own)


@roles("annotator")
@require_POST
def judge(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Store a judgement; the chosen response continues the dialogue."""
    comparison = get_comparison_for(request.user, pk)
    own = comparison.dialogue
    if comparison.state not in (Comparison.State.READY, Comparison.State.JUDGED):
        messages.warning(request, f"This pair is {comparison.state} and cannot be judged.")
        return go_on(request, own)
    form = JudgementForm.of(pair_view(comparison), request.POST)
    if not form.is_valid():
        return _judge_again(request, own, comparison, form)
    try:
        services.submit_comparison(annotator=request.user, comparison=comparison, **form.verdict())
    except JudgementError as error:
        form.add_error(field_of(error), as_sentence(error))
        return _judge_again(request, own, comparison, form)
    except (AlreadyJudgedError, StateError):
        messages.info(request, "This pair had already been dealt with; here is what comes next.")
    except AnnotationError as error:
        form.add_error(None, as_sentence(error))
        return _judge_again(request, own, comparison, form)
    return go_on_or_next(request, own)


@roles("annotator")
@require_POST
def skip(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Pass on a pair, with a reason."""
    comparison = get_comparison_for(request.user, pk)
    form = SkipForm(request.POST)
    if not form.is_valid():
        messages.warning(request, "Choose a reason for passing on.")
        return go_on(request, comparison.dialogue)
    try:
        services.skip_comparison(annotator=request.user, comparison=comparison, **form.cleaned_data)
    except StateError as error:
        messages.info(request, as_sentence(error))
        return go_on(request, comparison.dialogue)
    if form.cleaned_data["reason"] == Comparison.SkipReason.TOO_DISTURBING:
        messages.info(request, "Passed on. Take a break if you like; it costs you nothing.")
    elif comparison.dialogue.is_imported:
        messages.info(request, "Passed on.")
    else:
        messages.info(request, "Passed on. Write another message, or finish the dialogue.")
    return go_on_or_next(request, comparison.dialogue)


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
    return go_on(request, comparison.dialogue)


@roles("annotator")
@require_POST
def finish(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """End a dialogue before it has all its turns."""
    own = get_dialogue_for(request.user, pk)
    try:
        services.finish_dialogue(annotator=request.user, dialogue=own)
    except TooFewTurnsError as error:
        messages.warning(request, as_sentence(error))
    return go_on(request, own)


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
    fields = {name: request.POST[name] for name in request.POST if name not in _NOT_DRAFTED}
    try:
        kept_draft = services.save_draft(
            annotator=request.user, fields=fields, **_drafted(request, form.cleaned_data)
        )
    except ValueError as error:
        return JsonResponse({"error": str(error)}, status=400)
    return JsonResponse({"saved_at": kept_draft.updated_at.isoformat()})


def _drafted(request: SignedInRequest, ids: dict[str, int | None]) -> dict[str, Any]:
    """Return what a draft is of, by its name in `save_draft`: a thing of this annotator's."""
    getters: dict[str, Callable[[User, int], Any]] = {
        "dialogue": get_dialogue_for,
        "comparison": get_comparison_for,
        "slot": get_slot_for,
    }
    return {name: getters[name](request.user, pk) for name, pk in ids.items() if pk is not None}


def _judge_again(
    request: SignedInRequest, own: Dialogue, comparison: Comparison, form: JudgementForm
) -> HttpResponseBase:
    task = task_of(own)
    if task.comparison != comparison:
        messages.info(request, "This pair had already been dealt with; here is what comes next.")
        return go_on(request, own)
    return task_page(request, task, form=form, status=422)
