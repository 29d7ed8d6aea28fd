"""Deletion receipts that do not count: what they say is not so, or nobody asked for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.node.pair import Pair, node_of, until
from tests.node.test_duties import delivered, duty, send
from tests.node.test_erasing import copy, events
from tests.node.test_obligations import Asked, listed
from tests.simulation.loop import run_virtually

if TYPE_CHECKING:
    from exchange.core.wire import JsonObject


def test_a_receipt_for_something_else_changes_nothing() -> None:
    """A peer that says it erased what it was never sent raises an alarm; the message stays as it is."""

    async def main() -> tuple[str, list[str], str]:
        pair = Pair()
        await pair.start()
        ident = await delivered(pair)
        await send(node_of(pair.receiver), pair.sender.id, duty("deletion-receipt", ident))
        await until(lambda: bool(events(pair.sender, "alarm")))
        return pair.status(ident), [leaf["code"] for leaf in events(pair.sender, "alarm")], copy(pair.sender, ident)[0]

    assert run_virtually(main) == ("accepted", ["duty.receipt"], "")


async def true_receipt(pair: Pair, ident: str, why: str) -> JsonObject:
    """A receipt with the digest and the root of what the receiver has."""
    record = pair.row(ident).record
    assert record.digest is not None
    statement = await node_of(pair.sender).reader.statement(record.digest, pair.row(ident).case_id)
    written = duty("deletion-receipt", ident)
    content = {**cast("Any", written)["content"], "envelope": record.digest, "root": statement.root, "why": why}
    return {**written, "content": content}


@pytest.mark.parametrize("why", ["recall", "consent_withdrawn", "retention"])
def test_a_receipt_that_nobody_asked_for_changes_nothing(why: str) -> None:
    """Neither a recall that never was nor a retention that is not over counts: an alarm; the answer is still due."""

    async def main() -> None:
        pair = Asked(1.0)
        await pair.begin()
        ident = await pair.ask()
        before = await listed(pair.sender)
        await send(node_of(pair.receiver), pair.sender.id, await true_receipt(pair, ident, why))
        await until(lambda: bool(events(pair.sender, "alarm")))
        assert [leaf["code"] for leaf in events(pair.sender, "alarm")] == ["duty.receipt"]
        assert (pair.status(ident), copy(pair.sender, ident)[0]) == ("accepted", "")
        assert ([item["id"] for item in before], await listed(pair.sender)) == ([ident], before)
        assert events(pair.sender, "erased_by_peer") == []

    run_virtually(main)
