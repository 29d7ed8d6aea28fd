"""Response clocks of real nodes: the same at both ends, told once, ended by an answer that arrived."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from exchange.core.audit import Event, parse_leaf
from exchange.core.wire import parse_time
from tests.node.pair import INDEXES, Pair, node_of, until
from tests.simulation.drafts import draft
from tests.simulation.loop import run_virtually
from tests.simulation.people import agreement_of, person

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.host import Host

HOURS: Final = {"urgent_8h": 8, "urgent_3d": 72, "normal_7d": 168}
CLAUSES: Final = json.dumps(
    {
        "ask": {"kinds": ["information-request", "information-response", "acknowledgement"], "respond_within": HOURS},
        "tell": {"kinds": ["suspect"]},
    }
)
FAST: Final = 60.0  # an hour of the wall in a minute of the loop
LATE_EVENTS: Final = {Event.OVERDUE, Event.ESCALATED}


class Asked(Pair):
    """A pair whose agreement gives times for answers; ``news`` is what the operators were told."""

    def __init__(self, speed: float = FAST) -> None:
        super().__init__(speed)
        self.news: list[tuple[str, str]] = []

    async def begin(self) -> None:
        """Start both."""
        document = agreement_of(INDEXES, "clocks", CLAUSES)
        await self.start(here=[document], there=[document])
        self.hear()

    def hear(self) -> None:
        """Listen to what the operators are told."""

        def listener(at: str) -> Callable[[str, object, str, object], None]:
            return lambda kind, _, __, ___: self.news.append((at, kind))

        for host in (self.sender, self.receiver):
            node_of(host).queues.on_news = listener(host.id)

    async def ask(self, kind: str = "information-request", **members: object) -> str:
        """A message that arrives; its id."""
        return await self.say(self.sender, self.receiver, draft(kind, 1, **members))

    async def answer(self, ident: str) -> str:
        """The receiver's answer to a message, accepted."""
        return await self.say(self.receiver, self.sender, draft("information-response", 1, in_reply_to=ident))

    async def say(self, by: Host, to: Host, written: Any) -> str:  # noqa: ANN401 - a draft
        """Send a message and wait until it is accepted."""
        result: Any = await node_of(by).sender.submit(written, [to.id], [])
        query = "SELECT 1 FROM outgoing WHERE id = ? AND status <> 'queued' AND status <> 'sent'"
        await until(lambda: by.connection.execute(query, (result["id"],)).fetchone() is not None, 1_000)
        return str(result["id"])


async def listed(host: Host) -> list[dict[str, Any]]:
    """What a node says is due."""
    found: Any = await node_of(host).obligations.listed(host.now())
    return list(found)


async def clock_of(host: Host, direction: str, ident: str) -> dict[str, Any]:
    """The clock of one message, also where it was answered."""
    found: Any = await node_of(host).obligations.of(direction, [ident], host.now())
    (clock,) = found.values()
    return dict(clock)


def facts(clock: dict[str, Any]) -> tuple[Any, ...]:
    """What both ends must agree on."""
    return tuple(clock[name] for name in ("id", "urgency", "agreement", "clause", "accepted", "due", "answered"))


def hours_between(clock: dict[str, Any]) -> float:
    """How long the receiver has."""
    return (parse_time(clock["due"]) - parse_time(clock["accepted"])) / timedelta(hours=1)


def row_of(host: Host) -> tuple[Any, ...]:
    """The one message that asks, as its node stores it."""
    row: tuple[Any, ...] = host.connection.execute("SELECT * FROM clocks WHERE asked IS NOT NULL").fetchone()
    return row


def events(host: Host) -> list[Event]:
    """The events of a node's log."""
    return [parse_leaf(leaf).event for (leaf,) in host.connection.execute("SELECT leaf FROM leaves ORDER BY seq")]


def test_both_ends_compute_the_same_clock() -> None:
    """Whatever their clocks, the line and the urgency, both ends have the same time of acceptance, due and answered."""
    rng = random.Random(7)

    async def main() -> None:
        pair = Asked(rng.uniform(1, 2 * FAST))
        pair.receiver.skew, urgency = rng.uniform(-800, 800), rng.choice(list(HOURS))
        await pair.begin()
        ident = await pair.ask(urgency=urgency)
        here, there = await listed(pair.sender), await listed(pair.receiver)
        assert [facts(item) for item in here] == [facts(item) for item in there] != []
        assert (here[0]["owed"], there[0]["owed"]) == ("to us", "by us")
        assert hours_between(here[0]) == HOURS[urgency]
        await asyncio.sleep(rng.uniform(0, 60))
        await pair.answer(ident)
        ours, theirs = await clock_of(pair.sender, "out", ident), await clock_of(pair.receiver, "in", ident)
        assert facts(ours) == facts(theirs)
        assert (ours["answered"] is not None, ours["late"]) == (True, theirs["late"])
        assert (await listed(pair.sender), await listed(pair.receiver)) == ([], [])

    for _ in range(8):
        run_virtually(main)


