"""A machine of the simulation: its disk survives, its process does not.

Rules:
1. A ``Host`` holds what a crash leaves: the committed store, evidence files, prekey files, the keys. A ``Process`` is
   one run of the real ``Node`` on it; killing it cancels every task that it started and drops the object.
2. Its ports are those of ``tests.simulation.disk`` and ``tests.simulation.network``.
3. An exception that nobody planned is kept in ``Stage.faults``: a history with one is a failed history.

Length: one node with all that surrounds it, alive and dead.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextvars import copy_context
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from exchange.adapters.keyring import Keyring
from exchange.adapters.sqlite import connect_memory
from exchange.core.errors import ExchangeError, LocalError
from exchange.node.node import Node, Outside
from exchange.node.verifying import Verifier
from tests.schemas.samples import book
from tests.simulation.disk import MemoryRecords, PrekeyFiles, SimBlobs, SimClock, SimStore, TestOnlyRandom
from tests.simulation.loop import OWNER
from tests.simulation.people import EPOCH, NETWORK

if TYPE_CHECKING:
    import random
    import sqlite3
    from collections.abc import Callable, Coroutine, Sequence
    from datetime import datetime

    from exchange.core.wire import NodeId
    from exchange.ports import Peers
    from tests.simulation.disk import Trap
    from tests.simulation.people import Person

T = TypeVar("T")
_EXPECTED: Final = frozenset({"node.disk", "node.stopping"})  # what a process says whose commit failed as planned


class DiedError(Exception):
    """The process that was asked does not live any more, or never did."""


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

    def steady(self) -> float:
        """This machine's other clock, which no officer sets."""
        return asyncio.get_running_loop().time() * self.stage.speed

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
