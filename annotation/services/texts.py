"""What a text that people write may hold: it goes to the policies and into training data."""

MAX_CHARACTERS = 20_000
_TEMPLATE_TAGS = ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>")
"""Marks of the chat format: in a text they would pass for another speaker."""


def problem_of(text: str, what: str) -> str | None:
    """Return why a text cannot be used, naming `what` it is and what to change; None if it can."""
    if len(text) > MAX_CHARACTERS:
        return f"{len(text)} characters are more than {MAX_CHARACTERS}; shorten {what}"
    if "\0" in text:
        return f"{what} holds a zero byte, which no keyboard types; remove it"
    tag = tag_in(text)
    if tag is not None:
        return f"{what} may not hold {tag}, a mark of the chat format; remove it"
    return None


def tag_in(text: str) -> str | None:
    """Return the first mark of the chat format that a text holds; None if it holds none."""
    return next((tag for tag in _TEMPLATE_TAGS if tag in text), None)
