"""What people do in the simulation: they write, answer, refer, attach, take back, read, block and unblock.

Each action draws what it needs when it happens, and speaks to its node as the command line does. A node that dies over
it, or refuses, is part of life: the caller lets ``DiedError`` and ``PeerError`` pass.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

from exchange.core.errors import LocalError
from exchange.core.suspensions import Action as NoticeAction
from exchange.core.wire import AgreementId, NodeId
from tests.simulation.drafts import draft, evidence_file
from tests.simulation.people import agreement_id, notice, person
from tests.simulation.world import DELIVERED_SQL, Submission

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine, Sequence
    from typing import TypeAlias

    from exchange.core.wire import JsonObject
    from exchange.node.node import Node
    from tests.simulation.host import Host
    from tests.simulation.world import World

    Action: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class Officers:
    """Everybody who works at the nodes of a world."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.rng = rng
        self._cases = 0

    def draw(self, host: Host) -> Action:
        """Something that somebody at this node will do."""
        rng = self.rng
        others = [other.id for other in self.world.hosts.values() if other is not host]
        peers = rng.sample(others, min(len(others), rng.choice((1, 1, 1, 1, 2))))
        actions: list[tuple[int, Action]] = [
            (30, lambda: self.talk(host, peers)),
            (15, lambda: self._reply(host)),
            (15, lambda: self._chain(host, peers[0])),
            (12, lambda: self._send_evidence(host, peers[0])),
            (14, lambda: self._send_names(host, peers)),
            (6, lambda: self._take_back(host)),
            (6, lambda: self._hurry(host, peers[0])),
            (8, lambda: self._show(host)),
            (5, lambda: self._send_prohibited(host, peers)),
        ]
        return rng.choices([action for _, action in actions], [weight for weight, _ in actions])[0]

    async def block(self, host: Host, peer: str, *, blocked: bool) -> None:
        """An operator blocks a peer, or ends the block."""

        async def work(node: Node) -> None:
            await node.block(NodeId(peer), blocked=blocked, actor="operator")

        await host.ask(work)

    async def install(self, host: Host, documents: Sequence[bytes]) -> None:
        """An operator installs agreements."""
        for data in documents:

            async def work(node: Node, data: bytes = data) -> None:
                await node.install(data, "operator")

            await host.ask(work)

    async def stop(self, host: Host, ident: str, action: NoticeAction, *, others_continue: bool) -> None:
        """An operator suspends or leaves an agreement."""

        async def work(node: Node) -> None:
            await node.notices.issue(
                ident, action, {"en": "invented"}, others_continue=others_continue, actor="operator"
            )

        await host.ask(work)

    async def resume(self, host: Host, index: int, indexes: tuple[int, ...]) -> None:
        """An operator installs what the authority of a party signed, perhaps of another one than this node's."""

        async def work(node: Node) -> None:
            newest = node.registry.newest_notices(AgreementId(agreement_id(indexes))).get(person(index).node)
            if newest is not None:
                data = notice(index, indexes, newest.serial + 1, NoticeAction.RESUME, host.now())
                await node.install(data, "operator")

        await host.ask(work)

    async def _submit(
        self, host: Host, peers: Sequence[str], value: JsonObject, files: Sequence[JsonObject] = ()
    ) -> str | None:
        """The id of the message, where it was taken."""
        any_of = self.rng.random() < 0.8

        async def work(node: Node) -> Any:  # noqa: ANN401 - JSON, read below
            return await node.sender.submit(value, peers, files, actor="officer1", permitted_only=any_of)

        outcome = await host.ask(work)
        allowed = tuple(NodeId(item["to"]) for item in outcome["recipients"] if item["allowed"])
        codes = [f"{item['to']}:{item['code']}" for item in outcome["recipients"]]
        self.world.stage.note(f"{host.id} submitted {outcome['id']} {codes}")
        if outcome.get("refused"):
            return None
        content: Any = value["content"]
        told: Any = value.get("refers_to", ())
        references = (*told, value["in_reply_to"]) if "in_reply_to" in value else told
        self.world.submissions.append(Submission(host.id, outcome["id"], content, tuple(references), allowed))
        return str(outcome["id"])

    def _case(self) -> int:
        self._cases = (self._cases + 1) % 5
        return self._cases

    async def talk(self, host: Host, peers: Sequence[str]) -> None:
        kind = self.rng.choice(("acknowledgement", "information-request", "information-response"))
        urgency = self.rng.choice(("urgent_8h", "normal_7d"))
        await self._submit(host, peers, draft(kind, self._case(), urgency=urgency))

    async def _send_names(self, host: Host, peers: Sequence[str]) -> None:
        for _ in range(self.rng.choice((1, 1, 4))):
            await self._submit(host, peers, draft("suspect", self._case()))

    async def _send_prohibited(self, host: Host, peers: Sequence[str]) -> None:
        await self._submit(host, peers, draft("victim", self._case()))

    async def _send_evidence(self, host: Host, peer: str) -> None:
        files: list[JsonObject] = []
        for number in range(self.rng.choice((1, 1, 2))):
            attachment, sealed = evidence_file(host.random, number)
            host.blobs[hashlib.sha256(sealed).hexdigest()] = sealed
            files.append(attachment)
        case = self._case()
        await self._submit(host, [peer], draft("evidence", case), files)
        if self.rng.random() < 0.3:  # the same files once more
            await self._submit(host, [peer], draft("evidence", case), files)

    @staticmethod
    def _received(host: Host, peer: str) -> list[str]:
        query = f"SELECT id FROM incoming WHERE peer = ? AND status IN ({DELIVERED_SQL}) ORDER BY rowid"  # noqa: S608 - our words
        return [ident for (ident,) in host.connection.execute(query, (peer,))]

    async def _reply(self, host: Host) -> None:
        pairs = [(peer, ident) for peer in self.world.hosts for ident in self._received(host, peer)]
        if pairs:
            peer, ident = self.rng.choice(pairs)
            await self._submit(host, [peer], draft("acknowledgement", self._case(), in_reply_to=ident))

    async def _chain(self, host: Host, peer: str) -> None:
        """Messages of which each speaks of those before it."""
        case = self._case()
        # One in ten speaks of a message that nobody ever sent.
        before = [self.rng.randbytes(16).hex()] if self.rng.random() < 0.1 else []
        for _ in range(self.rng.randint(2, 5)):
            members: dict[str, object] = {"urgency": self.rng.choice(("urgent_8h", "normal_7d", "normal_7d"))}
            if self.rng.random() < 0.3 and (received := self._received(host, peer)):
                members["in_reply_to"] = self.rng.choice(received)
            ident = await self._submit(host, [peer], draft("acknowledgement", case, refers_to=before[-3:], **members))
            if ident is None:
                return
            before.append(ident)
            if self.rng.random() < 0.5:
                await asyncio.sleep(self.rng.uniform(0, 0.3))

    async def _hurry(self, host: Host, peer: str) -> None:
        """Many messages at once; the last ones are taken back at once."""
        count = self.rng.choice((8, 16, 40))
        done = await asyncio.gather(*[self.talk(host, [peer]) for _ in range(count)], return_exceptions=True)
        for error in done:
            if error is not None:
                raise error
        for _ in range(self.rng.choice((0, 2, 6))):
            await self._take_back(host)

    async def _take_back(self, host: Host) -> None:
        rows = host.connection.execute(
            "SELECT peer, id FROM outgoing WHERE status IN ('queued', 'sent') ORDER BY rowid"
        ).fetchall()
        if rows:
            peer, ident = self.rng.choice(rows)

            async def work(node: Node) -> None:
                await node.sender.cancel(peer, [ident], "relay.cancelled")

            await host.ask(work)

    async def _show(self, host: Host) -> None:
        rows = host.connection.execute("SELECT id, status FROM incoming ORDER BY rowid").fetchall()
        if rows:
            ident, status = self.rng.choice(rows)

            async def work(node: Node) -> None:
                await node.reader.show(ident, "officer1")

            try:
                await host.ask(work)
            except LocalError:
                if status not in {"refused", "held"}:  # what was refused, or is held, is shown to nobody
                    raise
