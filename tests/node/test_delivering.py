"""Delivering: what may happen while a worker is busy, and what a node does not do over and over."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from exchange.core.errors import PeerError
from exchange.node import delivering, queues
from tests.node.pair import INDEXES, Gate, Pair, node_of, until
from tests.simulation.drafts import draft
from tests.simulation.loop import run_virtually
from tests.simulation.network import Network
from tests.simulation.people import agreement

if TYPE_CHECKING:
    from exchange.core.wire import NodeId
    from tests.simulation.network import Request

DAY = 86_400


class NoDocuments(Network):
    """A network on which nothing can be pushed."""

    async def ask(self, source: NodeId, target: NodeId, request: Request) -> bytes:
        if request.kind == "document":
            raise PeerError("relay.busy", "status 503")
        return await super().ask(source, target, request)


def test_message_that_comes_while_waiting_ones_are_looked_for_is_sealed() -> None:
    """A message that begins to wait unsealed while the worker is looking for such messages is not forgotten."""

    async def main() -> None:
        pair = Pair()
        node, _ = await pair.start()
        peer = pair.receiver.id
        gate = Gate(node.ledger.store, "outgoing_unsealed")
        node.ledger.store = gate
        node.queues.wake_sealing(peer)
        await gate.reached.wait()  # it has read that nothing waits
        bundle = node.registry.prekeys.pop(peer)
        ident = await pair.submit()
        node.registry.prekeys[peer] = bundle
        gate.open.set()
        await until(lambda: pair.status(ident) == "accepted")

    run_virtually(main)


def test_news_that_comes_while_the_queue_is_filled_is_not_lost() -> None:
    """A message that must be sealed while the worker fills its queue from the store does not wait for other news."""

    async def main() -> None:
        pair = Pair()
        node, _ = await pair.start()
        peer = pair.receiver.id
        queue = node.queues.queue(peer)
        gate = Gate(node.ledger.store, "outbox")
        node.ledger.store = gate
        queue.more_in_store = True
        queue.wake.set()
        await gate.reached.wait()
        bundle = node.registry.prekeys.pop(peer)
        ident = await pair.submit()
        node.registry.prekeys[peer] = bundle
        gate.open.set()
        await until(lambda: pair.status(ident) == "accepted")

    run_virtually(main)


def test_overflow_that_comes_while_the_queue_is_filled_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that do not fit any more while the queue is being filled from the store are sent all the same."""
    for module in (queues, delivering):
        monkeypatch.setattr(module, "MAX_READY", 2)

    async def main() -> None:
        pair = Pair()
        node, _ = await pair.start()
        queue = node.queues.queue(pair.receiver.id)
        gate = Gate(node.ledger.store, "outbox")
        node.ledger.store = gate
        pair.cut(cut=True)
        queue.more_in_store = True
        queue.wake.set()
        await gate.reached.wait()  # it has read an empty outbox
        idents = [await pair.submit() for _ in range(8)]
        pair.cut(cut=False)
        gate.open.set()
        await until(lambda: all(pair.status(ident) == "accepted" for ident in idents), 600)

    run_virtually(main)


def test_two_nodes_that_defer_each_other_sleep() -> None:
    """Nodes that cannot take each other's messages yet do not wake each other by trying."""

    async def main() -> int:
        pair = Pair(network=NoDocuments)
        here, there = agreement(INDEXES, 1, -DAY, 100 * DAY), agreement((1, 0), 1, -DAY, 100 * DAY)
        _, other = await pair.start([here], [there])  # neither knows the agreement that the other relies on
        await pair.submit()
        await other.sender.submit(draft("acknowledgement", 1), [pair.sender.id], [])
        await asyncio.sleep(10)
        before = sum(pair.network.asked.values())
        await asyncio.sleep(600)
        return sum(pair.network.asked.values()) - before

    assert 0 < run_virtually(main) < 50


