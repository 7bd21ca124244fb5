"""Fine-tuning a policy on what a run was trained on: distillation, where the run's was larger."""

from collections.abc import Callable, Mapping

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from registry.errors import RegistryError
from registry.models import Artifact, RunOutput
from webapp.access import SignedInRequest, roles
from webapp.forms.demonstrations import SFTForm, with_sft_preset
from webapp.selectors.runs import DEMONSTRATIONS
from webapp.wording import as_sentence
from workers.finetuning import start_finetuning


@roles("lead", "admin")
@require_http_methods(["GET", "HEAD", "POST"])
def finetune_on_run(request: SignedInRequest, pk: int) -> HttpResponseBase:
    """Start SFT on the demonstrations that a finished run has made; others have none: not found."""
    output = get_object_or_404(
        RunOutput.objects.select_related("run", "artifact"), run=pk, name=DEMONSTRATIONS
    )
    return answer_sft_form(
        request,
        demonstrations=output.artifact,
        source=f"run {output.run_id}",
        template="webapp/runs/finetune.html",
        context=lambda: {"run": output.run, "artifact": output.artifact},
    )


def answer_sft_form(
    request: SignedInRequest,
    *,
    demonstrations: Artifact,
    source: str,
    template: str,
    context: Callable[[], Mapping[str, object]],
) -> HttpResponseBase:
    """Show, fill in or follow the form that starts SFT on `demonstrations`, which go by `source`.

    Its page is `template` with `context()`, which is read where the page is shown, and the form.
    """
    data = request.POST if request.method == "POST" else None
    if data is not None and "fill_in" in data:
        return render(request, template, {**context(), "form": SFTForm(with_sft_preset(data))})
    form = SFTForm(data)
    if data is not None and form.is_valid() and (config := form.config) is not None:
        name = form.cleaned_data["output_name"]
        try:
            run = start_finetuning(
                policy=form.cleaned_data["policy"],
                demonstrations=demonstrations,
                source=source,
                config=config,
                output_name=name,
            )
        except RegistryError as error:
            form.add_error("output_name", as_sentence(error))
        else:
            messages.success(request, f"The run that makes {name} is queued.")
            return redirect("run", pk=run.pk)
    status = 422 if data is not None else 200
    return render(request, template, {**context(), "form": form}, status=status)
