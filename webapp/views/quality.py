"""Quality: agreement, habits and time, by round, guidelines, axis and annotator; a time report."""

from django.contrib import messages
from django.http import HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from annotation.quality.weights import Weighting
from webapp.access import SignedInRequest, roles, safe_target
from webapp.selectors import quality as read
from webapp.selectors.timesheet import month_named, timesheet_csv
from workers import dispatch
from workers.alive import workers_alive


@roles("lead", "admin")
@require_safe
def quality(request: SignedInRequest) -> HttpResponseBase:
    """List the reports of rounds, guidelines or axes."""
    scope = request.GET.get("by", "")
    sort, weights = request.GET.get("sort", ""), _weights(request)
    scope = scope if scope in read.SCOPES else read.SCOPES[0]
    context = {
        "page": read.quality_list(scope, sort=sort, weights=weights),
        "scopes": read.SCOPES,
        "sort": sort,
        "weights": weights,
        "weightings": list(Weighting),
        "cpu_is_alive": workers_alive()["cpu"],
        "month": timezone.now(),
    }
    return render(request, "webapp/quality/list.html", context)


@roles("lead", "admin")
@require_safe
def quality_report(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show one report, its annotators by pseudonym."""
    report = read.get_quality_report_for(request.user, pk)
    sort, weights, page = request.GET.get("sort", ""), _weights(request), request.GET.get("page")
    number = int(page) if page and page.isdigit() else 1
    context = {
        "page": read.quality_page(report, sort=sort, weights=weights, page=number),
        "sort": sort,
        "weights": weights,
        "weightings": list(Weighting),
        "few_shared": read.FEW_SHARED,
        "max_new": read.MAX_NEW,
    }
    return render(request, "webapp/quality/report.html", context)


@roles("lead", "admin")
@require_POST
def measure_quality(request: SignedInRequest) -> HttpResponseBase:
    """Have the numbers worked out anew where there are judgements they do not count."""
    dispatch.request_quality()
    if workers_alive()["cpu"]:
        messages.success(request, "The numbers are being worked out; reload in a moment.")
    else:
        messages.warning(request, "No worker serves the cpu queue; the numbers wait for one.")
    return redirect(safe_target(request, request.POST.get("next", ""), default="quality"))


@roles("lead", "admin")
@require_safe
def timesheet(request: SignedInRequest) -> HttpResponseBase:
    """Send a month's judgements and active time by pseudonym, round and day, as CSV."""
    month = month_named(request.GET.get("month", ""))
    response = StreamingHttpResponse(timesheet_csv(month), content_type="text/csv; charset=utf-8")
    name = f"concord-time-{month:%Y-%m}.csv"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _weights(request: SignedInRequest) -> str:
    asked = request.GET.get("weights", "")
    return asked if asked in list(Weighting) else Weighting.QUADRATIC.value
