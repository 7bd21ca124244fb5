"""Signing in and out, one's own password, the theme; nothing typed is lost to an ended session."""

import pytest
from django.test import Client
from django.urls import reverse

from annotation.models import User
from tests.factories import PASSWORD, make_ready_comparison, make_user, start_test_dialogue
from tests.factories import open_test_round as open_round
from tests.webapp.conftest import signed_in
from webapp.models import OneTimePassword
from webapp.passwords import give_one_time_password

pytestmark = pytest.mark.django_db
SIGN_IN = "/sign-in/"


@pytest.fixture
def person(db: None) -> User:
    return make_user(User.Role.ANNOTATOR, "ana", password=PASSWORD)


def sign_in(client: Client, **fields: str) -> str:
    """Post the form; return where it leads."""
    response = client.post(SIGN_IN, {"username": "ana", "password": PASSWORD, **fields})
    assert response.status_code == 302, response.content.decode()
    return response.headers["Location"]


def test_the_right_password_leads_to_the_start_page(client: Client, person: User) -> None:
    assert sign_in(client) == reverse("home")
    assert client.get(reverse("annotate")).status_code == 200


@pytest.mark.parametrize(("name", "password"), [("ana", "wrong"), ("nobody", PASSWORD)])
def test_a_wrong_name_and_a_wrong_password_get_the_same_answer(
    client: Client, person: User, name: str, password: str
) -> None:
    response = client.post(SIGN_IN, {"username": name, "password": password})
    assert response.status_code == 401
    assert "User name and password do not match." in response.content.decode()


def test_somebody_switched_off_cannot_sign_in(client: Client, person: User) -> None:
    User.objects.filter(pk=person.pk).update(is_active=False)
    response = client.post(SIGN_IN, {"username": "ana", "password": PASSWORD})
    assert response.status_code == 401


def test_signing_in_takes_a_new_session_key(client: Client, person: User) -> None:
    """A key planted before the sign-in is worth nothing after it."""
    session = client.session
    session["planted"] = True
    session.save()
    planted = session.session_key
    client.cookies["sessionid"] = str(planted)
    sign_in(client)
    assert client.session.session_key != planted


def test_signing_out_needs_a_post_and_ends_the_session(client: Client, person: User) -> None:
    sign_in(client)
    assert client.get(reverse("sign-out")).status_code == 405
    client.post(reverse("sign-out"))
    assert client.get(reverse("annotate")).status_code == 302


def test_a_form_without_its_token_is_refused_with_advice(person: User) -> None:
    client = Client(enforce_csrf_checks=True)
    response = client.post(SIGN_IN, {"username": "ana", "password": PASSWORD})
    assert response.status_code == 403
    assert "This form is too old" in response.content.decode()


def test_signing_in_leads_back_to_the_page_that_was_asked_for(client: Client, person: User) -> None:
    assert sign_in(client, next="/annotate/?guidelines=1") == "/annotate/?guidelines=1"


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
def test_a_target_on_another_site_is_not_followed(
    client: Client, person: User, target: str
) -> None:
    assert sign_in(client, next=target) == reverse("home")
    client.post(reverse("sign-out"))
    assert f'value="{target}"' not in client.get(SIGN_IN, {"next": target}).content.decode()


def test_somebody_signed_in_is_not_asked_again(client: Client, person: User) -> None:
    client.force_login(person)
    assert client.get(SIGN_IN).headers["Location"] == reverse("home")


def test_words_posted_after_the_session_ended_stand_in_the_form_after_signing_in(
    client: Client, person: User
) -> None:
    dialogue = start_test_dialogue(person, open_round())
    page = reverse("dialogue", args=[dialogue.pk])

    response = client.post(
        reverse("prompt", args=[dialogue.pk]),
        {"text": "A long message <typed> by hand", "client_key": "x"},
        headers={"referer": f"http://testserver{page}"},
    )

    assert response.status_code == 401
    assert "What you typed is kept" in response.content.decode()
    form = response.context
    assert sign_in(client, next=form["target"], kept=form["kept_fields"]) == page
    shown = client.get(page).content.decode()
    assert "A long message &lt;typed&gt; by hand</textarea>" in shown
    assert "A long message" not in client.get(page).content.decode()


