"""Starting Ghost Attention, its measure, and safety context distillation on a policy."""

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from records.errors import RecordError
from registry.errors import NameTakenError
from registry.models import PolicyVersion, Run
from webapp.access import SignedInRequest, roles
from webapp.forms.instruction_runs import (
    ContextDistillationForm,
    GhostAttentionForm,
    InstructionRunForm,
    PersistenceForm,
)
from webapp.wording import as_sentence, capitalised
from workers.instruction_runs import (
    start_context_distillation,
    start_ghost_attention,
    start_persistence,
)


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def ghost_attention(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Start Ghost Attention: the policy answers, another or the same is fine-tuned."""
    policy = _policy_or_404(pk)
    form = GhostAttentionForm(policy, request.POST if request.method == "POST" else None)

    def start() -> Run | None:
        data, config = form.cleaned_data, form.config
        if config is None:
            return None
        models = [model for model in (data["helpfulness"], data["safety"]) if model is not None]
        return start_ghost_attention(
            policy=policy,
            start=data["start"],
            snapshot=data["snapshot"],
            config=config,
            output_name=data["output_name"],
            constraints=data["constraints"],
            reward_models=models,
            demonstrations=data["demonstrations"] and data["demonstrations"].artifact,
        )

    title = f"Ghost Attention with {policy.name}"
    text = (
        f"{policy.name} answers with an instruction before every turn. The policy that is "
        "fine-tuned learns to keep to it when it is given once."
    )
    return _page(request, policy, form, start, title=title, text=text)


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def context_distillation(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Start safety context distillation: the policy answers with and without a preprompt."""
    policy = _policy_or_404(pk)
    form = ContextDistillationForm(policy, request.POST if request.method == "POST" else None)

    def start() -> Run | None:
        data, config = form.cleaned_data, form.config
        if config is None:
            return None
        return start_context_distillation(
            policy=policy,
            start=data["start"],
            snapshot=data["snapshot"],
            safety=data["safety"],
            helpfulness=data["helpfulness"],
            config=config,
            output_name=data["output_name"],
            preprompts=data["preprompt_lines"],
            demonstrations=data["demonstrations"] and data["demonstrations"].artifact,
        )

    title = f"Context distillation with {policy.name}"
    text = (
        f"{policy.name} answers adversarial prompts with and without a safety preprompt. Answers "
        "that the safety model prefers are learned without the preprompt; helpful prompts never "
        "take part."
    )
    return _page(request, policy, form, start, title=title, text=text)


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def persistence(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Start a measure of how long the policy keeps to an instruction."""
    policy = _policy_or_404(pk)
    form = PersistenceForm(policy, request.POST if request.method == "POST" else None)

    def start() -> Run | None:
        data, config = form.cleaned_data, form.config
        if config is None:
            return None
        return start_persistence(
            policy=policy,
            snapshot=data["snapshot"],
            config=config,
            baseline=data["baseline"],
            constraints=data["constraints"],
        )

    title = f"How long {policy.name} keeps to an instruction"
    text = "The instruction is given in the first turn; every turn is asked whether it still holds."
    return _page(request, policy, form, start, title=title, text=text)


def _page(
    request: SignedInRequest,
    policy: PolicyVersion,
    form: InstructionRunForm,
    start: Callable[[], Run | None],
    *,
    title: str,
    text: str,
) -> HttpResponseBase:
    """Show the form, or start the run it describes; an error stands at the field it names."""
    if form.is_bound and form.is_valid():
        try:
            run = start()
        except RecordError as error:
            field = error.field if error.field in form.fields else None
            form.add_error(field, capitalised(str(error).removeprefix(f"{error.field}: ")))
        except NameTakenError as error:
            form.add_error("output_name", as_sentence(error))
        else:
            if run is not None:
                messages.success(request, f"{run} is queued.")
                return redirect("run", pk=run.pk)
    context = {"policy": policy, "form": form, "title": title, "text": text}
    status = 422 if form.is_bound else 200
    return render(request, "webapp/policies/instruction_run.html", context, status=status)


def _policy_or_404(pk: int) -> PolicyVersion:
    return get_object_or_404(PolicyVersion.objects.select_related("artifact", "parent"), pk=pk)
