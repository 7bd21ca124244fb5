"""Functions named in a config: `package.module:function`, from this project's packages only."""

import importlib
import re
from collections.abc import Callable
from typing import Any

from records.errors import RecordError

_PATTERN = re.compile(r"(rewardmodels|policies|evaluation)(\.[a-z_]+)+:[a-z_]+")


def load_function(field: str, name: str) -> Callable[..., Any]:
    """Return the function that `name` points to.

    This is how a policy is handed a score function without importing reward models.

    Raises:
        RecordError: `name` is not of the form, or there is no such function; names `field`.
    """
    if not _PATTERN.fullmatch(name):
        raise RecordError(
            field, f"{name!r} is not rewardmodels|policies|evaluation.module:function"
        )
    module_name, function_name = name.split(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise RecordError(field, f"{name!r} cannot be loaded: {error}") from error
    if not callable(function):
        raise RecordError(field, f"{name!r} is not a function")
    return function  # type: ignore[no-any-return]
