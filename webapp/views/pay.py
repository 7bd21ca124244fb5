"""Pay: what each person did in a span of days, as a page and as a file."""

from django.http import HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from webapp.access import SignedInRequest, roles
from webapp.forms.pay import SpanForm
from webapp.selectors import pay as read


@roles("lead", "admin")
@never_cache
@require_safe
def pay(request: SignedInRequest) -> HttpResponseBase:
    """Show the report of a span, the last full week unless asked for another one."""
    return _page(request, SpanForm.of(request.GET))


@roles("lead", "admin")
@never_cache
@require_safe
def pay_csv(request: SignedInRequest) -> HttpResponseBase:
    """Send the report as CSV, line by line; a span that cannot be is answered with the page."""
    form = SpanForm.of(request.GET)
    if not form.is_valid():
        return _page(request, form)
    span = form.span()
    lines = read.pay_csv(request.user, span)
    response = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    name = f"concord-pay-{span.first}-{span.last}.csv"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _page(request: SignedInRequest, form: SpanForm) -> HttpResponseBase:
    is_valid = form.is_valid()
    page = read.pay_page(request.user, form.span()) if is_valid else None
    context = {"form": form, "page": page, "max_rows": read.MAX_ROWS}
    return render(request, "webapp/people/pay.html", context, status=200 if is_valid else 422)
