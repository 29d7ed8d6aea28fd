"""Other nodes over HTTPS: ``ports.Peers``.

Implements docs/protocol.md section 11, the sender's side.

Rules:
1. One connector for each card, with that card's pins: a changed card never meets a connection made under the old one.
2. A peer's answer decides nothing by itself: no redirect is followed, no proxy of the environment asked, no cookie
   kept, nothing decompressed, and no more read than the resource may have.
3. Whatever goes wrong is a ``PeerError`` whose place is one short word. A peer's own words are never passed on; of an
   error that it tells, only a code that is in our table.
4. An endpoint that cannot be reached gives way to the next one of the card. Every request may be repeated.

What it does not do: try again later (the node does), or verify answers.
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from exchange.adapters import resources
from exchange.adapters.resources import SLOWEST_BYTES_PER_S
from exchange.adapters.tls import PinnedKey, client_context
from exchange.core import wire
from exchange.core.errors import CODES, ExchangeError, Fault, PeerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from exchange.core.keys import Card
    from exchange.core.wire import Digest, NodeId, UnverifiedDocument
    from exchange.ports import Blobs

LARGE_BODY: Final = 1_048_576  # aiohttp's own bound for writing bytes at once
CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 90.0  # more than a server takes before it says that it is busy
STALL_SECONDS: Final = 60.0
IDLE_SECONDS: Final = 30.0  # less than a server keeps a silent connection
CONNECTIONS: Final = 8  # to one peer
PIECE_BYTES: Final = 262_144
_ERROR_BYTES: Final = 4_096
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to connect, for the whole answer to a request, and without progress of a blob."""

    connect: float = CONNECT_SECONDS
    answer: float = ANSWER_SECONDS
    stall: float = STALL_SECONDS


@dataclass(slots=True)
class _Line:
    """The connections to one peer, as its card says."""

    pins: tuple[Digest, ...]
    endpoints: tuple[str, ...]
    session: aiohttp.ClientSession
    first: int = 0  # the endpoint that answered last


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request; ``blob`` is the digest of the file that is its body."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None = None
    blob: str | None = None


class HttpPeers:
    """``ports.Peers`` with aiohttp; ``send_blob`` reads from ``blobs``."""

    def __init__(self, blobs: Blobs, timeouts: Timeouts | None = None) -> None:
        self._blobs = blobs
        self._timeouts = timeouts or Timeouts()
        self._tls = client_context()
        self._lines: dict[NodeId, _Line] = {}

    async def send_batch(self, card: Card, batch: bytes) -> bytes:
        """See ``ports.Peers``."""
        return await self._ask(card, _Asked("POST", resources.ENVELOPES, {"Content-Type": resources.BATCH_TYPE}, batch))

    async def fetch_prekeys(self, card: Card, request: UnverifiedDocument) -> bytes:
        """See ``ports.Peers``."""
        return await self._ask(card, _Asked("GET", resources.PREKEYS, _signed(request)))

    async def fetch_card(self, card: Card) -> bytes:
        """GET /v1/card; the newest card of the node, to be verified against the one held."""
        return await self._ask(card, _Asked("GET", resources.CARD, {}))

    async def fetch_health(self, card: Card) -> bytes:
        """GET /v1/health; what the node says of itself, whoever asks."""
        return await self._ask(card, _Asked("GET", resources.HEALTH, {}))

    async def send_blob(self, card: Card, request: UnverifiedDocument, h: str, length: int) -> bytes:
        """See ``ports.Peers``. Raises ``IntegrityError`` store.blob_missing too."""
        headers = {"Content-Type": resources.BLOB_TYPE, "Content-Length": str(length)} | _signed(request)
        return await self._ask(card, _Asked("PUT", resources.BLOBS + h, headers, blob=h))

    async def send_document(self, card: Card, document: bytes) -> None:
        """See ``ports.Peers``."""
        await self._ask(card, _Asked("POST", resources.DOCUMENTS, {"Content-Type": resources.JSON_TYPE}, document))

    async def close(self) -> None:
        """See ``ports.Peers``."""
        lines = list(self._lines.values())
        self._lines.clear()
        for line in lines:
            await line.session.close()

    async def _line(self, card: Card) -> _Line:
        line = self._lines.get(card.node)
        if line is not None and (line.pins, line.endpoints) == (card.tls_pins, card.endpoints):
            return line
        connector = aiohttp.TCPConnector(
            ssl=PinnedKey(card.tls_pins), limit=CONNECTIONS, keepalive_timeout=IDLE_SECONDS
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._timeouts.connect),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        self._lines[card.node] = _Line(card.tls_pins, card.endpoints, session)
        if line is not None:
            await line.session.close()
        return self._lines[card.node]

    async def _ask(self, card: Card, asked: _Asked) -> bytes:
        """Ask the card's endpoints in turn, beginning with the one that answered last."""
        line = await self._line(card)
        failure: PeerError | None = None
        for turn in range(len(line.endpoints)):
            index = (line.first + turn) % len(line.endpoints)
            try:
                answer = await self._ask_one(line.session, line.endpoints[index], asked)
            except PeerError as error:
                if error.code not in {"relay.unreachable", "card.tls_mismatch"}:
                    raise
                # A wrong key is worse news than silence: it is told even where another endpoint is only silent.
                if failure is None or error.code == "card.tls_mismatch":
                    failure = error
            else:
                line.first = index
                return answer
        raise failure or PeerError("relay.unreachable", "no endpoint")

    async def _ask_one(self, session: aiohttp.ClientSession, endpoint: str, asked: _Asked) -> bytes:
        upload: _Upload | None = None
        try:
            async with asyncio.timeout(
                self._timeouts.answer + len(asked.body or b"") / SLOWEST_BYTES_PER_S
            ) as patience:
                if asked.blob is not None:
                    upload = _Upload(self._blobs, asked.blob, patience, self._timeouts)
                # The request's own context says how to speak TLS; the connector's pins say with whom.
                async with session.request(
                    asked.method,
                    URL(endpoint + asked.path, encoded=True),
                    headers=asked.headers,
                    data=upload.pieces() if upload else _payload(asked.body),
                    ssl=self._tls,
                    allow_redirects=False,
                ) as response:
                    return await _read_answer(response)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # an OSError: a timeout; a ValueError: no address
            # aiohttp tells a failure of our own disk as one of the connection.
            if upload is not None and upload.failure is not None:
                raise upload.failure from None
            raise translate(error) from None


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """A large body as a file, which aiohttp writes in pieces; a small one as it is."""
    return io.BytesIO(body) if body is not None and len(body) > LARGE_BODY else body


