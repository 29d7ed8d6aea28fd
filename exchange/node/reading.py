"""Reading stored messages: for officers, for the court, and for sealing again.

Implements docs/protocol.md section 12 (at rest). Rules:
1. What is stored is the envelope as sent or received and its content key under the case's key; reading opens it.
2. Showing content is an event of the log, with who read it; a listing shows only the header.
3. A stored envelope that does not open contradicts the store: the node stops.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exchange.core.approvals import read_approval
from exchange.core.delivery import DELIVERED, Opened, State
from exchange.core.envelope import SignedEnvelope, open_body, parse_envelope
from exchange.core.errors import IntegrityError, LocalError, PeerError
from exchange.core.gate import Header, read_header
from exchange.core.statement import ATTACHMENTS, Statement, parse_statement
from exchange.core.wire import Digest, NodeId, encode_time
from exchange.node import naming
from exchange.node.copies import IN, OUT, Copy, copies_of, shown_status
from exchange.node.effects import Context, step
from exchange.node.records import id_list, incoming_from_row, outgoing_from_row

if TYPE_CHECKING:
    from exchange.core.delivery import Status
    from exchange.core.schemas import SchemaBook
    from exchange.core.wire import JsonObject, JsonValue
    from exchange.node.ledger import Ledger, Transaction
    from exchange.node.queues import Queues
    from exchange.node.records import IncomingRow, OutgoingRow
    from exchange.ports import Secrets, Store


async def stored_envelope(store: Store, digest: Digest) -> tuple[SignedEnvelope, bytes]:
    """An envelope that this node verified before it stored it, and its wrapped content key.

    Raises ``LocalError`` input.erased where nothing of it is left to open (protocol 8.9).
    """
    rows = await store.read("envelope", digest)
    if rows and not rows[0][2] and rows[0][3] is None:
        raise LocalError("input.erased")
    if not rows or rows[0][3] is None:
        raise IntegrityError("store.corrupt", "envelope without its key")
    _, document, body, wrapped = rows[0]
    try:
        read = parse_envelope(document, body)
    except PeerError:
        raise IntegrityError("store.corrupt", "envelope") from None
    if read.digest != digest:
        raise IntegrityError("store.corrupt", "envelope digest")
    envelope = SignedEnvelope(read.core, read.core_digest, read.wrapped, read.body, read.received, read.digest)
    return envelope, wrapped


@dataclass(slots=True)
class Reader:
    """Opens stored messages."""

    me: NodeId
    book: SchemaBook
    ledger: Ledger
    queues: Queues
    secrets: Secrets

    async def statement(self, digest: Digest, case_id: str) -> Statement:
        """The statement of a stored envelope."""
        store = self.ledger.store
        envelope, wrapped = await stored_envelope(store, digest)
        await self._learn_case_key(case_id)
        cek = self.secrets.unwrap(case_id, wrapped, digest)
        try:
            return parse_statement(open_body(envelope, cek))
        except PeerError:
            raise IntegrityError("store.corrupt", "stored envelope") from None

    async def content(self, digest: Digest, case_id: str) -> JsonObject:
        """The content of a stored message that no officer is shown: a duty, read for its codes."""
        content = self._content(await self.statement(digest, case_id))["content"]
        return content if isinstance(content, dict) else {}

    async def _learn_case_key(self, case_id: str) -> None:
        rows = await self.ledger.store.read("case_key", case_id)
        if not rows:
            raise LocalError("input.erased")
        self.secrets.learn_case_key(case_id, rows[0][0])

    # -- listings

    async def inbox(self, limit: int, *, headers: bool = True) -> list[JsonValue]:
        """Delivered messages, newest first, by their headers; without these for who opens no message."""
        rows = [incoming_from_row(raw) for raw in await self.ledger.store.read("incoming_list", limit)]
        copies = await copies_of(self.ledger.store, IN, {row.record.id for row in rows})
        return [
            await self._incoming_line(row, copies.get((row.record.peer, row.record.id)), headers=headers)
            for row in rows
        ]

    async def _incoming_line(self, row: IncomingRow, copy: Copy | None = None, *, headers: bool = True) -> JsonObject:
        record = row.record
        line: JsonObject = {
            "id": record.id,
            "from": record.peer,
            "status": shown_status(record.status, copy),
            "time": encode_time(record.updated),
            "code": record.code,
            "clause": record.clause,
            "copy": None if copy is None else copy.to_json(),
            "keep_until": None if row.keep_until is None else encode_time(row.keep_until),
        }
        if headers and record.status in DELIVERED and row.case_id is not None and not row.gone:
            with suppress(LocalError):  # erased since its row was read
                line |= _header_line(
                    read_header((await self.statement(record.digest, row.case_id)).header(), self.book)
                )
        return line

    async def outbox(self, limit: int, *, headers: bool = True) -> list[JsonValue]:
        """Messages sent or waiting, newest first, by their headers; without these for who opens no message."""
        rows = [outgoing_from_row(raw) for raw in await self.ledger.store.read("outgoing_list", limit)]
        copies = await copies_of(self.ledger.store, OUT, {row.record.id for row in rows})
        lines = [self._outgoing_line(row, copies.get((row.record.peer, row.record.id))) for row in rows]
        if not headers:
            return [*lines]
        return [{**line, **await self._sent_header(row)} for line, row in zip(lines, rows, strict=True)]

    async def _sent_header(self, row: OutgoingRow) -> JsonObject:
        """What was sent, for whoever looks for it in a list; nothing where nothing of it is left to read."""
        try:
            if row.record.digest is None:  # a list leaves out the statement that waits to be sealed
                found = map(outgoing_from_row, await self.ledger.store.read("outgoing_by_id", row.record.id))
                row = next((item for item in found if item.record.peer == row.record.peer), row)
            statement = await self._sent_statement(row)
            return {} if statement is None else _header_line(read_header(statement.header(), self.book))
        except (PeerError, LocalError):  # of a schema that is no more, or erased: the list goes on without it
            return {}

    async def _sent_statement(self, row: OutgoingRow) -> Statement | None:
        """The statement of a message as it was sealed, or as it waits to be. Raises as ``statement``."""
        if row.record.digest is not None:
            return await self.statement(row.record.digest, row.case_id)
        if row.draft is None:
            return None
        await self._learn_case_key(row.case_id)
        return parse_statement(self.secrets.unwrap(row.case_id, row.draft, f"draft {row.record.id}"))

    def _outgoing_line(self, row: OutgoingRow, copy: Copy | None) -> JsonObject:
        record = row.record
        queue = self.queues.queue(record.peer)
        trouble = queue.deferred.get(record.digest or "") or queue.trouble
        waiting = record.status.value in {"queued", "sent"}
        return {
            "id": record.id,
            "to": record.peer,
            "status": shown_status(record.status, copy),
            "time": encode_time(record.updated),
            "created": encode_time(record.created),
            "attempt": record.attempt,
            "code": "envelope.approval" if row.waits and waiting else (trouble if waiting else None) or record.code,
            "waits": row.waits and waiting,
            "clause": record.clause,
            "receipt": row.answer,
            "log_index": record.log_index,
            "copy": None if copy is None else copy.to_json(),
        }

    # -- one message

    async def recipients(self, ident: str) -> dict[NodeId, Status]:
        """Where a sent message is, by recipient. Raises ``LocalError`` input.unknown_id."""
        rows = [outgoing_from_row(raw) for raw in await self.ledger.store.read("outgoing_by_id", ident)]
        if not rows:
            raise LocalError("input.unknown_id")
        return {row.record.peer: row.record.status for row in rows}

    async def header(self, ident: str, sender: NodeId | None = None) -> JsonObject:
        """A received message as the inbox lists it. Raises ``LocalError`` input.unknown_id, input.ambiguous."""
        return await self._incoming_line(await naming.received(self.ledger.store, ident, sender))

    async def brief(self, ident: str, peer: str) -> JsonObject:
        """Kind and case of a message of either direction; nothing where nothing of it is left to read."""
        line: JsonObject = {}
        store = self.ledger.store
        try:
            for raw in await store.read("incoming", peer, id_list([ident])):
                row = incoming_from_row(raw)
                if row.record.status in DELIVERED:
                    line = await self._incoming_line(row)
            for raw in await store.read("outgoing", peer, id_list([ident])):
                line = await self._sent_header(outgoing_from_row(raw))
        except LocalError:  # erased
            return {}
        return {name: line[name] for name in ("kind", "case") if name in line}

    async def show(self, ident: str, actor: str, sender: NodeId | None = None) -> JsonObject:
        """A whole message; for an incoming one this is the event 'opened'.

        Raises ``LocalError`` input.unknown_id, input.ambiguous.
        """
        store = self.ledger.store
        row, outgoing = await naming.either(store, ident, self.me, sender)
        if row is not None:
            copies = await copies_of(store, IN, [ident])
            return await self._show_incoming(row, row.case_id or "", actor, copies.get((row.record.peer, ident)))
        copies = await copies_of(store, OUT, [ident])
        lines = [self._outgoing_line(row, copies.get((row.record.peer, ident))) for row in outgoing]
        shown: JsonObject = {**lines[0], "recipients": [*lines]}
        sealed = next((row for row in outgoing if row.record.digest is not None), outgoing[0])
        statement = await self._sent_statement(sealed)
        if statement is not None:
            shown |= self._content(statement)
        return {"direction": "out", **shown}

    async def _show_incoming(self, row: IncomingRow, case_id: str, actor: str, copy: Copy | None) -> JsonObject:
        line: JsonObject = {
            "direction": "in",
            "id": row.record.id,
            "from": row.record.peer,
            "received": encode_time(row.record.updated),
            "clause": row.record.clause,
            "log_index": row.record.log_index,
            "receipt": row.answer,
            "keep_until": None if row.keep_until is None else encode_time(row.keep_until),
            "copy": None if copy is None else copy.to_json(),
        }
        if row.gone:  # nothing is left to read, so this is no reading
            return {**line, "status": shown_status(row.record.status, copy)}
        statement = await self.statement(row.record.digest, case_id)
        shown = self._content(statement)
        peer, ident, attempt = row.record.peer, row.record.id, row.record.attempt

        async def job(tx: Transaction) -> JsonValue:
            await tx.load_incoming(peer, [ident])
            current = tx.incoming[peer, ident][attempt]
            state = State(tx.window(peer), incoming=current.record)
            context = Context(case_id=case_id, leaf={"commitment": statement.parts[0].digest})
            after = await step(tx, self.queues, state, Opened(actor, tx.now), context)
            return shown_status((after.incoming or current.record).status, copy)

        # The log entry first: content is shown only once it is on disk that it was.
        status = await self.ledger.do(job)
        return {**line, "status": status, **shown}

    def _content(self, statement: Statement) -> JsonObject:
        header_value = statement.header()
        header = read_header(header_value, self.book)
        named = list(zip(header.parts, statement.parts[1:], strict=True))
        values = {name: part.value(name) for name, part in named if part.text is not None}
        attachments = values.get(ATTACHMENTS)
        return {
            "header": header_value,
            "content": self.book.join(header.schema, values, header.attachments),
            "withheld": [{"part": name, "clause": part.clause} for name, part in named if part.text is None],
            "attachments": [_public_attachment(item) for item in attachments] if isinstance(attachments, list) else [],
            "root": statement.root,
            "approved": [_approval_line(text) for text in statement.approvals],
            **_header_line(header),
        }

    async def attachment(
        self, ident: str, index: int, sender: NodeId | None = None
    ) -> tuple[NodeId | None, JsonObject]:
        """The record of one attachment with its key, by its number from 1, and the peer of an incoming message."""
        row, outgoing = await naming.either(self.ledger.store, ident, self.me, sender)
        found: tuple[NodeId | None, Digest, str] | None = None
        if row is not None:
            if row.gone:
                raise LocalError("input.erased")
            found = (row.record.peer, row.record.digest, row.case_id or "")
        for sent in outgoing:
            if sent.record.digest is not None:
                found = (None, sent.record.digest, sent.case_id)
        if found is None:
            raise LocalError("input.unknown_id")
        peer, digest, case_id = found
        statement = await self.statement(digest, case_id)
        header = read_header(statement.header(), self.book)
        for name, part in zip(header.parts, statement.parts[1:], strict=True):
            if name == ATTACHMENTS and part.text is not None:
                items = part.value(name)
                if isinstance(items, list) and 1 <= index <= len(items) and isinstance(items[index - 1], dict):
                    item: JsonObject = items[index - 1]  # type: ignore[assignment]
                    return peer, item
        raise LocalError("input.unknown_attachment")


def _approval_line(text: str) -> JsonObject:
    """Who approved, of what was verified when it came: key and role."""
    _, approval = read_approval(text)
    return {"officer": approval.officer, "role": approval.role, "time": encode_time(approval.time)}


def _header_line(header: Header) -> JsonObject:
    handling: list[JsonValue] = [*sorted(header.handling)]
    return {
        "kind": header.kind,
        "case": header.case,
        "purpose": header.purpose,
        "handling": handling,
        "tlp": header.tlp,
        "urgency": header.urgency,
        "in_reply_to": header.in_reply_to,
        "origin": None if header.origin is None else header.origin.node,
    }


def _public_attachment(item: JsonValue) -> JsonValue:
    """An attachment without its key."""
    if not isinstance(item, dict):
        return None
    blob = item.get("blob")
    shown = {name: value for name, value in item.items() if name != "blob"}
    return {**shown, "h": blob.get("h") if isinstance(blob, dict) else None}
