"""Approvals between two nodes: what waits, who may sign, what leaves, and what the other side makes of it.

Length: one clause that wants two people, from the draft to the other country and through every change of the list.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from exchange.core.audit import parse_leaf
from exchange.core.envelope import parse_envelope
from exchange.core.errors import LocalError, PeerError
from exchange.node import node as node_module
from exchange.node.roles import pseudonym
from tests.core import builders
from tests.node import approvers
from tests.node.pair import AGREEMENT, Pair, node_of, until
from tests.simulation.drafts import draft
from tests.simulation.loop import run_virtually
from tests.simulation.people import agreement, officers, other_personnel

if TYPE_CHECKING:
    from exchange.core.audit import Leaf

PEOPLE = (("sok", "proposer"), ("dara", "officer"), ("vanna", "supervisor"))


def leaves(pair: Pair, event: str) -> list[Leaf]:
    found = [parse_leaf(data) for (data,) in pair.sender.connection.execute("SELECT leaf FROM leaves ORDER BY seq")]
    return [leaf for leaf in found if leaf.event == event]


def test_two_officers_approve_and_the_message_leaves() -> None:
    """It waits unsealed and says for what; the last approval sends it, and the recipient counts the same people."""

    async def main() -> None:
        pair = Pair()
        node, other = await approvers.start(pair)
        made = await approvers.propose(node, pair.receiver.id)
        assert made["waits"] is True
        assert made["recipients"][0]["duties"]["approvals_missing"] == 2
        ident = str(made["id"])
        await asyncio.sleep(3_600)  # housekeeping looks, and leaves it alone
        line: Any = (await node.reader.outbox(1))[0]
        assert (line["status"], line["code"], line["waits"]) == ("queued", "envelope.approval", True)
        missing = [(await approvers.approve(pair, made, name, role))["missing"] for name, role in PEOPLE]
        assert missing == [
            {"count": 2, "supervisors": 1, "proposer": False},
            {"count": 1, "supervisors": 1, "proposer": False},
            {"count": 0, "supervisors": 0, "proposer": False},
        ]
        await until(lambda: pair.status(ident) == "accepted")
        held = other.registry.officers_of(node.me)
        assert held is not None
        assert held.digest == node.registry.officers_of(node.me).digest  # type: ignore[union-attr]
        document, body = pair.sender.connection.execute("SELECT document, body FROM envelopes").fetchone()
        assert parse_envelope(document, body).core.officers == held.digest
        names = [pseudonym(builders.testonly_officer(name).public.id) for name, _ in PEOPLE]
        assert [leaf.actor for leaf in leaves(pair, "approved")] == names
        assert [leaf.actor for leaf in leaves(pair, "sealed")] == names[:1]
        assert await pair.sender.verify() == await pair.receiver.verify() == []

    run_virtually(main)


def test_where_nobody_is_asked_nobody_is_told() -> None:
    """Under a clause without approvals a message leaves at once and names no list."""

    async def main() -> None:
        pair = Pair()
        node, other = await approvers.start(pair)
        made = await approvers.propose(node, pair.receiver.id, kind="information-request")
        await until(lambda: pair.status(made["id"]) == "accepted")
        document, body = pair.sender.connection.execute("SELECT document, body FROM envelopes").fetchone()
        assert parse_envelope(document, body).core.officers is None
        assert not other.registry.has_officers(node.me)
        with pytest.raises(PeerError, match=r"officers\.not_asked"):
            await node.approving.state(made["id"])

    run_virtually(main)


def test_a_node_without_officers_may_not_send_what_asks_for_them() -> None:
    """Approvals that nobody can give refuse at once, by the clause."""

    async def main() -> None:
        pair = Pair()
        node, _ = await pair.start(here=[approvers.FOUR_EYES], there=[approvers.FOUR_EYES])
        refused: Any = await node.sender.submit(draft("acknowledgement", 1), [pair.receiver.id], [])
        assert refused["refused"] is True
        assert (refused["recipients"][0]["code"], refused["recipients"][0]["clause"]) == ("envelope.approval", "signed")

    run_virtually(main)


@pytest.mark.parametrize(
    ("signers", "code"),
    [
        ((("sok", "officer"),), "officers.proposer"),
        ((("dara", "proposer"),), "officers.proposer"),
        ((("dara", "officer"), ("dara", "officer")), "officers.twice"),
        ((("dara", "officer"), ("bopha", "officer")), "officers.not_asked"),
        ((("dara", "supervisor"),), "envelope.approval"),
        ((("admin", "officer"),), "envelope.approval"),
        ((("nobody", "officer"),), "envelope.approval"),
    ],
)
def test_who_may_not_approve_is_told_why(signers: tuple[tuple[str, str], ...], code: str) -> None:
    """The proposer, twice the same, more than asked, a role not held, and people who are not listed."""

    async def main() -> None:
        pair = Pair()
        node, _ = await approvers.start(pair)
        made = await approvers.propose(node, pair.receiver.id)
        for name, role in signers[:-1]:
            await approvers.approve(pair, made, name, role)
        with pytest.raises(PeerError) as caught:
            await approvers.approve(pair, made, *signers[-1])
        assert caught.value.code == code
        assert len(leaves(pair, "approved")) == len(signers) - 1
        assert pair.row(made["id"]).waits

    run_virtually(main)


def test_an_approval_is_brought_by_who_signed_it() -> None:
    """One officer does not attach another's signature, and not one over another statement."""

    async def main() -> None:
        pair = Pair()
        node, _ = await approvers.start(pair)
        made = await approvers.propose(node, pair.receiver.id)
        text = approvers.signed(pair, made["root"], "dara", "officer")
        with pytest.raises(PeerError, match=r"officers\.act"):
            await node.approving.approve(made["id"], text, approvers.actor(node, "vanna"))
        with pytest.raises(PeerError, match=r"approval\.root"):
            await approvers.approve(pair, {**made, "root": "0" * 64}, "dara", "officer")
        with pytest.raises(PeerError, match=r"approval\.network"):
            await approvers.approve(pair, made, "dara", "officer", network="mekong")
        with pytest.raises(LocalError, match=r"input\.unknown_id"):
            await approvers.approve(pair, {**made, "id": "0" * 32}, "dara", "officer")

    run_virtually(main)


