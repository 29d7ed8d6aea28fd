"""``exchange.adapters.http_client``: the card's key or nothing, and no more of an answer than it may have.

Length: every answer that a peer can give is tried against one client.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import ssl
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from exchange.adapters import http_client, resources
from exchange.adapters.blobs import BlobFolder
from exchange.adapters.http_client import PIECE_BYTES, HttpPeers, Timeouts, translate
from exchange.core.envelope import encode_batch
from exchange.core.errors import IntegrityError, PeerError
from exchange.core.wire import encode_signed_document
from tests.adapters import wires

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from pathlib import Path

    from exchange.core.keys import Card
    from tests.adapters.wires import Identity, Raw

BATCH: Final = encode_batch([(b"document", b"body")])
MIB: Final = 1_048_576


def said(status: bytes, body: bytes, headers: bytes = b"") -> bytes:
    """An answer, byte for byte."""
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, headers, len(body), body)


OK: Final = said(b"200 OK", b"{}")
BUSY: Final = said(b"503 No", b'{"code":"relay.busy"}')


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return wires.make_identity(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return wires.make_identity(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def blobs(tmp_path: Path) -> BlobFolder:
    return BlobFolder(tmp_path / "blobs", 0)


@pytest.fixture
async def peers(blobs: BlobFolder) -> AsyncIterator[HttpPeers]:
    made = HttpPeers(blobs)
    yield made
    await made.close()


@pytest.fixture
async def hasty(blobs: BlobFolder) -> AsyncIterator[HttpPeers]:
    """A client that waits for nobody."""
    made = HttpPeers(blobs, Timeouts(connect=0.2, answer=0.2, stall=0.2))
    yield made
    await made.close()


@asynccontextmanager
async def answering(response: bytes, identity: Identity) -> AsyncIterator[tuple[Card, Raw]]:
    """A server with the right key that answers everything with the same bytes."""
    async with wires.raw_server(wires.scripted(response), identity.context) as raw:
        yield wires.card_of(identity.pin, raw.port), raw


async def refusal(work: Awaitable[Any]) -> tuple[str, str]:
    with pytest.raises(PeerError) as caught:
        await work
    return caught.value.code, caught.value.where


async def save(blobs: BlobFolder, data: bytes) -> str:
    async def stream() -> AsyncIterator[bytes]:
        yield data

    return (await blobs.save(stream(), h=None, max_bytes=len(data)))[0]


# -- with a node at the other end


async def test_every_resource_is_reached(peers: HttpPeers, blobs: BlobFolder, identity: Identity) -> None:
    """Batch, prekeys, card, health, document and blob go to their resource and bring its answer back."""
    node = wires.Node()
    async with wires.listening(node, identity) as listener:
        card = wires.card_of(identity.pin, listener.port)
        assert b'"bare"' in await peers.send_batch(card, BATCH)
        assert await peers.fetch_prekeys(card, wires.REQUEST) == b'{"prekeys":1}'
        assert await peers.fetch_card(card) == b'{"card":1}'
        assert b'"training":true' in await peers.fetch_health(card)
        await peers.send_document(card, b'{"a":1}')
        data = hashlib.shake_256(b"blob").digest(PIECE_BYTES + 7)
        h = await save(blobs, data)
        assert await peers.send_blob(card, wires.REQUEST, h, len(data)) == b'{"answers":[],"length":262151}'
    assert node.batches == [[(b"document", b"body")]]
    assert node.documents == [b'{"a":1}']
    assert node.requests == [encode_signed_document(wires.REQUEST)] * 2
    assert node.blobs == {h: data}


async def test_a_refusal_comes_back_by_its_code(peers: HttpPeers, blobs: BlobFolder, identity: Identity) -> None:
    """A code that the peer tells is raised, also where it was told before the whole upload had left."""
    node = wires.Node(raises=PeerError("blob.unknown", "path"))
    h = await save(blobs, bytes(16 * MIB))
    async with wires.listening(node, identity, replace(wires.LIMITS, linger=0.3)) as listener:
        card = wires.card_of(identity.pin, listener.port)
        assert await refusal(peers.send_document(card, b"{}")) == ("blob.unknown", "status 404")
        assert await refusal(peers.send_blob(card, wires.REQUEST, h, 16 * MIB)) == ("blob.unknown", "status 404")


# -- whom it believes


async def test_nothing_is_sent_to_another_key(peers: HttpPeers, identity: Identity, stranger: Identity) -> None:
    """A server whose key is not in the card receives not one byte of a request."""
    ended = asyncio.Event()

    async def listen(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del writer
        try:
            raw.received += await reader.read(65_536)
        finally:
            ended.set()

    async with wires.raw_server(listen, stranger.context) as raw:
        card = wires.card_of(identity.pin, raw.port)
        assert await refusal(peers.send_batch(card, BATCH)) == ("card.tls_mismatch", "server key")
        await ended.wait()
        assert (raw.connections, bytes(raw.received)) == (1, b"")


async def test_any_key_of_the_card_will_do(peers: HttpPeers, identity: Identity, stranger: Identity) -> None:
    """A card may name several keys, so that a server's key can be replaced."""
    async with answering(OK, identity) as (card, _):
        both = replace(card, tls_pins=(stranger.pin, identity.pin))
        assert await peers.fetch_card(both) == b"{}"


