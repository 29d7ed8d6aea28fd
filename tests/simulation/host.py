"""A machine of the simulation: its disk survives, its process does not.

Rules:
1. A ``Host`` holds what a crash leaves: the committed store, evidence files, prekey files, the keys. A ``Process`` is
   one run of the real ``Node`` on it; killing it cancels every task that it started and drops the object.
2. The ports are those of ``exchange.ports``. Store and files answer after a moment in which others run, as a database
   thread would, so that every await of the node is a place where it can be overtaken or killed.
3. Time and random bytes follow from the seed and the host's name; a killed process does not give its bytes back.
4. An exception that nobody planned is kept in ``Stage.faults``: a history with one is a failed history.

Length: one node with all that surrounds it, alive and dead.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from exchange.adapters.keyring import Keyring
from exchange.adapters.snapshot import load_all_queries
from exchange.adapters.sqlite import SqliteStore, connect_memory
from exchange.core.errors import ExchangeError, LocalError, PeerError
from exchange.node.node import Node, Outside
from exchange.node.verifying import Verifier
from tests.schemas.samples import book
from tests.simulation.loop import OWNER
from tests.simulation.people import EPOCH, NETWORK

if TYPE_CHECKING:
    import random
    import sqlite3
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from datetime import datetime

    from exchange.core.wire import NodeId
    from exchange.ports import Changes, Peers, Row
    from tests.simulation.people import Person

T = TypeVar("T")
PIECE: Final = 32_768
_EXPECTED: Final = frozenset({"node.disk", "node.stopping"})  # what a process says whose commit failed as planned


class DiedError(Exception):
    """The process that was asked does not live any more, or never did."""


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


class Stage:
    """What all machines share: the dice, the time, and a record of what happens."""

    def __init__(self, rng: random.Random, speed: float, start: float, slowest_disk: float) -> None:
        self.rng = rng
        self.slowest_disk = slowest_disk
        self.speed = speed
        self.start = start
        self.faults: list[str] = []
        self.history: list[str] = []
        self.received: dict[tuple[str, str, str], int] = {}

    def note(self, line: str) -> None:
        """Add a line to the history."""
        self.history.append(f"{asyncio.get_running_loop().time():.4f} {line}")


class Host:
    """One focal point's machine."""

    def __init__(self, person: Person, stage: Stage, seed: int) -> None:
        self.person = person
        self.id: NodeId = person.node
        self.stage = stage
        self.connection: sqlite3.Connection = connect_memory()
        self.blobs: dict[str, bytes] = {}
        self.prekeys = PrekeyFiles()
        self.random = TestOnlyRandom(f"{seed} {person.node}")
        self.skew = 0.0
        self.armed: Trap | None = None
        self.process: Process | None = None
        self.peers: Callable[[Process], Peers] | None = None
        self.on_death: Callable[[Host], None] | None = None

    def now(self) -> datetime:
        """This machine's wall clock."""
        stage = self.stage
        passed = stage.start + asyncio.get_running_loop().time() * stage.speed
        return EPOCH + timedelta(seconds=passed + self.skew)

    def keyring(self) -> Keyring:
        """The key holder, with nothing learned yet."""
        return Keyring(self.person.secrets, self.prekeys, self.random)

    @property
    def is_serving(self) -> bool:
        """Whether a node answers here."""
        return self.process is not None and self.process.serving

    async def start(self) -> None:
        """Start a process, unless one runs. It may be killed while it starts."""
        if self.process is not None:
            return
        process = self.process = Process(self)
        self.stage.note(f"{self.id} start")
        try:
            await process.run(process.boot)
        except DiedError:
            self.kill()
        except ExchangeError as error:
            self.stage.faults.append(f"{self.id} does not start: {error}")

    def kill(self) -> None:
        """End the process at once, wherever it is."""
        process, self.process = self.process, None
        if process is not None:
            self.stage.note(f"{self.id} killed")
            process.die()
            if self.on_death is not None:
                self.on_death(self)

    async def load(self) -> Node | None:
        """What the last process left, read and not started."""
        process = Process(self)
        try:
            await process.load()
        except ExchangeError as error:
            self.stage.faults.append(f"{self.id} does not load: {error}")
        return process.node

    async def install(self, documents: Sequence[bytes]) -> None:
        """An operator's command at a stopped node."""
        node = await Process(self).load(require_card=False)
        async with node.writing():
            for data in documents:
                await node.install(data, "operator")

    async def verify(self) -> list[tuple[str, str]]:
        """What ``exchange verify`` finds."""
        records = MemoryRecords(self.connection)
        blobs = {h: hashlib.sha256(data).hexdigest() for h, data in self.blobs.items()}
        review = await Verifier(records, self.id, self.person.log_keys, blobs.get, self.keyring()).run()
        return review.findings

    async def ask(self, work: Callable[[Node], Coroutine[Any, Any, T]]) -> T:
        """Run something at the node. Raises ``DiedError`` where there is none, or where it dies over it."""
        process = self.process
        if process is None or process.node is None or not process.serving:
            raise DiedError
        node = process.node
        return await process.run(lambda: work(node))


