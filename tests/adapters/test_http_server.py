"""``exchange.adapters.http_server``: bounded before it is read, and silent about itself."""

from __future__ import annotations

import asyncio
import gzip
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from structlog.testing import capture_logs

from exchange.adapters import resources
from exchange.adapters.http_server import make_app, serve
from exchange.adapters.tls import client_context
from exchange.core.envelope import MAX_BATCH_BYTES, encode_batch
from exchange.core.errors import IntegrityError, LocalError, PeerError
from exchange.core.evidence import sealed_length
from exchange.core.wire import encode_base64, encode_signed_document
from tests.adapters import wires

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.adapters.wires import Identity, Node

H: Final = "ab" * 32
SIGNED: Final = f"Focalpoint-Request: {encode_base64(encode_signed_document(wires.REQUEST))}"
BINARY: Final = "Content-Type: application/octet-stream"
JSON: Final = "Content-Type: application/json"
BATCH: Final = encode_batch([(b"document", b"body"), (b"void", b"")])


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return wires.make_identity(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def node() -> Node:
    return wires.Node()


@pytest.fixture
async def port(node: Node, identity: Identity) -> AsyncIterator[int]:
    async with wires.listening(node, identity) as listener:
        yield listener.port


def post(path: str, body: bytes, *headers: str) -> bytes:
    return wires.head("POST", path, f"Content-Length: {len(body)}", *headers) + body


def read(answer: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers, and the JSON of the body."""
    top, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = top.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), json.loads(body)


async def ask(port: int, *pieces: bytes) -> tuple[int, Any]:
    status, _, value = read(await wires.talk(port, *pieces))
    return status, value


def code(answer: tuple[int, Any]) -> tuple[int, str]:
    assert sorted(answer[1]) == ["code", "where"]
    return answer[0], answer[1]["code"]


# -- what is served


async def test_a_batch_is_handed_on(port: int, node: Node) -> None:
    """The frames of a batch reach the node, and its answer the peer."""
    answer = await ask(port, post(resources.ENVELOPES, BATCH, BINARY))
    assert answer == (200, {"answers": [], "deferred": [], "bare": [{"index": 0, "code": "envelope.malformed"}]})
    assert node.batches == [[(b"document", b"body"), (b"void", b"")]]


async def test_public_documents_are_served(port: int) -> None:
    """Card and health are there for anybody who asks."""
    assert await ask(port, wires.head("GET", resources.CARD)) == (200, {"card": 1})
    health = {"ok": True, "training": True, "network": "training-mekong"}
    assert await ask(port, wires.head("GET", resources.HEALTH)) == (200, health)


async def test_prekeys_are_served_to_a_signed_request(port: int, node: Node) -> None:
    """The signed request reaches the node as its bytes; without one there are no prekeys."""
    assert await ask(port, wires.head("GET", resources.PREKEYS, SIGNED)) == (200, {"prekeys": 1})
    assert node.requests == [encode_signed_document(wires.REQUEST)]
    for headers in ([], [SIGNED, SIGNED], [f"Focalpoint-Request: {'A' * 6_148}"]):
        assert code(await ask(port, wires.head("GET", resources.PREKEYS, *headers))) == (401, "request.unsigned")
    answer = await ask(port, wires.head("GET", resources.PREKEYS, "Focalpoint-Request: no base64"))
    assert code(answer) == (400, "wire.bad_base64")


async def test_a_document_is_handed_on(port: int, node: Node) -> None:
    """A pushed document reaches the node as its bytes."""
    assert await ask(port, post(resources.DOCUMENTS, b'{"a":1}', JSON)) == (200, {})
    assert node.documents == [b'{"a":1}']


async def test_a_blob_is_streamed(port: int, node: Node) -> None:
    """A blob reaches the node piece by piece with its name, its length and the signed request."""
    start = wires.head("PUT", resources.BLOBS + H, "Content-Length: 300000", BINARY, SIGNED)
    assert await ask(port, start, bytes(200_000), bytes(100_000)) == (200, {"answers": [], "length": 300_000})
    assert node.blobs == {H: bytes(300_000)}
    assert node.requests == [encode_signed_document(wires.REQUEST)]


# -- what is refused before it is read


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1/envelopes"),
        ("HEAD", "/v1/card"),
        ("DELETE", "/v1/card"),
        ("GET", "/v1/card/"),
        ("PUT", "/v1/blobs/ab"),
        ("PUT", f"/v1/blobs/{H.upper()}"),
        ("GET", f"/v1/blobs/{H}"),
        ("GET", "/v1/card/../../node.db"),
    ],
)
async def test_another_resource_does_not_exist(port: int, method: str, path: str) -> None:
    """A path or a method that is not in the protocol is refused by its code."""
    answer = await wires.talk(port, wires.head(method, path))
    assert answer.startswith(b"HTTP/1.1 404 ")
    if method != "HEAD":
        assert read(answer)[2]["code"] == "request.unknown_path"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (post(resources.ENVELOPES, gzip.compress(BATCH), BINARY, "Content-Encoding: gzip"), (415, "request.encoding")),
        (post(resources.ENVELOPES, BATCH, BINARY, "Content-Encoding: identity"), (415, "request.encoding")),
        (post(resources.ENVELOPES, BATCH, "Content-Type: text/plain"), (415, "request.encoding")),
        (post(resources.DOCUMENTS, b"{}", BINARY), (415, "request.encoding")),
        (post(resources.ENVELOPES, b"junk", BINARY), (400, "wire.bad_frame")),
        (wires.head("POST", resources.ENVELOPES, BINARY), (400, "wire.bad_frame")),
        (
            wires.head("POST", resources.ENVELOPES, BINARY, "Transfer-Encoding: chunked") + b"1\r\na\r\n0\r\n\r\n",
            (400, "wire.bad_frame"),
        ),
        (
            wires.head("POST", resources.ENVELOPES, BINARY, f"Content-Length: {MAX_BATCH_BYTES + 1}"),
            (413, "wire.too_large"),
        ),
        (wires.head("POST", resources.DOCUMENTS, JSON, "Content-Length: 262145"), (413, "wire.too_large")),
        (
            wires.head(
                *("PUT", resources.BLOBS + H, BINARY, SIGNED),
                f"Content-Length: {sealed_length(wires.LIMITS.max_evidence_bytes) + 1}",
            ),
            (413, "blob.too_large"),
        ),
        (wires.head("PUT", resources.BLOBS + H, BINARY, "Content-Length: 5"), (401, "request.unsigned")),
        (wires.head("PUT", resources.BLOBS + H, BINARY, SIGNED), (400, "wire.bad_frame")),
    ],
)
async def test_a_bad_request_is_refused(port: int, node: Node, request_: bytes, expected: tuple[int, str]) -> None:
    """A body that is compressed, of another type, not announced or too large never reaches the node."""
    assert code(await ask(port, request_)) == expected
    assert (node.batches, node.documents, node.blobs) == ([], [], {})


async def test_what_is_no_http_is_not_repeated(port: int, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that are no HTTP are refused without a word of them in the answer or in the log."""
    with capture_logs() as logs:
        answer = await wires.talk(port, b"HELO <script>secret</script>\r\n\r\n")
    assert read(answer)[2] == {"code": "wire.bad_frame", "where": "HTTP"}
    assert b"secret" not in answer
    assert (logs, caplog.records) == ([], [])


# -- what is said of errors


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (PeerError("request.stale", "time"), 401, {"code": "request.stale", "where": "time"}),
        (PeerError("blob.unknown", "path"), 404, {"code": "blob.unknown", "where": "path"}),
        (PeerError("relay.quota"), 429, {"code": "relay.quota", "where": ""}),
        (PeerError("relay.disk"), 503, {"code": "relay.disk", "where": ""}),
        (PeerError("card.chain", "card.previous"), 400, {"code": "card.chain", "where": "card.previous"}),
    ],
)
async def test_a_refusal_is_told(port: int, node: Node, error: PeerError, status: int, told: dict[str, str]) -> None:
    """A refusal reaches the peer as code and place, under a status that fits."""
    node.raises = error
    with capture_logs() as logs:
        assert await ask(port, post(resources.DOCUMENTS, b"{}", JSON)) == (status, told)
    assert logs == []


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (ValueError("secret"), "ValueError"),
        (LocalError("node.disk", "secret"), "node.disk"),
        (IntegrityError("store.corrupt", "secret"), "store.corrupt"),
    ],
)
async def test_our_own_faults_stay_here(port: int, node: Node, error: Exception, logged: str) -> None:
    """A fault of this node is "busy" to the peer, and a line of the log by its code or class alone."""
    node.raises = error
    with capture_logs() as logs:
        answer = await wires.talk(port, post(resources.ENVELOPES, BATCH, BINARY))
    assert (read(answer)[0], read(answer)[2]) == (503, {"code": "relay.busy", "where": "node"})
    assert logs == [{"event": "request_failed", "fault": logged, "log_level": "error"}]
    assert b"secret" not in answer


