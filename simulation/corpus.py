"""What sandbox policies learn from: a corpus of mixed quality, demonstrations, prompts."""

import random
from collections.abc import Iterator

from records.dialogues import Dialogue
from records.prompts import Demonstration, Prompt
from simulation.grammar import CORPUS_QUALITY, DEMONSTRATION_QUALITY, write_response
from simulation.parsing import understand
from simulation.prompts import SAFETY_SHARE, sample_dialogue, sample_prompt
from simulation.reactions import with_reactions

_NUM_EXCHANGES = (1, 1, 2, 2, 3)


def sample_corpus(seed: int, num_dialogues: int) -> Iterator[Dialogue]:
    """Yield finished dialogues of one to three exchanges, good and bad responses mixed.

    The quality of a response does not depend on its prompt, so a model of this corpus is fluent
    and middling, and every good behaviour is within its reach. Users react to each response; the
    last reaction and the assistant's leave-taking are one exchange more.
    """
    rng = random.Random(f"corpus:{seed}")
    for _ in range(num_dialogues):
        is_safety = rng.random() < SAFETY_SHARE
        num_exchanges = rng.choice(_NUM_EXCHANGES)
        dialogue = sample_dialogue(rng, num_exchanges, CORPUS_QUALITY, is_safety=is_safety)
        yield with_reactions(dialogue)


def sample_demonstrations(seed: int, num_demonstrations: int) -> Iterator[Demonstration]:
    """Yield prompts with responses somewhat better than the corpus's, for fine-tuning."""
    rng = random.Random(f"demonstrations:{seed}")
    for _ in range(num_demonstrations):
        prompt = sample_prompt(rng).dialogue
        response = write_response(rng, understand(prompt), DEMONSTRATION_QUALITY)
        yield Demonstration(prompt=prompt, response=response, source="sandbox")


def sample_prompts(seed: int, num_prompts: int, safety_share: float) -> Iterator[Prompt]:
    """Yield prompts with unique ids, a `safety_share` of them unsafe.

    Seeds are the split: prompts of one seed never share an id or a random stream with those of
    another, though short texts recur, as they do among people.

    Raises:
        ValueError: `safety_share` is outside [0, 1].
    """
    if not 0.0 <= safety_share <= 1.0:
        raise ValueError(f"safety_share is {safety_share}, must be between 0 and 1")
    rng = random.Random(f"prompts:{seed}")
    for index in range(num_prompts):
        prompt = sample_prompt(rng, is_safety=rng.random() < safety_share)
        yield Prompt(
            prompt_id=f"sandbox-{seed}-{index:06d}",
            dialogue=prompt.dialogue,
            is_safety=prompt.is_safety,
        )
