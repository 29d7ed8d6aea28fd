"""The running node's local socket: how commands reach it.

Rules:
1. Only the node's own user, or root, gets in: the socket lies in the home, is closed to others, and the kernel is
   asked who is at the other end.
2. An error crosses with its code, place and clause, and is raised again as what it was.
3. Evidence streams in both directions. A stream says at its end whether it was whole: without that word the receiver
   has nothing.

Everything crosses in frames: a length in four bytes, big-endian, and as many bytes. A connection carries one request
after another, each a frame of JSON, and its result, {"ok": value} or {"error": {"code", "where", "clause"}}:

- {"op", "args"} gives its result;
- {"stage": true, "as": an officer's signature or null}, the frames of a file and an empty one give theirs;
- {"evidence": message, "index": n, "as": an officer's signature or null, "from": a node or null} gives
  {"ok": record} or an error; after a record the frames of the file, an empty one, and {"ok": null} or an error.

What it does not do: know operations. ``Desk`` does.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeAlias, cast

import orjson
import structlog

from exchange.core import wire
from exchange.core.errors import CODES, ExchangeError, Fault, IntegrityError, LocalError, PeerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from exchange.adapters.home import Home
    from exchange.core.wire import JsonObject, JsonValue

MAX_FRAME_BYTES: Final = 16 * 1_048_576  # the largest statement escaped twice, and the longest list of the node
PIECE_BYTES: Final = 262_144
STOP_SECONDS: Final = 5.0  # for calls that run when the node stops
LINGER_SECONDS: Final = 2.0  # for whoever is refused to read why, while the rest of the file goes on coming
_CLASSES: Final = {Fault.PEER: PeerError, Fault.LOCAL: LocalError, Fault.INTEGRITY: IntegrityError}
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: SO_PEERCRED of unix(7)
_LENGTH: Final = struct.Struct(">I")
_Connection: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_log = structlog.get_logger("control")


class Desk(Protocol):
    """What the node does for its officers and its operator. Raises ``ExchangeError``."""

    async def call(self, op: str, args: JsonObject) -> JsonValue:
        """Run one operation."""

    async def stage(self, chunks: AsyncIterator[bytes], signed: str | None = None) -> JsonObject:
        """Seal a file and keep it until a statement names it."""

    async def evidence(
        self, message: str, index: int, signed: str | None = None, sender: str | None = None
    ) -> tuple[JsonObject, AsyncIterator[bytes]]:
        """The record of an attachment and its bytes; an error while they come means that none of them counts."""


# -- frames, values and errors over the socket -----------------------------------------------------


def _frame(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


class _GoneError(Exception):
    """The other end left. Not an ``OSError``: those of the disk must not look like it."""


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    """Raises ``_GoneError``, and ``LocalError`` node.internal for a frame that is too long."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length <= MAX_FRAME_BYTES:
            return await reader.readexactly(length)
    except (OSError, asyncio.IncompleteReadError):
        raise _GoneError from None
    raise LocalError("node.internal", "control")


