"""The Django admin shows everything, changes accounts only, and keeps authors' names back."""

import pytest
from django.apps import apps
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from annotation.models import Round, User
from tests.factories import (
    make_admin,
    make_iteration,
    make_judgement,
    make_lead,
    make_policy_version,
    open_test_round,
)
from tests.registry.factories import make_run

pytestmark = pytest.mark.django_db

OURS = [
    *apps.get_app_config("registry").get_models(),
    *apps.get_app_config("annotation").get_models(),
]


@pytest.fixture
def admin_page(client: Client) -> Client:
    client.force_login(make_admin())
    return client


@pytest.mark.parametrize("model", OURS, ids=lambda model: model._meta.label_lower)
def test_every_model_has_a_list_that_only_accounts_can_be_added_to(
    admin_page: Client, model: type
) -> None:
    make_iteration()
    make_judgement()
    assert admin.site.is_registered(model)
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"  # type: ignore[attr-defined]

    assert admin_page.get(reverse(f"{name}_changelist")).status_code == 200
    added = admin_page.get(reverse(f"{name}_add")).status_code
    assert added == (200 if model is User else 403)


def test_a_row_is_shown_without_a_form(admin_page: Client) -> None:
    judgement = make_judgement()
    url = reverse("admin:annotation_judgement_change", args=[judgement.pk])

    page = admin_page.get(url).content.decode()

    assert judgement.annotator.pseudonym in page
    assert judgement.annotator.username not in page
    assert 'name="_save"' not in page
    assert admin_page.post(url, {"rating": "better"}).status_code == 403


def test_an_account_is_made_with_the_rights_of_its_role(admin_page: Client) -> None:
    for role, is_staff in (("lead", False), ("admin", True)):
        fields = {
            "username": f"new-{role}",
            "role": role,
            "password1": "orange-tree-harbour",
            "password2": "orange-tree-harbour",
        }
        admin_page.post(reverse("admin:annotation_user_add"), fields)
        user = User.objects.get(username=f"new-{role}")
        assert (user.role, user.is_staff, user.is_superuser) == (role, is_staff, is_staff)
        assert user.check_password("orange-tree-harbour")


def test_an_account_that_is_no_admin_any_more_loses_the_rights(admin_page: Client) -> None:
    user = make_admin()
    fields = {"username": user.username, "role": "annotator", "is_active": "on"}
    admin_page.post(reverse("admin:annotation_user_change", args=[user.pk]), fields)
    user.refresh_from_db()
    assert (user.role, user.is_staff, user.is_superuser) == ("annotator", False, False)


def test_leads_do_not_reach_the_admin(client: Client) -> None:
    client.force_login(make_lead())
    assert client.get(reverse("admin:index")).status_code in (302, 403)


def test_actions_go_through_services(admin_page: Client) -> None:
    round_, policy = open_test_round(), make_policy_version(is_promoted=False)
    for name, action, row in (
        ("annotation_round", "close", round_),
        ("registry_policyversion", "promote", policy),
    ):
        fields = {"action": action, "_selected_action": [row.pk]}
        admin_page.post(reverse(f"admin:{name}_changelist"), fields)
        row.refresh_from_db()
    assert round_.state == Round.State.CLOSED
    assert policy.is_promoted


def test_runs_are_cancelled_and_queued_again(admin_page: Client) -> None:
    run = make_run()
    for action, state in (("cancel", "cancelled"), ("retry", "queued"), ("retry", "queued")):
        fields = {"action": action, "_selected_action": [run.pk]}
        admin_page.post(reverse("admin:registry_run_changelist"), fields)
        run.refresh_from_db()
        assert run.state == state