def test_an_officer_sees_what_the_root_is_of() -> None:
    """Every part comes with its salt; what is shown gives the root that is signed."""

    async def main() -> None:
        from exchange.core.statement import Part, Statement, part_digest  # noqa: PLC0415 - beside its only use
        from exchange.core.wire import Digest, parse_base64  # noqa: PLC0415

        pair = Pair()
        node, _ = await approvers.start(pair)
        made = await approvers.propose(node, pair.receiver.id)
        shown: Any = await node.approving.proposal(made["id"])
        digests = [part_digest(parse_base64(part["salt"]), part["json"]) for part in shown["parts"]]
        assert Statement(Digest(""), "", tuple(Part(digest) for digest in digests)).root == shown["root"]
        assert shown["root"] == made["root"]
        assert shown["header"]["kind"] == "acknowledgement"
        assert shown["recipients"] == [{"to": pair.receiver.id, "clause": "signed", "withheld": []}]
        assert shown["proposer"] == pseudonym(builders.testonly_officer("sok").public.id)

    run_virtually(main)


def test_sealing_again_needs_no_new_approval() -> None:
    """A peer that lost its prekeys gets the same statement under the same approvals."""

    async def main() -> None:
        pair = Pair()
        node, _ = await approvers.start(pair)
        made = await approvers.propose(node, pair.receiver.id)
        for name, role in PEOPLE[:-1]:
            await approvers.approve(pair, made, name, role)
        pair.receiver.kill()
        pair.receiver.prekeys.files.clear()
        await pair.receiver.start()
        await approvers.approve(pair, made, *PEOPLE[-1])
        await until(lambda: pair.status(made["id"]) == "accepted")
        assert pair.row(made["id"]).record.attempt == 2
        assert len(leaves(pair, "approved")) == 3

    run_virtually(main)


def test_a_message_under_a_list_that_was_replaced_is_sealed_under_the_newest() -> None:
    """The recipient, who has the newer list, refuses the older one; whoever still is listed need not sign again."""

    async def main() -> None:
        pair = Pair()
        node, other = await approvers.start(pair)
        pair.cut(cut=True)
        made = await approvers.propose(node, pair.receiver.id)
        for name, role in PEOPLE:
            await approvers.approve(pair, made, name, role)
        newer = officers(approvers.SENDER, 2, *approvers.LISTED[:3])
        await other.receive_document(newer)
        await node.install(newer)
        pair.cut(cut=False)
        await until(lambda: pair.status(made["id"]) == "accepted", 3_600)
        assert pair.row(made["id"]).record.attempt == 2
        codes = [leaf.code for leaf in leaves(pair, "refused_by_peer")]
        assert codes == ["officers.superseded"]
        serials = sorted(item.serial for item in other.registry.officers.values())
        assert serials == [1, 2]  # the older one as history: it never came back into force
        assert other.registry.officers_of(node.me).serial == 2  # type: ignore[union-attr]
        assert await pair.sender.verify() == await pair.receiver.verify() == []

    run_virtually(main)


