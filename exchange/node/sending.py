"""Sending: from an officer's draft to the outbox, and from a peer's answers back to the officer.

Implements docs/protocol.md sections 6.2 (S1 to S6), 7.4 and 7.7.

Rules:
1. Everything is judged before anything is sealed; if one recipient is refused nothing leaves, unless the officer
   said that permitted recipients are enough.
2. Sealing, number, leaf and outbox row are one transaction. Retries send identical bytes.
3. Without a live prekey the statement waits unsealed, encrypted under its case's key.
4. After a signed ``expired`` or ``prekey_gone`` the same statement is sealed again as the next attempt, under the
   agreement that serves then.
5. What a clause wants officers to approve waits unsealed for them, and is not looked at until they have signed.

Length: an officer's draft, its sealing and its peer's answer are the stages of one record.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from exchange.core.answers import Answers, Outcome
from exchange.core.audit import Event, agreement_ref
from exchange.core.clocks import start_of
from exchange.core.decision import DISAGREEMENTS, Decision, decide
from exchange.core.delivery import Answered, Cancelled, Replied, Sealed, Sent, State, Status, Submitted, Tick
from exchange.core.duties import is_duty
from exchange.core.envelope import MAX_LIFETIME, Core, open_body
from exchange.core.errors import IntegrityError, PeerError
from exchange.core.gate import LANE_OF_URGENCY, make_exchange, read_header
from exchange.core.relay import MAX_WAIT, RESEAL, RESEAL_WAIT, next_attempt
from exchange.core.statement import ATTACHMENTS, Statement, encode_statement, parse_statement
from exchange.core.wire import Digest, NodeId, encode_time
from exchange.node.approving import given_approvals
from exchange.node.clockwork import clock_fact
from exchange.node.effects import Context, step
from exchange.node.planning import (
    Draft,
    Plan,
    agreement_reference,
    blob_refs,
    encode_variant,
    for_recipients,
    make_plan,
    plan_to_json,
    read_draft,
    stop_suspended,
)
from exchange.node.prekeys import SEND_MARGIN
from exchange.node.reading import stored_envelope
from exchange.node.roles import pseudonym
from exchange.node.subjects import find_duty
from exchange.node.withdrawals import note_sent
from exchange.ports import SealItem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from exchange.core.agreements import Agreement, Approvals
    from exchange.core.answers import AnswerItem
    from exchange.core.decision import Exchange
    from exchange.core.envelope import BlobRef
    from exchange.core.gate import Header
    from exchange.core.keys import Prekey
    from exchange.core.schemas import SchemaBook
    from exchange.core.wire import JsonObject, JsonValue, KeyId, MessageId
    from exchange.node.ledger import Ledger, Transaction
    from exchange.node.queues import Queues
    from exchange.node.records import OutgoingRow
    from exchange.node.registry import Registry
    from exchange.node.steadiness import Steadiness
    from exchange.ports import Clock


@dataclass(frozen=True, slots=True)
class Sealing:
    """What is to be sealed for one recipient."""

    header: Header
    blobs: tuple[BlobRef, ...]
    statement: Statement
    encoded: bytes  # the statement's exact text
    agreement: Agreement
    actor: str
    officers: Digest | None = None  # the list that its approvals rest on


@dataclass(frozen=True, slots=True)
class Submission:
    """Who submitted a draft, and whether it waits for approvals."""

    actor: str
    proposer: KeyId | None
    waits: bool


@dataclass(slots=True)
class Sender:
    """Takes drafts from officers and answers from peers."""

    registry: Registry
    book: SchemaBook
    ledger: Ledger
    queues: Queues
    clock: Clock
    steadiness: Steadiness

    # -- from officers

    async def submit(
        self,
        draft_value: JsonValue,
        to: Sequence[str],
        attachments: Sequence[JsonObject],
        *,
        actor: str = "operator",
        permitted_only: bool = False,
        dry_run: bool = False,
        note_refusals: bool | None = None,
        proposer: KeyId | None = None,
    ) -> JsonObject:
        """Judge a draft, and unless it is a dry run, seal it for its recipients.

        ``note_refusals``: whether a refusal becomes an entry of the log; that of a dry run does not unless told to.
        ``proposer`` is the officer who submits it. Where a clause asks for approvals the statement waits for them,
        unsealed, for all its recipients.

        Returns {id, recipients[]: {to, allowed, agreement, clause, code, reason, parts, withheld, withheld_fields,
        text, needs, duties}, root and waits where it waits}. Raises ``PeerError`` with the code of the first refusal
        where nothing may leave.
        """
        noted = not dry_run if note_refusals is None else note_refusals
        peers = list(dict.fromkeys(self.registry.resolve(name) for name in to))
        now = self.clock.now()
        draft = read_draft(
            draft_value,
            attachments,
            peers,
            book=self.book,
            registry=self.registry,
            now=now,
            random=self.clock.random,
        )

        async def job(tx: Transaction) -> JsonObject:
            plans = [await make_plan(tx, self.registry, self.book, draft, peer) for peer in peers]
            if proposer is None and not dry_run and any(plan.asks.count for plan in plans):
                raise PeerError("officers.required", self.registry.me)  # nobody could ever propose it
            allowed = [plan for plan in plans if plan.decision.allowed]
            kept = for_recipients(draft, tuple(plan.peer for plan in allowed))
            # Before anything is written: what is too long for a recipient to read is refused, also in a dry run.
            variants = [(plan, *encode_variant(kept, plan)) for plan in allowed]
            result: JsonObject = {
                "id": draft.id,
                "recipients": [plan_to_json(plan, draft, self.book) for plan in plans],
            }
            for plan in plans:
                if noted and not plan.decision.allowed:
                    tx.record(
                        Event.REFUSED,
                        actor=actor,
                        peer=plan.peer,
                        code=plan.decision.code,
                        clause=plan.decision.clause,
                        agreement=_reference(plan),
                    )
            if dry_run:
                return result
            if not allowed or (len(allowed) < len(plans) and not permitted_only):
                # Returned, not raised: the refusals above are part of this transaction.
                return {**result, "refused": True}
            waits = any(plan.asks.count for plan in allowed)
            if waits:
                result |= {"waits": True, "root": variants[0][1].root}
            for plan, statement, encoded in variants:
                await self._queue(tx, kept, plan, statement, encoded, Submission(actor, proposer, waits))
            if not waits:
                await self._mark_replied(tx, kept.read)
            return result

        result: JsonObject = await self.ledger.do(job)
        return result

    async def queue(self, tx: Transaction, draft: Draft, plan: Plan, actor: str) -> None:
        """Store what a plan permits without approvals, in a transaction of the caller's.

        Raises ``PeerError`` wire.too_large.
        """
        await self._queue(tx, draft, plan, *encode_variant(draft, plan), Submission(actor, None, waits=False))

    async def submit_within(self, tx: Transaction, draft_value: JsonValue, peer: NodeId) -> MessageId | None:
        """Queue a duty message that the node itself sends, within a transaction; None where it may not leave now."""
        draft = read_draft(
            draft_value,
            [],
            [peer],
            book=self.book,
            registry=self.registry,
            now=tx.now,
            random=self.clock.random,
        )
        plan = await make_plan(tx, self.registry, self.book, draft, peer)
        if not plan.decision.allowed:
            return None
        await self.queue(tx, draft, plan, "node")
        await self._mark_replied(tx, draft.read)
        return draft.id

    async def _queue(
        self, tx: Transaction, draft: Draft, plan: Plan, statement: Statement, encoded: bytes, by: Submission
    ) -> None:
        """Store the message and seal it if a prekey lives and nobody's approval is missing."""
        peer = plan.peer
        case_id = tx.secrets.case_id(draft.read.case)
        await tx.use_case(case_id)
        sealable = self.live_prekey(peer, tx.now) is not None and not by.waits
        context = Context(
            case_id=case_id,
            agreement=statement.agreement,
            relied=statement.clause,
            duty=plan.duty,
            draft=None if sealable else tx.secrets.wrap(case_id, encoded, f"draft {draft.id}"),
            leaf={"actor": by.actor},
            proposer=by.proposer,
            waits=by.waits,
        )
        state = State(tx.window(peer))
        state = await step(tx, self.queues, state, Submitted(draft.id, tx.now), context)
        for blob in () if ATTACHMENTS in plan.withheld else draft.blobs:
            tx.changes.add("put_blob", blob.h, peer, draft.id, "out", blob.length, 0, None)
            tx.after.append(lambda: self.queues.has_files(peer))
        if plan.duty is not None:
            await note_sent(tx, peer, plan.duty, draft.id, draft.content, by.actor)
        if plan.agreement is not None and not by.waits:
            blobs = () if ATTACHMENTS in plan.withheld else draft.blobs
            await self._seal(tx, state, Sealing(draft.read, blobs, statement, encoded, plan.agreement, by.actor))

    def live_prekey(self, peer: NodeId, now: datetime) -> Prekey | None:
        """The key to seal to, if the peer's bundle has one now that the peer did not say it has lost."""
        bundle = self.registry.prekeys.get(peer)
        prekey = None if bundle is None else bundle.live(now)
        if prekey is None or prekey.open_until - SEND_MARGIN <= now:
            return None
        return None if prekey.key.id in self.queues.queue(peer).gone_prekeys else prekey

    async def _seal(self, tx: Transaction, state: State, sealing: Sealing) -> None:
        """Steps S2 to S6, where a prekey lives; else the statement waits."""
        peer, agreement, statement = state.window.peer, sealing.agreement, sealing.statement
        prekey = self.live_prekey(peer, tx.now)
        if prekey is None:
            tx.after.append(lambda: self.queues.queue(peer).want_prekeys())
            return
        attempt, seq = next_attempt(state)
        now = tx.now.replace(microsecond=0)
        core = Core(
            network=self.registry.network,
            id=sealing.header.id,
            attempt=attempt,
            sender=self.registry.me,
            signing_key=tx.secrets.envelope_key.id,
            recipient=peer,
            prekey=prekey.key.id,
            agreement=agreement_reference(agreement),
            seq=seq,
            created=now,
            # The peer chose open_until; the envelope's life is bounded by the protocol (R7) all the same.
            expires=min(prekey.open_until - SEND_MARGIN, now + MAX_LIFETIME),
            lane=LANE_OF_URGENCY[sealing.header.urgency],
            blobs=sealing.blobs,
            kc=b"",
            officers=sealing.officers,
        )
        case_id = tx.secrets.case_id(sealing.header.case)
        leaf = tx.reserve(Event.SEALED)
        item = SealItem(leaf, core, sealing.encoded, prekey.key, case_id)
        ((sealed, wrapped),) = await tx.secrets.seal([item])
        tx.changes.add("put_envelope", sealed.digest, peer, sealed.document, sealed.body, wrapped)
        if not is_duty(sealing.header.kind):  # a duty uses up nobody's quota
            await tx.count(agreement.digest, statement.clause, self.registry.me, now.date().isoformat())
        context = Context(
            reserved=leaf,
            leaf={
                "actor": sealing.actor,
                "agreement": agreement_ref(agreement.id, agreement.version),
                "clause": statement.clause,
                "commitment": statement.parts[0].digest,
            },
            agreement=agreement.digest,
            lane=core.lane,
            envelope=(sealed.document, sealed.body),
            clock=clock_fact(sealing.header, peer, agreement, statement.clause),
        )
        await step(tx, self.queues, state, Sealed(sealed.digest, core.expires, tx.now), context)

    async def _mark_replied(self, tx: Transaction, header: Header) -> None:
        """The incoming message that this one replies to is answered now."""
        ident = header.in_reply_to
        if ident is None:
            return
        for peer in header.recipients:
            await tx.load_incoming(peer, [ident])
            for row in tx.incoming[peer, ident].values():
                state = State(tx.window(peer), incoming=row.record)
                await step(tx, self.queues, state, Replied(tx.now), Context(case_id=row.case_id))

    # -- again

    async def seal_waiting(self, peer: NodeId, limit: int = 64) -> int:
        """Seal messages of a peer that wait unsealed and are due, under the agreement that serves now; how many.

        The second sealing comes at once; then ``RESEAL_WAIT`` after the last refusal, doubling to a day: what is wrong
        at the peer, a clock or a backup, has about a week to be set right.
        """
        wait, now = int(RESEAL_WAIT.total_seconds()), encode_time(self.clock.now())
        rows = await self.ledger.store.read("outgoing_unsealed", peer, wait, now, limit)
        idents = [str(ident) for (ident,) in rows]
        if not idents:
            return 0

        async def job(tx: Transaction) -> None:
            await tx.load_outgoing(peer, idents)
            for ident in idents:
                await self._seal_again(tx, tx.outgoing[peer, ident])

        await self.ledger.do(job)
        return len(idents)

    async def seal_approved(self, tx: Transaction, peers: Sequence[NodeId], header: Header) -> None:
        """Seal a message whose approvals are there, or let it wait for prekeys; now it answers what it replies to."""
        for peer in peers:
            await self._seal_again(tx, tx.outgoing[peer, header.id])
        await self._mark_replied(tx, header)

    async def _seal_again(self, tx: Transaction, row: OutgoingRow) -> None:
        record = row.record
        if record.digest is not None or record.status is not Status.QUEUED or row.draft is None:
            return
        await tx.use_case(row.case_id)
        encoded = tx.secrets.unwrap(row.case_id, row.draft, f"draft {record.id}")
        state = State(tx.window(record.peer), outgoing=record)
        listed = self.registry.officers_of(self.registry.me)
        try:
            statement = parse_statement(encoded)
            given = given_approvals(statement, listed, tx.now)
            header, blobs, exchange = self._read_again(statement, record.peer, tx.now, given.counted)
            exchange = replace(exchange, duty=await find_duty(tx, header, record.peer))
        except PeerError as error:
            # Accepted here under other schemas, perhaps by another version of the program: its officer hears of it.
            await step(tx, self.queues, state, Cancelled(error.code, tx.now), Context())
            return
        refusal = Decision(False, None, None, statement.clause, "agreement.unknown")  # noqa: FBT003
        for installed in self.registry.agreements_with(record.peer):
            agreement = self.registry.serving(installed.digest)
            if agreement is None:
                continue
            used = await tx.used_today(agreement.digest, self.registry.me, tx.now.date().isoformat())
            decision = decide(agreement, exchange, used, statement.clause)
            if exchange.duty is None:
                decision = stop_suspended(decision, self.registry.standing(agreement, record.peer, tx.notices))
            if decision.allowed:
                clause = agreement.clause(statement.clause)
                asks = clause is not None and clause.approvals.count > 0
                again = replace(statement, agreement=agreement.digest, approvals=given.texts if asks else ())
                officers = listed.digest if listed is not None and again.approvals else None
                actor = pseudonym(row.proposer) if row.proposer is not None and record.attempt == 0 else "node"
                encoded = encode_statement(again)
                await self._seal(tx, state, Sealing(header, blobs, again, encoded, agreement, actor, officers))
                return
            refusal = max(refusal, decision, key=lambda item: item.reach)
        if refusal.code == "envelope.approval" and listed is not None and row.proposer is not None:
            tx.put_outgoing(tx.outgoing[record.peer, record.id]._replace(waits=True))  # others may still sign
            return
        event = Cancelled(refusal.code or "agreement.unknown", tx.now)
        await step(tx, self.queues, state, event, Context(leaf={"clause": refusal.clause}))

    def _read_again(
        self, statement: Statement, peer: NodeId, now: datetime, approved: Approvals
    ) -> tuple[Header, tuple[BlobRef, ...], Exchange]:
        """A stored statement as agreements judge it; what was withheld stays withheld."""
        header = read_header(statement.header(), self.book)
        named = list(zip(header.parts, statement.parts[1:], strict=True))
        values = {name: part.value(name) for name, part in named if part.text is not None}
        withheld = tuple((name, part.clause or "") for name, part in named if part.text is None)
        content = self.book.join(header.schema, values, header.attachments)
        files = values.get(ATTACHMENTS)
        blobs = blob_refs([item for item in files if isinstance(item, dict)]) if isinstance(files, list) else ()
        return header, blobs, make_exchange(header, peer, now, content, withheld, tuple(values), blobs, approved)

    # -- from peers

    async def take_answers(self, peer: NodeId, documents: Sequence[tuple[Answers, bytes]], ids: dict[str, str]) -> None:
        """Apply verified answers; ``ids`` gives the message of each digest that was sent."""

        async def job(tx: Transaction) -> None:
            await tx.load_outgoing(peer, ids.values())
            # With the refusal of a void comes the answer to the envelope that it wanted to take back.
            rows = [tx.outgoing.get((peer, ident)) for ident in ids.values()]
            asked = {row.record.digest: row.record.id for row in rows if row is not None and row.record.digest} | ids
            taken: set[tuple[Digest, Outcome]] = set()
            for answers, data in documents:
                self.steadiness.hear(tx, answers.time)
                # What says nothing of ours, or says it again, is not kept: a peer could fill the disk with it.
                items: list[AnswerItem] = []
                for item in answers.items:
                    if item.digest in asked and (item.digest, item.outcome) not in taken:
                        taken.add((item.digest, item.outcome))
                        items.append(item)
                if items:
                    tx.changes.add("put_answer", answers.digest, peer, data)
                for item in items:
                    ident = asked[item.digest]
                    row = tx.outgoing.get((peer, ident))
                    context = Context(answer=answers.digest, accepted=start_of(answers.time, tx.now))
                    if row is not None and row.record.code == "relay.cancelled":
                        tx.after.append(self.queues.erasing.set)  # accepted all the same: it is recalled
                    if row is not None and item.code in RESEAL and row.record.digest == item.digest:
                        context.draft = await self._recover_draft(tx, row, item.code)
                    state = State(tx.window(peer), outgoing=None if row is None else row.record)
                    event = Answered(item.digest, item.outcome, item.log_index, tx.now, item.code, item.clause)
                    await step(tx, self.queues, state, event, context)
                    if item.code in DISAGREEMENTS:  # permitted here, by the same function
                        tx.after.append(partial(self.queues.notify, "alarm", peer, ident, None))
                    if item.outcome is Outcome.COMPLETE:
                        await self._mark_blobs(tx, peer, ident)

        await self.ledger.do(job)

    async def _recover_draft(self, tx: Transaction, row: OutgoingRow, code: str | None) -> bytes:
        """The statement of an envelope that must be sealed again, under its case's key."""
        record = row.record
        envelope, wrapped = await stored_envelope(tx.store, record.digest or Digest(""))
        if code == "envelope.prekey_gone":
            tx.after.append(lambda: self._lose_prekey(record.peer, envelope.core.prekey, tx.now))
        await tx.use_case(row.case_id)
        cek = tx.secrets.unwrap(row.case_id, wrapped, envelope.digest)
        try:
            encoded = open_body(envelope, cek)
        except PeerError:
            raise IntegrityError("store.corrupt", "own envelope") from None
        return tx.secrets.wrap(row.case_id, encoded, f"draft {record.id}")

    def _lose_prekey(self, peer: NodeId, prekey: KeyId, now: datetime) -> None:
        """A peer has lost a key that its bundle still offers: nothing is sealed to it, and its new ones are wanted."""
        live = self.live_prekey(peer, now)
        if live is not None and live.key.id == prekey:
            queue = self.queues.queue(peer)
            queue.gone_prekeys.add(prekey)
            queue.want_prekeys()

    async def _mark_blobs(self, tx: Transaction, peer: NodeId, ident: str) -> None:
        for h, length, whole in await tx.store.read("blobs_of", peer, ident, "out"):
            if not whole:
                tx.changes.add("put_blob", h, peer, ident, "out", length, 1, None)

    async def mark_sent(self, peer: NodeId, ids: Sequence[str]) -> None:
        """The envelopes left, and no answer came with them."""

        async def job(tx: Transaction) -> None:
            await tx.load_outgoing(peer, ids)
            for ident in ids:
                row = tx.outgoing.get((peer, ident))
                if row is not None and row.record.status is Status.QUEUED:
                    await step(tx, self.queues, State(tx.window(peer), outgoing=row.record), Sent(tx.now), Context())

        await self.ledger.do(job)

    async def tick(self, peer: NodeId, rows: Sequence[OutgoingRow]) -> None:
        """Give back to their officers what waited too long; ``rows`` may be older than their answers."""
        now = self.clock.now()
        late = [row.record.id for row in rows if now - row.record.updated >= MAX_WAIT]
        if not late:
            return

        async def job(tx: Transaction) -> None:
            await tx.load_outgoing(peer, late)
            for ident in late:
                state = State(tx.window(peer), outgoing=tx.outgoing[peer, ident].record)
                await step(tx, self.queues, state, Tick(tx.now), Context())

        await self.ledger.do(job)

    async def cancel(self, peer: NodeId, idents: Sequence[str], code: str) -> None:
        """Take messages back that were not accepted yet."""

        async def job(tx: Transaction) -> None:
            await tx.load_outgoing(peer, idents)
            for ident in idents:
                row = tx.outgoing.get((peer, ident))
                if row is not None:
                    state = State(tx.window(peer), outgoing=row.record)
                    await step(tx, self.queues, state, Cancelled(code, tx.now), Context())

        await self.ledger.do(job)


def _reference(plan: Plan) -> str | None:
    decision = plan.decision
    if decision.agreement is None or decision.version is None:
        return None
    return agreement_ref(decision.agreement, decision.version)
