"""What the frame of every page needs: the navigation of the role, and the chosen theme."""

from typing import NamedTuple

from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import SimpleLazyObject

THEME_COOKIE = "concord_theme"
THEMES = ("auto", "light", "dark")


class NavItem(NamedTuple):
    """One entry of the navigation."""

    label: str
    url: str
    is_current: bool


_NAVIGATION: dict[str, tuple[tuple[str, str], ...]] = {
    "annotator": (
        ("Annotate", "annotate"),
        ("Demonstrations", "demonstrations"),
        ("Tests", "tests"),
        ("Guidelines", "guidelines-history"),
        ("Well-being", "wellbeing"),
        ("Consent", "consent"),
    ),
    "reviewer": (("Review", "review"), ("Guidelines", "guidelines-history")),
    "lead": (
        ("Dashboard", "dashboard"),
        ("Rounds", "rounds"),
        ("Demonstrations", "assignments"),
        ("Iterations", "iterations"),
        ("Runs", "runs"),
        ("Policies", "policies"),
        ("Review", "review"),
        ("Quality", "quality"),
        ("People", "people"),
        ("Tests", "qualifications"),
    ),
}
_NAVIGATION["admin"] = (*_NAVIGATION["lead"], ("Database", "admin:index"))


def frame(request: HttpRequest) -> dict[str, object]:
    """Return the context that `webapp/base.html` reads."""
    theme = request.COOKIES.get(THEME_COOKIE, "auto")
    return {
        "theme": theme if theme in THEMES else "auto",
        "themes": THEMES,
        # Worked out where a page shows it: most answers to htmx do not.
        "nav_items": SimpleLazyObject(lambda: _nav_items(request)),
    }


def _nav_items(request: HttpRequest) -> list[NavItem]:
    user = getattr(request, "user", None)
    entries = _NAVIGATION.get(user.role, ()) if user and user.is_authenticated else ()
    addresses = [(label, reverse(name)) for label, name in entries]
    return [NavItem(label, url, request.path.startswith(url)) for label, url in addresses]
