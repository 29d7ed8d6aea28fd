"""Power cuts: nodes under load are killed at random moments, and nothing that was acknowledged is lost or doubled.

Real processes, real fsync, ``kill -9``. Both nodes send and receive: questions, acknowledgements of what was received,
small evidence files. One seed makes the moments; what the machine does with them differs from run to run.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final

import pytest

from exchange.cli import demo_story as story
from exchange.core.audit import Event
from exchange.core.delivery import DELIVERED
from exchange.core.errors import LocalError
from exchange.node.records import incoming_from_row, outgoing_from_row
from tests.integration import nodes as harness

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from exchange.cli.demo_nodes import TrainingNode
    from exchange.cli.demo_records import Log

pytestmark = pytest.mark.slow

SEED: Final = 20261123
KILLS: Final = 50
OFFICERS: Final = 4  # at each node
A_CYCLE: Final = 48  # submissions between two kills, of both nodes together
START_UP: Final = 5  # every so many kills, the node is killed again while it starts
START_SECONDS: Final = 1.5  # about what a start takes
SETTLE_SECONDS: Final = 120.0


@dataclass
class Load:
    """Officers at two nodes, who go on as long as there is something to do and somebody to do it for."""

    nodes: dict[str, TrainingNode]
    random: random.Random
    acknowledged: dict[str, set[str]] = field(default_factory=lambda: {"TH": set(), "KH": set()})
    submitted: int = 0
    unanswered: int = 0  # the node was killed before it could say
    up: dict[str, asyncio.Event] = field(default_factory=lambda: {"TH": asyncio.Event(), "KH": asyncio.Event()})
    tokens: asyncio.Queue[None] = field(default_factory=asyncio.Queue)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def officer(self, country: str) -> None:
        """Submit whenever there is a token, at a node that is there."""
        to = "KH" if country == "TH" else "TH"
        while True:
            await self.tokens.get()
            await self.up[country].wait()
            self.submitted += 1
            try:
                ident = await self._submit(self.nodes[country], country, to)
            except LocalError as error:
                if error.code not in {"node.not_running", "node.stopping"}:
                    raise
                self.unanswered += 1
            else:
                self.acknowledged[country].add(ident)
            self.done.set()

    async def _submit(self, node: TrainingNode, country: str, to: str) -> str:
        draft = story.information_request(story.case_of(country, self.random.randrange(1, 9)), "Invented load.")
        args: dict[str, Any] = {"draft": draft, "to": [to]}
        match self.random.randrange(10):
            case 0:
                data = self.random.randbytes(self.random.randrange(1, 60_000))
                args["attachments"] = [story.attachment(country, await node.stage(data))]
            case 1 | 2:
                for item in await node.call("inbox", {"limit": 1}):
                    args["draft"] = story.acknowledgement(country, item["case"], "own", item["id"])
            case 3:
                args |= {"wait": "accepted", "seconds": 1}
        result = await node.call("send", args)
        assert not result.get("refused"), result
        ident: str = result["id"]
        return ident

    async def progress(self, count: int) -> None:
        """Until ``count`` more submissions are over, or none comes: who submits may be down."""
        for _ in range(count):
            self.done.clear()
            try:
                await asyncio.wait_for(self.done.wait(), 0.5)
            except TimeoutError:
                return


async def kill_and_restart(load: Load, country: str, *, twice: bool) -> None:
    """Kill a node and start it again; ``twice`` kills it once more at some moment of its start."""
    node = load.nodes[country]
    load.up[country].clear()
    await node.kill()
    if twice:
        starting = asyncio.create_task(node.start())
        await asyncio.wait({starting}, timeout=load.random.uniform(0.0, START_SECONDS))
        node.cut()
        await asyncio.gather(starting, return_exceptions=True)
        await node.kill()
    await node.start()
    load.up[country].set()


async def test_nothing_acknowledged_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    """After 50 kills under load every acknowledged message is exactly once at both ends, and stores and logs verify."""
    async with harness.running(tmp_path) as nodes:
        load = Load(nodes, random.Random(SEED))
        for event in load.up.values():
            event.set()
        officers = [asyncio.create_task(load.officer(c)) for c in nodes for _ in range(OFFICERS)]
        kills = 0
        for country in cycle(nodes):
            for _ in range(A_CYCLE - load.tokens.qsize()):
                load.tokens.put_nowait(None)
            await load.progress(load.random.randrange(A_CYCLE))
            twice = kills % START_UP == START_UP - 2
            await kill_and_restart(load, country, twice=twice)
            kills += 2 if twice else 1
            if kills >= KILLS:
                break
        await settled(nodes)
        for task in officers:
            task.cancel()
        results = await asyncio.gather(*officers, return_exceptions=True)
        assert [result for result in results if not isinstance(result, asyncio.CancelledError)] == []
        logs = await harness.checked(nodes)
        figures = {"kills": kills, "tries": load.submitted, "unanswered": load.unanswered} | count(load, logs)
    record_property("kill", str(figures))
    with capsys.disabled():
        print(f"\nkill -9: {figures}")  # noqa: T201 - the figures are the result
    assert figures["acknowledged"] > KILLS
    assert (figures["lost"], figures["duplicated"], figures["unfinished"]) == (0, 0, 0)
    assert figures["present"] >= figures["acknowledged"]


async def settled(nodes: dict[str, TrainingNode]) -> None:
    """Until nothing waits to be sent any more, in either direction."""

    async def nothing_waits() -> bool:
        return not any(
            harness.rows(node, "outgoing_open", peer.id, 1) or harness.rows(node, "blobs_to_send", peer.id, 1)
            for node in nodes.values()
            for peer in nodes.values()
        )

    await harness.until(nothing_waits, "everything is delivered", SETTLE_SECONDS)


def count(load: Load, logs: dict[str, Log]) -> dict[str, int]:
    """What became of the messages, by the stores of both ends and by both logs."""
    figures: Counter[str] = Counter(lost=0, duplicated=0, unfinished=0, present=0)
    for country, peer in (("TH", "KH"), ("KH", "TH")):
        sender, recipient = load.nodes[country], load.nodes[peer]
        sent = [outgoing_from_row(row).record for row in harness.rows(sender, "all_outgoing")]
        received = [incoming_from_row(row).record for row in harness.rows(recipient, "all_incoming")]
        here: Counter[str] = Counter(item.id for item in sent)
        there: Counter[str] = Counter(item.id for item in received if item.status in DELIVERED)
        acknowledged = load.acknowledged[country]
        figures["acknowledged"] += len(acknowledged)
        figures["present"] += sum(here[ident] == there[ident] == 1 for ident in here.keys() | there.keys())
        figures["lost"] += sum(not (here[ident] and there[ident]) for ident in acknowledged)
        figures["unfinished"] += sum(item.status not in DELIVERED for item in sent)
        figures["duplicated"] += sum(number > 1 for number in (*here.values(), *there.values()))
        # The logs are the other witness: each was sealed once here, received once there, and its receipt came once.
        figures["duplicated"] += doubled(logs[country], Event.SEALED) + doubled(logs[country], Event.DELIVERED)
        figures["duplicated"] += doubled(logs[peer], Event.RECEIVED)
    return dict(figures)


def doubled(log: Log, event: Event) -> int:
    """Entries of one event about one subject, beyond the first."""
    subjects = [leaf.subject for leaf in log.entries if leaf.event is event]
    return len(subjects) - len(set(subjects))
