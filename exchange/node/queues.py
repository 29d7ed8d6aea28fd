"""What waits to be sent, in memory: one queue a peer, so that a dead peer delays nobody.

Implements docs/protocol.md section 11.4. Rules:
1. The store is the truth; a queue holds at most ``MAX_READY`` items of it and is refilled from it.
2. Order is lane, then number: an alert overtakes everything else.
3. What the peer deferred waits for its time; everything else of that peer goes on.
4. Hearing from the peer ends the wait for a silent peer and no other: two nodes that defer or refuse each other's
   messages would else wake each other for ever.
"""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.core.delivery import Status
    from exchange.core.wire import NodeId

Item: TypeAlias = "tuple[int, int, str, str, bytes, bytes]"  # lane, seq, digest, message id, document, body
MAX_READY: Final = 512
FIRST_WAIT: Final = 0.5
LONGEST_WAIT: Final = 300.0


def back_off(failures: int, random: Callable[[int], bytes]) -> float:
    """Seconds to wait after that many failures, doubling, with a jitter of one half either way."""
    wait: float = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(failures, 10))
    return wait * (0.5 + random(1)[0] / 255)


@dataclass(slots=True)
class PeerQueue:
    """Envelopes and voids for one peer."""

    wake: asyncio.Event = field(default_factory=asyncio.Event)
    blobs: asyncio.Event = field(default_factory=asyncio.Event)
    documents: asyncio.Event = field(default_factory=asyncio.Event)
    ready: list[Item] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    in_flight: dict[str, Item] = field(default_factory=dict)
    deferred: dict[str, str] = field(default_factory=dict)
    more_in_store: bool = True
    failures: int = 0
    silent: bool = False  # the last request found nobody there
    trouble: str | None = None
    parked: list[Item] = field(default_factory=list)
    deferrals: int = 0  # rounds in which the peer deferred and answered nothing
    retry_at: float = 0.0  # by the loop's time: when the parked are tried again
    files_queued: int = 1  # how often a message with files came; after a start nobody knows
    files_settled: int = 0  # that number when the store was last seen without one that waits
    gone_prekeys: set[str] = field(default_factory=set)  # of the peer's bundles, one at most of each
    unsealed: bool = True
    wants_prekeys: bool = True

    def want_prekeys(self) -> None:
        """Messages wait unsealed: ask the peer for prekeys."""
        self.unsealed = self.wants_prekeys = True
        self.wake.set()

    def succeed(self) -> None:
        """The peer answered, whatever it said."""
        self.failures, self.silent, self.trouble = 0, False, None

    def fail(self, code: str) -> None:
        """A request came to nothing."""
        self.failures += 1
        self.trouble = code
        self.silent = code == "relay.unreachable"

    def contact(self) -> None:
        """The peer was heard of: if nobody could reach it, it is tried again at once."""
        if self.silent:
            self.succeed()
            self._wake_all()

    def _wake_all(self) -> None:
        for event in (self.wake, self.blobs, self.documents):
            event.set()

    def retry(self) -> None:
        """The peer, or an operator, asks for everything that waits."""
        self.succeed()
        self.deferrals = 0
        self.unpark()
        self._wake_all()

    def progress(self, answered: int) -> None:
        """So many were finally answered: twice as many of those that wait, the first in line, may be taken now.

        Not all of them, and the pause between rounds is halved, not ended: a long queue at a peer that takes one at a
        time would be sent over and over.
        """
        self.deferrals //= 2
        self.parked.sort()
        first, self.parked = self.parked[: 2 * answered], self.parked[2 * answered :]
        self.ready += first
        heapq.heapify(self.ready)

    def park(self, item: Item, code: str, until: float) -> None:
        """The peer deferred this: it waits, and does not stand in the way of others. The first one says until when."""
        if self.in_flight.pop(item[2], None) is None:
            return
        if not self.parked:
            self.deferrals += 1
            self.retry_at = until
        self.parked.append(item)
        self.deferred[item[2]] = code

    def unpark_due(self, now: float) -> None:
        """Try again what was deferred, where its time has come."""
        if self.parked and now >= self.retry_at:
            self.unpark()

    def unpark(self) -> None:
        """Try again what was deferred."""
        for item in self.parked:
            heapq.heappush(self.ready, item)
        self.parked.clear()

    def push(self, item: Item) -> None:
        """Add an item, or remember that the store has more."""
        if item[2] in self.known:
            return
        if len(self.ready) >= MAX_READY:
            self.more_in_store = True
            last = max(self.ready)
            if item < last:  # an alert finds its place, whatever waits; the last one comes again from the store
                self.ready.remove(last)
                heapq.heapify(self.ready)
                self.known.discard(last[2])
        if len(self.ready) < MAX_READY:
            self.known.add(item[2])
            heapq.heappush(self.ready, item)
        self.wake.set()

    def take(self, count: int, max_bytes: int) -> list[Item]:
        """Take the next items for one request; they are in flight until ``done`` or ``give_back``."""
        taken: list[Item] = []
        size = 0
        while self.ready and len(taken) < count:
            weight = len(self.ready[0][4]) + len(self.ready[0][5])
            if taken and size + weight > max_bytes:
                break
            item = heapq.heappop(self.ready)
            size += weight
            taken.append(item)
            self.in_flight[item[2]] = item
        return taken

    def give_back(self, items: list[Item]) -> None:
        """The request failed: the same bytes will be sent again."""
        for item in items:
            if self.in_flight.pop(item[2], None) is not None:
                heapq.heappush(self.ready, item)

    def drop(self, digest: str) -> None:
        """The item is finally answered or no longer wanted."""
        self.in_flight.pop(digest, None)
        self.deferred.pop(digest, None)
        if digest in self.known:
            self.known.discard(digest)
            self.parked = [item for item in self.parked if item[2] != digest]
            if any(item[2] == digest for item in self.ready):
                self.ready = [item for item in self.ready if item[2] != digest]
                heapq.heapify(self.ready)


