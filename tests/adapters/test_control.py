"""``exchange.adapters.control``: the running node, asked from its own machine.

Length: both ends of the socket are tried together, so that one table of refusals serves both.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from structlog.testing import capture_logs

from exchange.adapters import control
from exchange.adapters.control import MAX_FRAME_BYTES, ControlClient, ControlServer, encode_error, parse_result
from exchange.adapters.home import Home
from exchange.core.errors import ExchangeError, IntegrityError, LocalError, PeerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from pathlib import Path

    from exchange.core.wire import JsonObject, JsonValue

MIB: Final = 1_048_576
REFUSED: Final = PeerError("agreement.no_clause", "R19", "4.2")


class OneDesk:
    """A desk that echoes, raises what it is told, and serves one file."""

    def __init__(self) -> None:
        self.raises: Exception | None = None
        self.staged: list[bytes] = []
        self.file = [b"evi", b"", bytes(MIB), b"dence"]
        self.breaks: Exception | None = None  # at the end of the file
        self.wait: asyncio.Event | None = None
        self.began = asyncio.Event()
        self.closed = asyncio.Event()

    async def call(self, op: str, args: JsonObject) -> JsonValue:
        self.began.set()
        if self.wait is not None:
            await self.wait.wait()
        if self.raises is not None:
            raise self.raises
        return [op, args]

    async def stage(self, chunks: AsyncIterator[bytes], signed: str | None = None) -> JsonObject:
        if self.raises is not None:
            raise self.raises
        data = b"".join([chunk async for chunk in chunks])
        self.staged.append(data)
        return {"length": len(data), **({} if signed is None else {"as": signed})}

    async def evidence(
        self, message: str, index: int, signed: str | None = None, sender: str | None = None
    ) -> tuple[JsonObject, AsyncIterator[bytes]]:
        if self.raises is not None:
            raise self.raises
        told: JsonObject = {} if signed is None else {"as": signed}
        if sender is not None:
            told["from"] = sender
        return {"message": message, "index": index, **told}, self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        try:
            for piece in self.file:
                yield piece
            if self.breaks is not None:
                raise self.breaks
        finally:
            self.closed.set()


class ListDesk(OneDesk):
    """The same, with a plain iterator."""

    async def evidence(
        self, message: str, index: int, signed: str | None = None, sender: str | None = None
    ) -> tuple[JsonObject, AsyncIterator[bytes]]:
        record, pieces = await super().evidence(message, index, signed, sender)

        class Pieces:
            def __aiter__(self) -> Pieces:
                return self

            async def __anext__(self) -> bytes:
                return await anext(pieces)

        return record, Pieces()


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that wait for nobody."""
    monkeypatch.setattr(control, "STOP_SECONDS", 0.1)
    monkeypatch.setattr(control, "LINGER_SECONDS", 0.1)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.create(tmp_path / "kh")


@pytest.fixture
def desk() -> OneDesk:
    return OneDesk()


@asynccontextmanager
async def running(desk: OneDesk, home: Home, users: frozenset[int] | None = None) -> AsyncIterator[ControlClient]:
    server = ControlServer(desk, home, users)
    await server.start()
    try:
        async with ControlClient(home) as client:
            yield client
    finally:
        await server.close()


async def refusal(work: Awaitable[Any]) -> tuple[type[Exception], str, str, str | None]:
    with pytest.raises(ExchangeError) as caught:
        await work
    return caught.type, caught.value.code, caught.value.where, caught.value.clause


