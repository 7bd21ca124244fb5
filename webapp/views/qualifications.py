"""Qualifications as a lead writes, publishes and requires them."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotation import services
from annotation.errors import NotFoundError, QualificationError
from annotation.models import QualificationPart, QualificationQuestion
from annotation.qualifying import get_part_for, get_qualification_for, get_question_for
from annotation.selectors import get_judgement_for
from annotation.services.presets import question_of_judgement
from records.preferences import Axis
from webapp.access import SignedInRequest, roles
from webapp.forms.qualifications import (
    PartForm,
    QualificationForm,
    QuestionForm,
    RealPairForm,
    RequirementsForm,
    add_service_error,
    written_consensus,
)
from webapp.selectors.qualifications import admin_rows, question_items, required_ids
from webapp.wording import capitalised

_PART_FIELDS = services.PartFields._fields
_QUALIFICATION_FIELDS = services.QualificationFields._fields


@roles("lead", "admin")
@require_safe
def qualifications(request: SignedInRequest) -> HttpResponseBase:
    """List tests and tutorials, and what each axis requires."""
    context = {
        "rows": admin_rows(),
        "axes": [(axis, _requirements(axis)) for axis in Axis],
    }
    return render(request, "webapp/qualifications/list.html", context)


@roles("lead", "admin")
@require_POST
def make_presets(request: SignedInRequest) -> HttpResponseBase:
    """Make drafts of the paper's four tests and of a tutorial."""
    made = services.make_presets(lead=request.user)
    if made:
        messages.success(request, f"{len(made)} drafts are made. Look through them, then publish.")
    else:
        messages.info(request, "All of them are there already.")
    return redirect("qualifications")


