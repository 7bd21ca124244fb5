"""Who may call which address: the whole URLconf, each role, and nobody signed in."""

from urllib.parse import urlencode

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, reverse
from django.urls.resolvers import get_resolver

from annotation.models import User
from tests.factories import make_user
from webapp.access import PUBLIC
from webapp.urls import urlpatterns

pytestmark = pytest.mark.django_db

EVERYBODY = {"annotator", "reviewer", "lead", "admin"}
ANNOTATORS = {"annotator"}
LEADS = {"lead", "admin"}
REVIEWERS = {"reviewer", "lead", "admin"}

# address name: who may call it. A new address fails the test below until it stands here.
TABLE: dict[str, set[str]] = {
    "home": EVERYBODY,
    "healthz": {PUBLIC},
    "sign-in": {PUBLIC},
    "sign-out": {PUBLIC},
    "theme": {PUBLIC},
    "password": EVERYBODY,
    **dict.fromkeys(("annotate", "draft", "start", "dialogue", "prompt", "finish"), ANNOTATORS),
    **dict.fromkeys(("judge", "skip", "flag", "beat"), ANNOTATORS),
    **dict.fromkeys(("retract", "restore", "retract-slot", "restore-slot"), ANNOTATORS),
    **dict.fromkeys(("next-task", "slot", "judge-slot"), ANNOTATORS),
    **dict.fromkeys(("skip-slot", "flag-slot", "beat-slot"), ANNOTATORS),
    **dict.fromkeys(("demonstrations", "demonstration", "start-demonstration"), ANNOTATORS),
    "give-up": ANNOTATORS,
    "demonstration-draft": EVERYBODY,
    **dict.fromkeys(("review", "judgement", "disagreements", "guidelines"), REVIEWERS),
    **dict.fromkeys(("review-demonstrations", "review-demonstration"), REVIEWERS),
    "reopen-demonstration": REVIEWERS,
    **dict.fromkeys(("judgements", "review-comparison", "undo-decision"), REVIEWERS),
    "second-reading": REVIEWERS,
    **dict.fromkeys(("blind-checks", "blind-check", "blind-pair"), REVIEWERS),
    **dict.fromkeys(("new-blind-check", "find-disagreements"), LEADS),
    **dict.fromkeys(("assignments", "new-assignment", "assignment", "close-assignment"), LEADS),
    **dict.fromkeys(("freeze-demonstrations", "demonstration-set"), LEADS),
    **dict.fromkeys(("dashboard", "rounds", "new-round", "round", "close-round"), LEADS),
    **dict.fromkeys(("pause", "end-pause", "pay", "pay-csv"), LEADS),
    **dict.fromkeys(("items", "item-upload", "accept-items", "drop-items"), LEADS),
    **dict.fromkeys(("gold", "declare-gold", "retire-gold", "new-guidelines"), LEADS),
    **dict.fromkeys(("iterations", "new-iteration", "schedule", "iteration", "decide"), LEADS),
    **dict.fromkeys(("retry-iteration", "stop-iteration"), LEADS),
    **dict.fromkeys(("runs", "run", "cancel-run", "retry-run", "finetune-on-run"), LEADS),
    **dict.fromkeys(("quality", "measure-quality", "timesheet", "quality-report"), LEADS),
    **dict.fromkeys(("tests", "test", "sitting", "sitting-draft", "wellbeing"), ANNOTATORS),
    **dict.fromkeys(("consent", "give-consent", "withdraw", "confirm-guidelines"), ANNOTATORS),
    **dict.fromkeys(("guidelines-history", "guidelines-compared"), EVERYBODY),
    **dict.fromkeys(("gradings", "grading"), REVIEWERS),
    **dict.fromkeys(("consent-documents", "withdrawal", "wellbeing-policy"), LEADS),
    **dict.fromkeys(("daily-minutes", "round-access", "qualifications"), LEADS),
    **dict.fromkeys(("new-qualification", "make-presets", "require-for-axis"), LEADS),
    **dict.fromkeys(("qualification", "act-on-qualification", "new-part", "part"), LEADS),
    **dict.fromkeys(("delete-part", "real-pair", "new-question", "question"), LEADS),
    "delete-question": LEADS,
    **dict.fromkeys(("policies", "policy", "promote", "import-policy"), LEADS),
    **dict.fromkeys(("reward-model", "reward-report", "reward-scaling"), LEADS),
    **dict.fromkeys(("start-ghost-attention", "start-context-distillation"), LEADS),
    "start-persistence": LEADS,
    **dict.fromkeys(("people", "reset-password", "set-active"), LEADS),
}
NAMED = [pattern for pattern in urlpatterns if isinstance(pattern, URLPattern)]


