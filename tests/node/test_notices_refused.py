"""Notices about agreements: which are refused, three parties, and what the operator is told."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from exchange.core import wire
from exchange.core.errors import LocalError, PeerError
from exchange.core.suspensions import Action
from exchange.core.wire import Digest
from exchange.node.desk import Desk
from exchange.node.notices import REPEAT_PAUSE
from tests.node.pair import AGREEMENT, INDEXES, Pair, node_of, until
from tests.node.stopping import (
    ID,
    WHY,
    Trio,
    count,
    events,
    incoming,
    resumption,
    sound,
    stands,
    stop,
    told,
)
from tests.node.test_duties import delivered, duty, send
from tests.simulation.loop import run_virtually
from tests.simulation.people import agreement, notice, person

if TYPE_CHECKING:
    from exchange.node.node import Node

SHORT: Final = timedelta(seconds=1)


# -- what is refused -------------------------------------------------------------------------------


def test_notice_comes_twice_and_late() -> None:
    """The same notice again changes nothing and writes nothing; an older one is refused."""

    async def main() -> None:
        pair = Pair()
        node, there = await pair.start()
        first = notice(0, INDEXES, 1, Action.SUSPEND, pair.sender.now())
        second = resumption(pair.sender, 0, 2)
        for data in (first, second, first, second):
            await there.receive_document(data)
        await asyncio.gather(*[node.install(first, "operator") for _ in range(3)])
        assert len(events(pair.sender)) == 2
        assert len(events(pair.receiver)) == 3
        assert stands(pair.receiver, pair.sender) == "serves"
        with pytest.raises(PeerError) as caught:
            await there.receive_document(notice(0, INDEXES, 1, Action.SUSPEND, pair.sender.now() - SHORT))
        assert caught.value.code == "agreement.notice_stale"

    run_virtually(main)


def test_notice_of_strangers_is_refused() -> None:
    """A notice about an agreement that is not here, by who is no party to it, or by an unknown node, is refused."""

    async def main() -> list[str]:
        pair = Pair()
        node, _ = await pair.start(here=[agreement(*AGREEMENT), person(2).card])
        now = pair.sender.now()
        codes: list[str] = []
        for data in (
            notice(1, (1, 2), 1, Action.SUSPEND, now),
            notice(2, INDEXES, 1, Action.SUSPEND, now),
            notice(3, INDEXES, 1, Action.SUSPEND, now),
            notice(1, INDEXES, 1, Action.SUSPEND, now + timedelta(hours=1)),
        ):
            with pytest.raises(PeerError) as caught:
                await node.receive_document(data)
            codes.append(caught.value.code)
        assert len(events(pair.sender)) == 1
        return codes

    expected = ["agreement.unknown", "agreement.not_party", "card.unknown", "agreement.notice_early"]
    assert run_virtually(main) == expected


def test_own_notice_must_make_sense() -> None:
    """A node does not resume by itself, and says nothing more after it left or about what it does not hold."""

    async def main() -> list[str]:
        pair = Pair()
        await pair.start()
        codes: list[str] = []

        async def refused(action: Action, ident: str = ID) -> None:
            with pytest.raises(PeerError) as caught:
                await stop(pair.sender, action, ident)
            codes.append(caught.value.code)

        await refused(Action.RESUME)
        await refused(Action.SUSPEND, "nothing")
        await stop(pair.sender, Action.LEAVE)
        await refused(Action.SUSPEND)
        with pytest.raises(PeerError):
            node_of(pair.sender).notices.draft(ID, Action.RESUME, WHY, others_continue=True)
        await until(lambda: stands(pair.receiver, pair.sender) == "left")
        assert events(pair.receiver)[1:] == [("agreement_left", "peer", pair.sender.id)]
        return codes

    assert run_virtually(main) == ["key.threshold", "agreement.unknown", "agreement.notice_stale"]


def test_peer_repeats_itself_once_in_a_while() -> None:
    """A peer's node that suspends what it suspended is heard again after a while; its authority is always heard."""

    async def main() -> None:
        pair = Pair()
        _, there = await pair.start()
        await stop(pair.sender)
        await stop(pair.sender, others=False)  # stops more: taken at once
        await stop(pair.sender)
        await stop(pair.sender)
        await until(lambda: len(events(pair.receiver)) == 4)
        await asyncio.sleep(60)
        assert len(events(pair.receiver)) == 4
        await there.receive_document(notice(0, INDEXES, 9, Action.SUSPEND, pair.sender.now()))
        assert len(events(pair.receiver)) == 5
        await asyncio.sleep(2 * REPEAT_PAUSE.total_seconds())
        assert count(pair.sender, "pushes") == 0  # serial 4 is older than the authority's

    run_virtually(main)


def test_node_whose_card_lost_its_key_signs_nothing() -> None:
    """A node whose own card does not carry its key now refuses to sign, and its log stays whole."""

    async def main() -> None:
        pair = Pair()
        await pair.start()
        pair.sender.skew = 701 * 86_400.0
        with pytest.raises(PeerError) as caught:
            await stop(pair.sender)
        assert caught.value.code == "key.expired"
        assert len(events(pair.sender)) == 1
        assert node_of(pair.sender).ledger.stopped is None

    run_virtually(main)


# -- what passes all the same ----------------------------------------------------------------------


