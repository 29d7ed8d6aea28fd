"""Carrying out what ``core.relay.handle`` ordered, inside one transaction.

Implements docs/protocol.md section 7, step R20. Rule: this is the only place where effects become rows, log entries
and calls after the commit; receiving and sending both go through it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, assert_never

from exchange.core import answers as answer_documents
from exchange.core.answers import AnswerItem
from exchange.core.audit import Event
from exchange.core.delivery import (
    Answer,
    Defer,
    Deliver,
    Received,
    Record,
    Replied,
    Seal,
    Sealed,
    Send,
    SendVoid,
    State,
    Status,
    Tell,
    Unsend,
)
from exchange.core.relay import handle
from exchange.core.retention import keep_until
from exchange.core.wire import DocumentType, encode_signed_document
from exchange.node.ledger import PendingAnswer, Transaction
from exchange.node.records import IncomingRow, OutgoingRow

if TYPE_CHECKING:
    from datetime import datetime

    from exchange.core.audit import ReservedLeaf
    from exchange.core.delivery import Effect, Incoming, Outgoing
    from exchange.core.delivery import Event as RelayEvent
    from exchange.core.duties import Duty
    from exchange.core.wire import Digest, KeyId, MessageId, NodeId
    from exchange.node.clockwork import ClockFact
    from exchange.node.queues import Queues

LANE_RANK: Final = {"alert": 0, "normal": 1, "bulk": 2}
_RECEIPTS: Final = frozenset({Event.DELIVERED, Event.COMPLETED})
_JUDGEMENTS: Final = frozenset({Event.RECEIVED, Event.REFUSED})


@dataclass(slots=True)
class Context:
    """What a step's effects need beside the records: its log entry's fields and the row's other columns."""

    reserved: ReservedLeaf | None = None
    leaf: dict[str, Any] | None = None
    case_id: str | None = None
    in_reply_to: MessageId | None = None
    agreement: Digest | None = None
    relied: str | None = None
    duty: Duty | None = None
    retention: int | None = None
    lane: str = "normal"
    envelope: tuple[bytes, bytes] | None = None
    draft: bytes | None = None
    answer: Digest | None = None
    deferred: list[tuple[Digest, str]] | None = None
    proposer: KeyId | None = None
    waits: bool = False
    clock: ClockFact | None = None
    accepted: datetime | None = None  # when the peer signed that it has it


async def step(tx: Transaction, queues: Queues, state: State, event: RelayEvent, context: Context) -> State:
    """Run one event through the machine and write what follows."""
    before = state
    state, effects = handle(state, event)
    peer = state.window.peer
    if state.window is not before.window:
        tx.windows[peer] = state.window
    # A held message keeps its place until this step is over: what changed is found without comparing all with all.
    changed = [item for earlier, item in zip(before.held, state.held, strict=False) if item is not earlier]
    await tx.load_incoming(peer, [item.id for item in changed])
    others = {item.digest: tx.incoming[peer, item.id][item.attempt] for item in changed}
    index: int | None = None
    entries: dict[str | None, int | None] = {}
    for effect in effects:
        index = await _carry_out(tx, queues, state, effect, context, index, others)
        if isinstance(effect, Record) and effect.event in _JUDGEMENTS:
            entries[effect.subject] = index
    if state.held is not before.held:
        tx.held[peer] = tuple(item for item in state.held if item.status is Status.HELD)
    if state.outgoing is not None and state.outgoing is not before.outgoing:
        _put_outgoing(tx, state.outgoing, context)
    if state.incoming is not None and state.incoming is not before.incoming:
        _put_incoming(tx, _with_entry(state.incoming, entries), context)
    for item in changed:
        tx.put_incoming(_with_end(others[item.digest]._replace(record=_with_entry(item, entries))))
    if context.clock is not None:
        _note_clock(tx, state, event, context.clock)
    return state


def _note_clock(tx: Transaction, state: State, event: RelayEvent, fact: ClockFact) -> None:
    """What asks or answers is noted when it is sealed, and when it is received and not refused."""
    if isinstance(event, Sealed):
        tx.clocks.note("out", fact)
    elif isinstance(event, Received) and state.incoming is not None and state.incoming.code is None:
        tx.clocks.note("in", fact)
        if state.incoming.status is Status.ACCEPTED:
            tx.clocks.accept("in", fact.peer, fact.id, tx.now)


def _with_entry(record: Incoming, entries: dict[str | None, int | None]) -> Incoming:
    """The record with the index of the entry that judged it, if this step did."""
    return record._replace(log_index=entries[record.digest]) if record.digest in entries else record


