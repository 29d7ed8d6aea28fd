"""Sealing again: a peer that lost its prekeys, or whose clock is wrong, costs time and no message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from exchange.core.errors import PeerError
from tests.node.pair import Pair, until
from tests.simulation.loop import run_virtually
from tests.simulation.network import Network

if TYPE_CHECKING:
    from exchange.core.wire import NodeId
    from tests.simulation.network import Request

DAY: Final = 86_400


class NoPrekeys(Network):
    """A network on which nobody learns new prekeys while ``silent``."""

    silent = False

    async def ask(self, source: NodeId, target: NodeId, request: Request) -> bytes:
        if request.kind == "prekeys" and self.silent:
            raise PeerError("relay.busy", "status 503")
        return await super().ask(source, target, request)


def test_peer_that_lost_its_prekeys_publishes_new_ones() -> None:
    """A message to a node restored without its prekeys is sealed once more, to keys that it made since."""

    async def main() -> tuple[str, int]:
        pair = Pair()
        await pair.start()
        pair.receiver.kill()
        pair.receiver.prekeys.files.clear()
        await pair.receiver.start()
        ident = await pair.submit()
        await until(lambda: pair.status(ident) == "accepted")
        return pair.status(ident), pair.row(ident).record.attempt

    assert run_virtually(main) == ("accepted", 2)


def test_nothing_is_sealed_to_a_prekey_that_is_gone() -> None:
    """Until the peer's new prekeys are here, a message whose prekey is gone waits, and so do those that follow."""

    async def main() -> tuple[list[int], list[int]]:
        network: type[Network] = NoPrekeys
        pair = Pair(network=network)
        await pair.start()
        pair.receiver.kill()
        pair.receiver.prekeys.files.clear()
        await pair.receiver.start()
        assert isinstance(pair.network, NoPrekeys)
        pair.network.silent = True
        first = await pair.submit()
        await asyncio.sleep(3_600)
        second = await pair.submit()
        await asyncio.sleep(3_600)
        before = [pair.row(ident).record.attempt for ident in (first, second)]
        pair.network.silent = False
        await until(lambda: {pair.status(ident) for ident in (first, second)} == {"accepted"})
        return before, [pair.row(ident).record.attempt for ident in (first, second)]

    assert run_virtually(main) == ([1, 0], [2, 1])


def test_peer_with_a_wrong_clock_gets_the_message_when_it_is_right() -> None:
    """A peer to whom everything is expired is tried more and more seldom, for a week; then its clock is set right."""

    async def main() -> tuple[list[int], str]:
        pair = Pair()
        await pair.start()
        pair.receiver.skew = 20.0 * DAY
        ident = await pair.submit()
        attempts: list[int] = []
        for seconds in (60, DAY // 2, 3 * DAY):
            await asyncio.sleep(seconds)
            attempts.append(pair.row(ident).record.attempt)
        pair.receiver.skew = 0.0
        await until(lambda: pair.status(ident) == "accepted")
        return attempts, pair.status(ident)

    attempts, status = run_virtually(main)
    assert attempts[0] == 2
    assert 6 < attempts[1] < 10
    assert attempts[2] < 14
    assert status == "accepted"
