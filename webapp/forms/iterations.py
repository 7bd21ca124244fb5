"""Starting an iteration, and the schedule that starts them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.http import QueryDict

from annotation.models import Round
from records.iteration_configs import IterationConfig
from records.preferences import Axis
from records.presets import PRESETS, preset
from registry.models import PolicyVersion
from registry.selectors import latest_policies
from webapp.forms.configs import ConfigForm, flat_values
from workers.schedule import fresh_rounds, next_iteration_name

_GENERAL_MODEL = "general_model"
_FIXED = ("axis", "is_general", "data_share")
_LEFT_OUT = frozenset(
    {"snapshot"}
    | {f"{model}.{name}" for model in (*Axis, _GENERAL_MODEL) for name in _FIXED}
    | {f"{_GENERAL_MODEL}.{name}" for name in ("whole", "other_axis_share")}
)
"""What the page or the model's place in the config says, or what the model does not read."""


if TYPE_CHECKING:
    _RoundsField = forms.ModelMultipleChoiceField[Round]
else:  # generic in the type stubs only
    _RoundsField = forms.ModelMultipleChoiceField


class RoundsField(_RoundsField):
    """Rounds, each with how much was judged in it."""

    def label_from_instance(self, obj: Any) -> str:  # noqa: ANN401 - Django's signature
        """Return what stands beside the box."""
        state = "open" if obj.is_open else "closed"
        return f"{obj.name}: {obj.num_judged} judged, {obj.axis}, {state}"


class IterationForm(ConfigForm):
    """One turn of the loop; every field of its config, with its help."""

    config_type = IterationConfig
    left_out = _LEFT_OUT

    preset = forms.ChoiceField(
        choices=[("", "as they stand below"), *PRESETS.items()],
        label="Reward models",
        required=False,
        help_text="Fills in the settings of all reward models; everything else stays.",
    )
    name = forms.CharField(
        max_length=40, help_text="Name of the policy version it is to make, such as V3."
    )
    rounds = RoundsField(
        Round.objects.filter(num_judged__gt=0).order_by("-pk"),
        widget=forms.CheckboxSelectMultiple,
        help_text="Their judgements are frozen into the snapshot this iteration learns from.",
        error_messages={"required": "Choose at least one round to learn from."},
    )
    base_policy = forms.ModelChoiceField(
        PolicyVersion.objects.order_by("pk"),
        label="Base policy",
        help_text="Fine-tuned by rejection sampling, unless its start below is the newest; the "
        "paper restarts from one base each time. A smaller one learns from the newest's responses.",
    )
    start_policy = forms.ModelChoiceField(
        PolicyVersion.objects.order_by("-pk"),
        label="Newest policy",
        help_text="Responses are sampled from it; reward models start from it or from the base.",
    )
    previous_policy = forms.ModelChoiceField(
        PolicyVersion.objects.order_by("-pk"),
        label="Compared with",
        help_text="The evaluation's baseline.",
    )

    def __init__(
        self, data: Mapping[str, Any] | None = None, *, values: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(data, values=values)
        newest = latest_policies(1)
        first = PolicyVersion.objects.order_by("pk").first()
        self.fields["name"].initial = next_iteration_name()
        self.fields["rounds"].initial = [round_.pk for round_ in fresh_rounds()]
        self.fields["base_policy"].initial = first
        self.fields["start_policy"].initial = newest[0] if newest else first
        self.fields["previous_policy"].initial = newest[0] if newest else first

    @property
    def config(self) -> IterationConfig | None:
        """The config, rounds included; None with an error at the field it refuses."""
        rounds = [round_.pk for round_ in self.cleaned_data["rounds"]]
        return cast(IterationConfig | None, self.build_config({"rounds": rounds}))


def with_preset(data: QueryDict) -> QueryDict:
    """Return the sent form with the reward models' settings taken from the preset it names.

    A preset that does not exist changes nothing.
    """
    filled = data.copy()
    name = data.get("preset", "")
    if name in PRESETS:
        configs = {str(axis): preset(name, axis) for axis in Axis}
        made_share = IterationConfig().general_model.made_share
        configs[_GENERAL_MODEL] = replace(preset(name, Axis.HELPFULNESS), made_share=made_share)
        for model, config in configs.items():
            for path, value in flat_values(config.to_json(), f"{model}."):
                filled[path] = "" if value is None else str(value)
    return filled


class ScheduleForm(forms.Form):
    """When iterations start by themselves."""

    is_enabled = forms.BooleanField(label="Start iterations by schedule", required=False)
    every_hours = forms.IntegerField(
        label="Every so many hours", min_value=1, max_value=8760, help_text="168 is once a week."
    )
    next_start_at = forms.DateTimeField(
        label="Next start",
        help_text="In UTC. One that is missed is made up for once.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )
    closes_rounds = forms.BooleanField(
        label="Close the open rounds first",
        required=False,
        help_text="So that each round is learned from whole.",
    )
    base_policy = forms.ModelChoiceField(
        PolicyVersion.objects.order_by("pk"),
        label="Base policy",
        help_text="Fine-tuned by every iteration, unless its settings start from the newest; the "
        "baseline of its evaluation.",
    )
