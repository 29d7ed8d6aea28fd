"""What is known of copies: of received messages here, and of this node's messages at their recipients.

Implements the storing side of docs/protocol.md section 8.9.

Rules:
1. The row comes first. That a copy is to be erased is written with the message that asks for it, in one transaction;
   whatever crashes afterwards, the next look carries it out.
2. A row never goes: what was erased, when and why stays known, as ids and answers do.

What it does not do: erase anything (``node.erasing``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from exchange.core.delivery import Status
from exchange.core.wire import Digest, MessageId, NodeId, encode_time, parse_time
from exchange.node.records import id_list

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exchange.core.wire import JsonObject
    from exchange.ports import Changes, Records, Row

IN = "in"
OUT = "out"
RETENTION = "retention"
MAX_AT_ONCE: Final = 256  # of each kind, in one look
_FIRST: Final = ("", "", "")


class Stage(StrEnum):
    """How far the erasing of a copy is."""

    KEPT = "kept"  # nothing asks for it; a legal hold was told
    WANTED = "wanted"  # taken back before it was accepted: recalled if it turns out that it was
    ASKED = "asked"  # a recall or a correction went out
    DUE = "due"  # to be erased here, unless a legal hold forbids it
    ERASED = "erased"


class Copy(NamedTuple):
    """One row of ``copies``."""

    direction: str
    peer: NodeId
    id: MessageId
    stage: Stage
    decided: datetime
    why: str | None = None
    reason: str | None = None
    cause: MessageId | None = None
    replaced_by: MessageId | None = None
    held_until: date | None = None
    erased: datetime | None = None
    root: Digest | None = None
    receipt: MessageId | None = None
    kept: bytes | None = None

    @property
    def taken_back(self) -> bool:
        """Whether the originator wants the copy gone and no hold is known to forbid it."""
        wanted = self.stage in {Stage.WANTED, Stage.DUE, Stage.ERASED}
        return wanted and self.why not in {None, RETENTION} and (self.stage is Stage.ERASED or self.held_until is None)

    def to_json(self) -> JsonObject:
        """As lists show it."""
        return {
            "stage": self.stage.value,
            "why": self.why,
            "reason": self.reason,
            "asked_by": self.cause,
            "replaced_by": self.replaced_by,
            "held_until": None if self.held_until is None else self.held_until.isoformat(),
            "erased": None if self.erased is None else encode_time(self.erased),
            "receipt": self.receipt,
        }


def shown_status(status: Status, copy: Copy | None) -> str:
    """The one word that an officer sees (protocol 7.4, A6): what was taken back is recalled at both ends.

    A message that came back unaccepted was refused by this node itself; its officer called it back.
    """
    if copy is None or not copy.taken_back or (copy.direction == OUT and status is not Status.REFUSED):
        return status.value
    return Status.RECALLED.value


def copy_to_row(copy: Copy) -> Row:
    """For put_copy."""
    return (
        copy.direction, copy.peer, copy.id, copy.stage.value, encode_time(copy.decided), copy.why, copy.reason,
        copy.cause, copy.replaced_by, None if copy.held_until is None else copy.held_until.isoformat(),
        None if copy.erased is None else encode_time(copy.erased), copy.root, copy.receipt, copy.kept,
    )  # fmt: skip


def copy_from_row(row: Row) -> Copy:
    """From copy and its listings."""
    direction, peer, ident, stage, decided, why, reason, cause, replaced, held, erased, root, receipt, kept = row
    return Copy(
        direction,
        NodeId(peer),
        MessageId(ident),
        Stage(stage),
        parse_time(decided),
        why,
        reason,
        cause,
        replaced,
        None if held is None else date.fromisoformat(held),
        None if erased is None else parse_time(erased),
        root,
        receipt,
        kept,
    )


async def copies_of(store: Records, direction: str, ids: Iterable[str]) -> dict[tuple[str, str], Copy]:
    """The rows of messages of one direction, by peer and id."""
    found = [copy_from_row(row) for row in await store.read("copies_of", direction, id_list(ids))]
    return {(copy.peer, copy.id): copy for copy in found}


@dataclass(slots=True)
class Round:
    """Goes round a listing, so many rows a look: what cannot be done now is passed over and asked for again.

    The listing is in the order of its first three columns: when it was decided, peer and id.
    """

    listing: str
    _after: Row = _FIRST

    async def next(self, store: Records, condition: str) -> list[Row]:
        """The rows of this look."""
        rows = await store.read(self.listing, condition, *self._after, MAX_AT_ONCE)
        self._after = tuple(rows[-1][:3]) if len(rows) == MAX_AT_ONCE else _FIRST
        return list(rows)


@dataclass(slots=True)
class Copies:
    """The rows that one transaction reads and writes, as they will be after it."""

    _rows: dict[tuple[str, str, str], Copy] = field(default_factory=dict)
    _dirty: dict[tuple[str, str, str], None] = field(default_factory=dict)

    async def get(self, store: Records, direction: str, peer: str, ident: str) -> Copy | None:
        """The row of a message, if it has one."""
        key = (direction, peer, ident)
        if key not in self._rows:
            for row in await store.read("copy", *key):
                self._rows[key] = copy_from_row(row)
        return self._rows.get(key)

    def put(self, copy: Copy) -> None:
        """Write a row."""
        key = (copy.direction, copy.peer, copy.id)
        self._rows[key] = copy
        self._dirty[key] = None

    def add_to(self, changes: Changes) -> None:
        """Add the rows that changed."""
        for key in self._dirty:
            changes.add("put_copy", *copy_to_row(self._rows[key]))


def today(now: datetime) -> date:
    """The day by which holds end, UTC."""
    return now.astimezone(UTC).date()
