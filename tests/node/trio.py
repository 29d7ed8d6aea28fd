"""Three real nodes for tests of onward use: Thailand sends, Cambodia asks and passes on, Viet Nam receives."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING, Any, Final

import pytest

from exchange.core.audit import Event, Leaf, parse_leaf
from exchange.core.errors import PeerError
from tests.node.pair import node_of, until
from tests.simulation.drafts import draft
from tests.simulation.host import Host, Stage
from tests.simulation.network import Network, SimPeers
from tests.simulation.people import agreement_of, person

if TYPE_CHECKING:
    from datetime import date

    from exchange.core.wire import JsonObject

KH, TH, LA, VN = 0, 1, 2, 4
REASON: Final[JsonObject] = {"text": "The recruiter lives there.", "lang": "en"}
FILES: Final = {"max_count": 4, "max_bytes": 10**7}


def clauses(use: str, *parties: str, **changes: object) -> str:
    """One clause for all that is sent, with this onward use."""
    onward = {"use": use, **({"parties": [*parties]} if parties else {})}
    kinds = ["suspect", "evidence", "information-request"]
    return json.dumps({"cases": {"kinds": kinds, "onward": onward, "blobs": FILES, **changes}})


CONSENT: Final = clauses("with_consent")
PLAIN: Final = clauses("never")


class Trio:
    """Thailand and Viet Nam, each with an agreement with Cambodia; Laos is known to Cambodia and agrees with nobody.

    ``together``: the first agreement is one of all three.
    """

    def __init__(self, first: str, second: str, *, together: bool = False) -> None:
        self.stage = Stage(random.Random(0), 1.0, 3_600.0, 0.0)
        self.hosts = {index: Host(person(index), self.stage, 0) for index in (TH, KH, VN)}
        self.network = Network(self.stage, {host.id: host for host in self.hosts.values()})
        for host in self.hosts.values():
            host.peers = lambda process: SimPeers(self.network, process)
        ours = agreement_of((TH, KH, VN), "th-kh-vn", first) if together else agreement_of((TH, KH), "th-kh", first)
        theirs = agreement_of((KH, VN), "kh-vn", second)
        self.documents = {TH: [ours], KH: [ours, theirs], VN: [theirs, ours] if together else [theirs]}

    async def start(self) -> None:
        """Install and start all three."""
        cards = [person(index).card for index in (TH, KH, VN, LA)]
        for index in (KH, VN, TH):
            host = self.hosts[index]
            await host.install([host.person.card, *(card for card in cards if card != host.person.card)])
            await host.install(self.documents[index])
            await host.start()
        await asyncio.sleep(1)

    def node(self, index: int) -> Any:  # noqa: ANN401 - a Node
        return node_of(self.hosts[index])

    async def settle(self) -> None:
        """Wait until nothing is on its way."""
        query = "SELECT count(*) FROM outgoing WHERE status IN ('queued', 'sent')"
        await until(lambda: all(host.connection.execute(query).fetchone() == (0,) for host in self.hosts.values()))

    async def say(self, by: int, to: int, written: Any, files: Any = ()) -> str:  # noqa: ANN401 - a draft
        """Send and wait; the id."""
        result = await self.node(by).sender.submit(written, [person(to).node], list(files))
        await self.settle()
        return str(result["id"])

    async def case(self, onward: str = "with_consent", **members: object) -> str:
        """A suspect that Thailand sends to Cambodia."""
        return await self.say(TH, KH, draft("suspect", 1, onward=onward, **members))

    async def ask(self, ident: str, *to: int) -> str:
        """Cambodia's request about Viet Nam, or others, to prosecute."""
        names = [person(index).node for index in to or (VN,)]
        asked = await self.node(KH).onward.request(ident, names, "prosecution", REASON, "officer")
        await self.settle()
        return str(asked["id"])

    async def decide(self, asked: str, *, grant: bool, last: date | None = None) -> None:
        """Thailand's decision."""
        texts: JsonObject = {"conditions": REASON}
        await self.node(TH).onward.decide(asked, grant=grant, until=last, texts=texts, actor="chief")
        await self.settle()

    async def forward(self, ident: str, to: int = VN, *, dry_run: bool = False, by: int = KH) -> JsonObject:
        """Pass it on."""
        done: JsonObject = await self.node(by).onward.forward(ident, person(to).node, "officer", dry_run=dry_run)
        await self.settle()
        return done

    async def refusal(self, ident: str, to: int = VN, *, by: int = KH) -> tuple[str, str, str | None]:
        """Code, where and clause of the refusal to pass it on."""
        with pytest.raises(PeerError) as caught:
            await self.forward(ident, to, by=by)
        return caught.value.code, caught.value.where, caught.value.clause

    def leaves(self, index: int, *events: Event) -> list[Leaf]:
        """Entries of a node's log."""
        rows = self.hosts[index].connection.execute("SELECT leaf FROM leaves ORDER BY seq")
        return [leaf for (data,) in rows if (leaf := parse_leaf(data)).event in events]

    def kinds(self, index: int) -> list[str | None]:
        """The duties that a node received."""
        rows = self.hosts[index].connection.execute("SELECT duty FROM incoming WHERE duty IS NOT NULL ORDER BY rowid")
        return [duty for (duty,) in rows]

    async def shown(self, index: int, ident: str) -> dict[str, Any]:
        """A message as its node shows it."""
        found: dict[str, Any] = await self.node(index).reader.show(ident, "officer")
        return found
