"""Files that commands write: whole or not at all, and never over another one."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from exchange.cli.documents import NewFile, is_private, write_output
from exchange.core.errors import LocalError

if TYPE_CHECKING:
    from pathlib import Path

REAL_OPEN = os.open


def without_unnamed_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that knows no unnamed files."""

    def refuse(path: Any, flags: int, *rest: Any, **more: Any) -> int:  # noqa: ANN401 - os.open's
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no unnamed files")
        return REAL_OPEN(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)


@pytest.mark.parametrize("named", [False, True])
def test_file_appears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, named: bool) -> None:
    """A new file has no name before it is kept, and only its owner can read it."""
    if named:
        without_unnamed_files(monkeypatch)
    path = tmp_path / "evidence"
    with NewFile(path) as file:
        file.write(b"one ")
        file.write(b"two")
        assert not path.exists()
        file.keep()
    assert path.read_bytes() == b"one two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert is_private(path)
    assert [item.name for item in tmp_path.iterdir()] == ["evidence"]


@pytest.mark.parametrize("named", [False, True])
def test_file_that_is_not_kept_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, named: bool) -> None:
    """An error while it is written leaves no file behind, not even a hidden one."""
    if named:
        without_unnamed_files(monkeypatch)
    with pytest.raises(ValueError, match="half way"), NewFile(tmp_path / "evidence") as file:  # noqa: PT012
        file.write(b"half")
        message = "half way"
        raise ValueError(message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_existing_name_is_left_alone(tmp_path: Path, kind: str) -> None:
    """A name that is taken by anything is refused before anything is written."""
    path = tmp_path / "taken"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(LocalError) as caught:
        write_output(path, b"x")
    assert caught.value.code == "input.exists"


def test_name_that_is_taken_meanwhile(tmp_path: Path) -> None:
    """A file that somebody made meanwhile is not overwritten either."""
    path = tmp_path / "evidence"
    with NewFile(path) as file:
        path.write_text("mine")
        with pytest.raises(LocalError) as caught:
            file.keep()
    assert caught.value.code == "input.exists"
    assert path.read_text() == "mine"


def test_folder_that_is_missing(tmp_path: Path) -> None:
    """A file in a folder that does not exist, or below a file, is refused."""
    (tmp_path / "file").write_text("")
    for folder in ("no/where", "file"):
        with pytest.raises(LocalError) as caught:
            write_output(tmp_path / folder / "x", b"x")
        assert caught.value.code == "input.not_found"


def test_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is told as such, at whichever step it is met."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    for name in ("write", "fsync"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(LocalError) as caught:
                write_output(tmp_path / "x", b"x")
        assert caught.value.code == "node.disk"
    monkeypatch.setattr(os, "open", full)
    with pytest.raises(LocalError) as caught:
        write_output(tmp_path / "x", b"x")
    assert caught.value.code == "node.disk"
    assert list(tmp_path.iterdir()) == []
