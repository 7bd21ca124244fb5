"""Errors of annotation: each says what happened and what the person can do next."""

from datetime import datetime

from django.core.exceptions import ObjectDoesNotExist, PermissionDenied


class AnnotationError(Exception):
    """Base of all errors that annotation's services and getters raise."""


class NotFoundError(AnnotationError, ObjectDoesNotExist):
    """There is no such row, or it is not this person's: the two look the same from outside."""

    def __init__(self, what: str, key: object) -> None:
        super().__init__(f"there is no {what} {key} of yours")


class NotAllowedError(AnnotationError, PermissionDenied):
    """This person's role does not allow it."""

    def __init__(self, role: str, wanted: str) -> None:
        super().__init__(f"this needs the role {wanted}; yours is {role}")


class RoundClosedError(AnnotationError):
    """The round takes no more work."""

    def __init__(self, name: str, *, keeps_words: bool = True) -> None:
        kept = "; your words are kept as a draft" if keeps_words else ""
        super().__init__(f"round {name!r} is closed{kept}")


class RoundFullError(AnnotationError):
    """All comparisons of the round are judged or in somebody's hands.

    Attributes:
        next_free_at: When the first lease lapses, if one is out.
    """

    def __init__(self, name: str, next_free_at: datetime | None = None) -> None:
        super().__init__(
            f"round {name!r} has no free comparison left; your words are kept as a draft"
        )
        self.next_free_at = next_free_at


class NoItemLeftError(AnnotationError):
    """Everything that was imported is dealt with, in somebody's hands, or was theirs before."""

    def __init__(self, name: str) -> None:
        super().__init__(f"nothing is left for you in {name!r}: the rest is with others")


class DialogueClosedError(AnnotationError):
    """The dialogue takes no further turn."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this dialogue takes no further prompt: {reason}; start a new one")


class TooFewTurnsError(AnnotationError):
    """The dialogue may not end yet."""

    def __init__(self, num_turns: int, min_turns: int) -> None:
        super().__init__(
            f"this dialogue has {num_turns} of at least {min_turns} turns; go on, or pass on the "
            "pair with a reason"
        )


class PromptPendingError(AnnotationError):
    """The dialogue's last prompt still waits for its judgement."""

    def __init__(self) -> None:
        super().__init__(
            "the last prompt of this dialogue is not judged yet; judge or skip it first"
        )


class PromptError(AnnotationError, ValueError):
    """A prompt that cannot be used; says what to change."""


class StateError(AnnotationError):
    """The comparison, or another thing named, is not in a state that allows the step.

    Attributes:
        state: The state it is in.
    """

    def __init__(self, state: str, wanted: str, what: str = "comparison") -> None:
        super().__init__(f"this {what} is {state}; only {wanted} allows this")
        self.state = state


class AlreadyJudgedError(AnnotationError):
    """The comparison has been judged by another submission."""

    def __init__(self) -> None:
        super().__init__("this comparison has already been judged; go on with the next one")


class SlotTakenError(AnnotationError):
    """The lease of a slot has lapsed and somebody else was given it."""

    def __init__(self) -> None:
        super().__init__(
            "you were away for so long that this pair was given to somebody else; "
            "your words are kept as a draft"
        )


class RetractionError(AnnotationError):
    """A judgement cannot be taken back, or stand again; says why."""


class KeyReusedError(AnnotationError):
    """A client key came with other contents than the first time."""

    def __init__(self) -> None:
        super().__init__("this form was already used for something else; reload the page")


class JudgementError(AnnotationError, ValueError):
    """A judgement that is not valid.

    Attributes:
        field: The field that is wrong.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class ContradictionError(JudgementError):
    """The chosen response is called unsafe although the other one is safe."""

    def __init__(self) -> None:
        super().__init__(
            "safety_bin",
            "You prefer a response that you call unsafe while the other one is safe. In a safety "
            "round a safe response is better than an unsafe one: choose the safe response, or "
            "look again at which of the two is safe.",
        )


class RoundConfigError(AnnotationError, ValueError):
    """A round that cannot be opened as asked.

    Attributes:
        field: The field that is wrong.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class QualificationError(AnnotationError, ValueError):
    """A test, or an answer to one, that is not valid.

    Attributes:
        field: The field that is wrong.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class NoAttemptLeftError(AnnotationError):
    """All attempts at a test are used up."""

    def __init__(self, name: str, max_attempts: int) -> None:
        super().__init__(f"all {max_attempts} attempts at {name!r} are used; speak to a lead")


class NotEligibleError(AnnotationError):
    """Something is missing before this person may work in the round.

    Attributes:
        missing: What is missing, in the words of `annotation.eligibility`.
    """

    def __init__(self, name: str, missing: str) -> None:
        super().__init__(f"you cannot work in {name!r} now: {missing}; your words are kept")
        self.missing = missing


class PausedError(AnnotationError):
    """Annotation is paused: nobody is given a new task; says why and until when."""


class AlreadyPausedError(AnnotationError):
    """A pause cannot begin while another one holds."""

    def __init__(self) -> None:
        super().__init__("annotation is paused already; change that pause, or end it first")


class PauseError(AnnotationError, ValueError):
    """A pause that cannot begin as asked.

    Attributes:
        field: The field that is wrong.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class ConsentError(AnnotationError, ValueError):
    """A consent document that cannot be published, or a consent to another than the newest."""


class AssignmentClosedError(AnnotationError):
    """The assignment takes no more demonstrations."""

    def __init__(self, name: str) -> None:
        super().__init__(f"assignment {name!r} is closed; your words are kept as a draft")


class AssignmentFullError(AnnotationError):
    """All demonstrations of the assignment are written or in somebody's hands."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"assignment {name!r} has no free place left; your words are kept as a draft"
        )


class DemonstrationError(AnnotationError, ValueError):
    """A demonstration or a review of one that is not valid.

    Attributes:
        field: The field that is wrong.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class DemonstrationStateError(AnnotationError):
    """The demonstration is not in a state that allows the step.

    Attributes:
        state: The state it is in.
    """

    def __init__(self, state: str, wanted: str) -> None:
        super().__init__(f"this demonstration is {state}; only {wanted} allows this")
        self.state = state


class DecisionError(AnnotationError):
    """A reviewer's decision that another one stands against; says what to do first."""
