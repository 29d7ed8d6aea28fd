"""Who acts at a node: the officer's own key says it, and the list says what they may."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from exchange.core import wire
from exchange.core.errors import PeerError
from exchange.core.wire import Digest, DocumentType
from exchange.node.desk import Desk
from exchange.node.roles import ACT_WINDOW, OPERATOR, Actor, Roles, encode_act, pseudonym
from tests.core import builders
from tests.node import approvers
from tests.node.pair import Pair, node_of, until
from tests.simulation.drafts import draft
from tests.simulation.loop import run_virtually
from tests.simulation.people import officers

if TYPE_CHECKING:
    from exchange.core.wire import JsonObject
    from exchange.node.node import Node

SECOND = timedelta(seconds=1)


def act(pair: Pair, operation: str, args: JsonObject, name: str = "sok", by: str | None = None, **changes: Any) -> str:  # noqa: ANN401
    """What an officer's program sends beside the arguments; ``by`` names another key that signs it."""
    node = node_of(pair.sender)
    members: dict[str, Any] = {
        "network": node.network,
        "node": node.me,
        "officer": builders.testonly_officer(name).public.id,
        "operation": operation,
        "args": args,
        "time": pair.sender.now(),
        "nonce": node.outside.clock.random(16).hex(),
    }
    payload = encode_act(**(members | changes))
    document = builders.testonly_sign(DocumentType.ACT, payload, builders.testonly_officer(by or name))
    return wire.encode_base64(wire.encode_signed_document(document))


def desk_of(node: Node) -> Desk:
    return Desk(node, Digest("0" * 64), 10**7)


async def call(pair: Pair, operation: str, args: JsonObject, name: str | None = None) -> Any:  # noqa: ANN401
    """One operation at the sender's desk, as an officer or as the operator."""
    signed: JsonObject = {} if name is None else {"as": act(pair, operation, args, name)}
    return await desk_of(node_of(pair.sender)).call(operation, {**args, **signed})


def test_a_node_without_officers_asks_nobody() -> None:
    """Until the first list is installed the operator does everything, and nobody can act as an officer."""

    async def main() -> None:
        pair = Pair()
        node, _ = await pair.start()
        roles = Roles(node.registry, node.outside.clock)
        assert roles.admit("show", {}, None) == Actor(OPERATOR, None, reads=True)
        with pytest.raises(PeerError, match=r"officers\.not_listed"):
            roles.admit("show", {}, act(pair, "show", {}))

    run_virtually(main)


@pytest.mark.parametrize(
    "operation", ["show", "send", "header", "proposal", "approve", "evidence", "stage", "invented"]
)
def test_the_operator_opens_and_sends_nothing(operation: str) -> None:
    """Once there are officers, what opens, sends or approves needs one; so does whatever nobody listed."""

    async def main() -> None:
        pair = Pair()
        node, _ = await approvers.start(pair)
        roles = Roles(node.registry, node.outside.clock)
        with pytest.raises(PeerError, match=r"officers\.required"):
            roles.admit(operation, {}, None)
        with pytest.raises(PeerError, match=r"officers\.role"):
            roles.admit(operation, {}, act(pair, operation, {}, "admin"))
        for name in ("sok", "vanna"):
            admitted = roles.admit(operation, {}, act(pair, operation, {}, name))
            assert admitted.name == pseudonym(builders.testonly_officer(name).public.id)
            assert admitted.reads

    run_virtually(main)


def test_the_operator_runs_the_node() -> None:
    """Lists, documents and the node's state need no officer; an operator who is listed acts under a pseudonym."""

    async def main() -> None:
        pair = Pair()
        node, _ = await approvers.start(pair)
        roles = Roles(node.registry, node.outside.clock)
        for operation in ("install", "clock", "block", "notice"):
            assert roles.admit(operation, {}, None) == Actor(OPERATOR, None, reads=False)
        admitted = roles.admit("inbox", {}, act(pair, "inbox", {}, "admin"))
        assert (admitted.name, admitted.reads) == (pseudonym(builders.testonly_officer("admin").public.id), False)

    run_virtually(main)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"network": "mekong"}, "network"),
        ({"node": "th-fp1"}, "node"),
        ({"operation": "evidence"}, "operation"),
        ({"args": {"id": "1" * 32}}, "args"),
        ({"by": "dara"}, "signature"),
    ],
)
def test_a_signature_is_for_exactly_this(changes: dict[str, Any], where: str) -> None:
    """Another network, node, operation or argument, and another hand, are refused."""

    async def main() -> None:
        pair = Pair()
        node, _ = await approvers.start(pair)
        roles = Roles(node.registry, node.outside.clock)
        args: JsonObject = {"id": "0" * 32}
        members: dict[str, Any] = {"operation": "show", "args": args, **changes}
        signed = act(pair, name="sok", **members)
        with builders.refused("officers.act", where):
            roles.admit("show", args, signed)
        assert roles.admit("show", args, act(pair, "show", args)).reads

    run_virtually(main)


