"""Onward use at both ends: asking for it, deciding on it, passing a message on.

Implements docs/protocol.md section 8.8.

Rules:
1. What may be passed on is judged in the transaction that passes it on, over the decisions that are stored there.
2. A message is passed on and its originator told in one transaction: neither is there without the other.
3. The originator's parts are copied, never written anew; what this node was not given it cannot pass on.
4. A refusal is an entry of the log, and names the clause under which the message came.

What it does not do: show content (a decision on onward use is read for its codes alone), or recall what was passed on.

Length: asking, deciding and passing on look at one message in one way.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from exchange.core.audit import Event, agreement_ref, parse_leaf
from exchange.core.delivery import DELIVERED
from exchange.core.duties import ONWARD_DECISION, ONWARD_NOTICE, ONWARD_REQUEST
from exchange.core.errors import IntegrityError, LocalError, PeerError
from exchange.core.gate import Header, read_header
from exchange.core.onward import Consent, Origin, Original, check_onward, onward_use, origin_to_json
from exchange.core.statement import ATTACHMENTS, SALT_BYTES
from exchange.core.wire import NODE_ID, Digest, NodeId, encode_time, parse_day
from exchange.node import naming
from exchange.node.copies import IN, Stage
from exchange.node.planning import Draft, Plan, blob_refs, make_plan, plan_to_json, read_draft
from exchange.node.records import id_list, incoming_from_row, outgoing_from_row

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from exchange.core.agreements import Agreement, Clause
    from exchange.core.onward import Passage
    from exchange.core.schemas import SchemaBook
    from exchange.core.statement import Statement
    from exchange.core.wire import Fields, JsonObject, JsonValue, MessageId
    from exchange.node.ledger import Transaction
    from exchange.node.reading import Reader
    from exchange.node.records import IncomingRow
    from exchange.node.registry import Registry
    from exchange.node.sending import Sender
    from exchange.ports import Blobs

Operation: TypeAlias = "Callable[[Fields], Awaitable[JsonValue]]"
MAX_NODES: Final = 8
MAX_TEXT: Final = 1_000
DEFAULT_DAYS: Final = 30  # how long a consent lasts where its officer names no day


class Received(NamedTuple):
    """A received message with everything that its onward use depends on."""

    row: IncomingRow
    statement: Statement
    header: Header
    agreement: Agreement
    clause: Clause
    accepted: datetime

    @property
    def original(self) -> Original:
        """As the rules look at it."""
        read = self.header
        return Original(
            read.onward, read.handling, read.purpose, read.retention_days, self.accepted, read.origin is not None
        )


@dataclass(slots=True)
class Onward:
    """What officers ask about messages that others sent."""

    registry: Registry
    book: SchemaBook
    sender: Sender
    reader: Reader
    blobs: Blobs

    def operations(self, actor: Callable[[Fields], str]) -> dict[str, Operation]:
        """What the desk offers, by name; ``actor`` says who asks."""

        async def request(args: Fields) -> JsonValue:
            """``{id, to[], purpose, reason, language?, from?, actor?}``."""
            to, purpose = args.texts("to", low=1, high=MAX_NODES), args.text("purpose")
            return await self.request(
                args.text("id"), to, purpose, _note(args, "reason"), actor(args), self._sender(args)
            )

        async def decide(args: Fields) -> JsonValue:
            """``{id, grant, until?, conditions?, reason?, language?, from?, actor?}``."""
            until = args.optional_text("until")
            texts: JsonObject = {name: _note(args, name) for name in ("conditions", "reason") if args.has(name)}
            last, grant = None if until is None else date.fromisoformat(until), args.flag("grant")
            ident, sender = args.text("id"), self._sender(args)
            return await self.decide(ident, grant=grant, until=last, texts=texts, actor=actor(args), sender=sender)

        async def forward(args: Fields) -> JsonValue:
            """``{id, to, dry_run?, from?, actor?}``."""
            dry_run = args.flag("dry_run") if args.has("dry_run") else False
            ident, to, sender = args.text("id"), args.text("to"), self._sender(args)
            return await self.forward(ident, to, actor(args), dry_run=dry_run, sender=sender)

        return {"onward_request": request, "onward_decide": decide, "forward": forward}

    def _sender(self, args: Fields) -> NodeId | None:
        name = args.optional_text("from")
        return None if name is None else self.registry.resolve(name)

    # -- asking and deciding

    async def request(
        self, ident: str, to: Sequence[str], purpose: str, reason: JsonObject, actor: str, sender: NodeId | None = None
    ) -> JsonObject:
        """Ask the originator of a received message. Raises onward.not_permitted where no consent could help."""
        found = await self._received(ident, sender)
        onward_use(found.original, found.clause)
        content: JsonObject = {
            "kind": ONWARD_REQUEST,
            "to": [*dict.fromkeys(self._name(item) for item in to)],
            "purpose": purpose,
            "reason": reason,
        }
        return await self._say(found.header, found.row.record.peer, content, actor)

    async def decide(
        self,
        ident: str,
        *,
        grant: bool,
        until: date | None,
        texts: JsonObject,
        actor: str,
        sender: NodeId | None = None,
    ) -> JsonObject:
        """Answer a request that came. ``texts``: conditions, reason. Raises onward.not_permitted for a vain consent."""
        asked = await self._incoming(ident, ONWARD_REQUEST, sender)
        peer, about = asked.record.peer, asked.about or ""
        wanted = await self.reader.content(asked.record.digest, asked.case_id or "")
        rows = await self.reader.ledger.store.read("outgoing", peer, id_list([about]))
        sent = outgoing_from_row(rows[0])
        statement = await self.reader.statement(sent.record.digest or Digest(""), sent.case_id)
        header = read_header(statement.header(), self.book)
        agreement = self.registry.agreements[sent.agreement]
        clause = agreement.clause(sent.relied)
        content: JsonObject = {"kind": ONWARD_DECISION, "decision": "grant" if grant else "refuse", **texts}
        if grant and clause is not None:
            now = self.sender.clock.now()
            original = Original(header.onward, header.handling, header.purpose, 1, now, header.origin is not None)
            onward_use(original, clause)
            last = until or (now + timedelta(days=DEFAULT_DAYS)).date()
            content |= {"to": wanted["to"], "until": last.isoformat()}
        return await self._say(header, peer, content, actor, in_reply_to=asked.record.id, about=about)

    async def _say(
        self,
        header: Header,
        peer: NodeId,
        content: JsonObject,
        actor: str,
        *,
        in_reply_to: str | None = None,
        about: str | None = None,
    ) -> JsonObject:
        return await self.sender.submit(_duty(header, content, in_reply_to, about), [peer], [], actor=actor)

    # -- passing on

    async def forward(
        self, ident: str, to: str, actor: str, *, dry_run: bool, sender: NodeId | None = None
    ) -> JsonObject:
        """Pass a received message on. Raises ``PeerError``: onward.not_permitted, blob.incomplete, schema.digest."""
        peer = self.registry.resolve(to)
        result: JsonObject | None = None
        while result is None:  # what came while it was read is read as well
            found = await self._received(ident, sender)
            consents = await self._consents(found)

            async def job(
                tx: Transaction, found: Received = found, consents: list[tuple[Consent, MessageId]] = consents
            ) -> JsonObject | None:
                if not await self._is_current(tx, found, consents):
                    return None
                return await self._forward(tx, found, consents, peer, actor, dry_run=dry_run)

            result = await self.sender.ledger.do(job)
        if isinstance(error := result.get("error"), list):
            code, where, clause = error
            raise PeerError(str(code), str(where), None if clause is None else str(clause))
        return result

    async def _forward(
        self,
        tx: Transaction,
        found: Received,
        consents: list[tuple[Consent, MessageId]],
        peer: NodeId,
        actor: str,
        *,
        dry_run: bool,
    ) -> JsonObject:
        """In the transaction: judge, then queue the message and the notice to its originator, or neither."""
        try:
            await self._check_kept(tx, found)
            self._check_standing(tx, found)
            passage = check_onward(found.original, found.clause, peer, [item for item, _ in consents], tx.now)
            draft = self._draft(found, peer, passage, tx.now)
        except PeerError as error:
            return self._refuse(tx, found, peer, error, None if dry_run else actor)
        plan = await make_plan(tx, self.registry, self.book, draft, peer)
        decision = next((by for item, by in reversed(consents) if peer in item.asked), None)
        told = self._notice(found, plan, draft, decision, tx.now)
        notice = await make_plan(tx, self.registry, self.book, told, found.row.record.peer)
        result: JsonObject = {
            "id": draft.id,
            "origin": draft.header["origin"],
            "retention_days": passage.retention_days,
            "recipients": [plan_to_json(plan, draft, self.book)],
            "notice": told.id,
        }
        refusals = [judged.decision.refuse() for judged in (plan, notice) if not judged.decision.allowed]
        if plan.asks.count:
            # It would wait, and the consent for it would not: by the time of the last approval it may be over.
            refusals.append(PeerError("envelope.approval", "what is passed on waits for nobody", plan.decision.clause))
        if refusals:
            return {**result, **self._refuse(tx, found, peer, refusals[0], None if dry_run else actor)}
        if not dry_run:
            await self.sender.queue(tx, draft, plan, actor)
            await self.sender.queue(tx, told, notice, "node")
            tx.changes.add("put_forward", peer, draft.id, found.row.record.peer, found.header.id)
            tx.record(
                Event.FORWARDED,
                actor=actor,
                peer=peer,
                subject=found.row.record.digest,
                agreement=found.row.agreement,
                clause=found.clause.id,
                commitment=found.row.commitment,
            )
        return result

    @staticmethod
    async def _check_kept(tx: Transaction, found: Received) -> None:
        """What its originator took back goes no further, also while a court holds it here."""
        copy = await tx.copies.get(tx.store, IN, found.row.record.peer, found.header.id)
        if copy is not None and copy.stage in {Stage.DUE, Stage.ERASED}:
            raise PeerError("onward.not_permitted", f"it is to be erased: {copy.why}", found.clause.id)

    def _check_standing(self, tx: Transaction, found: Received) -> None:
        """While the agreement that it came under is suspended, or was left, nothing of it goes further."""
        standing = self.registry.standing(found.agreement, found.row.record.peer, tx.notices)
        if not standing.serves:
            why = f"the agreement that it came under: {standing.state} by {standing.by}"
            raise PeerError("onward.not_permitted", why, found.clause.id)

    @staticmethod
    def _refuse(tx: Transaction, found: Received, peer: NodeId, error: PeerError, actor: str | None) -> JsonObject:
        """Returned, not raised: the entry is part of this transaction. ``actor`` is None in a dry run."""
        if actor is not None:
            by_origin = error.code.startswith("onward.")
            agreement = found.row.agreement if by_origin else None
            tx.record(Event.REFUSED, actor=actor, peer=peer, code=error.code, agreement=agreement, clause=error.clause)
        return {"error": [error.code, error.where, error.clause]}

    async def _is_current(self, tx: Transaction, found: Received, consents: list[tuple[Consent, MessageId]]) -> bool:
        """Whether the message is still here, and nothing was decided about it since it was read."""
        peer, ident, attempt = found.row.record.peer, found.header.id, found.row.record.attempt
        await tx.load_incoming(peer, [ident])
        row = tx.incoming[peer, ident][attempt]
        read = {by for _, by in consents}
        if row.gone:
            return False  # the next look is told that it is erased
        return row.record.status in DELIVERED and read == {item.record.id for item in await self._decisions(found)}

    def _draft(self, found: Received, peer: NodeId, passage: Passage, now: datetime) -> Draft:
        """The statement that carries the original's parts to its new recipient."""
        before, header, statement = found.statement.header(), found.header, found.statement
        if header.schema_digest != self.book.digest(header.schema):
            raise PeerError("schema.digest", header.schema)
        named = list(zip(header.parts, statement.parts[1:], strict=True))
        values = {name: part.value(name) for name, part in named if part.text is not None}
        files = values.get(ATTACHMENTS)
        blobs = blob_refs([item for item in files if isinstance(item, dict)]) if isinstance(files, list) else ()
        if not all(self.blobs.has(blob.h) for blob in blobs):
            raise PeerError("blob.incomplete", "evidence")
        origin = Origin(
            header.sender,
            header.id,
            statement.root,
            statement.parts[0].digest,
            tuple(name for name, part in named if part.text is None),
        )
        kept = ("kind", "schema", "schema_digest", "case", "handling", "tlp", "grading", "assurances", "urgency")
        random = self.sender.clock.random
        made: JsonObject = {
            "network": self.registry.network,
            **{name: before[name] for name in kept if name in before},
            "id": random(16).hex(),
            "from": self.registry.me,
            "to": [peer],
            "written": encode_time(now),
            "in_reply_to": None,
            "refers_to": [],
            "purpose": passage.purpose,
            "origin": origin_to_json(origin),
            "retention": passage.retention_days,
            "onward": "never",
            "language": before["language"],
            "parts": before["parts"],
            "attachments": before["attachments"],
        }
        content = self.book.join(header.schema, values, header.attachments)
        read = read_header(made, self.book)
        salts = (random(SALT_BYTES),)
        return Draft(read.id, made, read, content, tuple(values.items()), blobs, salts, statement.parts[1:])

    def _notice(self, found: Received, plan: Plan, draft: Draft, decision: MessageId | None, now: datetime) -> Draft:
        """What the originator is told."""
        content: JsonObject = {
            "kind": ONWARD_NOTICE,
            "to": plan.peer,
            "purpose": draft.read.purpose,
            "time": encode_time(now),
            "parts": [name for name, _ in draft.parts if name not in plan.withheld],
        }
        return read_draft(
            _duty(found.header, content, decision, found.header.id),
            [],
            [found.row.record.peer],
            book=self.book,
            registry=self.registry,
            now=now,
            random=self.sender.clock.random,
        )

    # -- looking up

    async def _incoming(self, ident: str, duty: str | None, sender: NodeId | None) -> IncomingRow:
        """A received message, or duty of that kind, that is here whole.

        Raises ``LocalError`` input.unknown_id, input.ambiguous, input.erased.
        """
        row = await naming.received(self.reader.ledger.store, ident, sender, fits=lambda row: row.duty == duty)
        if row.gone:
            raise LocalError("input.erased")
        return row

    async def _received(self, ident: str, sender: NodeId | None) -> Received:
        row = await self._incoming(ident, None, sender)
        statement = await self.reader.statement(row.record.digest, row.case_id or "")
        held = self.registry.agreements.values()
        named = [item for item in held if agreement_ref(item.id, item.version) == row.agreement]
        clause = named[0].clause(row.record.clause) if named else None
        if clause is None:
            raise IntegrityError("store.corrupt", "the agreement of a message")
        # The entry of the log that says it was received: the acceptance was signed over its place.
        ((_, leaf),) = await self.reader.ledger.store.read("leaves", row.record.log_index, 1)
        header = read_header(statement.header(), self.book)
        return Received(row, statement, header, named[0], clause, parse_leaf(leaf).time)

    async def _consents(self, found: Received) -> list[tuple[Consent, MessageId]]:
        """What the originator decided about a message, in the order in which it came, and by which message."""
        consents: list[tuple[Consent, MessageId]] = []
        for row in await self._decisions(found):
            said = await self.reader.content(row.record.digest, row.case_id or "")
            asked = await self._asked(found.row.record.peer, row.in_reply_to or "")
            until = said.get("until")
            consents.append(
                (
                    Consent(
                        _nodes(asked["to"]),
                        str(asked["purpose"]),
                        _nodes(said.get("to")) if said["decision"] == "grant" else (),
                        parse_day(until) if isinstance(until, str) else None,
                    ),
                    row.record.id,
                )
            )
        return consents

    async def _decisions(self, found: Received) -> list[IncomingRow]:
        rows = await self.reader.ledger.store.read("incoming_about", found.row.record.peer, found.header.id)
        held = [incoming_from_row(raw) for raw in rows]
        return [row for row in held if row.duty == ONWARD_DECISION and row.record.status in DELIVERED]

    async def _asked(self, peer: NodeId, ident: str) -> JsonObject:
        rows = await self.reader.ledger.store.read("outgoing", peer, id_list([ident]))
        row = outgoing_from_row(rows[0])
        return await self.reader.content(row.record.digest or Digest(""), row.case_id)

    def _name(self, name: str) -> str:
        """A node by id or country; an id of a node that is not known here is taken as it is."""
        try:
            return self.registry.resolve(name)
        except PeerError:
            if NODE_ID.fullmatch(name):
                return name
            raise


def _nodes(value: JsonValue) -> tuple[NodeId, ...]:
    return tuple(NodeId(str(item)) for item in value) if isinstance(value, list) else ()


def _duty(header: Header, content: JsonObject, in_reply_to: str | None, about: str | None) -> JsonObject:
    """A duty about a message, with the marks of that message."""
    return {
        "kind": content["kind"],
        "purpose": header.purpose,
        "handling": [*sorted(header.handling)],
        "tlp": header.tlp,
        "case": header.case,
        "refers_to": [about or header.id],
        "in_reply_to": in_reply_to,
        "content": content,
    }


def _note(args: Fields, name: str) -> JsonObject:
    return {"text": args.text(name, max_chars=MAX_TEXT), "lang": args.optional_text("language") or "en"}