async def test_the_server_does_not_name_its_software(port: int) -> None:
    """No answer says what software is running."""
    for request in (wires.head("GET", resources.CARD), wires.head("GET", "/"), b"junk\r\n\r\n"):
        _, headers, _ = read(await wires.talk(port, request))
        assert not headers.get("Server")


# -- time and space


async def test_a_slow_body_is_given_up(node: Node, identity: Identity) -> None:
    """A body that does not come at a pace is refused as busy and never reaches the node."""
    limits = replace(wires.LIMITS, grace=0.05)
    async with wires.listening(node, identity, limits) as listener:
        start = wires.head("POST", resources.ENVELOPES, BINARY, "Content-Length: 100")
        assert code(await ask(listener.port, start, b"half")) == (503, "relay.busy")
    assert node.batches == []


async def test_a_silent_connection_is_closed(node: Node, identity: Identity) -> None:
    """A connection that never sends a whole request is closed, though it keeps sending pieces of one."""
    async with wires.listening(node, identity, replace(wires.LIMITS, idle=0.05)) as listener:
        assert await wires.talk(listener.port) == b""
        assert await wires.talk(listener.port, b"GET / HTTP/1.1\r\n", b"Host: kh\r\n") == b""


async def test_connections_are_counted(node: Node, identity: Identity) -> None:
    """Beyond the most connections a new one is closed without an answer, and room comes back when one leaves."""
    async with wires.listening(node, identity, replace(wires.LIMITS, max_connections=1)) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=client_context())
        keep = b"GET /v1/health HTTP/1.1\r\nHost: kh\r\n\r\n"
        writer.write(keep)
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
        assert await wires.talk(listener.port, wires.head("GET", resources.HEALTH)) == b""
        writer.write(keep.replace(b"Host: kh", b"Host: kh\r\nConnection: close"))
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await writer.wait_closed()
        assert (await ask(listener.port, wires.head("GET", resources.HEALTH)))[0] == 200


