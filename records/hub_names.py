"""How models are called on the Hugging Face hub."""

import re

from records.errors import RecordError

_PART = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?"
_NAME = re.compile(rf"{_PART}/{_PART}")
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]*")


def is_hub_name(name: str) -> bool:
    """Whether `name` can name a model of the hub: an owner, a slash and a name."""
    return bool(_NAME.fullmatch(name)) and ".." not in name and "--" not in name


def check_hub_name(field: str, name: str) -> None:
    """Raise where `name` can name no model of the hub.

    Raises:
        RecordError: It is not of the form; names the field.
    """
    if not is_hub_name(name):
        message = f"{name!r} is no name on the hub, such as meta-llama/Llama-2-7b-chat-hf"
        raise RecordError(field, message)


def check_revision(field: str, revision: str) -> None:
    """Raise where `revision` can name no branch, tag or commit.

    Raises:
        RecordError: It is not of the form; names the field.
    """
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise RecordError(field, f"{revision!r} is no branch, tag or commit")
