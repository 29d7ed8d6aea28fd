"""A peer that writes days and times as no calendar and no clock has them: it is refused, and the node goes on."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from exchange.core import answers
from exchange.core.errors import PeerError
from exchange.core.wire import parse_time
from exchange.node import planning
from tests.node.pair import Pair, node_of, until
from tests.node.test_duties import delivered, duty, send
from tests.node.test_obligations import Asked, listed
from tests.simulation.loop import run_virtually

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


@pytest.mark.parametrize(
    ("kind", "member", "value"),
    [
        ("hold-notice", "until", "2027-02-29"),
        ("hold-notice", "until", "0000-01-01"),
        ("deletion-receipt", "deleted_at", "2027-02-31T00:00:00Z"),
    ],
)
def test_a_day_that_does_not_exist_stops_no_node(
    kind: str, member: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer whose program does not look sends it all the same: it is refused for good, and the node goes on."""
    monkeypatch.setattr(planning, "check_calendar", lambda *_: None)

    async def main() -> None:
        pair = Pair()
        hostile, node = (await pair.start())[::-1]
        about = await delivered(pair)
        row = pair.row(about)
        assert row.record.digest is not None
        statement = await node.reader.statement(row.record.digest, row.case_id)
        written = cast("Any", duty(kind, about))
        if kind == "deletion-receipt":
            written["content"] |= {"envelope": row.record.digest, "root": statement.root}
        written["content"][member] = value
        ident, code = await send(hostile, pair.sender.id, written)
        assert code is None
        query = "SELECT status, code FROM outgoing WHERE id = ?"
        found = pair.receiver.connection.execute
        await until(lambda: found(query, (ident,)).fetchone()[0] not in {"queued", "sent"})
        assert found(query, (ident,)).fetchone() == ("refused", "schema.invalid")
        assert pair.sender.connection.execute("SELECT count(*) FROM copies").fetchone() == (0,)
        await delivered(pair)

    run_virtually(main)


def test_nobody_sends_a_day_that_does_not_exist() -> None:
    """The sender's own node refuses it before anything is queued."""

    async def main() -> None:
        pair = Pair()
        await pair.start()
        written = cast("Any", duty("hold-notice", await delivered(pair)))
        written["content"]["until"] = "2027-02-29"
        with pytest.raises(PeerError, match=r"schema\.invalid"):
            await send(node_of(pair.receiver), pair.sender.id, written)

    run_virtually(main)


def dated(monkeypatch: pytest.MonkeyPatch, node: str, date: Callable[[datetime], datetime]) -> None:
    """From now on the answers of a node are dated by ``date``."""
    encode = answers.encode_answers

    def encoded(**members: Any) -> bytes:  # noqa: ANN401 - as the function itself
        members["time"] = date(members["time"]) if members["sender"] == node else members["time"]
        return encode(**members)

    monkeypatch.setattr(answers, "encode_answers", encoded)


@pytest.mark.parametrize(("ahead", "counts"), [(14, 14), (16, 0), (300 * 1_440, 0)])
def test_an_answer_dated_ahead_puts_nothing_off(ahead: int, counts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Minutes that no honest clock is ahead do not count: the clock runs from when the acceptance came."""

    async def main() -> timedelta:
        pair = Asked(1.0)
        await pair.begin()
        dated(monkeypatch, pair.receiver.id, lambda now: now + timedelta(minutes=ahead))
        began = pair.sender.now()
        await pair.ask()
        (clock,) = await listed(pair.sender)
        await node_of(pair.sender).keep_house()
        return parse_time(str(clock["accepted"])) - began

    late = run_virtually(main)
    assert abs(late - timedelta(minutes=counts)) < timedelta(minutes=1)


def test_a_clock_at_the_end_of_the_calendar_stops_no_housekeeping() -> None:
    """Whatever time a clock started at, the node goes on, and lists it."""

    async def main() -> list[str]:
        pair = Asked(1.0)
        await pair.begin()
        await pair.ask()
        last = "9999-12-31T23:59:58Z"
        pair.sender.connection.execute("UPDATE clocks SET accepted = ?", (last,))
        await node_of(pair.sender).keep_house()
        return [str(item["due"]) for item in await listed(pair.sender)]

    assert run_virtually(main) == ["9999-12-31T23:59:59Z"]
