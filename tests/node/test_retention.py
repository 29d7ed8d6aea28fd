"""Retention, legal holds and clocks that cannot be believed."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from exchange.core.errors import LocalError, PeerError
from tests.node.pair import Pair, node_of, until
from tests.node.test_duties import delivered
from tests.node.test_erasing import call, copy, events, findings, recall, remains
from tests.simulation.drafts import draft
from tests.simulation.loop import run_virtually

if TYPE_CHECKING:
    from tests.simulation.host import Host

DAY = 86_400


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weeks pass here: the node looks round every five minutes, which is often enough."""
    monkeypatch.setattr("exchange.node.node.HOUSEKEEPING_SECONDS", 300.0)
    monkeypatch.setattr("exchange.node.node.CHECKPOINT_SECONDS", 300.0)


async def kept_for(pair: Pair, days: int) -> str:
    """A message that may be kept so many days."""
    written = draft("acknowledgement", 1, retention_days=days)
    ident = str((await node_of(pair.sender).sender.submit(written, [pair.receiver.id], []))["id"])
    await until(lambda: pair.status(ident) == "accepted")
    return ident


async def hold(pair: Pair, ident: str, days: int, reference: str = "EX-1", **args: object) -> Any:  # noqa: ANN401
    until_day = (pair.receiver.now() + timedelta(days=days)).date().isoformat()
    told = {"id": ident, "court": "Invented court", "reference": reference, "until": until_day, "actor": "officer-2"}
    return await call(pair.receiver, "hold_add", **{**told, **args})


def notices(host: Host) -> list[tuple[str, str | None]]:
    """Hold notices that a machine received: about what, in reply to what."""
    query = "SELECT about, in_reply_to FROM incoming WHERE duty = 'hold-notice' ORDER BY rowid"
    return [(about, reply) for about, reply in host.connection.execute(query)]


def test_a_message_is_erased_when_its_days_are_over() -> None:
    """It goes by itself, not a day early, and its originator gets a receipt; its own status stays what it was."""

    async def main() -> tuple[str, str, tuple[str, str | None, str | None], Any]:
        pair = Pair()
        await pair.start()
        ident = await kept_for(pair, 3)
        other = await kept_for(pair, 30)
        await asyncio.sleep(3 * DAY - 600)
        before = copy(pair.receiver, ident)[0]
        await asyncio.sleep(1200)
        await until(lambda: copy(pair.sender, ident)[0] == "erased", 3_600)
        assert remains(pair.receiver, ident) == (b"", None)
        assert remains(pair.receiver, other)[1] is not None
        assert await findings(pair.receiver) == []
        shown = cast("Any", await node_of(pair.sender).reader.show(ident, "officer"))
        return before, shown["status"], copy(pair.sender, ident), "content" in shown

    before, status, (stage, why, _), content = run_virtually(main)
    assert (before, status, stage, why, content) == ("", "accepted", "erased", "retention", True)


def test_a_receipt_of_retention_is_logged_at_both_ends() -> None:
    """The entries name the same envelope and say why."""

    async def main() -> list[list[str]]:
        pair = Pair()
        await pair.start()
        ident = await kept_for(pair, 1)
        await asyncio.sleep(DAY)
        await until(lambda: copy(pair.sender, ident)[0] == "erased", 3_600)
        pairs = ((pair.receiver, "erased"), (pair.sender, "erased_by_peer"))
        return [[leaf["subject"] + leaf["code"] for leaf in events(host, name)] for host, name in pairs]

    here, there = run_virtually(main)
    assert here == there
    assert len(here) == 1
    assert here[0].endswith("retention")


def test_a_duty_is_not_erased_by_time() -> None:
    """Recalls and receipts prove what happened: they outlive the days in their headers."""

    async def main() -> list[tuple[str | None, str | None]]:
        pair = Pair()
        await pair.start()
        ident = await delivered(pair)
        await recall(pair, ident)
        await until(lambda: pair.status(ident) == "recalled")
        query = "SELECT duty, keep_until FROM incoming WHERE duty IS NOT NULL"
        return [*pair.receiver.connection.execute(query), *pair.sender.connection.execute(query)]

    assert run_virtually(main) == [("recall", None), ("deletion-receipt", None)]