async def collect(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


NOT_RUNNING: Final = (LocalError, "node.not_running", "control.sock", None)
NOT_UNDERSTOOD: Final = (LocalError, "node.internal", "control", None)


# -- calls


async def test_a_call_and_its_value_cross(desk: OneDesk, home: Home) -> None:
    """Operation and arguments reach the desk, and any JSON value comes back, also many at a time."""
    async with running(desk, home) as client:
        args: JsonObject = {"text": "ស្ត្រី", "list": [1, None, True, 1.5], "empty": {}}
        assert await client.call("send", args) == ["send", args]
        results = await asyncio.gather(*(client.call("n", {"n": n}) for n in range(100)))
    assert results == [["n", {"n": n}] for n in range(100)]


@pytest.mark.parametrize(
    "error",
    [REFUSED, PeerError("relay.disk"), LocalError("node.disk", "SQLITE_FULL"), IntegrityError("store.corrupt", "key")],
)
async def test_an_error_crosses_as_what_it_was(desk: OneDesk, home: Home, error: ExchangeError) -> None:
    """An error is raised at the caller with its class, code, place and clause, by every resource."""
    desk.raises = error
    expected = (type(error), error.code, error.where, error.clause)
    with capture_logs() as logs:
        async with running(desk, home) as client:
            assert await refusal(client.call("send", {})) == expected
            assert await refusal(client.stage(stream(b"file"))) == expected
            assert await refusal(client.evidence("ab" * 16, 0)) == expected
    assert logs == []


async def test_a_fault_of_the_program_tells_no_content(desk: OneDesk, home: Home) -> None:
    """An error that is none of ours reaches the caller and the log as the name of its class."""
    desk.raises = ValueError("secret")
    with capture_logs() as logs:
        async with running(desk, home) as client:
            assert await refusal(client.call("send", {})) == (LocalError, "node.internal", "ValueError", None)
    assert logs == [{"event": "call_failed", "fault": "ValueError", "log_level": "error"}]


def test_a_result_is_read_strictly() -> None:
    """What is neither a value nor an error with a known code is a fault of the program."""
    assert parse_result(b'{"ok":null}') is None
    bad = [
        b"", b"[]", b"{}", b'{"error":{}}', b'{"error":{"code":"a.b","where":"","clause":null}}', b'{"ok":NaN}',
        b"\xff", b'{"ok":"\\ud800"}', b'{"ok":"\\uD800"}', b'{"ok":' + b"[" * 100_000,
    ]  # fmt: skip
    for data in bad:
        with pytest.raises(LocalError) as caught:
            parse_result(data)
        assert (caught.value.code, caught.value.where) == ("node.internal", "control")
    with pytest.raises(PeerError) as told:
        parse_result(json.dumps(encode_error(REFUSED)).encode())
    assert told.value.args == REFUSED.args


def frame(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


async def talk(home: Home, data: bytes) -> bytes:
    """What the node says to this, to the end of the connection."""
    reader, writer = await asyncio.open_unix_connection(home.socket)
    try:
        writer.write(data)
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "request_",
    [
        frame(b"junk"),
        frame(b"[]"),
        frame(b'{"op":"x"}'),
        frame(b'{"op":1,"args":{}}'),
        frame(b'{"stage":1}'),
        frame(b'{"evidence":"x"}'),
        (MAX_FRAME_BYTES + 1).to_bytes(4, "big"),
        b"GET /call HTTP/1.1\r\n\r\n",
    ],
    ids=["no JSON", "no object", "no arguments", "no op", "no stage", "no index", "too large", "HTTP"],
)
async def test_another_request_is_not_understood(desk: OneDesk, home: Home, request_: bytes) -> None:
    """A request that no command of ours makes is a fault of the program, ends the connection, and no desk sees it."""
    async with running(desk, home):
        answer = await talk(home, request_ + frame(b'{"op":"x","args":{}}'))
    assert await refusal(asyncio.to_thread(parse_result, answer[4:])) == NOT_UNDERSTOOD
    assert not desk.began.is_set()


async def test_a_connection_carries_one_call_after_another(desk: OneDesk, home: Home) -> None:
    """Calls that come together on one connection are answered in their order; an error ends none of the others."""
    desk.raises = REFUSED
    async with running(desk, home):
        reader, writer = await asyncio.open_unix_connection(home.socket)
        writer.write(frame(b'{"op":"x","args":{}}') * 3)
        results = [await reader.readexactly(int.from_bytes(await reader.readexactly(4))) for _ in range(3)]
        writer.close()
    assert [json.loads(result) for result in results] == [encode_error(REFUSED)] * 3


async def test_a_client_outlives_its_node(desk: OneDesk, home: Home) -> None:
    """A client whose node was started again asks the new one."""
    first = ControlServer(desk, home)
    await first.start()
    async with ControlClient(home) as client:
        assert await client.call("x", {}) == ["x", {}]
        await first.close()
        async with running(desk, home):
            assert await client.call("x", {}) == ["x", {}]


# -- who gets in


async def test_the_socket_is_for_its_owner(desk: OneDesk, home: Home) -> None:
    """The socket can be opened by its owner alone, and it is gone when the node has stopped."""
    async with running(desk, home):
        assert stat.S_IMODE(home.socket.stat().st_mode) == 0o600
    assert not home.socket.exists()


async def test_another_user_is_not_heard(desk: OneDesk, home: Home) -> None:
    """A connection of a user who is not let in is closed before a word is read."""
    async with running(desk, home, users=frozenset({os.geteuid() + 1})) as client:
        assert await refusal(client.call("send", {})) == NOT_RUNNING
        assert await talk(home, frame(b'{"op":"x","args":{}}')) == b""
    assert not desk.began.is_set()


async def test_nobody_listens(home: Home) -> None:
    """Without a running node, and with the socket of one that crashed, every call says so."""
    async with ControlClient(home) as client:
        assert await refusal(client.call("send", {})) == NOT_RUNNING
        assert await refusal(client.stage(stream(b"file"))) == NOT_RUNNING
        assert await refusal(client.evidence("ab" * 16, 0)) == NOT_RUNNING
        leave_a_dead_socket(home)
        assert await refusal(client.call("send", {})) == NOT_RUNNING


def leave_a_dead_socket(home: Home) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(home.socket))


