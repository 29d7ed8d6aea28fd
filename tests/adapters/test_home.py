"""``exchange.adapters.home``: one folder, one process, files that are whole."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from exchange.adapters.home import MAX_SOCKET_PATH, Home, PrekeyFolder, write_file
from exchange.core.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ID: Final = "ab" * 32


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def make(folder: Path) -> Home:
    home = Home.create(folder)
    write_file(home.config, b"[node]\n")
    return home


def refusal(work: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(LocalError) as caught:
        work()
    return caught.value.code, caught.value.where


# -- making and opening


def test_a_new_home_is_private(tmp_path: Path) -> None:
    """A new home and its folders can be entered by their owner alone, whatever the process's mask."""
    before = os.umask(0)
    try:
        home = make(tmp_path / "kh")
    finally:
        os.umask(before)
    assert [mode(path) for path in (home.path, home.prekeys, home.blobs, home.path / "secrets")] == [0o700] * 4
    assert mode(home.config) == 0o600
    assert Home.open(home.path).database == home.path / "node.db"


def test_an_empty_folder_becomes_a_home(tmp_path: Path) -> None:
    """An empty folder that others could enter becomes a private home."""
    folder = tmp_path / "kh"
    folder.mkdir(mode=0o755)
    assert mode(make(folder).path) == 0o700


def test_a_folder_in_use_is_not_taken(tmp_path: Path) -> None:
    """A folder that holds anything, or a file of that name, is left as it is."""
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("")
    assert refusal(lambda: Home.create(tmp_path / "used")) == ("input.exists", "used")
    assert refusal(lambda: Home.create(tmp_path / "file")) == ("input.exists", "file")
    assert names(tmp_path / "used") == ["letter.txt"]


def test_a_home_needs_a_place(tmp_path: Path) -> None:
    """A home is not made where the folder above it does not exist."""
    assert refusal(lambda: Home.create(tmp_path / "no" / "kh"))[0] == "input.not_found"


def test_a_failing_disk_is_told(tmp_path: Path) -> None:
    """A home that the file system refuses to make is told as trouble of the disk."""
    assert refusal(lambda: Home.create(tmp_path / ("k" * 300))) == ("node.disk", f"{'k' * 300}: ENAMETOOLONG")


def test_a_folder_without_configuration_is_no_home(tmp_path: Path) -> None:
    """A folder without config.toml, a half-made home among them, is not opened."""
    Home.create(tmp_path / "kh")
    assert refusal(lambda: Home.open(tmp_path / "kh")) == ("node.no_home", "kh")
    assert refusal(lambda: Home.open(tmp_path / "nowhere")) == ("node.no_home", "nowhere")
    assert refusal(lambda: Home.open(tmp_path / ("k" * 300)))[0] == "node.no_home"


@pytest.mark.parametrize(
    ("name", "right", "told"),
    [
        (".", 0o750, "home: others have access; chmod 700"),
        (".", 0o701, "home: others have access; chmod 700"),
        ("secrets", 0o755, "secrets: others have access; chmod 700"),
        ("prekeys", 0o770, "prekeys: others have access; chmod 700"),
        ("secrets/keyring.json", 0o640, "secrets/keyring.json: others have access; chmod 600"),
        ("secrets/tls.key", 0o604, "secrets/tls.key: others have access; chmod 600"),
    ],
)
def test_a_home_open_to_others_is_refused(tmp_path: Path, name: str, right: int, told: str) -> None:
    """A home that others can enter, or whose secrets they can read, is refused with what to do about it."""
    home = make(tmp_path / "kh")
    write_file(home.keyring, b"{}")
    write_file(home.tls_key, b"")
    Home.open(home.path)
    (home.path / name).chmod(right)
    assert refusal(lambda: Home.open(home.path)) == ("node.config", told)