async def test_a_new_card_ends_old_connections(peers: HttpPeers, identity: Identity, stranger: Identity) -> None:
    """After a card changed its keys, a connection made under the old one is not used again."""
    async with wires.listening(wires.Node(), identity) as listener:
        card = wires.card_of(identity.pin, listener.port)
        await peers.fetch_card(card)
        await peers.fetch_card(card)
        changed = replace(card, tls_pins=(stranger.pin,))
        assert (await refusal(peers.fetch_card(changed)))[0] == "card.tls_mismatch"
        await peers.fetch_card(card)


async def test_the_environment_names_no_proxy(
    peers: HttpPeers, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy in the environment is not asked."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with answering(OK, identity) as (card, _):
        assert await peers.fetch_card(card) == b"{}"


async def test_connections_are_kept(peers: HttpPeers, identity: Identity) -> None:
    """Requests to one peer share a connection."""

    async def answer(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            raw.received += await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)

    async with wires.raw_server(answer, identity.context) as raw:
        card = wires.card_of(identity.pin, raw.port)
        for _ in range(3):
            await peers.fetch_card(card)
        assert raw.connections == 1


async def test_a_request_says_nothing_of_its_sender(peers: HttpPeers, identity: Identity) -> None:
    """A request names neither software nor cookies, also after the peer set one."""
    async with answering(said(b"200 OK", b"{}", b"Set-Cookie: a=b; Path=/\r\n"), identity) as (card, raw):
        await peers.fetch_card(card)
        await peers.fetch_card(card)
        heads = raw.received.decode().lower().split("\r\n\r\n")[:2]
        names = [sorted(line.split(":")[0] for line in top.split("\r\n")[1:]) for top in heads]
        assert names == [["host"], ["host"]]


# -- what it makes of answers


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (said(b"302 Found", b"", b"Location: /elsewhere\r\n"), ("relay.bad_answer", "status 302")),
        (said(b"500 No", b"some"), ("relay.bad_answer", "status 500")),
        (said(b"503 No", b'{"code":"relay.busy"}'), ("relay.busy", "status 503")),
        (said(b"400 No", b'{"code":"wire.not_json","where":"card"}'), ("wire.not_json", "status 400")),
        (said(b"400 No", b'{"code":"node.locked"}'), ("relay.bad_answer", "status 400")),
        (said(b"400 No", b'{"code":"a.b"}'), ("relay.bad_answer", "status 400")),
        (said(b"400 No", b'{"code":1}'), ("relay.bad_answer", "status 400")),
        (said(b"400 No", b"a" * 5000), ("relay.bad_answer", "too large")),
        (said(b"200 OK", b"{}", b"Content-Encoding: gzip\r\n"), ("relay.bad_answer", "compressed")),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(resources.MAX_ANSWER_BYTES + 1), ("relay.bad_answer", "too large")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", ("relay.unreachable", "reset")),
        (b"SSH-2.0-OpenSSH\r\n\r\n", ("relay.bad_answer", "not HTTP")),
        (b"", ("relay.unreachable", "reset")),
    ],
)
async def test_a_bad_answer_is_a_code(
    peers: HttpPeers, identity: Identity, response: bytes, expected: tuple[str, str]
) -> None:
    """Whatever is not the answer of a node becomes one of our codes, and none of the peer's words are in it."""
    async with answering(response, identity) as (card, _):
        assert await refusal(peers.fetch_card(card)) == expected


