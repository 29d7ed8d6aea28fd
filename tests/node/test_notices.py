"""Notices about agreements at work: nothing is sent and nothing accepted under one that stands still."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from exchange.core import wire
from exchange.core.errors import PeerError
from exchange.core.keys import Authority, encode_card, read_card
from exchange.core.suspensions import Action, encode_suspension
from exchange.core.wire import DocumentType, UnverifiedDocument, encode_signed_document
from tests.node.pair import AGREEMENT, INDEXES, Pair, node_of, until
from tests.node.stopping import (
    ID,
    WHY,
    NoDocuments,
    count,
    events,
    incoming,
    resumption,
    sound,
    stands,
    stop,
    told,
)
from tests.simulation.drafts import draft
from tests.simulation.loop import run_virtually
from tests.simulation.people import agreement, notice, person

if TYPE_CHECKING:
    from tests.simulation.host import Host
    from tests.simulation.network import Network


# -- two parties -----------------------------------------------------------------------------------


def test_suspension_stops_both_ends_and_resuming_ends_it() -> None:
    """After one node suspended, neither sends; the other end has the signed notice; the authority resumes for both."""

    async def main() -> None:
        pair = Pair()
        await pair.start()
        made = await stop(pair.sender)
        assert (made.serial, made.by_authority) == (1, False)
        assert await told(pair.sender, [pair.receiver]) == ["agreement.suspended"]
        await until(lambda: stands(pair.receiver, pair.sender) == "suspended")
        assert await told(pair.receiver, [pair.sender]) == ["agreement.suspended"]
        await until(lambda: count(pair.sender, "pushes") == 0)
        assert events(pair.sender)[1:] == [("agreement_suspended", "operator", None)]
        assert events(pair.receiver)[1:] == [("agreement_suspended", "peer", pair.sender.id)]
        await node_of(pair.sender).install(resumption(pair.sender, 0, 2), "operator")
        await until(lambda: stands(pair.receiver, pair.sender) == "serves")
        assert await told(pair.receiver, [pair.sender]) == [None]
        ident = await pair.submit()
        await until(lambda: pair.status(ident) == "accepted")
        assert events(pair.receiver)[2:] == [("agreement_resumed", "peer", pair.sender.id)]
        assert await sound(pair.sender, pair.receiver)

    run_virtually(main)


def test_receiver_refuses_from_its_own_commit_on() -> None:
    """A message whose sender knows of no suspension is refused, signed, with the clause; then the notice arrives."""

    async def main() -> None:
        network: type[Network] = NoDocuments
        pair = Pair(network=network)
        await pair.start()
        await stop(pair.receiver)
        ident = await pair.submit()
        await until(lambda: pair.status(ident) == "refused")
        record = pair.row(ident).record
        assert (record.code, record.clause) == ("agreement.suspended", "talk")
        assert record.log_index is not None
        assert incoming(pair.receiver) == [("refused", "agreement.suspended")]
        assert stands(pair.sender, pair.receiver) == "serves"
        carrier = cast("NoDocuments", pair.network)
        await until(lambda: carrier.refused > 3)
        carrier.silent = False
        await until(lambda: stands(pair.sender, pair.receiver) == "suspended")
        assert await sound(pair.sender, pair.receiver)

    run_virtually(main)


@pytest.mark.parametrize("sealed", [True, False])
def test_what_waits_comes_back(*, sealed: bool) -> None:
    """What was queued and not sent comes back to its officer with the code, and is never sent; its number is voided."""

    async def main() -> None:
        pair = Pair()
        node, _ = await pair.start()
        pair.cut(cut=True)
        bundle = node.registry.prekeys[pair.receiver.id]
        if not sealed:
            del node.registry.prekeys[pair.receiver.id]
        ident = await pair.submit()
        assert (pair.row(ident).record.digest is not None) is sealed
        await asyncio.sleep(1)  # whatever left the machine by now is lost
        await stop(pair.sender)
        record = pair.row(ident).record
        assert (record.status, record.code) == ("refused", "agreement.suspended")
        node.registry.prekeys[pair.receiver.id] = bundle
        pair.cut(cut=False)
        await until(lambda: count(pair.sender, "outbox") == 0)
        await until(lambda: count(pair.sender, "pushes") == 0)
        assert incoming(pair.receiver) == []
        assert len(events(pair.receiver, "void_")) == int(sealed)
        assert await sound(pair.sender, pair.receiver)

    run_virtually(main)


def test_peers_notice_gives_back_as_well() -> None:
    """A notice that comes from the peer gives back what waits for it."""

    async def main() -> None:
        pair = Pair()
        node, _ = await pair.start()
        bundle = node.registry.prekeys.pop(pair.receiver.id)
        pair.cut(cut=True)
        ident = await pair.submit()
        made = await stop(pair.receiver)
        await node.receive_document(node_of(pair.receiver).registry.bytes_of[made.digest])
        assert pair.row(ident).record.code == "agreement.suspended"
        node.registry.prekeys[pair.receiver.id] = bundle

    run_virtually(main)


def test_what_waits_under_another_agreement_stays() -> None:
    """Suspending one agreement gives back nothing that goes by another, and messages pass by that one."""

    async def main() -> None:
        pair = Pair()
        second = agreement((1, 0), 1, -86_400, 365 * 86_400)  # th-kh: another name for the same two
        await pair.start(*[[agreement(*AGREEMENT), second]] * 2)
        pair.cut(cut=True)
        ident = await pair.submit()
        name = node_of(pair.sender).registry.agreements[pair.row(ident).agreement].id
        other = "th-kh" if name == "kh-th" else "kh-th"
        with_it = pair.submit()  # in one commit with the notice
        ident_too, _ = await asyncio.gather(with_it, stop(pair.sender, ident=other))
        assert pair.status(ident_too) in {"queued", "sent"}
        assert pair.status(ident) in {"queued", "sent"}
        pair.cut(cut=False)
        await until(lambda: pair.status(ident) == "accepted")
        assert await told(pair.sender, [pair.receiver]) == [None]

    run_virtually(main)


@pytest.mark.parametrize("first", ["notice", "message"])
def test_message_and_suspension_in_one_commit(first: str) -> None:
    """Of a message and a suspension that are committed together nothing is ever sent, whichever came first."""

    async def main() -> None:
        pair = Pair()
        node, _ = await pair.start()
        written = node.sender.submit(draft("acknowledgement", 1), [pair.receiver.id], [])
        both = [stop(pair.sender), written] if first == "notice" else [written, stop(pair.sender)]
        await asyncio.gather(*both)
        await until(lambda: count(pair.sender, "pushes") == 0)
        if first == "message":
            assert pair.sender.connection.execute("SELECT status, code FROM outgoing").fetchall() == [
                ("refused", "agreement.suspended")
            ]
        else:
            assert count(pair.sender, "outgoing") == 0
        await asyncio.sleep(400)
        assert incoming(pair.receiver) == []
        assert count(pair.sender, "outbox") == 0
        assert await sound(pair.sender, pair.receiver)

    run_virtually(main)


def test_held_message_is_refused_by_the_suspension() -> None:
    """A message that waits at its receiver for another was not accepted yet, and is not under a suspension."""

    async def main() -> None:
        network: type[Network] = NoDocuments
        pair = Pair(network=network)
        node, there = await pair.start()
        pair.cut(cut=True)
        first = await pair.submit()
        speaks_of_it = draft("acknowledgement", 1, refers_to=[first])
        result: Any = await node.sender.submit(speaks_of_it, [pair.receiver.id], [])
        second = str(result["id"])
        query = "SELECT document, body FROM envelopes WHERE digest = ?"
        frame = pair.sender.connection.execute(query, (pair.row(second).record.digest,)).fetchone()
        answer: Any = await there.receive_batch([frame])
        assert answer["deferred"][0]["code"] == "relay.held"
        await stop(pair.receiver)
        assert incoming(pair.receiver) == [("refused", "agreement.suspended")]
        pair.cut(cut=False)
        await until(lambda: pair.status(second) == "refused")
        assert pair.row(second).record.log_index is not None
        await until(lambda: pair.row(first).record.code == "agreement.suspended")
        assert await sound(pair.sender, pair.receiver)

    run_virtually(main)


def test_suspension_and_what_is_owed_survive_a_crash() -> None:
    """After a start the agreement still stands still, and the peer that was away is told."""

    async def main() -> None:
        pair = Pair()
        await pair.start()
        pair.cut(cut=True)
        await stop(pair.sender)
        await asyncio.sleep(30)
        pair.sender.kill()
        await pair.sender.start()
        assert await told(pair.sender, [pair.receiver]) == ["agreement.suspended"]
        assert count(pair.sender, "pushes") == 1
        pair.cut(cut=False)
        await until(lambda: stands(pair.receiver, pair.sender) == "suspended", 900)
        await until(lambda: count(pair.sender, "pushes") == 0)
        pair.receiver.kill()
        await pair.receiver.start()
        assert stands(pair.receiver, pair.sender) == "suspended"

    run_virtually(main)


def test_blocked_peer_is_told_when_the_block_ends() -> None:
    """Nothing is sent to a blocked peer, a notice neither; with the end of the block it goes out."""

    async def main() -> None:
        pair = Pair()
        node, _ = await pair.start()
        await node.block(pair.receiver.id, blocked=True, actor="operator")
        await stop(pair.sender)
        await asyncio.sleep(400)
        assert stands(pair.receiver, pair.sender) == "serves"
        await node.block(pair.receiver.id, blocked=False, actor="operator")
        await until(lambda: stands(pair.receiver, pair.sender) == "suspended")

    run_virtually(main)


def test_peer_without_the_agreement_gets_it_first() -> None:
    """A peer that does not hold the agreement is given it with the notice."""

    async def main() -> None:
        pair = Pair()
        await pair.start(there=[])
        await stop(pair.sender)
        await until(lambda: count(pair.sender, "pushes") == 0)
        assert stands(pair.receiver, pair.sender) == "suspended"

    run_virtually(main)


def test_peer_that_refuses_one_notice_gets_the_others() -> None:
    """A notice that a peer does not take keeps back its successors alone, and is tried again."""

    async def main() -> None:
        pair = Pair()
        second = agreement((1, 0), 1, -86_400, 365 * 86_400)
        node, _ = await pair.start(*[[agreement(*AGREEMENT), second]] * 2)
        pair.receiver.skew = -3_600.0  # it sees notices that are dated in its future
        await stop(pair.sender)
        await stop(pair.sender)
        await asyncio.sleep(120)
        assert stands(pair.receiver, pair.sender) == "serves"
        pair.sender.skew = -3_600.0
        await stop(pair.sender, ident="th-kh")
        await until(lambda: stands(pair.receiver, pair.sender, "th-kh") == "suspended", 900)
        await until(lambda: count(pair.sender, "pushes") == 2)  # its answer is committed a moment later
        pair.sender.skew = pair.receiver.skew = 0.0
        node.queues.queue(pair.receiver.id).retry()
        await until(lambda: count(pair.sender, "pushes") == 0, 900)
        assert stands(pair.receiver, pair.sender) == "suspended"

    run_virtually(main)


def test_peer_with_a_newer_notice_owes_no_answer() -> None:
    """Where the authority's own notice came by file, the older one that was still owed is not owed any more."""

    async def main() -> None:
        network: type[Network] = NoDocuments
        pair = Pair(network=network)
        _, there = await pair.start()
        await stop(pair.sender)
        await there.install(resumption(pair.sender, 0, 2), "operator")
        cast("NoDocuments", pair.network).silent = False
        await until(lambda: count(pair.sender, "pushes") == 0)
        assert stands(pair.receiver, pair.sender) == "serves"
        assert stands(pair.sender, pair.receiver) == "suspended"

    run_virtually(main)