def test_an_officer_who_left_does_not_count_any_more() -> None:
    """A message whose approver was taken off the list waits again, for somebody else."""

    async def main() -> None:
        pair = Pair()
        node, other = await approvers.start(pair)
        pair.cut(cut=True)
        made = await approvers.propose(node, pair.receiver.id)
        for name, role in PEOPLE:
            await approvers.approve(pair, made, name, role)
        without = officers(approvers.SENDER, 2, approvers.LISTED[0], *approvers.LISTED[2:])
        await node.install(without)
        await other.receive_document(without)
        pair.cut(cut=False)
        await until(lambda: pair.row(made["id"]).waits, 3_600)
        state: Any = await node.approving.state(made["id"])
        assert state["missing"] == {"count": 1, "supervisors": 0, "proposer": False}
        await approvers.approve(pair, made, "bopha", "officer")
        await until(lambda: pair.status(made["id"]) == "accepted", 3_600)

    run_virtually(main)


def test_an_approval_that_is_over_is_asked_for_again() -> None:
    """What was approved until yesterday does not leave today."""

    async def main() -> None:
        pair = Pair()
        node, _ = await approvers.start(pair)
        made = await approvers.propose(node, pair.receiver.id)
        await approvers.approve(pair, made, *PEOPLE[0])
        await approvers.approve(pair, made, *PEOPLE[1], days=1)
        await asyncio.sleep(2 * 86_400)
        state = await approvers.approve(pair, made, *PEOPLE[2])
        assert state["missing"] == {"count": 1, "supervisors": 0, "proposer": False}
        await approvers.approve(pair, made, *PEOPLE[1])
        await until(lambda: pair.status(made["id"]) == "accepted")

    run_virtually(main)


def test_approvals_wait_for_the_peer_as_messages_do() -> None:
    """Approved while no prekey of the recipient lives: sealed at the next contact, without anybody signing again."""

    async def main() -> None:
        pair = Pair()
        node, _ = await approvers.start(pair)
        bundle = node.registry.prekeys.pop(pair.receiver.id)
        pair.cut(cut=True)
        made = await approvers.propose(node, pair.receiver.id)
        for name, role in PEOPLE:
            await approvers.approve(pair, made, name, role)
        row = pair.row(made["id"])
        assert (row.waits, row.record.digest) == (False, None)
        node.registry.prekeys[pair.receiver.id] = bundle
        pair.cut(cut=False)
        await until(lambda: pair.status(made["id"]) == "accepted", 3_600)

    run_virtually(main)


def test_approvals_survive_a_restart() -> None:
    """What waits, who proposed it and who signed are on the disk."""

    async def main() -> None:
        pair = Pair()
        node, _ = await approvers.start(pair)
        made = await approvers.propose(node, pair.receiver.id)
        for name, role in PEOPLE[:2]:
            await approvers.approve(pair, made, name, role)
        pair.sender.kill()
        await pair.sender.start()
        state: Any = await node_of(pair.sender).approving.state(made["id"])
        assert state["proposer"] == pseudonym(builders.testonly_officer("sok").public.id)
        assert [item["role"] for item in state["given"]] == ["proposer", "officer"]
        await approvers.approve(pair, made, *PEOPLE[2])
        await until(lambda: pair.status(made["id"]) == "accepted")

    run_virtually(main)


def test_a_reply_answers_when_it_is_approved() -> None:
    """What was asked is answered once the reply may leave, and not while it waits for somebody to agree."""

    async def main() -> None:
        pair = Pair()
        node, other = await approvers.start(pair)
        asked: Any = await other.sender.submit(draft("information-request", 1), [node.me], [])
        received = pair.sender.connection
        await until(lambda: received.execute("SELECT status FROM incoming").fetchone() == ("accepted",))
        reply: Any = {**draft("acknowledgement", 1), "in_reply_to": asked["id"]}
        who = approvers.actor(node, "sok")
        key = builders.testonly_officer("sok").public.id
        made: Any = await node.sender.submit(reply, [pair.receiver.id], [], actor=who.name, proposer=key)
        assert received.execute("SELECT status FROM incoming").fetchone() == ("accepted",)
        for name, role in PEOPLE:
            await approvers.approve(pair, made, name, role)
        assert received.execute("SELECT status FROM incoming").fetchone() == ("answered",)
        await until(lambda: pair.status(made["id"]) == "accepted")

    run_virtually(main)


