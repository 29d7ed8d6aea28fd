"""``exchange.adapters.http_bodies``: nobody gets all of memory or uploads, or is waited for in vain."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from exchange.adapters import resources
from exchange.adapters.http_bodies import Pace, Share, origin_of
from exchange.adapters.tls import client_context
from exchange.core.envelope import encode_batch
from exchange.core.errors import PeerError
from exchange.core.wire import encode_base64, encode_signed_document
from tests.adapters import wires
from tests.simulation.loop import run_virtually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from exchange.core.wire import JsonObject
    from tests.adapters.wires import Identity, Node

H: Final = "ab" * 32
OTHER_H: Final = "cd" * 32
BINARY: Final = "Content-Type: application/octet-stream"
BATCH: Final = encode_batch([(bytes(20_000), b"")])
BUSY: Final = b"HTTP/1.1 503 "
OK: Final = b"HTTP/1.1 200 "


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return wires.make_identity(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def node() -> Node:
    return wires.Node()


def post(body: bytes, length: int | None = None) -> bytes:
    return wires.head("POST", resources.ENVELOPES, BINARY, f"Content-Length: {length or len(body)}") + body


def put(h: str, asker: str, body: bytes, length: int = 100_000) -> bytes:
    request = replace(wires.REQUEST, payload=b'{"from":"%s"}' % asker.encode())
    signed = f"Focalpoint-Request: {encode_base64(encode_signed_document(request))}"
    return wires.head("PUT", resources.BLOBS + h, BINARY, signed, f"Content-Length: {length}") + body


async def talk_from(host: str, port: int, data: bytes) -> bytes:
    context = client_context()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, local_addr=(host, 0))
    try:
        writer.write(data)
        return await reader.read()
    finally:
        writer.close()


@asynccontextmanager
async def half_sent(port: int, data: bytes) -> AsyncIterator[asyncio.StreamWriter]:
    """A connection that has sent ``data`` and stays."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context())
    try:
        writer.write(data)
        await writer.drain()
        yield writer
    finally:
        writer.transport.abort()


async def until_it_says(expected: bytes, port: int, data: bytes) -> None:
    async with asyncio.timeout(5):
        while not (await wires.talk(port, data)).startswith(expected):
            pass


# -- memory


async def test_memory_is_bounded(node: Node, identity: Identity) -> None:
    """Bodies that together are larger than the memory set aside are refused as busy, until there is room again."""
    node.wait = asyncio.Event()
    async with wires.listening(node, identity, replace(wires.LIMITS, max_bodies_bytes=30_000)) as listener:
        first = asyncio.create_task(wires.talk(listener.port, post(BATCH)))
        await node.began.wait()
        assert (await wires.talk(listener.port, post(BATCH))).startswith(BUSY)
        node.wait.set()
        assert (await first).startswith(OK)
        assert (await wires.talk(listener.port, post(BATCH))).startswith(OK)


async def test_one_address_does_not_get_all_of_the_memory(node: Node, identity: Identity) -> None:
    """An address that has its share is refused as busy, while another's bodies are taken."""
    async with wires.listening(node, identity, replace(wires.LIMITS, max_bodies_bytes_each=30_000)) as listener:
        async with half_sent(listener.port, post(BATCH, 29_000)):
            await until_it_says(BUSY, listener.port, post(BATCH))
            assert (await talk_from("127.0.0.2", listener.port, post(BATCH))).startswith(OK)
        await until_it_says(OK, listener.port, post(BATCH))


async def test_work_that_goes_on_is_counted(node: Node, identity: Identity) -> None:
    """A batch whose work takes longer than its sender waits holds its memory until the work has ended."""
    node.wait = asyncio.Event()
    limits = replace(wires.LIMITS, max_bodies_bytes=30_000, answer=0.05)
    async with wires.listening(node, identity, limits) as listener:
        assert b'"answer"' in await wires.talk(listener.port, post(BATCH))
        assert b'"memory"' in await wires.talk(listener.port, post(BATCH))
        node.wait.set()
        await node.ended.wait()
        assert (await wires.talk(listener.port, post(BATCH))).startswith(OK)


async def test_a_refused_batch_holds_nothing(node: Node, identity: Identity) -> None:
    """The memory of a body that is no batch is free again."""
    async with wires.listening(node, identity, replace(wires.LIMITS, max_bodies_bytes=30_000)) as listener:
        for _ in range(3):
            assert b'"wire.bad_frame"' in await wires.talk(listener.port, post(b"junk" * 5_000))


