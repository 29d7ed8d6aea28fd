"""Two and three real nodes whose agreement is suspended, for the tests of notices."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

from exchange.core.audit import parse_leaf
from exchange.core.errors import PeerError
from exchange.core.suspensions import Action
from tests.node.pair import INDEXES, node_of
from tests.simulation.drafts import draft
from tests.simulation.host import Host, Stage
from tests.simulation.network import Network, SimPeers
from tests.simulation.people import agreement, notice, person

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exchange.core.suspensions import Suspension
    from exchange.core.wire import NodeId
    from tests.simulation.network import Request

ID: Final = "kh-th"
WHY: Final = {"en": "keys stolen"}
TRIO: Final = (0, 1, 2)


class NoDocuments(Network):
    """A network that carries no documents while ``silent``; counts what was asked."""

    silent = True
    refused = 0

    async def ask(self, source: NodeId, target: NodeId, request: Request) -> bytes:
        if request.kind == "document" and self.silent:
            self.refused += 1
            raise PeerError("relay.busy", "status 503")
        return await super().ask(source, target, request)


async def stop(host: Host, action: Action = Action.SUSPEND, ident: str = ID, *, others: bool = True) -> Suspension:
    """The operator of a node suspends or leaves an agreement."""
    return await node_of(host).notices.issue(ident, action, WHY, others_continue=others, actor="operator")


def resumption(host: Host, index: int, serial: int, indexes: tuple[int, ...] = INDEXES) -> bytes:
    """What the authority of a node signs to let an agreement go on."""
    return notice(index, indexes, serial, Action.RESUME, host.now())


def events(host: Host, prefix: str = "agreement_") -> list[tuple[str, str | None, str | None]]:
    """Name, actor and peer of the log's entries whose name begins so."""
    leaves = [parse_leaf(data) for (data,) in host.connection.execute("SELECT leaf FROM leaves ORDER BY seq")]
    return [(leaf.event.value, leaf.actor, leaf.peer) for leaf in leaves if leaf.event.value.startswith(prefix)]


def count(host: Host, table: str) -> int:
    """Rows of a table."""
    ((found,),) = host.connection.execute(f"SELECT count(*) FROM {table}").fetchall()  # noqa: S608 - our tables
    return int(found)


def incoming(host: Host) -> list[tuple[str, str | None]]:
    """Status and code of what came."""
    return [tuple(row) for row in host.connection.execute("SELECT status, code FROM incoming ORDER BY rowid")]


def stands(host: Host, peer: Host, ident: str = ID) -> str:
    """How an agreement stands at a node."""
    registry = node_of(host).registry
    return registry.standing(registry.versions_of(ident)[-1], peer.id).state.value


async def told(host: Host, to: Iterable[Host]) -> list[str | None]:
    """Submit a message; the code for each recipient."""
    result: Any = await node_of(host).sender.submit(
        draft("acknowledgement", 1), [peer.id for peer in to], [], permitted_only=True
    )
    return [item["code"] for item in result["recipients"]]


async def sound(*hosts: Host) -> bool:
    """Whether each node's own verification finds nothing."""
    for host in hosts:
        await asyncio.sleep(1)
        host.kill()
        assert await host.load() is not None
        assert await host.verify() == []
        await host.start()
    return True


class Trio:
    """Three machines with one agreement of all three."""

    def __init__(self) -> None:
        stage = Stage(random.Random(0), 1.0, 3_600.0, 0.0)
        self.hosts = [Host(person(index), stage, 0) for index in TRIO]
        self.network = Network(stage, {host.id: host for host in self.hosts})
        for host in self.hosts:
            host.peers = lambda process: SimPeers(self.network, process)

    async def start(self) -> list[Host]:
        """Install everything everywhere and start all."""
        for host in self.hosts:
            cards = [host.person.card, *(other.person.card for other in self.hosts if other is not host)]
            await host.install([*cards, agreement(TRIO, 1, -86_400, 365 * 86_400)])
            await host.start()
        await asyncio.sleep(1)
        return self.hosts
