"""The end of agreements: who is warned, how often, and what the log says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exchange.core.wire import Digest
from exchange.node.desk import Desk
from tests.node.pair import INDEXES, Pair, node_of
from tests.node.stopping import events
from tests.simulation.loop import run_virtually
from tests.simulation.people import agreement

if TYPE_CHECKING:
    from exchange.node.node import Node

DAY = 86_400
LIFE = 100 * DAY


async def ask(node: Node, op: str) -> Any:  # noqa: ANN401 - JSON
    """An operation of the node's desk."""
    return await Desk(node, Digest("0" * 64), 1).call(op, {})


def warnings(node: Node) -> list[tuple[str, str, str]]:
    """What the node's operator is told about ends from now on."""
    told: list[tuple[str, str, str]] = []

    def hear(kind: str, peer: str, message: str, _: object) -> None:
        if kind.startswith("agreement_ends"):
            told.append((kind, peer, message))

    node.queues.on_news = hear
    return told


def test_operator_is_warned_three_times() -> None:
    """Each warning is told once in a run of the node, by its own name, and again after a start."""

    async def main() -> None:
        pair = Pair()
        node, _ = await pair.start(*[[agreement(INDEXES, 1, -DAY, LIFE)]] * 2)
        told = warnings(node)
        seen: list[str] = []
        for day in (5, 9, 10, 11, 50, 69, 70, 92, 93, 99):
            pair.sender.skew = float(day * DAY)
            await node.keep_house()
            await node.keep_house()
            seen += [f"{day}: {kind}" for kind, _, _ in told]
            assert {(peer, name) for _, peer, name in told} <= {(pair.receiver.id, "kh-th/1")}
            told.clear()
        # The clock of the test is an hour and a little ahead of the day.
        assert seen == [
            "10: agreement_ends_in_90_days",
            "70: agreement_ends_in_30_days",
            "93: agreement_ends_in_7_days",
        ]
        pair.sender.kill()
        await pair.sender.start()
        node = node_of(pair.sender)
        told = warnings(node)
        await node.keep_house()
        assert [kind for kind, _, _ in told] == ["agreement_ends_in_7_days"]

    run_virtually(main)


def test_status_and_health_name_what_ends() -> None:
    """What ends within ninety days is a field of status and health; what a later version continues is not."""

    async def main() -> None:
        pair = Pair()
        versions = [agreement(INDEXES, 1, -DAY, LIFE), agreement(INDEXES, 2, DAY, LIFE)]
        other = agreement((1, 0), 1, -DAY, 400 * DAY)
        node, _ = await pair.start([*versions, other], [])
        assert (await ask(node, "status"))["agreements_ending"] == []
        pair.sender.skew = 80.0 * DAY
        expected = {"agreement": "kh-th/2", "valid_until": "2027-03-03T00:00:00Z", "days_left": 19, "warning": 30}
        for op in ("status", "health"):
            assert (await ask(node, op))["agreements_ending"] == [expected]

    run_virtually(main)


def test_end_is_an_entry_of_the_log_once() -> None:
    """The end of each version is logged when the clock has passed it, and never again, also after a start."""

    async def main() -> None:
        pair = Pair()
        node, _ = await pair.start(*[[agreement(INDEXES, 1, -DAY, LIFE), agreement(INDEXES, 2, DAY, LIFE)]] * 2)
        await node.keep_house()
        pair.sender.skew = float(LIFE)
        for _ in range(2):
            await node_of(pair.sender).keep_house()
            pair.sender.kill()
            await pair.sender.start()
        await node_of(pair.sender).keep_house()
        assert events(pair.sender, "agreement_ended") == [("agreement_ended", "node", None)] * 2
        assert await pair.sender.verify() == []

    run_virtually(main)