def test_a_home_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that another user owns is refused."""
    home = make(tmp_path / "kh")
    monkeypatch.setattr(os, "geteuid", lambda: 54_321)
    code, where = refusal(lambda: Home.open(home.path))
    assert (code, where.partition(";")[0]) == ("node.config", "home: owned by another user")


# -- the lock

HOLDER: Final = """
import sys
from pathlib import Path
from exchange.adapters.home import Home
with Home(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_one_process_holds_a_home(tmp_path: Path) -> None:
    """A second process, and a second holder in one process, are refused until the first has let go."""
    home = make(tmp_path / "kh")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert refusal(home.lock) == ("node.locked", "lock")
        other.communicate()
    lock = home.lock()
    assert refusal(home.lock) == ("node.locked", "lock")
    lock.release()
    lock.release()
    home.lock().release()


@pytest.mark.slow
def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    """The lock of a process that was killed is free at once."""
    home = make(tmp_path / "kh")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        other.kill()
        other.wait()
    home.lock().release()


def test_a_home_that_is_gone_cannot_be_locked(tmp_path: Path) -> None:
    """Locking a folder that does not exist is told as trouble of the disk."""
    assert refusal(Home(tmp_path / "gone").lock) == ("node.disk", "lock: ENOENT")


# -- files


def test_a_file_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is replaced by one rename after its sync; where that fails, the old one stays and no draft is left."""
    path = tmp_path / "card.json"
    write_file(path, b"old")
    path.chmod(0o644)
    write_file(path, b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", 0o600)

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    assert refusal(lambda: write_file(path, b"newer")) == ("node.disk", "card.json: EIO")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["card.json"]


def test_file_and_name_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced before it gets its name, and the folder after."""
    seen: list[tuple[str, bool]] = []
    real = os.fsync

    def record(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        seen.append((kind, (tmp_path / "card.json").exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    write_file(tmp_path / "card.json", b"{}")
    assert seen == [("file", False), ("folder", True)]


# -- prekey secrets


def test_a_prekey_secret_lives_and_dies(tmp_path: Path) -> None:
    """A prekey's secret is there after it was saved, and after it was destroyed it is not; twice is no harm."""
    home = make(tmp_path / "kh")
    files = home.prekey_files()
    assert files.load(ID) is None
    files.save(ID, b"secret")
    assert PrekeyFolder(home.prekeys).load(ID) == b"secret"
    assert mode(home.prekeys / ID) == 0o600
    files.destroy(ID)
    files.destroy(ID)
    assert files.load(ID) is None
    assert names(home.prekeys) == []


def test_a_destroyed_secret_is_overwritten_first(tmp_path: Path) -> None:
    """Before the file of a secret is removed, its bytes on the disk are no longer the secret."""
    files = PrekeyFolder(tmp_path)
    files.save(ID, b"s" * 72)
    os.link(tmp_path / ID, tmp_path / "witness")
    files.destroy(ID)
    left = (tmp_path / "witness").read_bytes()
    assert len(left) == 72
    assert b"ss" not in left


def test_a_secret_that_cannot_be_read_or_destroyed_is_told(tmp_path: Path) -> None:
    """What stands in the place of a secret and is no file is told, not taken for absence."""
    (tmp_path / ID).mkdir()
    files = PrekeyFolder(tmp_path)
    assert refusal(lambda: files.load(ID)) == ("node.key", "prekeys: EISDIR")
    assert refusal(lambda: files.destroy(ID)) == ("node.disk", "prekeys: EISDIR")


@pytest.mark.parametrize("name", ["", "../keyring.json", "ab", "AB" * 32, "ab" * 32 + "\n"])
def test_a_secret_is_named_by_an_id(tmp_path: Path, name: str) -> None:
    """A name that is no key id never becomes a path."""
    with pytest.raises(ValueError, match="named by its id"):
        PrekeyFolder(tmp_path).load(name)


# -- the socket's name


@pytest.mark.parametrize("deep", [False, True])
def test_a_socket_in_a_home_of_any_depth(tmp_path: Path, deep: bool) -> None:  # noqa: FBT001 - two cases
    """A home may lie deeper than the name of a socket can be long."""
    folder = tmp_path / ("k" * (200 if deep else 1))
    home = make(folder)
    assert (len(str(home.socket)) > MAX_SOCKET_PATH) is deep
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as asking:
        with home.socket_address() as address:
            listening.bind(address)
        listening.listen()
        with home.socket_address() as address:
            asking.connect(address)
        assert home.socket.is_socket()


def test_a_deep_home_that_is_gone_has_no_socket(tmp_path: Path) -> None:
    """The socket of a deep home that does not exist is told as no home."""
    gone = Home(tmp_path / ("k" * 200))

    def enter() -> None:
        with gone.socket_address():
            pytest.fail("there is nothing to connect to")

    assert refusal(enter)[0] == "node.no_home"
