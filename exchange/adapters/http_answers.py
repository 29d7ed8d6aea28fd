"""What the server sends back, and the connections that carry it.

Implements docs/protocol.md section 11.3, answers and refusals. Used by adapters.http_server.

Rules:
1. What waits to be read is bounded: answers are counted, all together and for each address, until they are handed to
   the system piece by piece; one that finds no room becomes ``relay.busy``. What it would have said is stored, and the
   repeat gets it.
2. Who does not read is left: an answer that stops moving, or moves too slowly, ends its connection, and a connection
   that was closed is gone soon after, read or not. TLS alone would keep what was not read for ever.
3. Garbage is answered without a word of it, and nothing names our software.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, cast

from aiohttp import web

from exchange.adapters import resources
from exchange.adapters.http_bodies import Pace, origin_of
from exchange.core import wire
from exchange.core.errors import PeerError

if TYPE_CHECKING:
    import asyncio

    from exchange.adapters.http_bodies import Limits, Share
    from exchange.core.wire import JsonObject

PIECE_BYTES: Final = 16_384

# aiohttp says in its log which bytes it could not read; they are a stranger's, so nothing of it is kept.
_SILENT: Final = logging.Logger("exchange.silent", level=logging.CRITICAL + 1)  # noqa: LOG001 - must have no parents

_STATUS: Final = {
    "request.unsigned": 401,
    "request.stale": 401,
    "request.replayed": 401,
    "request.unknown_path": 404,
    "blob.unknown": 404,
    "wire.too_large": 413,
    "blob.too_large": 413,
    "request.encoding": 415,
    "relay.quota": 429,
    "relay.busy": 503,
    "relay.disk": 503,
}


class Answer(web.StreamResponse):
    """JSON that its connection sends piece by piece, and forgets."""

    def __init__(self, content: bytes, status: int = 200) -> None:
        super().__init__(status=status)
        self.content_type = resources.JSON_TYPE
        self.content_length = len(content)
        self.content = content


def json_answer(value: JsonObject, status: int = 200) -> Answer:
    """A value as an answer."""
    return Answer(wire.encode_json(value), status)


def refusal(error: PeerError) -> Answer:
    """A code and a place, under the status that fits."""
    return json_answer({"code": error.code, "where": error.where}, _STATUS.get(error.code, 400))


class Connection(web.RequestHandler):
    """A connection that is refused when there are too many, and that sends answers as fast as they are read."""

    __slots__ = ("_answers", "_end", "_limits", "_wire")

    def __init__(self, server: web.Server, limits: Limits, answers: Share, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=limits.idle,
            logger=_SILENT,
            access_log=None,  # type: ignore[arg-type]  # what web.AppRunner(access_log=None) passes on
            lingering_time=limits.linger,
            auto_decompress=False,
        )
        self._limits = limits
        self._answers = answers
        self._wire: asyncio.Transport | None = None
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many."""
        self._wire = cast("asyncio.Transport", transport)
        self._wire.set_write_buffer_limits(high=1, low=0)  # of TLS: a pause as soon as the socket takes no more
        super().connection_made(transport)
        if self._manager is not None and len(self._manager.connections) > self._limits.max_connections:
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nothing is left to be ended."""
        self._wire = None
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)

    async def start(self) -> None:
        """Serve until the connection is closed; then see to it that it is."""
        try:
            await super().start()
        finally:
            if self._wire is not None:
                self._end = self._loop.call_later(self._limits.stall, self._abort)

    def _abort(self) -> None:
        if self._wire is not None:
            self._wire.abort()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; True if the connection is of no more use."""
        if isinstance(resp, Answer):  # what is not ours has no length to speak of
            held = self._answers.hold(origin_of(request))
            try:
                held.take(len(resp.content))
            except PeerError as error:
                resp = refusal(error)
            try:
                await self._send(request, resp)
            except (TimeoutError, ConnectionError):
                return resp, True  # which closes the connection, and start() ends it
            finally:
                resp.content = b""  # an idle connection remembers its latest answer
                held.release()
        return await super().finish_response(request, resp, start_time)

    async def _send(self, request: web.BaseRequest, answer: Answer) -> None:
        """Piece by piece, each when there is room for it. Raises ``TimeoutError``, ``ConnectionError``."""
        await answer.prepare(request)
        pace = Pace(self._limits)
        rest = memoryview(b"" if request.method == "HEAD" else answer.content)
        while rest:
            piece, rest = rest[:PIECE_BYTES], rest[PIECE_BYTES:]
            await answer.write(piece)
            await pace.wait(self._drain_helper())
            pace.moved(len(piece))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What could not be read as HTTP."""
        del request, exc, message
        response = json_answer({"code": "wire.bad_frame", "where": "HTTP"}, status)
        response.headers["Server"] = ""
        response.force_close()
        return response
