"""Receiving envelopes and voids: the steps of the receiver, put to work.

Implements docs/protocol.md section 7.1, R1 to R20, and 7.3, 7.5.

Rules:
1. R1 to R5 run when the bytes arrive and are answered bare: nobody is authenticated before the signature holds.
2. R6 to R20 run inside one transaction for the whole batch, in the order of arrival.
3. Nothing is opened twice: a repeat is found before the key is touched.
4. One signed document answers all that this batch decided; repeats get the stored document, byte for byte.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from exchange.core import wire
from exchange.core.answers import AnswerItem, Outcome, Void, claimed_sender, verify_void
from exchange.core.audit import Event, agreement_ref
from exchange.core.decision import DISAGREEMENTS
from exchange.core.delivery import DELIVERED, Received, State, Status, Voided
from exchange.core.envelope import MAX_ENVELOPE_BYTES, SignedEnvelope, parse_envelope, verify_envelope
from exchange.core.errors import PeerError
from exchange.core.gate import Message, Reception, check_route, permit, read_message
from exchange.core.relay import TRANSIENT, find_repeat, is_overfull
from exchange.core.wire import Digest, DocumentType, NodeId, parse_signed_document
from exchange.node.clockwork import clock_fact
from exchange.node.effects import Context, step
from exchange.node.ledger import PendingAnswer
from exchange.node.subjects import find_duty
from exchange.node.withdrawals import note_received
from exchange.ports import OpenItem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exchange.core.agreements import Agreement
    from exchange.core.audit import ReservedLeaf
    from exchange.core.keys import Card
    from exchange.core.schemas import SchemaBook
    from exchange.core.wire import JsonObject
    from exchange.node.ledger import Ledger, Transaction
    from exchange.node.prekeys import Prekeys
    from exchange.node.queues import Queues
    from exchange.node.registry import Registry
    from exchange.ports import Blobs, Clock, Row

ROOM_FACTOR: Final = 3  # what a batch takes on the disk: its rows, and their copies in the write-ahead log
MAX_REPEATED_BYTES: Final = 2 * 1_048_576
LARGE_BYTES: Final = 65_536  # after a statement that long, sockets are looked at whatever its place
PACE: Final = 8  # items of a batch between two looks at the sockets: the next batch comes in while this one is judged


@dataclass(slots=True)
class Reply:
    """What a batch is answered with."""

    answers: list[bytes] = field(default_factory=list)
    deferred: list[tuple[Digest, str]] = field(default_factory=list)
    bare: list[tuple[int, str]] = field(default_factory=list)
    _repeated: dict[bytes, None] = field(default_factory=dict)
    _bytes: int = 0

    def repeat(self, digest: Digest, stored: Sequence[Row]) -> None:
        """Stored answers again, as many as one response may carry; what has no room is asked for again.

        Each of them may hold the answers to 256 others: a small batch of repeats must not make a large response.
        """
        for (data,) in stored:
            if data in self._repeated:
                continue
            if self._bytes + len(data) > MAX_REPEATED_BYTES:
                if (digest, "relay.busy") not in self.deferred:
                    self.deferred.append((digest, "relay.busy"))
                return
            self._repeated[data] = None
            self._bytes += len(data)
            self.answers.append(data)

    def to_json(self) -> JsonObject:
        """The body of the response (protocol 11.3)."""
        return {
            "answers": [wire.encode_base64(item) for item in dict.fromkeys(self.answers)],
            "deferred": [{"digest": digest, "code": code} for digest, code in self.deferred],
            "bare": [{"index": index, "code": code} for index, code in self.bare],
        }


@dataclass(slots=True)
class Receiver:
    """Takes batches from peers."""

    registry: Registry
    book: SchemaBook
    ledger: Ledger
    queues: Queues
    prekeys: Prekeys
    blobs: Blobs
    clock: Clock

    async def receive_batch(self, frames: list[tuple[bytes, bytes]]) -> JsonObject:
        """Take a batch of (document, body) pairs and answer it."""
        reply = Reply()
        verified: dict[NodeId, list[SignedEnvelope | Void]] = {}
        for index, (document, body) in enumerate(frames):
            try:
                sender, item = self._verify(document, body)
            except PeerError as error:
                reply.bare.append((index, error.code))
            else:
                verified.setdefault(sender, []).append(item)
        has_room = self.blobs.has_room(ROOM_FACTOR * sum(len(document) + len(body) for document, body in frames))
        for sender, items in verified.items():
            self.queues.queue(sender).contact()
            if not has_room:
                reply.deferred += [(item.digest, "relay.disk") for item in items]
                continue

            async def job(tx: Transaction, peer: NodeId = sender, todo: list[SignedEnvelope | Void] = items) -> None:
                await self._take(tx, peer, todo, reply)
                tx.after.append(lambda: reply.answers.extend(tx.signed.get(peer, [])))

            await self.ledger.do(job)
        return reply.to_json()

    def _verify(self, document: bytes, body: bytes) -> tuple[NodeId, SignedEnvelope | Void]:
        """Steps R1 to R5."""
        now = self.clock.now()
        if not body:
            void = parse_signed_document(document, DocumentType.VOID, max_bytes=MAX_ENVELOPE_BYTES)
            card = self._known(claimed_sender(void))
            return card.node, verify_void(void, card, self.registry.me)
        envelope = parse_envelope(document, body)
        sender = envelope.core.sender
        return sender, verify_envelope(
            envelope,
            network=self.registry.network,
            me=self.registry.me,
            card=self.registry.cards.get(sender),
            blocked=sender in self.registry.blocked,
            now=now,
        )

    def _known(self, sender: NodeId) -> Card:
        card = self.registry.cards.get(sender)
        if card is None:
            raise PeerError("envelope.unknown_sender", "R4")
        if self.clock.now() >= card.expires:
            raise PeerError("card.expired", "R4")
        if sender in self.registry.blocked:
            raise PeerError("envelope.blocked", "R4")
        return card

    # -- inside the transaction

    async def _take(self, tx: Transaction, peer: NodeId, items: list[SignedEnvelope | Void], reply: Reply) -> None:
        if peer in self.registry.blocked:
            # Blocked since the signature was checked: the block at commit decides.
            reply.deferred += [(item.digest, "relay.busy") for item in items]
            return
        await tx.load_incoming(peer, [item.core.id for item in items if isinstance(item, SignedEnvelope)])
        large = False
        for index, item in enumerate(items):
            if index % PACE == 0 or large:
                await asyncio.sleep(0)
            large = isinstance(item, SignedEnvelope) and len(item.body) > LARGE_BYTES
            if isinstance(item, Void):
                await self._take_void(tx, item, reply)
            elif not await self._answer_repeat(tx, item, reply):
                await self._take_new(tx, item, reply)

    async def _answer_repeat(self, tx: Transaction, envelope: SignedEnvelope, reply: Reply) -> bool:
        """Step R6. Whether the envelope was answered before."""
        core = envelope.core
        rows = tx.incoming[core.sender, core.id]
        try:
            record = find_repeat((row.record for row in rows.values()), core.attempt, envelope.digest)
        except PeerError as error:
            await self._take_equivocation(tx, envelope, error, reply)
            return True
        if record is None:
            return False
        if record.status is Status.HELD:
            reply.deferred.append((envelope.digest, "relay.held"))
            return True
        answer = rows[record.attempt].answer
        if answer is not None:  # else it is answered by this very transaction
            reply.repeat(envelope.digest, await tx.store.read("answer", answer))
        return True

    async def _take_equivocation(
        self, tx: Transaction, envelope: SignedEnvelope, error: PeerError, reply: Reply
    ) -> None:
        """Keep both, tell the operator, refuse with one signature; a repeat gets the same document."""
        if tx.answers_already(envelope.core.sender, envelope.digest):
            return
        if rows := await tx.store.read("other_answer", envelope.digest):
            reply.repeat(envelope.digest, rows)
            return
        peer = envelope.core.sender
        index = tx.record(Event.EQUIVOCATION, peer=peer, subject=envelope.digest, code=error.code)
        tx.changes.add("put_envelope", envelope.digest, peer, envelope.received, envelope.body, None)
        item = AnswerItem(envelope.digest, Outcome.REFUSED, index, error.code)
        tx.answer(peer, PendingAnswer(item))
        tx.after.append(lambda: self.queues.notify("alarm", peer, envelope.core.id, None))

    async def _take_new(self, tx: Transaction, envelope: SignedEnvelope, reply: Reply) -> None:
        core = envelope.core
        agreement = self.registry.serving(core.agreement.digest)
        day = core.created.date().isoformat()
        listed = None if core.officers is None else self.registry.officers.get(core.officers)
        reception = Reception(
            book=self.book,
            agreement=agreement,
            rival=self.registry.has_rival(core.agreement.id, core.agreement.version, core.agreement.digest),
            prekey=self.prekeys.state(core.prekey, core.created),
            used_today={} if agreement is None else await tx.used_today(agreement.digest, core.sender, day),
            now=tx.now,
            officers=listed,
            superseded=listed is not None and listed is not self.registry.officers_of(core.sender),
        )
        reserved: ReservedLeaf | None = None
        if is_overfull(self._state(tx, core.sender), core.seq):
            reply.deferred.append((envelope.digest, "relay.quota"))
            return
        try:
            serving = check_route(envelope, reception)
            reserved = tx.reserve(Event.RECEIVED, Event.REFUSED, Event.HELD)
            (cek,) = await tx.secrets.open([OpenItem(reserved, core.prekey, envelope.wrapped, envelope.info)])
            opened = read_message(envelope, cek, reception)
            message = permit(opened, serving, reception, await find_duty(tx, opened.header, self.registry.me))
            self._refuse_suspended(tx, serving, core.sender, message)
        except PeerError as error:
            if reserved is None and error.code in TRANSIENT:
                reply.deferred.append((envelope.digest, error.code))
                return
            await self._refuse(tx, envelope, reserved, error, reply)
            return
        await self._accept(tx, envelope, cek or b"", message, serving, reserved, reply)

    def _refuse_suspended(self, tx: Transaction, agreement: Agreement, peer: NodeId, message: Message) -> None:
        """Step R20: the permit is that of ``created``, the standing that of this commit. Raises agreement.suspended."""
        standing = self.registry.standing(agreement, peer, tx.notices)
        if message.duty is None and not standing.serves:
            raise PeerError("agreement.suspended", "R20", message.decision.clause)

    async def _refuse(
        self, tx: Transaction, envelope: SignedEnvelope, reserved: ReservedLeaf | None, error: PeerError, reply: Reply
    ) -> None:
        core = envelope.core
        context = Context(reserved=reserved, leaf=self._leaf(envelope), deferred=reply.deferred)
        tx.changes.add("put_envelope", envelope.digest, core.sender, envelope.received, envelope.body, None)
        event = Received(core.id, core.attempt, core.seq, envelope.digest, tx.now, error.code, error.clause)
        await step(tx, self.queues, self._state(tx, core.sender), event, context)
        if error.code in DISAGREEMENTS:  # its sender judged the same before, and found otherwise
            tx.after.append(lambda: self.queues.notify("alarm", core.sender, core.id, None))

    async def _accept(
        self,
        tx: Transaction,
        envelope: SignedEnvelope,
        cek: bytes,
        message: Message,
        agreement: Agreement,
        reserved: ReservedLeaf,
        reply: Reply,
    ) -> None:
        core, peer = envelope.core, envelope.core.sender
        absent = await self._absent(tx, peer, message)
        case_id = tx.secrets.case_id(message.header.case)
        await tx.use_case(case_id)
        for blob in core.blobs:
            tx.changes.add("put_blob", blob.h, peer, core.id, "in", blob.length, 0, None)
        wrapped = tx.secrets.wrap(case_id, cek, envelope.digest)
        tx.changes.add("put_envelope", envelope.digest, peer, envelope.received, envelope.body, wrapped)
        context = Context(
            reserved=reserved,
            leaf={**self._leaf(envelope), "commitment": message.commitment},
            case_id=case_id,
            in_reply_to=message.header.in_reply_to,
            duty=message.duty,
            retention=message.header.retention_days if message.duty is None else None,
            deferred=reply.deferred,
            clock=clock_fact(message.header, peer, agreement, message.decision.clause),
        )
        event = Received(
            id=core.id,
            attempt=core.attempt,
            seq=core.seq,
            digest=envelope.digest,
            now=tx.now,
            clause=message.decision.clause,
            # Also where they are here already, from somebody else: its sender learns nothing of that.
            has_blobs=bool(core.blobs),
            absent=absent,
        )
        state = await step(tx, self.queues, self._state(tx, peer), event, context)
        if state.incoming is not None and state.incoming.status is Status.ACCEPTED:
            await note_received(tx, self.queues, peer, message)
        if message.duty is None:
            await tx.count(agreement.digest, message.decision.clause or "", peer, core.created.date().isoformat())

    async def _absent(self, tx: Transaction, peer: NodeId, message: Message) -> tuple[wire.MessageId, ...]:
        """Step R18: the references that were not exchanged with this peer."""
        references = message.header.references
        if not references:
            return ()
        await tx.load_incoming(peer, references)
        await tx.load_outgoing(peer, references)
        return tuple(
            ident
            for ident in references
            if (peer, ident) not in tx.outgoing
            and not any(row.record.status in DELIVERED for row in tx.incoming[peer, ident].values())
        )

    async def _take_void(self, tx: Transaction, void: Void, reply: Reply) -> None:
        if tx.answers_already(void.sender, void.digest):
            return
        # Where the message itself was answered, that answer goes out again beside the refusal of the void, each time:
        # neither of the two may have arrived before.
        await tx.load_incoming(void.sender, [void.id])
        for row in tx.incoming[void.sender, void.id].values():
            if row.answer is not None and row.record.seq == void.seq:
                reply.repeat(void.digest, await tx.store.read("answer", row.answer))
        if rows := await tx.store.read("other_answer", void.digest):
            reply.repeat(void.digest, rows)
            return
        context = Context(leaf={"code": None}, deferred=reply.deferred)
        event = Voided(void.seq, void.digest, tx.now)
        await step(tx, self.queues, self._state(tx, void.sender), event, context)

    def _state(self, tx: Transaction, peer: NodeId) -> State:
        return State(tx.window(peer), held=tx.held_of(peer))

    @staticmethod
    def _leaf(envelope: SignedEnvelope) -> dict[str, object]:
        agreement = envelope.core.agreement
        return {"agreement": agreement_ref(agreement.id, agreement.version)}