async def test_a_crashed_node_can_start_again(desk: OneDesk, home: Home) -> None:
    """The socket that a crash left does not keep the node from starting."""
    leave_a_dead_socket(home)
    async with running(desk, home) as client:
        assert await client.call("x", {}) == ["x", {}]


async def test_a_deep_home_is_reached(desk: OneDesk, tmp_path: Path) -> None:
    """The node of a home whose path is longer than a socket's name can be asked."""
    async with running(desk, Home.create(tmp_path / ("k" * 200))) as client:
        assert await client.call("x", {}) == ["x", {}]


async def test_a_home_that_is_gone_cannot_be_served(desk: OneDesk, tmp_path: Path) -> None:
    """A socket that cannot be made is told, and closing a server that never started does nothing."""
    server = ControlServer(desk, Home(tmp_path / "gone"))
    assert await refusal(server.start()) == (LocalError, "node.disk", "control.sock", None)
    await server.close()


async def test_a_client_is_used_in_its_block(home: Home) -> None:
    """A client outside its with block is a programming error."""
    with pytest.raises(RuntimeError, match="with block"):
        await ControlClient(home).call("x", {})
    await ControlClient(home).__aexit__()


async def test_stopping_ends_calls(desk: OneDesk, home: Home) -> None:
    """A call that is still running when the node has waited long enough is told that the node is not running."""
    desk.wait = asyncio.Event()
    server = ControlServer(desk, home)
    await server.start()
    async with ControlClient(home) as client:
        call = asyncio.create_task(client.call("x", {}))
        await desk.began.wait()
        await server.close()
        assert await refusal(call) == NOT_RUNNING


# -- evidence


async def test_a_file_is_staged(desk: OneDesk, home: Home) -> None:
    """A file reaches the desk whole, of any length."""
    async with running(desk, home) as client:
        assert await client.stage(stream(b"evi", bytes(3 * MIB), b"dence")) == {"length": 3 * MIB + 8}
        assert await client.stage(stream(), "signed") == {"length": 0, "as": "signed"}
    assert desk.staged == [b"evi" + bytes(3 * MIB) + b"dence", b""]


async def test_a_file_that_cannot_be_read_is_not_staged(desk: OneDesk, home: Home) -> None:
    """Where the caller's file fails half way, its own error is raised and the desk keeps nothing."""

    async def failing() -> AsyncIterator[bytes]:
        yield b"half"
        raise LocalError("input.not_found", "photo.jpg")

    with capture_logs():
        async with running(desk, home) as client:
            expected = (LocalError, "input.not_found", "photo.jpg", None)
            assert await refusal(client.stage(failing())) == expected
    assert desk.staged == []