class _Upload:
    """A blob on its way; each piece that has left puts off the end of the request's patience."""

    def __init__(self, blobs: Blobs, h: str, patience: asyncio.Timeout, timeouts: Timeouts) -> None:
        self.failure: ExchangeError | None = None
        self._blobs = blobs
        self._h = h
        self._patience = patience
        self._timeouts = timeouts

    async def pieces(self) -> AsyncIterator[bytes]:
        """The blob in pieces small enough to show progress on a slow line."""
        now = asyncio.get_running_loop().time
        blob = self._blobs.load(self._h)
        try:
            async for piece in blob:
                for at in range(0, len(piece), PIECE_BYTES):
                    yield piece[at : at + PIECE_BYTES]
                    self._patience.reschedule(now() + self._timeouts.stall)
        except ExchangeError as error:
            self.failure = error
            raise
        finally:
            if isinstance(blob, AsyncGenerator):
                await blob.aclose()
        self._patience.reschedule(now() + self._timeouts.answer)


def _signed(request: UnverifiedDocument) -> dict[str, str]:
    return {resources.REQUEST_HEADER: wire.encode_base64(wire.encode_signed_document(request))}


async def _read_answer(response: aiohttp.ClientResponse) -> bytes:
    """The body of a response with status 200. Raises relay.bad_answer, or the code that the response tells."""
    if response.status != _OK:
        raise PeerError(_told_code(await _read(response, _ERROR_BYTES)), f"status {response.status}")
    return await _read(response, resources.MAX_ANSWER_BYTES)


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise PeerError("relay.bad_answer", "compressed")
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > max_bytes:
            raise PeerError("relay.bad_answer", "too large")
        pieces.append(piece)
    return b"".join(pieces)


def _told_code(body: bytes) -> str:
    try:
        fields = wire.Fields(wire.parse_json(body, max_bytes=_ERROR_BYTES, max_depth=2), "answer")
        code = fields.text("code", max_chars=48)
    except PeerError:
        return "relay.bad_answer"
    return code if code in CODES and CODES[code].fault is Fault.PEER else "relay.bad_answer"


def translate(error: Exception) -> PeerError:
    """What went wrong with a request, as one of ours; ``where`` is one word."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(error, aiohttp.ServerFingerprintMismatch):
        return PeerError("card.tls_mismatch", "server key")
    words: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
        (TimeoutError, "timeout"),
        (aiohttp.ClientConnectorDNSError, "name"),
        ((ssl.SSLError, aiohttp.ClientSSLError), "tls"),
        (ConnectionRefusedError, "refused"),
        ((ConnectionError, aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError), "reset"),
        ((aiohttp.InvalidURL, ValueError), "address"),
    )
    for kinds, word in words:
        if isinstance(error, kinds) or isinstance(cause, kinds):
            return PeerError("relay.unreachable", word)
    if isinstance(error, aiohttp.ClientResponseError):
        return PeerError("relay.bad_answer", "not HTTP")
    return PeerError("relay.unreachable", "network")
