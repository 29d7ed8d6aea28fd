"""The desk: what officers and the operator can ask of a node, running or stopped.

Rules:
1. One table from an operation's name to what does it; the control socket of a running node and the commands at a
   stopped one come through here, so that both do the same.
2. Whatever shows content or gives evidence away is an entry of the log before the first byte is shown.
3. Values are JSON; keys never leave (an attachment's record is shown without its key).
4. Who asks is settled before an operation sees its arguments (node.roles).

What it does not do: choose what an officer may do (node.roles), or print.

Length: one operation is a few lines, and they are many.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeAlias

from exchange.core import wire
from exchange.core.agreements import read_agreement
from exchange.core.approvals import MAX_APPROVAL_BYTES
from exchange.core.audit import Event
from exchange.core.delivery import OPEN
from exchange.core.duties import DELETION_RECEIPT, HOLD_NOTICE
from exchange.core.errors import LocalError, PeerError
from exchange.core.keys import Card, Use, read_card
from exchange.core.officers import OfficerList
from exchange.core.succession import check_not_over
from exchange.core.suspensions import Action, Suspension, encode_suspension
from exchange.core.wire import Digest, DocumentType, Fields, JsonObject, JsonValue, KeyId, NodeId, parse_signed_document
from exchange.node import reports
from exchange.node.desk_copies import CopiesDesk
from exchange.node.roles import OPERATOR, Actor, Roles
from exchange.node.staging import Staging

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from exchange.core.agreements import Agreement
    from exchange.core.delivery import Status
    from exchange.node.node import Node, Outside

MAX_LISTED: Final = 10_000
MAX_WAIT_SECONDS: Final = 3_600
SIGNED: Final = "as"  # the argument that carries an officer's signature over the others
NODE_DUTIES: Final = frozenset({DELETION_RECEIPT, HOLD_NOTICE})

Operation: TypeAlias = "Callable[[Fields], Awaitable[JsonValue]]"


class Call(Fields):
    """The arguments of an operation, and who asks for it."""

    __slots__ = ("actor",)

    def __init__(self, args: JsonObject, operation: str, actor: Actor) -> None:
        super().__init__(args, operation)
        self.actor = actor


class Desk:
    """``adapters.control.Desk`` for one node. ``pin`` is that of the node's own TLS key."""

    def __init__(self, node: Node, pin: Digest, max_evidence_bytes: int) -> None:
        self._node = node
        self._pin = pin
        outside = node.outside
        self._staging = Staging(node.ledger, outside.blobs, outside.secrets, outside.clock, max_evidence_bytes)
        self._roles = Roles(node.registry, outside.clock)
        self._operations: dict[str, Operation] = {
            "status": self._status,
            "send": self._send,
            "wait": self._wait_for,
            "inbox": self._inbox,
            "outbox": self._outbox,
            "due": self._due,
            "show": self._show,
            "header": self._header,
            "proposal": self._proposal,
            "approve": self._approve,
            "officers": self._officers,
            "install": self._install,
            "cards": self._cards,
            "card": self._card,
            "block": self._block,
            "agreements": self._agreements,
            "agreement": self._agreement,
            "notice": self._notice,
            "health": self._health,
            **node.onward.operations(_actor),
            **CopiesDesk(node, _actor).operations,
        }

    async def call(self, op: str, args: JsonObject) -> JsonValue:
        """Run one operation. Raises ``ExchangeError``."""
        operation = self._operations.get(op)
        if operation is None:
            raise LocalError("node.internal", "operation")
        plain = {name: value for name, value in args.items() if name != SIGNED}
        is_trial = op == "send" and plain.get("dry_run") is True and not plain.get("note_refusals")
        actor = self._roles.admit(op, plain, _signed(args.get(SIGNED)), is_trial=is_trial)
        return await operation(Call(plain, op, actor))

    # -- messages

    async def _send(self, args: Fields) -> JsonValue:
        """``{draft, to[], attachments[]?, actor?, permitted_only?, dry_run?, note_refusals?, wait?, seconds?}``.

        ``attachments`` are {h, name, media_type, custody?} of staged files; in a dry run, which needs none,
        {name, media_type, len, sha256, custody?}. ``wait: "accepted"`` waits for every recipient's answer, at most
        ``seconds``. Gives what ``Sender.submit`` gives, each recipient with its ``status``.
        """
        dry_run = args.flag("dry_run") if args.has("dry_run") else False
        draft = args.any("draft")
        if isinstance(draft, dict) and draft.get("kind") in NODE_DUTIES:
            raise PeerError("duty.by_node", "draft/kind")  # an officer's word that something is erased is no receipt
        given = args.items("attachments", high=64) if args.has("attachments") else []
        attachments = [await self._staging.record(item, dry_run=dry_run) for item in given]
        to = args.texts("to", low=1, high=32)
        for name in to:
            self._resolve_other(name)
        result = await self._node.sender.submit(
            draft,
            to,
            attachments,
            actor=_actor(args),
            proposer=_officer(args),
            permitted_only=args.flag("permitted_only") if args.has("permitted_only") else False,
            dry_run=dry_run,
            note_refusals=args.flag("note_refusals") if args.has("note_refusals") else None,
        )
        if dry_run or result.get("refused"):
            return result
        ident = str(result["id"])
        recipients = [item for item in _objects(result["recipients"]) if item["allowed"]]
        if args.has("wait") and not result.get("waits"):
            args.choice("wait", ("accepted",))
            seconds = args.integer("seconds", low=1, high=MAX_WAIT_SECONDS) if args.has("seconds") else 60
            statuses = await self._wait(ident, [str(item["to"]) for item in recipients], seconds)
            for item in recipients:
                item["status"] = statuses.get(str(item["to"]), "queued")
        else:
            for item in recipients:
                item["status"] = "queued"
        if attachments:
            await self._staging.drop(attachments)
        return result

    async def _wait_for(self, args: Fields) -> JsonValue:
        """``{id, seconds}``: wait until no recipient's message is on its way any more; {recipient: status}.

        Whoever asks knows the id already, so that ending the wait loses nothing.
        """
        ident, seconds = _message(args), args.integer("seconds", low=1, high=MAX_WAIT_SECONDS)
        args.done()
        sent = await self._node.reader.recipients(ident)
        return {**await self._wait(ident, list(sent), seconds, again=True)}

    async def _wait(self, ident: str, peers: list[str], seconds: int, *, again: bool = False) -> dict[str, str]:
        """Wait until no recipient's message is on its way any more; the last status of each.

        Right after the message was stored the listener comes in time: an answer is another transaction, and this runs
        as soon as the first one is done. ``again``: it may have come before; then the store is read after listening.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        statuses: dict[str, str] = {}
        left = set(peers)

        def end() -> None:
            if not ended.done():
                ended.set_result(None)

        def listener(peer: str) -> Callable[[Status], None]:
            def tell(status: Status) -> None:
                statuses[peer] = status.value
                if status not in OPEN:
                    left.discard(peer)
                    if not left:
                        end()

            return tell

        queues = self._node.queues
        listeners = {peer: listener(peer) for peer in peers}
        for peer, call in listeners.items():
            queues.listen(peer, ident, call)
        timer = loop.call_later(seconds if self._node.is_started and left else 0, end)
        try:
            for peer, status in (await self._node.reader.recipients(ident)).items() if again else ():
                if peer not in statuses:  # what was heard meanwhile is newer
                    listeners[peer](status)
            await ended
        finally:
            timer.cancel()
            for peer, call in listeners.items():
                queues.unlisten(peer, ident, call)
        return statuses

    async def _inbox(self, args: Fields) -> JsonValue:
        """``{limit}``."""
        return await self._with_clocks("in", await self._node.reader.inbox(_limit(args), headers=_reads(args)))

    async def _outbox(self, args: Fields) -> JsonValue:
        """``{limit}``."""
        lines = await self._node.reader.outbox(_limit(args), headers=_reads(args))
        if _reads(args):
            lines = [{**line, **await self._approvals(line)} for line in _objects(lines)]
        return await self._with_clocks("out", lines)

    async def _approvals(self, line: JsonObject) -> JsonObject:
        """What a message that waits for approvals waits for."""
        return {"approvals": await self._node.approving.state(str(line["id"]))} if line["waits"] else {}

    async def _due(self, args: Fields) -> JsonValue:
        """Every answer that is still due, by this node and to it, the first one first."""
        args.done()
        found = await self._node.obligations.listed(self._node.outside.clock.now())
        if not _reads(args):
            return [*found]
        return [{**item, **await self._node.reader.brief(str(item["id"]), str(item["peer"]))} for item in found]

    async def _with_clocks(self, direction: str, listed: list[JsonValue]) -> JsonValue:
        """The lines of a list, each with the clock of its message, or None."""
        lines, side = _objects(listed), "from" if direction == "in" else "to"
        now = self._node.outside.clock.now()
        clocks = await self._node.obligations.of(direction, [str(line["id"]) for line in lines], now)
        return [{**line, "clock": clocks.get((str(line[side]), str(line["id"])))} for line in lines]

    async def _show(self, args: Fields) -> JsonValue:
        """``{id, from?, actor?}``; ``from`` this node shows what it sent."""
        ident, sender, actor = _message(args), self._sender(args.optional_text("from")), _actor(args)
        args.done()
        shown = await self._node.reader.show(ident, actor, sender)
        return {**shown, **(await self._approvals(shown) if shown["direction"] == "out" else {})}

    # -- approvals

    async def _proposal(self, args: Fields) -> JsonValue:
        """``{id}``: what an officer looks at before they approve."""
        ident = _message(args)
        args.done()
        return await self._node.approving.proposal(ident)

    async def _approve(self, args: Fields) -> JsonValue:
        """``{id, approval}``: attach the approval of the officer who asks; what is still missing."""
        ident, text = _message(args), args.text("approval", max_chars=MAX_APPROVAL_BYTES)
        args.done()
        return await self._node.approving.approve(ident, text, _who(args))

    async def _officers(self, args: Fields) -> JsonValue:
        """``{node?}``: the list of officers in force for a node, our own where none is named, with its document."""
        registry = self._node.registry
        node = self._resolve(args.text("node")) if args.has("node") else registry.me
        args.done()
        return reports.officers_to_json(node, registry)

    # -- reading

    async def _header(self, args: Fields) -> JsonValue:
        """``{id, from?}``: the header of a received message, as a listing shows it; what a reply needs."""
        ident, sender = _message(args), self._sender(args.optional_text("from"))
        args.done()
        return await self._node.reader.header(ident, sender)

    # -- evidence

    async def stage(self, chunks: AsyncIterator[bytes], signed: str | None = None) -> JsonObject:
        """Seal a file and keep it until a statement names it; gives {h, len, sha256}, ``len`` that of the file."""
        actor = self._roles.admit("stage", {}, signed)
        return await self._staging.stage(chunks, actor.name)

    async def evidence(
        self, message: str, index: int, signed: str | None = None, sender: str | None = None
    ) -> tuple[JsonObject, AsyncIterator[bytes]]:
        """The record of an attachment, without its key, and its bytes; raises while they come if they are not whole."""
        if not wire.MESSAGE_ID.fullmatch(message):
            raise LocalError("input.unknown_id")
        asked: JsonObject = {"id": message, "index": index, **({} if sender is None else {"from": sender})}
        actor = self._roles.admit("evidence", asked, signed)
        peer, item = await self._node.reader.attachment(message, index, self._sender(sender))
        chunks = self._staging.open(item, incoming=peer is not None)
        blob = Fields(item["blob"], "blob")
        await self._node.note(Event.EXPORTED, actor=actor.name, peer=peer, subject=blob.digest("h"))
        return {name: value for name, value in item.items() if name != "blob"}, chunks

    # -- documents

    async def install(self, data: bytes, actor: str = OPERATOR) -> Card | Agreement | OfficerList | Suspension:
        """Install a card, an agreement, a list of officers or a notice; the node's own card must be of its own keys."""
        document = parse_signed_document(data)
        if document.payload_type == DocumentType.CARD:
            card = read_card(document)
            if card.node == self._node.me:
                check_own_card(card, self._node.outside, self._pin)
        return await self._node.install(data, actor)

    async def _install(self, args: Fields) -> JsonValue:
        """``{document: base64, actor?, ended?}``; an agreement that is over is taken where ``ended`` says so."""
        data = args.bytes("document")
        ended = args.flag("ended") if args.has("ended") else False
        document = parse_signed_document(data)
        if document.payload_type == DocumentType.AGREEMENT and not ended:
            check_not_over(read_agreement(document), self._node.outside.clock.now())
        item = await self.install(data, _actor(args))
        if isinstance(item, Card):
            return reports.card_to_json(item, self._node.registry)
        if isinstance(item, OfficerList):
            return reports.officers_to_json(item.node, self._node.registry)
        if isinstance(item, Suspension):
            return reports.notice_to_json(item)
        return reports.agreement_to_json(item, self._node.registry, self._node.outside.clock.now())

    async def _cards(self, args: Fields) -> JsonValue:
        """Every card, our own first."""
        args.done()
        registry = self._node.registry
        cards = sorted(registry.cards.values(), key=lambda card: (card.node != registry.me, card.node))
        return [reports.card_to_json(card, registry) for card in cards]

    async def _card(self, args: Fields) -> JsonValue:
        """``{node?}``: one card with its document; our own where no node is named."""
        registry = self._node.registry
        node = self._resolve(args.text("node")) if args.has("node") else registry.me
        if node not in registry.cards:
            raise LocalError("node.card", node)
        card = registry.cards[node]
        document = wire.encode_base64(registry.bytes_of[card.digest])
        return {**reports.card_to_json(card, registry), "document": document}

    def _resolve(self, name: str) -> NodeId:
        registry = self._node.registry
        own = registry.cards.get(registry.me)
        if own is not None and name.upper() == own.country:
            return registry.me
        return registry.resolve(name)

    def _sender(self, name: str | None) -> NodeId | None:
        """Whose message an id is of, where who asks says so."""
        return None if name is None else self._resolve(name)

    def _resolve_other(self, name: str) -> NodeId:
        """A peer by id or country. Raises ``PeerError``: input.own_node, card.unknown, card.ambiguous."""
        try:
            node = self._node.registry.resolve(name)
        except PeerError:
            node = self._resolve(name)  # raises the same again, unless it is our own country
        if node == self._node.me:
            raise PeerError("input.own_node")
        return node

    async def _block(self, args: Fields) -> JsonValue:
        """``{node, blocked, actor?}``."""
        registry = self._node.registry
        name = args.text("node")
        node = self._resolve_other(name)
        await self._node.block(node, blocked=args.flag("blocked"), actor=_actor(args))
        return {"node": node, "blocked": node in registry.blocked}

    async def _agreements(self, args: Fields) -> JsonValue:
        """Every agreement held, by id, the newest version first."""
        args.done()
        registry = self._node.registry
        held = sorted(registry.agreements.values(), key=lambda item: (item.id, -item.version))
        now = self._node.outside.clock.now()
        return [reports.agreement_to_json(item, registry, now) for item in held]

    async def _agreement(self, args: Fields) -> JsonValue:
        """``{id, version?}``: one agreement with its payload and document, the newest version unless one is named."""
        ident = args.text("id")
        version = args.integer("version", low=1) if args.has("version") else None
        registry = self._node.registry
        found = [item for item in registry.agreements.values() if item.id == ident and version in {None, item.version}]
        if not found:
            raise LocalError("input.unknown_agreement")
        newest = max(found, key=lambda item: item.version)
        return {
            **reports.agreement_with_text(newest, registry, self._node.outside.clock.now()),
            "quotas": await self._quotas(newest),
        }

    async def _quotas(self, agreement: Agreement) -> list[JsonValue]:
        """How much of today's quota of each clause each of its senders has used, as far as this node counts them."""
        day, store = self._node.outside.clock.now().date().isoformat(), self._node.outside.store
        used = {
            (party.node, clause): count
            for party in agreement.parties
            for clause, count in await store.read("quotas", agreement.digest, party.node, day)
        }
        return [
            {
                "clause": clause.id,
                "from": sender,
                "per_day": clause.quota_per_day,
                "used": used.get((sender, clause.id), 0),
            }
            for clause in agreement.clauses
            if clause.quota_per_day is not None
            for sender in clause.sender
        ]

    async def _notice(self, args: Fields) -> JsonValue:
        """``{agreement, action, reason: {lang: text}, others_continue, sign, actor?}``: suspend, leave, resume.

        With ``sign`` this node signs it and it holds at once; else its text comes back, for the authority to sign.
        """
        ident, action = args.text("agreement"), Action(args.choice("action", tuple(Action)))
        reason, others = args.mapping("reason", high=8, max_chars=4096), args.flag("others_continue")
        sign, actor, notices = args.flag("sign"), _actor(args), self._node.notices
        args.done()
        if not self._node.registry.versions_of(ident):
            raise LocalError("input.unknown_agreement")
        if not sign:
            draft = notices.draft(ident, action, reason, others_continue=others)
            return {**reports.notice_to_json(draft), "payload": encode_suspension(draft).decode()}
        return reports.notice_to_json(await notices.issue(ident, action, reason, others_continue=others, actor=actor))

    # -- the node

    async def _status(self, args: Fields) -> JsonValue:
        """Which node this is."""
        args.done()
        return reports.status(self._node)

    async def _health(self, args: Fields) -> JsonValue:
        """What ``exchange doctor`` looks at inside the node."""
        args.done()
        return await reports.health(self._node)


