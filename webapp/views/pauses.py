"""Maintenance: a lead pauses the giving out of tasks, changes what is said of it, and ends it."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from annotation import services
from annotation.errors import AlreadyPausedError, PauseError, StateError
from annotation.models import Pause
from annotation.pauses import active_pause
from webapp.access import SignedInRequest, roles, safe_target
from webapp.forms.pauses import PauseForm
from webapp.wording import as_sentence

NUM_EARLIER = 50
"""Pauses in the list of earlier ones, the newest."""


@roles("lead", "admin")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def pause(request: SignedInRequest) -> HttpResponseBase:
    """Begin a pause, or change the one that holds; list the earlier ones."""
    is_post = request.method == "POST"
    form = PauseForm(request.POST) if is_post else PauseForm.of(active_pause())
    if is_post and form.is_valid() and _store(request, form):
        return redirect("rounds")
    held = active_pause()
    earlier = Pause.objects.select_related("begun_by", "ended_by").order_by("-pk")
    if held is not None:
        earlier = earlier.exclude(pk=held.pk)
    context = {"form": form, "pause": held, "earlier": earlier[:NUM_EARLIER]}
    return render(request, "webapp/pauses/pause.html", context, status=422 if is_post else 200)


@roles("lead", "admin")
@require_POST
def end_pause(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """End a pause; tasks are given out again at once."""
    services.end_pause(lead=request.user, pause=get_object_or_404(Pause, pk=pk))
    messages.success(request, "The pause is over: annotators are given tasks again.")
    return redirect(safe_target(request, request.POST.get("next", ""), default="rounds"))


def _store(request: SignedInRequest, form: PauseForm) -> bool:
    """Begin the pause, or change what the form was made for; False with the error in the form."""
    values = dict(form.cleaned_data)
    changed = Pause.objects.filter(pk=values.pop("changes")).first()
    try:
        if changed is None:
            services.begin_pause(lead=request.user, **values)
        else:
            services.change_pause(lead=request.user, pause=changed, **values)
    except PauseError as error:
        form.add_error(error.field, as_sentence(error))
    except (AlreadyPausedError, StateError) as error:
        form.add_error(None, as_sentence(error))
    else:
        messages.success(request, "Annotation is paused: nobody is given a new task.")
        return True
    return False
