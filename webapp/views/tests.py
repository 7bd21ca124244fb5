"""Tests and tutorials as annotators take them and reviewers grade them."""

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotation import services
from annotation.errors import (
    AnnotationError,
    NoAttemptLeftError,
    PausedError,
    QualificationError,
    StateError,
)
from annotation.models import Sitting
from annotation.pauses import pause_for
from annotation.qualifying import (
    get_sitting_for,
    get_sitting_to_grade_for,
    get_test_for,
    sittings_to_grade,
    tests_for,
)
from annotation.questions import Value
from webapp import kept
from webapp.access import SignedInRequest, roles
from webapp.forms.qualifications import GradesForm, values_of
from webapp.selectors.qualifications import qualification_page, sitting_page
from webapp.wording import as_sentence, capitalised

PAGE_SIZE = 50


@roles("annotator")
@never_cache
@require_safe
def tests(request: SignedInRequest) -> HttpResponseBase:
    """List the tests and tutorials with where one stands in each."""
    context = {"rows": tests_for(request.user), "pause": pause_for(request.user)}
    return render(request, "webapp/tests/list.html", context)


@roles("annotator")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def test(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show a test before, between and after its parts; a post begins the next part."""
    row = get_test_for(request.user, pk)
    if request.method == "POST":
        try:
            attempt = services.start_attempt(
                annotator=request.user, qualification=row.qualification
            )
            opened = services.start_sitting(annotator=request.user, attempt=attempt)
        except (NoAttemptLeftError, PausedError, QualificationError, StateError) as error:
            messages.warning(request, as_sentence(error))
            return redirect("test", pk=pk)
        return redirect("sitting", pk=opened.pk)
    pause = pause_for(request.user)
    context = {"page": qualification_page(row), "now": timezone.now(), "pause": pause}
    return render(request, "webapp/tests/test.html", context)


@roles("annotator")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sitting(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show a part to answer; a post hands it in, or in a tutorial answers one question."""
    own = get_sitting_for(request.user, pk)
    if request.method != "POST":
        if own.submitted_at is not None:
            return redirect("test", pk=own.attempt.qualification_id)
        words = kept.take(request)
        posted = values_of(own.part.questions.all(), words) if words else None
        return _sitting_page(request, own, posted)
    values = values_of(own.part.questions.all(), request.POST)
    if own.attempt.qualification.is_tutorial and "finish" not in request.POST:
        return _answer_in_tutorial(request, own, values)
    try:
        services.submit_sitting(annotator=request.user, sitting=own, values=values)
    except QualificationError as error:
        return _sitting_page(request, own, values, {error.field: str(error)}, status=422)
    messages.success(request, f"{own.part.title} is handed in.")
    return redirect("test", pk=own.attempt.qualification_id)


@roles("annotator")
@require_POST
def sitting_draft(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Keep answers that are not handed in yet; answers with the time."""
    own = get_sitting_for(request.user, pk)
    values = values_of(own.part.questions.all(), request.POST, is_draft=True)
    try:
        services.save_answers(annotator=request.user, sitting=own, values=values)
    except (QualificationError, StateError) as error:
        return JsonResponse({"error": str(error)}, status=400)
    return JsonResponse({"saved_at": timezone.now().isoformat()})


@roles("reviewer", "lead", "admin")
@require_safe
def gradings(request: SignedInRequest) -> HttpResponseBase:
    """List the written parts that wait for grades, the longest waiting first."""
    rows = list(sittings_to_grade()[:PAGE_SIZE])
    return render(request, "webapp/tests/gradings.html", {"rows": rows})


@roles("reviewer", "lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def grading(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show the written answers of one part, and grade them."""
    part = get_sitting_to_grade_for(request.user, pk)
    answers = list(
        part.answers.filter(value__isnull=False)
        .select_related("question")
        .order_by("question__position")
    )
    data = request.POST if request.method == "POST" else None
    form = GradesForm(data, answers=[answer.pk for answer in answers])
    if data is not None and form.is_valid():
        try:
            services.grade_sitting(
                reviewer=request.user, sitting=part, grades=form.grades, notes=form.notes
            )
        except AnnotationError as error:
            messages.warning(request, capitalised(error) + ".")
        else:
            messages.success(request, "Graded. The person sees the result now.")
        return redirect("gradings")
    rows = [(a, form[f"grade-{a.pk}"], form[f"note-{a.pk}"]) for a in answers]
    context = {"sitting": part, "rows": rows, "grades": range(1, 6)}
    status = 422 if data is not None else 200
    return render(request, "webapp/tests/grading.html", context, status=status)


def _answer_in_tutorial(
    request: SignedInRequest, own: Sitting, values: dict[int, Value]
) -> HttpResponseBase:
    if not values:
        errors = {"answers": "choose an answer first"}
        return _sitting_page(request, own, values, errors, status=422)
    try:
        services.save_answers(annotator=request.user, sitting=own, values=values)
    except QualificationError as error:
        return _sitting_page(request, own, None, {error.field: str(error)}, status=422)
    except StateError:
        return redirect("test", pk=own.attempt.qualification_id)
    response = redirect("sitting", pk=own.pk)
    response.headers["Location"] += f"#said-{next(iter(values))}"
    return response


def _sitting_page(
    request: SignedInRequest,
    own: Sitting,
    posted: dict[int, Value] | None,
    errors: dict[str, str] | None = None,
    status: int = 200,
) -> HttpResponse:
    errors = {field: f"{capitalised(text)}." for field, text in (errors or {}).items()}
    context = {"page": sitting_page(own, posted=posted, errors=errors), "errors": errors}
    return render(request, "webapp/tests/sitting.html", context, status=status)
