"""The error of a record that breaks a rule: it names the field, the value and the bound."""


class RecordError(ValueError):
    """A record field that is out of bounds.

    Attributes:
        field: Name of the offending field.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
