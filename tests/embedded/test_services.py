"""PostgreSQL and Redis of a clone's own: started, shared, stopped, and found again after a kill."""

import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest
import redis

from embedded.errors import ServiceError
from embedded.services import Services, ensure_services
from tests.embedded.processes import PROJECT, Holder, kill, processes_of, servers_of, wait_for


@contextmanager
def database(url: str) -> Iterator[psycopg2.extensions.cursor]:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


def write(services: Services | Holder, text: str) -> None:
    with database(services.database_url) as cursor:
        cursor.execute("CREATE TABLE note (text text)")
        cursor.execute("INSERT INTO note VALUES (%s)", [text])
    with closing(redis.Redis.from_url(services.redis_url)) as connection:
        connection.set("note", text)


def read(services: Services | Holder) -> tuple[str, str]:
    with database(services.database_url) as cursor:
        cursor.execute("SELECT text FROM note")
        row = cursor.fetchone()
    with closing(redis.Redis.from_url(services.redis_url)) as connection:
        value = connection.get("note")
    assert row is not None
    assert isinstance(value, bytes)
    return row[0], value.decode()


def test_data_outlives_the_servers(home: Path) -> None:
    with ensure_services(home) as services:
        write(services, "kept")
    with ensure_services(home) as services:
        assert read(services) == ("kept", "kept")


def test_nothing_runs_once_the_last_user_has_left(home: Path) -> None:
    with ensure_services(home):
        assert set(servers_of(home)) == {"keeper", "postgres", "redis"}
    assert processes_of(home) == {}


def test_a_second_user_shares_the_running_pair(home: Path, holder: Holder) -> None:
    before = servers_of(home)
    with ensure_services(home) as services:
        assert services.database_url == holder.database_url
        assert services.redis_url == holder.redis_url
        assert servers_of(home) == before


def test_the_pair_stays_until_the_last_user_leaves_whoever_started_it(
    home: Path, holder: Holder
) -> None:
    with ensure_services(home) as services:
        write(services, "still here")
        holder.leave()
        assert read(services) == ("still here", "still here")
    assert processes_of(home) == {}


def test_users_who_come_at_the_same_moment_get_one_pair(empty_home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from embedded.services import ensure_services\n"
        "with ensure_services(Path(sys.argv[1])) as services:\n"
        "    print(services.database_url, services.redis_url, flush=True); sys.stdin.read()"
    )
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(empty_home)],
            cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for _ in range(4)
    ]  # fmt: skip
    answers = {process.stdout.readline() for process in crowd if process.stdout}
    for process in crowd:
        process.communicate()
    assert len(answers) == 1
    assert [process.returncode for process in crowd] == [0, 0, 0, 0]
    assert processes_of(empty_home) == {}


def test_a_killed_user_leaves_no_process_and_no_damage(home: Path) -> None:
    with Holder.start(home) as holder:
        write(holder, "kept")
        holder.kill()
        wait_for(lambda: not processes_of(home), "the services stopped by themselves")
    with ensure_services(home) as services:
        assert read(services) == ("kept", "kept")


def test_a_killed_keeper_takes_its_servers_with_it_and_the_next_start_works(home: Path) -> None:
    with Holder.start(home) as holder:
        write(holder, "kept")
        kill(servers_of(home)["keeper"])
        with ensure_services(home) as services:  # at once: the old servers may still be stopping
            assert read(services) == ("kept", "kept")
        assert processes_of(home).keys() == {holder.process.pid}


def test_a_killed_server_is_started_again_at_the_same_address(home: Path) -> None:
    with ensure_services(home) as services:
        write(services, "kept")
        before = servers_of(home)
        kill(before["postgres"])
        kill(before["redis"])
        wait_for(
            lambda: (
                servers_of(home).keys() == before.keys()
                and not set(servers_of(home).values()) & {before["postgres"], before["redis"]}
            ),
            "both servers run again",
        )
        wait_for(lambda: _answers(services), "both servers answer again")
        assert read(services) == ("kept", "kept")


def _answers(services: Services) -> bool:
    try:
        read(services)
    except (psycopg2.OperationalError, redis.ConnectionError):
        return False
    return True


def test_killing_everything_at_once_loses_nothing(home: Path) -> None:
    with Holder.start(home) as holder:
        write(holder, "kept")
        for pid in processes_of(home):
            kill(pid)
    with ensure_services(home) as services:
        assert read(services)[0] == "kept"  # Redis may lose its last second, PostgreSQL nothing


def test_a_pid_file_that_names_a_stranger_does_not_stop_the_start(home: Path) -> None:
    with ensure_services(home):
        pass
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        pid_file = home / "services" / "postgres" / "data" / "postmaster.pid"
        pid_file.write_text(f"{stranger.pid}\n{pid_file.parent}\n0\n5432\n\n\n\nready\n")
        with ensure_services(home) as services, database(services.database_url) as cursor:
            cursor.execute("SELECT 1")
    finally:
        stranger.kill()
        stranger.wait()


def test_a_shell_that_stands_in_the_data_folder_is_left_alone(home: Path) -> None:
    with subprocess.Popen(["sleep", "60"], cwd=home / "services" / "postgres" / "data") as shell:
        with ensure_services(home):
            assert shell.poll() is None
        shell.kill()


