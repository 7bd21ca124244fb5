"""The annotator's forms: a prompt, a judgement, passing on, a flag."""

from functools import cached_property
from typing import Any, NamedTuple, Self
from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError

from annotation.errors import ContradictionError
from annotation.models import Comparison, Judgement, UnacceptableReason
from annotation.scale import STEPS, Side, safety_bin_for
from annotation.selectors import PairView
from annotation.services.prompts import MAX_PROMPT_CHARACTERS
from annotation.services.verdicts import MAX_ACTIVE_SECONDS
from records.preferences import Axis, Rating, SafetyBin

SIDE_LETTERS = {Side.LEFT: "A", Side.RIGHT: "B"}
RATING_WORDS = {
    Rating.SIGNIFICANTLY_BETTER: "significantly better",
    Rating.BETTER: "better",
    Rating.SLIGHTLY_BETTER: "slightly better",
    Rating.NEGLIGIBLY_BETTER: "negligibly better, or unsure",
}
_SHORT_WORDS = {
    Rating.SIGNIFICANTLY_BETTER: "Significantly",
    Rating.BETTER: "Better",
    Rating.SLIGHTLY_BETTER: "Slightly",
    Rating.NEGLIGIBLY_BETTER: "Negligibly",
}


class NeitherChoice(NamedTuple):
    """One reason why neither response is acceptable."""

    name: str
    label: str
    is_checked: bool


class Segment(NamedTuple):
    """One of the eight radio segments."""

    value: str
    """Names the sample that is preferred and the rating, never a position."""
    number: int
    side: Side
    short: str
    verdict: str
    is_checked: bool


class BinChoice(NamedTuple):
    """One answer to "which response is safe?", worded with the sides filled in."""

    value: str
    key: str
    label: str
    sides: tuple[Side, ...]
    is_checked: bool


_BINS: tuple[tuple[str, str, str, tuple[Side, ...]], ...] = (
    ("left", "a", "A is safe, B is not", (Side.LEFT,)),
    ("right", "b", "B is safe, A is not", (Side.RIGHT,)),
    ("both", "s", "Both are safe", (Side.LEFT, Side.RIGHT)),
    ("neither", "n", "Neither is safe", ()),
)


class PromptForm(forms.Form):
    """The next message to the two policies."""

    text = forms.CharField(
        label="Your message",
        max_length=MAX_PROMPT_CHARACTERS,
        widget=forms.Textarea(attrs={"rows": 5, "dir": "auto", "autofocus": True}),
        error_messages={"required": "Write a message first."},
    )
    client_key = forms.UUIDField(widget=forms.HiddenInput)
    is_sure = forms.BooleanField(required=False)
    risk_category = forms.ChoiceField(label="Risk it probes", required=False)
    attack_vector = forms.ChoiceField(label="How it tries", required=False)

    def __init__(self, data: Any = None, *, axis: Axis, initial: dict[str, Any]) -> None:  # noqa: ANN401
        super().__init__(data, initial=initial)
        self.near_duplicate: Comparison | None = None
        if axis is Axis.SAFETY:
            self.fields["risk_category"].choices = _choices(Comparison.RiskCategory)  # type: ignore[attr-defined]
            self.fields["attack_vector"].choices = _choices(Comparison.AttackVector)  # type: ignore[attr-defined]
        else:
            del self.fields["risk_category"], self.fields["attack_vector"]


_STEPS = tuple(
    (
        step,
        step.rating.value,
        _SHORT_WORDS[step.rating],
        f"{SIDE_LETTERS[step.side]} is {RATING_WORDS[step.rating]}",
    )
    for step in STEPS
)
_NEITHER = tuple((f"neither_{reason.value}", reason.label) for reason in UnacceptableReason)


class _Shared(dict[str, forms.Field]):
    """Fields that all forms of a class share: they hold nothing of a request, and none is changed.

    Django copies the fields deeply for each form, so that it may change its own.
    """

    def __deepcopy__(self, memo: object) -> dict[str, forms.Field]:
        return dict(self)


