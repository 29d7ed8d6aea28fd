"""Run a program under the filters that deploy/exchange.service asks systemd for, without systemd.

``python tests/deploy/confine.py UNIT PROGRAM [ARGUMENT …]``. Three of the unit's settings can break a program that a
later version of a library makes do something new: SystemCallFilter, MemoryDenyWriteExecute, RestrictAddressFamilies.
They are put in force here as systemd does it (systemd.exec(5)), by seccomp filters that stay over execve(2).

What it does not do: mounts, users and capabilities, for which one must be root and systemd.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
import re
import socket
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

ALLOW: Final = 0x7FFF0000  # seccomp.h: SCMP_ACT_ALLOW
DENY: Final = 0x00050000  # SCMP_ACT_ERRNO, with the error in its lower half
EQUAL: Final = 4  # SCMP_CMP_EQ
MASKED: Final = 7  # SCMP_CMP_MASKED_EQ
UNKNOWN: Final = -1  # __NR_SCMP_ERROR
WRITE, EXEC, SHM_EXEC = 2, 4, 0o100000
LAST_FAMILY: Final = 64  # above every address family of Linux


class Comparison(ctypes.Structure):
    """``struct scmp_arg_cmp``: an argument of a system call, how it is compared, with what."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def settings_of(unit: Path) -> list[tuple[str, str]]:
    """Return the lines ``name=value`` of a unit file, in order."""
    lines = unit.read_text(encoding="utf-8").splitlines()
    return [(line.partition("=")[0], line.partition("=")[2]) for line in lines if re.match(r"[A-Za-z]+=", line)]


def values_of(unit: Path, name: str) -> list[str]:
    """Return every value of one setting."""
    return [value for key, value in settings_of(unit) if key == name]


@lru_cache(maxsize=1)
def library() -> Any:  # noqa: ANN401 - ctypes
    """libseccomp, which systemd itself brings; None where it is absent."""
    name = ctypes.util.find_library("seccomp")
    if name is None:
        return None
    found = ctypes.CDLL(name, use_errno=True)
    found.seccomp_init.restype = ctypes.c_void_p
    found.seccomp_init.argtypes = [ctypes.c_uint32]
    found.seccomp_load.argtypes = [ctypes.c_void_p]
    found.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    found.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(Comparison),
    ]
    return found


@lru_cache(maxsize=64)
def calls_of(name: str) -> frozenset[str]:
    """Return the system calls of a set such as @system-service, as systemd names them."""
    if not name.startswith("@"):
        return frozenset({name})
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", name],  # noqa: S607 - as on the administrator's path
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()[1:]
    inner = [line.strip() for line in listed if line.strip() and not line.strip().startswith("#")]
    return frozenset[str]().union(*(calls_of(item) for item in inner))


class Filter:
    """One seccomp filter: what happens to a call that no rule names, and rules for others."""

    def __init__(self, otherwise: int) -> None:
        self._context = library().seccomp_init(otherwise)

    def add(self, action: int, call: str, *conditions: Comparison) -> None:
        """Add a rule; a call that this processor does not have is left out, as systemd does."""
        number = library().seccomp_syscall_resolve_name(call.encode())
        if number == UNKNOWN:
            return
        array = (Comparison * len(conditions))(*conditions)
        done = library().seccomp_rule_add_array(self._context, action, number, len(conditions), array)
        if done not in {0, -errno.EDOM}:  # a call of another processor family
            raise OSError(-done, call)

    def load(self) -> None:
        """Put it in force for this process and whatever it becomes."""
        done = library().seccomp_load(self._context)
        if done != 0:
            raise OSError(-done, "seccomp_load")


def deny_code() -> Filter:
    """MemoryDenyWriteExecute=yes."""
    made = Filter(ALLOW)
    refused = DENY | errno.EPERM
    made.add(refused, "mmap", Comparison(2, MASKED, WRITE | EXEC, WRITE | EXEC))
    made.add(refused, "mprotect", Comparison(2, MASKED, EXEC, EXEC))
    made.add(refused, "pkey_mprotect", Comparison(2, MASKED, EXEC, EXEC))
    made.add(refused, "shmat", Comparison(2, MASKED, SHM_EXEC, SHM_EXEC))
    return made


def deny_families(allowed: set[int]) -> Filter:
    """RestrictAddressFamilies= a list of those allowed."""
    made = Filter(ALLOW)
    for family in sorted(set(range(LAST_FAMILY)) - allowed):
        made.add(DENY | errno.EAFNOSUPPORT, "socket", Comparison(0, EQUAL, family, 0))
    return made


def allow_calls(values: list[str]) -> Filter:
    """SystemCallFilter=, where the first value allows and those with ~ take away."""
    calls: set[str] = set()
    for value in values:
        named = frozenset[str]().union(*(calls_of(name) for name in value.removeprefix("~").split()))
        calls = calls - named if value.startswith("~") else calls | named
    made = Filter(DENY | errno.EPERM)
    for call in sorted(calls):
        made.add(ALLOW, call)
    return made


def confine(unit: Path) -> None:
    """Put the unit's filters in force for this process."""
    filters = [deny_families({getattr(socket, name) for name in values_of(unit, "RestrictAddressFamilies")[0].split()})]
    if values_of(unit, "MemoryDenyWriteExecute") == ["yes"]:
        filters.append(deny_code())
    # The list of allowed calls last: after it no filter can be loaded.
    filters.append(allow_calls(values_of(unit, "SystemCallFilter")))
    for item in filters:
        item.load()


if __name__ == "__main__":
    confine(Path(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - what this program is for
