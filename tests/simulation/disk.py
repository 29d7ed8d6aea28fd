"""The ports of a simulated machine: ``exchange.ports`` over a disk that outlives its process.

Rules:
1. Store and files answer after a moment in which others run, as a database thread would, so that every await of the
   node is a place where it can be overtaken or killed.
2. A commit can be trapped: it fails before or after it was written, or its process dies before it can say so.
3. Random bytes follow from the seed and the host's name; a killed process does not give its bytes back.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from exchange.adapters.snapshot import load_all_queries
from exchange.adapters.sqlite import SqliteStore
from exchange.core.errors import LocalError, PeerError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator
    from datetime import datetime

    from exchange.ports import Changes, Row
    from tests.simulation.host import Host, Process

PIECE: Final = 32_768


class CommitFault(Enum):
    """What happens at a commit."""

    BEFORE = "nothing is written, and the commit fails"
    PERSISTED = "everything is written, and the commit fails all the same"
    SILENT = "everything is written, and the process dies before it can say so"


@dataclass(frozen=True)
class Trap:
    """A fault that waits for a commit with a row of ``statement``, or for the next commit.

    'held' stands for a message that is held, 'file sent' for evidence that its recipient has.
    """

    fault: CommitFault
    statement: str | None

    def meets(self, changes: Changes) -> bool:
        """Whether this is the commit."""
        if self.statement == "held":
            return any(row[5] == "held" for row in changes.rows.get("put_incoming", ()))
        if self.statement == "file sent":
            return any((row[3], row[5]) == ("out", 1) for row in changes.rows.get("put_blob", ()))
        return self.statement is None or self.statement in changes.rows


class TestOnlyRandom:
    """Bytes that follow from a name alone."""

    __test__ = False

    def __init__(self, name: str) -> None:
        self._name = name.encode()
        self._count = 0

    def __call__(self, length: int) -> bytes:
        """The next bytes."""
        self._count += 1
        return hashlib.shake_256(b"testonly %d " % self._count + self._name).digest(length)


@dataclass
class PrekeyFiles:
    """``adapters.keyring.PrekeyFiles`` in memory."""

    files: dict[str, bytes] = field(default_factory=dict)

    def save(self, name: str, data: bytes) -> None:
        self.files[name] = data

    def load(self, name: str) -> bytes | None:
        return self.files.get(name)

    def destroy(self, name: str) -> None:
        self.files.pop(name, None)


class SimClock:
    """``ports.Clock``."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def now(self) -> datetime:
        return self._host.now()

    def steady(self) -> float:
        return self._host.steady()

    def random(self, length: int) -> bytes:
        return self._host.random(length)


class MemoryRecords:
    """``ports.Records`` for a reader of the whole store."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def read(self, statement: str, *values: object) -> list[Row]:
        return self._connection.execute(load_all_queries()[statement], values).fetchall()


class SimStore:
    """``ports.Store``: the real statements on a connection that outlives the process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._inner = SqliteStore.in_memory(process.host.connection)

    async def commit(self, changes: Changes) -> None:
        host = self._process.host
        await self._process.pause()
        fault = None
        if host.armed is not None and host.armed.meets(changes):
            fault, host.armed = host.armed.fault, None
        if fault is CommitFault.BEFORE:
            host.stage.note(f"{host.id} commit fails")
            self._process.fail()
            raise LocalError("node.disk", "planned")
        await self._inner.commit(changes)
        host.stage.note(f"{host.id} commit {_summary(changes)}")
        if fault is CommitFault.PERSISTED:
            self._process.fail()
            raise LocalError("node.disk", "planned")
        if fault is CommitFault.SILENT:
            # Before anything else runs on this loop: nothing that waited for the commit gets to speak.
            asyncio.get_running_loop().call_soon(self._process.end)
            return
        await self._process.pause()

    async def read(self, statement: str, *values: object) -> list[Row]:
        await self._process.pause()
        rows = await self._inner.read(statement, *values)
        await self._process.pause()
        return rows

    async def scrub(self) -> bool:
        return await self._inner.scrub()

    async def close(self) -> None:
        """The disk stays."""


def _summary(changes: Changes) -> str:
    """A transaction in the history: ids, statuses and codes; digests differ from run to run."""
    parts: list[str] = []
    for statement, rows in changes.rows.items():
        parts.append(f"{statement}*{len(rows)}")
        if statement == "put_outgoing":
            parts += [f"{row[0]}/{row[1][:8]}={row[2]},{row[5]},{row[6]},{row[9]}" for row in rows]
        elif statement == "put_incoming":
            parts += [f"{row[0]}/{row[1][:8]}={row[5]},{row[2]},{row[3]},{row[7]}" for row in rows]
    return " ".join(parts)


class SimBlobs:
    """``ports.Blobs``."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._blobs = process.host.blobs

    async def save(self, chunks: AsyncIterator[bytes], *, h: str | None, max_bytes: int) -> tuple[str, int]:
        data = b""
        async for chunk in chunks:
            await self._process.pause()
            data += chunk
            if len(data) > max_bytes:
                raise PeerError("blob.too_large", "blob")
        digest = hashlib.sha256(data).hexdigest()
        if h is not None and digest != h:
            raise PeerError("blob.digest", "blob")
        self._blobs[digest] = data
        return digest, len(data)

    async def load(self, h: str) -> AsyncIterator[bytes]:
        data = self._blobs[h]
        for at in range(0, len(data), PIECE):
            await self._process.pause()
            yield data[at : at + PIECE]

    def has(self, h: str) -> bool:
        return h in self._blobs

    async def remove(self, h: str) -> None:
        await self._process.pause()
        self._blobs.pop(h, None)

    def has_room(self, size: int) -> bool:
        return size >= 0
