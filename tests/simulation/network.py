"""The simulated network: requests and answers that are late, lost, doubled, overtaken, or cut off.

Implements ``exchange.ports.Peers`` as its docstring allows: not promised are delivery, order, or that a lost answer
means a lost request. A request that was doubled reaches the other side a second time, perhaps minutes later; its
second answer reaches nobody.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from exchange.core import wire
from exchange.core.envelope import parse_batch
from exchange.core.errors import CODES, Fault, PeerError
from exchange.core.wire import encode_signed_document
from tests.simulation.drafts import CANARY_FORMS
from tests.simulation.host import DiedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from typing import TypeAlias

    from exchange.core.keys import Card
    from exchange.core.wire import NodeId, UnverifiedDocument
    from exchange.node.node import Node
    from tests.simulation.host import Host, Process, Stage

    Work: TypeAlias = Callable[[Node], Coroutine[Any, Any, bytes]]
    Twist: TypeAlias = Callable[[Node, NodeId, "Request", bytes], Coroutine[Any, Any, bytes]]

PATIENCE: Final = 15.0  # seconds until a request without answer is given up


@dataclass(frozen=True)
class Weather:
    """How often what goes wrong; times in seconds."""

    lose_request: float = 0.0
    lose_answer: float = 0.0
    double: float = 0.0
    latest_double: float = 1.0
    slowest: float = 0.05


CALM: Final = Weather()


@dataclass(frozen=True)
class Request:
    """One request: which resource, the bytes that travel, and what the other side does with them."""

    kind: str
    data: bytes
    work: Work


@dataclass
class Network:
    """Carries requests between hosts."""

    stage: Stage
    hosts: dict[NodeId, Host]
    evil: NodeId | None = None
    weather: Weather = CALM
    cut: dict[frozenset[str], int] = field(default_factory=dict)  # pairs that cannot reach each other, counted
    twist: Twist | None = None  # what the misbehaving node makes of its answers
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)  # requests from one to another
    evil_sent: list[tuple[NodeId, bytes]] = field(default_factory=list)  # its batches, to be sent again
    _doubles: set[asyncio.Task[None]] = field(default_factory=set)

    def is_cut(self, one: str, other: str) -> bool:
        """Whether nothing passes between the two now."""
        return self.cut.get(frozenset((one, other)), 0) > 0

    def set_cut(self, one: str, other: str, *, cut: bool) -> None:
        """Cut two nodes off from each other, or end one cut of several."""
        pair = frozenset((one, other))
        self.cut[pair] = self.cut.get(pair, 0) + (1 if cut else -1)

    async def ask(self, source: NodeId, target: NodeId, request: Request) -> bytes:
        """One request and its answer. Raises ``PeerError`` as ``adapters.http_client`` does."""
        self.asked[source, target] += 1
        if any(form in request.data for form in CANARY_FORMS):
            self.stage.faults.append(f"{source} sent in clear to {target}")
        if source == self.evil and request.kind == "batch":
            self.evil_sent.append((target, request.data))
        rng, weather = self.stage.rng, self.weather
        await asyncio.sleep(rng.uniform(0, weather.slowest))
        if self.is_cut(source, target) or rng.random() < weather.lose_request:
            await self._give_up()
        if rng.random() < weather.double:
            self._send_again(target, request.work)
        answer = await self._reach(target, request.work)
        process = self.hosts[target].process
        if self.twist is not None and target == self.evil and process is not None and process.node is not None:
            answer = await self.twist(process.node, source, request, answer)
        await asyncio.sleep(rng.uniform(0, weather.slowest))
        if self.is_cut(source, target) or rng.random() < weather.lose_answer:
            await self._give_up()
        return answer

    async def _give_up(self) -> None:
        await asyncio.sleep(PATIENCE)
        raise PeerError("relay.unreachable", "timeout")

    async def _reach(self, target: NodeId, work: Work) -> bytes:
        host = self.hosts[target]
        process = host.process
        if process is None or not process.serving:
            raise PeerError("relay.unreachable", "refused")
        try:
            return await host.ask(work)
        except DiedError:
            raise PeerError("relay.unreachable", "reset") from None
        except PeerError as error:
            known = error.code in CODES and CODES[error.code].fault is Fault.PEER
            raise PeerError(error.code if known else "relay.bad_answer", "status 400") from None
        except Exception as error:  # noqa: BLE001 - as the HTTP server does; here it is a fault of the history too
            self.stage.faults.append(f"{target} answered with {type(error).__name__}: {error}")
            raise PeerError("relay.busy", "status 503") from None

    def _send_again(self, target: NodeId, work: Work) -> None:
        delay = self.stage.rng.uniform(0, self.weather.latest_double)

        async def later() -> None:
            await asyncio.sleep(delay)
            try:
                await self._reach(target, work)
            except PeerError:
                return

        # Not of the process that asked: what is on its way arrives also when its sender has died.
        task = asyncio.Task(later(), loop=asyncio.get_running_loop())
        self._doubles.add(task)
        task.add_done_callback(self._doubles.discard)


# -- the resources (docs/protocol.md section 11.3) -------------------------------------------------


def post_envelopes(batch: bytes) -> Request:
    """POST /v1/envelopes."""

    async def work(node: Node) -> bytes:
        return wire.encode_json(await node.receive_batch(parse_batch(batch)))

    return Request("batch", batch, work)


def get_prekeys(signed: bytes) -> Request:
    """GET /v1/prekeys."""

    async def work(node: Node) -> bytes:
        return await node.serve_prekeys(signed)

    return Request("prekeys", signed, work)


def post_document(document: bytes) -> Request:
    """POST /v1/documents."""

    async def work(node: Node) -> bytes:
        await node.receive_document(document)
        return b"{}"

    return Request("document", document, work)


def put_blob(h: str, signed: bytes, data: bytes) -> Request:
    """PUT /v1/blobs/{h}."""

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    async def work(node: Node) -> bytes:
        return wire.encode_json(await node.receive_blob(h, signed, chunks(), len(data)))

    return Request("blob", signed + data, work)


class SimPeers:
    """``ports.Peers`` of one process."""

    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self._host = process.host

    async def send_batch(self, card: Card, batch: bytes) -> bytes:
        return await self._network.ask(self._host.id, card.node, post_envelopes(batch))

    async def fetch_prekeys(self, card: Card, request: UnverifiedDocument) -> bytes:
        return await self._network.ask(self._host.id, card.node, get_prekeys(encode_signed_document(request)))

    async def send_blob(self, card: Card, request: UnverifiedDocument, h: str, length: int) -> bytes:
        data = self._host.blobs[h]
        assert len(data) == length
        return await self._network.ask(self._host.id, card.node, put_blob(h, encode_signed_document(request), data))

    async def send_document(self, card: Card, document: bytes) -> None:
        await self._network.ask(self._host.id, card.node, post_document(document))

    async def close(self) -> None:
        """Nothing is open."""
