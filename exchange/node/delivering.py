"""Delivering: for each peer, what waits goes out, and what comes back is verified and committed.

Implements docs/protocol.md section 11.4.

Rules:
1. One queue a peer, two requests in flight: the second is on its way while the first is being answered.
2. Retries are identical bytes, after a jittered wait that doubles up to five minutes; what ends it sooner is said in
   ``node.queues``.
3. Nothing that a peer answers is believed before its signature and its fit with what was sent are checked.
4. What the peer lacks (our card, the agreement) is pushed, then the message is tried again.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from exchange.core import wire
from exchange.core.answers import Answers, encode_request, verify_answers
from exchange.core.audit import Event
from exchange.core.envelope import encode_batch, parse_envelope
from exchange.core.errors import CODES, PeerError
from exchange.core.wire import Digest, DocumentType, parse_signed_document
from exchange.node.queues import MAX_READY, back_off
from exchange.node.records import id_list, outgoing_from_row
from exchange.node.registry import add_document

if TYPE_CHECKING:
    from exchange.core.keys import Card
    from exchange.core.wire import NodeId, UnverifiedDocument
    from exchange.node.ledger import Ledger, Transaction
    from exchange.node.pushing import Pusher
    from exchange.node.queues import Item, PeerQueue, Queues
    from exchange.node.registry import Registry
    from exchange.node.sending import Sender
    from exchange.ports import Clock, Peers, Secrets

WORKERS: Final = 2
MAX_ITEMS: Final = 64  # a batch that long costs its receiver one commit and about 20 ms
MAX_BYTES: Final = 2 * 1_048_576
MAX_DOCUMENTS: Final = 4 * MAX_ITEMS  # for each item a stored answer, for a void also that of its envelope; and news
MAX_RESPONSE_BYTES: Final = 4 * 1_048_576
_UNSENT: Final = frozenset({"refused", "tls", "name"})  # the connection was never made


@dataclass(slots=True)
class Delivery:
    """Runs the workers of every peer."""

    registry: Registry
    ledger: Ledger
    queues: Queues
    sender: Sender
    peers: Peers
    secrets: Secrets
    clock: Clock
    pusher: Pusher
    _tasks: dict[NodeId, list[asyncio.Task[None]]] = field(default_factory=dict)

    def start(self, peer: NodeId) -> None:
        """Start the workers of a peer, once."""
        if peer in self._tasks:
            return
        workers = [self._work(peer, first=index == 0) for index in range(WORKERS)]
        self._tasks[peer] = [
            asyncio.create_task(work) for work in (*workers, self._work_blobs(peer), self.pusher.work(peer))
        ]

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """All running workers."""
        return [task for tasks in self._tasks.values() for task in tasks]

    async def stop(self) -> None:
        """End all workers; what was in flight is sent again after the next start."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self._tasks.clear()

    # -- one worker

    async def _work(self, peer: NodeId, *, first: bool) -> None:
        queue = self.queues.queue(peer)
        while True:
            queue.wake.clear()
            queue.unpark_due(asyncio.get_running_loop().time())
            card = self.registry.cards.get(peer)
            if card is None or peer in self.registry.blocked:
                await queue.wake.wait()
                continue
            try:
                if first:
                    await self._prepare(peer, queue, card)
                worked = await self._send_next(peer, queue, card)
                # A wish that came while this worker was busy: the other one has cleared the call that came with it.
                worked = worked or (first and (queue.unsealed or queue.wants_prekeys))
            except PeerError as error:
                queue.fail(error.code)
                worked = False
            if not worked:
                await self._rest(queue)

    async def _rest(self, queue: PeerQueue) -> None:
        """Wait for news; where something failed or was deferred, no longer than the back-off."""
        waits: list[float] = []
        if queue.failures:
            waits.append(self._back_off(queue.failures))
        if queue.parked:
            waits.append(max(0.0, queue.retry_at - asyncio.get_running_loop().time()))
        with suppress(TimeoutError):
            await asyncio.wait_for(queue.wake.wait(), min(waits, default=None))

    def _back_off(self, failures: int) -> float:
        return back_off(failures, self.clock.random)

    async def _prepare(self, peer: NodeId, queue: PeerQueue, card: Card) -> None:
        """Prekeys, messages that wait unsealed, and a queue filled from the store."""
        # Each wish is forgotten before it is fulfilled: one that comes meanwhile is a new one.
        if queue.wants_prekeys:
            queue.wants_prekeys = False
            try:
                await self._fetch_prekeys(peer, card)
            except PeerError:
                queue.wants_prekeys = True
                raise
        while queue.unsealed:
            if self.sender.live_prekey(peer, self.clock.now()) is None:
                queue.wants_prekeys = True
                raise PeerError("prekey.none", peer)
            queue.unsealed = False
            try:
                queue.unsealed = await self.sender.seal_waiting(peer) > 0 or queue.unsealed
            except PeerError:
                queue.unsealed = True
                raise
        if queue.more_in_store and len(queue.ready) < MAX_READY // 2:
            await self._refill(peer, queue)

    async def _refill(self, peer: NodeId, queue: PeerQueue) -> None:
        limit = MAX_READY + len(queue.in_flight) + len(queue.parked)
        queue.more_in_store = False
        rows = await self.ledger.store.read("outbox", peer, limit, 0)
        queue.more_in_store = queue.more_in_store or len(rows) == limit
        for digest, ident, lane, seq, document, body in rows:
            queue.push((lane, seq, digest, ident, document, body))

    async def _send_next(self, peer: NodeId, queue: PeerQueue, card: Card) -> bool:
        """One request. Whether there was anything to send."""
        items = queue.take(MAX_ITEMS, MAX_BYTES)
        if not items:
            return False
        batch = encode_batch([(item[4], item[5]) for item in items])
        try:
            response = await self.peers.send_batch(card, batch)
            documents, deferred, bare = self._read_response(response, card, items)
        except PeerError as error:
            queue.give_back(items)
            if error.where not in _UNSENT:
                await self.sender.mark_sent(peer, [item[3] for item in items])
            raise
        ids = {item[2]: item[3] for item in items}
        await self.sender.take_answers(peer, documents, ids)
        answered = {answer.digest for answers, _ in documents for answer in answers.items}
        left = [item for item in items if item[2] not in answered]
        queue.succeed()
        if len(left) < len(items):
            queue.progress(len(items) - len(left))
        if not left:
            return True
        codes = {item[2]: deferred.get(item[2]) or bare.get(index) for index, item in enumerate(items)}
        until = asyncio.get_running_loop().time() + self._back_off(queue.deferrals + 1)
        for item in left:
            queue.park(item, codes[item[2]] or "relay.bad_answer", until)
        lists = {_officers_named(item) for item in left if codes[item[2]] == "officers.unknown"}
        await self._supply(peer, card, {code for code in codes.values() if code}, lists)
        return True

    def _read_response(
        self, response: bytes, card: Card, items: list[Item]
    ) -> tuple[list[tuple[Answers, bytes]], dict[str, str], dict[int, str]]:
        """The response's signed answers, verified, and its bare codes."""
        fields = wire.Fields(wire.parse_json(response, max_bytes=MAX_RESPONSE_BYTES, max_depth=4), "response")
        documents = self._read_answers(fields, card)
        deferred: dict[str, str] = {}
        for item in fields.each("deferred", high=len(items)):
            deferred[item.digest("digest")] = _known_code(item.text("code", max_chars=48))
        bare: dict[int, str] = {}
        for item in fields.each("bare", high=len(items)):
            bare[item.integer("index", high=len(items) - 1)] = _known_code(item.text("code", max_chars=48))
        return documents, deferred, bare

    def _read_answers(self, fields: wire.Fields, card: Card) -> list[tuple[Answers, bytes]]:
        documents: list[tuple[Answers, bytes]] = []
        for text in fields.texts("answers", high=MAX_DOCUMENTS, max_chars=wire.MAX_DOCUMENT_BYTES):
            data = wire.parse_base64(text, "response.answers")
            document = parse_signed_document(data, DocumentType.ANSWERS)
            documents.append((verify_answers(document, card, self.registry.me), data))
        return documents

    async def _supply(self, peer: NodeId, card: Card, codes: set[str], lists: set[Digest | None]) -> None:
        """Push what the peer said it lacks; ``lists`` are those of our officers that it did not know."""
        wanted: list[Digest] = []
        if codes & {"key.unknown", "card.expired"}:
            wanted.append(self.registry.cards[self.registry.me].digest)
        if "agreement.unknown" in codes:
            # Oldest version first: a version is installed only where the one that it supersedes is.
            wanted += [agreement.digest for agreement in reversed(self.registry.agreements_with(peer))]
        # An older one too: what it is told apart by is the newest, which the peer may hold already.
        ours = [item for item in self.registry.officers.values() if item.digest in lists]
        wanted += [item.digest for item in sorted(ours, key=lambda item: item.serial)]
        for digest in wanted:
            await self.peers.send_document(card, self.registry.bytes_of[digest])

    # -- requests

    async def sign_request(self, peer: NodeId, method: str, path: str, body: str) -> UnverifiedDocument:
        """A signed request for ``peer`` (protocol 11.1)."""
        payload = encode_request(
            network=self.registry.network,
            sender=self.registry.me,
            recipient=peer,
            key=self.secrets.envelope_key.id,
            time=self.clock.now(),
            nonce=self.clock.random(16).hex(),
            method=method,
            path=path,
            body=body,
        )
        return await self.secrets.sign_request(DocumentType.REQUEST, payload)

    async def _fetch_prekeys(self, peer: NodeId, card: Card) -> None:
        request = await self.sign_request(peer, "GET", "/v1/prekeys", wire.sha256_hex(b""))
        data = await self.peers.fetch_prekeys(card, request)
        bundle = self.registry.check_prekeys(data, peer, self.clock.now())
        held = self.registry.prekeys.get(peer)
        if held is not None and held.digest == bundle.digest:
            return

        async def job(tx: Transaction) -> None:
            tx.record(Event.PREKEYS_RECEIVED, peer=peer, subject=bundle.digest)
            add_document(tx.changes, bundle, data, tx.now)
            tx.after.append(lambda: self.registry.keep(bundle, data))

        await self.ledger.do(job)

    # -- evidence

    async def _work_blobs(self, peer: NodeId) -> None:
        """Send evidence of accepted messages, one file at a time, beside the envelopes."""
        queue = self.queues.queue(peer)
        failures, silent = 0, False
        while True:
            queue.blobs.clear()
            card = self.registry.cards.get(peer)
            if card is not None and peer not in self.registry.blocked:
                try:
                    while await self._send_blobs(peer, card):
                        failures = 0
                except PeerError as error:
                    failures += 1
                    silent = error.code == "relay.unreachable"
                    queue.trouble = error.code
            if failures == 0:
                await queue.blobs.wait()
            elif silent:
                with suppress(TimeoutError):
                    await asyncio.wait_for(queue.blobs.wait(), self._back_off(failures))
            else:
                await asyncio.sleep(self._back_off(failures))  # it refused: to hear from it is no news

    async def _send_blobs(self, peer: NodeId, card: Card) -> bool:
        queue = self.queues.queue(peer)
        seen = queue.files_queued  # before looking: a message that comes meanwhile is one more
        rows = await self.ledger.store.read("blobs_to_send", peer, 16)
        if not rows and not await self.ledger.store.read("blobs_waiting", peer):
            queue.files_settled = seen
        for h, ident, length in rows:
            request = await self.sign_request(peer, "PUT", f"/v1/blobs/{h}", h)
            response = await self.peers.send_blob(card, request, h, length)
            fields = wire.Fields(wire.parse_json(response, max_bytes=MAX_RESPONSE_BYTES, max_depth=4), "response")
            documents = self._read_answers(fields, card)
            raw = await self.ledger.store.read("outgoing", peer, id_list([ident]))
            digest = outgoing_from_row(raw[0]).record.digest or ""

            # The answers first: a file that is marked whole is not sent again, and nothing else asks for them.
            await self.sender.take_answers(peer, documents, {digest: ident})

            async def job(tx: Transaction, h: str = h, ident: str = ident, length: int = length) -> None:
                tx.changes.add("put_blob", h, peer, ident, "out", length, 1, None)

            await self.ledger.do(job)
        return bool(rows)


def _officers_named(item: Item) -> Digest | None:
    """The list of officers that an envelope of ours names; a void names none."""
    return None if not item[5] else parse_envelope(item[4], item[5]).core.officers


def _known_code(code: str) -> str:
    """A peer's bare code, if it is one of ours: nothing else of what a peer says reaches a log or a screen."""
    return code if code in CODES else "relay.bad_answer"