def test_what_nobody_proposed_does_not_wait() -> None:
    """Without an officer who submits it there is no proposer: refused at once, and given back where it had left."""

    async def main() -> None:
        pair = Pair()
        node, other = await approvers.start(pair)
        with pytest.raises(PeerError, match=r"officers\.required"):
            await node.sender.submit(draft("acknowledgement", 1), [pair.receiver.id], [])
        pair.cut(cut=True)
        made = await approvers.propose(node, pair.receiver.id)
        for name, role in PEOPLE:
            await approvers.approve(pair, made, name, role)
        pair.sender.connection.execute("UPDATE outgoing SET proposer = NULL")
        without = officers(approvers.SENDER, 2, approvers.LISTED[0], *approvers.LISTED[2:])
        await node.install(without)
        await other.receive_document(without)
        pair.cut(cut=False)
        await until(lambda: pair.status(made["id"]) == "refused", 3_600)
        assert pair.row(made["id"]).record.code == "envelope.approval"

    run_virtually(main)


def test_what_came_back_waits_for_nobody() -> None:
    """A message that was taken back, or tried too long, cannot be approved any more."""

    async def main() -> None:
        pair = Pair()
        node, _ = await approvers.start(pair)
        made = await approvers.propose(node, pair.receiver.id)
        await node.sender.cancel(pair.receiver.id, [made["id"]], "relay.cancelled")
        with pytest.raises(PeerError, match=r"officers\.not_asked"):
            await approvers.approve(pair, made, "sok", "proposer")
        assert leaves(pair, "approved") == []
        line: Any = (await node.reader.outbox(1))[0]
        assert (line["status"], line["code"], line["waits"]) == ("refused", "relay.cancelled", False)

    run_virtually(main)


# -- lists -----------------------------------------------------------------------------------------


def test_lists_are_installed_with_an_entry_for_each_person() -> None:
    """Our own list names in the log whoever came, changed or went, by key id; a peer's is one entry."""

    async def main() -> None:
        pair = Pair()
        node, other = await approvers.start(pair)
        ids = {str(name): str(builders.testonly_officer(name).public.id) for name, _ in approvers.LISTED}
        assert [str(leaf.subject) for leaf in leaves(pair, "officer_added")] == list(ids.values())
        changed = (("sok", "officer supervisor"), *approvers.LISTED[2:])
        await node.install(officers(approvers.SENDER, 2, *changed))
        assert [str(leaf.subject) for leaf in leaves(pair, "officer_removed")] == [ids["dara"]]
        assert [str(leaf.subject) for leaf in leaves(pair, "officer_added")][len(ids) :] == [ids["sok"]]
        assert len(leaves(pair, "officers_installed")) == 2
        with pytest.raises(PeerError, match=r"officers\.conflict"):
            await node.install(officers(approvers.SENDER, 1, ("dara", "officer")))
        await node.install(officers(approvers.SENDER, 4, *changed))
        with pytest.raises(PeerError, match=r"officers\.stale"):
            await node.install(officers(approvers.SENDER, 3, *changed))
        await other.install(officers(approvers.SENDER, 4, *changed))
        await other.install(officers(approvers.SENDER, 3, *changed))  # of a peer: history
        in_force = other.registry.officers_of(node.me)
        assert in_force is not None
        assert in_force.serial == 4

    run_virtually(main)


def test_a_new_list_reaches_who_counts_by_it() -> None:
    """Peers whose agreements ask for approvals have it at once, also after a while without a line; others never."""

    async def main() -> None:
        pair = Pair()
        node, other = await pair.start(here=[approvers.FOUR_EYES, approvers.LIST], there=[approvers.FOUR_EYES])
        await until(lambda: other.registry.officers_of(node.me) is not None)
        pair.cut(cut=True)
        await node.install(officers(approvers.SENDER, 2, ("dara", "officer")))
        await asyncio.sleep(120)
        pair.cut(cut=False)
        await until(lambda: len(other.registry.officers) == 2, 900)
        apart = Pair()
        alone, stranger = await apart.start(here=[agreement(*AGREEMENT), approvers.LIST])
        await asyncio.sleep(120)
        assert alone.registry.has_officers(alone.me)
        assert not stranger.registry.officers

    run_virtually(main)


