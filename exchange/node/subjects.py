"""Looking up the earlier message that a duty is about, in the records of this node.

Implements docs/protocol.md section 8.6, its part of R18. Rule: the kind of a duty says who must have sent the message
it is about, and so in which records it is looked for; an id alone proves nothing, for peers choose their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.core.delivery import DELIVERED, Status
from exchange.core.duties import SENT_BY, Duty, Side, Subject, check_duty, check_form, is_duty

if TYPE_CHECKING:
    from exchange.core.gate import Header
    from exchange.core.wire import MessageId, NodeId
    from exchange.node.ledger import Transaction
    from exchange.node.records import IncomingRow, OutgoingRow


async def find_duty(tx: Transaction, header: Header, recipient: NodeId) -> Duty | None:
    """What a duty message passes under; None for a message of any other kind. Raises ``PeerError`` as ``check_duty``.

    The same for a duty that this node sends and for one that it receives.
    """
    if not is_duty(header.kind):
        return None
    claim = header.claim
    about = check_form(claim)
    ours = header.sender == tx.registry.me
    peer = recipient if ours else header.sender
    # The message it is about went the way of the duty where its originator speaks, else the other way.
    same_way = SENT_BY[header.kind] is Side.ORIGINATOR
    subject = await _find(tx, peer, about, sent=ours is same_way, ours=ours)
    crossed = await _find(tx, peer, about, sent=ours is not same_way, ours=ours) is not None
    request = None
    if claim.in_reply_to is not None:
        request = await _find(tx, peer, claim.in_reply_to, sent=not ours, ours=ours)
    return check_duty(claim, subject, crossed=crossed, request=request)


async def _find(tx: Transaction, peer: NodeId, ident: MessageId, *, sent: bool, ours: bool) -> Subject | None:
    """A message that this node sent to the peer, or received from it; ``ours``: the duty is this node's own."""
    if sent:
        await tx.load_outgoing(peer, [ident])
        return _sent(tx.outgoing.get((peer, ident)), ours=ours)
    await tx.load_incoming(peer, [ident])
    delivered = [row for row in tx.incoming[peer, ident].values() if row.record.status in DELIVERED]
    return _received(tx, delivered[0]) if delivered else None


def _sent(row: OutgoingRow | None, *, ours: bool) -> Subject | None:
    """Our own duty needs the peer's acceptance; a peer's duty may overtake its answer: there a sealed one is enough."""
    if row is None or row.record.digest is None:
        return None
    status = row.record.status
    if status in {Status.REFUSED, Status.EXPIRED} or (ours and status in {Status.QUEUED, Status.SENT}):
        return None
    return Subject(row.agreement, row.relied, row.duty, row.about)


def _received(tx: Transaction, row: IncomingRow) -> Subject | None:
    named = [item for item in tx.registry.agreements.values() if f"{item.id}/{item.version}" == row.agreement]
    return Subject(named[0].digest, row.record.clause, row.duty, row.about) if named else None