async def _read_pieces(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The frames of a file, to the empty one."""
    while piece := await _read_frame(reader):
        yield piece


async def _write_pieces(writer: asyncio.StreamWriter, data: bytes) -> None:
    """A part of a file in frames; never the empty frame, which would end it. Raises ``_GoneError``."""
    for at in range(0, len(data), PIECE_BYTES):
        writer.write(_frame(data[at : at + PIECE_BYTES]))
        try:
            await writer.drain()
        except OSError:
            raise _GoneError from None


def _parse(data: bytes) -> JsonObject:
    # Both ends are this program under one user, and this is in the path of every message: the fast reader is enough.
    # What an officer wrote is read strictly where it is used.
    try:
        value: JsonValue = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise LocalError("node.internal", "control") from None
    if not isinstance(value, dict):
        raise LocalError("node.internal", "control")
    return value


def encode_error(error: Exception) -> JsonObject:
    """An error as the other side reads it. What is none of ours becomes node.internal and a line in the log."""
    if not isinstance(error, ExchangeError):
        _log.error("call_failed", fault=type(error).__name__)
        error = LocalError("node.internal", type(error).__name__)
    return {"error": {"code": error.code, "where": error.where, "clause": error.clause}}


def parse_result(data: bytes) -> JsonValue:
    """The value of a result, or its error, raised again. Raises ``LocalError`` node.internal where it is neither."""
    result = _parse(data)
    if "ok" in result:
        return result["ok"]
    match result.get("error"):
        case {"code": str(code), "where": str(where), "clause": None | str() as clause} if code in CODES:
            raise _CLASSES[CODES[code].fault](code, where, clause)
    raise LocalError("node.internal", "control")


# -- the node's end --------------------------------------------------------------------------------


class ControlServer:
    """The socket in the home while the node runs; the caller holds the home's lock.

    ``users`` are the user ids let in: the node's own and root's, unless a test says otherwise.
    """

    def __init__(self, desk: Desk, home: Home, users: frozenset[int] | None = None) -> None:
        self._desk = desk
        self._home = home
        self._users = frozenset({os.geteuid(), 0}) if users is None else users
        self._server: asyncio.Server | None = None
        self._talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._busy: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen. A socket that a crash left is replaced. Raises ``LocalError`` node.disk."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._home.socket.unlink(missing_ok=True)
            with self._home.socket_address() as address:
                listening.bind(address)
            self._home.socket.chmod(0o600)
            self._server = await asyncio.start_unix_server(self._meet, sock=listening, backlog=256)
        except OSError:
            listening.close()
            raise LocalError("node.disk", self._home.socket.name) from None

    async def close(self) -> None:
        """Take no new calls, end those that run, and remove the socket."""
        if self._server is None:
            return
        server, self._server = self._server, None
        with suppress(OSError):
            self._home.socket.unlink(missing_ok=True)
        # Nobody can connect any more. Whoever has is made known within two turns; a server that is closed before then
        # leaves that connection open (CPython 3.11).
        for _ in range(3):
            await asyncio.sleep(0)
        server.close()
        for writer in self._talks.values():
            if writer not in self._busy:
                writer.close()
        if self._talks:
            await asyncio.wait(self._talks, timeout=STOP_SECONDS)
        talks = list(self._talks)
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)

    def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection of one of the users allowed; any other is closed before it says a word."""
        peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(peer)[1] not in self._users or self._server is None:
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._talk(reader, writer))
        self._talks[task] = writer
        task.add_done_callback(self._talks.pop)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request after another, until the other end leaves, says what is no request, or the node stops."""
        try:
            goes_on = True
            while goes_on and self._server is not None:
                request = await _read_frame(reader)
                self._busy.add(writer)
                goes_on = await self._answer(_parse(request), reader, writer)
                await writer.drain()
                self._busy.discard(writer)
        except LocalError as error:  # no request of ours: what comes after it means nothing
            writer.write(_result(error))
        except (_GoneError, OSError):
            pass
        finally:
            self._busy.discard(writer)
            writer.close()

    async def _answer(self, request: JsonObject, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether another request can follow on this connection."""
        match request:
            case {"op": str(op), "args": dict(args)}:
                try:
                    result = _result(await self._desk.call(op, args))
                except Exception as error:  # noqa: BLE001 - every error crosses as a code
                    result = _result(error)
                writer.write(result)
                return True
            case {"stage": True, "as": None | str() as signed}:
                await self._stage(signed, reader, writer)
                return False
            case {
                "evidence": str(message),
                "index": int(index),
                "as": None | str() as signed,
                "from": None | str() as sender,
            }:
                await self._evidence(message, index, signed, sender, writer)
                return False
        raise LocalError("node.internal", "control")

    async def _stage(self, signed: str | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pieces = _read_pieces(reader)
        try:
            writer.write(_result(await self._desk.stage(pieces, signed)))
        except _GoneError:
            raise
        except Exception as error:  # noqa: BLE001 - every error crosses as a code
            writer.write(_result(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    async for _ in _read_pieces(reader):
                        pass

    async def _evidence(
        self, message: str, index: int, signed: str | None, sender: str | None, writer: asyncio.StreamWriter
    ) -> None:
        try:
            record, pieces = await self._desk.evidence(message, index, signed, sender)
        except Exception as error:  # noqa: BLE001 - every error crosses as a code
            writer.write(_result(error))
            return
        writer.write(_result(record))
        end = _result(None)
        try:
            async for piece in pieces:
                await _write_pieces(writer, piece)
        except _GoneError:
            raise
        except Exception as error:  # noqa: BLE001 - told at the end: none of it counts
            end = _result(error)
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()
        writer.write(_frame(b"") + end)


def _result(value: JsonValue | Exception) -> bytes:
    return _frame(wire.encode_json(encode_error(value) if isinstance(value, Exception) else {"ok": value}))


# -- the command's end -----------------------------------------------------------------------------


class ControlClient:
    """A running node, asked over its socket; an asynchronous context manager. Raises what the node raised.

    Raises ``LocalError`` node.not_running where nobody listens or the node stopped under the call.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._open = ExitStack()
        self._address: str | None = None
        self._idle: list[_Connection] = []
        self._streaming: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._address = self._open.enter_context(self._home.socket_address())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._address = None
        for writer in (*self._streaming, *(writer for _, writer in self._idle)):
            writer.close()
        self._open.close()

    async def call(self, op: str, args: JsonObject) -> JsonValue:
        """Run one operation at the node."""
        reader, writer = await self._connect()
        try:
            writer.write(_frame(wire.encode_json({"op": op, "args": args})))
            result = await self._result(reader)
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        return parse_result(result)

    async def stage(self, chunks: AsyncIterator[bytes], signed: str | None = None) -> JsonObject:
        """Hand a file to the node; an error of ``chunks`` itself is raised as it is, and the node keeps nothing."""
        reader, writer = await self._connect()
        result = asyncio.ensure_future(self._result(reader))
        try:
            writer.write(_frame(wire.encode_json({"stage": True, "as": signed})))
            async for chunk in chunks:
                with suppress(_GoneError):  # the result says why
                    await _write_pieces(writer, chunk)
                if result.done():
                    break
            else:
                writer.write(_frame(b""))
            return cast("JsonObject", parse_result(await result))
        finally:
            result.cancel()
            writer.close()

    async def evidence(
        self, message: str, index: int, signed: str | None = None, sender: str | None = None
    ) -> tuple[JsonObject, AsyncIterator[bytes]]:
        """The record of an attachment and its bytes. They are evidence when the iterator has ended without an error."""
        reader, writer = await self._connect()
        self._streaming.add(writer)
        try:
            writer.write(_frame(wire.encode_json({"evidence": message, "index": index, "as": signed, "from": sender})))
            record = cast("JsonObject", parse_result(await self._result(reader)))
        except BaseException:
            self._leave(writer)
            raise
        return record, self._pieces(reader, writer)

    async def _pieces(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[bytes]:
        try:
            while piece := await self._result(reader):
                yield piece
            parse_result(await self._result(reader))
        finally:
            self._leave(writer)

    def _leave(self, writer: asyncio.StreamWriter) -> None:
        self._streaming.discard(writer)
        writer.close()

    async def _connect(self) -> _Connection:
        if self._address is None:
            message = "use it in an asynchronous with block"
            raise RuntimeError(message)
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        try:
            return await asyncio.open_unix_connection(self._address)
        except OSError:
            raise LocalError("node.not_running", self._home.socket.name) from None

    async def _result(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await _read_frame(reader)
        except _GoneError:
            raise LocalError("node.not_running", self._home.socket.name) from None
