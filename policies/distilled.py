"""Context distillation's pairs of answers: with a safety preprompt and without, and which is kept.

Shapes: B rows.
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean, median
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from language.chat import TagInjectionError, encode_prompt
from language.rows import TokenRow
from records.dialogues import Dialogue
from records.errors import RecordError
from records.instruction_configs import ContextDistillationConfig, PrepromptChoice
from records.preprompts import Preprompt
from records.prompts import Prompt
from records.statistics import score_histogram, sigmoid, wilson_proportion

GENERIC = "generic"
"""What answers are filed under whose prompt has no risk category."""


class PairedPrompt(NamedTuple):
    """An adversarial prompt, alone and after a preprompt."""

    prompt: Prompt
    preprompt: Preprompt
    ids: tuple[int, ...]
    preprompted_ids: tuple[int, ...]


class PairedPrompts(NamedTuple):
    """Prompts in their order."""

    prompts: list[PairedPrompt]
    skipped: Counter[str]
    """Left out, by reason: `not_adversarial`, `too_long`, `holds_tags`."""


class Answer(NamedTuple):
    """A response and its raw scores as an answer to the prompt without the preprompt."""

    text: str
    ids: tuple[int, ...]
    is_finished: bool
    safety: float
    helpfulness: float | None
    """None where there is no helpfulness model."""


class AnswerPair(NamedTuple):
    """The answer given without the preprompt, and the one given with it."""

    before: Answer
    after: Answer


def pair_prompts(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Iterable[Prompt],
    preprompts: Sequence[Preprompt],
    *,
    config: ContextDistillationConfig,
    max_tokens: int,
) -> PairedPrompts:
    """Return the adversarial ones of `prompts`, each with a preprompt that its number decides.

    Helpful prompts are never taken: there a preprompt brings false refusals.

    Raises:
        RecordError: There is no preprompt for a prompt.
    """
    paired: list[PairedPrompt] = []
    skipped: Counter[str] = Counter()
    for number, prompt in enumerate(prompts):
        if not prompt.is_safety:
            skipped["not_adversarial"] += 1
            continue
        rng = random.Random(f"preprompt:{config.seed}:{number}")
        preprompt = draw_preprompt(rng, prompt, preprompts, config.preprompts)
        try:
            ids = encode_prompt(tokenizer, prompt.dialogue)
            preprompted_ids = encode_prompt(tokenizer, preprompted(prompt.dialogue, preprompt))
        except TagInjectionError:
            skipped["holds_tags"] += 1
            continue
        if len(preprompted_ids) > max_tokens:
            skipped["too_long"] += 1
            continue
        paired.append(PairedPrompt(prompt, preprompt, tuple(ids), tuple(preprompted_ids)))
    return PairedPrompts(paired, skipped)


def draw_preprompt(
    rng: random.Random, prompt: Prompt, preprompts: Sequence[Preprompt], choice: PrepromptChoice
) -> Preprompt:
    """Return one for the prompt's risk category where that is asked for and there, else a generic.

    Raises:
        RecordError: There is none.
    """
    if choice is PrepromptChoice.CATEGORY and prompt.risk_category:
        own = [item for item in preprompts if item.risk_category == prompt.risk_category]
        if own:
            return rng.choice(own)
    generic = [item for item in preprompts if item.is_generic]
    if not generic:
        category = prompt.risk_category or "no category"
        raise RecordError("preprompts", f"none is generic, and none is for {category}")
    return rng.choice(generic)


def preprompted(dialogue: Dialogue, preprompt: Preprompt) -> Dialogue:
    """Return `dialogue` with the preprompt before everything else: at the head of the system's."""
    system = "\n\n".join(text for text in (preprompt.text, dialogue.system) if text)
    return Dialogue(dialogue.turns, system=system)


def is_kept(prompt: Prompt, pair: AnswerPair, *, min_gain: float) -> bool:
    """Return whether a prompt's second answer is distilled (arXiv:2307.09288, section 4.2.4).

    Only on adversarial prompts, only where the safety score rises by more than `min_gain`, and only
    an answer that ended by itself.
    """
    is_gain = pair.after.safety - pair.before.safety > min_gain
    return prompt.is_safety and pair.after.is_finished and is_gain


def kept_rows(
    prompts: Sequence[PairedPrompt], pairs: Sequence[AnswerPair], *, min_gain: float
) -> list[tuple[PairedPrompt, TokenRow]]:
    """Return what is trained on: the prompt without the preprompt, and the answer given with it."""
    return [
        (item, TokenRow(item.ids, pair.after.ids))
        for item, pair in zip(prompts, pairs, strict=True)
        if is_kept(item.prompt, pair, min_gain=min_gain)
    ]


def report(
    prompts: Sequence[PairedPrompt],
    pairs: Sequence[AnswerPair],
    *,
    min_gain: float,
    num_examples: int,
) -> dict[str, Any]:
    """Return how many answers were kept and by how much scores moved, by category.

    Scores are σ(raw score), in [0, 1]. `all` is over every answer, `kept` over those kept.
    """
    flags = [is_kept(p.prompt, a, min_gain=min_gain) for p, a in zip(prompts, pairs, strict=True)]
    names = [item.prompt.risk_category or GENERIC for item in prompts]
    groups = {"overall": list(range(len(prompts)))}
    for name in sorted(set(names)):
        groups[name] = [place for place, own in enumerate(names) if own == name]
    every = list(zip(prompts, pairs, flags, strict=True))
    return {
        "num_prompts": len(prompts),
        "num_kept": sum(flags),
        "categories": {
            name: _moved([pairs[i] for i in places], [flags[i] for i in places])
            for name, places in groups.items()
        },
        "score_histogram": score_histogram(
            {
                "without": [pair.before.safety for pair in pairs],
                "with": [pair.after.safety for pair in pairs],
            }
        ),
        "examples": [_example(*item) for item in every[:num_examples]],
    }


def _moved(pairs: Sequence[AnswerPair], flags: Sequence[bool]) -> dict[str, Any]:
    kept = [pair for pair, flag in zip(pairs, flags, strict=True) if flag]
    return {
        "kept": wilson_proportion(sum(flags), len(flags))._asdict(),
        "safety": {"all": _shift(pairs, "safety"), "kept": _shift(kept, "safety")},
        "helpfulness": {"all": _shift(pairs, "helpfulness"), "kept": _shift(kept, "helpfulness")},
    }


def _shift(pairs: Sequence[AnswerPair], axis: str) -> dict[str, float] | None:
    """Return mean and median before and after; None where there is nothing."""
    before = [getattr(pair.before, axis) for pair in pairs]
    if not before or before[0] is None:
        return None
    values_before = [sigmoid(score) for score in before]
    values_after = [sigmoid(getattr(pair.after, axis)) for pair in pairs]
    return {
        "mean_before": fmean(values_before),
        "mean_after": fmean(values_after),
        "median_before": median(values_before),
        "median_after": median(values_after),
    }


def _example(item: PairedPrompt, pair: AnswerPair, kept: bool) -> dict[str, Any]:
    return {
        "prompt": item.prompt.dialogue.to_json(),
        "risk_category": item.prompt.risk_category,
        "preprompt": item.preprompt.text,
        "without": pair.before.text,
        "with": pair.after.text,
        "safety_without": sigmoid(pair.before.safety),
        "safety_with": sigmoid(pair.after.safety),
        "is_kept": kept,
    }