def test_rival_agreement_is_an_alarm() -> None:
    """Another text under an id and version that is held, signed by all, is refused, and the operator is told."""

    async def main() -> list[tuple[str, str, str]]:
        pair = Pair()
        node, _ = await pair.start()
        told: list[tuple[str, str, str]] = []
        node.queues.on_news = lambda kind, peer, message, _: told.append((kind, peer, message))
        with pytest.raises(PeerError) as caught:
            await node.receive_document(agreement(INDEXES, 1, -DAY, 99 * DAY))
        assert caught.value.code == "agreement.conflict"
        with pytest.raises(PeerError):
            await node.receive_document(agreement(INDEXES, 3, DAY, 99 * DAY))  # no rival: it only comes too early
        return [item for item in told if item[0] == "alarm"]

    assert run_virtually(main) == [("alarm", "th-fp1", "kh-th/1")]


def test_agreements_are_pushed_oldest_first() -> None:
    """A peer that lacks both versions of an agreement gets both, and then takes the message."""

    async def main() -> None:
        pair = Pair()
        versions = [agreement(INDEXES, version, -DAY // version, 100 * DAY) for version in (1, 2)]
        _, other = await pair.start(versions, [])
        ident = await pair.submit()
        await until(lambda: pair.status(ident) == "accepted", 600)
        assert len(other.registry.agreements) == 2

    run_virtually(main)


def test_message_that_nobody_took_for_weeks_comes_back() -> None:
    """After 35 days without an answer a message comes back as expired, and a void closes its number."""

    async def main() -> None:
        pair = Pair(speed=10_000.0)
        await pair.start()
        pair.cut(cut=True)
        ident = await pair.submit()
        await until(lambda: pair.status(ident) == "expired", 400)
        pair.cut(cut=False)
        query = "SELECT 1 FROM windows WHERE through = 1"
        await until(lambda: pair.receiver.connection.execute(query).fetchone() is not None, 900)

    run_virtually(main)


def test_answer_that_came_before_housekeeping_stands() -> None:
    """A message that was accepted after housekeeping had read it as late is not given back to its officer."""

    async def main() -> str:
        pair = Pair()
        node, _ = await pair.start()
        ident = await pair.submit()
        row = pair.row(ident)
        late = row._replace(record=row.record._replace(updated=row.record.updated - timedelta(days=36)))
        await until(lambda: pair.status(ident) == "accepted")
        await node.sender.tick(pair.receiver.id, [late])
        return pair.status(ident)

    assert run_virtually(main) == "accepted"


def test_peer_that_refuses_evidence_is_not_asked_without_rest() -> None:
    """Evidence that the peer refuses is sent again after a wait that other news does not shorten."""

    async def main() -> int:
        pair = Pair()
        node, _ = await pair.start()
        digest = "0" * 64
        pair.sender.blobs[digest] = b"x"
        ident = await pair.submit()
        await until(lambda: pair.status(ident) == "accepted")
        row = (digest, pair.receiver.id, ident, "out", 1, 0, None)
        pair.sender.connection.execute("INSERT INTO blobs VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        node.queues.queue(pair.receiver.id).blobs.set()
        before = pair.network.asked[pair.sender.id, pair.receiver.id]
        for _ in range(100):
            await asyncio.sleep(1)
            await pair.submit()
        return pair.network.asked[pair.sender.id, pair.receiver.id] - before - 100

    assert 3 < run_virtually(main) < 30


def test_start_is_where_the_last_process_ended() -> None:
    """What waited unsealed when the process died is sealed and sent by the next one."""

    async def main() -> None:
        pair = Pair()
        node, _ = await pair.start()
        node.registry.prekeys.pop(pair.receiver.id)
        pair.cut(cut=True)
        ident = await pair.submit()
        assert pair.row(ident).record.digest is None
        pair.sender.kill()
        pair.cut(cut=False)
        await pair.sender.start()
        await until(lambda: pair.status(ident) == "accepted")
        assert node_of(pair.sender) is not node

    run_virtually(main)
