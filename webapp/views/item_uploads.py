"""More items for an imported round: a lead uploads a file, looks at what is in it, and adds it."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotation import services
from annotation.errors import AnnotationError, RoundConfigError, StateError
from annotation.models import ItemUpload
from annotation.selectors import get_round_for, get_upload_for
from webapp.access import SignedInRequest, roles
from webapp.forms.rounds import ItemsForm
from webapp.wording import as_sentence, capitalised
from workers import dispatch
from workers.alive import workers_alive
from workers.uploads import share_read

_NUM_UPLOADS = 50
"""Uploads listed on the page of a round, the newest ones."""


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def items(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Take a file of items for a round; list what was uploaded before."""
    round_ = get_round_for(request.user, pk)
    is_sent = request.method == "POST"
    form = ItemsForm(request.POST, request.FILES) if is_sent else ItemsForm()
    if is_sent and form.is_valid():
        file = form.cleaned_data["items_file"]
        try:
            upload = services.receive_items(
                lead=request.user, round_=round_, name=file.name, chunks=file.chunks()
            )
        except RoundConfigError as error:
            message = str(error).removeprefix(f"{error.field}: ")
            form.add_error("items_file", f"{capitalised(message)}.")
        except AnnotationError as error:
            form.add_error("items_file", as_sentence(error))
        else:
            dispatch.request_upload(upload.pk)
            return redirect("item-upload", pk=upload.pk)
    uploads = ItemUpload.objects.filter(round=round_).select_related("uploaded_by")
    context = {
        "round": round_,
        "form": form,
        "uploads": uploads.order_by("-pk")[:_NUM_UPLOADS],
    }
    return render(request, "webapp/rounds/items.html", context, status=422 if is_sent else 200)


@roles("lead", "admin")
@never_cache
@require_safe
def item_upload(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show an upload: how far it is read, what is in it, or what is wrong with it."""
    upload = get_upload_for(request.user, pk)
    context = {
        "upload": upload,
        "share": share_read(upload.pk) if upload.is_worked_on else None,
        "cpu_is_alive": workers_alive()["cpu"] if upload.is_worked_on else True,
    }
    template = "_upload.html" if request.htmx else "upload.html"
    return render(request, f"webapp/rounds/{template}", context)


@roles("lead", "admin")
@require_POST
def accept(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Have the new items of an upload added."""
    upload = get_upload_for(request.user, pk)
    try:
        services.accept_upload(lead=request.user, upload=upload)
    except StateError as error:
        messages.warning(request, as_sentence(error))
    else:
        dispatch.request_upload(upload.pk)
    return redirect("item-upload", pk=pk)


@roles("lead", "admin")
@require_POST
def drop(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Forget an upload; nothing of it is added."""
    upload = get_upload_for(request.user, pk)
    try:
        services.drop_upload(lead=request.user, upload=upload)
    except StateError as error:
        messages.warning(request, as_sentence(error))
        return redirect("item-upload", pk=pk)
    messages.info(request, f"Nothing of {upload.name} was added.")
    return redirect("items", pk=upload.round_id)
