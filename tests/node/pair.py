"""Two real nodes with an agreement, on the simulation's machines and loop, for tests of one thing at a time."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

from exchange.node.records import outgoing_from_row
from tests.simulation.drafts import draft
from tests.simulation.host import Host, Stage
from tests.simulation.network import Network, SimPeers
from tests.simulation.people import agreement, person

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exchange.node.node import Node
    from exchange.node.records import OutgoingRow
    from exchange.ports import Changes, Row, Store

INDEXES: Final = (0, 1)
AGREEMENT: Final = (INDEXES, 1, -86_400, 365 * 86_400)


class Pair:
    """Two machines with fast disks on a calm line; ``speed`` is that of their wall clocks."""

    def __init__(self, speed: float = 1.0, network: type[Network] = Network) -> None:
        self.stage = Stage(random.Random(0), speed, 3_600.0, 0.0)
        hosts = [Host(person(index), self.stage, 0) for index in INDEXES]
        self.network = network(self.stage, {host.id: host for host in hosts})
        self.sender, self.receiver = hosts
        for host in hosts:
            host.peers = lambda process: SimPeers(self.network, process)

    async def start(
        self, here: Sequence[bytes] | None = None, there: Sequence[bytes] | None = None
    ) -> tuple[Node, Node]:
        """Install both cards, and an agreement or what is given, at either side; start both."""
        for host, documents in ((self.receiver, there), (self.sender, here)):
            cards = [host.person.card, *(person(index).card for index in INDEXES)]
            await host.install([*dict.fromkeys(cards), *([agreement(*AGREEMENT)] if documents is None else documents)])
            await host.start()
        await asyncio.sleep(1)
        return node_of(self.sender), node_of(self.receiver)

    async def submit(self, kind: str = "acknowledgement") -> str:
        """A message that the sender's officer writes; its id."""
        result: Any = await node_of(self.sender).sender.submit(draft(kind, 1), [self.receiver.id], [])
        return str(result["id"])

    def cut(self, *, cut: bool) -> None:
        """Cut the line, or mend it."""
        self.network.set_cut(self.sender.id, self.receiver.id, cut=cut)

    def row(self, ident: str) -> OutgoingRow:
        """The sender's record of a message."""
        columns = "peer, id, status, created, updated, attempt, seq, digest, expires, code, clause, log_index, case_id"
        more = "agreement, draft, answer, relied, duty, about, proposer, waits"
        query = f"SELECT {columns}, {more} FROM outgoing WHERE id = ?"  # noqa: S608 - our own columns
        return outgoing_from_row(self.sender.connection.execute(query, (ident,)).fetchone())

    def status(self, ident: str) -> str:
        """Where the sender has a message."""
        return self.row(ident).record.status.value


def node_of(host: Host) -> Node:
    """The node that runs on a machine."""
    assert host.process is not None
    assert host.process.node is not None
    return host.process.node


class Gate:
    """A store that holds back what it has read for one statement until the gate is opened."""

    def __init__(self, inner: Store, statement: str) -> None:
        self._inner = inner
        self._statement = statement
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def read(self, statement: str, *values: object) -> list[Row]:
        rows = await self._inner.read(statement, *values)
        if statement == self._statement and not self.open.is_set():
            self.reached.set()
            await self.open.wait()
        return rows

    async def commit(self, changes: Changes) -> None:
        await self._inner.commit(changes)

    async def scrub(self) -> bool:
        return await self._inner.scrub()

    async def close(self) -> None:
        await self._inner.close()


async def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is so; virtual time costs nothing."""
    for _ in range(int(seconds * 20)):
        if true():
            return
        await asyncio.sleep(0.05)
    raise TimeoutError
