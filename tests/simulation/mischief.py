"""A node with valid keys that misbehaves: what it sends beside its real node, and what it makes of its answers.

It replays, signs two texts under one id, takes one number twice, voids and then sends, leaves gaps, refers to what
nobody knows, sends garbage, pushes documents that trip others up, and answers nonsense, some of it properly signed.
Whatever it does, nobody else is stopped by it, and what it repeats costs nothing.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from exchange.core import wire
from exchange.core.answers import AnswerItem, Outcome, encode_answers, encode_request, encode_void
from exchange.core.audit import Event, LogBatch
from exchange.core.envelope import AgreementRef, Core, encode_batch, envelope_digest, parse_batch
from exchange.core.errors import PeerError
from exchange.core.keys import encode_prekeys
from exchange.core.merkle import Frontier
from exchange.core.statement import compose_statement, encode_statement
from exchange.core.wire import (
    Digest,
    DocumentType,
    MessageId,
    encode_signed_document,
    parse_signed_document,
)
from exchange.node.planning import read_draft
from exchange.ports import SealItem
from tests.schemas.samples import book
from tests.simulation.drafts import draft
from tests.simulation.network import Request, get_prekeys, post_document, post_envelopes, put_blob
from tests.simulation.people import NETWORK, successor_card

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from exchange.core.keys import Prekey
    from exchange.core.wire import NodeId
    from exchange.node.node import Node
    from tests.simulation.host import Host
    from tests.simulation.network import Network

HUGE: Final = 2**53 - 1
Frame = tuple[bytes, bytes]


class Mischief:
    """The misbehaving node of a world."""

    def __init__(self, host: Host, network: Network, index: int) -> None:
        self._host = host
        self._network = network
        self._index = index
        self._rng = host.stage.rng
        network.twist = self.twist

    async def act(self) -> None:
        """Do one thing to somebody."""
        process = self._host.process
        if process is None or process.node is None:
            return
        node = process.node
        peers = [peer for peer in self._network.hosts if peer != self._host.id]
        peer = self._rng.choice(peers)
        deeds: tuple[Callable[[Node, NodeId], Awaitable[None]], ...] = (
            self._replay,
            self._equivocate,
            self._take_one_number_twice,
            self._void_and_send,
            self._leave_gaps,
            self._refer_to_nothing,
            self._send_garbage,
            self._push_documents,
            self._repeat_requests,
            self._push_files,
        )
        await self._rng.choice(deeds)(node, peer)

    async def _send(self, peer: NodeId, frames: Sequence[Frame]) -> None:
        if frames:
            await self._ask(peer, post_envelopes(encode_batch(frames)))

    async def _ask(self, peer: NodeId, request: Request) -> None:
        with suppress(PeerError):
            await self._network.ask(self._host.id, peer, request)

    # -- making things

    async def _envelope(
        self, node: Node, peer: NodeId, seq: int, ident: str | None = None, **members: object
    ) -> list[Frame]:
        """A valid envelope, or none where nothing binds the two or no prekey is known."""
        now = self._host.now().replace(microsecond=0)
        agreements = node.registry.agreements_with(peer)
        bundle = node.registry.prekeys.get(peer)
        prekey: Prekey | None = None if bundle is None else bundle.live(now)
        if not agreements or prekey is None:
            return []
        members.setdefault("urgency", "normal_7d")
        value = draft("acknowledgement", 1, **members)
        read = read_draft(value, [], [peer], book=book(), registry=node.registry, now=now, random=self._host.random)
        header = read.header | {"id": ident or read.id}
        statement = compose_statement(
            header, [item for _, item in read.parts], read.salts, agreement=agreements[0].digest, clause="talk"
        )
        core = Core(
            network=NETWORK,
            id=MessageId(str(header["id"])),
            attempt=1,
            sender=self._host.id,
            signing_key=node.outside.secrets.envelope_key.id,
            recipient=peer,
            prekey=prekey.key.id,
            agreement=AgreementRef(agreements[0].id, agreements[0].version, agreements[0].digest),
            seq=seq,
            created=now,
            expires=prekey.open_until - (prekey.open_until - prekey.use_until) / 7,
            lane="normal",
            blobs=(),
            kc=b"",
        )
        ring = self._host.keyring()
        ring.learn_case_key("", ring.new_case_key(""))
        leaf = LogBatch(Frontier()).reserve(Event.SEALED)
        item = SealItem(leaf, core, encode_statement(statement), prekey.key, "")
        ((sealed, _),) = await ring.seal([item])
        return [(sealed.document, sealed.body)]

    async def _void(self, peer: NodeId, seq: int, ident: str, reason: str = "relay.cancelled") -> list[Frame]:
        ring = self._host.keyring()
        payload = encode_void(
            network=NETWORK,
            sender=self._host.id,
            recipient=peer,
            key=ring.envelope_key.id,
            time=self._host.now(),
            seq=seq,
            message=ident,
            reason=reason,
        )
        return [(encode_signed_document(await ring.sign_request(DocumentType.VOID, payload)), b"")]

    def _number(self, node: Node, peer: NodeId) -> int:
        """A number near those that its real node takes."""
        window = node.ledger.windows.get(peer)
        return max(1, (window.next_seq if window else 1) + self._rng.randint(-2, 3))

    def _ident(self) -> str:
        return self._rng.randbytes(16).hex()

    # -- deeds

    async def _replay(self, _node: Node, _peer: NodeId) -> None:
        if self._network.evil_sent:
            target, batch = self._rng.choice(self._network.evil_sent)
            for _ in range(self._rng.randint(1, 20)):
                await self._ask(target, post_envelopes(batch))

    async def _equivocate(self, node: Node, peer: NodeId) -> None:
        ident, seq = self._ident(), self._number(node, peer)
        frames = [frame for _ in range(3) for frame in await self._envelope(node, peer, seq, ident)]
        if self._rng.random() < 0.5:
            await self._send(peer, frames + frames)
        else:
            for frame in (*frames, *frames):
                await self._send(peer, [frame])

    async def _take_one_number_twice(self, node: Node, peer: NodeId) -> None:
        seq = self._number(node, peer)
        await self._send(peer, await self._envelope(node, peer, seq) + await self._envelope(node, peer, seq))

    async def _void_and_send(self, node: Node, peer: NodeId) -> None:
        ident, seq = self._ident(), self._number(node, peer)
        void = await self._void(peer, seq, ident, self._rng.choice(("relay.cancelled", "a.b", "no.such_code_at_all")))
        message = await self._envelope(node, peer, seq, ident)
        frames = [*void, *message, *void, *message] if self._rng.random() < 0.5 else [*message, *void, *void]
        if self._rng.random() < 0.5:
            await self._send(peer, frames)
        else:
            for frame in frames:
                await self._send(peer, [frame])

    async def _leave_gaps(self, node: Node, peer: NodeId) -> None:
        for _ in range(self._rng.randint(1, 8)):
            seq = self._rng.choice((self._number(node, peer) + self._rng.randint(5, 500), HUGE, HUGE - 2))
            await self._send(peer, await self._envelope(node, peer, seq))

    async def _refer_to_nothing(self, node: Node, peer: NodeId) -> None:
        seq = self._number(node, peer) + 3
        frames: list[Frame] = []
        for at in range(self._rng.randint(1, 5)):
            frames += await self._envelope(node, peer, seq + at, refers_to=[self._ident()])
        await self._send(peer, frames)

    async def _send_garbage(self, node: Node, peer: NodeId) -> None:
        good = await self._envelope(node, peer, self._number(node, peer))
        raw = bytearray(encode_batch(good) or self._rng.randbytes(50))
        raw[self._rng.randrange(len(raw))] ^= 1 << self._rng.randrange(8)
        void = await self._void(peer, HUGE, self._ident(), "no.1digit")
        for data in (bytes(raw), self._rng.randbytes(200), b"", encode_batch([(b"{}", b"x"), *void, (b"[]", b"")])):
            await self._ask(peer, post_envelopes(data))

    async def _push_documents(self, node: Node, peer: NodeId) -> None:
        await self._ask(peer, post_document(successor_card(self._index)))
        bundle = node.registry.prekeys.get(self._host.id)
        if bundle is None:
            return
        ring = self._host.keyring()
        for serial in (bundle.serial, bundle.serial + 7, 1):
            payload = encode_prekeys(
                network=NETWORK,
                node=self._host.id,
                serial=serial,
                issued=self._host.now(),
                signing_key=ring.bundle_key.id,
                prekeys=bundle.prekeys[:1],
            )
            leaf = LogBatch(Frontier()).reserve(Event.PREKEYS_PUBLISHED)
            document = await ring.sign_bundle(leaf, DocumentType.PREKEYS, payload)
            await self._ask(peer, post_document(encode_signed_document(document)))
        await self._ask(peer, post_document(self._rng.randbytes(30)))

    async def _request(self, peer: NodeId, method: str, path: str, body: str) -> bytes:
        ring = self._host.keyring()
        payload = encode_request(
            network=NETWORK,
            sender=self._host.id,
            recipient=peer,
            key=ring.envelope_key.id,
            time=self._host.now(),
            nonce=self._ident(),
            method=method,
            path=path,
            body=body,
        )
        return encode_signed_document(await ring.sign_request(DocumentType.REQUEST, payload))

    async def _repeat_requests(self, _node: Node, peer: NodeId) -> None:
        signed = await self._request(peer, "GET", "/v1/prekeys", wire.sha256_hex(b""))
        for _ in range(5):
            await self._ask(peer, get_prekeys(signed))

    async def _push_files(self, _node: Node, peer: NodeId) -> None:
        known = list(self._network.hosts[peer].blobs)
        h = self._rng.choice([*known, wire.sha256_hex(b"unknown")])
        signed = await self._request(peer, "PUT", f"/v1/blobs/{h}", h)
        await self._ask(peer, put_blob(h, signed, self._rng.randbytes(65_577)))

    # -- answers

    async def twist(self, _node: Node, source: NodeId, request: Request, answer: bytes) -> bytes:
        """What it answers instead, half of the time."""
        rng = self._rng
        if rng.random() < 0.5:
            return answer
        digests: list[Digest] = []
        with suppress(PeerError):
            for document, body in parse_batch(request.data) if request.kind == "batch" else ():
                read = parse_signed_document(document)
                digests.append(envelope_digest(read) if body else read.digest())
        nonsense: Any = rng.choice(
            (
                {},
                [],
                {"answers": [1], "deferred": {}, "bare": None},
                {"answers": [], "deferred": [], "bare": [{"index": 999, "code": "wire.bad_value"}]},
                {"answers": [], "deferred": [{"digest": "0" * 64, "code": "\u202e no.such"}], "bare": []},
                {"answers": [], "deferred": [{"digest": d, "code": "wire.nothing"} for d in digests], "bare": []},
                {"answers": [], "deferred": [], "bare": [{"index": 0, "code": "relay.held"}] * 2},
            )
        )
        if rng.random() < 0.4:
            return rng.choice((b"", rng.randbytes(40), b"\xff{", wire.encode_json(nonsense)))
        documents = [await self._answers(source, digests) for _ in range(rng.randint(1, 3))]
        return wire.encode_json({"answers": documents, "deferred": [], "bare": []})

    async def _answers(self, source: NodeId, digests: Sequence[Digest]) -> str:
        """Answers under its true key that contradict each other, or speak of what nobody sent."""
        rng, ring = self._rng, self._host.keyring()
        items: list[AnswerItem] = []
        for digest in [*digests, Digest(rng.randbytes(32).hex())] * rng.randint(1, 3):
            outcome = rng.choice(list(Outcome))
            codes = ("a.b", "envelope.expired", "envelope.prekey_gone", "relay.held", "z9.x", "no.such_code")
            code = rng.choice(codes) if outcome is Outcome.REFUSED else rng.choice((None, None, "a.b"))
            items.append(AnswerItem(digest, outcome, rng.choice((0, 7, HUGE)), code, rng.choice((None, "talk", "x"))))
        payload = encode_answers(
            network=NETWORK,
            sender=self._host.id,
            recipient=source,
            key=ring.envelope_key.id,
            time=self._host.now(),
            items=items,
            through=rng.choice((0, HUGE)),
            missing=rng.choice(((), (1, 2), (0,))),
        )
        return wire.encode_base64(encode_signed_document(await ring.sign_request(DocumentType.ANSWERS, payload)))
