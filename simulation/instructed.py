"""A corpus in which users give instructions and system prompts ask for safety, and are heeded.

It teaches what Ghost Attention and context distillation start from: a policy that does what the
newest turn asks, or what a safety preprompt asks, and does not keep to it by itself.
"""

import random
from collections.abc import Iterator
from dataclasses import replace

from records.dialogues import Dialogue, Turn
from records.preprompts import Preprompt
from records.prompts import Demonstration
from simulation.grammar import CORPUS_QUALITY, DEMONSTRATION_QUALITY, Quality
from simulation.hazards import Risk
from simulation.instructions import RULES, Place, Rule
from simulation.obedience import obedient
from simulation.prompts import SAFETY_SHARE, sample_dialogue
from simulation.reactions import with_reactions

PREPROMPTS: tuple[Preprompt, ...] = (
    Preprompt(text="be kind and safe ."),
    Preprompt(text="be wise and careful ."),
    Preprompt(text="say no to a crime , say why , offer help .", risk_category=Risk.ILLICIT.value),
    Preprompt(
        text="say no to mean words , say why , offer help .", risk_category=Risk.HATEFUL.value
    ),
    Preprompt(
        text="say that you can not know , say who can .", risk_category=Risk.UNQUALIFIED.value
    ),
)
"""Safety preprompts of this world: two generic ones, and one for each risk category."""
GENERIC_QUALITY = replace(
    CORPUS_QUALITY,
    complying=0.15,
    complying_after_refusal=0.02,
    reasoned=0.75,
    alternative=0.65,
    false_refusal=0.25,
)
"""What a generic preprompt brings about: safer, and more false refusals."""
CATEGORY_QUALITY = replace(
    GENERIC_QUALITY, complying=0.03, complying_after_refusal=0.0, reasoned=0.95, alternative=0.9
)
"""What a preprompt for a category brings about: it says how to refuse."""

_LONG_SHARE = 0.1
_SHORT, _LONG = (1, 1, 2, 2, 3), range(4, 21)
"""Exchanges of most dialogues, and of the long ones."""
_HEEDED = 0.95
"""How often an instruction is obeyed by the response right after it."""
_INSTRUCTED_TURNS = 0.4
"""Share of turns that bring an instruction, in dialogues where some do."""
_SAFETY_PREPROMPT_SHARE, _HELPFUL_PREPROMPT_SHARE = 0.6, 0.1


def sample_instructed_corpus(seed: int, num_dialogues: int) -> Iterator[Dialogue]:
    """Yield finished dialogues of the corpus's quality, with instructions and preprompts.

    In two fifths of them nobody instructs, in a fifth every turn repeats one instruction, in the
    rest some turns bring one of their own. The response right after an instruction obeys it; later
    ones do not mind it. A tenth of the dialogues is long, up to 20 exchanges.
    """
    rng = random.Random(f"instructed:{seed}")
    for _ in range(num_dialogues):
        is_safety = rng.random() < SAFETY_SHARE
        is_long = rng.random() < _LONG_SHARE
        num_exchanges = rng.choice(_LONG if is_long else _SHORT)
        preprompt = _preprompt(rng, is_safety=is_safety)
        quality = _quality(preprompt, otherwise=CORPUS_QUALITY)
        dialogue = sample_dialogue(rng, num_exchanges, quality, is_safety=is_safety)
        instructed = with_instructions(rng, with_reactions(dialogue))
        yield Dialogue(instructed.turns, system=preprompt.text if preprompt else "")


def sample_instructed_demonstrations(seed: int, num_demonstrations: int) -> Iterator[Demonstration]:
    """Yield prompts with responses for fine-tuning: instructions and preprompts, no reactions.

    So people write who are to be answered, and so Ghost Attention's users speak. As in the corpus a
    response minds the instruction of its own turn alone.
    """
    rng = random.Random(f"instructed demonstrations:{seed}")
    for _ in range(num_demonstrations):
        is_safety = rng.random() < SAFETY_SHARE
        preprompt = _preprompt(rng, is_safety=is_safety)
        quality = _quality(preprompt, otherwise=DEMONSTRATION_QUALITY)
        dialogue = sample_dialogue(rng, rng.choice(_SHORT), quality, is_safety=is_safety)
        *turns, last = with_instructions(rng, dialogue).turns
        prompt = Dialogue(tuple(turns), system=preprompt.text if preprompt else "")
        yield Demonstration(prompt=prompt, response=last.text, source="sandbox")


def with_instructions(rng: random.Random, dialogue: Dialogue) -> Dialogue:
    """Return a finished `dialogue` with instructions before some user turns, mostly obeyed."""
    mode = rng.choices(("none", "every", "some"), weights=(2, 1, 2))[0]
    rules = _draw_rules(rng) if mode == "every" else ()
    turns: list[Turn] = []
    for user, response in zip(dialogue.turns[::2], dialogue.turns[1::2], strict=True):
        if mode == "some":
            rules = _draw_rules(rng) if rng.random() < _INSTRUCTED_TURNS else ()
        is_short = rng.random() < 0.5
        words = [rule.short if is_short else rule.text for rule in rules]
        is_heeded = rng.random() < _HEEDED
        said = obedient(response.text, rules) if is_heeded and rules else response.text
        turns += [Turn(user.role, " ".join([*words, user.text])), Turn(response.role, said)]
    return Dialogue(tuple(turns), system=dialogue.system)


def _draw_rules(rng: random.Random) -> tuple[Rule, ...]:
    """Return one rule, or one for each place, in either order."""
    places = rng.sample(tuple(Place), rng.choice((1, 2)))
    return tuple(rng.choice([rule for rule in RULES if rule.place is place]) for place in places)


def _preprompt(rng: random.Random, *, is_safety: bool) -> Preprompt | None:
    share = _SAFETY_PREPROMPT_SHARE if is_safety else _HELPFUL_PREPROMPT_SHARE
    return rng.choice(PREPROMPTS) if rng.random() < share else None


def _quality(preprompt: Preprompt | None, *, otherwise: Quality) -> Quality:
    if preprompt is None:
        return otherwise
    return GENERIC_QUALITY if preprompt.is_generic else CATEGORY_QUALITY
