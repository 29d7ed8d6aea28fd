"""Duty messages between two nodes: they pass under what they are about, and under nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from exchange.core.duties import Duty
from exchange.node import planning
from tests.node.pair import INDEXES, Pair, node_of, until
from tests.simulation.drafts import draft
from tests.simulation.loop import run_virtually
from tests.simulation.people import agreement

if TYPE_CHECKING:
    import pytest

    from exchange.core.wire import JsonObject, MessageId
    from exchange.node.node import Node

HAD: Final = {"accepted", "answered"}  # its receipt may be here before one looks
CONTENT: Final[dict[str, dict[str, Any]]] = {
    "recall": {"reason": "error", "effect": "delete"},
    "correction": {"reason": "error", "replaced_by": "c" * 32},
    "deletion-receipt": {
        "envelope": "5" * 64,
        "root": "6" * 64,
        "deleted_at": "2026-11-23T00:27:37Z",
        "why": "recall",
    },
    "hold-notice": {"state": "placed", "court": "invented", "reference": "1", "until": "2027-01-01"},
    "onward-request": {"to": ["vn-fp1"], "purpose": "investigation", "reason": {"text": "why", "lang": "en"}},
    "onward-decision": {"decision": "refuse"},
}


def duty(kind: str, *about: str, **members: object) -> JsonObject:
    """A duty about these messages as an officer writes it."""
    written = {**draft("acknowledgement", 1), "kind": kind, "refers_to": [*about]}
    return cast("JsonObject", {**written, "content": {"kind": kind, **CONTENT[kind]}, **members})


async def send(node: Node, peer: str, written: JsonObject) -> tuple[str, str | None]:
    """The id of a message, and the code of what refuses to send it."""
    result = cast("Any", await node.sender.submit(written, [peer], []))
    return str(result["id"]), result["recipients"][0]["code"]


async def delivered(pair: Pair, kind: str = "acknowledgement") -> str:
    """A message that the receiver has."""
    ident = await pair.submit(kind)
    await until(lambda: pair.status(ident) == "accepted")
    return ident


def received(pair: Pair, ident: str) -> tuple[str, str | None, str | None, str | None]:
    query = "SELECT status, code, duty, about FROM incoming WHERE id = ?"
    row: tuple[str, str | None, str | None, str | None] = pair.receiver.connection.execute(query, (ident,)).fetchone()
    return row


def test_a_duty_passes_without_a_permit_and_is_not_counted() -> None:
    """No clause names the kind, and no quota is used up at either end; the records say what it is about."""

    async def main() -> None:
        pair = Pair()
        await pair.start()
        about = await delivered(pair)
        before = [h.connection.execute("SELECT sum(used) FROM quotas").fetchone() for h in (pair.sender, pair.receiver)]
        for kind in ("recall", "correction"):
            ident, code = await send(node_of(pair.sender), pair.receiver.id, duty(kind, about))
            assert code is None
            await until(lambda ident=ident: pair.status(ident) in HAD)  # type: ignore[misc]
            assert received(pair, ident)[1:] == (None, kind, about)
            assert (pair.row(ident).duty, pair.row(ident).about, pair.row(ident).relied) == (kind, about, "talk")
        after = [h.connection.execute("SELECT sum(used) FROM quotas").fetchone() for h in (pair.sender, pair.receiver)]
        assert before == after == [(1,), (1,)]

    run_virtually(main)


def test_a_duty_passes_when_the_agreement_is_over() -> None:
    """After the end nothing new is sent under an agreement, and what was sent under it is still taken back."""

    async def main() -> tuple[str | None, str | None]:
        short = agreement(INDEXES, 1, -86_400, 86_400)
        pair = Pair()
        await pair.start(here=[short], there=[short])
        about = await delivered(pair)
        await asyncio.sleep(86_400)
        _, refused = await send(node_of(pair.sender), pair.receiver.id, draft("acknowledgement", 1))
        ident, code = await send(node_of(pair.sender), pair.receiver.id, duty("recall", about))
        await until(lambda: pair.status(ident) in HAD)
        return refused, code

    assert run_virtually(main) == ("agreement.not_in_force", None)


def test_a_recipient_asks_and_the_originator_decides() -> None:
    """Duties of both sides pass, and a decision that replies to the request answers it."""

    async def main() -> str:
        pair = Pair()
        await pair.start()
        about = await delivered(pair)
        there, here = node_of(pair.receiver), node_of(pair.sender)
        asked, code = await send(there, pair.sender.id, duty("onward-request", about))
        assert code is None
        query = "SELECT status FROM incoming WHERE id = ?"
        await until(lambda: pair.sender.connection.execute(query, (asked,)).fetchone() is not None)
        decision = duty("onward-decision", about, in_reply_to=asked)
        ident, code = await send(here, pair.receiver.id, decision)
        assert code is None
        await until(lambda: pair.status(ident) == "accepted")
        (status,) = pair.receiver.connection.execute("SELECT status FROM outgoing WHERE id = ?", (asked,)).fetchone()
        return str(status)

    assert run_virtually(main) == "answered"


def test_a_duty_that_does_not_fit_is_not_sent() -> None:
    """The sender's own records refuse it, before anything is sealed, with the code that a dry run shows too."""

    async def main() -> list[str | None]:
        pair = Pair()
        await pair.start()
        about = await delivered(pair)
        here, there = node_of(pair.sender), node_of(pair.receiver)
        recall, _ = await send(here, pair.receiver.id, duty("recall", about))
        await until(lambda: pair.status(recall) in HAD)
        pair.cut(cut=True)
        waiting = await pair.submit()
        codes = [
            (await send(node, peer, written))[1]
            for node, peer, written in (
                (here, pair.receiver.id, duty("recall", about, recall)),
                (here, pair.receiver.id, duty("recall", "9" * 32)),
                (here, pair.receiver.id, duty("recall", waiting)),
                (here, pair.receiver.id, duty("recall", recall)),
                (here, pair.receiver.id, duty("onward-request", about)),
                (there, pair.sender.id, duty("recall", about)),
                (there, pair.sender.id, duty("deletion-receipt", about, in_reply_to=about)),
                (there, pair.sender.id, duty("deletion-receipt", about, in_reply_to=recall)),
            )
        ]
        await here.block(pair.receiver.id, blocked=True, actor="operator")
        return [*codes, (await send(here, pair.receiver.id, duty("recall", about)))[1]]

    assert run_virtually(main) == [
        "duty.form",
        "envelope.reference",
        "envelope.reference",
        "duty.subject",
        "duty.side",
        "duty.side",
        "duty.request",
        None,
        "envelope.blocked",
    ]


