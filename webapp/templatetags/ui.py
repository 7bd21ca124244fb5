"""Small filters of the pages: styled fields, Markdown, numbers, badges."""

from datetime import timedelta
from typing import Any, cast

from django import template
from django.forms import BoundField, Textarea
from django.template import Context
from django.utils import timezone
from django.utils.safestring import SafeString

from annotation.rendering import render_markdown
from webapp.drawing import format_number, format_percent
from webapp.parts import render_part
from webapp.selectors.dialogues import new_client_key
from webapp.wording import capitalised, spoken

register = template.Library()

_WIDGET_CLASSES = {"select": "select", "checkbox": "", "radio": "", "hidden": ""}
_STATE_BADGES = {
    "open": "badge-accent badge-live",
    "running": "badge-accent badge-live",
    "sampling": "badge-accent",
    "queued": "",
    "waiting": "",
    "closed": "",
    "finished": "badge-good",
    "judged": "badge-good",
    "ready": "badge-accent",
    "failed": "badge-bad",
    "cancelled": "badge-warn",
    "stopped": "badge-warn",
    "skipped": "badge-warn",
    "writing": "badge-accent",
    "submitted": "",
    "approved": "badge-good",
    "rejected": "badge-warn",
    "checking": "badge-accent",
    "checked": "",
    "adding": "badge-accent",
    "added": "badge-good",
    "refused": "badge-bad",
    "dropped": "",
}


@register.filter
def styled(field: BoundField) -> SafeString:
    """Return the field's widget with the class of the design system."""
    widget = field.field.widget
    is_area = isinstance(widget, Textarea)
    css = "textarea" if is_area else _WIDGET_CLASSES.get(str(widget.input_type), "input")
    return field.as_widget(attrs={"class": css} if css else {})


@register.filter
def markdown(text: object) -> SafeString:
    """Return Markdown as sanitised HTML."""
    return render_markdown(str(text))


@register.filter
def number(value: object) -> str:
    """Return a number with four significant digits, a dash for nothing."""
    return format_number(float(value)) if isinstance(value, (int, float)) else "–"


@register.filter
def count(value: object) -> str:
    """Return a whole number with its thousands parted, a dash for nothing."""
    return f"{value:,}" if isinstance(value, int) else "–"


@register.filter
def percent(value: object) -> str:
    """Return a share as a percentage, a dash for nothing."""
    return format_percent(float(value)) if isinstance(value, (int, float)) else "–"


@register.filter
def state_badge(state: str) -> str:
    """Return the classes of the badge of a state."""
    return f"badge {_STATE_BADGES.get(state, '')}".strip()


@register.filter
def words(value: object) -> str:
    """Return a stored name such as `reward_model` as words."""
    return spoken(value)


@register.filter
def sentence(value: object) -> str:
    """Return the text with its first letter in upper case."""
    return capitalised(value)


@register.filter
def duration(value: timedelta | float | None) -> str:
    """Return a length of time in its two largest units."""
    if value is None:
        return "–"
    seconds = round(value.total_seconds() if isinstance(value, timedelta) else value)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86400} d {seconds % 86400 // 3600} h"


@register.filter
def hours(seconds: float) -> str:
    """Return seconds as hours with two decimals."""
    return f"{seconds / 3600:.2f}"


@register.simple_tag
def elapsed(start: Any, end: Any = None) -> str:  # noqa: ANN401 - template values
    """Return the time from `start` to `end`, or to now."""
    return duration((end or timezone.now()) - start) if start else "–"


@register.filter
def item(mapping: dict[str, Any], key: str) -> Any:  # noqa: ANN401 - template values
    """Return the value of a key, None where there is none."""
    return mapping.get(key)


@register.simple_tag(takes_context=True)
def query(context: dict[str, Any], **changes: object) -> str:
    """Return the query string of this page with some values changed; None removes one."""
    params = context["request"].GET.copy()
    for name, value in changes.items():
        params.pop(name, None)
        if value is not None:
            params[name] = str(value)
    return f"?{params.urlencode()}"


@register.simple_tag(takes_context=True)
def part(context: Context, name: str) -> SafeString:
    """Return a Jinja2 template (`webapp.parts`) filled with the values of this page."""
    values = cast(dict[str, Any], context.flatten())
    return render_part(context["request"], name, values)


@register.simple_tag
def client_key() -> str:
    """Return a key for one form: the same form sent twice is stored once."""
    return new_client_key()


@register.filter
def is_number(value: object) -> bool:
    """Whether the value is a number to be shown with few digits."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@register.filter
def prompt_text(prompt: object) -> str:
    """Return the last user turn of a prompt stored as JSON, or the text itself."""
    if isinstance(prompt, dict) and prompt.get("turns"):
        return str(prompt["turns"][-1]["text"])
    return str(prompt)
