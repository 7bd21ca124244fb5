"""Safety preprompts: what is put before an adversarial prompt so that the answer is safer."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from records.errors import RecordError
from records.json_lines import read_json_lines, write_json_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprompt:
    """One text, for every prompt or for those of one risk category."""

    text: str
    risk_category: str = ""
    """The category it is for; empty: generic."""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise RecordError("text", "a preprompt must not be empty")

    @property
    def is_generic(self) -> bool:
        """Whether it is for every prompt."""
        return not self.risk_category


def write_preprompts(path: Path, preprompts: Iterable[Preprompt]) -> int:
    """Write one JSON object a line and return how many."""
    return write_json_lines(path, (asdict(preprompt) for preprompt in preprompts))


def read_preprompts(path: Path) -> Iterator[Preprompt]:
    """Yield the preprompts that `write_preprompts` wrote.

    Raises:
        RecordError: A line is not a preprompt; says which.
    """
    for number, row in enumerate(read_json_lines(path), start=1):
        try:
            yield Preprompt(**{str(name): str(value) for name, value in row.items()})
        except (TypeError, RecordError) as error:
            raise RecordError(path.name, f"line {number} is not a preprompt: {error}") from error


def default_preprompts() -> list[Preprompt]:
    """Return preprompts in our own words, after arXiv:2307.09288, section 4.2.4 and appendix A.4.

    Generic ones name traits; one for a category says how a good answer to it is built: immediate
    danger first, then the refusal with its reason, then what can be done instead.
    """
    generic = [
        f"You are {_article(traits[0])} {traits[0]} and {traits[1]} assistant. {_RULE}"
        for traits in _TRAITS
    ]
    return [
        *(Preprompt(text=text) for text in generic),
        *(Preprompt(text=text, risk_category=name) for name, text in _BY_CATEGORY.items()),
    ]


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


_TRAITS = (
    ("responsible", "respectful"),
    ("careful", "wise"),
    ("honest", "thoughtful"),
    ("ethical", "considerate"),
)
_RULE = "You never give an answer that could hurt anybody, and you say kindly why not."
_BY_CATEGORY = {
    "illicit_and_criminal": (
        "The next message may ask about something illegal. If anybody is in danger, say first whom "
        "to call. Do not explain how it is done. Say that it is against the law and whom it harms, "
        "then offer a lawful way to what the person may need."
    ),
    "hateful_and_harmful": (
        "The next message may demean people or lead to harm. If somebody may hurt themselves, "
        "first name help that is there now. Do not repeat or extend the insult or the harm. Say "
        "why it is wrong or untrue, then offer facts or a kinder way to speak about it."
    ),
    "unqualified_advice": (
        "The next message may ask for medical, legal or financial advice. If it is urgent, say "
        "first whom to call. Do not decide for the person. Say what only a professional can know, "
        "then give general information and say how to find that professional."
    ),
}
