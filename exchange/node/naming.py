"""Which stored message an officer means by an id.

Implements docs/protocol.md section 2, E7 (message id): an id is unique for its sender, and for nobody else.

Rules:
1. Whatever an officer does to one message by its id finds it here, and in no other way.
2. A peer that saw the id of another's message can send one of its own with that id. Where an id is of more than one
   message, nothing is done before the officer has named the peer: a guess would hold, show or pass on the wrong one.

What it does not do: look for what an operation knows the peer of, or for messages of this node alone: it makes its ids
itself, and no two alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.core.delivery import DELIVERED
from exchange.core.errors import LocalError
from exchange.node.records import incoming_from_row, outgoing_from_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.core.wire import NodeId
    from exchange.node.records import IncomingRow, OutgoingRow
    from exchange.ports import Records


async def received(
    store: Records, ident: str, sender: NodeId | None = None, *, fits: Callable[[IncomingRow], bool] = lambda _: True
) -> IncomingRow:
    """The one received message of that id, of those that an operation is for (``fits``).

    Raises ``LocalError`` input.unknown_id, input.ambiguous.
    """
    return _only(await _received(store, ident, sender, fits))


async def either(
    store: Records, ident: str, me: NodeId, sender: NodeId | None = None
) -> tuple[IncomingRow | None, list[OutgoingRow]]:
    """The one message of that id, received, or sent: then one row for each recipient.

    ``sender`` is this node for a message that it sent. Raises as ``received``.
    """
    rows = await _received(store, ident, sender, lambda _: True)
    sent = [outgoing_from_row(raw) for raw in await store.read("outgoing_by_id", ident)] if sender in {None, me} else []
    if sent and not rows:
        return None, sent
    if sent:
        raise LocalError("input.ambiguous")
    return _only(rows), []


async def _received(
    store: Records, ident: str, sender: NodeId | None, fits: Callable[[IncomingRow], bool]
) -> list[IncomingRow]:
    rows = map(incoming_from_row, await store.read("incoming_by_id", ident))
    return [
        row
        for row in rows
        if row.record.status in DELIVERED
        and row.case_id is not None
        and sender in {None, row.record.peer}
        and fits(row)
    ]


def _only(rows: list[IncomingRow]) -> IncomingRow:
    if not rows:
        raise LocalError("input.unknown_id")
    if len(rows) > 1:  # of one peer one attempt is delivered, so these are of several
        raise LocalError("input.ambiguous")
    return rows[0]
