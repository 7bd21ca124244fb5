"""People: accounts are made by leads and admins, and by nobody else."""

import re

import pytest
from django.test import Client
from django.urls import reverse

from annotation.models import User
from tests.factories import make_admin, make_annotator, make_judgement, make_lead
from tests.webapp.conftest import signed_in
from webapp.models import OneTimePassword
from webapp.passwords import new_one_time_password

pytestmark = pytest.mark.django_db


def password_in(page: str) -> str:
    found = re.search(r'class="secret">([^<]+)<', page)
    assert found is not None
    return found[1]


def test_a_new_account_comes_with_a_password_that_is_shown_once(lead_client: Client) -> None:
    fields = {"username": "bo", "role": "annotator"}
    page = lead_client.post(reverse("people"), fields).content.decode()
    password = password_in(page)
    user = User.objects.get(username="bo")
    assert user.role == "annotator"
    assert user.check_password(password)
    assert OneTimePassword.objects.filter(user=user).exists()
    assert password not in lead_client.get(reverse("people")).content.decode()


def test_a_name_that_is_taken_is_named_beside_its_field(lead_client: Client) -> None:
    make_annotator("bo")
    response = lead_client.post(reverse("people"), {"username": "bo", "role": "annotator"})
    assert response.status_code == 422
    assert "This user name is taken; choose another." in response.content.decode()


@pytest.mark.parametrize("name", ["", "two words", "<b>", "x" * 61])
def test_a_name_that_is_none_is_refused(lead_client: Client, name: str) -> None:
    response = lead_client.post(reverse("people"), {"username": name, "role": "annotator"})
    assert response.status_code == 422
    assert User.objects.count() == 1


@pytest.mark.parametrize("role", ["lead", "admin"])
def test_a_lead_makes_no_leads_or_admins_but_an_admin_does(
    lead_client: Client, admin_client: Client, role: str
) -> None:
    fields = {"username": "bo", "role": role}
    assert lead_client.post(reverse("people"), fields).status_code == 422
    assert admin_client.post(reverse("people"), fields).status_code == 200
    assert User.objects.get(username="bo").is_superuser == (role == "admin")


def test_a_forgotten_password_is_replaced_by_one_that_works_once(lead_client: Client) -> None:
    user = make_annotator("bo")
    page = lead_client.post(reverse("reset-password", args=[user.pk])).content.decode()
    user.refresh_from_db()
    assert user.check_password(password_in(page))


def test_an_account_is_switched_off_and_on(lead_client: Client) -> None:
    user = make_annotator("bo")
    address = reverse("set-active", args=[user.pk])
    for value, is_active in (("0", False), ("1", True)):
        lead_client.post(address, {"active": value})
        user.refresh_from_db()
        assert user.is_active is is_active


@pytest.mark.parametrize("name", ["reset-password", "set-active"])
def test_a_lead_manages_neither_leads_nor_admins_nor_themselves(
    lead_client: Client, lead: User, name: str
) -> None:
    for user in (make_lead(), make_admin(), lead):
        assert lead_client.post(reverse(name, args=[user.pk])).status_code == 403


@pytest.mark.parametrize("name", ["reset-password", "set-active"])
def test_simulated_annotators_are_nobody_to_manage(lead_client: Client, name: str) -> None:
    user = make_annotator("sim-1", persona="careful")
    assert lead_client.post(reverse(name, args=[user.pk])).status_code == 404


def test_the_list_counts_judgements_and_hides_simulated_people_until_asked(
    lead_client: Client,
) -> None:
    bo = make_annotator("bo")
    make_judgement(bo)
    make_annotator("sim-1", persona="careful")
    page = lead_client.get(reverse("people"))
    rows = {row.user.username: row.num_judged for row in page.context["people"]}
    assert rows["bo"] == 1
    assert "sim-1" not in rows
    assert "sim-1" in lead_client.get(reverse("people") + "?simulated").content.decode()


def test_nobody_signs_up_by_themselves(client: Client) -> None:
    for address in ("/sign-up/", "/register/", "/accounts/signup/"):
        assert client.get(address).status_code == 404
    client.post(reverse("people"), {"username": "mallory", "role": "admin"})
    assert not User.objects.exists()


def test_an_annotator_cannot_raise_their_own_role(annotator: User) -> None:
    client = signed_in(annotator)
    client.post(reverse("password"), {"role": "admin", "old_password": "x"})
    annotator.refresh_from_db()
    assert annotator.role == "annotator"


def test_one_time_passwords_differ_and_can_be_read_out() -> None:
    passwords = {new_one_time_password() for _ in range(100)}
    assert len(passwords) == 100
    assert all(re.fullmatch(r"([a-z2-9]{4}-){3}[a-z2-9]{4}", item) for item in passwords)
    assert not set("".join(passwords)) & set("01ilo")