def test_a_half_made_cluster_is_made_afresh(empty_home: Path) -> None:
    half = empty_home / "services" / "postgres.new" / "data"
    half.mkdir(parents=True)
    (empty_home / "services").chmod(0o700)
    (half / "PG_VERSION").write_text("18\n")
    with ensure_services(empty_home) as services:
        write(services, "made")
    assert not half.exists()


def test_a_port_that_was_taken_meanwhile_is_replaced(home: Path) -> None:
    with ensure_services(home) as first:
        write(first, "kept")
    port = urlsplit(first.database_url).port
    with socket.create_server(("127.0.0.1", port or 0)), ensure_services(home) as second:
        assert urlsplit(second.database_url).port != port
        assert read(second) == ("kept", "kept")


def test_the_address_stays_the_same_from_start_to_start(home: Path) -> None:
    with ensure_services(home) as first:
        pass
    with ensure_services(home) as second:
        assert (first.database_url, first.redis_url) == (second.database_url, second.redis_url)


def test_two_data_folders_side_by_side_have_nothing_in_common(tmp_path: Path) -> None:
    with ensure_services(tmp_path / "a") as a, ensure_services(tmp_path / "b") as b:
        write(a, "a")
        write(b, "b")
        assert read(a) == ("a", "a")
        assert read(b) == ("b", "b")


def test_a_folder_with_spaces_deeper_than_a_socket_path_may_be_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d " * 50) / ("é" * 50)
    with ensure_services(deep) as services:
        write(services, "deep")
        assert read(services) == ("deep", "deep")


def test_postgresql_wants_the_password(holder: Holder) -> None:
    parts = urlsplit(holder.database_url)
    for password in ("", "guessed"):
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(
                host=parts.hostname, port=parts.port, user="concord", password=password,
                dbname="concord",
            )  # fmt: skip


def test_redis_wants_the_password(holder: Holder) -> None:
    address = ("127.0.0.1", urlsplit(holder.redis_url).port)
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(1024).startswith(b"-NOAUTH")
        connection.sendall(b"AUTH guessed\r\n")
        assert connection.recv(1024).startswith(b"-WRONGPASS")


def test_passwords_are_in_no_command_line(home: Path, holder: Holder) -> None:
    passwords = {urlsplit(url).password for url in (holder.database_url, holder.redis_url)}
    lines = processes_of(home).values()
    assert not [line for line in lines for password in passwords if password and password in line]


def test_only_the_owner_may_enter_and_folders_above_keep_their_permissions(tmp_path: Path) -> None:
    above = tmp_path / "above"
    above.mkdir(mode=0o711)
    above.chmod(0o711)
    with ensure_services(above / "home"):
        pass
    services = above / "home" / "services"
    assert stat.S_IMODE(services.stat().st_mode) == 0o700
    assert stat.S_IMODE((services / "postgres" / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE(above.stat().st_mode) == 0o711


def test_services_named_in_the_environment_are_used_and_nothing_is_started(
    empty_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://someone@elsewhere/name")
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere")
    with ensure_services(empty_home) as services:
        assert services.environment() == {
            "DATABASE_URL": "postgres://someone@elsewhere/name",
            "REDIS_URL": "redis://elsewhere",
        }
    assert not empty_home.exists()


@pytest.mark.parametrize(
    ("variable", "url", "started"),
    [
        ("DATABASE_URL", "postgres://someone@elsewhere/name", {"keeper", "redis"}),
        ("REDIS_URL", "redis://elsewhere", {"keeper", "postgres"}),
    ],
)
def test_each_service_is_taken_from_the_environment_by_itself(
    home: Path, monkeypatch: pytest.MonkeyPatch, variable: str, url: str, started: set[str]
) -> None:
    monkeypatch.setenv(variable, url)
    with ensure_services(home) as services:
        assert services.environment()[variable] == url
        assert servers_of(home).keys() == started


def test_a_second_user_may_need_more_than_the_first(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", "postgres://someone@elsewhere/name")
        first = ensure_services(home)
        first.__enter__()
    try:
        with ensure_services(home) as services:
            write(services, "both")
            assert read(services) == ("both", "both")
    finally:
        first.__exit__(None, None, None)
    assert processes_of(home) == {}


def test_a_data_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ServiceError, match="CONCORD_HOME"), ensure_services(tmp_path / "file"):
        pass


def test_a_server_that_cannot_start_says_why(home: Path) -> None:
    with ensure_services(home):
        pass
    (home / "services" / "postgres" / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(ServiceError, match="incompatible with server"), ensure_services(home):
        pass
    assert processes_of(home) == {}


def test_names_sort_and_fold_beyond_ascii_whatever_the_system_locale(home: Path) -> None:
    with ensure_services(home) as services, database(services.database_url) as cursor:
        cursor.execute("SELECT lower('ÄÖ'), 'ä' ILIKE 'Ä'")
        assert cursor.fetchone() == ("äö", True)


def test_the_temporary_folder_of_the_system_is_not_used(home: Path) -> None:
    def left_behind() -> set[str]:
        return {path.name for path in Path(tempfile.gettempdir()).glob(".s.PGSQL*")}

    before = left_behind()
    with ensure_services(home):
        assert left_behind() == before
