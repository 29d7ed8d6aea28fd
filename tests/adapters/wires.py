"""What the tests of the transport share: a TLS identity, raw servers and clients, a node's answers by a script.

Import the module, not its names.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from exchange.adapters.home import write_file
from exchange.adapters.http_server import Limits, Listener, make_app, serve
from exchange.adapters.tls import client_context, new_tls, server_context, spki_pin
from exchange.core.wire import DocumentType, KeyId, Signature, UnverifiedDocument
from tests.core import builders

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from exchange.core.keys import Card
    from exchange.core.wire import Digest, JsonObject

LIMITS: Final = Limits(max_evidence_bytes=1 << 24, linger=0.01)
SIGNATURE: Final = Signature(KeyId("ab" * 32), b"s" * 64)
REQUEST: Final = UnverifiedDocument(DocumentType.REQUEST, b'{"from":"th-fp1"}', (SIGNATURE,))


@dataclass(frozen=True)
class Identity:
    """A server's TLS key, its context and its pin."""

    context: ssl.SSLContext
    pin: Digest


def make_identity(folder: Path, name: str = "kh-fp1") -> Identity:
    """A fresh identity whose files lie in ``folder``."""
    key, cert = new_tls(name, ["127.0.0.1", "localhost"], "a password")
    write_file(folder / f"{name}.key", key)
    write_file(folder / f"{name}.crt", cert)
    return Identity(server_context(folder / f"{name}.crt", folder / f"{name}.key", "a password"), spki_pin(cert))


def card_of(pin: Digest, *ports: int, host: str = "127.0.0.1") -> Card:
    """The card of a node that has this pin and listens on these ports."""
    endpoints = tuple(f"https://{host}:{port}" for port in ports)
    return replace(builders.testonly_node().card, tls_pins=(pin,), endpoints=endpoints)


@dataclass
class Node:
    """``http_server.Inbound`` that records what came and does as the test says."""

    batches: list[list[tuple[bytes, bytes]]] = field(default_factory=list)
    documents: list[bytes] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    raises: Exception | None = None
    wait: asyncio.Event | None = None  # what the work waits for
    began: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def _work(self) -> None:
        self.began.set()
        if self.wait is not None:
            await self.wait.wait()
        self.ended.set()
        if self.raises is not None:
            raise self.raises

    async def receive_batch(self, frames: list[tuple[bytes, bytes]]) -> JsonObject:
        await self._work()
        self.batches.append(frames)
        return {"answers": [], "deferred": [], "bare": [{"index": 0, "code": "envelope.malformed"}]}

    def own_card(self) -> bytes:
        return b'{"card":1}'

    async def serve_prekeys(self, request: bytes) -> bytes:
        await self._work()
        self.requests.append(request)
        return b'{"prekeys":1}'

    async def receive_blob(self, h: str, request: bytes, chunks: AsyncIterator[bytes], length: int) -> JsonObject:
        await self._work()
        self.requests.append(request)
        self.blobs[h] = b"".join([chunk async for chunk in chunks])
        return {"answers": [], "length": length}

    async def receive_document(self, data: bytes) -> None:
        await self._work()
        self.documents.append(data)

    def health(self) -> JsonObject:
        return {"ok": True, "training": True, "network": builders.NETWORK}


@asynccontextmanager
async def listening(node: Node, identity: Identity, limits: Limits = LIMITS) -> AsyncIterator[Listener]:
    """The real server before ``node``."""
    listener = await serve(make_app(node, limits), "127.0.0.1", 0, identity.context)
    try:
        yield listener
    finally:
        await listener.close()


@dataclass
class Raw:
    """A server of one's own: what arrived at it, and where it listens."""

    port: int = 0
    connections: int = 0
    received: bytearray = field(default_factory=bytearray)


@asynccontextmanager
async def raw_server(
    answer: Callable[[Raw, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    context: ssl.SSLContext | None,
) -> AsyncIterator[Raw]:
    """A server that does with every connection what ``answer`` does, with TLS or without."""
    raw = Raw()
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        raw.connections += 1
        try:
            await answer(raw, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    raw.port = server.sockets[0].getsockname()[1]
    try:
        yield raw
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def scripted(response: bytes) -> Callable[[Raw, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Answers every request head with the same bytes and then closes."""

    async def answer(raw: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw.received += await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await writer.drain()

    return answer


async def talk(port: int, *pieces: bytes) -> bytes:
    """Send raw bytes over TLS and return everything that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context())
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def head(method: str, path: str, *headers: str) -> bytes:
    """The head of a request after which the server closes the connection."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: kh", "Connection: close", *headers, "", ""]).encode()