def check_own_card(card: Card, outside: Outside, pin: Digest) -> None:
    """Refuse a card for this node that names other keys than it has. Raises ``LocalError`` input.card."""
    keys = outside.log_keys
    logs = {key.raw for key in card.keys_for(Use.LOG)}
    fits = (
        outside.secrets.envelope_key in card.keys_for(Use.ENVELOPE)
        and outside.secrets.bundle_key in card.keys_for(Use.BUNDLE)
        and {keys.ed25519.public, keys.mldsa44.public} <= logs
        and card.log_origin == str(keys.origin)
        and pin in card.tls_pins
    )
    if not fits:
        raise LocalError("input.card", card.node)


def _signed(value: JsonValue) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise PeerError("officers.act", SIGNED)


def _who(args: Fields) -> Actor:
    """Who asks: every operation is given a ``Call``."""
    return args.actor if isinstance(args, Call) else Actor(OPERATOR, None, reads=False)


def _reads(args: Fields) -> bool:
    return _who(args).reads


def _officer(args: Fields) -> KeyId | None:
    officer = _who(args).officer
    return None if officer is None else officer.key.id


def _actor(args: Fields) -> str:
    """What the log calls who asks; a caller in this process may name itself where no officer acts."""
    named = args.text("actor", max_chars=64) if args.has("actor") else OPERATOR
    return named if _who(args).officer is None else _who(args).name


def _message(args: Fields) -> str:
    ident = args.text("id")
    if not wire.MESSAGE_ID.fullmatch(ident):
        raise LocalError("input.unknown_id")
    return ident


def _limit(args: Fields) -> int:
    limit = args.integer("limit", low=1, high=MAX_LISTED)
    args.done()
    return limit


def _objects(value: JsonValue) -> list[JsonObject]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
