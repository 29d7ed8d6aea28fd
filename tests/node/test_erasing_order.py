"""What cannot be done now, for a peer that does not let it, never stands before what can."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from exchange.node import copies
from exchange.node.sending import Sender
from tests.node.pair import Pair, node_of, until
from tests.node.test_duties import delivered
from tests.node.test_erasing import call, copy, recall
from tests.node.test_following import recall as recall_original
from tests.node.test_following import recalled
from tests.node.test_retention import DAY, kept_for
from tests.node.trio import CONSENT, PLAIN, VN, Trio
from tests.simulation.drafts import draft
from tests.simulation.loop import run_virtually

if TYPE_CHECKING:
    from exchange.node.ledger import Transaction

FEW = 2


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look takes few rows of each kind, and days pass fast."""
    monkeypatch.setattr(copies, "MAX_AT_ONCE", FEW)
    monkeypatch.setattr("exchange.node.node.HOUSEKEEPING_SECONDS", 300.0)
    monkeypatch.setattr("exchange.node.node.CHECKPOINT_SECONDS", 300.0)


def hold_back(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Duties about these messages do not leave."""
    stuck: set[str] = set()
    submit = Sender.submit_within

    async def some(self: Sender, tx: Transaction, written: Any, peer: Any) -> Any:  # noqa: ANN401 - as it is
        return None if stuck & set(written["refers_to"]) else await submit(self, tx, written, peer)

    monkeypatch.setattr(Sender, "submit_within", some)
    return stuck


def test_what_nobody_ever_accepted_does_not_stop_an_erasing() -> None:
    """A node that took back more than a look takes of its own still erases what it is asked to."""

    async def main() -> str:
        pair = Pair()
        await pair.start()
        ident = await delivered(pair)
        pair.cut(cut=True)
        node = node_of(pair.receiver)
        for _ in range(FEW + 1):
            own = cast("Any", await node.sender.submit(draft("acknowledgement", 1), [pair.sender.id], []))["id"]
            told = await call(pair.receiver, "recall", id=own, reason="error", actor="officer-1")
            assert told["recipients"][0]["done"] == "taken_back"
        await asyncio.sleep(60)
        pair.cut(cut=False)
        await recall(pair, ident)
        await until(lambda: pair.status(ident) == "recalled", 3_600)
        return copy(pair.receiver, ident)[0]

    assert run_virtually(main) == "erased"


def test_receipts_for_a_blocked_peer_do_not_stop_an_erasing() -> None:
    """More copies than a look takes wait for receipts that may not leave; what is due later is erased."""

    async def main() -> tuple[list[str], list[bool]]:
        pair = Pair()
        await pair.start()
        idents = [await kept_for(pair, days) for days in (*[1] * (FEW + 1), 2)]
        there = node_of(pair.receiver)
        there.registry.blocked.add(pair.sender.id)
        await asyncio.sleep(2 * DAY + 900)
        stages = [copy(pair.receiver, ident)[0] for ident in idents]
        there.registry.blocked.clear()
        await asyncio.sleep(3_600)
        return stages, [copy(pair.sender, ident)[2] is not None for ident in idents]

    assert run_virtually(main) == (["erased"] * (FEW + 2), [True] * (FEW + 2))


def test_a_receipt_that_cannot_be_sent_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Receipts that are refused again and again keep no other one back."""
    stuck = hold_back(monkeypatch)

    async def main() -> tuple[list[bool], list[bool]]:
        pair = Pair()
        await pair.start()
        idents = [await kept_for(pair, days) for days in (*[1] * (FEW * 2), 2)]
        stuck.update(idents)
        await asyncio.sleep(2 * DAY + 900)
        before = [copy(pair.receiver, ident)[2] is None for ident in idents]
        stuck.discard(idents[-1])
        await asyncio.sleep(3_600)
        return before, [copy(pair.receiver, ident)[2] is None for ident in idents]

    assert run_virtually(main) == ([True] * (FEW * 2 + 1), [*[True] * (FEW * 2), False])


def test_a_peer_whose_card_does_not_name_receipts_is_sent_one() -> None:
    """Duties belong to the protocol: a card that leaves them out does not keep an originator from being told."""

    async def main() -> str:
        pair = Pair()
        await pair.start()
        ident = await delivered(pair)
        card = node_of(pair.receiver).registry.cards[pair.sender.id]
        object.__setattr__(card, "accepts", ("acknowledgement/v1",))
        await recall(pair, ident)
        await until(lambda: pair.status(ident) == "recalled", 600)
        return copy(pair.sender, ident)[0]

    assert run_virtually(main) == "erased"


def test_what_was_passed_on_and_cannot_be_recalled_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """More recalls than a look takes may not leave; another one is sent all the same."""
    stuck = hold_back(monkeypatch)

    async def main() -> tuple[list[bool], list[tuple[str, str]]]:
        trio = Trio(CONSENT, PLAIN)
        await trio.start()
        given = []
        for _ in range(FEW * 2 + 1):
            ident = await trio.case()
            await trio.decide(await trio.ask(ident), grant=True)
            given.append((ident, str((await trio.forward(ident))["id"])))
        *others, (_, passed) = given
        stuck.update(other for _, other in others)
        for original, _ in given:
            await recall_original(trio, original, "error")
            await asyncio.sleep(1)
        await asyncio.sleep(3_600)
        return [recalled(trio, VN, other) == [] for _, other in others], recalled(trio, VN, passed)

    assert run_virtually(main) == ([True] * FEW * 2, [("erased", "recall")])
