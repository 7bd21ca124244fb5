"""From snapshots to pairs of token rows: what is selected, what is skipped, and why."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from language.chat import TagInjectionError, encode_prompt, encode_response, fit_prompt
from language.rows import TokenRow
from records.preferences import Axis, Preference, Rating, SafetyBin
from records.snapshots import read_snapshot


class Pair(NamedTuple):
    """A comparison in token ids; both rows begin with the same prompt."""

    chosen: TokenRow
    rejected: TokenRow
    rating: Rating | None
    safety_bin: SafetyBin | None

    @property
    def num_tokens(self) -> int:
        """Tokens of the prompt, read once, and of both responses."""
        return self.chosen.num_tokens + len(self.rejected.response_ids)


class Selection(NamedTuple):
    """The preferences of a run before they are encoded."""

    train: list[Preference]
    test: list[Preference]
    skipped: Counter[str]
    """Number passed over, by reason: `duplicate` or `held_out`."""


class EncodedPairs(NamedTuple):
    """Preferences as pairs of token rows."""

    pairs: list[Pair]
    skipped: Counter[str]
    """Number left out, by reason: `identical`, `too_long` or `holds_tags`."""
    num_shortened: int
    """Pairs that lost their oldest exchanges to fit."""


def snapshot_folders(inputs: Mapping[str, Path]) -> list[Path]:
    """Return the folders of `snapshot`, `mixture_0`, `mixture_1`, ... in this order."""
    mixtures = sorted(
        (name for name in inputs if name.startswith("mixture_")),
        key=lambda name: int(name.removeprefix("mixture_")),
    )
    return [inputs[name] for name in ["snapshot", *mixtures]]


def select_preferences(
    folders: Sequence[Path], *, axis: Axis, other_axis_share: float, seed: int
) -> Selection:
    """Return what a reward model of `axis` learns from and is tested on.

    Training takes every preference of `axis` on the train side of all snapshots, and as many drawn
    from the other axis as make `other_axis_share` of the whole (fewer where there are not enough).
    The test set is the `axis` part of the test side of the first, newest, snapshot. A preference
    that lies in several snapshots is taken once, and none is trained on whose dialogue is on the
    test side of any of them.
    """
    held_out = {
        preference.dialogue_id
        for folder in folders
        for preference in read_snapshot(folder, split="test")
    }
    skipped: Counter[str] = Counter()
    seen: set[str] = set()
    by_axis: dict[Axis, list[Preference]] = {member: [] for member in Axis}
    for folder in folders:
        for preference in read_snapshot(folder, split="train"):
            if preference.preference_id in seen:
                skipped["duplicate"] += 1
            elif preference.dialogue_id in held_out:
                skipped["held_out"] += 1
            else:
                by_axis[preference.axis].append(preference)
            seen.add(preference.preference_id)
    own = by_axis[axis]
    others = [p for member, members in by_axis.items() if member is not axis for p in members]
    wanted = min(len(others), round(len(own) * other_axis_share / (1 - other_axis_share)))
    drawn = random.Random(f"{seed}:other axis").sample(others, wanted)
    test = [p for p in read_snapshot(folders[0], split="test") if p.axis is axis]
    return Selection([*own, *drawn], test, skipped)


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase, preferences: Iterable[Preference], *, max_tokens: int
) -> EncodedPairs:
    """Return the pairs of `preferences`, every row at most `max_tokens` long.

    An overlong pair loses its oldest exchanges, the same ones on both sides; a response is never
    cut, so its end and its end-of-sequence token always stand. Left out and counted are pairs that
    do not fit even so (`too_long`), whose two responses are the same tokens (`identical`), or whose
    text imitates the chat format's tags (`holds_tags`).
    """
    pairs: list[Pair] = []
    skipped: Counter[str] = Counter()
    num_shortened = 0
    for preference in preferences:
        try:
            chosen_ids = tuple(encode_response(tokenizer, preference.chosen))
            rejected_ids = tuple(encode_response(tokenizer, preference.rejected))
            room = max_tokens - max(len(chosen_ids), len(rejected_ids))
            whole = encode_prompt(tokenizer, preference.prompt)
            is_whole = len(whole) <= room
            fitted = whole if is_whole else fit_prompt(tokenizer, preference.prompt, room)
        except TagInjectionError:
            skipped["holds_tags"] += 1
            continue
        if fitted is None:
            skipped["too_long"] += 1
        elif chosen_ids == rejected_ids:
            skipped["identical"] += 1
        else:
            num_shortened += not is_whole
            prompt_ids = tuple(fitted)
            chosen, rejected = TokenRow(prompt_ids, chosen_ids), TokenRow(prompt_ids, rejected_ids)
            pairs.append(Pair(chosen, rejected, preference.rating, preference.safety_bin))
    return EncodedPairs(pairs, skipped, num_shortened)