def test_a_signature_is_for_now_and_once() -> None:
    """An older one, one from the future and a repeated one are refused; what was seen is forgotten when it is over."""

    async def main() -> None:
        pair = Pair()
        node, _ = await approvers.start(pair)
        roles = Roles(node.registry, node.outside.clock)
        now = pair.sender.now()
        for moment in (now - ACT_WINDOW - SECOND, now + ACT_WINDOW + SECOND):
            with builders.refused("officers.act", "time"):
                roles.admit("show", {}, act(pair, "show", {}, time=moment))
        signed = act(pair, "show", {})
        roles.admit("show", {}, signed)
        with builders.refused("officers.act", "nonce"):
            roles.admit("show", {}, signed)
        pair.sender.skew = 3 * ACT_WINDOW.total_seconds()
        roles.admit("show", {}, act(pair, "show", {}))
        with builders.refused("officers.act", "time"):
            roles.admit("show", {}, signed)

    run_virtually(main)


def test_who_left_the_list_acts_no_more() -> None:
    """Not listed, or not any more, or not valid now."""

    async def main() -> None:
        pair = Pair()
        node, _ = await approvers.start(pair)
        roles = Roles(node.registry, node.outside.clock)
        with builders.refused("officers.not_listed", node.me):
            roles.admit("show", {}, act(pair, "show", {}, "nobody"))
        await node.install(officers(approvers.SENDER, 2, ("dara", "officer")))
        with builders.refused("officers.not_listed", node.me):
            roles.admit("show", {}, act(pair, "show", {}))
        pair.sender.skew = 400 * 86_400.0
        with builders.refused("officers.not_listed", node.me):
            roles.admit("show", {}, act(pair, "show", {}, "dara"))

    run_virtually(main)


def test_lists_say_nothing_of_messages_to_who_opens_none() -> None:
    """The operator sees that messages wait and why; case, kind and purpose are for officers."""

    async def main() -> None:
        pair = Pair()
        node, _ = await approvers.start(pair)
        made = await approvers.propose(node, pair.receiver.id)
        (line,) = await call(pair, "outbox", {"limit": 5})
        assert (line["id"], line["code"]) == (made["id"], "envelope.approval")
        assert not {"case", "kind", "purpose", "approvals"} & set(line)
        (seen,) = await call(pair, "outbox", {"limit": 5}, "dara")
        assert seen["kind"] == "acknowledgement"
        assert seen["approvals"]["missing"] == {"count": 2, "supervisors": 1, "proposer": True}
        await node_of(pair.receiver).sender.submit(draft("information-request", 1), [node.me], [])
        await until(lambda: bool(pair.sender.connection.execute("SELECT 1 FROM incoming").fetchone()))
        (got,) = await call(pair, "inbox", {"limit": 5})
        assert "case" not in got
        (read,) = await call(pair, "inbox", {"limit": 5}, "sok")
        assert read["kind"] == "information-request"
        assert await call(pair, "due", {}) == await call(pair, "due", {}, "sok") == []
        shown = await call(pair, "show", {"id": read["id"]}, "sok")
        assert shown["direction"] == "in"
        actors = [data for (data,) in pair.sender.connection.execute("SELECT leaf FROM leaves") if b'"opened"' in data]
        assert [pseudonym(builders.testonly_officer("sok").public.id).encode() in data for data in actors] == [True]

    run_virtually(main)


def test_officers_send_and_approve_at_the_desk() -> None:
    """Submitted, shown and approved by three people, each under their own key; a trial needs nobody."""

    async def main() -> None:
        pair = Pair()
        await approvers.start(pair)
        args: JsonObject = {"draft": draft("acknowledgement", 1), "to": [pair.receiver.id]}
        trial = await call(pair, "send", {**args, "dry_run": True})
        assert trial["recipients"][0]["duties"]["approvals_missing"] == 2
        for more in ({}, {"dry_run": True, "note_refusals": True}):
            with pytest.raises(PeerError, match=r"officers\.required"):
                await call(pair, "send", {**args, **more})
        made = await call(pair, "send", args, "sok")
        shown = await call(pair, "proposal", {"id": made["id"]}, "dara")
        assert shown["root"] == made["root"]
        for name, role in (("sok", "proposer"), ("dara", "officer"), ("vanna", "supervisor")):
            text = approvers.signed(pair, made["root"], name, role)
            await call(pair, "approve", {"id": made["id"], "approval": text}, name)
        await until(lambda: pair.status(made["id"]) == "accepted")
        whole = await call(pair, "show", {"id": made["id"]}, "dara")
        assert (whole["direction"], "approvals" in whole) == ("out", False)
        own = await call(pair, "officers", {})
        theirs = await call(pair, "officers", {"node": pair.receiver.id})
        assert (own["serial"], len(own["officers"]), theirs["serial"]) == (1, 5, 0)
        assert all(set(officer) == {"id", "roles", "valid_from", "valid_until"} for officer in own["officers"])

    run_virtually(main)


def test_what_is_no_signature_is_refused() -> None:
    """A signature that is no text, no base64 or no document of that type lets nobody in."""

    async def main() -> None:
        pair = Pair()
        node, _ = await approvers.start(pair)
        desk = desk_of(node)
        values: list[tuple[Any, str]] = [(7, "officers.act"), ("?", "wire.bad_base64"), ("e30=", "wire.missing")]
        for value, code in values:
            with pytest.raises(PeerError) as caught:
                await desk.call("show", {"id": "0" * 32, "as": value})
            assert caught.value.code == code
        with pytest.raises(PeerError, match=r"officers\.required"):
            await desk.evidence("0" * 32, 1)

    run_virtually(main)