def test_peer_that_knows_no_new_card_gets_it() -> None:
    """A notice signed by an authority that came with a newer card is believed once that card was pushed."""

    async def main() -> None:
        pair = Pair()
        node, _ = await pair.start()
        await node.install(second_card(pair.sender), "operator")
        await node.install(by_new_authority(pair.sender), "operator")
        await until(lambda: count(pair.sender, "pushes") == 0)
        assert stands(pair.receiver, pair.sender) == "suspended"
        assert node_of(pair.receiver).registry.cards[pair.sender.id].version == 2

    run_virtually(main)


def second_card(host: Host) -> bytes:
    """A second card of the first node, whose authority is another one and who signed with both."""
    document = wire.parse_signed_document(host.person.card)
    card = read_card(document)
    new = person(5).authority
    second = replace(card, version=2, previous=document.digest(), authority=Authority(1, (new.public,)))
    payload = encode_card(second)
    signatures = tuple(key.signature(DocumentType.CARD, payload) for key in (host.person.authority, new))
    return encode_signed_document(UnverifiedDocument(DocumentType.CARD, payload, signatures))


def by_new_authority(host: Host) -> bytes:
    """A suspension that the authority of ``second_card`` signed."""
    payload = encode_suspension(node_of(host).notices.draft(ID, Action.SUSPEND, WHY, others_continue=True))
    signature = person(5).authority.signature(DocumentType.SUSPENSION, payload)
    return encode_signed_document(UnverifiedDocument(DocumentType.SUSPENSION, payload, (signature,)))


def test_notice_is_verified_by_the_card_of_its_time() -> None:
    """A stored notice of an authority that the newest card does not name any more is loaded, and a new one refused."""

    async def main() -> None:
        pair = Pair()
        node, _ = await pair.start()
        old = notice(0, INDEXES, 1, Action.SUSPEND, pair.sender.now())
        await node.install(old, "operator")
        await node.install(second_card(pair.sender), "operator")
        pair.sender.kill()
        await pair.sender.start()
        assert stands(pair.sender, pair.receiver) == "suspended"
        with pytest.raises(PeerError) as caught:
            await node_of(pair.sender).install(resumption(pair.sender, 0, 2), "operator")
        assert caught.value.code == "key.threshold"

    run_virtually(main)
