"""Taking back what one said last, and letting it stand after all."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.urls import reverse
from django.views.decorators.http import require_POST

from annotation import services
from annotation.errors import RetractionError
from annotation.histories import retraction_of, retraction_of_slot
from annotation.models import Judgement, Retraction, Slot
from annotation.selectors import get_comparison_for, get_slot_for
from webapp.access import SignedInRequest, roles
from webapp.forms.annotate import fields_of, parse_key
from webapp.selectors.dialogues import new_client_key
from webapp.views.annotate_pages import as_sentence, go_on, go_to, go_to_next


@roles("annotator")
@require_POST
def retract(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Take back what was said of a pair; it comes back with the same answers ticked."""
    comparison = get_comparison_for(request.user, pk)
    judgement = comparison.judgements.filter(slot=0).first()
    if judgement is None:
        messages.info(request, "Nothing is said of this pair; here is what comes next.")
        return go_on(request, comparison.dialogue)
    _take_back(request, judgement, None)
    return go_on(request, comparison.dialogue)


@roles("annotator")
@require_POST
def restore(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Let what was taken back stand after all."""
    comparison = get_comparison_for(request.user, pk)
    retraction = retraction_of(comparison)
    if retraction is not None:
        _let_stand(request, retraction)
    return go_on(request, comparison.dialogue)


@roles("annotator")
@require_POST
def retract_slot(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Take back what was said of a pair that somebody else wrote; it comes back likewise."""
    own = get_slot_for(request.user, pk)
    judgements = own.comparison.judgements.filter(slot=own.number, annotator=request.user)
    judgement = judgements.first()
    if judgement is None:
        messages.info(request, "Nothing is said of this pair; here is what comes next.")
        return go_to_next(request)
    if not _take_back(request, judgement, own):
        return go_to_next(request)
    return go_to(request, reverse("slot", args=[pk]))


@roles("annotator")
@require_POST
def restore_slot(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Let what was taken back of somebody else's pair stand after all."""
    own = get_slot_for(request.user, pk)
    retraction = retraction_of_slot(own, request.user)
    if retraction is not None:
        _let_stand(request, retraction)
    return go_to_next(request)


def _take_back(request: SignedInRequest, judgement: Judgement, slot: Slot | None) -> bool:
    """Take a judgement back and keep its answers as the draft; False, and why, if it stands."""
    key = parse_key(request.POST.get("client_key", "")) or parse_key(new_client_key())
    assert key is not None
    try:
        services.retract_judgement(annotator=request.user, judgement=judgement, client_key=key)
    except RetractionError as error:
        messages.warning(request, as_sentence(error))
        return False
    services.save_draft(
        annotator=request.user,
        fields=fields_of(judgement),
        comparison=judgement.comparison if slot is None else None,
        slot=slot,
    )
    messages.info(request, "Taken back. Judge this pair again, or let it stand.")
    return True


def _let_stand(request: SignedInRequest, retraction: Retraction) -> None:
    try:
        services.restore_judgement(annotator=request.user, retraction=retraction)
    except RetractionError as error:
        messages.warning(request, as_sentence(error))
    else:
        messages.success(request, "It stands as you had said it.")
