"""Whether an answer keeps to a constraint: the judges that a measure of persistence may name.

A judge is `judge(constraint, answer) -> bool`. It reads the answer to the constraint's question
where the constraint has one, else the response itself.
"""

import re
from typing import Protocol

from records.constraints import Constraint


class Obeys(Protocol):
    """Judges one answer."""

    def __call__(self, constraint: Constraint, answer: str, /) -> bool:
        """Return whether `answer` keeps to `constraint`."""
        ...


def mentions_value(constraint: Constraint, answer: str) -> bool:
    """Return whether `answer` holds the constraint's value as whole words, in either case.

    Raises:
        ValueError: The constraint has no value.
    """
    if not constraint.value:
        raise ValueError(
            f"constraints: {constraint.text!r} has no value to look for; give it a question and a "
            "value, or name another obedience_function"
        )
    pattern = rf"(?<!\w){re.escape(constraint.value)}(?!\w)"
    return re.search(pattern, answer, re.IGNORECASE) is not None
