"""Stored names as people read them."""

_ACRONYMS = {"ppo": "PPO", "sft": "SFT", "kl": "KL"}


def spoken(name: object) -> str:
    """Return a stored name such as `ppo_reference` as words: "PPO reference"."""
    return " ".join(_ACRONYMS.get(word, word) for word in str(name).replace("_", " ").split())


def capitalised(text: object) -> str:
    """Return the text with its first letter in upper case."""
    words = str(text)
    return words[:1].upper() + words[1:]


def as_sentence(error: Exception) -> str:
    """Return what an error says as a sentence with a full stop."""
    text = str(error)
    return capitalised(text) + ("" if text.endswith(".") else ".")
