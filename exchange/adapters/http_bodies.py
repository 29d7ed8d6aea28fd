"""What the server takes in: its bounds, who has how much of them, and how patient it is.

Implements docs/protocol.md section 11.3, bounds of requests. Used by adapters.http_server and adapters.http_answers.

Rules:
1. Memory and uploads are shared by all requests, and nobody gets all of it: what comes from one address has a share
   of the memory, and a node a share of the uploads, with one at a time for one blob.
2. A share is given back when what it stands for is gone from memory, not when somebody stops waiting for it.
3. Whoever is waited for must move: a pause ends the waiting, and so does a pace below SLOWEST_BYTES_PER_S. Only the
   time that is spent waiting counts, so that our own disk is not held against a peer.

What it does not do: say who an address belongs to. Many strangers with an address each can still fill what is there;
that is left to whatever stands before this server.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from exchange.adapters import resources
from exchange.core.envelope import MAX_BATCH_BYTES
from exchange.core.errors import PeerError
from exchange.core.wire import parse_signed_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator

    from aiohttp import web

T = TypeVar("T")
_HOST_BITS_V6: Final = 64  # whoever has one address of IPv6 has all that differ in these


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the server: sizes in bytes, times in seconds."""

    max_evidence_bytes: int  # of one file in clear
    max_connections: int = 512
    max_bodies_bytes: int = 16 * MAX_BATCH_BYTES  # in memory, of all requests together
    max_bodies_bytes_each: int = 4 * MAX_BATCH_BYTES  # of those from one address
    max_answers_bytes: int = 8 * resources.MAX_ANSWER_BYTES  # that wait to be read, of all connections together
    max_answers_bytes_each: int = 2 * resources.MAX_ANSWER_BYTES  # of those of one address
    max_uploads: int = 16
    max_uploads_each: int = 4  # of one node
    grace: float = 30.0  # a body or an answer has this and its length by SLOWEST_BYTES_PER_S
    stall: float = 30.0  # and no single pause of it is longer
    answer: float = 60.0
    idle: float = 60.0  # until a connection sends its first or next request whole
    linger: float = 2.0  # after a refusal, for the refused to read it before the rest of its body meets a closed door


def origin_of(request: web.BaseRequest) -> str:
    """Where a request comes from: an address, or the network of one in IPv6; "" for a connection that is gone."""
    try:
        address = ipaddress.ip_address(request.remote or "")
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or int(address) >> _HOST_BITS_V6)
    return str(address)


class Share:
    """An amount that all may hold together, and each of them alone."""

    def __init__(self, most: int, each: int, what: str) -> None:
        self._most = most
        self._each = each
        self._what = what
        self._held: Counter[str] = Counter()
        self._sum = 0

    def hold(self, who: str) -> Held:
        """Begin with nothing."""
        return Held(self, who)

    def take(self, who: str, amount: int) -> None:
        """Raises relay.busy where there is not as much left."""
        if self._sum + amount > self._most or self._held[who] + amount > self._each:
            raise PeerError("relay.busy", self._what)
        self._sum += amount
        self._held[who] += amount

    def give_back(self, who: str, amount: int) -> None:
        """Strangers come and go: nothing is kept of one who holds nothing."""
        self._sum -= amount
        self._held[who] -= amount
        if not self._held[who]:
            del self._held[who]


class Held:
    """What one request holds of a share."""

    def __init__(self, share: Share, who: str) -> None:
        self._share = share
        self._who = who
        self._amount = 0

    def take(self, amount: int) -> None:
        """Hold more. Raises relay.busy."""
        self._share.take(self._who, amount)
        self._amount += amount

    def release(self) -> None:
        """Hold nothing any more."""
        self._share.give_back(self._who, self._amount)
        self._amount = 0


class Pace:
    """The patience with one body or one answer."""

    def __init__(self, limits: Limits) -> None:
        self._stall = limits.stall
        self._left = limits.grace

    async def wait(self, work: Awaitable[T]) -> T:
        """Wait for the other side. Raises ``TimeoutError``."""
        now = asyncio.get_running_loop().time
        began = now()
        async with asyncio.timeout(min(self._stall, self._left)):
            result = await work
        self._left -= now() - began
        return result

    def moved(self, size: int) -> None:
        """So many bytes have come, or gone: they have earned their time."""
        self._left += size / resources.SLOWEST_BYTES_PER_S


class Bodies:
    """The bodies of all requests, in memory or on their way to the disk."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._memory = Share(limits.max_bodies_bytes, limits.max_bodies_bytes_each, "memory")
        self._uploads = Share(limits.max_uploads, limits.max_uploads_each, "uploads")
        self._uploads_of_one_blob = Share(limits.max_uploads, 1, "uploads of this blob")

    async def _chunks(self, request: web.Request) -> AsyncIterator[bytes]:
        """The body as it comes. Raises relay.busy where it comes too slowly."""
        pace = Pace(self._limits)
        while True:
            try:
                piece = await pace.wait(request.content.readany())
            except TimeoutError:
                raise PeerError("relay.busy", "the body came too slowly") from None
            if not piece:
                return
            pace.moved(len(piece))
            yield piece

    def hold(self, request: web.Request) -> Held:
        """What the body of a request is going to have of the memory."""
        return self._memory.hold(origin_of(request))

    async def whole(self, request: web.Request, held: Held) -> bytes:
        """The body in memory, counted while it comes. Raises relay.busy."""
        pieces: list[bytes] = []
        async for piece in self._chunks(request):
            held.take(len(piece))
            pieces.append(piece)
        return b"".join(pieces)

    @contextmanager
    def upload(self, request: web.Request, h: str, signed: bytes) -> Iterator[AsyncIterator[bytes]]:
        """The pieces of a blob. Its place is taken with the first one drawn: by then the node has verified who asks.

        Taken before, it would be a place for whoever writes a peer's name into a request.
        """
        held: list[Held] = []

        async def chunks() -> AsyncIterator[bytes]:
            asker = parse_signed_document(signed).fields("request").text("from")
            for share, who in ((self._uploads_of_one_blob, f"{asker} {h}"), (self._uploads, asker)):
                place = share.hold(who)
                place.take(1)
                held.append(place)
            async for piece in self._chunks(request):
                yield piece

        try:
            yield chunks()
        finally:
            for place in held:
                place.release()
