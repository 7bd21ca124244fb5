"""Sessions and the people they belong to: read anew with each request, in one statement each."""

from datetime import timedelta

import psycopg2
import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.db.utils import OperationalError
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from annotation.models import User
from tests.webapp.conftest import signed_in
from webapp.sessions import SessionStore

pytestmark = pytest.mark.django_db


def status(client: Client) -> int:
    """Return the status of a page of annotators; 302 leads to the sign-in page."""
    response = client.get(reverse("annotate"))
    if response.status_code == 302:
        assert response.headers["Location"].startswith(reverse("sign-in"))
    return response.status_code


def test_the_engines_are_ours() -> None:
    assert settings.SESSION_ENGINE == "webapp.sessions"
    assert settings.AUTHENTICATION_BACKENDS == ["webapp.signing_in.Backend"]


def test_a_session_ends_when_it_expires(annotator_client: Client) -> None:
    assert status(annotator_client) == 200
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    assert status(annotator_client) == 302


def test_a_session_that_is_deleted_is_nobodys(annotator_client: Client) -> None:
    Session.objects.all().delete()
    assert status(annotator_client) == 302


def test_a_key_that_nobody_has_is_forgotten() -> None:
    store = SessionStore("never-given-to-anybody-1234567890")
    assert store.load() == {}
    assert store.session_key is None


def test_what_is_stored_is_read_again_and_nothing_that_was_tampered_with() -> None:
    store = SessionStore()
    store["words"] = {"kept": "äöü"}
    store.save()
    assert SessionStore(store.session_key).load() == {"words": {"kept": "äöü"}}
    Session.objects.update(session_data="e30:forged:signature")
    assert SessionStore(store.session_key).load() == {}


def test_a_password_changed_elsewhere_ends_the_session(
    annotator: User, annotator_client: Client
) -> None:
    assert status(annotator_client) == 200
    annotator.set_password("another one, chosen elsewhere")
    annotator.save(update_fields=["password"])
    assert status(annotator_client) == 302


def test_who_is_switched_off_is_shut_out_with_the_next_request(
    annotator: User, annotator_client: Client
) -> None:
    assert status(annotator_client) == 200
    User.objects.filter(pk=annotator.pk).update(is_active=False)
    assert status(annotator_client) == 302
    User.objects.filter(pk=annotator.pk).update(is_active=True)
    assert status(annotator_client) == 200


def test_a_role_taken_away_is_gone_with_the_next_request(
    annotator: User, annotator_client: Client
) -> None:
    User.objects.filter(pk=annotator.pk).update(role=User.Role.REVIEWER)
    assert status(annotator_client) == 403


def test_somebody_who_is_deleted_is_nobody(annotator: User, annotator_client: Client) -> None:
    annotator.delete()
    assert status(annotator_client) == 302


def test_session_and_person_take_one_statement_each(annotator_client: Client) -> None:
    status(annotator_client)
    with CaptureQueriesContext(connection) as captured:
        status(annotator_client)
    sent = [query["sql"] for query in captured.captured_queries]
    first = [sql.partition("(")[0] for sql in sent[:2]]
    assert first == ["EXECUTE concord_session", "EXECUTE concord_user"]
    asked_again = ('FROM "django_session"', 'FROM "annotation_user"', "concord_session")
    assert not [sql for sql in sent[2:] if any(words in sql for words in asked_again)]


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_was_lost_is_made_anew_before_the_page(annotator: User) -> None:
    client = signed_in(annotator)
    assert status(client) == 200
    _cut_the_connection()
    assert status(client) == 200


@pytest.mark.django_db(transaction=True)
def test_a_connection_lost_within_a_transaction_is_an_error(annotator: User) -> None:
    store = SessionStore()
    store["a"] = 1
    store.save()

    @transaction.atomic
    def read_after_a_cut() -> None:
        _cut_the_connection()
        SessionStore(store.session_key).load()

    with pytest.raises(OperationalError):
        read_after_a_cut()
    connection.close()
    assert SessionStore(store.session_key).load() == {"a": 1}


def _cut_the_connection() -> None:
    """Do to our connection what a restart of the server does."""
    connection.ensure_connection()
    database = connection.get_connection_params()
    other = psycopg2.connect(**{k: v for k, v in database.items() if k != "cursor_factory"})
    with other, other.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(%s, 5000)", [connection.connection.info.backend_pid]
        )
        assert cursor.fetchone() == (True,)
    other.close()