def test_lists_are_pushed_at_a_pace() -> None:
    """Somebody who makes list after list does not fill our log; the same one again costs nothing."""

    async def main() -> None:
        pair = Pair()
        _, other = await approvers.start(pair)
        first, second = (officers(approvers.SENDER, serial, ("sok", "officer")) for serial in (5, 6))
        await other.receive_document(first)
        await other.receive_document(first)
        with pytest.raises(PeerError, match=r"relay\.busy"):
            await other.receive_document(second)
        await asyncio.sleep(node_module.LIST_PAUSE.total_seconds())
        await other.receive_document(second)
        with pytest.raises(PeerError, match=r"key\.threshold"):
            await other.receive_document(officers(approvers.SENDER, 7, ("sok", "officer"), signers=1))
        with pytest.raises(PeerError, match=r"card\.unknown"):
            await other.receive_document(officers(3, 1, ("sok", "officer")))

    run_virtually(main)


def test_an_old_list_keeps_no_new_one_out() -> None:
    """Who repeats a list that is held, as anybody can, puts nothing off; a list that was refused puts nothing off."""

    async def main() -> None:
        pair = Pair()
        _, other = await approvers.start(pair)
        old, new, last = (officers(approvers.SENDER, serial, ("sok", "officer")) for serial in (5, 6, 7))
        await other.receive_document(old)
        pause = node_module.LIST_PAUSE.total_seconds()
        await asyncio.sleep(pause - 1)
        await other.receive_document(old)
        await asyncio.sleep(1)
        await other.receive_document(new)
        await asyncio.sleep(pause - 1)
        with pytest.raises(PeerError, match=r"relay\.busy"):
            await other.receive_document(last)
        await asyncio.sleep(1)
        await other.receive_document(last)

    run_virtually(main)


def test_of_lists_that_come_at_once_one_is_taken() -> None:
    """Lists that one node pushes together are as many as those that it pushes one after the other."""

    async def main() -> None:
        pair = Pair()
        _, other = await approvers.start(pair)
        pushed = [officers(approvers.SENDER, serial, ("sok", "officer")) for serial in (5, 6, 7)]
        ends = await asyncio.gather(*map(other.receive_document, pushed), return_exceptions=True)
        assert [end.code for end in ends if isinstance(end, PeerError)] == ["relay.busy"] * 2

    run_virtually(main)


def test_a_list_stands_and_falls_with_the_personnel_of_the_card() -> None:
    """Once the card names other personnel, what the earlier ones signed is not in force, also after a restart."""

    async def main() -> None:
        pair = Pair()
        node, _ = await approvers.start(pair)
        await node.install(other_personnel(approvers.SENDER))
        assert node.registry.officers_of(node.me) is None
        assert node.registry.has_officers(node.me)
        with pytest.raises(PeerError, match=r"key\.threshold"):
            await node.install(officers(approvers.SENDER, 2, ("sok", "officer")))
        pair.sender.kill()
        await pair.sender.start()
        again = node_of(pair.sender).registry
        assert (again.officers_of(node.me), again.has_officers(node.me)) == (None, True)
        assert await pair.sender.verify() == []

    run_virtually(main)


def test_what_waits_when_nobody_is_listed_any_more_comes_back() -> None:
    """Without a list in force nobody can approve: the message is returned by its clause."""

    async def main() -> None:
        pair = Pair()
        node, _ = await approvers.start(pair)
        bundle = node.registry.prekeys.pop(pair.receiver.id)
        pair.cut(cut=True)
        made = await approvers.propose(node, pair.receiver.id)
        for name, role in PEOPLE[:-1]:
            await approvers.approve(pair, made, name, role)
        text = approvers.signed(pair, made["root"], *PEOPLE[-1])
        last = approvers.actor(node, PEOPLE[-1][0])
        await approvers.approve(pair, made, *PEOPLE[-1])
        await node.install(other_personnel(approvers.SENDER))
        node.registry.prekeys[pair.receiver.id] = bundle
        pair.cut(cut=False)
        await until(lambda: pair.status(made["id"]) == "refused", 3_600)
        assert pair.row(made["id"]).record.code == "envelope.approval"
        with pytest.raises(PeerError, match=r"officers\.not_asked"):
            await node.approving.approve(made["id"], text, last)

    run_virtually(main)
