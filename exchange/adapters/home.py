"""A node's home: one folder that holds all of one node, and lets one process in.

    config.toml          what the operator decides (adapters.config)
    card.json            the node's own card, once its authority has signed it
    node.db              the records (adapters.sqlite)
    secrets/keyring.json secret keys under the passphrase (adapters.keyring)
    secrets/tls.key      the TLS key, encrypted; tls.crt beside config.toml is its certificate
    prekeys/<id>         secrets of prekeys, one file each, never in a backup (docs/protocol.md section 12)
    blobs/               evidence, as ciphertext (adapters.blobs)
    control.sock, lock   the running node's socket; the lock that it holds

Rules:
1. Only its owner can enter the home. One that others can enter is not opened: the keys may be known already.
2. A file appears whole or not at all: written beside its place, synced, renamed, and the folder synced.
3. ``config.toml`` is written last when a home is made: a folder without one is no home.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Self

from exchange.core.errors import LocalError
from exchange.core.wire import HEX_256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_SOCKET_PATH: Final = 107  # sun_path of unix(7) has 108 bytes, the last one zero
_FOLDERS: Final = ("secrets", "prekeys", "blobs")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


# -- files -----------------------------------------------------------------------------------------


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on stable storage. Raises ``OSError``."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes) -> None:
    """Write a file, readable by its owner alone; on return it is on stable storage. Raises ``LocalError`` node.disk.

    The file that had the name before stays until the new one is whole.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(draft, "xb", opener=_private) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise LocalError("node.disk", _reason(path.name, error)) from None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _reason(name: str, error: OSError) -> str:
    return f"{name}: {errno.errorcode.get(error.errno or 0, 'error')}"


class PrekeyFolder:
    """Secrets of prekeys: one file each, named by the prekey's id (``keyring.PrekeyFiles``)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, name: str) -> Path:
        if not HEX_256.fullmatch(name):
            message = "a prekey's file is named by its id"
            raise ValueError(message)
        return self._folder / name

    def save(self, name: str, data: bytes) -> None:
        """Write, sync, and only then return. Raises ``LocalError`` node.disk."""
        write_file(self._path(name), data)

    def load(self, name: str) -> bytes | None:
        """The bytes, or None where there are none. Raises ``LocalError`` node.key where they cannot be read."""
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LocalError("node.key", _reason("prekeys", error)) from None

    def destroy(self, name: str) -> None:
        """Overwrite, sync, remove, sync; on return no file of that name exists. Raises ``LocalError`` node.disk.

        Where a crash comes between, the file holds noise, which opens nothing, and is destroyed again.
        """
        path = self._path(name)
        try:
            with path.open("r+b") as file:
                file.write(secrets.token_bytes(os.fstat(file.fileno()).st_size))
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
            sync_folder(self._folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise LocalError("node.disk", _reason("prekeys", error)) from None


# -- the home --------------------------------------------------------------------------------------


class HomeLock:
    """The right to change a home; given back by ``release``, by leaving a ``with`` block, or by the process's end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let the next process in. The file stays: removing it would let two processes lock two files."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Home:
    """The places in one node's folder. Made by ``Home.create`` or, with all checks, by ``Home.open``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.card = path / "card.json"
        self.database = path / "node.db"
        self.keyring = path / "secrets" / "keyring.json"
        self.tls_key = path / "secrets" / "tls.key"
        self.tls_cert = path / "tls.crt"
        self.prekeys = path / "prekeys"
        self.blobs = path / "blobs"
        self.socket = path / "control.sock"
        self.lock_file = path / "lock"

    @classmethod
    def create(cls, path: Path) -> Home:
        """Make the folders of a new home. Raises ``LocalError`` input.exists, input.not_found, node.disk.

        An empty folder is taken; one that holds anything is not touched. Write ``config`` last.
        """
        try:
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise LocalError("input.exists", path.name)
            path.mkdir(mode=0o700, exist_ok=True)
            path.chmod(0o700)
            for name in _FOLDERS:
                (path / name).mkdir(mode=0o700)
            sync_folder(path)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            raise LocalError("input.not_found", "the folder above the home") from None
        except OSError as error:
            raise LocalError("node.disk", _reason(path.name, error)) from None
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Home:
        """The home in a folder. Raises ``LocalError`` node.no_home; node.config where others can enter it."""
        home = cls(path)
        try:
            if not home.config.is_file():
                raise LocalError("node.no_home", path.name)
            home._check_private()
        except OSError as error:
            raise LocalError("node.no_home", _reason(path.name, error)) from None
        return home

    def _check_private(self) -> None:
        """Refuse a home that others own or can enter, and secrets that others can read.

        Files without secrets are left alone: nobody passes the home's own folder to reach them.
        """
        for place in (self.path, *(self.path / name for name in _FOLDERS), self.keyring, self.tls_key):
            if not place.exists():
                continue
            status = place.stat()
            name = "home" if place == self.path else place.relative_to(self.path).as_posix()
            if status.st_uid != os.geteuid():
                raise LocalError("node.config", f"{name}: owned by another user; chown it, or run as its owner")
            if status.st_mode & _OTHERS:
                right = "700" if stat.S_ISDIR(status.st_mode) else "600"
                raise LocalError("node.config", f"{name}: others have access; chmod {right}")

    def lock(self) -> HomeLock:
        """Take the home for this process, or raise ``LocalError`` node.locked at once."""
        try:
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise LocalError("node.disk", _reason("lock", error)) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise LocalError("node.locked", "lock") from None
        return HomeLock(descriptor)

    @contextmanager
    def socket_address(self) -> Iterator[str]:
        """A name of the control socket that fits unix(7), valid inside the ``with`` block.

        A home may lie deeper than the 107 bytes of a socket's name; then the name goes through an open folder.
        """
        if len(os.fsencode(self.socket)) <= MAX_SOCKET_PATH:
            yield str(self.socket)
            return
        try:
            folder = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise LocalError("node.no_home", _reason(self.path.name, error)) from None
        try:
            yield f"/proc/self/fd/{folder}/{self.socket.name}"
        finally:
            os.close(folder)

    def prekey_files(self) -> PrekeyFolder:
        """Where the key holder keeps prekey secrets."""
        return PrekeyFolder(self.prekeys)
