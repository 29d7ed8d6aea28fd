"""The running node's local socket: how commands reach it.

Rules:
1. Only the node's own user, or root, gets in: the socket lies in the home, is closed to others, and the kernel is
   asked who is at the other end.
2. An error crosses with its code, place and clause, and is raised again as what it was.
3. Evidence streams in both directions. A stream out says at its end whether it was whole: without that word the
   receiver has nothing.

Resources: ``POST /call`` takes {"op", "args"} and gives {"ok": value} or {"error": {"code", "where", "clause"}};
``POST /stage`` takes a file and gives the same; ``GET /evidence?message=ID&n=N`` gives frames of a length in four
bytes and its bytes: first {"ok": record} or an error, then the file, then an empty frame and {"ok": null} or an error.

What it does not do: know operations. ``Desk`` does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, cast

import aiohttp
import orjson
import structlog
from aiohttp import web
from yarl import URL

from exchange.core import wire
from exchange.core.errors import CODES, ExchangeError, Fault, IntegrityError, LocalError, PeerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from exchange.adapters.home import Home
    from exchange.core.wire import JsonObject, JsonValue

MAX_CALL_BYTES: Final = 16 * 1_048_576  # the largest statement escaped twice, and the longest list of the node
PIECE_BYTES: Final = 262_144
STOP_SECONDS: Final = 5.0  # for calls that run when the node stops
LINGER_SECONDS: Final = 2.0  # for whoever is refused to read why, while the rest of the file goes on coming
_URL: Final = URL("http://node/")
_CALL: Final = _URL / "call"
_STAGE: Final = _URL / "stage"
_EVIDENCE: Final = _URL / "evidence"
_CLASSES: Final = {Fault.PEER: PeerError, Fault.LOCAL: LocalError, Fault.INTEGRITY: IntegrityError}
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: SO_PEERCRED of unix(7)
_LENGTH: Final = struct.Struct(">I")
_SILENT: Final = logging.Logger("exchange.silent", level=logging.CRITICAL + 1)  # noqa: LOG001 - must have no parents
_log = structlog.get_logger("control")


class Desk(Protocol):
    """What the node does for its officers and its operator. Raises ``ExchangeError``."""

    async def call(self, op: str, args: JsonObject) -> JsonValue:
        """Run one operation."""

    async def stage(self, chunks: AsyncIterator[bytes]) -> JsonObject:
        """Seal a file and keep it until a statement names it."""

    async def evidence(self, message: str, index: int) -> tuple[JsonObject, AsyncIterator[bytes]]:
        """The record of an attachment and its bytes; an error while they come means that none of them counts."""


# -- values and errors over the socket -------------------------------------------------------------


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


class _Connection(web.RequestHandler):
    """A connection of one of the users allowed; any other is closed before it says a word."""

    __slots__ = ("_users",)

    def __init__(self, server: web.Server, users: frozenset[int], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=3600.0,
            tcp_keepalive=False,
            logger=_SILENT,
            lingering_time=LINGER_SECONDS,
            access_log=None,  # type: ignore[arg-type]  # what web.AppRunner(access_log=None) passes on
            auto_decompress=False,
        )
        self._users = users

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(peer)[1] not in self._users:
            self.force_close()


class ControlServer:
    """The socket in the home while the node runs; the caller holds the home's lock.

    ``users`` are the user ids let in: the node's own and root's, unless a test says otherwise.
    """

    def __init__(self, desk: Desk, home: Home, users: frozenset[int] | None = None) -> None:
        self._desk = desk
        self._home = home
        self._users = frozenset({os.geteuid(), 0}) if users is None else users
        self._server: asyncio.Server | None = None
        self._handlers: web.Server | None = None

    async def start(self) -> None:
        """Listen. A socket that a crash left is replaced. Raises ``LocalError`` node.disk."""
        loop = asyncio.get_running_loop()
        handlers = self._handlers = web.Server(self._handle)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._home.socket.unlink(missing_ok=True)
            with self._home.socket_address() as address:
                listening.bind(address)
            self._home.socket.chmod(0o600)
            self._server = await loop.create_unix_server(
                lambda: _Connection(handlers, self._users, loop), sock=listening, backlog=256
            )
        except OSError:
            listening.close()
            raise LocalError("node.disk", self._home.socket.name) from None

    async def close(self) -> None:
        """Take no new calls, end those that run, and remove the socket."""
        if self._server is None or self._handlers is None:
            return
        self._server.close()
        with suppress(OSError):
            self._home.socket.unlink(missing_ok=True)
        self._handlers.pre_shutdown()
        await self._handlers.shutdown(STOP_SECONDS)
        self._server = self._handlers = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            match request.method, request.path:
                case "POST", "/call":
                    return _answer({"ok": await self._call(request)})
                case "POST", "/stage":
                    return _answer({"ok": await self._desk.stage(request.content.iter_any())})
                case "GET", "/evidence":
                    return await self._evidence(request)
                case _:
                    return _answer(encode_error(LocalError("node.internal", "control")))
        except Exception as error:  # noqa: BLE001 - every error crosses as a code
            return _answer(encode_error(error))

    async def _call(self, request: web.BaseRequest) -> JsonValue:
        if request.content_length is None or request.content_length > MAX_CALL_BYTES:
            raise LocalError("node.internal", "control")
        call = _parse(await request.content.read())
        match call:
            case {"op": str(op), "args": dict(args)}:
                return await self._desk.call(op, args)
        raise LocalError("node.internal", "control")

    async def _evidence(self, request: web.BaseRequest) -> web.StreamResponse:
        record, pieces = await self._desk.evidence(request.query.get("message", ""), int(request.query.get("n", "0")))
        response = web.StreamResponse()
        await response.prepare(request)
        end: JsonObject = {"ok": None}
        try:
            await response.write(_frame(wire.encode_json({"ok": record})))
            async for piece in pieces:
                for at in range(0, len(piece), PIECE_BYTES):
                    await response.write(_frame(piece[at : at + PIECE_BYTES]))
        except ConnectionError:
            return response  # the reader left
        except Exception as error:  # noqa: BLE001 - told at the end: none of it counts
            end = encode_error(error)
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()
        await response.write(_frame(b"") + _frame(wire.encode_json(end)))
        return response


def _answer(result: JsonObject) -> web.Response:
    return web.Response(body=wire.encode_json(result))


def _frame(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


# -- the command's end -----------------------------------------------------------------------------


class ControlClient:
    """A running node, asked over its socket; an asynchronous context manager. Raises what the node raised.

    Raises ``LocalError`` node.not_running where nobody listens or the node stopped under the call.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._open = ExitStack()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        address = self._open.enter_context(self._home.socket_address())
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(address, limit=0, keepalive_timeout=600.0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
        self._open.close()

    async def call(self, op: str, args: JsonObject) -> JsonValue:
        """Run one operation at the node."""
        return await self._post(_CALL, wire.encode_json({"op": op, "args": args}))

    async def stage(self, chunks: AsyncIterator[bytes]) -> JsonObject:
        """Hand a file to the node; an error of ``chunks`` itself is raised as it is, and the node keeps nothing."""
        failures: list[Exception] = []

        async def body() -> AsyncIterator[bytes]:
            try:
                async for chunk in chunks:
                    yield chunk
            except Exception as error:
                failures.append(error)
                raise

        try:
            return cast("JsonObject", await self._post(_STAGE, body()))
        except LocalError:
            if failures:
                raise failures[0] from None
            raise

    async def _post(self, url: URL, body: Any) -> JsonValue:  # noqa: ANN401 - bytes, or an iterator of them
        try:
            async with self._running().post(url, data=body) as response:
                data = await response.read()
        except (aiohttp.ClientError, OSError):
            raise LocalError("node.not_running", self._home.socket.name) from None
        return parse_result(data)

    async def evidence(self, message: str, index: int) -> tuple[JsonObject, AsyncIterator[bytes]]:
        """The record of an attachment and its bytes. They are evidence when the iterator has ended without an error."""
        try:
            response = await self._running().get(_EVIDENCE, params={"message": message, "n": str(index)})
        except (aiohttp.ClientError, OSError):
            raise LocalError("node.not_running", self._home.socket.name) from None
        try:
            if not response.headers.get("Transfer-Encoding"):
                parse_result(await response.read())
            record = cast("JsonObject", parse_result(await self._read_frame(response)))
        except BaseException:
            response.close()
            raise
        return record, self._pieces(response)

    async def _pieces(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            while piece := await self._read_frame(response):
                yield piece
            parse_result(await self._read_frame(response))
        finally:
            response.close()

    async def _read_frame(self, response: aiohttp.ClientResponse) -> bytes:
        try:
            length = _LENGTH.unpack(await response.content.readexactly(_LENGTH.size))[0]
            if length > MAX_CALL_BYTES:
                raise LocalError("node.internal", "control")
            return await response.content.readexactly(length)
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError):
            raise LocalError("node.not_running", self._home.socket.name) from None

    def _running(self) -> aiohttp.ClientSession:
        if self._session is None:
            message = "use it in an asynchronous with block"
            raise RuntimeError(message)
        return self._session
