"""What the frame of every page needs: the navigation of the role, and the chosen theme."""

from typing import NamedTuple

from django.http import HttpRequest
from django.urls import reverse

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
    user = getattr(request, "user", None)
    entries = _NAVIGATION.get(user.role, ()) if user and user.is_authenticated else ()
    return {
        "theme": theme if theme in THEMES else "auto",
        "themes": THEMES,
        "nav_items": [
            NavItem(label, reverse(name), request.path.startswith(reverse(name)))
            for label, name in entries
        ],
    }
