"""This node over HTTPS: what peers can ask of it.

Implements docs/protocol.md section 11, the receiver's side. What a request means is decided by ``Inbound``.

Rules:
1. Bounded before it is read: a body announces its length, is counted while it comes and for as long as it is used, must
   come at a pace, and shares a bounded memory with all others. Compressed bodies and other content types are refused.
2. A peer learns a code and a place, never a trace and nothing of this machine: what is not a ``PeerError`` is
   ``relay.busy`` to it and a line in our log, by code or class alone.
3. Work that has begun is never cancelled: a client that leaves, or an answer that takes too long, does not stop a
   transaction half way.
4. No access log: who asked what is in the audit log or nowhere.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

import aiohttp
import structlog
from aiohttp import web

from exchange.adapters import resources
from exchange.adapters.http_answers import Answer, Connection, json_answer, refusal
from exchange.adapters.http_bodies import Bodies, Limits, Share
from exchange.core import wire
from exchange.core.envelope import MAX_BATCH_BYTES, parse_batch
from exchange.core.errors import ExchangeError, LocalError, PeerError
from exchange.core.evidence import sealed_length

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Coroutine

    from exchange.core.wire import JsonObject

T = TypeVar("T")
_log = structlog.get_logger("http")
__all__ = ["Inbound", "Limits", "Listener", "make_app", "serve"]


class Inbound(Protocol):
    """What the node does with requests. Every method raises ``PeerError`` to refuse; anything else is our own fault."""

    async def receive_batch(self, frames: list[tuple[bytes, bytes]]) -> JsonObject:
        """Take envelopes and voids as (document, body); the answer of protocol 11.3."""

    def own_card(self) -> bytes:
        """The newest card of this node."""

    async def serve_prekeys(self, request: bytes) -> bytes:
        """The prekey bundle, for a signed request (the document's bytes, nobody has verified them)."""

    async def receive_blob(self, h: str, request: bytes, chunks: AsyncIterator[bytes], length: int) -> JsonObject:
        """Take a blob of ``length`` bytes from ``chunks``; refuse the request before the first of them is drawn."""

    async def receive_document(self, data: bytes) -> None:
        """Take a card, an agreement or a prekey bundle."""

    def health(self) -> JsonObject:
        """What anybody may know."""


# -- reading requests ------------------------------------------------------------------------------


def _declared_length(request: web.Request, content_type: str, max_bytes: int, too_large: str) -> int:
    """The length of the body, from the headers alone. Raises request.encoding, wire.bad_frame, or ``too_large``."""
    if request.headers.get("Content-Encoding") is not None or request.content_type != content_type:
        raise PeerError("request.encoding", "Content-Type, Content-Encoding")
    if request.content_length is None:
        raise PeerError("wire.bad_frame", "Content-Length")
    if request.content_length > max_bytes:
        raise PeerError(too_large, f"at most {max_bytes} bytes")
    return request.content_length


def _signed_request(request: web.Request) -> bytes:
    """The document in the header of a signed request. Raises request.unsigned, wire.bad_base64."""
    text = request.headers.getall(resources.REQUEST_HEADER, [])
    if len(text) != 1 or len(text[0]) > resources.MAX_REQUEST_CHARS:
        raise PeerError("request.unsigned", resources.REQUEST_HEADER)
    return wire.parse_base64(text[0], resources.REQUEST_HEADER)


# -- resources -------------------------------------------------------------------------------------


class _Resources:
    """One method a resource."""

    def __init__(self, inbound: Inbound, limits: Limits) -> None:
        self._inbound = inbound
        self._limits = limits
        self._bodies = Bodies(limits)
        self._working: set[asyncio.Task[Any]] = set()

    async def _work_on(
        self, request: web.Request, max_bytes: int, content_type: str, begin: Callable[[bytes], Coroutine[Any, Any, T]]
    ) -> T:
        """Read the body and work on it. Its memory is held until the work ends, not until a client stops waiting."""
        _declared_length(request, content_type, max_bytes, "wire.too_large")
        held = self._bodies.hold(request)
        try:
            work = begin(await self._bodies.whole(request, held))
        except BaseException:
            held.release()
            raise
        return await self._answer_in_time(work, held.release)

    async def _answer_in_time(self, work: Coroutine[Any, Any, T], release: Callable[[], None] = lambda: None) -> T:
        """Wait for the work as long as a client will; it goes on to its end, whoever still waits for it."""
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: release())
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        done, _ = await asyncio.wait({task}, timeout=self._limits.answer)
        if not done:
            task.add_done_callback(_look_at)
            raise PeerError("relay.busy", "answer")
        return task.result()

    async def finish(self, _: web.Application) -> None:
        """Wait for what has begun, as long as one answer may take."""
        if self._working:
            await asyncio.wait(self._working, timeout=self._limits.answer)

    async def post_envelopes(self, request: web.Request) -> Answer:
        def begin(body: bytes) -> Coroutine[Any, Any, JsonObject]:
            return self._inbound.receive_batch(parse_batch(body))

        return json_answer(await self._work_on(request, MAX_BATCH_BYTES, resources.BATCH_TYPE, begin))

    async def get_card(self, _: web.Request) -> Answer:
        return Answer(self._inbound.own_card())

    async def get_prekeys(self, request: web.Request) -> Answer:
        bundle = await self._answer_in_time(self._inbound.serve_prekeys(_signed_request(request)))
        return Answer(bundle)

    async def put_blob(self, request: web.Request) -> Answer:
        max_bytes = sealed_length(self._limits.max_evidence_bytes)
        length = _declared_length(request, resources.BLOB_TYPE, max_bytes, "blob.too_large")
        signed = _signed_request(request)
        h = request.match_info["h"]
        with self._bodies.upload(request, h, signed) as chunks:
            # Its time is bounded by the body's pace; nothing of it counts before all of it is there.
            return json_answer(await self._inbound.receive_blob(h, signed, chunks, length))

    async def post_document(self, request: web.Request) -> Answer:
        await self._work_on(request, resources.MAX_PUSHED_BYTES, resources.JSON_TYPE, self._inbound.receive_document)
        return json_answer({})

    async def get_health(self, _: web.Request) -> Answer:
        return json_answer(self._inbound.health())


