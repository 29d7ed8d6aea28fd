"""The contract of ``ports.Blobs``, for every adapter of it."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from typing import TYPE_CHECKING, Final

import pytest

from exchange.adapters.blobs import BlobFolder
from exchange.core.errors import IntegrityError, PeerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from exchange.ports import Blobs

MIB: Final = 1_048_576
SIZES: Final = [0, 1, 65_536, MIB - 1, MIB, MIB + 1, 3 * MIB + 7]


@pytest.fixture(params=["folder"])
def reopen(tmp_path: Path) -> Callable[[], Blobs]:
    """Opens the same blobs anew, as after a crash: the one before was not closed."""
    return lambda: BlobFolder(tmp_path / "blobs", free_space_bytes=0)


@pytest.fixture
def blobs(reopen: Callable[[], Blobs]) -> Blobs:
    return reopen()


def sample(size: int) -> bytes:
    return hashlib.shake_256(b"evidence").digest(size)


async def stream(data: bytes, step: int = 100_000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), step):
        yield data[at : at + step]


async def load(blobs: Blobs, h: str) -> bytes:
    return b"".join([piece async for piece in blobs.load(h)])


async def save(blobs: Blobs, data: bytes, h: str | None = None) -> str:
    name, length = await blobs.save(stream(data), h=h, max_bytes=len(data))
    assert length == len(data)
    return name


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_saved_is_loaded(reopen: Callable[[], Blobs], size: int) -> None:
    """A stream is saved under its SHA-256, with its length, and comes back as it was, also after a crash."""
    data = sample(size)
    h = await save(reopen(), data)
    assert h == hashlib.sha256(data).hexdigest()
    again = reopen()
    assert again.has(h)
    assert await load(again, h) == data


async def test_the_announced_name_must_fit(blobs: Blobs) -> None:
    """A stream that does not match the digest announced is refused and never visible."""
    other = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(PeerError) as caught:
        await save(blobs, b"evidence", h=other)
    assert caught.value.code == "blob.digest"
    assert not blobs.has(other)
    assert not blobs.has(hashlib.sha256(b"evidence").hexdigest())
    assert await save(blobs, b"other", h=other) == other


@pytest.mark.parametrize("over", [1, 2 * MIB])
async def test_a_stream_is_bounded(blobs: Blobs, over: int) -> None:
    """A stream longer than allowed is refused, however it is cut, and never visible."""
    data = sample(MIB + over)
    for step in (len(data), 65_536):
        with pytest.raises(PeerError) as caught:
            await blobs.save(stream(data, step), h=None, max_bytes=MIB)
        assert caught.value.code == "blob.too_large"
    assert not blobs.has(hashlib.sha256(data).hexdigest())


async def test_an_absent_blob_is_missing(blobs: Blobs) -> None:
    """Loading a blob that is not there is a fault of the store."""
    with pytest.raises(IntegrityError) as caught:
        await load(blobs, "0" * 64)
    assert caught.value.code == "store.blob_missing"
    assert not blobs.has("0" * 64)


async def test_a_removed_blob_is_gone(reopen: Callable[[], Blobs]) -> None:
    """What was removed cannot be seen any more, also by who opens the place anew; removing it again is no fault."""
    blobs = reopen()
    h, other = await save(blobs, b"evidence"), await save(blobs, b"other")
    await blobs.remove(h)
    await blobs.remove(h)
    assert [reopen().has(name) for name in (h, other)] == [False, True]
    assert await save(blobs, b"evidence") == h


async def test_a_blob_is_visible_only_whole(blobs: Blobs) -> None:
    """While a blob is being saved it cannot be seen, and where its sender fails it never is."""
    data = sample(3 * MIB)
    h = hashlib.sha256(data).hexdigest()
    seen: list[bool] = []

    async def failing() -> AsyncIterator[bytes]:
        async for piece in stream(data):
            seen.append(blobs.has(h))
            yield piece
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await blobs.save(failing(), h=h, max_bytes=len(data))
    assert seen
    assert not any(seen)
    assert not blobs.has(h)


async def test_a_cancelled_save_leaves_nothing(blobs: Blobs) -> None:
    """A save that is cancelled while its sender is silent is not visible, and the next one succeeds."""
    data = sample(2 * MIB)
    h = hashlib.sha256(data).hexdigest()
    waiting = asyncio.Event()

    async def silent() -> AsyncIterator[bytes]:
        yield data
        waiting.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(blobs.save(silent(), h=h, max_bytes=len(data)))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not blobs.has(h)
    assert await save(blobs, data, h) == h


async def test_two_savers_of_one_name_both_succeed(blobs: Blobs) -> None:
    """Two who save the same bytes at the same time both succeed, and readers read meanwhile."""
    data = sample(2 * MIB)
    h = await save(blobs, data)
    first, read, second, reread = await asyncio.gather(
        save(blobs, data, h), load(blobs, h), save(blobs, data, h), load(blobs, h)
    )
    assert (first, second) == (h, h)
    assert read == reread == data
    assert await load(blobs, h) == data


async def test_a_reader_may_stop(blobs: Blobs) -> None:
    """A reader that stops after one piece takes nothing from the next reader."""
    data = sample(3 * MIB)
    h = await save(blobs, data)
    async for piece in blobs.load(h):
        assert data.startswith(piece)
        break
    assert await load(blobs, h) == data


def test_room_is_that_of_the_disk(tmp_path: Path) -> None:
    """There is room for nothing and not for more than any disk has; where nobody can look there is none."""
    folder = BlobFolder(tmp_path / "blobs", free_space_bytes=0)
    assert folder.has_room(0)
    assert not folder.has_room(2**62)
    assert not BlobFolder(tmp_path / "blobs", free_space_bytes=2**62).has_room(0)
    shutil.rmtree(tmp_path / "blobs")
    assert not folder.has_room(0)