def test_operator_is_told_of_each_state_once() -> None:
    """Reminders, due, overdue and escalation are told once at either end, and only lateness is an entry of the log."""

    async def main() -> tuple[list[tuple[str, str]], list[Event], list[dict[str, Any]]]:
        hour = 180
        pair = Asked(3_600 / hour)
        await pair.begin()
        ident = await pair.ask(urgency="urgent_8h")
        await asyncio.sleep(10 * hour)
        pair.sender.kill()
        await pair.sender.start()
        pair.hear()
        await asyncio.sleep(8 * hour)
        late = await listed(pair.receiver)
        await pair.answer(ident)
        await asyncio.sleep(8 * hour)
        told = [item for item in pair.news if item[1].startswith("answer_")]
        return told, [event for event in events(pair.receiver) if event in LATE_EVENTS], late

    told, logged, late = run_virtually(main)
    steps = ["answer_reminder", "answer_last_reminder", "answer_due", "answer_overdue", "answer_escalated"]
    assert [kind for at, kind in told if at == person(1).node] == steps
    assert [kind for at, kind in told if at == person(0).node] == steps
    assert logged == [Event.OVERDUE, Event.ESCALATED]
    assert (late[0]["state"], late[0]["duty_desk"], late[0]["late"]) == ("escalated", "invented", True)


def test_late_answer_stays_late() -> None:
    """An answer that came after its time ends the clock at both ends and is late at both."""

    async def main() -> list[dict[str, Any]]:
        pair = Asked()
        await pair.begin()
        ident = await pair.ask(urgency="urgent_8h")
        await asyncio.sleep(60 * 9)
        await pair.answer(ident)
        return [await clock_of(pair.sender, "out", ident), await clock_of(pair.receiver, "in", ident)]

    assert [(item["state"], item["late"]) for item in run_virtually(main)] == [("answered", True)] * 2


def test_acknowledgement_stops_no_clock_and_starts_none() -> None:
    """After an acknowledgement the answer is still due, and none is due to the acknowledgement."""

    async def main() -> list[list[str]]:
        pair = Asked()
        await pair.begin()
        ident = await pair.ask()
        await pair.say(pair.receiver, pair.sender, draft("acknowledgement", 1, in_reply_to=ident))
        found = [[item["id"] for item in await listed(host)] for host in (pair.sender, pair.receiver)]
        return [*found, [ident], [ident]]

    first, second, *expected = run_virtually(main)
    assert [first, second] == expected


def test_answer_counts_once_it_arrived() -> None:
    """A reply that waits for a dead line ends no clock; once it is accepted it does, at both ends."""

    async def main() -> list[int]:
        pair = Asked()
        await pair.begin()
        ident = await pair.ask()
        pair.cut(cut=True)
        reply = draft("information-response", 1, in_reply_to=ident)
        await node_of(pair.receiver).sender.submit(reply, [pair.sender.id], [])
        await asyncio.sleep(30)
        waiting = len(await listed(pair.receiver))
        pair.cut(cut=False)
        await until(lambda: "answered" in row_of(pair.sender) and "answered" in row_of(pair.receiver), 600)
        return [waiting, len(await listed(pair.receiver)), len(await listed(pair.sender))]

    assert run_virtually(main) == [1, 0, 0]


def test_question_in_reply_answers_and_asks() -> None:
    """Who asks back has answered, and is now the one to whom an answer is due."""

    async def main() -> list[tuple[str, str]]:
        pair = Asked()
        await pair.begin()
        ident = await pair.ask()
        back = draft("information-request", 1, in_reply_to=ident)
        await pair.say(pair.receiver, pair.sender, back)
        return [(host.id, item["owed"]) for host in (pair.sender, pair.receiver) for item in await listed(host)]

    assert run_virtually(main) == [(person(0).node, "by us"), (person(1).node, "to us")]


def test_what_was_taken_back_is_not_waited_for() -> None:
    """A recall ends the clock of the question at both ends."""

    async def main() -> list[int]:
        pair = Asked()
        await pair.begin()
        ident = await pair.ask()
        content = {"kind": "recall", "reason": "error", "effect": "delete"}
        written = {**draft("suspect", 1), "kind": "recall", "refers_to": [ident], "content": content}
        await pair.say(pair.sender, pair.receiver, written)
        clocks = await node_of(pair.sender).obligations.of("out", [ident], pair.sender.now())
        return [len(await listed(pair.sender)), len(await listed(pair.receiver)), len(clocks)]

    assert run_virtually(main) == [0, 0, 0]


def test_clause_without_a_time_starts_no_clock() -> None:
    """Where the clause gives no time for an answer, or not for this urgency, none is due and nothing is stored."""

    async def main() -> int:
        pair = Asked()
        await pair.begin()
        await pair.ask("suspect")
        rows: int = pair.sender.connection.execute("SELECT count(*) FROM clocks").fetchone()[0]
        return rows + len(await listed(pair.receiver))

    assert run_virtually(main) == 0


def test_held_question_starts_when_it_is_accepted() -> None:
    """A question that overtook the message it refers to starts its clock at its acceptance, the same at both ends."""

    async def main() -> list[Any]:
        pair = Asked(speed=1.0)
        await pair.begin()
        pair.cut(cut=True)
        sender = node_of(pair.sender).sender
        first: Any = await sender.submit(draft("suspect", 1), [pair.receiver.id], [])
        await until(lambda: node_of(pair.sender).queues.queue(pair.receiver.id).failures > 0)
        # An alert overtakes what it refers to.
        urgent = draft("information-request", 1, urgency="urgent_8h", refers_to=[first["id"]])
        await sender.submit(urgent, [pair.receiver.id], [])
        pair.cut(cut=False)
        await until(lambda: row_of(pair.sender)[7] is not None, 600)
        both = [facts(item) for host in (pair.sender, pair.receiver) for item in await listed(host)]
        return [*both, Event.HELD in events(pair.receiver)]

    ours, theirs, was_held = run_virtually(main)
    assert ours == theirs
    assert was_held is True
