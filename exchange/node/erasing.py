"""Erasing copies: one way, whoever asked for it, and what follows it.

Implements docs/protocol.md section 8.9.

Rules:
1. Intent first: a copy that is due is on disk as due (``node.copies``). Then nothing shows it any more; then its
   evidence files go; then, in one transaction, its body, its content key and its records of evidence, with the log
   entry and the receipt. A crash in between is carried on by the next look, and a look may run at any moment.
2. A legal hold is asked for in the transaction that begins the erasing. What it stops stays due.
3. An evidence file goes only where no other message names it.
4. What stays for ever: ids, digests, numbers, status, answers, the signed envelope without its body, and the row that
   says when and why. A repeat is answered as before (7.3).
5. Erasing needs no peer and comes first. What needs one, a receipt or a recall, goes round (``copies.Round``): a peer
   that cannot be sent to keeps nobody else waiting.
6. Afterwards the database's write-ahead log is emptied: it would keep the old pages until it is overwritten.

What it does not do: judge whether a message may be taken back (``core.duties``), or overwrite blocks of a disk: a key
that lay there once may survive in flash memory and in copies that the machine makes of its disk (docs/attacks.md).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from exchange.core import wire
from exchange.core.audit import Event
from exchange.core.delivery import DELIVERED, Cancelled, State, Status
from exchange.core.duties import DELETION_RECEIPT, RECALL
from exchange.core.wire import encode_time
from exchange.node.copies import IN, MAX_AT_ONCE, OUT, RETENTION, Copy, Round, Stage, today
from exchange.node.effects import Context, step
from exchange.node.holds import active, holds_of
from exchange.node.records import id_list
from exchange.node.withdrawals import duty_draft, read_statement

if TYPE_CHECKING:
    from exchange.core.wire import JsonObject
    from exchange.node.holds import Hold, Holds
    from exchange.node.ledger import Ledger, Transaction
    from exchange.node.queues import Queues
    from exchange.node.records import IncomingRow
    from exchange.node.sending import Sender
    from exchange.node.steadiness import Steadiness
    from exchange.ports import Blobs, Clock

CANCELLED: Final = "relay.cancelled"


@dataclass(slots=True)
class Eraser:
    """Carries out what is due."""

    ledger: Ledger
    queues: Queues
    blobs: Blobs
    clock: Clock
    sender: Sender
    holds: Holds
    steadiness: Steadiness
    _busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    _due: Round = field(default_factory=lambda: Round("copies_due"))
    _untold: Round = field(default_factory=lambda: Round("copies_untold"))
    _wanted: Round = field(default_factory=lambda: Round("copies_wanted"))
    _scrub: bool = True  # after a start nobody knows what the last process left in the write-ahead log

    async def run(self) -> None:
        """Look whenever something became due; what waits for a day is looked at by housekeeping."""
        while True:
            await self.queues.erasing.wait()
            self.queues.erasing.clear()
            await self.look()

    async def look(self) -> None:
        """Everything that is due now."""
        async with self._busy:
            await self.steadiness.look(self.clock.now())
            if not self.steadiness.doubtful:
                await self._retire()
            # While the clock is doubtful no hold ends: no day is before this one.
            day = "" if self.steadiness.doubtful else today(self.clock.now()).isoformat()
            store, blocked = self.ledger.store, id_list(self.sender.registry.blocked)
            for _, peer, ident in await self._due.next(store, day):
                await self._erase(peer, ident)
            for _, peer, ident in await self._untold.next(store, blocked):
                await self._send_receipt(peer, ident)
            for _, peer, ident in await self._wanted.next(store, blocked):
                await self._recall_after_all(peer, ident)
            if self._scrub:
                # In a job of the ledger: the one writer, and nothing begun.
                self._scrub = not await self.ledger.do(_scrub)

    # -- here

    async def _retire(self) -> None:
        """What was kept as long as it might be becomes due."""
        now = self.clock.now()
        over = await self.ledger.store.read("incoming_over", encode_time(now), MAX_AT_ONCE)
        if not over:
            return

        async def job(tx: Transaction) -> None:
            for peer, ident in over:
                held = await tx.copies.get(tx.store, IN, peer, ident) or Copy(IN, peer, ident, Stage.KEPT, tx.now)
                if held.stage is Stage.KEPT:
                    tx.copies.put(held._replace(stage=Stage.DUE, why=RETENTION, decided=tx.now))

        await self.ledger.do(job)

    async def _erase(self, peer: str, ident: str) -> None:
        row = await self._begin(peer, ident)
        if row is None:
            return
        for h, _, _ in await self.ledger.store.read("blobs_of", peer, ident, IN):
            await self.forget_file(h, peer, ident)
        self._scrub = True

        async def job(tx: Transaction) -> None:
            due = await tx.copies.get(tx.store, IN, peer, ident)
            if due is None or due.stage is not Stage.DUE:
                return
            record = row.record
            statement = await read_statement(tx, record.digest, row.case_id or "")
            tx.changes.add("drop_content", peer, ident)
            tx.changes.add("drop_blobs_of", peer, ident, IN)
            tx.record(Event.ERASED, peer=record.peer, subject=record.digest, code=due.why)
            kept = wire.encode_json({"case": statement.header()["case"], "envelope": record.digest})
            erased = due._replace(stage=Stage.ERASED, erased=tx.now, root=statement.root, held_until=None)
            erased = erased._replace(kept=tx.secrets.wrap(row.case_id or "", kept, _bound(erased)))
            await self._answer(tx, erased, row)
            tx.after.append(lambda: self.queues.notify("erased", erased.peer, ident, None))

        await self.ledger.do(job)

    async def _begin(self, peer: str, ident: str) -> IncomingRow | None:
        """From here on nothing shows it, unless a hold forbids that; the delivered attempt."""

        async def job(tx: Transaction) -> IncomingRow | None:
            await tx.load_incoming(peer, [ident])
            rows = [row for row in tx.incoming[peer, ident].values() if row.record.status in DELIVERED]
            due = await tx.copies.get(tx.store, IN, peer, ident)
            if due is None or due.stage is not Stage.DUE or not rows:
                return None
            holds = await holds_of(tx.store, tx.secrets, peer, ident)
            lasting = active(holds, tx.now, doubtful=self.steadiness.doubtful)
            if lasting is not None:
                await self._tell_held(tx, due, rows[0], lasting)
                return None
            tx.changes.add("put_gone", peer, ident)
            return rows[0]

        row: IncomingRow | None = await self.ledger.do(job)
        return row

    async def _tell_held(self, tx: Transaction, due: Copy, row: IncomingRow, lasting: Hold) -> None:
        if due.held_until == lasting.until:
            return  # its originator knows
        tx.copies.put(due._replace(held_until=lasting.until))
        await self.holds.tell(tx, row, lasting, "placed", due.cause)

    async def forget_file(self, h: str, peer: str, ident: str) -> None:
        """Remove a file unless another message names it, or an officer is about to send it."""
        named = await self.ledger.store.read("blobs_named", h)
        if all((by, about, way) == (peer, ident, IN) for by, about, way, *_ in named):
            await self.blobs.remove(h)

    # -- telling the originator

    async def _answer(self, tx: Transaction, erased: Copy, row: IncomingRow) -> None:
        """Send the deletion receipt; where the peer cannot be sent to now, the next look tries again."""
        kept = wire.Fields(
            wire.parse_json(tx.secrets.unwrap(row.case_id or "", erased.kept or b"", _bound(erased)), max_bytes=4096),
            "kept",
        )
        content: JsonObject = {
            "kind": DELETION_RECEIPT,
            "envelope": kept.digest("envelope"),
            "root": erased.root,
            "deleted_at": encode_time(erased.erased or tx.now),
            "why": erased.why,
        }
        draft = duty_draft(kept.text("case"), erased.id, content, erased.cause)
        receipt = await self.sender.submit_within(tx, draft, erased.peer)
        tx.copies.put(erased._replace(receipt=receipt))

    async def _send_receipt(self, peer: str, ident: str) -> None:
        async def job(tx: Transaction) -> None:
            erased = await tx.copies.get(tx.store, IN, peer, ident)
            await tx.load_incoming(peer, [ident])
            rows = [row for row in tx.incoming[peer, ident].values() if row.case_id is not None]
            if erased is not None and erased.stage is Stage.ERASED and erased.receipt is None and rows:
                await tx.use_case(rows[0].case_id or "")
                await self._answer(tx, erased, rows[0])

        await self.ledger.do(job)

    # -- this node's messages at others

    async def take_back(self, peer: str, ident: str, reason: str, actor: str) -> bool:
        """Take back a message that is not accepted yet; should it turn out that it was, a recall follows.

        Whether it was still on its way.
        """

        async def job(tx: Transaction) -> bool:
            await tx.load_outgoing(peer, [ident])
            row = tx.outgoing[peer, ident]
            if row.record.status not in {Status.QUEUED, Status.SENT}:
                return False
            state = State(tx.window(row.record.peer), outgoing=row.record)
            await step(tx, self.queues, state, Cancelled(CANCELLED, tx.now), Context())
            wanted = Copy(OUT, row.record.peer, row.record.id, Stage.WANTED, tx.now, RECALL, reason)
            tx.copies.put(wanted)
            tx.record(Event.RECALLED, actor=actor, peer=row.record.peer, subject=row.record.digest, code=reason)
            return True

        taken: bool = await self.ledger.do(job)
        return taken

    async def _recall_after_all(self, peer: str, ident: str) -> None:
        """The peer had accepted what its sender took back: the acceptance stands, so the copy is recalled."""

        async def job(tx: Transaction) -> None:
            await tx.load_outgoing(peer, [ident])
            row = tx.outgoing[peer, ident]
            wanted = await tx.copies.get(tx.store, OUT, peer, ident)
            if wanted is None or wanted.stage is not Stage.WANTED or row.record.digest is None:
                return
            statement = await read_statement(tx, row.record.digest, row.case_id)
            content: JsonObject = {"kind": RECALL, "reason": wanted.reason, "effect": "delete"}
            draft = duty_draft(str(statement.header()["case"]), ident, content, None)
            await self.sender.submit_within(tx, draft, wanted.peer)

        await self.ledger.do(job)


async def _scrub(tx: Transaction) -> bool:
    return await tx.store.scrub()


def _bound(copy: Copy) -> str:
    return f"erased {copy.peer} {copy.id}"
