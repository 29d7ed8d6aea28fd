"""Checkpoints: signed over what is on disk, and never dated before it."""

from __future__ import annotations

import asyncio

from exchange.core import wire
from tests.node.pair import Pair
from tests.simulation.loop import run_virtually


def test_no_checkpoint_is_dated_before_its_newest_entry() -> None:
    """Where the clock was set back, the next checkpoint comes after the step is in the log."""

    async def main() -> list[bool]:
        pair = Pair()
        await pair.start()
        await pair.submit()
        pair.sender.skew = -3_600.0
        await asyncio.sleep(5)
        rows = pair.sender.connection.execute("SELECT size, time FROM checkpoints ORDER BY size").fetchall()
        dated: list[bool] = []
        for size, text in rows:
            (leaf,) = pair.sender.connection.execute("SELECT leaf FROM leaves WHERE seq = ?", (size - 1,)).fetchone()
            entry = wire.Fields(wire.parse_json(leaf, max_bytes=4_096), "leaf")
            dated.append(wire.parse_time(text) >= wire.parse_time(entry.text("time")))
        assert len(rows) >= 2
        return dated

    assert all(run_virtually(main))
