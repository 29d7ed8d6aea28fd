"""Opening a home's keys: what a passphrase costs, and where that time goes.

Rules:
1. Before a key is in memory, this process's memory is closed to others where it lives long (``close_memory``).
2. Argon2id takes half a second and a quarter of a gigabyte, and needs no interpreter: a daemon that starts loads the
   rest of the program beside it (``unlock_beside``). A restart is a time in which neighbours wait.
"""

from __future__ import annotations

import ctypes
import resource
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from exchange.adapters.keyring import Keyring, unlock_secrets
from exchange.adapters.system import SystemClock
from exchange.core.errors import LocalError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from exchange.adapters.home import Home

PR_SET_DUMPABLE: Final = 4  # prctl(2)


def close_memory() -> None:
    """No core dump, and no look into this process by another one of the same user."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def unlock_home(home: Home, passphrase: bytes) -> Keyring:
    """The node's keys; costs most of a second. Raises ``LocalError`` input.passphrase, node.key."""
    try:
        data = home.keyring.read_bytes()
    except OSError:
        raise LocalError("node.key", "secrets/keyring.json") from None
    secrets = unlock_secrets(data, passphrase, "secrets/keyring.json")
    try:
        return Keyring(secrets, home.prekey_files(), SystemClock().random)
    except (KeyError, ValueError):
        raise LocalError("node.key", "secrets/keyring.json") from None


def unlock_beside(home: Home, passphrase: bytes) -> Future[Keyring]:
    """``unlock_home`` in a thread of its own; the result, or the error, when it is asked for.

    The caller holds the home's lock, so that the keys cannot change between this and the node's start.
    """
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="unlock")
    try:
        return pool.submit(unlock_home, home, passphrase)
    finally:
        pool.shutdown(wait=False)
