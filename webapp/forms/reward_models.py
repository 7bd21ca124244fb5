"""The form that starts a report on a reward model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from django import forms

from records.reward_configs import RewardEvaluationConfig
from registry.models import RewardModelVersion, Snapshot
from webapp.forms.configs import ConfigForm

_SHOWN = {"axis", "safety_threshold", "disagreement_confidence", "num_reliability_bins"}

if TYPE_CHECKING:
    _SnapshotsField = forms.ModelMultipleChoiceField[Snapshot]
else:  # generic in the type stubs only
    _SnapshotsField = forms.ModelMultipleChoiceField


class SnapshotsField(_SnapshotsField):
    """Snapshots, each with how much it holds out."""

    def label_from_instance(self, obj: Any) -> str:  # noqa: ANN401 - Django's signature
        """Return what stands beside the box."""
        manifest = obj.manifest
        return f"{obj.name}: {manifest['num_test']:,} of {manifest['num_rows']:,} held out"


class ReportForm(ConfigForm):
    """Which held-out pairs, against which model, and the numbers worth changing."""

    config_type = RewardEvaluationConfig
    left_out = frozenset(doc.name for doc in RewardEvaluationConfig.describe()) - _SHOWN

    snapshots = SnapshotsField(
        Snapshot.objects.filter(manifest__num_test__gt=0).order_by("-pk"),
        widget=forms.CheckboxSelectMultiple,
        help_text="Their held-out sides are scored; what either model was trained on is left out.",
        error_messages={"required": "Choose at least one snapshot."},
    )
    previous = forms.ModelChoiceField(
        RewardModelVersion.objects.none(),
        label="Compared with",
        required=False,
        empty_label="no other model",
        help_text="Another model, on the same pairs.",
    )

    def __init__(self, version: RewardModelVersion, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(data)
        others = RewardModelVersion.objects.exclude(artifact=version.artifact_id).order_by("-pk")
        previous = cast("forms.ModelChoiceField[RewardModelVersion]", self.fields["previous"])
        previous.queryset = others
        previous.initial = version.parent_id
        newest = Snapshot.objects.filter(manifest__num_test__gt=0).order_by("-pk").first()
        self.fields["snapshots"].initial = [newest.pk] if newest else []

    @property
    def config(self) -> RewardEvaluationConfig | None:
        """The config; None with an error at the field it refuses."""
        return cast(RewardEvaluationConfig | None, self.build_config())
