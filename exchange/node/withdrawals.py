"""What a duty message changes in the records of the node that sends or receives it, in the same transaction.

Implements docs/protocol.md section 8.9.

Rules:
1. A recall or correction that is accepted makes the copy due to be erased; nothing else is asked of the officer.
2. A deletion receipt counts only where it names the envelope and the root that this node sent, and where the copy was
   to be erased: it replies to a recall or correction, or the days of retention are over. Another one is an alarm and
   changes nothing: a peer that wants to owe no answer does not say that it erased the question.
3. What is erased already is not erased again: another recall gets another receipt.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from exchange.core.audit import Event
from exchange.core.delivery import Recalled, State
from exchange.core.duties import CORRECTION, DELETION_RECEIPT, HOLD_NOTICE, RECALL
from exchange.core.envelope import open_body
from exchange.core.errors import IntegrityError, PeerError
from exchange.core.retention import keep_until
from exchange.core.statement import Statement, parse_statement
from exchange.core.wire import MessageId, parse_day, parse_time
from exchange.node.copies import IN, OUT, RETENTION, Copy, Stage
from exchange.node.effects import Context, step
from exchange.node.reading import stored_envelope

if TYPE_CHECKING:
    from exchange.core.duties import Duty
    from exchange.core.gate import Message
    from exchange.core.wire import Digest, JsonObject, NodeId
    from exchange.node.ledger import Transaction
    from exchange.node.queues import Queues

CONSENT_WITHDRAWN = "consent_withdrawn"
LEEWAY: Final = timedelta(days=1)  # the clocks of two nodes


async def read_statement(tx: Transaction, digest: Digest, case_id: str) -> Statement:
    """A stored statement, opened within a transaction."""
    envelope, wrapped = await stored_envelope(tx.store, digest)
    await tx.use_case(case_id)
    cek = tx.secrets.unwrap(case_id, wrapped, digest)
    try:
        return parse_statement(open_body(envelope, cek))
    except PeerError:
        raise IntegrityError("store.corrupt", "stored envelope") from None


def cause_of(kind: str, reason: str) -> str:
    """The code of ``deletion_causes`` for a recall or correction of that reason."""
    return CONSENT_WITHDRAWN if reason == CONSENT_WITHDRAWN else kind


def duty_draft(case: str, about: str, content: JsonObject, in_reply_to: str | None) -> JsonObject:
    """The draft of a duty that the node writes itself."""
    return {
        "kind": content["kind"],
        "purpose": "coordination",
        "handling": ["H0"],
        "tlp": "AMBER",
        "urgency": "urgent_8h",  # the lane ``alert``: nothing stands before it in the queue
        "case": case,
        "in_reply_to": in_reply_to,
        "refers_to": [about],
        "content": content,
    }


# -- sent


async def note_sent(
    tx: Transaction, peer: NodeId, duty: Duty, ident: MessageId, content: JsonObject, actor: str
) -> None:
    """This node asks a recipient to erase its copy."""
    if duty.kind not in {RECALL, CORRECTION}:
        return
    said = cast("dict[str, Any]", content)
    held = await tx.copies.get(tx.store, OUT, peer, duty.about)
    if held is None or held.stage is not Stage.ERASED:  # what is erased stays erased; the new receipt says so again
        asked = Copy(OUT, peer, duty.about, Stage.ASKED, tx.now) if held is None else held
        asked = asked._replace(stage=Stage.ASKED, why=cause_of(duty.kind, said["reason"]), reason=said["reason"])
        tx.copies.put(asked._replace(cause=ident, replaced_by=said.get("replaced_by")))
    await tx.load_outgoing(peer, [duty.about])
    row = tx.outgoing[peer, duty.about]
    tx.record(Event.RECALLED, actor=actor, peer=peer, subject=row.record.digest, code=said["reason"])


# -- received


async def note_received(tx: Transaction, queues: Queues, peer: NodeId, message: Message) -> None:
    """Take note of a duty message that was accepted."""
    duty, content = message.duty, cast("dict[str, Any]", message.content)
    if duty is None:
        return
    if duty.kind in {RECALL, CORRECTION}:
        await _due(tx, peer, duty, message.header.id, content)
        tx.after.append(queues.erasing.set)
    elif duty.kind == DELETION_RECEIPT:
        await _erased_there(tx, queues, peer, duty, message, content)
    elif duty.kind == HOLD_NOTICE:
        held = await tx.copies.get(tx.store, OUT, peer, duty.about)
        until = parse_day(content["until"]) if content["state"] == "placed" else None
        copy = held or Copy(OUT, peer, duty.about, Stage.KEPT, tx.now)
        tx.copies.put(copy._replace(held_until=until))


async def _due(tx: Transaction, peer: NodeId, duty: Duty, ident: MessageId, content: dict[str, Any]) -> None:
    held = await tx.copies.get(tx.store, IN, peer, duty.about)
    if held is not None and held.stage is Stage.ERASED:
        tx.copies.put(held._replace(cause=ident, receipt=None))
        return
    # A hold that its originator was told of is told again, in reply to this.
    tx.copies.put(
        Copy(
            IN,
            peer,
            duty.about,
            Stage.DUE,
            tx.now,
            cause_of(duty.kind, content["reason"]),
            content["reason"],
            ident,
            content.get("replaced_by"),
        )
    )


async def _was_due(tx: Transaction, digest: Digest, sent: Statement, message: Message, why: str) -> bool:
    """Whether the peer had a reason to erase its copy: this node asked for it, or its days are over."""
    if why != RETENTION:
        # By U4 it names a recall or correction of this message, by this node.
        return message.header.in_reply_to is not None
    # Nobody accepts an envelope before it is made. That time is this node's own; the peer dates its acceptance itself.
    envelope, _ = await stored_envelope(tx.store, digest)
    days = sent.header()["retention"]
    return isinstance(days, int) and keep_until(envelope.core.created, days) <= tx.now + LEEWAY


async def _erased_there(
    tx: Transaction, queues: Queues, peer: NodeId, duty: Duty, message: Message, content: dict[str, Any]
) -> None:
    row = tx.outgoing[peer, duty.about]
    digest = row.record.digest
    sent = None if digest is None else await read_statement(tx, digest, row.case_id)
    fits = sent is not None and (content["envelope"], content["root"]) == (digest, sent.root)
    if digest is None or sent is None or not fits or not await _was_due(tx, digest, sent, message, content["why"]):
        tx.record(Event.ALARM, peer=peer, subject=message.digest, code="duty.receipt")
        tx.after.append(lambda: queues.notify("alarm", peer, duty.about, None))
        return
    held = await tx.copies.get(tx.store, OUT, peer, duty.about) or Copy(OUT, peer, duty.about, Stage.KEPT, tx.now)
    if held.stage is not Stage.ERASED:
        tx.record(Event.ERASED_BY_PEER, peer=peer, subject=digest, code=content["why"])
    erased = held._replace(stage=Stage.ERASED, why=content["why"], erased=parse_time(content["deleted_at"]))
    tx.copies.put(erased._replace(root=sent.root, receipt=message.header.id, held_until=None))
    if content["why"] != RETENTION:
        await step(tx, queues, State(tx.window(peer), outgoing=row.record), Recalled(tx.now), Context())
