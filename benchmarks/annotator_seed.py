"""Fills a database with judged comparisons whose further judgements wait: rows by the million.

Rows are made inside PostgreSQL (`INSERT ... SELECT generate_series`) with triggers off, so that a
million comparisons (six million rows) take minutes; every other constraint and index is in force.
"""

import os
import re
import uuid
from pathlib import Path
from typing import Any, NamedTuple

NUM_AUTHORS = 50

_STATEMENTS = (
    """
    INSERT INTO annotation_dialogue
        (id, uuid, round_id, annotator_id, client_key, state, num_turns, is_passed_on,
         system_prompt, opening, created_at, finished_at)
    SELECT i, gen_random_uuid(), %(round)s, (%(authors)s::bigint[])[1 + i %% %(num_authors)s],
        gen_random_uuid(), 'finished', 1, false, '', '[]', now(), now()
    FROM generate_series(%(first)s, %(last)s) AS i
    """,
    """
    INSERT INTO annotation_comparison
        (id, dialogue_id, round_id, turn, prompt_text, risk_category, attack_vector, client_key,
         state, seed, sampling_attempts, sampled_by, holds_slot, lease_expires_at, num_slots,
         is_flagged, flag_note, skip_reason, skip_note, error, created_at, ready_at, is_ahead,
         discard_reason)
    SELECT i, i, %(round)s, 0, 'What is ' || i || ' plus ' || i || '? Explain it step by step.',
        '', '', gen_random_uuid(), 'judged', i, 1, 'benchmark', true, now(), 2,
        false, '', '', '', '', now(), now(), false, ''
    FROM generate_series(%(first)s, %(last)s) AS i
    """,
    """
    INSERT INTO annotation_sample
        (id, comparison_id, side, text, html, renderer, policy_id, temperature, top_p, seed,
         num_tokens, is_finished, created_at)
    SELECT 2 * i + s, i, CASE s WHEN 0 THEN 'left' ELSE 'right' END,
        %(text)s || (2 * i + s) || '.', replace(%(html)s, %(mark)s, (2 * i + s)::text),
        %(renderer)s, %(policy)s, 0.7 + 0.2 * s, 1.0, i, 60, true, now()
    FROM generate_series(%(first)s, %(last)s) AS i, generate_series(0, 1) AS s
    """,
    """
    INSERT INTO annotation_judgement
        (id, uuid, comparison_id, slot, kind, annotator_id, chosen_sample_id, displayed_side, axis,
         rating, safety_bin, guidelines_id, client_key, active_seconds, neither_reasons,
         neither_note, created_at)
    SELECT i, gen_random_uuid(), i, 0, 'author',
        (%(authors)s::bigint[])[1 + i %% %(num_authors)s], 2 * i, 'left', 'helpfulness', 'better',
        '', %(guidelines)s, gen_random_uuid(), 20.0, '[]', '', now()
    FROM generate_series(%(first)s, %(last)s) AS i
    """,
    """
    INSERT INTO annotation_slot
        (id, comparison_id, round_id, number, kind, author_id, state, offered_at)
    SELECT i, i, %(round)s, 1, 'overlap', (%(authors)s::bigint[])[1 + i %% %(num_authors)s], 'free',
        now() + i * interval '1 microsecond'
    FROM generate_series(%(first)s, %(last)s) AS i
    """,
    """
    UPDATE annotation_round SET num_reserved = %(last)s, num_judged = %(last)s,
        num_further = %(last)s
    WHERE id = %(round)s
    """,
)
_TABLES = ("dialogue", "comparison", "sample", "judgement", "slot", "draft")

TEXT = """First write the two numbers below each other, so that **units stand below units**.

1. Add the units, and carry what goes beyond nine.
2. Add the tens with what was carried.
3. Go on to the left until nothing is left to add.

So adding a number to itself is the same as doubling it, and the answer is """
"""Markdown of a usual response; a number follows, so that no two are equal."""
_MARK = 987_654_321
"""Stands for the number while the text is rendered: a number is rendered as it is."""


class Seed(NamedTuple):
    """What the rows refer to."""

    round_id: int
    guidelines_id: int
    policy_id: int
    author_ids: list[int]
    reader_names: list[str]