class Queues:
    """All peers' queues, and those who wait for news of a message."""

    def __init__(self) -> None:
        self.by_peer: dict[NodeId, PeerQueue] = {}
        self._listeners: dict[tuple[str, str], list[Callable[[Status], None]]] = {}
        self.on_news: Callable[[str, NodeId, str, Any], None] | None = None
        self.erasing = asyncio.Event()  # something became due to be erased (node.erasing)

    def queue(self, peer: NodeId) -> PeerQueue:
        """The queue of a peer."""
        if peer not in self.by_peer:
            self.by_peer[peer] = PeerQueue()
        return self.by_peer[peer]

    def push(self, peer: NodeId, item: Item) -> None:
        """Queue an item after its commit."""
        self.queue(peer).push(item)

    def drop(self, peer: NodeId, digest: str) -> None:
        """Forget an item after its commit."""
        self.queue(peer).drop(digest)

    def has_files(self, peer: NodeId) -> None:
        """A message with files was queued for this peer."""
        self.queue(peer).files_queued += 1

    def wake_sealing(self, peer: NodeId) -> None:
        """An unsealed message of this peer may be sealed now."""
        queue = self.queue(peer)
        queue.unsealed = True
        queue.wake.set()

    def listen(self, peer: str, message: str, call: Callable[[Status], None]) -> None:
        """Call back at each status of an outgoing message."""
        self._listeners.setdefault((peer, message), []).append(call)

    def unlisten(self, peer: str, message: str, call: Callable[[Status], None]) -> None:
        """The inverse of ``listen``."""
        calls = self._listeners.get((peer, message), [])
        if call in calls:
            calls.remove(call)
        if not calls:
            self._listeners.pop((peer, message), None)

    def notify(self, kind: str, peer: NodeId, message: str, status: Status | None) -> None:
        """Tell whoever waits."""
        if status is not None:
            queue = self.queue(peer)
            if queue.files_queued != queue.files_settled:
                queue.blobs.set()  # its evidence may go now
            for call in tuple(self._listeners.get((peer, message), ())):
                call(status)
        if self.on_news is not None:
            self.on_news(kind, peer, message, status)