def test_the_receiver_judges_by_its_own_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer whose program sends what does not fit gets a signed refusal, and nothing is held for later."""

    async def main() -> tuple[str, str | None, str | None, str | None]:
        pair = Pair()
        await pair.start()
        about = await delivered(pair)
        relied = pair.row(about)
        lie = Duty("onward-request", cast("MessageId", "9" * 32), relied.agreement, relied.relied)

        async def find(*_: object) -> Duty:
            return lie

        monkeypatch.setattr(planning, "find_duty", find)
        ident, _ = await send(node_of(pair.sender), pair.receiver.id, duty("onward-request", "9" * 32))
        await until(lambda: pair.status(ident) == "refused")
        return received(pair, ident)

    assert run_virtually(main) == ("refused", "envelope.reference", None, None)


def test_a_duty_that_waited_for_a_prekey_is_sealed_as_one() -> None:
    """A recall written while the recipient had no live prekey leaves as soon as it has one, under what it is about."""

    async def main() -> tuple[str, str | None, str | None, str | None]:
        pair = Pair()
        await pair.start()
        about = await delivered(pair)
        node = node_of(pair.sender)
        bundle = node.registry.prekeys.pop(pair.receiver.id)
        pair.cut(cut=True)
        ident, _ = await send(node, pair.receiver.id, duty("recall", about))
        assert pair.row(ident).record.digest is None
        node.registry.prekeys[pair.receiver.id] = bundle
        pair.cut(cut=False)
        await until(lambda: pair.status(ident) in HAD)
        return received(pair, ident)

    _, code, kind, _ = run_virtually(main)
    assert (code, kind) == (None, "recall")


def test_a_duty_whose_agreement_is_not_here_is_not_sent() -> None:
    """The agreement is gone from the store; that the peer's card does not name the kind stops nothing."""

    async def main() -> list[str | None]:
        pair = Pair()
        await pair.start()
        about = await delivered(pair)
        node = node_of(pair.sender)
        card = node.registry.cards[pair.receiver.id]
        object.__setattr__(card, "accepts", ("acknowledgement/v1",))
        _, unnamed = await send(node, pair.receiver.id, duty("recall", about))
        node.registry.agreements.clear()
        _, gone = await send(node, pair.receiver.id, duty("recall", about))
        return [unnamed, gone]

    assert run_virtually(main) == [None, "agreement.unknown"]
