"""Parts of pages that an annotator is sent at every step: Jinja2 templates, beside the others.

Jinja2 compiles a template to Python: the pair to be judged costs a twentieth of what Django's own
language takes for it. Everything else on the site stays with Django's (decision 0014), and what
both include is written in what the two languages share.
"""

from typing import Any, cast

from django.contrib.messages import get_messages
from django.http import HttpRequest
from django.template import engines
from django.template.backends.jinja2 import Jinja2
from django.template.backends.utils import csrf_input
from django.template.defaultfilters import linebreaksbr
from django.utils.safestring import SafeString, mark_safe
from jinja2 import Environment, StrictUndefined

from annotation.rendering import render_markdown
from webapp.addresses import address_of
from webapp.selectors.dialogues import new_client_key


def environment(**options: Any) -> Environment:  # noqa: ANN401 - Django's own, see TEMPLATES
    """Return the environment of the parts: values are escaped, a missing name is an error."""
    own = ("autoescape", "undefined")
    rest = {name: value for name, value in options.items() if name not in own}
    made = Environment(autoescape=True, undefined=StrictUndefined, **rest)
    made.globals["url"] = address_of
    made.globals["client_key"] = new_client_key
    made.filters |= {"markdown": render_markdown, "linebreaksbr": linebreaksbr}
    return made


def render_part(request: HttpRequest, name: str, context: dict[str, Any]) -> SafeString:
    """Return a part as HTML; it also knows the request, its user and the messages for them."""
    engine = cast(Jinja2, engines["jinja2"])
    frame = {
        "request": request,
        "user": getattr(request, "user", None),
        "messages": get_messages(request),
        # Made once: Django's lazy one would mask the secret anew for each form of the page.
        "csrf_input": csrf_input(request),
    }
    html = engine.get_template(name).render({**context, **frame})
    return mark_safe(html)  # noqa: S308 - the environment escapes every value