def test_nothing_is_kept_of_who_holds_nothing() -> None:
    """A share remembers only those who hold a part of it, and gives each what the others left."""
    share = Share(10, 6, "seats")
    first, second = share.hold("first"), share.hold("second")
    first.take(6)
    second.take(4)
    for held in (first, second):
        with pytest.raises(PeerError) as caught:
            held.take(1)
        assert (caught.value.code, caught.value.where) == ("relay.busy", "seats")
    first.release()
    first.release()
    assert vars(share)["_held"] == {"second": 4}
    share.hold("third").take(6)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.2", "::ffff:192.0.2.1", False),
        (None, None, True),
    ],
)
def test_addresses_of_one_host_are_one(one: str | None, other: str | None, same: bool) -> None:  # noqa: FBT001
    """An address of IPv6 counts as its network of 64 bits, and one of IPv4 as itself however it is written."""

    def origin(remote: str | None) -> str:
        return origin_of(cast("web.BaseRequest", SimpleNamespace(remote=remote)))

    assert (origin(one) == origin(other)) is same


# -- uploads


@pytest.mark.parametrize(
    ("change", "refused", "taken"),
    [
        ({"max_uploads_each": 1}, put(OTHER_H, "th-fp1", b""), put(OTHER_H, "vn-fp1", b"x", 1)),
        ({}, put(H, "th-fp1", b""), put(OTHER_H, "th-fp1", b"x", 1)),
        ({"max_uploads": 1}, put(OTHER_H, "vn-fp1", b""), None),
    ],
    ids=["of a node", "of a blob", "of all"],
)
async def test_uploads_are_counted(
    node: Node, identity: Identity, change: dict[str, Any], refused: bytes, taken: bytes | None
) -> None:
    """Beyond the uploads of a node, one of each blob, or those of all, a blob is refused before its first byte."""
    async with wires.listening(node, identity, replace(wires.LIMITS, **change)) as listener:
        async with half_sent(listener.port, put(H, "th-fp1", b"x")):
            await node.began.wait()
            assert b'"code":"relay.busy","where":"uploads' in await wires.talk(listener.port, refused)
            if taken is not None:
                assert (await wires.talk(listener.port, taken)).startswith(OK)
        await until_it_says(OK, listener.port, put(H, "th-fp1", b"x", 1))


class Verifying(wires.Node):
    """A node that is still looking at who asks for one blob."""

    async def receive_blob(self, h: str, request: bytes, chunks: AsyncIterator[bytes], length: int) -> JsonObject:
        if h == H:
            self.began.set()
            await self.ended.wait()
            raise PeerError("request.unsigned")
        return await super().receive_blob(h, request, chunks, length)


async def test_an_unverified_request_takes_no_place(identity: Identity) -> None:
    """Whoever writes a node's name into a request that is not verified takes no upload from that node."""
    node = Verifying()
    limits = replace(wires.LIMITS, max_uploads=1, max_uploads_each=1)
    async with wires.listening(node, identity, limits) as listener, half_sent(listener.port, put(H, "th-fp1", b"x")):
        await node.began.wait()
        assert (await wires.talk(listener.port, put(OTHER_H, "th-fp1", b"x", 1))).startswith(OK)
        node.ended.set()


# -- patience


@pytest.mark.parametrize("request_", [post(b"half", 8_000_000), put(H, "th-fp1", b"x")])
@pytest.mark.parametrize("change", [{"stall": 0.05}, {"grace": 0.05}])
async def test_a_body_that_stops_is_given_up(
    node: Node, identity: Identity, request_: bytes, change: dict[str, Any]
) -> None:
    """A body that pauses is refused as busy, whatever time its length would have."""
    async with wires.listening(node, identity, replace(wires.LIMITS, **change)) as listener, asyncio.timeout(5):
        assert b'"the body came too slowly"' in await wires.talk(listener.port, request_)
    assert (node.batches, node.blobs) == ([], {})


async def _waited(pace: Pace, seconds: float, size: int) -> None:
    await pace.wait(asyncio.sleep(seconds))
    pace.moved(size)


def test_a_pace_is_enough() -> None:
    """Who moves as fast as is asked is waited for without end, and our own time is nobody's."""

    async def main() -> None:
        pace = Pace(replace(wires.LIMITS, grace=30, stall=30))
        for _ in range(1_000):
            await _waited(pace, 20, 20 * resources.SLOWEST_BYTES_PER_S)
            await asyncio.sleep(100)
        with pytest.raises(TimeoutError):
            await _waited(pace, 31, 0)

    run_virtually(main)


def test_a_trickle_is_not_enough() -> None:
    """Who sends a byte now and then has the grace and no more."""

    async def main() -> None:
        pace = Pace(replace(wires.LIMITS, grace=30, stall=30))
        for _ in range(2):
            await _waited(pace, 14, 1)
        with pytest.raises(TimeoutError):
            await _waited(pace, 14, 1)

    run_virtually(main)
