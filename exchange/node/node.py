"""The node: its rooms put together, started, and stopped.

Implements docs/protocol.md sections 11.3 (resources) and 9.3 (checkpoints).

Rules:
1. Start-up is recovery: what the last process left is loaded, checked and sent on by the ordinary workers.
2. Housekeeping is idempotent and may run at any moment: prekeys, checkpoints, what waited too long.
3. When the ledger stops, everything stops: a node that cannot write must not speak.

Length: the resources that peers ask for and the life of what answers them are read together.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from exchange.core import wire
from exchange.core.agreement_lint import check_agreement
from exchange.core.agreements import Agreement, read_agreement
from exchange.core.answers import claimed_sender, verify_request
from exchange.core.audit import Event, agreement_ref, needs_clock_step
from exchange.core.checkpoint import (
    LogKeys,
    TreeHead,
    assemble_checkpoint,
    checkpoint_body,
    cosigned_message,
    timestamped,
)
from exchange.core.errors import IntegrityError, LocalError, PeerError
from exchange.core.keys import Card, PrekeyBundle, read_card
from exchange.core.officers import OfficerList
from exchange.core.wire import Digest, DocumentType, NodeId, parse_signed_document
from exchange.node.approving import Approving
from exchange.node.asking import Onward
from exchange.node.delivering import Delivery
from exchange.node.endings import Endings
from exchange.node.erasing import Eraser
from exchange.node.evidence import EvidenceReceiver
from exchange.node.following import Following
from exchange.node.holds import Holds
from exchange.node.ledger import Ledger
from exchange.node.notices import Notices
from exchange.node.obligations import Obligations
from exchange.node.prekeys import Prekeys
from exchange.node.pushing import Pusher
from exchange.node.queues import Queues
from exchange.node.reading import Reader
from exchange.node.receiving import Receiver
from exchange.node.records import outgoing_from_row
from exchange.node.registry import Registry, add_document, load_registry
from exchange.node.sending import Sender
from exchange.node.steadiness import Steadiness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from exchange.core.schemas import SchemaBook
    from exchange.core.suspensions import Suspension
    from exchange.core.wire import JsonObject, NetworkId
    from exchange.node.ledger import Transaction
    from exchange.ports import Blobs, Clock, Peers, Secrets, Store

REQUEST_WINDOW: Final = timedelta(minutes=15)
MAX_NONCES: Final = 10_000  # of one peer within the window
HOUSEKEEPING_SECONDS: Final = 30.0
CHECKPOINT_SECONDS: Final = 1.0
WATCH_SECONDS: Final = 5.0
PUSH_PAUSE: Final = timedelta(minutes=10)  # between two prekey bundles that one node pushes
LIST_PAUSE: Final = timedelta(minutes=1)  # between two lists of officers: an older one may be needed beside the newest
PREKEYS_WANTED: Final = timedelta(days=2)  # a partner's bundle that ends sooner is fetched again
Installed: TypeAlias = Card | Agreement | OfficerList | PrekeyBundle  # notices have a way of their own


@dataclass(slots=True)
class Outside:
    """The five ports and what comes with them."""

    store: Store
    blobs: Blobs
    peers: Peers
    secrets: Secrets
    clock: Clock
    book: SchemaBook
    log_keys: LogKeys


@dataclass(slots=True)
class Node:
    """One focal point's node."""

    network: NetworkId
    me: NodeId
    outside: Outside
    registry: Registry
    ledger: Ledger
    queues: Queues
    prekeys: Prekeys
    sender: Sender
    receiver: Receiver
    reader: Reader
    approving: Approving
    delivery: Delivery
    evidence: EvidenceReceiver
    obligations: Obligations
    notices: Notices
    onward: Onward
    endings: Endings
    steadiness: Steadiness
    holds: Holds
    eraser: Eraser
    following: Following
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _nonces: dict[NodeId, dict[str, datetime]] = field(default_factory=dict)
    _pushed: dict[tuple[str, NodeId], datetime] = field(default_factory=dict)
    _checkpointed: int = 0

    # -- life

    @classmethod
    async def load(cls, network: NetworkId, me: NodeId, outside: Outside, *, require_card: bool = True) -> Node:
        """Read everything the last process left. Raises ``IntegrityError`` store.*, ``LocalError`` node.card.

        Only a node that is about to install its first card is loaded without one.
        """
        registry = await load_registry(outside.store, network, me)
        if require_card and me not in registry.cards:
            raise LocalError("node.card", me)
        ledger = Ledger(outside.store, outside.secrets, registry, outside.clock)
        await ledger.load()
        counted = await outside.store.read("leaf_count")
        if counted[0][0] != ledger.frontier.size:
            raise IntegrityError("store.log_mismatch", f"{counted[0][0]} entries, frontier of {ledger.frontier.size}")
        queues = Queues()
        prekeys = Prekeys(registry, ledger, outside.secrets)
        await prekeys.load(outside.store)
        steadiness = Steadiness(ledger, outside.clock)
        await steadiness.load()
        sender = Sender(registry, outside.book, ledger, queues, outside.clock, steadiness)
        holds = Holds(ledger, queues, outside.secrets, outside.clock, sender, steadiness)
        eraser = Eraser(ledger, queues, outside.blobs, outside.clock, sender, holds, steadiness)
        return cls(
            network=network,
            me=me,
            outside=outside,
            registry=registry,
            ledger=ledger,
            queues=queues,
            prekeys=prekeys,
            sender=sender,
            receiver=Receiver(registry, outside.book, ledger, queues, prekeys, outside.blobs, outside.clock),
            reader=(reader := Reader(me, outside.book, ledger, queues, outside.secrets)),
            approving=Approving(registry, outside.book, ledger, sender, outside.secrets, outside.clock),
            delivery=Delivery(
                registry,
                ledger,
                queues,
                sender,
                outside.peers,
                outside.secrets,
                outside.clock,
                Pusher(registry, ledger, queues, outside.peers, outside.clock),
            ),
            evidence=EvidenceReceiver(ledger, queues, outside.blobs),
            obligations=Obligations(registry, ledger, queues),
            notices=Notices(registry, ledger, queues, outside.clock),
            onward=Onward(registry, outside.book, sender, reader, outside.blobs),
            endings=Endings(registry, ledger, queues),
            steadiness=steadiness,
            holds=holds,
            eraser=eraser,
            following=Following(ledger, sender, eraser),
        )

    async def start(self) -> None:
        """Begin to work: the ledger first, then prekeys, then the peers."""
        self._tasks.append(asyncio.create_task(self.ledger.run()))
        await self.steadiness.start()
        await self.note(Event.NODE_START)
        await self.prekeys.keep_house(self.outside.clock.now())
        await self.eraser.look()  # what the last process left half done, and what became due meanwhile
        self._tasks.append(asyncio.create_task(self.eraser.run()))
        self._tasks.append(asyncio.create_task(self._keep_house()))
        self._tasks.append(asyncio.create_task(self._keep_checkpoints()))
        # Last, and nothing is awaited after it: a peer that hears from us sends what waits at once, and would find
        # nobody listening yet.
        for peer in self.registry.partners():
            self.delivery.start(peer)

    @property
    def is_started(self) -> bool:
        """Whether peers are served."""
        return bool(self._tasks)

    async def stop(self) -> None:
        """Drain: no new sends, a last entry, a last checkpoint, and the files closed."""
        await self.delivery.stop()
        for task in self._tasks[1:]:  # housekeeping; the first is the ledger, which writes the end
            task.cancel()
        await asyncio.gather(*self._tasks[1:], return_exceptions=True)
        if self.ledger.stopped is None and self._tasks:
            await self.note(Event.NODE_STOP)
            while self.ledger.frontier.size != self._checkpointed:
                await self.checkpoint()  # again where an entry came beside it: nobody is left to sign it later
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self.outside.peers.close()
        await self.outside.store.close()

    async def wait(self) -> None:
        """Return, or raise, when something that must not end has ended."""
        done: set[asyncio.Task[None]] = set()
        while not done:
            # Peers come and go: their workers are looked up anew.
            tasks = [*self._tasks, *self.delivery.tasks]
            done, _ = await asyncio.wait(tasks, timeout=WATCH_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if self.ledger.stopped is not None:
            raise self.ledger.stopped  # the cause; the others only say that the ledger stopped
        for task in done:
            task.result()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Let the ledger run and nothing else: for commands at a stopped node. What they wrote is in a checkpoint."""
        size = self.ledger.frontier.size
        running = asyncio.create_task(self.ledger.run())
        try:
            yield
        finally:
            if self.ledger.stopped is None and self.ledger.frontier.size != size:
                await self.checkpoint()
            fault = self.ledger.stopped
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            if fault is not None:
                raise fault

    async def note(self, event: Event, **fields: Any) -> None:  # noqa: ANN401 - the fields of Leaf
        """Write one entry into the log."""

        async def job(tx: Transaction) -> None:
            tx.record(event, **fields)

        await self.ledger.do(job)

    # -- housekeeping

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            await self.keep_house()

    async def keep_house(self) -> None:
        """What is due now."""
        now = self.outside.clock.now()
        await self.prekeys.keep_house(now)
        for peer in self.registry.partners():
            self.delivery.start(peer)
            bundle = self.registry.prekeys.get(peer)
            ends = max((entry.use_until for entry in bundle.prekeys), default=now) if bundle else now
            if ends < now + PREKEYS_WANTED:
                self.queues.queue(peer).want_prekeys()
            rows = [outgoing_from_row(row) for row in await self.outside.store.read("outgoing_open", peer, 256)]
            await self.sender.tick(peer, rows)
            if any(row.record.digest is None for row in rows):
                self.queues.wake_sealing(peer)  # some may be due now
        await self.obligations.look(now)
        await self.endings.look(now)
        await self.eraser.look()
        await self.following.look()
        for peer_id, nonces in self._nonces.items():
            fresh = {nonce: time for nonce, time in nonces.items() if now - time < 2 * REQUEST_WINDOW}
            self._nonces[peer_id] = fresh

    async def _keep_checkpoints(self) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            await self.checkpoint()

    async def checkpoint(self) -> None:
        """Sign the log as it is on disk, if it grew."""
        if self.ledger.frontier.size == self._checkpointed:
            return
        keys = self.outside.log_keys

        async def job(tx: Transaction) -> None:
            if needs_clock_step(self.ledger.last, tx.now):
                return  # dated before its newest entry: the next one comes after the step is on disk
            frontier = self.ledger.frontier  # what is committed; the job's own transaction comes after it
            head = TreeHead(keys.origin, frontier.size, frontier.root())
            moment = int(tx.now.timestamp())
            cosigned = cosigned_message(head, keys.mldsa44.name, moment)
            ed25519, mldsa44 = await tx.secrets.sign_checkpoint(checkpoint_body(head), cosigned)
            note = assemble_checkpoint(head, [(keys.ed25519, ed25519), (keys.mldsa44, timestamped(moment, mldsa44))])
            tx.changes.add("put_checkpoint", frontier.size, wire.encode_time(tx.now), note)
            # Not before the commit: who stops the node meanwhile must not believe that this one is on disk.
            tx.after.append(lambda: setattr(self, "_checkpointed", frontier.size))

        await self.ledger.do(job)

    # -- what peers ask (protocol 11.3)

    async def receive_batch(self, frames: list[tuple[bytes, bytes]]) -> JsonObject:
        """POST /v1/envelopes."""
        return await self.receiver.receive_batch(frames)

    def own_card(self) -> bytes:
        """GET /v1/card."""
        return self.registry.bytes_of[self.registry.cards[self.me].digest]

    def health(self) -> JsonObject:
        """GET /v1/health: nothing that is not in the card."""
        return {"ok": self.ledger.stopped is None, "network": self.network, "training": is_training(self.network)}

    def _verify_request(self, data: bytes, method: str, path: str, body: str) -> NodeId:
        document = parse_signed_document(data, DocumentType.REQUEST, max_bytes=8192)
        sender = claimed_sender(document)
        card = self.registry.cards.get(sender)
        if card is None:
            raise PeerError("envelope.unknown_sender", "request")
        if sender in self.registry.blocked:
            raise PeerError("envelope.blocked", "request")
        now = self.outside.clock.now()
        request = verify_request(
            document, card, self.me, method=method, path=path, body=body, now=now, window=REQUEST_WINDOW
        )
        if now >= card.expires:
            raise PeerError("card.expired", "request")
        nonces = self._nonces.setdefault(sender, {})
        if request.nonce in nonces:
            raise PeerError("request.replayed", "request.nonce")
        if len(nonces) >= MAX_NONCES:
            raise PeerError("relay.busy", "request")
        nonces[request.nonce] = now
        self.queues.queue(sender).contact()
        return sender

    async def serve_prekeys(self, request: bytes) -> bytes:
        """GET /v1/prekeys: the bundle; who asks is there, so what waits for it is tried again."""
        peer = self._verify_request(request, "GET", "/v1/prekeys", wire.sha256_hex(b""))
        self.queues.queue(peer).retry()
        bundle = self.registry.prekeys.get(self.me)
        if bundle is None:
            raise PeerError("relay.busy", "prekeys")
        return self.registry.bytes_of[bundle.digest]

    async def receive_blob(self, h: str, request: bytes, chunks: AsyncIterator[bytes], length: int) -> JsonObject:
        """PUT /v1/blobs/{h}: evidence that an accepted message names; answered with ``complete`` when all is in."""
        peer = self._verify_request(request, "PUT", f"/v1/blobs/{h}", h)
        return await self.evidence.receive(peer, h, chunks, length)

    async def receive_document(self, data: bytes) -> None:
        """POST /v1/documents: a successor of a card held here, an agreement, a notice, officers, prekeys."""
        document = parse_signed_document(data)
        if document.payload_type == DocumentType.CARD:
            if read_card(document).node not in self.registry.cards:
                raise PeerError("card.unknown", "document")
            await self.install(data)
        elif document.payload_type == DocumentType.AGREEMENT:
            await self._take_agreement(data)
        elif document.payload_type == DocumentType.SUSPENSION:
            await self.install(data)
        elif document.payload_type == DocumentType.PREKEYS:
            node, now = NodeId(document.fields("prekeys").text("node", pattern=wire.NODE_ID)), self.outside.clock.now()
            bundle = self.registry.check_prekeys(data, node, now)
            await self._install(bundle, data, "peer", PUSH_PAUSE)
        elif document.payload_type == DocumentType.OFFICERS:
            await self.install(data, pause=LIST_PAUSE)
        else:
            raise PeerError("wire.wrong_type", "document.payloadType")

    async def _take_agreement(self, data: bytes) -> None:
        """A rival of an agreement held here, signed by all, is an alarm: somebody's authority signed two texts (G3)."""
        try:
            await self.install(data)
        except PeerError as error:
            if error.code == "agreement.conflict":
                rival = read_agreement(parse_signed_document(data))
                others = [party.node for party in rival.parties if party.node != self.me]
                self.queues.notify("alarm", others[0], agreement_ref(rival.id, rival.version), None)
            raise

    def _pace(self, tx: Transaction, item: PrekeyBundle | OfficerList, pause: timedelta) -> None:
        """Refuse what one node makes anew too often: each is an entry of the log for ever. Raises relay.busy.

        Called for what is about to be installed, and nothing else: anybody can push again what was pushed once, and a
        pause that this began would keep the node's next document out for as long as they went on.
        """
        key = (type(item).__name__, item.node)
        last = self._pushed.get(key)
        if last is not None and tx.now - last < pause:
            raise PeerError("relay.busy", "document")
        tx.after.append(lambda: self._pushed.update({key: tx.now}))

    # -- installing documents

    async def install(
        self, data: bytes, actor: str = "peer", pause: timedelta | None = None
    ) -> Card | Agreement | OfficerList | Suspension:
        """Verify a card, an agreement, a notice about one or officers, log it, and use it from now on.

        ``pause``: between two lists of officers of one node; None is no pause.
        """
        document = parse_signed_document(data)
        if document.payload_type == DocumentType.SUSPENSION:
            return await self.notices.install(data, actor)
        item: Card | Agreement | OfficerList
        if document.payload_type == DocumentType.CARD:
            item = self.registry.check_card(data, self.outside.clock.now())
        elif document.payload_type == DocumentType.OFFICERS:
            item = self.registry.check_officers(data, self.outside.clock.now())
        else:
            item = self.registry.check_agreement(data)
            check_agreement(item, self.outside.book)
        is_new = item.digest not in self.registry.bytes_of
        await self._install(item, data, actor, pause)
        for peer in self.registry.partners() if self.is_started else ():  # a node that is not started sends nothing
            self.delivery.start(peer)
            if is_new:
                self.queues.queue(peer).retry()
        return item

    async def _install(self, item: Installed, data: bytes, actor: str, pause: timedelta | None = None) -> None:

        async def job(tx: Transaction) -> None:
            if item.digest in self.registry.bytes_of or tx.installs(item.digest):
                return  # two peers pushed the same document at once
            if tx.installs_any():
                # Two that rule each other out, at once: each was checked without the other.
                raise PeerError("relay.busy", "document")
            self._check_again(item, data)
            if pause is not None and isinstance(item, PrekeyBundle | OfficerList):
                self._pace(tx, item, pause)
            if isinstance(item, Card):
                tx.record(Event.CARD_INSTALLED, actor=actor, peer=item.node, subject=item.digest)
            elif isinstance(item, Agreement):
                name = agreement_ref(item.id, item.version)
                tx.record(Event.AGREEMENT_INSTALLED, actor=actor, subject=item.digest, agreement=name)
            elif isinstance(item, OfficerList):
                self._record_officers(tx, item, actor)
            else:
                tx.record(Event.PREKEYS_RECEIVED, actor=actor, peer=item.node, subject=item.digest)
            add_document(tx.changes, item, data, tx.now)
            tx.after.append(lambda: self.registry.keep(item, data))

        await self.ledger.do(job)

    def _record_officers(self, tx: Transaction, item: OfficerList, actor: str) -> None:
        """One entry for the list; of our own also one for each key that came, changed its roles, or went."""
        before = self.registry.officers_of(item.node)
        tx.record(Event.OFFICERS_INSTALLED, actor=actor, peer=item.node, subject=item.digest)
        if item.node != self.me:
            return
        old = {} if before is None else {officer.key.id: officer for officer in before.officers}
        new = {officer.key.id: officer for officer in item.officers}
        for ident in old:
            if ident not in new:
                tx.record(Event.OFFICER_REMOVED, actor=actor, subject=Digest(ident))
        for ident, officer in new.items():
            if old.get(ident) != officer:
                tx.record(Event.OFFICER_ADDED, actor=actor, subject=Digest(ident))
        # At once, and not with the next message: who was taken off must not be believed meanwhile.
        for peer in self.registry.counts_approvals():
            tx.changes.add("put_push", peer, item.digest)
            tx.after.append(self.queues.queue(peer).documents.set)

    def _check_again(self, item: Installed, data: bytes) -> None:
        """What was installed since it was checked counts as well."""
        now = self.outside.clock.now()
        if isinstance(item, Card):
            self.registry.check_card(data, now)
        elif isinstance(item, Agreement):
            self.registry.check_agreement(data)
        elif isinstance(item, OfficerList):
            self.registry.check_officers(data, now)
        else:
            self.registry.check_prekeys(data, item.node, now)

    async def block(self, peer: NodeId, *, blocked: bool, actor: str) -> None:
        """Block a peer at once, or end the block; what waits for a blocked peer stays and is told as blocked."""

        async def job(tx: Transaction) -> None:
            if blocked:
                tx.record(Event.CARD_BLOCKED, actor=actor, peer=peer)
                tx.changes.add("put_block", peer, wire.encode_time(tx.now))
                tx.after.append(lambda: self.registry.blocked.add(peer))
            else:
                tx.record(Event.CARD_UNBLOCKED, actor=actor, peer=peer)
                tx.changes.add("drop_block", peer)
                tx.after.append(lambda: self.registry.blocked.discard(peer))

        await self.ledger.do(job)
        # Asking for prekeys wakes the peer too: what it holds for us comes at once when a block ends.
        self.queues.queue(peer).want_prekeys()
        self.queues.queue(peer).retry()


def is_training(network: str) -> bool:
    """Whether every output must say that this is a training network."""
    return network.startswith(wire.TRAINING_PREFIX)
