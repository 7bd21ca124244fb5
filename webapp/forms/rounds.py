"""Opening a round and publishing guidelines."""

from typing import TYPE_CHECKING, Any, BinaryIO, cast

from django import forms
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.forms import BaseFormSet, formset_factory

from annotation.models import Guidelines, Round
from annotation.services import Guidance, NewVariant, Overlap
from annotation.services.uploading import MAX_NAME_CHARACTERS, MAX_UPLOAD_BYTES
from records.item_files import ENDINGS
from records.preferences import Axis
from records.round_items import ItemKind, read_round_items
from registry.models import PolicyVersion
from registry.selectors import latest_policies

NUM_VARIANT_ROWS = 4
MAX_UPLOAD_MB = 20
_AXES = [(axis.value, axis.value.capitalize()) for axis in Axis]


class GuidelinesForm(forms.Form):
    """A new version of what annotators are told."""

    axis = forms.ChoiceField(choices=_AXES)
    version = forms.CharField(
        max_length=20,
        help_text="A name such as 3 or 2026-04. Judgements are pinned to it; it never changes.",
    )
    text = forms.CharField(
        help_text="Markdown. Annotators read it beside the responses.",
        widget=forms.Textarea(attrs={"rows": 16}),
    )


class RoundForm(forms.Form):
    """A campaign of annotation."""

    name = forms.CharField(max_length=80, help_text="What people call it, for example Week 14.")
    axis = forms.ChoiceField(
        choices=_AXES, help_text="A safety round also asks which response is safe."
    )
    guidelines = forms.ModelChoiceField(
        Guidelines.objects.order_by("axis", "-pk"),
        empty_label="Choose …",
        help_text="A version written for the same axis.",
    )
    source = forms.ChoiceField(
        label="Where prompts come from",
        choices=Round.Source.choices,
        initial=Round.Source.WRITTEN,
        required=False,
        widget=forms.RadioSelect,
    )
    items_file = forms.FileField(
        label="File of prompts or pairs",
        required=False,
        help_text=f"JSON Lines, at most {MAX_UPLOAD_MB} MB. Nothing is stored unless all of it is.",
        widget=forms.ClearableFileInput(attrs={"accept": ".jsonl,.json,.txt"}),
    )
    target_comparisons = forms.IntegerField(
        label="Target",
        required=False,
        min_value=1,
        max_value=10_000_000,
        initial=200,
        help_text="Comparisons to be judged. The round never takes more. Imported: all turns.",
    )
    max_turns = forms.IntegerField(
        label="Turns per dialogue",
        min_value=1,
        max_value=100,
        initial=4,
        help_text="Comparisons in one dialogue, at most.",
    )
    min_turns = forms.IntegerField(
        label="Turns before it may end",
        min_value=1,
        max_value=100,
        initial=1,
        help_text="A pair that is passed on may end a dialogue sooner.",
    )
    system_prompt = forms.CharField(
        required=False,
        max_length=20_000,
        help_text="What both policies are told before each dialogue; annotators can read it.",
        widget=forms.Textarea(attrs={"rows": 3}),
    )
    topic = forms.CharField(required=False, max_length=200, help_text="What to write about.")
    goal = forms.CharField(
        required=False,
        max_length=2000,
        help_text="What a dialogue should try to achieve.",
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    good_examples = forms.CharField(
        required=False,
        max_length=5000,
        help_text="Good first messages, one a line; shown while writing.",
        widget=forms.Textarea(attrs={"rows": 3}),
    )
    bad_examples = forms.CharField(
        required=False,
        max_length=5000,
        help_text="Bad first messages, one a line.",
        widget=forms.Textarea(attrs={"rows": 3}),
    )
    overlap_share = forms.FloatField(
        label="Share judged by several",
        min_value=0,
        max_value=1,
        initial=0,
        help_text="0.2: every fifth comparison goes to other people too, for agreement.",
    )
    judgements_per_comparison = forms.IntegerField(
        label="People for each of these",
        min_value=1,
        max_value=20,
        initial=1,
        help_text="In all, the author included. Nobody judges a comparison twice.",
    )
    gold_share = forms.FloatField(
        label="Share of gold",
        min_value=0,
        max_value=1,
        initial=0,
        help_text="Tasks whose answer is known, mixed in without a mark.",
    )
    repeat_share = forms.FloatField(
        label="Share of repeats",
        min_value=0,
        max_value=1,
        initial=0,
        help_text="Tasks that show an annotator a pair of their own again, without a mark.",
    )
    repeat_after = forms.IntegerField(
        label="Repeat after",
        min_value=1,
        initial=50,
        help_text="Judgements that lie between a judgement and its repeat, at least.",
    )

    def settings(self) -> dict[str, Any]:
        """Return what a valid form says, by the names of `services.open_round`.

        What is only asked where annotators write prompts is left out where they are imported.
        """
        values = {**self.cleaned_data, "axis": Axis(self.cleaned_data["axis"])}
        file = values.pop("items_file")
        if self.is_imported:
            values |= {
                "target_comparisons": 0,
                "min_turns": 1,
                "items": _items(file, self.chosen_source),
            }
        if not self.is_sampled:
            values["max_turns"] = 1
        overlap = Overlap(**{name: values.pop(name) for name in Overlap._fields})
        guidance = Guidance(**{name: values.pop(name) for name in Guidance._fields})
        return {**values, "overlap": overlap, "guidance": guidance}

    @property
    def chosen_source(self) -> str:
        """Where prompts come from, as far as the form is filled in."""
        return str(self["source"].value() or Round.Source.WRITTEN)

    @property
    def is_imported(self) -> bool:
        """Whether prompts come from the file."""
        return self.chosen_source != Round.Source.WRITTEN

    @property
    def is_sampled(self) -> bool:
        """Whether policies answer."""
        return self.chosen_source != Round.Source.PAIRS

    def clean_source(self) -> str:
        """Nothing chosen means that annotators write."""
        return self.cleaned_data["source"] or Round.Source.WRITTEN

    def clean_items_file(self) -> "UploadedFile[Any] | None":
        """The file is not too large for a form."""
        file: UploadedFile[Any] | None = self.cleaned_data["items_file"]
        if file is not None and (file.size or 0) > MAX_UPLOAD_MB * 2**20:
            raise ValidationError(
                f"{file.size or 0:,} bytes are more than {MAX_UPLOAD_MB} MB. Open the round with a "
                "part of it and add the rest on the page of the round."
            )
        return file

    def clean(self) -> dict[str, Any]:
        """Guidelines and round are about the same axis; there is a target, or a file."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        guidelines, axis = data.get("guidelines"), data.get("axis")
        if guidelines is not None and axis is not None and guidelines.axis != axis:
            message = f"{guidelines} was written for {guidelines.axis}, the round is about {axis}."
            self.add_error("guidelines", message)
        if self.is_imported and not data.get("items_file") and "items_file" not in self.errors:
            self.add_error("items_file", "Choose the file that holds them.")
        has_target = data.get("target_comparisons") is not None
        if not self.is_imported and not has_target and "target_comparisons" not in self.errors:
            self.add_error("target_comparisons", "Say how many comparisons are to be judged.")
        return data


def _items(file: "UploadedFile[Any]", source: str) -> Any:  # noqa: ANN401 - an iterator of round items
    return read_round_items(cast(BinaryIO, file), file.name or "file", ItemKind(source))


class ItemsForm(forms.Form):
    """More items for an open round."""

    items_file = forms.FileField(
        label="File of prompts or pairs",
        max_length=MAX_NAME_CHARACTERS,
        help_text="JSON Lines, plain or gzipped (.gz), or Parquet (.parquet); at most "
        f"{MAX_UPLOAD_BYTES // 2**20} MB.",
        widget=forms.ClearableFileInput(attrs={"accept": ",".join(ENDINGS)}),
    )


class VariantForm(forms.Form):
    """A policy version that answers in the round, with its sampling settings."""

    policy = forms.ModelChoiceField(
        PolicyVersion.objects.order_by("-promoted_at", "-pk"), required=False, empty_label="None"
    )
    temperature_low = forms.FloatField(
        label="Temperature from", min_value=0, max_value=5, initial=0.7
    )
    temperature_high = forms.FloatField(label="to", min_value=0, max_value=5, initial=1.2)
    top_p = forms.FloatField(label="Top p", min_value=0.01, max_value=1, initial=1.0)
    max_new_tokens = forms.IntegerField(label="Longest response", min_value=1, initial=64)

    def clean(self) -> dict[str, Any]:
        """The range of temperatures is one."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        low, high = data.get("temperature_low"), data.get("temperature_high")
        if low is not None and high is not None and low > high:
            self.add_error("temperature_high", f"{high} is below {low}, where the range begins.")
        return data


if TYPE_CHECKING:
    _VariantFormSet = BaseFormSet[VariantForm]
else:  # generic in the type stubs only
    _VariantFormSet = BaseFormSet


class BaseVariantFormSet(_VariantFormSet):
    """The rows of variants; those without a policy are left out."""

    def clean(self) -> None:
        """Two different policies, or one with two temperatures."""
        if any(self.errors):
            return
        policies = [variant.policy for variant in self.variants()]
        if not policies:
            raise ValidationError("Choose at least one policy version that answers.")
        if len(set(policies)) < len(policies):
            raise ValidationError("A policy version is chosen twice.")

    def variants(self) -> list[NewVariant]:
        """Return the chosen variants."""
        rows = [form.cleaned_data for form in self.forms if form.cleaned_data.get("policy")]
        return [NewVariant(**row) for row in rows]


def variant_formset(data: Any) -> BaseVariantFormSet:  # noqa: ANN401 - a QueryDict or None
    """Return the rows of variants, filled with the two newest promoted policies."""
    formset = formset_factory(VariantForm, formset=BaseVariantFormSet, extra=0)
    return cast(BaseVariantFormSet, formset(data, initial=_variant_rows(), prefix="variant"))


def _variant_rows() -> list[dict[str, Any]]:
    """Return the initial rows: the two newest promoted policies, and empty ones."""
    rows = [{"policy": policy.pk} for policy in latest_policies(2)]
    return [*rows, *({} for _ in range(NUM_VARIANT_ROWS - len(rows)))]