async def _carry_out(  # noqa: C901, PLR0912 - one case an effect
    tx: Transaction,
    queues: Queues,
    state: State,
    effect: Effect,
    context: Context,
    index: int | None,
    others: dict[Digest, IncomingRow],
) -> int | None:
    peer = state.window.peer
    match effect:
        case Record():
            fields = {"peer": peer, "subject": effect.subject, "code": effect.code, "clause": effect.clause}
            other = None if effect.subject is None else others.get(effect.subject)
            # A message that this step released was held under another agreement and with another commitment.
            more = context.leaf or {} if other is None else _leaf_of(other)
            fields |= {name: value for name, value in more.items() if value is not None}
            if effect.event is Event.OPENED:
                fields["actor"] = effect.actor
            if effect.event in _RECEIPTS and state.outgoing is not None and context.accepted is not None:
                tx.clocks.accept("out", peer, state.outgoing.id, context.accepted)
            reserved, context.reserved = context.reserved, None
            return tx.record(effect.event, reserved, **fields)
        case Answer():
            _queue_answer(tx, state, effect, index)
        case Defer():
            if context.deferred is not None:
                context.deferred.append((effect.digest, effect.code))
        case Send():
            outgoing = state.outgoing
            if outgoing is not None and context.envelope is not None:
                document, body = context.envelope
                lane = LANE_RANK[context.lane]
                tx.changes.add("put_outbox", effect.digest, peer, lane, outgoing.seq, outgoing.id)
                item = (lane, outgoing.seq, effect.digest, outgoing.id, document, body)
                tx.after.append(lambda: queues.push(peer, item))
        case Unsend():
            tx.changes.add("drop_outbox", effect.digest)
            tx.after.append(lambda: queues.drop(peer, effect.digest))
        case Seal():
            tx.after.append(lambda: queues.wake_sealing(peer))
        case SendVoid():
            await _send_void(tx, queues, peer, effect)
        case Deliver():
            other = next((row for row in others.values() if row.record.id == effect.id), None)
            await _mark_replied(tx, queues, peer, context.in_reply_to if other is None else other.in_reply_to)
            if other is not None:  # it was held: its acceptance is signed only now
                tx.clocks.accept("in", peer, effect.id, tx.now)
            tx.after.append(lambda: queues.notify("received", peer, effect.id, None))
        case Tell():
            tx.after.append(lambda: queues.notify("status", peer, effect.id, effect.status))
        case _:
            assert_never(effect)
    return index


def _queue_answer(tx: Transaction, state: State, effect: Answer, index: int | None) -> None:
    item = AnswerItem(effect.digest, effect.outcome, index or 0, effect.code, effect.clause)
    peer = state.window.peer
    records = [record for record in (state.incoming, *state.held) if record and record.digest == effect.digest]
    message = (records[0].id, records[0].attempt) if records else None
    tx.answer(peer, PendingAnswer(item, message))


async def _send_void(tx: Transaction, queues: Queues, peer: Any, effect: SendVoid) -> None:  # noqa: ANN401 - a NodeId
    leaf = tx.reserve(Event.VOID_SENT)
    payload = answer_documents.encode_void(
        network=tx.registry.network,
        sender=tx.registry.me,
        recipient=peer,
        key=tx.secrets.envelope_key.id,
        time=tx.now,
        seq=effect.seq,
        message=effect.id,
        reason=effect.reason,
    )
    document = await tx.secrets.sign(leaf, Event.VOID_SENT, DocumentType.VOID, payload)
    digest, data = document.digest(), encode_signed_document(document)
    tx.record(Event.VOID_SENT, leaf, peer=peer, subject=digest, code=effect.reason)
    tx.changes.add("put_envelope", digest, peer, data, b"", None)
    tx.changes.add("put_outbox", digest, peer, LANE_RANK["normal"], effect.seq, effect.id)
    item = (LANE_RANK["normal"], effect.seq, digest, effect.id, data, b"")
    tx.after.append(lambda: queues.push(peer, item))


def _put_outgoing(tx: Transaction, record: Outgoing, context: Context) -> None:
    held = tx.outgoing.get((record.peer, record.id))
    if held is None:
        if context.case_id is None or context.agreement is None or context.relied is None:
            message = "a new outgoing record needs its case, agreement and clause"
            raise ValueError(message)
        row = OutgoingRow(
            record,
            context.case_id,
            context.agreement,
            context.relied,
            context.draft,
            context.answer,
            proposer=context.proposer,
            waits=context.waits,
        )
        if context.duty is not None:
            row = row._replace(duty=context.duty.kind, about=context.duty.about)
    else:
        # Once sealed, the statement is in the envelope; the draft would be a second copy to erase.
        draft = held.draft if record.digest is None and context.draft is None else context.draft
        row = held._replace(
            record=record,
            agreement=context.agreement or held.agreement,
            draft=draft,
            answer=context.answer or held.answer,
        )
    tx.put_outgoing(row)


def _put_incoming(tx: Transaction, record: Incoming, context: Context) -> None:
    held = tx.incoming.get((record.peer, record.id), {}).get(record.attempt)
    if held is None:
        leaf = context.leaf or {}
        agreement, commitment = leaf.get("agreement"), leaf.get("commitment")
        row = IncomingRow(record, context.case_id, None, agreement, commitment, context.in_reply_to)
        row = _with_end(row._replace(retention=context.retention))
        if context.duty is not None:
            row = row._replace(duty=context.duty.kind, about=context.duty.about)
        tx.put_incoming(row)
    else:
        tx.put_incoming(held._replace(record=record))


def _with_end(row: IncomingRow) -> IncomingRow:
    """The row with the day on which its copy is over, which counts from acceptance."""
    if row.retention is None or row.keep_until is not None or row.record.status is not Status.ACCEPTED:
        return row
    return row._replace(keep_until=keep_until(row.record.updated, row.retention))


async def _mark_replied(tx: Transaction, queues: Queues, peer: NodeId, ident: MessageId | None) -> None:
    """Our message that a delivered one answers is answered now."""
    if ident is None:
        return
    await tx.load_outgoing(peer, [ident])
    row = tx.outgoing.get((peer, ident))
    if row is not None:
        await step(tx, queues, State(tx.window(peer), outgoing=row.record), Replied(tx.now), Context())


def _leaf_of(row: IncomingRow) -> dict[str, Any]:
    return {"agreement": row.agreement, "commitment": row.commitment}