@pytest.mark.parametrize("waits", [False, True])
def test_duties_pass_under_a_suspension(*, waits: bool) -> None:
    """What was exchanged before is recalled under a suspension, also where the recall waits when it comes."""

    async def main() -> None:
        pair = Pair()
        node, _ = await pair.start()
        about = await delivered(pair)
        bundle = node.registry.prekeys[pair.receiver.id]
        if waits:
            del node.registry.prekeys[pair.receiver.id]
            pair.cut(cut=True)
            ident, _ = await send(node, pair.receiver.id, duty("recall", about))
        await stop(pair.sender)
        if waits:
            node.registry.prekeys[pair.receiver.id] = bundle
            pair.cut(cut=False)
            await until(lambda: stands(pair.receiver, pair.sender) == "suspended", 900)
            node.queues.wake_sealing(pair.receiver.id)
        else:
            await until(lambda: stands(pair.receiver, pair.sender) == "suspended")
            ident, code = await send(node, pair.receiver.id, duty("recall", about))
            assert code is None
        await until(lambda: pair.status(ident) in {"accepted", "answered"}, 900)
        assert await told(pair.sender, [pair.receiver]) == ["agreement.suspended"]
        assert await sound(pair.sender, pair.receiver)

    run_virtually(main)


# -- three parties ---------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [True, False])
@pytest.mark.parametrize("action", [Action.SUSPEND, Action.LEAVE])
def test_others_go_on_unless_told_otherwise(action: Action, *, others: bool) -> None:
    """Of three parties one stops: nothing passes to or from it; the others go on unless its notice says otherwise."""

    async def main() -> None:
        kh, th, la = await Trio().start()
        await stop(kh, action, "kh-th-la", others=others)
        await until(lambda: count(kh, "pushes") == 0)
        assert await told(kh, [th, la]) == ["agreement.suspended"] * 2
        assert await told(th, [kh, la]) == ["agreement.suspended", None if others else "agreement.suspended"]
        assert stands(th, kh, "kh-th-la") == ("suspended" if action is Action.SUSPEND else "left")
        if others:
            await until(lambda: incoming(la) == [("accepted", None)])
        assert await sound(kh, th, la)

    run_virtually(main)


def test_waiting_message_between_those_who_go_on_stays() -> None:
    """A third party's suspension gives back nothing that waits between the others, where they continue."""

    async def main() -> None:
        trio = Trio()
        kh, th, la = await trio.start()
        trio.network.set_cut(th.id, la.id, cut=True)
        assert await told(th, [la]) == [None]
        await stop(kh, ident="kh-th-la")
        await until(lambda: stands(th, kh, "kh-th-la") == "suspended")
        trio.network.set_cut(th.id, la.id, cut=False)
        await until(lambda: incoming(la) == [("accepted", None)])

    run_virtually(main)


# -- the desk --------------------------------------------------------------------------------------


async def desk_of(node: Node) -> Any:  # noqa: ANN401 - JSON comes out of it
    return Desk(node, Digest("0" * 64), 1)


def test_desk_tells_how_agreements_stand() -> None:
    """The list says state, by whom and since when; a draft changes nothing; an unknown name is told."""

    async def main() -> None:
        pair = Pair()
        node, _ = await pair.start()
        desk = await desk_of(node)
        ask = {"agreement": ID, "action": "suspend", "reason": WHY, "others_continue": True}
        drafted = await desk.call("notice", {**ask, "sign": False})
        assert wire.parse_json(drafted["payload"].encode(), max_bytes=9_999) == {
            "network": "training-simulation",
            "agreement": ID,
            "party": pair.sender.id,
            "serial": 1,
            "action": "suspend",
            "time": drafted["time"],
            "reason": WHY,
            "others_continue": True,
        }
        (before,) = await desk.call("agreements", {})
        assert (before["state"], before["standing"]) == (
            "serves",
            [{"node": pair.receiver.id, "state": "serves", "by": None, "since": None, "reason": {}}],
        )
        signed = await desk.call("notice", {**ask, "sign": True})
        (after,) = await desk.call("agreements", {})
        assert after["state"] == "suspended"
        assert after["standing"] == [
            {
                "node": pair.receiver.id,
                "state": "suspended",
                "by": pair.sender.id,
                "since": signed["time"],
                "reason": WHY,
            }
        ]
        with pytest.raises(LocalError) as caught:
            await desk.call("notice", {**ask, "agreement": "nothing", "sign": True})
        assert caught.value.code == "input.unknown_agreement"
        data = resumption(pair.sender, 0, 2)
        installed = await desk.call("install", {"document": wire.encode_base64(data)})
        assert (installed["action"], installed["by_authority"]) == ("resume", True)

    run_virtually(main)


def test_state_of_an_agreement_that_is_not_in_force() -> None:
    """What has not begun, is over or was replaced says so; where partners differ it says partly."""

    async def main() -> list[str]:
        pair = Pair()
        documents = [
            agreement(INDEXES, 1, -86_400, 40 * 86_400),
            agreement(INDEXES, 2, 86_400, 40 * 86_400),
        ]
        node, _ = await pair.start(here=documents)
        desk = await desk_of(node)
        states: list[str] = []
        for day in (0, 2, 41):
            pair.sender.skew = day * 86_400.0
            states += [item["state"] for item in await desk.call("agreements", {})]
        trio = Trio()
        kh, th, _ = await trio.start()
        await stop(kh, ident="kh-th-la")
        await until(lambda: stands(th, kh, "kh-th-la") == "suspended")
        states += [item["state"] for item in await (await desk_of(node_of(th))).call("agreements", {})]
        return states

    assert run_virtually(main) == ["not_yet", "serves", "serves", "replaced", "over", "over", "partly"]
