"""Statements that each connection prepares once."""

import threading

import pytest
from django.db import DataError, connection, transaction
from django.test.utils import CaptureQueriesContext

from annotation.statements import Statement, contained


@pytest.mark.django_db
def test_values_go_by_name_and_the_statement_is_prepared_once() -> None:
    statement = Statement("test_sum", "SELECT %(a)s::int - %(b)s::int + 10 * %(a)s::int, 7 % 4")
    with CaptureQueriesContext(connection) as captured:
        assert statement.row({"a": 5, "b": 2}) == (53, 3)
        assert statement.rows({"b": 0, "a": 1}) == [(11, 3)]
    prepared = [query["sql"] for query in captured.captured_queries]
    assert [sql.split()[0] for sql in prepared] == ["PREPARE", "EXECUTE", "EXECUTE"]


@pytest.mark.django_db
def test_without_values_and_without_rows() -> None:
    assert Statement("test_one", "SELECT 1").row({}) == (1,)
    assert Statement("test_none", "SELECT 1 WHERE false").row({}) is None


@pytest.mark.django_db
def test_a_missing_value_is_named() -> None:
    with pytest.raises(KeyError, match="b"):
        Statement("test_missing", "SELECT %(a)s::int, %(b)s::int").rows({"a": 1})


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_transaction_and_a_new_connection_leave_it_usable() -> None:
    statement = Statement("test_again", "SELECT %(a)s::int")
    with transaction.atomic():
        assert statement.row({"a": 1}) == (1,)
        transaction.set_rollback(True)
    assert statement.row({"a": 2}) == (2,)
    connection.close()
    assert statement.row({"a": 3}) == (3,)
    found = []

    def ask() -> None:
        found.append(statement.row({"a": 4}))
        connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [(4,)]


NOTE = Statement(
    "test_note",
    "INSERT INTO django_session (session_key, session_data, expire_date)"
    " VALUES ('note', %(text)s, now()) RETURNING session_key",
)
NOTES = Statement("test_notes", "SELECT session_data FROM django_session WHERE 1 / %(by)s::int = 1")


@pytest.mark.django_db
def test_a_statement_sees_what_the_one_before_it_in_the_same_message_did() -> None:
    text = "it's 100%; EXECUTE"
    with CaptureQueriesContext(connection) as captured:
        assert NOTES.call({"by": 1}).rows(after=NOTE.call({"text": text})) == [(text,)]
    sent = [query["sql"] for query in captured.captured_queries]
    assert [sql.split()[0] for sql in sent] == ["PREPARE", "PREPARE", "EXECUTE"]


@pytest.mark.django_db(transaction=True)
def test_a_message_that_fails_leaves_nothing_of_it_and_the_connection_usable() -> None:
    for surrounding in (contained, transaction.atomic):
        with surrounding():
            with pytest.raises(DataError, match="division by zero"), contained():
                NOTES.call({"by": 0}).rows(after=NOTE.call({"text": "not kept"}))
            assert NOTES.rows({"by": 1}) == []
