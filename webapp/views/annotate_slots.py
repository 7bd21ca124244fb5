"""The next task, and further judgements of pairs that others wrote the prompts of.

A gold comparison, a repeat and a second reading are served here too: all look the same.
"""

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from annotation import services
from annotation.errors import (
    AlreadyJudgedError,
    AnnotationError,
    JudgementError,
    RoundClosedError,
    StateError,
)
from annotation.models import Comparison, Judgement, Slot
from annotation.selectors import get_slot_for, get_slot_to_judge_for
from records.preferences import Axis
from webapp.access import SignedInRequest, roles
from webapp.forms.annotate import FlagForm, JudgementForm, SkipForm
from webapp.selectors.dialogues import TaskKind, slot_task_of
from webapp.views.annotate_pages import (
    as_sentence,
    field_of,
    go_to_next,
    show,
    task_page,
)


@roles("annotator")
@require_POST
def next_task(request: SignedInRequest) -> HttpResponseBase:
    """Take the next task: a pair that is ready, a further judgement, or a prompt to write."""
    try:
        return go_to_next(request)
    except RoundClosedError:
        messages.info(request, "This round takes no more work. Choose another one.")
        return redirect("annotate")


@roles("annotator")
@never_cache
@require_safe
def slot(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show a pair that somebody else wrote the prompt of."""
    return _slot_page(request, get_slot_for(request.user, pk))


@roles("annotator")
@require_POST
def judge_slot(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Store a further judgement, and show the next task."""
    own = get_slot_to_judge_for(request.user, pk)
    form = JudgementForm(
        request.POST, axis=Axis(own.round.axis), left_id=own.left_id, right_id=own.right_id
    )
    if not form.is_valid():
        return _slot_page(request, get_slot_for(request.user, pk), form)
    last_slot = None
    try:
        judgement = services.submit_slot(annotator=request.user, slot=own, **form.verdict())
    except JudgementError as error:
        form.add_error(field_of(error), as_sentence(error))
        return _slot_page(request, get_slot_for(request.user, pk), form)
    except AlreadyJudgedError:
        messages.info(request, "This pair had already been dealt with; here is what comes next.")
    except AnnotationError as error:
        messages.warning(request, as_sentence(error))
    else:
        last_slot = _slot_of(judgement, own)
    return go_to_next(request, leaving=own.round, last_slot=last_slot)


@roles("annotator")
@require_POST
def skip_slot(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Pass on a pair, with a reason, and show the next task."""
    own = get_slot_for(request.user, pk)
    form = SkipForm(request.POST)
    if not form.is_valid():
        messages.warning(request, "Choose a reason for passing on.")
        return _slot_page(request, own)
    try:
        services.skip_slot(annotator=request.user, slot=own, **form.cleaned_data)
    except StateError as error:
        messages.info(request, as_sentence(error))
    else:
        is_disturbing = form.cleaned_data["reason"] == Comparison.SkipReason.TOO_DISTURBING
        rest = " Take a break if you like; it costs you nothing." if is_disturbing else ""
        messages.info(request, f"Passed on.{rest}")
    return go_to_next(request, leaving=own.round)


@roles("annotator")
@require_POST
def flag_slot(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Bring a pair before a reviewer; it may still be judged."""
    own = get_slot_for(request.user, pk)
    form = FlagForm(request.POST)
    if form.is_valid():
        services.flag_slot(annotator=request.user, slot=own, note=form.cleaned_data["note"])
        messages.success(request, "Flagged: a reviewer will look at it. You may still judge it.")
    else:
        messages.warning(request, "Say in a few words what a reviewer should see.")
    return _slot_page(request, own)


@roles("annotator")
@require_POST
def beat_slot(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Keep the lease of a pair that is being looked at."""
    services.beat_slot(annotator=request.user, slot=get_slot_for(request.user, pk))
    return HttpResponse(status=204)


def _slot_of(judgement: Judgement, shown: Slot) -> int:
    """Return the slot that a judgement filled: the one shown, or where that was taken another."""
    if judgement.slot == shown.number:
        return shown.pk
    return Slot.objects.get(comparison=judgement.comparison_id, number=judgement.slot).pk


def _slot_page(
    request: SignedInRequest, own: Slot, form: JudgementForm | None = None
) -> HttpResponseBase:
    """Show the pair, the refused form, or that the pair is in other hands."""
    task = slot_task_of(own, request.user)
    if request.method == "POST" and form is None and not request.htmx:
        return redirect(task.urls.page)
    if task.kind is not TaskKind.JUDGE or form is None:
        return show(request, task)
    return task_page(request, task, form=form, status=422)