def test_a_hold_stops_a_recall_and_its_originator_is_told() -> None:
    """The copy stays readable while the hold lasts, and goes when it is released."""

    async def main() -> None:
        pair = Pair()
        await pair.start()
        ident = await delivered(pair)
        placed = await hold(pair, ident, 30)
        await until(lambda: len(notices(pair.sender)) == 1)
        asked = (await recall(pair, ident))[0]["recall"]
        await until(lambda: len(notices(pair.sender)) == 2)
        assert notices(pair.sender) == [(ident, None), (ident, asked)]
        assert (copy(pair.receiver, ident)[0], copy(pair.sender, ident)[0]) == ("due", "asked")
        (line,) = [item for item in cast("Any", await node_of(pair.sender).reader.outbox(9)) if item["id"] == ident]
        assert (line["status"], line["copy"]["held_until"]) == ("accepted", placed["until"])
        shown = cast("Any", await node_of(pair.receiver).reader.show(ident, "officer"))
        assert "content" in shown
        await call(pair.receiver, "hold_release", id=ident, actor="officer-2")
        await until(lambda: pair.status(ident) == "recalled")
        assert copy(pair.receiver, ident)[0] == "erased"
        assert [leaf["actor"] for leaf in events(pair.receiver, "hold_placed")] == ["officer-2"]
        (one,), (other,) = events(pair.receiver, "hold_placed"), events(pair.receiver, "hold_released")
        assert one["commitment"] == other["commitment"]
        assert await findings(pair.receiver) == []

    run_virtually(main)


def test_a_hold_suspends_retention_until_its_last_day() -> None:
    """A copy whose days are over waits for the end of the hold, and no second notice goes out for it."""

    async def main() -> tuple[str, int, str]:
        pair = Pair()
        await pair.start()
        ident = await kept_for(pair, 1)
        await hold(pair, ident, 5)
        await asyncio.sleep(4 * DAY)
        during = copy(pair.receiver, ident)[0]
        await asyncio.sleep(3 * DAY)
        await until(lambda: copy(pair.sender, ident)[0] == "erased", 3_600)
        return during, len(notices(pair.sender)), copy(pair.receiver, ident)[0]

    assert run_virtually(main) == ("due", 1, "erased")


def test_of_several_holds_each_counts() -> None:
    """Releasing one by its reference leaves the others; the list shows all, court and reference sealed on disk."""

    async def main() -> None:
        pair = Pair()
        await pair.start()
        ident = await delivered(pair)
        await hold(pair, ident, 30, "EX-1")
        await hold(pair, ident, 10, "EX-2")
        await recall(pair, ident)
        await until(lambda: copy(pair.receiver, ident)[0] == "due")
        await call(pair.receiver, "hold_release", id=ident, reference="EX-1", actor="officer-2")
        await asyncio.sleep(600)
        assert copy(pair.receiver, ident)[0] == "due"
        listed = await call(pair.receiver, "hold_list", id=ident)
        assert [(item["reference"], item["released"] is None) for item in listed] == [("EX-1", False), ("EX-2", True)]
        rows = pair.receiver.connection.execute("SELECT detail FROM holds").fetchall()
        assert not any(b"Invented" in detail or b"EX-" in detail for (detail,) in rows)
        with pytest.raises(PeerError) as caught:
            await call(pair.receiver, "hold_release", id=ident, reference="EX-1", actor="officer-2")
        assert caught.value.code == "input.no_hold"

    run_virtually(main)