# -- what it makes of failures


async def free_port() -> int:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


async def test_nobody_there(peers: HttpPeers, identity: Identity) -> None:
    """A port that nobody listens on, and hosts and ports that cannot be, are each one word."""
    port = await free_port()
    assert await refusal(peers.fetch_card(wires.card_of(identity.pin, port))) == ("relay.unreachable", "refused")
    assert await refusal(peers.fetch_card(wires.card_of(identity.pin, 99_999))) == ("relay.unreachable", "address")
    assert await refusal(peers.fetch_card(wires.card_of(identity.pin))) == ("relay.unreachable", "no endpoint")
    strange = wires.card_of(identity.pin, 1, host="a" * 64 + ".example")
    assert (await refusal(peers.fetch_card(strange)))[1] in {"address", "name"}


async def test_somebody_without_tls(peers: HttpPeers, identity: Identity) -> None:
    """A server that speaks no TLS is told as such, and sees no request."""

    async def shout(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example\r\n")
        raw.received += await reader.read()

    async with wires.raw_server(shout, None) as mail:
        card = wires.card_of(identity.pin, mail.port)
        assert await refusal(peers.fetch_card(card)) == ("relay.unreachable", "tls")
        assert b"/v1/card" not in mail.received


async def test_a_silent_server_is_left(hasty: HttpPeers, identity: Identity) -> None:
    """A server that takes a request and never answers is left in time."""

    async def wait(_: object, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del writer
        await reader.read()

    async with wires.raw_server(wait, identity.context) as raw:
        card = wires.card_of(identity.pin, raw.port)
        assert await refusal(hasty.send_document(card, b"{}")) == ("relay.unreachable", "timeout")


async def test_the_next_endpoint_is_tried_and_remembered(peers: HttpPeers, identity: Identity) -> None:
    """Where the first endpoint of a card is silent the second is asked, and from then on first."""
    async with wires.listening(wires.Node(), identity) as good, answering(b"", identity) as (_, bad):
        card = wires.card_of(identity.pin, bad.port, good.port)
        assert await peers.fetch_card(card) == b'{"card":1}'
        tried = bad.connections
        assert tried > 0
        for _ in range(3):
            assert await peers.fetch_card(card) == b'{"card":1}'
        assert bad.connections == tried


async def test_a_wrong_key_is_told_before_silence(peers: HttpPeers, identity: Identity, stranger: Identity) -> None:
    """Where one endpoint is silent and another has the wrong key, the wrong key is told, in either order."""
    silent = await free_port()
    async with wires.listening(wires.Node(), stranger) as wrong:
        for ports in ((silent, wrong.port), (wrong.port, silent)):
            card = wires.card_of(identity.pin, *ports)
            assert (await refusal(peers.fetch_card(card)))[0] == "card.tls_mismatch"


async def test_a_refusal_is_not_asked_again_elsewhere(peers: HttpPeers, identity: Identity) -> None:
    """A node that refuses at one endpoint is not asked the same at the next."""
    async with answering(BUSY, identity) as (card, first), answering(OK, identity) as (_, second):
        both = wires.card_of(identity.pin, first.port, second.port)
        assert (await refusal(peers.fetch_card(both)))[0] == "relay.busy"
        assert (card.node, second.connections) == (both.node, 0)


# -- uploads


async def test_a_stalled_upload_is_left(hasty: HttpPeers, blobs: BlobFolder, identity: Identity) -> None:
    """An upload that makes no progress is left; one that does may take longer than any single answer."""

    async def slowly(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw.received += await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    h = await save(blobs, bytes(24 * MIB))
    async with wires.raw_server(slowly, identity.context) as raw:
        card = wires.card_of(identity.pin, raw.port)
        work = hasty.send_blob(card, wires.REQUEST, h, 24 * MIB)
        assert await refusal(work) == ("relay.unreachable", "timeout")
        assert raw.received.startswith(b"PUT /v1/blobs/" + h.encode())


class Listed(BlobFolder):
    """A folder that gives its pieces as a plain iterator."""

    def load(self, h: str) -> AsyncIterator[bytes]:
        pieces = super().load(h)

        class Pieces:
            def __aiter__(self) -> Pieces:
                return self

            async def __anext__(self) -> bytes:
                return await anext(pieces)

        return Pieces()


async def test_any_iterator_is_sent(tmp_path: Path, identity: Identity) -> None:
    """Evidence is sent from whatever the port gives, a generator or not."""
    blobs, node = Listed(tmp_path / "blobs", 0), wires.Node()
    peers = HttpPeers(blobs)
    h = await save(blobs, b"evidence")
    async with wires.listening(node, identity) as listener:
        await peers.send_blob(wires.card_of(identity.pin, listener.port), wires.REQUEST, h, 8)
        await peers.close()
    assert node.blobs == {h: b"evidence"}


class Damaged(BlobFolder):
    """A folder whose files end in a fault of the disk."""

    async def load(self, h: str) -> AsyncIterator[bytes]:
        async for piece in super().load(h):
            yield piece
            raise IntegrityError("store.blob_missing", "blobs")


async def test_our_own_damage_is_no_fault_of_the_peer(tmp_path: Path, identity: Identity) -> None:
    """Evidence that cannot be read here, from its beginning or half way, is a fault of this store."""
    blobs = Damaged(tmp_path / "blobs", 0)
    peers = HttpPeers(blobs)
    node = wires.Node()
    h = await save(blobs, bytes(2 * MIB))
    async with wires.listening(node, identity) as listener:
        card = wires.card_of(identity.pin, listener.port)
        for name in (h, "0" * 64):
            with pytest.raises(IntegrityError) as caught:
                await peers.send_blob(card, wires.REQUEST, name, 2 * MIB)
            assert caught.value.code == "store.blob_missing"
        await peers.close()
    assert node.blobs == {}


# -- the words


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (TimeoutError(), "relay.unreachable", "timeout"),
        (aiohttp.ServerTimeoutError(), "relay.unreachable", "timeout"),
        (aiohttp.InvalidURL("x"), "relay.unreachable", "address"),
        (UnicodeError(), "relay.unreachable", "address"),
        (ssl.SSLError(), "relay.unreachable", "tls"),
        (BrokenPipeError(), "relay.unreachable", "reset"),
        (aiohttp.ServerDisconnectedError(), "relay.unreachable", "reset"),
        (OSError(101, "Network is unreachable"), "relay.unreachable", "network"),
        (aiohttp.ClientError(), "relay.unreachable", "network"),
        (aiohttp.ServerFingerprintMismatch(b"", b"", "", 0), "card.tls_mismatch", "server key"),
    ],
)
def test_every_failure_has_one_word(error: Exception, code: str, word: str) -> None:
    """Each kind of failure is told by one short word that names no host."""
    told = translate(error)
    assert (told.code, told.where) == (code, word)


def test_a_large_batch_is_written_in_pieces() -> None:
    """A body beyond aiohttp's bound goes as a file with the same bytes; a small one and none go as they are."""
    large = bytes(http_client.LARGE_BODY + 1)
    payload = http_client._payload(large)  # noqa: SLF001 - what aiohttp is given
    assert isinstance(payload, io.BytesIO)
    assert payload.getvalue() == large
    assert http_client._payload(b"small") == b"small"  # noqa: SLF001
    assert http_client._payload(None) is None  # noqa: SLF001
