"""Questions of a qualification: which answers there are, and which agree with the team's."""

from collections.abc import Sequence
from itertools import combinations

from annotation.errors import QualificationError
from annotation.models import QualificationQuestion

Kind = QualificationQuestion.Kind
Value = int | list[int] | str | None

GRADES = range(1, 6)
MAX_ANSWER_CHARACTERS = 20_000
_NUM_OPTIONS = {Kind.CHOICE: (2, 12), Kind.RANKING: (2, 8), Kind.GRADING: (1, 8), Kind.PAIR: (2, 2)}


def checked_value(question: QualificationQuestion, value: Value) -> Value:
    """Return `value` if it is an answer to the question: None where nothing was answered.

    A choice or the side of a pair is the number of the option, from 0; a ranking gives each option
    its rank, from 1; a grading gives each its grade, 1 to 5; a written answer is a text.

    Raises:
        QualificationError: It is no answer; names the question.
    """
    if value is None or value in ("", []):
        return None
    field = f"question {question.position}"
    if question.kind == Kind.WRITTEN:
        if not isinstance(value, str):
            raise QualificationError(field, f"{field} asks for a text")
        if len(value) > MAX_ANSWER_CHARACTERS:
            raise QualificationError(
                field, f"{len(value)} characters are more than {MAX_ANSWER_CHARACTERS}"
            )
        return value.replace("\0", "") or None
    _check_numbers(question.kind, len(question.options), value, field)
    return value


def agrees(question: QualificationQuestion, value: Value) -> bool:
    """Return whether an answer agrees with the team's consensus.

    A ranking agrees when it orders every two options that the team orders; options that the team
    ranks alike may stand either way. Grades may differ by the question's tolerance.
    """
    if value is None:
        return False
    team = question.expected
    if question.kind in (Kind.CHOICE, Kind.PAIR):
        return bool(value == team)
    assert isinstance(value, list), (question.pk, value)
    assert isinstance(team, list), (question.pk, team)
    if question.kind == Kind.GRADING:
        pairs = zip(value, team, strict=True)
        return all(abs(given - wanted) <= question.tolerance for given, wanted in pairs)
    return all(
        (value[one] - value[two]) * (team[one] - team[two]) > 0
        for one, two in combinations(range(len(value)), 2)
        if team[one] != team[two]
    )


def check_question(kind: str, options: Sequence[str], expected: Value) -> None:
    """Pass if the options and the team's consensus fit the kind of question.

    Raises:
        QualificationError: They do not; names the field.
    """
    if kind not in Kind.values:
        raise QualificationError("kind", f"{kind!r} is not one of {', '.join(Kind.values)}")
    if kind == Kind.WRITTEN:
        if options or expected is not None:
            raise QualificationError("options", "a written question has no options, no consensus")
        return
    low, high = _NUM_OPTIONS[Kind(kind)]
    if not low <= len(options) <= high:
        bounds = f"{low}" if low == high else f"{low} to {high}"
        raise QualificationError("options", f"this kind takes {bounds} options, not {len(options)}")
    if not all(option.strip() for option in options):
        raise QualificationError("options", "an option is empty")
    if expected is None:
        raise QualificationError("expected", "say what the team agreed on")
    _check_numbers(kind, len(options), expected, "expected")


def _check_numbers(kind: str, num_options: int, value: Value, field: str) -> None:
    if kind in (Kind.CHOICE, Kind.PAIR):
        if not isinstance(value, int) or not 0 <= value < num_options:
            raise QualificationError(field, f"choose one of the {num_options} options")
        return
    what, high = ("rank", num_options) if kind == Kind.RANKING else ("grade", GRADES[-1])
    numbers = value if isinstance(value, list) else []
    if len(numbers) != num_options or not all(1 <= number <= high for number in numbers):
        raise QualificationError(
            field, f"give each of the {num_options} options a {what} from 1 to {high}"
        )