def address_of(pattern: URLPattern) -> str:
    """Return the pattern's address, with the id of a row that does not exist."""
    assert pattern.name is not None
    kinds = {"pk": 999_999_999, "axis": "nothing"}
    return reverse(pattern.name, kwargs={name: kinds[name] for name in pattern.pattern.converters})


def test_every_address_of_the_site_stands_in_the_table() -> None:
    assert {pattern.name for pattern in NAMED} == set(TABLE)
    others = [pattern for pattern in get_resolver().url_patterns if pattern not in NAMED]
    assert [str(o.pattern) for o in others if isinstance(o, URLResolver)] == ["admin/"]
    assert len(others) == 1


@pytest.mark.parametrize("pattern", NAMED, ids=lambda pattern: pattern.name)
def test_a_view_says_itself_what_the_table_says(pattern: URLPattern) -> None:
    assert pattern.name is not None
    assert set(pattern.callback.allowed_roles) == TABLE[pattern.name]  # type: ignore[attr-defined]


@pytest.mark.parametrize("role", User.Role.values)
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_role_reaches_its_own_addresses_and_sees_403_at_all_others(
    role: str, method: str
) -> None:
    client = Client()
    user = make_user(User.Role(role))
    for pattern in NAMED:
        assert pattern.name is not None
        if TABLE[pattern.name] == {PUBLIC}:
            continue
        client.force_login(user)
        status = getattr(client, method)(address_of(pattern)).status_code
        if role in TABLE[pattern.name]:
            assert status in {200, 302, 400, 404, 405, 422}, (pattern.name, status)
        else:
            assert status == 403, (pattern.name, status)


def test_nobody_signed_in_is_sent_to_the_sign_in_page_by_every_address_that_is_not_public() -> None:
    client = Client()
    for pattern in NAMED:
        assert pattern.name is not None
        if TABLE[pattern.name] == {PUBLIC}:
            continue
        address = address_of(pattern)
        response = client.get(address)
        assert response.status_code == 302, pattern.name
        expected = f"{reverse('sign-in')}?{urlencode({'next': address})}"
        assert response.headers["Location"] == expected, pattern.name
        assert client.post(address).status_code == 401, pattern.name


def test_somebody_switched_off_is_signed_out_everywhere() -> None:
    client, user = Client(), make_user(User.Role.LEAD)
    client.force_login(user)
    User.objects.filter(pk=user.pk).update(is_active=False)
    assert client.get(reverse("dashboard")).status_code == 302


@pytest.mark.parametrize("role", User.Role.values)
def test_the_database_is_for_admins_alone(role: str) -> None:
    client = Client()
    assert client.get(reverse("admin:index")).status_code == 302
    client.force_login(make_user(User.Role(role)))
    response = client.get(reverse("admin:index"), follow=True)
    assert response.status_code == (200 if role == "admin" else 403)
    for name in ("admin:annotation_judgement_changelist", "admin:registry_run_changelist"):
        response = client.get(reverse(name), follow=True)
        assert response.status_code == (200 if role == "admin" else 403)


@pytest.mark.parametrize(
    ("role", "page"),
    [
        ("annotator", "annotate"),
        ("reviewer", "review"),
        ("lead", "dashboard"),
        ("admin", "dashboard"),
    ],
)
def test_the_start_page_leads_each_role_to_its_own(role: str, page: str) -> None:
    client = Client()
    client.force_login(make_user(User.Role(role)))
    response = client.get(reverse("home"))
    assert (response.status_code, response.headers["Location"]) == (302, reverse(page))