@roles("lead", "admin")
@require_POST
def require_for_axis(request: SignedInRequest, axis: str) -> HttpResponseBase:
    """Set what every round of an axis requires."""
    if axis not in list(Axis):
        raise NotFoundError("axis", axis)
    form = RequirementsForm(request.POST)
    if form.is_valid():
        wanted = form.cleaned_data["qualifications"]
        services.require_qualifications(lead=request.user, qualifications=wanted, axis=Axis(axis))
        messages.success(request, f"Saved: {len(wanted)} required in every {axis} round.")
    else:
        messages.warning(request, "Choose from the published tests.")
    return redirect("qualifications")


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def new_qualification(request: SignedInRequest) -> HttpResponseBase:
    """Begin a draft."""
    data = request.POST if request.method == "POST" else None
    form = QualificationForm(data)
    if data is not None and form.is_valid():
        try:
            fields = services.QualificationFields(**form.cleaned_data)
            made = services.create_qualification(lead=request.user, fields=fields)
        except QualificationError as error:
            add_service_error(form, error.field, str(error))
        else:
            return redirect("qualification", pk=made.pk)
    context = {"form": form, "title": "New test", "back": "qualifications"}
    status = 422 if data is not None else 200
    return render(request, "webapp/qualifications/form.html", context, status=status)


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def qualification(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Show a test with its parts; a draft may be changed."""
    own = get_qualification_for(request.user, pk)
    data = request.POST if request.method == "POST" else None
    form = QualificationForm(data, initial={n: getattr(own, n) for n in _QUALIFICATION_FIELDS})
    if data is not None and form.is_valid():
        try:
            fields = services.QualificationFields(**form.cleaned_data)
            services.change_qualification(lead=request.user, qualification=own, fields=fields)
        except QualificationError as error:
            add_service_error(form, error.field, str(error))
        else:
            messages.success(request, "Saved.")
            return redirect("qualification", pk=pk)
    parts = own.parts.order_by("position").prefetch_related("questions")
    context = {
        "qualification": own,
        "form": form,
        "parts": [
            (part, question_items(sorted(part.questions.all(), key=lambda q: q.position)))
            for part in parts
        ],
        "requirements": own.requirements.select_related("round").order_by("pk"),
    }
    status = 422 if data is not None else 200
    return render(request, "webapp/qualifications/qualification.html", context, status=status)


@roles("lead", "admin")
@require_POST
def act_on_qualification(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Publish, retire or copy a test."""
    own = get_qualification_for(request.user, pk)
    action = request.POST.get("action")
    try:
        if action == "publish":
            services.publish_qualification(lead=request.user, qualification=own)
            messages.success(request, f"{own.name} is published.")
        elif action == "retire":
            services.retire_qualification(lead=request.user, qualification=own)
            messages.success(request, f"{own.name} is retired; passes stay.")
        elif action == "copy":
            own = services.copy_qualification(lead=request.user, qualification=own)
            messages.success(request, "This is the copy: a draft you can change.")
    except QualificationError as error:
        messages.error(request, f"{capitalised(error)}.")
    return redirect("qualification", pk=own.pk)


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def new_part(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Add a part to a draft."""
    own = get_qualification_for(request.user, pk)
    return _part_page(request, QualificationPart(qualification=own))


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def part(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Change a part of a draft."""
    return _part_page(request, get_part_for(request.user, pk))


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def new_question(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Add a question to a part of a draft."""
    own = get_part_for(request.user, pk)
    return _question_page(request, QualificationQuestion(part=own, kind="choice"))


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def question(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Change a question of a draft."""
    return _question_page(request, get_question_for(request.user, pk))


@roles("lead", "admin")
@require_POST
def real_pair(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Add a judged pair of the platform to a part of a draft, as it was judged."""
    own = get_part_for(request.user, pk)
    form = RealPairForm(request.POST)
    try:
        if not form.is_valid():
            raise NotFoundError("judgement", request.POST.get("judgement", ""))
        judgement = get_judgement_for(request.user, form.cleaned_data["judgement"])
        made = services.save_question(
            lead=request.user, part=own, fields=question_of_judgement(judgement)
        )
    except (NotFoundError, QualificationError) as error:
        messages.error(request, f"{capitalised(error)}.")
        return redirect("qualification", pk=own.qualification_id)
    messages.success(request, "The pair is added; say why the team judges it so.")
    return redirect("question", pk=made.pk)


@roles("lead", "admin")
@require_POST
def delete_part(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Take a part out of a draft."""
    own = get_part_for(request.user, pk)
    try:
        services.delete_part(lead=request.user, part=own)
        messages.success(request, f"{own.title} is taken out.")
    except QualificationError as error:
        messages.error(request, f"{capitalised(error)}.")
    return redirect("qualification", pk=own.qualification_id)


@roles("lead", "admin")
@require_POST
def delete_question(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Take a question out of a draft."""
    own = get_question_for(request.user, pk)
    try:
        services.delete_question(lead=request.user, question=own)
        messages.success(request, "The question is taken out.")
    except QualificationError as error:
        messages.error(request, f"{capitalised(error)}.")
    return redirect("qualification", pk=own.part.qualification_id)


def _requirements(axis: Axis) -> RequirementsForm:
    return RequirementsForm(
        initial={"qualifications": required_ids(axis=axis)}, auto_id=f"id_{axis}_%s"
    )


def _part_page(request: SignedInRequest, own: QualificationPart) -> HttpResponseBase:
    data = request.POST if request.method == "POST" else None
    form = PartForm(data, initial={name: getattr(own, name) for name in _PART_FIELDS})
    if data is not None and form.is_valid():
        try:
            services.save_part(
                lead=request.user,
                qualification=own.qualification,
                fields=services.PartFields(**form.cleaned_data),
                part=own if own.pk else None,
            )
        except QualificationError as error:
            add_service_error(form, error.field, str(error))
        else:
            return redirect("qualification", pk=own.qualification_id)
    title = own.title or "New part"
    context = {"form": form, "title": title, "qualification": own.qualification}
    status = 422 if data is not None else 200
    return render(request, "webapp/qualifications/form.html", context, status=status)


def _question_page(request: SignedInRequest, own: QualificationQuestion) -> HttpResponseBase:
    data = request.POST if request.method == "POST" else None
    initial = {
        "kind": own.kind,
        "prompt": own.prompt,
        "options": "\n---\n".join(own.options),
        "expected": written_consensus(own),
        "tolerance": own.tolerance,
        "explanation": own.explanation,
    }
    form = QuestionForm(data, initial=initial)
    if data is not None and form.is_valid():
        try:
            services.save_question(
                lead=request.user,
                part=own.part,
                fields=services.QuestionFields(**form.cleaned_data),
                question=own if own.pk else None,
            )
        except QualificationError as error:
            add_service_error(form, error.field, str(error))
        else:
            return redirect("qualification", pk=own.part.qualification_id)
    title = f"Question {own.position}" if own.pk else "New question"
    context = {"form": form, "title": title, "qualification": own.part.qualification}
    status = 422 if data is not None else 200
    return render(request, "webapp/qualifications/form.html", context, status=status)
