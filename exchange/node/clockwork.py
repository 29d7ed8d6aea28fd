"""What response clocks run on, as rows: which message asks, which answers, and when each was accepted.

Implements the storing side of docs/protocol.md section 8.7.

Rules:
1. Facts alone are stored: the urgency asked under, the message answered, the time of the signed acceptance. When an
   answer is due follows from them and from the agreement each time it is asked for (node.obligations).
2. A fact is written with the message it is about, in the same transaction; its acceptance with that acceptance.
3. A message that neither asks nor answers has no row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from exchange.core.clocks import answers, asks
from exchange.core.wire import encode_time

if TYPE_CHECKING:
    from datetime import datetime

    from exchange.core.agreements import Agreement
    from exchange.core.gate import Header
    from exchange.core.wire import Digest, MessageId, NodeId
    from exchange.ports import Changes


class ClockFact(NamedTuple):
    """What one message means to clocks: ``asked``: its urgency where an answer is due; ``answers``: what it answers."""

    peer: NodeId
    id: MessageId
    asked: str | None
    answers: MessageId | None
    agreement: Digest
    clause: str


def clock_fact(header: Header, peer: NodeId, agreement: Agreement, clause: str | None) -> ClockFact | None:
    """What a message between this node and ``peer`` means to clocks; None where it means nothing."""
    relied = agreement.clause(clause)
    wanted = relied is not None and header.urgency in relied.respond_within
    asked = header.urgency if wanted and asks(header.kind, header.in_reply_to) else None
    answered = header.in_reply_to if answers(header.kind, header.in_reply_to) else None
    if relied is None or (asked is None and answered is None):
        return None
    return ClockFact(peer, header.id, asked, answered, agreement.digest, relied.id)


@dataclass(slots=True)
class ClockChanges:
    """What one transaction writes about clocks: new facts first, then acceptances, then what these answered."""

    _facts: dict[tuple[str, str, str], ClockFact] = field(default_factory=dict)
    _accepted: dict[tuple[str, str, str], datetime] = field(default_factory=dict)

    def note(self, direction: str, fact: ClockFact) -> None:
        """A message that asks or answers."""
        self._facts[direction, fact.peer, fact.id] = fact

    def accept(self, direction: str, peer: NodeId, ident: MessageId, moment: datetime) -> None:
        """Its receiver signed the acceptance at ``moment``; the first time counts, and only where a fact is noted."""
        self._accepted.setdefault((direction, peer, ident), moment)

    def add_to(self, changes: Changes) -> None:
        """Add the rows. The statements run in this order, so that an acceptance finds its fact."""
        for (direction, _, _), fact in self._facts.items():
            changes.add("put_clock", direction, *fact, None)
        for key, moment in self._accepted.items():
            changes.add("put_clock_accepted", encode_time(moment), *key)
        for key in self._accepted:
            changes.add("put_clock_answered", *key)
