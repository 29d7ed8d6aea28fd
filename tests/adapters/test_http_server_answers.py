"""``exchange.adapters.http_answers``: what nobody reads is bounded, and does not stay."""

from __future__ import annotations

import asyncio
import gc
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import pytest

from exchange.adapters import resources
from exchange.adapters.http_answers import Answer
from exchange.adapters.tls import client_context
from exchange.core.envelope import encode_batch
from tests.adapters import wires

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from exchange.core.wire import JsonObject
    from tests.adapters.wires import Identity

BINARY: Final = "Content-Type: application/octet-stream"
BATCH: Final = encode_batch([(b"document", b"body")])
POST: Final = wires.head("POST", resources.ENVELOPES, BINARY, f"Content-Length: {len(BATCH)}") + BATCH
KEPT_OPEN: Final = POST.replace(b"Connection: close\r\n", b"")
HEALTH: Final = wires.head("GET", resources.HEALTH)
MANY: Final = 24 << 20  # more than the system's own buffers take


@dataclass
class Talkative(wires.Node):
    """A node that says much."""

    length: int = MANY

    async def receive_batch(self, frames: list[tuple[bytes, bytes]]) -> JsonObject:
        self.batches.append(frames)
        self.began.set()
        return {"answers": ["A" * self.length]}


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return wires.make_identity(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def deaf(port: int, data: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """A client that asks and does not read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context())
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a Transport, whatever its annotation says
    writer.write(data)
    try:
        yield reader
        writer.transport.resume_reading()  # type: ignore[attr-defined]
    finally:
        writer.transport.abort()


async def until_it_says(expected: bytes, port: int, data: bytes) -> None:
    async with asyncio.timeout(5):
        while not (await wires.talk(port, data)).startswith(expected):
            pass


async def test_a_long_answer_arrives_whole(identity: Identity) -> None:
    """An answer of many pieces is read as it was said."""
    async with wires.listening(Talkative(length=5_000_000), identity) as listener:
        top, _, body = (await wires.talk(listener.port, POST)).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in top
    assert json.loads(body) == {"answers": ["A" * 5_000_000]}


@pytest.mark.parametrize("bound", ["max_answers_bytes", "max_answers_bytes_each"])
async def test_waiting_answers_are_bounded(identity: Identity, bound: str) -> None:
    """While one answer waits to be read another that finds no room is refused as busy, until the first is read."""
    node = Talkative()
    limits = replace(wires.LIMITS, max_answers_bytes=MANY * 4, max_answers_bytes_each=MANY * 4)
    async with wires.listening(node, identity, replace(limits, **{bound: MANY + 1_000})) as listener:
        async with deaf(listener.port, POST):
            await node.began.wait()
            assert b'"code":"relay.busy","where":"answers"' in await wires.talk(listener.port, POST)
        await until_it_says(b"HTTP/1.1 200 ", listener.port, POST)


async def test_who_does_not_read_is_left(identity: Identity) -> None:
    """An answer that nobody reads ends its connection, and its memory is free again."""
    node = Talkative()
    limits = replace(wires.LIMITS, max_answers_bytes=MANY + 1_000, max_answers_bytes_each=MANY + 1_000, stall=0.1)
    async with wires.listening(node, identity, limits) as listener, deaf(listener.port, KEPT_OPEN):
        await node.began.wait()
        await until_it_says(b"HTTP/1.1 200 ", listener.port, POST)


async def test_a_closed_connection_is_gone_though_nobody_reads(identity: Identity) -> None:
    """A connection that was closed is gone soon after, though the other side does not read that it was."""
    limits = replace(wires.LIMITS, max_connections=1, stall=0.1)
    async with wires.listening(wires.Node(), identity, limits) as listener, deaf(listener.port, POST):
        assert await wires.talk(listener.port, HEALTH) == b""
        await until_it_says(b"HTTP/1.1 200 ", listener.port, HEALTH)


async def test_an_answer_that_was_read_is_forgotten(identity: Identity) -> None:
    """A connection that is kept open does not keep its latest answer in memory."""
    async with wires.listening(Talkative(length=1_000), identity) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=client_context())
        writer.write(KEPT_OPEN)
        await reader.readuntil(b"}")
        kept = [held for held in gc.get_objects() if isinstance(held, Answer)]
        assert [held.content for held in kept] == [b""] * len(kept)
        writer.close()
        await writer.wait_closed()
