"""Errors of records, which name field, value and bound, and of the world outside."""


class RecordError(ValueError):
    """A record field that is out of bounds.

    Attributes:
        field: Name of the offending field.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class ExplainedError(Exception):
    """Something outside stands in the way; the message says what, and what to do about it.

    Who reads it needs no traceback: nothing in the program is at fault.
    """