def begin(num_readers: int) -> Seed:
    """Migrate the database of `DATABASE_URL` and make people, a policy and an open round."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    from annotation import services
    from annotation.services import NewUser, NewVariant, Overlap
    from records.preferences import Axis
    from registry.models import Artifact
    from registry.services import publish_artifact, register_policy

    lead = services.create_user(username="lead", role="lead")
    authors = services.create_users(users=[NewUser(f"author-{i}") for i in range(NUM_AUTHORS)])
    readers = services.create_users(users=[NewUser(f"reader-{i}") for i in range(num_readers)])
    artifact = publish_artifact(path=Path(__file__), kind=Artifact.Kind.POLICY)
    policy = register_policy(name="benchmark", artifact=artifact)
    guidelines = services.publish_guidelines(
        axis=Axis.HELPFULNESS, version="1", text="Choose the better one.", created_by=lead
    )
    round_ = services.open_round(
        name="benchmark",
        axis=Axis.HELPFULNESS,
        guidelines=guidelines,
        variants=[NewVariant(policy)],
        target_comparisons=10_000_000,
        max_turns=1,
        opened_by=lead,
        overlap=Overlap(overlap_share=1.0, judgements_per_comparison=2),
    )
    return Seed(
        round_.pk,
        guidelines.pk,
        policy.pk,
        [author.pk for author in authors],
        [reader.username for reader in readers],
    )


def fill(seed: Seed, *, first: int, last: int) -> None:
    """Add comparisons `first` to `last`, judged by their authors, with one slot free each."""
    from django.db import connection

    from annotation.rendering import rendered

    rendering = rendered(f"{TEXT}{_MARK}.")
    values: dict[str, Any] = {
        "round": seed.round_id,
        "guidelines": seed.guidelines_id,
        "policy": seed.policy_id,
        "authors": seed.author_ids,
        "num_authors": len(seed.author_ids),
        "text": TEXT,
        "mark": str(_MARK),
        **rendering,
        "first": first,
        "last": last,
    }
    with connection.cursor() as cursor:
        # Foreign keys are triggers; the rows refer to each other by construction.
        cursor.execute("SET session_replication_role = replica")
        for statement in _STATEMENTS:
            cursor.execute(statement, values)
        cursor.execute("SET session_replication_role = origin")
        for table in _TABLES:
            name = f"annotation_{table}"
            cursor.execute(
                f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), GREATEST(1, max(id)))"  # noqa: S608
                f" FROM {name}"
            )
        cursor.execute("VACUUM ANALYZE")


def sessions(seed: Seed) -> list[str]:
    """Return the session cookie of each reader: signing in is not what is measured."""
    from django.test import Client

    from annotation.models import User

    cookies = []
    for name in seed.reader_names:
        client = Client()
        client.force_login(User.objects.get(username=name))
        cookies.append(client.cookies["sessionid"].value)
    return cookies


class Reader:
    """An annotator in this process, without a web server: judges pair after pair."""

    def __init__(self, session: str) -> None:
        from django.test import Client

        self._client = Client(SERVER_NAME="localhost")
        self._client.cookies["sessionid"] = session
        address = self._client.post("/annotate/next/").headers["Location"]
        self._page = self._client.get(address).content.decode()

    def judge(self) -> None:
        """Submit a judgement of the pair on the page; the next one takes its place."""
        choice = re.findall(r'name="choice" value="([^"]+)"', self._page)[0]
        address = re.findall(r'hx-post="([^"]+/judge/)"', self._page)[0]
        fields = {"choice": choice, "client_key": str(uuid.uuid4()), "active_seconds": "20"}
        response = self._client.post(address, fields, headers={"HX-Request": "true"})
        assert response.status_code == 200, f"the judgement answered {response.status_code}"
        self._page = response.content.decode()


def queries_per_loop(session: str) -> int:
    """Return the SQL statements of one loop, session and person included, transactions not."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    reader = Reader(session)
    reader.judge()  # warms up
    with CaptureQueriesContext(connection) as captured:
        reader.judge()
    transactions = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")
    sent = [q["sql"] for q in captured.captured_queries]
    # Two statements may travel in one message.
    return sum(max(1, sql.count("EXECUTE ")) for sql in sent if not sql.startswith(transactions))
