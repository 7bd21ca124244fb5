"""Constraints that must hold for a whole dialogue, and instructions that combine some of them."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from records.errors import RecordError
from records.json_lines import read_json_lines, write_json_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """One thing an assistant is asked to keep to, such as a hobby, a language or a figure."""

    category: str
    """Of constraints of one category at most one is asked for at a time."""
    text: str
    """The whole sentence: "You enjoy gardening."."""
    short: str = ""
    """Its terse form: "Hobby: gardening."; empty where there is none."""
    value: str = ""
    """What an answer to `question` holds if the constraint is remembered: "gardening"."""
    question: str = ""
    """Asks for the value back: "What is your hobby?"."""

    def __post_init__(self) -> None:
        for name in ("category", "text"):
            if not getattr(self, name).strip():
                raise RecordError(name, "a constraint's must not be empty")
        if self.question and not self.value:
            raise RecordError("value", f"{self.text!r} has a question and no value it asks for")


@dataclass(frozen=True, slots=True)
class Instruction:
    """Constraints asked for together."""

    constraints: tuple[Constraint, ...]

    @property
    def text(self) -> str:
        """Its sentences in full."""
        return " ".join(constraint.text for constraint in self.constraints)

    @property
    def short(self) -> str:
        """Its terse form; a constraint that has none stands in full."""
        return " ".join(constraint.short or constraint.text for constraint in self.constraints)


def draw_instruction(
    rng: random.Random, constraints: Sequence[Constraint], *, max_constraints: int
) -> Instruction:
    """Return one to `max_constraints` constraints, each of another category, equally likely.

    Raises:
        RecordError: There are no constraints.
    """
    if not constraints:
        raise RecordError("constraints", "an instruction needs at least one constraint")
    by_category: dict[str, list[Constraint]] = {}
    for constraint in constraints:
        by_category.setdefault(constraint.category, []).append(constraint)
    number = rng.randint(1, min(max_constraints, len(by_category)))
    categories = rng.sample(sorted(by_category), number)
    return Instruction(tuple(rng.choice(by_category[name]) for name in categories))


def write_constraints(path: Path, constraints: Iterable[Constraint]) -> int:
    """Write one JSON object a line and return how many."""
    rows = (asdict(constraint) for constraint in constraints)
    return write_json_lines(path, ({k: v for k, v in row.items() if v} for row in rows))


def read_constraints(path: Path) -> Iterator[Constraint]:
    """Yield the constraints that `write_constraints` wrote.

    Raises:
        RecordError: A line is not a constraint; says which.
    """
    for number, row in enumerate(read_json_lines(path), start=1):
        try:
            yield Constraint(**{str(name): str(value) for name, value in row.items()})
        except (TypeError, RecordError) as error:
            raise RecordError(path.name, f"line {number} is not a constraint: {error}") from error


def default_constraints() -> list[Constraint]:
    """Return lists of our own in the three kinds of the paper (arXiv:2307.09288, section 3.3)."""
    return [
        *(
            Constraint(
                category="hobby",
                text=f"You enjoy {hobby}.",
                short=f"Hobby: {hobby}.",
                value=hobby,
                question="What is your favourite hobby?",
            )
            for hobby in _HOBBIES
        ),
        *(
            Constraint(category="language", text=f"Speak in {name}.", short=f"Language: {name}.")
            for name in _LANGUAGES
        ),
        *(
            Constraint(
                category="figure",
                text=f"Act as {figure}.",
                short=f"Figure: {figure}.",
                value=figure.split()[-1],
                question="What is your name?",
            )
            for figure in _FIGURES
        ),
    ]


_HOBBIES = (
    *("gardening", "chess", "tennis", "painting", "sailing", "cooking", "photography", "cycling"),
    *("pottery", "knitting", "astronomy", "fishing", "hiking", "juggling", "birdwatching"),
    *("archery", "origami", "surfing", "calligraphy", "woodworking"),
)
_LANGUAGES = ("French", "Spanish", "German", "Italian", "Portuguese", "Dutch", "Latin", "Polish")
_FIGURES = (
    *("Napoleon", "Cleopatra", "Marie Curie", "Isaac Newton", "Ada Lovelace", "Leonardo da Vinci"),
    *("Florence Nightingale", "Charles Darwin", "Johann Sebastian Bach", "Frida Kahlo"),
    *("Amelia Earhart", "Galileo Galilei", "Jane Austen", "Abraham Lincoln", "Mozart"),
    *("William Shakespeare", "Joan of Arc", "Alan Turing", "Julius Caesar", "Confucius"),
)
