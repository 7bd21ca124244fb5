"""Well-being: what annotators choose, what leads set, and what a round asks of people."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from annotation import services
from annotation.errors import QualificationError
from annotation.exposure import break_of, exposure_of
from annotation.models import CategoryOptOut, Requirement, User, WellbeingPolicy
from annotation.models import WellbeingSettings as Choices
from annotation.selectors import get_round_for
from webapp.access import SignedInRequest, roles
from webapp.forms.access import AccessForm
from webapp.forms.wellbeing import DailyMinutesForm, WellbeingForm, WellbeingPolicyForm
from webapp.wording import capitalised

_POLICY_FIELDS = ("daily_minutes", "stretch_minutes", "break_minutes", "support_text")


@roles("annotator")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def wellbeing(request: SignedInRequest) -> HttpResponseBase:
    """Show how much unsafe work was done today, and choose what not to see."""
    data = request.POST if request.method == "POST" else None
    own = Choices.objects.filter(annotator=request.user).first()
    opted_out = CategoryOptOut.objects.filter(annotator=request.user)
    form = WellbeingForm(
        data,
        initial={
            "covers_responses": own is None or own.covers_responses,
            "opted_out": list(opted_out.values_list("category", flat=True)),
        },
    )
    if data is not None and form.is_valid():
        services.save_wellbeing_choices(annotator=request.user, **form.cleaned_data)
        messages.success(request, "Saved.")
        return redirect("wellbeing")
    exposure = exposure_of(request.user)
    context = {
        "form": form,
        "exposure": exposure,
        "minutes_today": round(exposure.seconds_today / 60),
        "rest": break_of(request.user),
        "policy": WellbeingPolicy.objects.first(),
    }
    status = 422 if data is not None else 200
    return render(request, "webapp/wellbeing/wellbeing.html", context, status=status)


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def policy(request: SignedInRequest) -> HttpResponseBase:
    """Set everybody's bounds and the support text; list who has a bound of their own."""
    data = request.POST if request.method == "POST" else None
    stored = WellbeingPolicy.objects.first()
    initial = {name: getattr(stored, name) for name in _POLICY_FIELDS} if stored else {}
    form = WellbeingPolicyForm(data, initial=initial)
    if data is not None and form.is_valid():
        services.set_wellbeing_policy(lead=request.user, **form.cleaned_data)
        messages.success(request, "Saved: it holds from the next pair on.")
        return redirect("wellbeing-policy")
    people = User.objects.filter(role=User.Role.ANNOTATOR, persona="", is_active=True)
    context = {
        "form": form,
        "people": people.select_related("wellbeing_settings").order_by("username")[:500],
    }
    status = 422 if data is not None else 200
    return render(request, "webapp/wellbeing/policy.html", context, status=status)


@roles("lead", "admin")
@require_POST
def set_daily_minutes(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Set one annotator's own bound; empty for everybody's."""
    person = get_object_or_404(User, pk=pk, role=User.Role.ANNOTATOR, persona="")
    form = DailyMinutesForm(request.POST)
    if form.is_valid():
        minutes = form.cleaned_data["minutes"]
        services.set_daily_minutes(lead=request.user, annotator=person, minutes=minutes)
        words = "everybody's bound" if minutes is None else f"{minutes} minutes a day"
        messages.success(request, f"{person.username} now has {words}.")
    else:
        messages.error(request, f"{person.username}: {form.errors['minutes'][0]}")
    return redirect("wellbeing-policy")


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def round_access(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Set what a round requires of people, and what it warns of."""
    round_ = get_round_for(request.user, pk)
    data = request.POST if request.method == "POST" else None
    form = AccessForm.of(round_, data)
    if data is not None and form.is_valid():
        try:
            services.set_access(lead=request.user, round_=round_, access=form.access())
        except QualificationError as error:
            form.add_error("qualifications", f"{capitalised(error)}.")
        else:
            messages.success(request, "Saved: it holds from the next dialogue on.")
            return redirect("round", pk=pk)
    by_axis = Requirement.objects.filter(axis=round_.axis).select_related("qualification")
    context = {"round": round_, "access": form, "by_axis": by_axis}
    status = 422 if data is not None else 200
    return render(request, "webapp/rounds/access.html", context, status=status)
