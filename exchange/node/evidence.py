"""Evidence files from peers: taken for accepted messages, told of once they are all whole.

Implements docs/protocol.md sections 5.3 and 11.3 (``PUT /v1/blobs/{h}``).

Rules:
1. A file is taken only for an accepted message of the peer that sends it, which names the file and its length.
2. Whether a file lies here already, from somebody else, is told to nobody: its bytes are asked for and hashed again.
3. One peer holds few uploads at a time, and each file once, so that the others' evidence comes in as well.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from exchange.core import wire
from exchange.core.delivery import DELIVERED, BlobsArrived, State
from exchange.core.errors import PeerError
from exchange.node.effects import Context, step
from exchange.node.records import id_list, incoming_from_row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from exchange.core.wire import JsonObject, NodeId
    from exchange.node.ledger import Ledger, Transaction
    from exchange.node.queues import Queues
    from exchange.ports import Blobs

MAX_UPLOADS: Final = 4  # of one peer at a time; a node of ours sends one


@dataclass(slots=True)
class EvidenceReceiver:
    """Takes evidence files from peers."""

    ledger: Ledger
    queues: Queues
    blobs: Blobs
    _coming: set[tuple[NodeId, str]] = field(default_factory=set)
    _uploads: Counter[NodeId] = field(default_factory=Counter)

    async def receive(self, peer: NodeId, h: str, chunks: AsyncIterator[bytes], length: int) -> JsonObject:
        """Take a file of ``length`` bytes. Raises ``PeerError`` blob.unknown, blob.digest, relay.busy, relay.disk."""
        messages = await self._messages(peer, h, length)
        with self._upload(peer, h):
            if self.blobs.has(h):
                size = await _check(chunks, h, length)
            else:
                _, size = await self.blobs.save(chunks, h=h, max_bytes=length)
        if size != length:
            raise PeerError("blob.digest", "length")
        answers: list[bytes] = []
        wanted = False
        for message in messages:

            async def job(tx: Transaction, ident: str = message) -> bool:
                await tx.load_incoming(peer, [ident])
                if any(row.gone for row in tx.incoming[peer, ident].values()):
                    return False  # erased while its file came in
                await self._arrived(tx, peer, ident, h, length, answers)
                return True

            wanted = await self.ledger.do(job) or wanted
        if not wanted and not await self.ledger.store.read("blobs_named", h):
            await self.blobs.remove(h)
        return {"answers": [wire.encode_base64(data) for data in dict.fromkeys(answers)]}

    async def _messages(self, peer: NodeId, h: str, length: int) -> list[str]:
        """The accepted messages of a peer that name the file."""
        rows = await self.ledger.store.read("blobs_named", h)
        named = {message: size for sender, message, way, size, _, _ in rows if (sender, way) == (peer, "in")}
        rows_of = [incoming_from_row(row) for row in await self.ledger.store.read("incoming", peer, id_list(named))]
        accepted = [row.record.id for row in rows_of if row.record.status in DELIVERED and not row.gone]
        if not accepted:
            raise PeerError("blob.unknown", "path")
        if any(named[ident] != length for ident in accepted):
            raise PeerError("blob.digest", "length")
        return list(accepted)

    @contextmanager
    def _upload(self, peer: NodeId, h: str) -> Iterator[None]:
        if (peer, h) in self._coming or self._uploads[peer] >= MAX_UPLOADS:
            raise PeerError("relay.busy", "uploads")
        self._coming.add((peer, h))
        self._uploads[peer] += 1
        try:
            yield
        finally:
            self._coming.discard((peer, h))
            self._uploads[peer] -= 1

    async def _arrived(
        self, tx: Transaction, peer: NodeId, ident: str, h: str, length: int, answers: list[bytes]
    ) -> None:
        tx.changes.add("put_blob", h, peer, ident, "in", length, 1, None)
        # Also those that came in with this very transaction: nobody sends the last file again.
        here = {row[0] for row in tx.changes.rows["put_blob"] if row[1:4] == (peer, ident, "in") and row[5]}
        rows = await tx.store.read("blobs_of", peer, ident, "in")
        if any(other not in here and not whole for other, _, whole in rows):
            return
        await tx.load_incoming(peer, [ident])
        for row in tx.incoming[peer, ident].values():
            if row.record.has_blobs:
                state = State(tx.window(peer), incoming=row.record)
                await step(tx, self.queues, state, BlobsArrived(tx.now), Context(case_id=row.case_id))
            elif row.answer is not None:
                answers += [data for (data,) in await tx.store.read("answer", row.answer)]
        tx.after.append(lambda: answers.extend(tx.signed.get(peer, [])))


async def _check(chunks: AsyncIterator[bytes], h: str, length: int) -> int:
    """Hash what comes as if it were saved; its length. Raises blob.digest, blob.too_large."""
    digest, size = hashlib.sha256(), 0
    async for chunk in chunks:
        size += len(chunk)
        if size > length:
            raise PeerError("blob.too_large", "evidence")
        digest.update(chunk)
    if digest.hexdigest() != h:
        raise PeerError("blob.digest", "evidence")
    return size