@pytest.mark.parametrize("kind", [OneDesk, ListDesk])
async def test_evidence_is_fetched(kind: type[OneDesk], home: Home) -> None:
    """The record of an attachment comes first, then the file as it is, empty pieces or not."""
    desk = kind()
    async with running(desk, home) as client:
        record, pieces = await client.evidence("ab" * 16, 3)
        assert record == {"message": "ab" * 16, "index": 3}
        assert await collect(pieces) == b"".join(desk.file)
        record, pieces = await client.evidence("ab" * 16, 3, sender="th-fp1")
        assert record == {"message": "ab" * 16, "index": 3, "from": "th-fp1"}
        assert await collect(pieces) == b"".join(desk.file)
    await desk.closed.wait()


@pytest.mark.parametrize(
    ("breaks", "expected"),
    [
        (PeerError("blob.frame", "frame 3"), (PeerError, "blob.frame", "frame 3", None)),
        (IntegrityError("store.blob_missing", "blobs"), (IntegrityError, "store.blob_missing", "blobs", None)),
        (OSError("secret"), (LocalError, "node.internal", "OSError", None)),
    ],
)
async def test_broken_evidence_is_told_at_its_end(
    desk: OneDesk, home: Home, breaks: Exception, expected: tuple[type[Exception], str, str, str | None]
) -> None:
    """An error half way through a file is raised where its end would be."""
    desk.breaks = breaks
    with capture_logs():
        async with running(desk, home) as client:
            _, pieces = await client.evidence("ab" * 16, 0)
            assert await refusal(collect(pieces)) == expected


async def test_evidence_of_a_stopped_node_is_not_whole(desk: OneDesk, home: Home) -> None:
    """A file whose end never comes is told as a node that stopped, not as a short file."""
    desk.file = [bytes(MIB)] * 64
    server = ControlServer(desk, home)
    await server.start()
    async with ControlClient(home) as client:
        _, pieces = await client.evidence("ab" * 16, 0)
        assert len(await anext(pieces)) > 0
        await server.close()
        assert await refusal(collect(pieces)) == NOT_RUNNING


async def test_a_reader_that_leaves_is_no_fault(desk: OneDesk, home: Home) -> None:
    """A command that stops reading ends the desk's work on the file, and nothing is logged."""
    desk.file = [bytes(MIB)] * 64
    with capture_logs() as logs:
        async with running(desk, home) as client:
            _, pieces = await client.evidence("ab" * 16, 0)
            async for _ in pieces:
                break
            await client.__aexit__()
            await asyncio.wait_for(desk.closed.wait(), 10)
    assert logs == []


async def test_nonsense_instead_of_evidence(home: Home) -> None:
    """An answer that is no frame of ours, announces an endless one, or ends, is not taken for a file."""
    for data in (b"\xff\xff\xff\xff", b"\0\0\0\x02{}", b""):

        async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes = data) -> None:
            await reader.readexactly(4)
            writer.write(data)
            writer.close()

        server = await asyncio.start_unix_server(say, home.socket)
        async with ControlClient(home) as client:
            expected = NOT_UNDERSTOOD if data else NOT_RUNNING
            assert await refusal(client.evidence("ab" * 16, 0)) == expected
        server.close()
        await server.wait_closed()


async def test_a_refused_file_is_not_sent_to_its_end(desk: OneDesk, home: Home) -> None:
    """A file that the desk refuses early is told as refused while the rest of it never comes."""
    desk.raises = PeerError("blob.too_large", "at most 1 bytes")

    async def endless() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0)
            yield bytes(MIB)

    async with running(desk, home) as client:
        expected = (PeerError, "blob.too_large", "at most 1 bytes", None)
        assert await refusal(client.stage(endless())) == expected


async def test_a_node_does_not_wait_for_a_refused_file_for_ever(desk: OneDesk, home: Home) -> None:
    """Whoever is refused and neither ends its file nor leaves is closed after a while."""
    desk.raises = PeerError("blob.too_large")
    async with running(desk, home):
        answer = await talk(home, frame(b'{"stage":true,"as":null}') + frame(b"half"))
    assert json.loads(answer[4:]) == encode_error(desk.raises)