def test_a_hold_that_makes_no_sense_is_refused() -> None:
    """No such message, one of our own, one that is erased, a day that is past, a word for a day, an empty court."""

    async def main() -> list[str]:
        pair = Pair()
        await pair.start()
        ident, gone = await delivered(pair), await delivered(pair)
        await recall(pair, gone)
        await until(lambda: pair.status(gone) == "recalled")
        codes: list[str] = []
        for args in (
            {"id": "9" * 32},
            {"id": "word"},
            {"id": gone},
            {"id": ident, "until": "2020-01-01"},
            {"id": ident, "until": "soon"},
            {"id": ident, "court": "x" * 201},
            {"id": ident, "reference": "x" * 201},
        ):
            with pytest.raises(LocalError) as caught:
                await hold(pair, args["id"], 3, **args)
            codes.append(caught.value.code)
        return codes

    assert run_virtually(main) == [*["input.unknown_id"] * 2, "input.erased", *["input.hold"] * 4]


def test_a_message_has_a_bounded_number_of_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the bound is refused before anything is written."""
    monkeypatch.setattr("exchange.node.holds.MAX_HOLDS", 1)

    async def main() -> str:
        pair = Pair()
        await pair.start()
        ident = await delivered(pair)
        await hold(pair, ident, 3)
        with pytest.raises(PeerError) as caught:
            await hold(pair, ident, 3)
        return caught.value.code

    assert run_virtually(main) == "relay.quota"


# -- the clock


def test_a_clock_that_leaps_erases_nothing() -> None:
    """Wall time runs a year ahead of the steady clock: retention pauses, and no hold ends, until somebody confirms."""

    async def main() -> None:
        pair = Pair()
        await pair.start()
        ident, held = await kept_for(pair, 3), await delivered(pair)
        await hold(pair, held, 3)
        pair.cut(cut=True)
        pair.receiver.skew = 300 * DAY
        await asyncio.sleep(600)
        assert node_of(pair.receiver).steadiness.doubtful
        assert (copy(pair.receiver, ident)[0], copy(pair.receiver, held)[0]) == ("", "kept")
        assert [leaf["code"] for leaf in events(pair.receiver, "alarm")] == ["node.clock_doubt"]
        pair.receiver.kill()
        await pair.receiver.start()
        await asyncio.sleep(600)
        assert copy(pair.receiver, ident)[0] == ""
        assert await call(pair.receiver, "clock", confirm=True, actor="operator") == {"doubted_since": None}
        await until(lambda: copy(pair.receiver, ident)[0] == "erased")
        assert await call(pair.receiver, "clock", confirm=True, actor="operator") == {"doubted_since": None}
        assert [leaf["code"] for leaf in events(pair.receiver, "configured")] == ["clock_confirmed"]

    run_virtually(main)


def test_a_start_long_after_the_last_entry_waits_for_a_peer_that_confirms_the_time() -> None:
    """A node that was away for ten days erases nothing by its clock before a partner has signed the same time."""

    async def main() -> tuple[bool, str, str]:
        pair = Pair()
        await pair.start()
        ident = await kept_for(pair, 3)
        pair.receiver.kill()
        await asyncio.sleep(10 * DAY)
        pair.cut(cut=True)
        await pair.receiver.start()
        await asyncio.sleep(600)
        node = node_of(pair.receiver)
        doubtful, before = node.steadiness.doubtful, copy(pair.receiver, ident)[0]
        pair.cut(cut=False)
        await node.sender.submit(draft("acknowledgement", 1), [pair.sender.id], [])
        await until(lambda: copy(pair.receiver, ident)[0] == "erased", 3_600)
        return doubtful, before, json.dumps(node.steadiness.doubtful)

    assert run_virtually(main) == (True, "", "false")


def test_a_recall_does_not_wait_for_a_clock() -> None:
    """Its originator asks, not the time: a doubtful clock does not stop it."""

    async def main() -> bool:
        pair = Pair()
        await pair.start()
        ident = await delivered(pair)
        pair.receiver.skew = 2 * 3_600
        await asyncio.sleep(600)
        await recall(pair, ident)
        await until(lambda: copy(pair.receiver, ident)[0] == "erased")
        return node_of(pair.receiver).steadiness.doubtful

    assert run_virtually(main)
