"""What officers can ask about copies: take a message back, place and release legal holds.

Implements docs/protocol.md section 8.9 at the desk (``node.desk``). Rule: one order reaches every recipient of a
message; what is told of each is what was done for it, not what is hoped for.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, cast

from exchange.core import wire
from exchange.core.delivery import DELIVERED, OPEN
from exchange.core.duties import CORRECTION, RECALL
from exchange.core.errors import LocalError, PeerError
from exchange.node.copies import OUT, Stage, copies_of
from exchange.node.records import outgoing_from_row
from exchange.node.withdrawals import duty_draft

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from exchange.core.wire import Fields, JsonObject, JsonValue, NodeId
    from exchange.node.node import Node
    from exchange.node.records import OutgoingRow

REASONS = "recall_reasons"


class CopiesDesk:
    """The operations of ``node.desk`` about copies."""

    def __init__(self, node: Node, actor_of: Callable[[Fields], str]) -> None:
        self._node = node
        self._actor_of = actor_of
        self.operations: dict[str, Callable[[Fields], Awaitable[JsonValue]]] = {
            "recall": self._recall,
            "hold_add": self._hold_add,
            "hold_release": self._hold_release,
            "hold_list": self._hold_list,
            "clock": self._clock,
        }

    async def _recall(self, args: Fields) -> JsonValue:
        """``{id, reason, note?, replaced_by?, to[]?, actor?}``: take a message back from its recipients.

        Gives {id, recipients[]: {to, done, recall, code}}; ``done`` is taken_back, asked, erased or nothing.
        """
        ident = _ident(args, "id")
        reason = args.choice("reason", tuple(self._node.outside.book.codes(REASONS)))
        replaced_by = _ident(args, "replaced_by") if args.has("replaced_by") else None
        note = args.any("note") if args.has("note") else None
        only = {self._node.registry.resolve(name) for name in args.texts("to", high=32)} if args.has("to") else None
        actor = self._actor_of(args)
        args.done()
        store = self._node.outside.store
        rows = [outgoing_from_row(raw) for raw in await store.read("outgoing_by_id", ident)]
        if not rows or (replaced_by is not None and not await store.read("outgoing_by_id", replaced_by)):
            raise LocalError("input.unknown_id")
        if rows[0].duty is not None:
            raise PeerError("duty.subject", "id")
        chosen = [row for row in rows if only is None or row.record.peer in only]
        done: dict[str, JsonObject] = {}
        for row in chosen:
            peer = row.record.peer
            if row.record.status in OPEN and await self._node.eraser.take_back(peer, ident, reason, actor):
                done[peer] = {"done": "taken_back"}
        content: dict[str, Any] = {"kind": RECALL, "reason": reason, "effect": "delete"}
        if replaced_by is not None:
            content = {"kind": CORRECTION, "reason": reason, "replaced_by": replaced_by}
        if note is not None:
            content["note"] = note
        done |= await self._ask(ident, [row for row in chosen if row.record.peer not in done], content, actor)
        if not any(item["done"] != "nothing" for item in done.values()):
            raise PeerError("input.nothing_to_recall", "recipients")
        return {"id": ident, "recipients": [{"to": peer, "recall": None, "code": None, **done[peer]} for peer in done]}

    async def _ask(
        self, ident: str, rows: list[OutgoingRow], content: dict[str, Any], actor: str
    ) -> dict[str, JsonObject]:
        """Send one recall to all recipients that have the message."""
        copies = await copies_of(self._node.outside.store, OUT, [ident])
        done: dict[str, JsonObject] = {}
        having: list[OutgoingRow] = []
        for row in rows:
            copy = copies.get((row.record.peer, ident))
            if copy is not None and copy.stage is Stage.ERASED:
                done[row.record.peer] = {"done": "erased"}
            elif row.record.status in DELIVERED or row.record.status in OPEN:  # accepted since its row was read
                having.append(row)
            else:
                done[row.record.peer] = {"done": "nothing"}
        if having:
            row = having[0]
            if row.record.digest is None:
                raise LocalError("input.unknown_id")
            header = (await self._node.reader.statement(row.record.digest, row.case_id)).header()
            draft = duty_draft(str(header["case"]), ident, cast("JsonObject", content), None)
            to = [item.record.peer for item in having]
            sent = cast(
                "dict[str, Any]", await self._node.sender.submit(draft, to, [], actor=actor, permitted_only=True)
            )
            for item in sent["recipients"]:
                asked: JsonObject = {"done": "asked", "recall": sent["id"]}
                done[item["to"]] = asked if item["allowed"] else {"done": "nothing", "code": item["code"]}
        return done

    async def _hold_add(self, args: Fields) -> JsonValue:
        """``{id, court, reference, until, from?, actor?}``."""
        ident, court, reference = _ident(args, "id"), args.text("court"), args.text("reference")
        until, sender, actor = args.text("until"), self._sender(args), self._actor_of(args)
        args.done()
        try:
            day = date.fromisoformat(until)
        except ValueError:
            raise LocalError("input.hold") from None
        return await self._node.holds.add(ident, court, reference, day, actor, sender)

    async def _hold_release(self, args: Fields) -> JsonValue:
        """``{id, reference?, from?, actor?}``."""
        ident, reference, actor = _ident(args, "id"), args.optional_text("reference"), self._actor_of(args)
        sender = self._sender(args)
        args.done()
        return await self._node.holds.release(ident, reference, actor, sender)

    async def _hold_list(self, args: Fields) -> JsonValue:
        """``{id, from?}``."""
        ident, sender = _ident(args, "id"), self._sender(args)
        args.done()
        return await self._node.holds.listed(ident, sender)

    def _sender(self, args: Fields) -> NodeId | None:
        name = args.optional_text("from")
        return None if name is None else self._node.registry.resolve(name)

    async def _clock(self, args: Fields) -> JsonValue:
        """``{confirm, actor?}``: since when the clock is doubted; ``confirm``: the operator has compared it."""
        confirm, actor = args.flag("confirm"), self._actor_of(args)
        args.done()
        if confirm:
            await self._node.steadiness.confirm(actor)
            self._node.queues.erasing.set()
        return {"doubted_since": self._node.steadiness.since or None}


def _ident(args: Fields, name: str) -> str:
    ident = args.text(name)
    if not wire.MESSAGE_ID.fullmatch(ident):
        raise LocalError("input.unknown_id")
    return ident
