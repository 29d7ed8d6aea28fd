"""Legal holds: a court forbids for a time that the copy of a received message is erased.

Implements docs/protocol.md section 8.9.

Rules:
1. A hold stops retention, recall and correction alike. The originator is told when one is placed and when one is
   released, and again in reply to a recall that it stops.
2. Court and reference lie under the master key; the log commits to them with a salt (9.1), and says who placed a hold.
3. A hold ends after its last day, by this node's clock; while the clock is doubtful none ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final, NamedTuple

from exchange.core import wire
from exchange.core.audit import SALT_BYTES, Event, commit_detail
from exchange.core.errors import LocalError, PeerError
from exchange.core.wire import encode_time
from exchange.node import naming
from exchange.node.copies import IN, Copy, Stage, today
from exchange.node.withdrawals import duty_draft, read_statement

if TYPE_CHECKING:
    from datetime import datetime

    from exchange.core.wire import Digest, JsonObject, JsonValue, MessageId, NodeId
    from exchange.node.ledger import Ledger, Transaction
    from exchange.node.queues import Queues
    from exchange.node.records import IncomingRow
    from exchange.node.sending import Sender
    from exchange.node.steadiness import Steadiness
    from exchange.ports import Clock, Records, Secrets

MAX_HOLDS: Final = 64  # of one message
MAX_TEXT: Final = 200


class Hold(NamedTuple):
    """One hold; ``salt`` is that of its log entry."""

    number: int
    until: date
    court: str
    reference: str
    salt: bytes
    placed: str
    released: str | None

    @property
    def commitment(self) -> Digest:
        """What the log entry commits to."""
        return commit_detail(self.salt, wire.encode_json(_detail(self)))

    def to_json(self) -> JsonObject:
        """As lists show it."""
        shown: JsonObject = {"number": self.number, "court": self.court, "reference": self.reference}
        return {**shown, "until": self.until.isoformat(), "placed": self.placed, "released": self.released}

    def notice(self, state: str) -> JsonObject:
        """The content of the notice that tells the originator."""
        said: JsonObject = {"kind": "hold-notice", "state": state, "court": self.court, "reference": self.reference}
        return {**said, "until": self.until.isoformat()}


def _detail(hold: Hold) -> JsonObject:
    return {"court": hold.court, "reference": hold.reference, "until": hold.until.isoformat()}


async def holds_of(store: Records, secrets: Secrets, peer: str, ident: str) -> list[Hold]:
    """Every hold that was ever placed on a message, in their order."""
    found: list[Hold] = []
    for number, until, sealed, placed, released in await store.read("holds_of", peer, ident):
        plain = wire.parse_json(secrets.unwrap_local(sealed, f"hold {peer} {ident} {number}"), max_bytes=4096)
        fields = wire.Fields(plain, "hold")
        salt = fields.bytes("salt", length=SALT_BYTES)
        court, reference = fields.text("court"), fields.text("reference")
        found.append(Hold(number, date.fromisoformat(until), court, reference, salt, placed, released))
    return found


def active(holds: list[Hold], now: datetime, *, doubtful: bool) -> Hold | None:
    """The hold that lasts longest, of those that were not released and have not ended."""
    lasting = [hold for hold in holds if hold.released is None and (doubtful or hold.until >= today(now))]
    return max(lasting, key=lambda hold: hold.until, default=None)


async def find_received(store: Records, ident: str, sender: NodeId | None) -> IncomingRow:
    """The received message that a hold is about. Raises ``LocalError`` input.erased, and as ``naming.received``."""
    found = await naming.received(store, ident, sender)
    if found.gone:
        raise LocalError("input.erased")
    return found


@dataclass(slots=True)
class Holds:
    """Places, releases and lists holds."""

    ledger: Ledger
    queues: Queues
    secrets: Secrets
    clock: Clock
    sender: Sender
    steadiness: Steadiness

    async def listed(self, ident: str, sender: NodeId | None = None) -> list[JsonValue]:
        """The holds of a message, by their numbers."""
        record = (await find_received(self.ledger.store, ident, sender)).record
        return [hold.to_json() for hold in await holds_of(self.ledger.store, self.secrets, record.peer, record.id)]

    async def add(
        self, ident: str, court: str, reference: str, until: date, actor: str, sender: NodeId | None = None
    ) -> JsonObject:
        """Place a hold, and tell the originator. Raises ``LocalError`` input.hold beside ``find_received``'s."""
        row = await find_received(self.ledger.store, ident, sender)
        if until < today(self.clock.now()) or not 0 < len(court) <= MAX_TEXT or not 0 < len(reference) <= MAX_TEXT:
            raise LocalError("input.hold")
        peer, salt = row.record.peer, self.clock.random(SALT_BYTES)

        async def job(tx: Transaction) -> JsonObject:
            held = await holds_of(tx.store, tx.secrets, peer, ident)
            if len(held) >= MAX_HOLDS:
                raise PeerError("relay.quota", "holds")
            hold = Hold(len(held) + 1, until, court, reference, salt, encode_time(tx.now), None)
            sealed = wire.encode_json({"salt": wire.encode_base64(salt), "court": court, "reference": reference})
            detail = tx.secrets.wrap_local(sealed, f"hold {peer} {ident} {hold.number}")
            tx.changes.add("put_hold", peer, ident, hold.number, until.isoformat(), detail, hold.placed, None)
            self._log(tx, Event.HOLD_PLACED, row, hold, actor)
            await self.tell(tx, row, hold, "placed", None)
            lasting = active([*held, hold], tx.now, doubtful=self.steadiness.doubtful)
            await self._keep(tx, row, lasting)
            return hold.to_json()

        result: JsonObject = await self.ledger.do(job)
        return result

    async def release(
        self, ident: str, reference: str | None, actor: str, sender: NodeId | None = None
    ) -> list[JsonValue]:
        """Release the holds of that reference, or all; and tell the originator. What is due is erased then."""
        row = await find_received(self.ledger.store, ident, sender)
        peer = row.record.peer

        async def job(tx: Transaction) -> list[JsonValue]:
            held = await holds_of(tx.store, tx.secrets, peer, ident)
            chosen = [item for item in held if item.released is None and reference in {None, item.reference}]
            if not chosen:
                raise PeerError("input.no_hold", "reference")
            released = [hold._replace(released=encode_time(tx.now)) for hold in chosen]
            for hold in released:
                tx.changes.add(
                    "put_hold", peer, ident, hold.number, hold.until.isoformat(), b"", hold.placed, hold.released
                )
                self._log(tx, Event.HOLD_RELEASED, row, hold, actor)
                await self.tell(tx, row, hold, "released", None)
            done = {hold.number for hold in released}
            left = [item for item in held if item.number not in done]
            await self._keep(tx, row, active(left, tx.now, doubtful=self.steadiness.doubtful))
            tx.after.append(self.queues.erasing.set)
            return [hold.to_json() for hold in released]

        result: list[JsonValue] = await self.ledger.do(job)
        return result

    async def tell(
        self, tx: Transaction, row: IncomingRow, hold: Hold, state: str, in_reply_to: MessageId | None
    ) -> None:
        """Send the notice; where the peer cannot be sent to, its officers are told otherwise."""
        statement = await read_statement(tx, row.record.digest, row.case_id or "")
        case = str(statement.header()["case"])
        draft = duty_draft(case, row.record.id, hold.notice(state), in_reply_to)
        await self.sender.submit_within(tx, draft, row.record.peer)

    @staticmethod
    async def _keep(tx: Transaction, row: IncomingRow, lasting: Hold | None) -> None:
        """What the originator knows of holds now."""
        peer, ident = row.record.peer, row.record.id
        copy = await tx.copies.get(tx.store, IN, peer, ident) or Copy(IN, peer, ident, Stage.KEPT, tx.now)
        tx.copies.put(copy._replace(held_until=None if lasting is None else lasting.until))

    @staticmethod
    def _log(tx: Transaction, event: Event, row: IncomingRow, hold: Hold, actor: str) -> None:
        tx.record(event, actor=actor, peer=row.record.peer, subject=row.record.digest, commitment=hold.commitment)
