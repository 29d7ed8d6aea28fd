"""Pushing our notices, and our lists of officers, to a peer until it has said that it has them.

Implements docs/protocol.md sections 8.5, L9, and 4.5, O6.

Rules:
1. The store is the truth: a notice is owed from the transaction that wrote it until the peer's answer is committed.
2. Notices about one agreement go out in the order of their serials; one that a peer does not take keeps back those
   after it and nothing else, neither those about other agreements nor messages.
3. What the peer lacks to judge a notice, our card or the agreement, is pushed with it.
4. A peer that holds a newer notice of ours has this one's effect: that is an answer too.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exchange.core.errors import PeerError
from exchange.node.queues import back_off

if TYPE_CHECKING:
    from exchange.core.keys import Card
    from exchange.core.wire import NodeId
    from exchange.node.ledger import Ledger, Transaction
    from exchange.node.queues import Queues
    from exchange.node.registry import Registry
    from exchange.ports import Clock, Peers

_OUR_CARD: Final = frozenset({"key.unknown", "key.expired", "key.threshold", "key.bad_signature"})


@dataclass(slots=True)
class Pusher:
    """Owes documents to peers."""

    registry: Registry
    ledger: Ledger
    queues: Queues
    peers: Peers
    clock: Clock

    async def work(self, peer: NodeId) -> None:
        """Push what is owed to a peer, again and again until nothing is."""
        queue = self.queues.queue(peer)
        failures = 0
        while True:
            queue.documents.clear()
            card = self.registry.cards.get(peer)
            try:
                if card is not None and peer not in self.registry.blocked:
                    await self._push_all(peer, card)
                failures = 0
            except PeerError:
                failures += 1
            wait = back_off(failures, self.clock.random) if failures else None
            with suppress(TimeoutError):
                await asyncio.wait_for(queue.documents.wait(), wait)

    async def _push_all(self, peer: NodeId, card: Card) -> None:
        """Raises the last refusal, after everything was tried that the peer's being there allows."""
        kept_back: set[str] = set()
        refusal: PeerError | None = None
        for digest, subject, data in await self.ledger.store.read("pushes", peer):
            if subject in kept_back:
                continue
            try:
                await self._push(card, data, subject.partition("/")[2])
            except PeerError as error:
                if error.code == "relay.unreachable":
                    raise
                kept_back.add(subject)
                refusal = error
                continue

            async def job(tx: Transaction, digest: str = digest) -> None:
                tx.changes.add("drop_push", peer, digest)

            await self.ledger.do(job)
        if refusal is not None:
            raise refusal

    async def _push(self, card: Card, data: bytes, agreement: str) -> None:
        try:
            await self.peers.send_document(card, data)
        except PeerError as error:
            if error.code == "agreement.notice_stale":
                return
            if error.code == "agreement.unknown":
                lacking = [item.digest for item in self.registry.versions_of(agreement)]
            elif error.code in _OUR_CARD:
                lacking = [self.registry.cards[self.registry.me].digest]
            else:
                raise
            for digest in lacking:
                await self.peers.send_document(card, self.registry.bytes_of[digest])
            await self.peers.send_document(card, data)
