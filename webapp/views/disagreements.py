"""Review: judgements that a reward model is sure are the wrong way round."""

from django.http import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from webapp.access import SignedInRequest, roles
from webapp.selectors.disagreements import disputed_judgements


@roles("reviewer", "lead", "admin")
@require_safe
def disagreements(request: SignedInRequest) -> HttpResponseBase:
    """List the judgements that the newest reports dispute, the surest first."""
    context = {"rows": disputed_judgements()}
    return render(request, "webapp/review/disagreements.html", context)