class JudgementForm(forms.Form):
    """Which response is better and by how much; in a safety round, which of them is safe."""

    choice = forms.CharField(
        error_messages={"required": "Choose one of the eight steps: which response is better?"}
    )
    safe = forms.CharField(required=False)
    client_key = forms.UUIDField()
    active_seconds = forms.FloatField(min_value=0, required=False)
    neither_note = forms.CharField(max_length=2000, required=False)
    edited_text = forms.CharField(max_length=MAX_PROMPT_CHARACTERS, required=False)

    def __init__(
        self,
        data: Any = None,  # noqa: ANN401 - Django's own: a QueryDict or None
        *,
        axis: Axis,
        left_id: int,
        right_id: int,
        initial: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(data, initial=initial)
        self._sample_of_side = {Side.LEFT: left_id, Side.RIGHT: right_id}
        self._values = {
            f"{self._sample_of_side[step.side]}:{rating}": step for step, rating, *_ in _STEPS
        }
        self.is_safety = axis is Axis.SAFETY

    @classmethod
    def of(
        cls,
        pair: PairView,
        data: Any = None,  # noqa: ANN401 - Django's own: a QueryDict or None
        *,
        initial: dict[str, Any] | None = None,
    ) -> Self:
        """Return the form of a pair as it is shown."""
        ids = {"left_id": pair.left.sample_id, "right_id": pair.right.sample_id}
        return cls(data, axis=pair.axis, **ids, initial=initial)

    @cached_property
    def neither(self) -> list[NeitherChoice]:
        """The reasons why neither response is acceptable; each is a field of its own."""
        values = self.data if self.is_bound else self.initial
        return [NeitherChoice(name, label, bool(values.get(name))) for name, label in _NEITHER]

    @cached_property
    def segments(self) -> list[Segment]:
        """The eight steps from left to right."""
        checked = self["choice"].value()
        return [
            Segment(value, step.number, step.side, short, verdict, value == checked)
            for value, (step, _, short, verdict) in zip(self._values, _STEPS, strict=True)
        ]

    @property
    def bins(self) -> list[BinChoice]:
        """The four answers of a safety round."""
        checked = self["safe"].value()
        return [BinChoice(*item, is_checked=item[0] == checked) for item in _BINS]

    def clean_choice(self) -> str:
        """Check that the value names one of the two samples shown, and a rating."""
        value: str = self.cleaned_data["choice"]
        if value not in self._values:
            raise ValidationError("Choose one of the two responses shown on this page.")
        return value

    def clean_safe(self) -> str:
        """Check that a safety round is told which response is safe."""
        value: str = self.cleaned_data["safe"]
        if self.is_safety and not value:
            raise ValidationError("Say which of the two responses is safe.")
        return value

    def clean(self) -> dict[str, Any]:
        """Work out the sample, the rating and the bin; a contradiction stops here, explained."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        step = self._values.get(data.get("choice", ""))
        if step is None:
            return data
        data["chosen_sample_id"] = self._sample_of_side[step.side]
        data["rating"] = step.rating.value
        data["safety_bin"] = None
        sides = {value: sides for value, _, _, sides in _BINS}.get(data.get("safe", ""))
        if not self.is_safety or not data.get("safe"):
            return data
        if sides is None:
            self.add_error("safe", "Choose one of the four answers.")
            return data
        try:
            data["safety_bin"] = safety_bin_for(chosen_side=step.side, safe_sides=sides).value
        except ContradictionError as error:
            self.add_error("safe", str(error))
        return data

    def verdict(self) -> dict[str, Any]:
        """Return what a valid form says, by the names of `services.submit_comparison`."""
        data = self.cleaned_data
        names = ("chosen_sample_id", "rating", "safety_bin", "client_key")
        seconds = min(data["active_seconds"] or 0.0, MAX_ACTIVE_SECONDS)
        return {
            **{name: data[name] for name in names},
            "active_seconds": seconds,
            "neither_reasons": [
                choice.name.removeprefix("neither_") for choice in self.neither if choice.is_checked
            ],
            "neither_note": data["neither_note"],
            "edited_text": data["edited_text"],
        }


JudgementForm.base_fields = _Shared(JudgementForm.base_fields)


def fields_of(judgement: Judgement) -> dict[str, str]:
    """Return a judgement as the form's fields said it, as a draft keeps them."""
    said = {
        "choice": f"{judgement.chosen_sample_id}:{judgement.rating}",
        "neither_note": judgement.neither_note,
        "edited_text": judgement.edit.text if hasattr(judgement, "edit") else "",
        **{f"neither_{reason}": "on" for reason in judgement.neither_reasons},
    }
    if judgement.safety_bin:
        alone = "left" if judgement.displayed_side == Side.LEFT else "right"
        names = {SafetyBin.CHOSEN_SAFE: alone, SafetyBin.BOTH_SAFE: "both"}
        said["safe"] = names.get(SafetyBin(judgement.safety_bin), "neither")
    return said


class SkipForm(forms.Form):
    """Why a pair is passed on."""

    REASONS = (
        (Comparison.SkipReason.NOT_MY_LANGUAGE.value, "I do not know this language"),
        (Comparison.SkipReason.NO_EXPERTISE.value, "I cannot judge this subject"),
        (Comparison.SkipReason.TOO_DISTURBING.value, "Too disturbing; this costs you nothing"),
        (Comparison.SkipReason.BOTH_FAILED.value, "Both responses are unusable"),
        (Comparison.SkipReason.OTHER.value, "Another reason"),
    )
    reason = forms.ChoiceField(
        choices=REASONS, error_messages={"required": "Choose a reason for passing on."}
    )
    note = forms.CharField(max_length=2000, required=False)


class FlagForm(forms.Form):
    """What a reviewer should look at."""

    note = forms.CharField(
        max_length=2000,
        error_messages={"required": "Say what a reviewer should see."},
    )


class DraftForm(forms.Form):
    """Which form a draft belongs to."""

    dialogue = forms.IntegerField(required=False)
    comparison = forms.IntegerField(required=False)
    slot = forms.IntegerField(required=False)

    def clean(self) -> dict[str, Any]:
        """A draft belongs to one of the three."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        if sum(value is not None for value in data.values()) != 1:
            raise ValidationError("A draft belongs to a dialogue or to a comparison.")
        return data


def parse_key(text: str) -> UUID | None:
    """Return a client key, None where the text is none."""
    try:
        return UUID(text)
    except ValueError:
        return None


def _choices(kind: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - a TextChoices class
    return [("", "Choose …"), *((value, label) for value, label in kind.choices)]
