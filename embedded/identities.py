"""As whom a server runs: PostgreSQL refuses to run as root, and Redis need not either.

Each identity is a function that a child process calls between fork and exec.
"""

import ctypes
import os
import pwd
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from embedded.errors import ServiceError

Identity = Callable[[], None]
"""Turns the calling process into whoever the server runs as, or raises OSError."""

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWUSER = 0x10000000
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilitySet(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def as_myself() -> None:
    """Change nothing."""


def in_namespace(user: pwd.struct_passwd) -> Identity:
    """Return the identity of root behind the name of `user`.

    In a new user namespace the ids of `user` stand for root's outside. The server sees that it is
    not root, and root's privileges are gone, yet its files belong to root, so a data folder below
    a home that only root may enter works.
    """

    def enter() -> None:
        uid, gid = os.geteuid(), os.getegid()
        _check(_LIBC.unshare(_CLONE_NEWUSER))
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user.pw_uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{user.pw_gid} {gid} 1")

    return enter


def as_account(uid: int, gid: int) -> Identity:
    """Return the identity of an ordinary account that may still walk into closed folders.

    Of root's privileges it keeps only the one to pass file permissions (CAP_DAC_OVERRIDE): the
    account owns the data folder, and the folders above it need no change.
    """

    def enter() -> None:
        _check(_LIBC.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
        bit = 1 << _CAP_DAC_OVERRIDE
        sets = (_CapabilitySet * 2)(_CapabilitySet(bit, bit, bit), _CapabilitySet(0, 0, 0))
        _check(_LIBC.capset(ctypes.byref(header), sets))
        _check(_LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0))

    return enter


def as_plain_account(uid: int, gid: int) -> Identity:
    """Return the identity of an ordinary account without any privilege."""

    def enter() -> None:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)

    return enter


def identity_for(folder: Path, program: Path) -> Identity:
    """Return as whom `program` runs on `folder`, which comes to belong to that identity.

    An ordinary user stays who they are. For root, the owner of the folder decides; a folder of
    root's own is served from a user namespace, and where the system forbids those it is handed to
    an unprivileged account.

    Raises:
        ServiceError: No identity can both enter the folder and run the program.
    """
    if os.geteuid() != 0:
        return as_myself
    owner = folder.stat()
    if owner.st_uid != 0:
        return _first_that_works(
            _accounts(owner.st_uid, owner.st_gid), folder=folder, program=program
        )
    user = ordinary_user()
    namespaced = in_namespace(user)
    if works(namespaced, folder=folder, program=program):
        return namespaced
    _hand_over(folder, user.pw_uid, user.pw_gid)
    return _first_that_works(_accounts(user.pw_uid, user.pw_gid), folder=folder, program=program)


def ordinary_user() -> pwd.struct_passwd:
    """Return `nobody`, or the first account that is not root where there is no `nobody`.

    Raises:
        ServiceError: The system knows no account but root.
    """
    others = [entry for entry in pwd.getpwall() if entry.pw_uid != 0]
    if not others:
        raise ServiceError(
            "the servers do not run as root, and this system has no other account. "
            "Add one, or set DATABASE_URL and REDIS_URL."
        )
    return next((entry for entry in others if entry.pw_name == "nobody"), others[0])


def works(identity: Identity, *, folder: Path, program: Path) -> bool:
    """Try `identity` in a child: may it be assumed, may it enter `folder` and run `program`?"""

    def enter() -> None:
        identity()
        os.listdir(folder)  # noqa: PTH208 - between fork and exec the less machinery the better

    try:
        subprocess.run(
            [program, "--version"],
            preexec_fn=enter,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    except (subprocess.SubprocessError, OSError):
        return False
    return True


def _accounts(uid: int, gid: int) -> tuple[Identity, ...]:
    return (as_account(uid, gid), as_plain_account(uid, gid))


def _first_that_works(identities: Iterable[Identity], *, folder: Path, program: Path) -> Identity:
    for identity in identities:
        if works(identity, folder=folder, program=program):
            return identity
    raise ServiceError(
        f"the servers do not run as root, and no other account can use {folder} and {program}: "
        "user namespaces are forbidden here. Work as an ordinary user, put the clone (and "
        "CONCORD_HOME) where other accounts may enter, or set DATABASE_URL and REDIS_URL."
    )


def _hand_over(folder: Path, uid: int, gid: int) -> None:
    for path, names, files in os.walk(folder):
        os.chown(path, uid, gid)
        for name in (*names, *files):
            os.chown(Path(path, name), uid, gid, follow_symlinks=False)


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