def _look_at(task: asyncio.Task[Any]) -> None:
    """A late failure has nobody left to tell it to but the log."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("request_failed_late", fault=_name(error))


def _name(error: BaseException) -> str:
    return error.code if isinstance(error, ExchangeError) else type(error).__name__


@web.middleware
async def _tell_errors(request: web.Request, handler: Callable[..., Any]) -> web.StreamResponse:
    """Whatever happens becomes a code."""
    try:
        response: web.StreamResponse = await handler(request)
    except PeerError as error:
        return refusal(error)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
        return refusal(PeerError("request.unknown_path", "path"))
    except (aiohttp.ClientError, web.RequestPayloadError, ConnectionError):
        return refusal(PeerError("wire.bad_frame", "body"))  # the client left, or sent no HTTP: it will not read this
    except Exception as error:  # noqa: BLE001 - the last place before a stranger
        _log.error("request_failed", fault=_name(error))
        return refusal(PeerError("relay.busy", "node"))
    else:
        return response


async def _no_banner(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall("Server", None)


def make_app(inbound: Inbound, limits: Limits) -> web.Application:
    """The node's resources."""
    table = _Resources(inbound, limits)
    app = web.Application(middlewares=[_tell_errors])
    app.on_response_prepare.append(_no_banner)
    app.on_shutdown.append(table.finish)
    app.router.add_post(resources.ENVELOPES, table.post_envelopes)
    app.router.add_get(resources.CARD, table.get_card, allow_head=False)
    app.router.add_get(resources.PREKEYS, table.get_prekeys, allow_head=False)
    app.router.add_put(resources.BLOBS + "{h:[0-9a-f]{64}}", table.put_blob)
    app.router.add_post(resources.DOCUMENTS, table.post_document)
    app.router.add_get(resources.HEALTH, table.get_health, allow_head=False)
    app[_LIMITS] = limits
    return app


_LIMITS: Final = web.AppKey("limits", Limits)


# -- listening -------------------------------------------------------------------------------------


class Listener:
    """A server that is listening; ``port`` is the one it has."""

    def __init__(self, runner: web.AppRunner, server: asyncio.Server) -> None:
        self._runner = runner
        self._server = server
        self.port: int = server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Take no new requests, answer those that are here, and close."""
        self._server.close()
        await self._runner.cleanup()


async def serve(app: web.Application, host: str, port: int, ssl_context: ssl.SSLContext) -> Listener:
    """Listen; port 0 takes a free one. Raises ``LocalError`` node.port."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=app[_LIMITS].answer)
    await runner.setup()
    handlers = cast("web.Server", runner.server)
    limits = app[_LIMITS]
    answers = Share(limits.max_answers_bytes, limits.max_answers_bytes_each, "answers")
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(
            lambda: Connection(handlers, limits, answers, loop),
            host,
            port,
            ssl=ssl_context,
            ssl_handshake_timeout=limits.grace,
            backlog=256,
        )
    except OSError:
        await runner.cleanup()
        raise LocalError("node.port", f"port {port}") from None
    return Listener(runner, server)