# -- work that has begun


@pytest.mark.parametrize("error", [None, LocalError("node.disk", "secret"), asyncio.CancelledError()])
async def test_a_late_answer_does_not_stop_the_work(node: Node, identity: Identity, error: Exception | None) -> None:
    """Work that takes longer than a peer waits is answered as busy and goes on; its failure is logged by code."""
    node.wait, node.raises = asyncio.Event(), error
    with capture_logs() as logs:
        async with wires.listening(node, identity, replace(wires.LIMITS, answer=0.05)) as listener:
            answer = await ask(listener.port, post(resources.DOCUMENTS, b"{}", JSON))
            assert code(answer) == (503, "relay.busy")
            node.wait.set()
            await node.ended.wait()
    assert node.documents == ([b"{}"] if error is None else [])
    failed = {"event": "request_failed_late", "fault": "node.disk", "log_level": "warning"}
    assert logs == ([failed] if isinstance(error, LocalError) else [])


async def test_closing_waits_for_late_work(node: Node, identity: Identity) -> None:
    """A server that closes waits for work that was already answered as busy."""
    node.wait = asyncio.Event()
    limits = replace(wires.LIMITS, answer=0.3)
    async with wires.listening(node, identity, limits) as listener:
        assert code(await ask(listener.port, post(resources.DOCUMENTS, b"{}", JSON))) == (503, "relay.busy")
        asyncio.get_running_loop().call_later(0.05, node.wait.set)
    assert node.documents == [b"{}"]


async def test_a_client_that_leaves_does_not_stop_the_work(node: Node, identity: Identity) -> None:
    """A batch whose sender hangs up is worked through to its end."""
    node.wait = asyncio.Event()
    async with wires.listening(node, identity) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=client_context())
        writer.write(post(resources.ENVELOPES, BATCH, BINARY))
        await node.began.wait()
        writer.transport.abort()
        assert await reader.read() == b""
        node.wait.set()
        await node.ended.wait()
    assert len(node.batches) == 1


async def test_a_client_that_leaves_half_way_is_no_fault(node: Node, identity: Identity) -> None:
    """A body that ends early reaches nobody and is nothing for the log."""
    with capture_logs() as logs:
        async with wires.listening(node, identity) as listener:
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=client_context())
            writer.write(wires.head("PUT", resources.BLOBS + H, "Content-Length: 50", BINARY, SIGNED) + b"half")
            await node.began.wait()
            writer.transport.abort()
    assert (node.blobs, logs) == ({}, [])


async def knock_until_nobody_opens(port: int) -> None:
    while True:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context())
        writer.close()


async def test_closing_answers_what_is_here(node: Node, identity: Identity) -> None:
    """A server that closes takes no new connection and answers the request that it is working on."""
    node.wait = asyncio.Event()
    async with wires.listening(node, identity) as listener:
        first = asyncio.create_task(ask(listener.port, post(resources.ENVELOPES, BATCH, BINARY)))
        await node.began.wait()
        closing = asyncio.create_task(listener.close())
        with pytest.raises(ConnectionError):
            await knock_until_nobody_opens(listener.port)
        node.wait.set()
        assert (await first)[0] == 200
        await closing


async def test_a_taken_port_is_told(node: Node, identity: Identity, tmp_path: Path) -> None:
    """A port that somebody has, and an address that is not ours, are told to the operator."""
    del tmp_path
    async with wires.listening(node, identity) as listener:
        for host, port in (("127.0.0.1", listener.port), ("192.0.2.1", 0)):
            with pytest.raises(LocalError) as caught:
                await serve(make_app(node, wires.LIMITS), host, port, identity.context)
            assert (caught.value.code, caught.value.where) == ("node.port", f"port {port}")
