"""What was passed on is taken back when its original is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from exchange.core.audit import Event
from exchange.core.errors import LocalError
from tests.node.pair import until
from tests.node.trio import CONSENT, KH, PLAIN, TH, VN, Trio
from tests.simulation.drafts import draft
from tests.simulation.loop import run_virtually
from tests.simulation.people import person


def recalled(trio: Trio, index: int, ident: str) -> list[tuple[str, str]]:
    """Stage and cause of the copies of a message, as a node has them."""
    query = "SELECT stage, why FROM copies WHERE id = ?"
    return trio.hosts[index].connection.execute(query, (ident,)).fetchall()


async def recall(trio: Trio, ident: str, reason: str) -> None:
    """Thailand takes its message back."""
    content = {"kind": "recall", "reason": reason, "effect": "delete"}
    await trio.say(TH, KH, {**draft("suspect", 1), "kind": "recall", "refers_to": [ident], "content": content})


def test_recall_follows_what_was_passed_on() -> None:
    """When the originator takes its message back, the copy that was passed on is recalled and erased as well."""

    async def main() -> None:
        trio = Trio(CONSENT, PLAIN)
        await trio.start()
        ident, other = await trio.case(), await trio.case()
        for sent in (ident, other):
            await trio.decide(await trio.ask(sent), grant=True)
        done, kept = await trio.forward(ident), await trio.forward(other)
        await recall(trio, ident, "risk_to_person")
        await until(lambda: recalled(trio, VN, str(done["id"])) == [("erased", "recall")], 120)
        await until(lambda: recalled(trio, KH, str(done["id"])) == [("erased", "recall")], 120)
        assert trio.kinds(VN) == ["recall"]
        assert [leaf.code for leaf in trio.leaves(KH, Event.RECALLED)] == ["risk_to_person"]
        assert (recalled(trio, VN, str(kept["id"])), recalled(trio, KH, other)) == ([], [])
        with pytest.raises(LocalError, match=r"input\.erased"):
            await trio.forward(ident)

    run_virtually(main)


def test_recall_overtakes_what_is_still_on_its_way() -> None:
    """What was passed on and has not arrived when its original is recalled is taken back, and never arrives."""

    async def main() -> None:
        trio = Trio(CONSENT, PLAIN)
        await trio.start()
        ident = await trio.case()
        await trio.decide(await trio.ask(ident), grant=True)
        trio.network.set_cut(person(KH).node, person(VN).node, cut=True)
        done = await trio.node(KH).onward.forward(ident, person(VN).node, "officer", dry_run=False)
        content = {"kind": "recall", "reason": "error", "effect": "delete"}
        written: Any = {**draft("suspect", 1), "kind": "recall", "refers_to": [ident], "content": content}
        await trio.node(TH).sender.submit(written, [person(KH).node], [])
        await until(lambda: recalled(trio, KH, done["id"]) == [("wanted", "recall")], 120)
        trio.network.set_cut(person(KH).node, person(VN).node, cut=False)
        await asyncio.sleep(600)
        assert trio.hosts[VN].connection.execute("SELECT count(*) FROM incoming").fetchone() == (0,)

    run_virtually(main)
