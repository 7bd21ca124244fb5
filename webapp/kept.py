"""Words typed into a form whose session had ended: kept through the sign-in page.

The posted fields travel as hidden fields of the sign-in form; once the person is known they wait
in the session for the page they belong to, which shows them once.
"""

import json
from collections.abc import Mapping

from django.http import HttpRequest, QueryDict

_SESSION_KEY = "kept_words"
_NEVER = {"csrfmiddlewaretoken", "password", "old_password", "new_password1", "new_password2"}
_MAX_CHARACTERS = 200_000


def fields_of(post: QueryDict) -> str:
    """Return the fields worth keeping as JSON; empty where there are none."""
    fields = {name: post[name] for name in post if name not in _NEVER and post[name]}
    text = json.dumps(fields, ensure_ascii=False)
    return text if fields and len(text) <= _MAX_CHARACTERS else ""


def remember(request: HttpRequest, page: str, text: str) -> None:
    """Store the fields of a form for the page at `page`; anything else than text is dropped."""
    if not text or len(text) > _MAX_CHARACTERS:
        return
    try:
        fields = json.loads(text)
    except json.JSONDecodeError:
        return
    if isinstance(fields, dict) and all(isinstance(value, str) for value in fields.values()):
        request.session[_SESSION_KEY] = {"page": page, "fields": fields}


def take(request: HttpRequest) -> Mapping[str, str]:
    """Return the words kept for this page, and forget them."""
    stored = request.session.get(_SESSION_KEY)
    if stored is None or stored["page"].partition("?")[0] != request.path:
        return {}
    del request.session[_SESSION_KEY]
    fields: Mapping[str, str] = stored["fields"]
    return fields
