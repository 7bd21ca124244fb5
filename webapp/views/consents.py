"""Consent: read, given and taken back by annotators; published and followed up by leads."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotation import services
from annotation.errors import ConsentError, KeyReusedError, NotFoundError
from annotation.models import ConsentDocument, Withdrawal
from annotation.withdrawals import get_withdrawal_for, reach_of
from webapp.access import SignedInRequest, roles
from webapp.forms.wellbeing import ConsentDocumentForm, WithdrawalForm
from webapp.selectors.consents import consent_documents, consent_page
from webapp.selectors.dialogues import new_client_key
from webapp.wording import capitalised


@roles("annotator")
@never_cache
@require_safe
def consent(request: SignedInRequest) -> HttpResponseBase:
    """Show the newest consent document, what one has consented to, and the way out."""
    form = WithdrawalForm(initial={"client_key": new_client_key()})
    context = {"page": consent_page(request.user), "form": form}
    return render(request, "webapp/consent/consent.html", context)


@roles("annotator")
@require_POST
def give_consent(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Consent to the newest document."""
    document = ConsentDocument.objects.filter(pk=pk).first()
    if document is None:
        raise NotFoundError("consent document", pk)
    try:
        services.give_consent(annotator=request.user, document=document)
    except ConsentError as error:
        messages.warning(request, f"{capitalised(error)}.")
        return redirect("consent")
    messages.success(request, "Thank you. You can go on.")
    return redirect("annotate")


@roles("annotator")
@require_POST
def withdraw(request: SignedInRequest) -> HttpResponseBase:
    """Take back all consent, and with it the work so far."""
    form = WithdrawalForm(request.POST)
    if form.is_valid():
        try:
            services.withdraw_consent(
                annotator=request.user,
                client_key=form.cleaned_data["client_key"],
                note=form.cleaned_data["note"],
            )
        except KeyReusedError:
            form.add_error(None, "This form is too old. Reload the page and try again.")
        else:
            return redirect("consent")
    context = {"page": consent_page(request.user), "form": form}
    return render(request, "webapp/consent/consent.html", context, status=422)


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def documents(request: SignedInRequest) -> HttpResponseBase:
    """List consent documents and withdrawals; publish a new version."""
    data = request.POST if request.method == "POST" else None
    rows = consent_documents()
    form = ConsentDocumentForm(data, initial={"text": rows[0].text if rows else ""})
    if data is not None and form.is_valid():
        try:
            services.publish_consent_document(**form.cleaned_data, created_by=request.user)
        except ConsentError as error:
            form.add_error("version", f"{capitalised(error)}.")
        else:
            messages.success(request, "Published: annotators are asked before they go on.")
            return redirect("consent-documents")
    withdrawals = Withdrawal.objects.select_related("annotator").order_by("-pk")[:200]
    context = {"rows": rows, "form": form, "withdrawals": withdrawals}
    status = 422 if data is not None else 200
    return render(request, "webapp/consent/documents.html", context, status=status)


@roles("lead", "admin")
@require_safe
def withdrawal(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show everything that learned from the judgements of somebody who withdrew."""
    own = get_withdrawal_for(request.user, pk)
    context = {"withdrawal": own, "reach": reach_of(own)}
    return render(request, "webapp/consent/withdrawal.html", context)
