"""Messages of several nodes with one id: what an officer does lands on the one that they named, or nowhere."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from exchange.core.errors import LocalError, PeerError
from exchange.core.wire import Digest
from exchange.node.desk import Desk
from exchange.node.planning import read_draft
from tests.node.trio import CONSENT, KH, REASON, TH, VN, Trio
from tests.simulation.drafts import draft
from tests.simulation.loop import run_virtually
from tests.simulation.people import person

if TYPE_CHECKING:
    from collections.abc import Callable

COURT = {"court": "Court", "reference": "S/1", "until": date(2027, 1, 1).isoformat()}
ASKED: dict[str, Any] = {"to": [person(VN).node], "purpose": "prosecution", "reason": REASON["text"]}


async def say_as(trio: Trio, ident: str, by: int, to: int, patch: pytest.MonkeyPatch, number: int) -> None:
    """Send a message with an id of the sender's choice, as a hostile node can."""

    def chosen(*args: Any, random: Callable[[int], bytes], **others: Any) -> Any:  # noqa: ANN401 - as read_draft
        ids = [bytes.fromhex(ident)]
        return read_draft(*args, random=lambda size: ids.pop() if size == 16 and ids else random(size), **others)

    with patch.context() as patched:
        patched.setattr("exchange.node.sending.read_draft", chosen)
        assert await trio.say(by, to, draft("suspect", number, onward="with_consent")) == ident


def desk_of(trio: Trio, index: int) -> Desk:
    return Desk(trio.node(index), Digest("0" * 64), 10**6)


def test_id_of_two_nodes_is_refused_until_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each operation on a received message names the sender, or does nothing at all."""

    async def main() -> None:
        trio = Trio(CONSENT, CONSENT)
        await trio.start()
        ident = await trio.say(VN, KH, draft("suspect", 1, onward="with_consent"))
        await say_as(trio, ident, TH, KH, monkeypatch, 2)
        desk = desk_of(trio, KH)
        operations: list[tuple[str, dict[str, Any]]] = [
            ("show", {}),
            ("header", {}),
            ("hold_add", COURT),
            ("hold_list", {}),
            ("hold_release", {}),
            ("onward_request", ASKED),
            ("forward", {"to": person(VN).node, "dry_run": True}),
        ]
        for op, args in operations:
            with pytest.raises(LocalError) as caught:
                await desk.call(op, {"id": ident, **args})
            assert caught.value.code == "input.ambiguous", op
        with pytest.raises(LocalError, match=r"input\.ambiguous"):
            await desk.evidence(ident, 1)
        assert not trio.hosts[KH].connection.execute("SELECT * FROM holds").fetchall()
        for index in (TH, VN):
            node = person(index).node
            for op in ("show", "header"):
                shown: Any = await desk.call(op, {"id": ident, "from": node})
                assert shown["from"] == node
            with pytest.raises(LocalError, match=r"input\.unknown_attachment"):
                await desk.evidence(ident, 1, sender=node)
        for op, args in operations[2:5]:
            await desk.call(op, {"id": ident, "from": person(VN).node, **args})
        await trio.settle()
        assert [trio.kinds(index) for index in (TH, VN)] == [[], ["hold-notice"] * 2]
        await desk.call("onward_request", {"id": ident, "from": person(TH).node, **ASKED})
        await trio.settle()
        assert trio.kinds(TH) == ["onward-request"]
        with pytest.raises(PeerError, match=r"onward\.not_permitted"):
            await desk.call("forward", {"id": ident, "from": person(TH).node, "to": person(VN).node})
        asked = trio.hosts[TH].connection.execute("SELECT id FROM incoming WHERE duty IS NOT NULL").fetchone()[0]
        with pytest.raises(LocalError, match=r"input\.unknown_id"):
            await desk_of(trio, TH).call("onward_decide", {"id": asked, "from": person(VN).node, "grant": False})
        await desk_of(trio, TH).call("onward_decide", {"id": asked, "from": person(KH).node, "grant": False})

    run_virtually(main)


def test_id_of_our_own_message_and_a_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that answers with the id of what it was sent hides neither; what only a received message has is clear."""

    async def main() -> None:
        trio = Trio(CONSENT, CONSENT)
        await trio.start()
        ident = await trio.say(KH, TH, draft("suspect", 1))
        desk = desk_of(trio, KH)
        before: Any = await desk.call("show", {"id": ident})
        assert before["direction"] == "out"
        await say_as(trio, ident, TH, KH, monkeypatch, 2)
        with pytest.raises(LocalError, match=r"input\.ambiguous"):
            await desk.call("show", {"id": ident})
        for index, direction in ((KH, "out"), (TH, "in")):
            shown: Any = await desk.call("show", {"id": ident, "from": person(index).node})
            assert shown["direction"] == direction
        header: Any = await desk.call("header", {"id": ident})
        assert header["from"] == person(TH).node
        with pytest.raises(LocalError, match=r"input\.unknown_id"):
            await desk.call("show", {"id": ident, "from": person(VN).node})

    run_virtually(main)
