"""What answers this node owes and is owed, and until when.

Implements docs/protocol.md section 8.7.

Rules:
1. Nothing here is a second truth: a clock is computed from stored facts (node.clockwork) and the agreement they name.
2. The operator is told of each state once; what was told is stored with the log entry that says so, in one transaction.
3. Only lateness is an entry of the log: an auditor asks who was late, not who was reminded.

What it does not do: remind officers by itself, or speak to the peer: the command line names its duty desk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from exchange.core.audit import Event, agreement_ref
from exchange.core.clocks import LATE, Clock, ClockState
from exchange.core.wire import Digest, MessageId, NodeId, encode_time, parse_time
from exchange.node.records import id_list

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from exchange.core.agreements import Agreement
    from exchange.core.wire import JsonObject
    from exchange.node.ledger import Ledger, Transaction
    from exchange.node.queues import Queues
    from exchange.node.registry import Registry
    from exchange.ports import Records, Row

MAX_OPEN: Final = 10_000
_LATE_EVENTS: Final = {ClockState.OVERDUE: Event.OVERDUE, ClockState.ESCALATED: Event.ESCALATED}


class Obligation(NamedTuple):
    """One message that asks for an answer. ``direction`` is that of the message: what came in, this node owes."""

    direction: str
    peer: NodeId
    id: MessageId
    urgency: str
    agreement: Agreement
    clause: str
    clock: Clock
    told: ClockState

    def to_json(self, registry: Registry, now: datetime) -> JsonObject:
        """As lists show it; the duty desk of the peer is named where waiting longer is no use."""
        state = self.clock.state(now)
        card = registry.cards.get(self.peer)
        answered = self.clock.answered
        return {
            "id": self.id,
            "owed": "by us" if self.direction == "in" else "to us",
            "peer": self.peer,
            "urgency": self.urgency,
            "agreement": agreement_ref(self.agreement.id, self.agreement.version),
            "clause": self.clause,
            "accepted": encode_time(self.clock.started),
            "due": encode_time(self.clock.due),
            "state": state.value,
            "answered": None if answered is None else encode_time(answered),
            "late": self.clock.was_late or state in LATE,
            "duty_desk": card.duty_desk if card is not None and state is ClockState.ESCALATED else None,
        }


def _obligation(row: Row, registry: Registry) -> Obligation | None:
    """The clock of a row; None where its agreement is not held any more, which no command of this program causes."""
    direction, peer, ident, asked, digest, clause, accepted, told, answered = row
    agreement = registry.agreements.get(Digest(digest))
    relied = None if agreement is None else agreement.clause(clause)
    if agreement is None or relied is None or asked not in relied.respond_within:
        return None
    clock = Clock(
        parse_time(accepted), relied.respond_within[asked], None if answered is None else parse_time(answered)
    )
    return Obligation(direction, NodeId(peer), MessageId(ident), asked, agreement, clause, clock, ClockState(told))


async def open_obligations(store: Records, registry: Registry) -> list[Obligation]:
    """Every message that waits for its answer, by the time that is due."""
    rows = await store.read("clocks_open", MAX_OPEN)
    found = [item for row in rows if (item := _obligation(row, registry)) is not None]
    return sorted(found, key=lambda item: (item.clock.due, item.id))


@dataclass(slots=True)
class Obligations:
    """Lists clocks, and tells the operator how far they have run."""

    registry: Registry
    ledger: Ledger
    queues: Queues

    async def listed(self, now: datetime) -> list[JsonObject]:
        """Every answer that is still due, the first one first."""
        found = await open_obligations(self.ledger.store, self.registry)
        return [item.to_json(self.registry, now) for item in found]

    async def of(self, direction: str, ids: Iterable[str], now: datetime) -> dict[tuple[str, str], JsonObject]:
        """The clocks of messages of one direction, by peer and id; answered ones too."""
        rows = await self.ledger.store.read("clocks_of", direction, id_list(ids))
        found = [item for row in rows if (item := _obligation(row, self.registry)) is not None]
        return {(item.peer, item.id): item.to_json(self.registry, now) for item in found}

    async def look(self, now: datetime) -> None:
        """Tell what ran further since the operator was last told, and log what is late."""
        found = await open_obligations(self.ledger.store, self.registry)
        order = list(ClockState)
        further = [item for item in found if order.index(item.clock.state(now)) > order.index(item.told)]
        if not further:
            return

        async def job(tx: Transaction) -> None:
            for item in further:
                await self._tell(tx, item, item.clock.state(now))

        await self.ledger.do(job)

    async def _tell(self, tx: Transaction, item: Obligation, state: ClockState) -> None:
        tx.changes.add("put_clock_told", state.value, item.direction, item.peer, item.id)
        event = _LATE_EVENTS.get(state)
        if event is not None:
            tx.record(
                event,
                actor="node",
                peer=item.peer,
                subject=await self._envelope(tx, item),
                agreement=agreement_ref(item.agreement.id, item.agreement.version),
                clause=item.clause,
            )
        tx.after.append(lambda: self.queues.notify(f"answer_{state.value}", item.peer, item.id, None))

    @staticmethod
    async def _envelope(tx: Transaction, item: Obligation) -> Digest | None:
        """The envelope of the message, as the log names it."""
        if item.direction == "out":
            await tx.load_outgoing(item.peer, [item.id])
            return tx.outgoing[item.peer, item.id].record.digest
        await tx.load_incoming(item.peer, [item.id])
        rows = tx.incoming[item.peer, item.id]
        return rows[max(rows)].record.digest