class Process:
    """One run of a node."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.node: Node | None = None
        self.serving = False
        self.dead = False
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._asked: set[asyncio.Task[Any]] = set()  # whoever asked hears of their errors
        self._context = copy_context()
        self._context.run(OWNER.set, self)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Take a task that this process started."""
        self._tasks[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if error is None or task in self._asked:
            self._asked.discard(task)
            return
        if not (isinstance(error, LocalError) and error.code in _EXPECTED):
            self.host.stage.faults.append(f"{self.host.id}: {type(error).__name__}: {error}")

    async def load(self, *, require_card: bool = True) -> Node:
        """Load the node."""
        host = self.host
        assert host.peers is not None
        ring = host.keyring()
        outside = Outside(
            SimStore(self), SimBlobs(self), host.peers(self), ring, SimClock(host), book(), host.person.log_keys
        )
        self.node = await Node.load(NETWORK, host.id, outside, require_card=require_card)
        return self.node

    async def boot(self) -> None:
        """Load and start the node."""
        node = await self.load()
        node.queues.on_news = self._hear
        await node.start()
        self.serving = True

    def _hear(self, kind: str, peer: str, message: str, status: object) -> None:
        self.host.stage.note(f"{self.host.id} news {kind} {peer} {message} {status}")
        if kind == "received":
            received = self.host.stage.received
            received[self.host.id, peer, message] = received.get((self.host.id, peer, message), 0) + 1

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine as this process; whoever waits learns that it died, and is not cancelled with it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        task = loop.create_task(work(), context=self._context)
        self._asked.add(task)

        def done(task: asyncio.Task[T]) -> None:
            if future.done():
                return
            if task.cancelled():
                future.set_exception(DiedError())
            elif (error := task.exception()) is not None:
                stopping = isinstance(error, LocalError) and error.code in _EXPECTED
                future.set_exception(DiedError() if stopping else error)
            else:
                future.set_result(task.result())

        task.add_done_callback(done)
        return await future

    def die(self) -> None:
        """Cancel everything; nothing of it is heard any more."""
        self.dead, self.serving = True, False
        for task in list(self._tasks):
            task.cancel()

    def fail(self) -> None:
        """A planned failure of the disk: the node stops by itself, and the supervisor ends what is left."""
        asyncio.get_running_loop().call_later(self.host.stage.rng.uniform(0, 0.02), self.end)

    def end(self) -> None:
        """Nothing of this process runs any more."""
        if self.host.process is self:
            self.host.kill()

    async def pause(self) -> None:
        """Let others run, as a real database thread would."""
        rng = self.host.stage.rng
        if rng.random() < 0.3:
            await asyncio.sleep(rng.uniform(0, self.host.stage.slowest_disk))
        elif rng.random() < 0.5:
            await asyncio.sleep(0)
        if self.dead:
            self.host.stage.faults.append(f"{self.host.id}: a dead process went on")


class SimClock:
    """``ports.Clock``."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def now(self) -> datetime:
        return self._host.now()

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
