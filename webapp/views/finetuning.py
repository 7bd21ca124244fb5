"""Fine-tuning a policy on what a run was trained on: distillation, where the run's was larger."""

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from registry.errors import RegistryError
from registry.models import RunOutput
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
    data = request.POST if request.method == "POST" else None
    context = {"run": output.run, "artifact": output.artifact}
    if data is not None and "fill_in" in data:
        filled = {**context, "form": SFTForm(with_sft_preset(data))}
        return render(request, "webapp/runs/finetune.html", filled)
    form = SFTForm(data)
    if data is not None and form.is_valid() and (config := form.config) is not None:
        name = form.cleaned_data["output_name"]
        try:
            run = start_finetuning(
                policy=form.cleaned_data["policy"],
                demonstrations=output.artifact,
                source=f"run {output.run_id}",
                config=config,
                output_name=name,
            )
        except RegistryError as error:
            form.add_error("output_name", as_sentence(error))
        else:
            messages.success(request, f"The run that makes {name} is queued.")
            return redirect("run", pk=run.pk)
    status = 422 if data is not None else 200
    return render(request, "webapp/runs/finetune.html", {**context, "form": form}, status=status)
