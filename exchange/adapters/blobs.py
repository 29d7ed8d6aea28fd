"""Evidence ciphertext as files, named by their SHA-256.

Implements ``ports.Blobs`` and docs/protocol.md section 5.3 (F5).

Rules:
1. A blob is hashed while it is written to ``tmp/``; only when it is whole, matches its name and is on stable storage
   does it get its place ``ab/<h>``. A crash leaves nothing that could be taken for evidence.
2. Memory does not grow with the file: pieces of 1 MiB, written and read in threads beside the event loop.
3. The disk is never filled: below ``free_space_bytes`` nothing more is taken, from peers and from officers alike.

What it does not do: encrypt (core.evidence), or know who may have a blob (the store does).
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from exchange.adapters.home import sync_folder
from exchange.core.errors import IntegrityError, LocalError, PeerError
from exchange.core.wire import HEX_256

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

T = TypeVar("T")
PIECE_BYTES: Final = 1_048_576
RECORDS_SHARE: Final = 16  # messages come in until a sixteenth is left of the room that evidence leaves free
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


async def _in_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread and never leave while it runs.

    A cancelled caller would otherwise close the file under the thread's hands, and the thread might write into
    whatever file took over its number.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        _ = task.cancelled() or task.exception()  # looked at: nobody else will
        raise


async def _on_disk(work: Callable[[], T]) -> T:
    """As ``_in_thread``; only here is an ``OSError`` one of the disk, elsewhere it may be one of the sender's."""
    try:
        return await _in_thread(work)
    except OSError as error:
        raise _translate(error) from None


class _Draft:
    """One file being written. Its methods block."""

    def __init__(self, path: Path, free_space_bytes: int) -> None:
        self.path = path
        self.length = 0
        self._free_space_bytes = free_space_bytes
        self._hash = hashlib.sha256()
        self._file = path.open("xb", buffering=0)

    def write(self, piece: bytes) -> None:
        if not _is_room(os.fstatvfs(self._file.fileno()), self._free_space_bytes + len(piece)):
            raise PeerError("relay.disk", "evidence")
        self._hash.update(piece)
        left = memoryview(piece)
        while left:
            left = left[self._file.write(left) :]
        self.length += len(piece)

    def finish(self, place: Callable[[str], Path]) -> str:
        os.fsync(self._file.fileno())
        name = self._hash.hexdigest()
        path = place(name)
        try:
            path.parent.mkdir(mode=0o700)
            sync_folder(path.parent.parent)
        except FileExistsError:
            pass
        self.path.replace(path)
        sync_folder(path.parent)
        return name

    def digest(self) -> str:
        return self._hash.hexdigest()

    def discard(self) -> None:
        self._file.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


class BlobFolder:
    """``ports.Blobs`` in a folder of its own. Opening it empties ``tmp/`` of what a crash left."""

    def __init__(self, path: Path, free_space_bytes: int) -> None:
        self._path = path
        self._drafts = path / "tmp"
        self._free_space_bytes = free_space_bytes
        try:
            self._drafts.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in self._drafts.iterdir():
                left.unlink()
        except OSError as error:
            raise _translate(error) from None

    def _place(self, h: str) -> Path:
        if not HEX_256.fullmatch(h):
            message = "a blob is named by its digest"
            raise ValueError(message)
        return self._path / h[:2] / h

    async def save(self, chunks: AsyncIterator[bytes], *, h: str | None, max_bytes: int) -> tuple[str, int]:
        """See ``ports.Blobs``.

        Raises ``PeerError`` blob.digest, blob.too_large, relay.disk; ``LocalError`` node.disk.
        """
        try:
            draft = _Draft(self._drafts / secrets.token_hex(16), self._free_space_bytes)
        except OSError as error:
            raise _translate(error) from None
        try:
            async for piece in _pieces(chunks, max_bytes):
                await _on_disk(partial(draft.write, piece))
            if h is not None and draft.digest() != h:
                raise PeerError("blob.digest", "evidence")
            return await _on_disk(partial(draft.finish, self._place)), draft.length
        finally:
            draft.discard()

    async def load(self, h: str) -> AsyncIterator[bytes]:
        """See ``ports.Blobs``."""
        try:
            file = self._place(h).open("rb", buffering=0)
        except OSError:
            raise IntegrityError("store.blob_missing", "blobs") from None
        try:
            while piece := await _in_thread(partial(file.read, PIECE_BYTES)):
                yield piece
        except OSError:
            raise IntegrityError("store.blob_missing", "blobs") from None
        finally:
            file.close()

    def has(self, h: str) -> bool:
        """See ``ports.Blobs``."""
        return self._place(h).is_file()

    async def remove(self, h: str) -> None:
        """See ``ports.Blobs``. Raises ``LocalError`` node.disk."""
        try:
            await _in_thread(partial(_unlink, self._place(h)))
        except OSError as error:
            raise LocalError("node.disk", f"blobs: {errno.errorcode.get(error.errno or 0, 'error')}") from None

    def has_room(self, size: int) -> bool:
        """See ``ports.Blobs``."""
        try:
            space = os.statvfs(self._path)
        except OSError:  # whoever cannot look promises nothing
            return False
        return _is_room(space, self._free_space_bytes // RECORDS_SHARE + size)


def _unlink(path: Path) -> None:
    try:
        path.unlink()
    except FileNotFoundError:
        return
    sync_folder(path.parent)


def _is_room(space: os.statvfs_result, wanted: int) -> bool:
    return space.f_bavail * space.f_frsize >= wanted


def hash_blob(folder: Path, h: str) -> str | None:
    """SHA-256 of a stored blob, None where there is none that can be read; the folder is not changed. Blocks."""
    digest = hashlib.sha256()
    try:
        with (folder / h[:2] / h).open("rb", buffering=0) as file:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
    except OSError:
        return None
    return digest.hexdigest()


async def _pieces(chunks: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    """Join small chunks, so that a thread is asked once a MiB, and stop at the limit."""
    waiting: list[bytes] = []
    size = total = 0
    async for chunk in chunks:
        total += len(chunk)
        if total > max_bytes:
            raise PeerError("blob.too_large", "evidence")
        waiting.append(chunk)
        size += len(chunk)
        if size >= PIECE_BYTES:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
    if waiting:
        yield b"".join(waiting)


def _translate(error: OSError) -> PeerError | LocalError:
    """A full disk is told to whoever sends, who tries again later; any other failure stops the node."""
    if error.errno in _NO_ROOM:
        return PeerError("relay.disk", "evidence")
    return LocalError("node.disk", f"blobs: {errno.errorcode.get(error.errno or 0, 'error')}")
