"""``exchange.adapters.blobs``: what the folder does beyond the contract of its port (tests/contract)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import threading
from collections import namedtuple
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from exchange.adapters import blobs as blobs_module
from exchange.adapters.blobs import BlobFolder, hash_blob
from exchange.core.errors import IntegrityError, LocalError, PeerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIB: Final = 1_048_576
Space = namedtuple("Space", "f_bavail f_frsize")  # noqa: PYI024 - stands in for os.statvfs_result


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


async def test_a_blob_lies_under_its_digest(tmp_path: Path) -> None:
    """A blob lies as ab/<digest>, readable by others no more than the home is, and no draft is left."""
    h, _ = await BlobFolder(tmp_path, 0).save(stream(b"evi", b"dence"), h=None, max_bytes=8)
    assert h == hashlib.sha256(b"evidence").hexdigest()
    assert names(tmp_path) == [f"{h[:2]}/{h}"]
    assert (tmp_path / h[:2]).stat().st_mode & 0o777 == 0o700


async def test_a_crash_leaves_drafts_that_the_next_start_removes(tmp_path: Path) -> None:
    """What a killed process left half written is removed when the folder is opened."""
    BlobFolder(tmp_path, 0)
    (tmp_path / "tmp" / "half").write_bytes(b"evi")
    BlobFolder(tmp_path, 0)
    assert names(tmp_path) == []


async def test_the_disk_is_never_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save stops before the free space falls below the limit, and takes up again when there is room."""
    free = [10 * MIB]
    monkeypatch.setattr(os, "fstatvfs", lambda _: Space(free[0] // 4096, 4096))
    folder = BlobFolder(tmp_path, 8 * MIB)
    taken: list[int] = []

    async def growing() -> AsyncIterator[bytes]:
        for number in range(4):
            taken.append(number)
            yield bytes(MIB)
            free[0] -= MIB

    with pytest.raises(PeerError) as caught:
        await folder.save(growing(), h=None, max_bytes=4 * MIB)
    assert caught.value.code == "relay.disk"
    assert taken == [0, 1, 2]
    assert names(tmp_path) == []
    free[0] = 13 * MIB
    assert (await folder.save(growing(), h=None, max_bytes=4 * MIB))[1] == 4 * MIB


async def test_a_full_disk_is_told_to_the_sender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that finds the disk full after all is told to the sender, who tries again later."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    folder = BlobFolder(tmp_path, 0)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PeerError) as caught:
        await folder.save(stream(b"evidence"), h=None, max_bytes=8)
    assert caught.value.code == "relay.disk"
    assert names(tmp_path) == []


async def test_a_failed_sync_stops_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed sync is this machine's fault and is never taken for success: the pages are marked clean."""

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    folder = BlobFolder(tmp_path, 0)
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(LocalError) as caught:
        await folder.save(stream(b"evidence"), h=None, max_bytes=8)
    assert (caught.value.code, caught.value.where) == ("node.disk", "blobs: EIO")
    assert names(tmp_path) == []


async def test_bytes_and_names_are_synced_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are synced before the blob gets its name; the new folder and the name in it are synced after."""
    synced: list[tuple[str, int]] = []
    real = os.fsync

    def record(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((path.relative_to(tmp_path).as_posix(), len(names(tmp_path))))
        real(descriptor)

    folder = BlobFolder(tmp_path, 0)
    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(secrets, "token_hex", lambda _: "draft")
    h, _ = await folder.save(stream(b"evidence"), h=None, max_bytes=8)
    assert synced == [("tmp/draft", 1), (".", 1), (h[:2], 1)]
    assert names(tmp_path) == [f"{h[:2]}/{h}"]


async def test_a_cancelled_save_waits_for_its_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save that is cancelled while a thread writes closes the file only when the thread has ended."""
    writing, release, ended = threading.Event(), threading.Event(), threading.Event()

    def slow(_: int) -> Space:
        writing.set()
        release.wait()
        ended.set()
        raise OSError(5, "Input/output error")

    folder = BlobFolder(tmp_path, 0)
    monkeypatch.setattr(os, "fstatvfs", slow)
    task = asyncio.create_task(folder.save(stream(b"evidence"), h=None, max_bytes=8))
    await asyncio.to_thread(writing.wait)
    task.cancel()
    asyncio.get_running_loop().call_soon(release.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    assert names(tmp_path) == []


async def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    """A blob folder, or its drafts, that cannot be made or written is trouble of this machine."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError) as caught:
        BlobFolder(tmp_path / "file", 0)
    assert (caught.value.code, caught.value.where) == ("node.disk", "blobs: ENOTDIR")
    folder = BlobFolder(tmp_path / "blobs", 0)
    (tmp_path / "blobs" / "tmp").rmdir()
    with pytest.raises(LocalError) as caught:
        await folder.save(stream(b"evidence"), h=None, max_bytes=8)
    assert (caught.value.code, caught.value.where) == ("node.disk", "blobs: ENOENT")


async def test_a_blob_that_cannot_be_read_is_missing(tmp_path: Path) -> None:
    """What stands in a blob's place and cannot be read as a file is missing evidence."""
    folder = BlobFolder(tmp_path, 0)
    h, _ = await folder.save(stream(b"evidence"), h=None, max_bytes=8)
    (tmp_path / h[:2] / h).unlink()
    (tmp_path / h[:2] / h).mkdir()
    assert not folder.has(h)
    with pytest.raises(IntegrityError) as caught:
        [_ async for _ in folder.load(h)]
    assert caught.value.code == "store.blob_missing"


async def test_a_sector_that_fails_is_missing_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that fails half way ends the stream as missing evidence, not as its end."""
    folder = BlobFolder(tmp_path, 0)
    h, _ = await folder.save(stream(bytes(3 * MIB)), h=None, max_bytes=3 * MIB)
    pieces = folder.load(h)
    assert len(await anext(pieces)) == MIB

    async def fail(_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(blobs_module, "_in_thread", fail)
    with pytest.raises(IntegrityError) as caught:
        await anext(pieces)
    assert caught.value.code == "store.blob_missing"


async def test_a_stored_blob_is_hashed_again(tmp_path: Path) -> None:
    """The digest of what lies on the disk is told, whatever its name says, and None where there is nothing."""
    h, _ = await BlobFolder(tmp_path, 0).save(stream(bytes(2 * MIB)), h=None, max_bytes=2 * MIB)
    assert hash_blob(tmp_path, h) == h
    (tmp_path / h[:2] / h).write_bytes(b"other")
    assert hash_blob(tmp_path, h) == hashlib.sha256(b"other").hexdigest()
    assert hash_blob(tmp_path, "0" * 64) is None


@pytest.mark.parametrize("name", ["", "../node.db", "ab", "AB" * 32])
def test_a_blob_is_named_by_a_digest(tmp_path: Path, name: str) -> None:
    """A name that is no digest never becomes a path."""
    with pytest.raises(ValueError, match="named by its digest"):
        BlobFolder(tmp_path, 0).has(name)
