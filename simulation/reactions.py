"""What users say to a response before they go on: the better it was, the kinder."""

from records.dialogues import Dialogue
from simulation import world
from simulation.utilities import true_utility


def reaction_to(prompt: Dialogue, response: str) -> str:
    """Return what a user says to `response`."""
    utility = true_utility(prompt, response)
    return next(text for least, text in world.REACTIONS if utility >= least)


def with_reactions(dialogue: Dialogue) -> Dialogue:
    """Return a finished `dialogue` in which every response is reacted to.

    A reaction opens the next user turn; after the last response it is a turn of its own, and the
    assistant takes its leave. Who learns to foresee reactions learns what is good, as models of
    real text do.
    """
    texts = [turn.text for turn in dialogue.turns]
    said = texts[:1]
    for index in range(1, len(texts), 2):
        reaction = reaction_to(Dialogue(dialogue.turns[:index]), texts[index])
        said += [texts[index], " ".join([reaction, *texts[index + 1 : index + 2]])]
    return Dialogue.from_texts(*said, world.FAREWELL)