def test_a_judgement_posted_after_the_session_ended_is_ticked_after_signing_in(
    client: Client, person: User
) -> None:
    comparison = make_ready_comparison(person)
    page = reverse("dialogue", args=[comparison.dialogue_id])
    choice = f"{comparison.samples.get(side='right').pk}:slightly_better"

    response = client.post(
        reverse("judge", args=[comparison.pk]),
        {"choice": choice},
        headers={"referer": f"http://testserver{page}"},
    )

    form = response.context
    sign_in(client, next=form["target"], kept=form["kept_fields"])
    shown = client.get(page).content.decode()
    assert shown.count("checked") == 1
    assert "B is slightly better</strong>" in shown


@pytest.mark.parametrize("kept", ["not json", "[1, 2]", '{"text": 1}', "x" * 300_000])
def test_kept_words_that_no_form_of_ours_made_are_dropped(
    client: Client, person: User, kept: str
) -> None:
    sign_in(client, kept=kept)
    assert "kept_words" not in client.session


def test_a_script_without_a_session_is_told_and_not_redirected(client: Client) -> None:
    response = client.post(reverse("draft"), {}, headers={"accept": "application/json"})
    assert response.status_code == 401
    assert response.json()["sign_in"].startswith(SIGN_IN)


def test_a_poll_without_a_session_sends_the_whole_page_to_sign_in(client: Client) -> None:
    page = "http://testserver/annotate/dialogues/3/"
    headers = {"hx-request": "true", "hx-current-url": page}
    response = client.get("/annotate/dialogues/3/?waiting=1", headers=headers)
    assert response.headers["HX-Redirect"] == "/sign-in/?next=%2Fannotate%2Fdialogues%2F3%2F"


def test_a_password_is_changed_with_the_old_one_and_other_browsers_are_signed_out(
    client: Client, person: User
) -> None:
    here, elsewhere = signed_in(person), signed_in(person)
    fields = {"new_password1": "orange-tree-harbour", "new_password2": "orange-tree-harbour"}

    wrong = here.post(reverse("password"), {**fields, "old_password": "wrong"})
    assert "This is not your current password." in wrong.content.decode()
    here.post(reverse("password"), {**fields, "old_password": PASSWORD})

    assert here.get(reverse("annotate")).status_code == 200
    assert elsewhere.get(reverse("annotate")).status_code == 302


@pytest.mark.parametrize("password", ["short", "password123"])
def test_a_weak_password_is_refused(client: Client, person: User, password: str) -> None:
    client.force_login(person)
    fields = dict.fromkeys(("new_password1", "new_password2"), password)
    response = client.post(reverse("password"), {**fields, "old_password": PASSWORD})
    assert response.status_code == 422
    person.refresh_from_db()
    assert person.check_password(PASSWORD)


def test_a_one_time_password_lets_its_owner_do_nothing_but_choose_another(
    client: Client, person: User
) -> None:
    given = give_one_time_password(user=person)
    sign_in(client, password=given)
    assert client.get(reverse("annotate")).headers["Location"] == reverse("password")
    assert "works once" in client.get(reverse("password")).content.decode()

    chosen = dict.fromkeys(("new_password1", "new_password2"), "orange-tree-harbour")
    client.post(reverse("password"), chosen)

    assert client.get(reverse("annotate")).status_code == 200
    assert not OneTimePassword.objects.exists()
    again = Client().post(SIGN_IN, {"username": "ana", "password": given})
    assert again.status_code == 401


@pytest.mark.parametrize("theme", ["light", "dark", "auto"])
def test_the_theme_is_kept_in_a_cookie(client: Client, theme: str) -> None:
    response = client.post(reverse("theme"), {"theme": theme, "next": SIGN_IN})
    assert response.headers["Location"] == SIGN_IN
    assert f'data-theme="{theme}"' in client.get(SIGN_IN).content.decode()


def test_an_unknown_theme_changes_nothing(client: Client) -> None:
    client.post(reverse("theme"), {"theme": "neon"})
    assert "concord_theme" not in client.cookies
    client.cookies["concord_theme"] = '"><script>'
    assert 'data-theme="auto"' in client.get(SIGN_IN).content.decode()
