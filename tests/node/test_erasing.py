"""Taking messages back: what is erased, what is left of it, and what its originator is told."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from exchange.core.errors import LocalError, PeerError
from exchange.core.wire import Digest
from exchange.node.desk import Desk
from exchange.node.verifying import Verifier
from tests.node.pair import Pair, node_of, until
from tests.node.test_duties import delivered, duty, send
from tests.node.test_hostile_peer import DRAW
from tests.simulation.disk import CommitFault, MemoryRecords, Trap
from tests.simulation.drafts import draft, evidence_file
from tests.simulation.loop import run_virtually
from tests.simulation.network import CALM, Weather

if TYPE_CHECKING:
    from exchange.core.wire import JsonObject
    from tests.simulation.host import Host


def desk(host: Host) -> Desk:
    return Desk(node_of(host), Digest("0" * 64), 10**6)


async def call(host: Host, op: str, **args: object) -> Any:  # noqa: ANN401 - what the operation gives
    return await desk(host).call(op, cast("JsonObject", args))


async def recall(pair: Pair, ident: str, reason: str = "error", **args: object) -> list[dict[str, Any]]:
    """What the sender's officer is told of each recipient."""
    told = await call(pair.sender, "recall", id=ident, reason=reason, actor="officer-1", **args)
    return cast("list[dict[str, Any]]", told["recipients"])


def copy(host: Host, ident: str) -> tuple[str, str | None, str | None]:
    """Stage, cause and receipt of a copy."""
    query = "SELECT stage, why, receipt FROM copies WHERE id = ?"
    found = host.connection.execute(query, (ident,)).fetchone()
    return ("", None, None) if found is None else found


def events(host: Host, name: str) -> list[dict[str, Any]]:
    rows = host.connection.execute("SELECT leaf FROM leaves ORDER BY seq").fetchall()
    found = [json.loads(leaf) for (leaf,) in rows]
    return [leaf for leaf in found if leaf["event"] == name]


def remains(host: Host, ident: str) -> tuple[bytes, bytes | None]:
    """Body and content key of a received message."""
    query = "SELECT e.body, e.cek FROM incoming i JOIN envelopes e ON e.digest = i.digest WHERE i.id = ?"
    row: tuple[bytes, bytes | None] = host.connection.execute(query, (ident,)).fetchone()
    return row


async def findings(host: Host) -> list[tuple[str, str]]:
    """What ``exchange verify`` would say of a machine."""
    person = host.person
    verifier = Verifier(
        MemoryRecords(host.connection),
        person.node,
        person.log_keys,
        lambda h: h if h in host.blobs else None,
        host.keyring(),
    )
    return (await verifier.run()).findings


def test_a_recalled_message_is_erased_and_its_originator_has_the_receipt() -> None:
    """Body and key go, an officer sees that it was recalled, and the receipt is verified against what was sent."""

    async def main() -> None:
        pair = Pair()
        await pair.start()
        ident = await delivered(pair)
        await node_of(pair.receiver).reader.show(ident, "officer")
        told = await recall(pair, ident, note={"text": "wrong person", "lang": "en"})
        assert [(item["to"], item["done"], item["code"]) for item in told] == [(pair.receiver.id, "asked", None)]
        await until(lambda: pair.status(ident) == "recalled")
        assert remains(pair.receiver, ident) == (b"", None)
        stage, why, receipt = copy(pair.sender, ident)
        assert (stage, why) == ("erased", "recall")
        assert copy(pair.receiver, ident) == ("erased", "recall", receipt)
        (shown,) = [item for item in await node_of(pair.receiver).reader.inbox(9) if cast("Any", item)["id"] == ident]
        assert (cast("Any", shown)["status"], "kind" in cast("Any", shown)) == ("recalled", False)
        (erased,) = events(pair.receiver, "erased")
        (told_of,) = events(pair.sender, "erased_by_peer")
        (asked,) = events(pair.sender, "recalled")
        assert erased["subject"] == told_of["subject"] == asked["subject"] == pair.row(ident).record.digest
        assert (erased["code"], told_of["code"], asked["code"]) == ("recall", "recall", "error")
        assert asked["actor"] == "officer-1"
        assert await findings(pair.receiver) == []
        assert await findings(pair.sender) == []

    run_virtually(main)


def test_nothing_of_an_erased_message_is_shown() -> None:
    """Show gives dates and reason, no content and no entry of a reading; its evidence is not given out."""

    async def main() -> tuple[dict[str, Any], int, str]:
        pair = Pair()
        await pair.start()
        ident = await delivered(pair)
        await recall(pair, ident, "consent_withdrawn")
        await until(lambda: pair.status(ident) == "recalled")
        shown = cast("Any", await node_of(pair.receiver).reader.show(ident, "officer"))
        with pytest.raises(LocalError) as caught:
            await node_of(pair.receiver).reader.attachment(ident, 1)
        with pytest.raises(LocalError) as again:
            await node_of(pair.receiver).reader.statement(shown_digest(pair, ident), "any")
        assert again.value.code == "input.erased"
        return shown, len(events(pair.receiver, "opened")), caught.value.code

    shown, opened, code = run_virtually(main)
    assert (shown["status"], shown["copy"]["why"], "content" in shown) == ("recalled", "consent_withdrawn", False)
    assert (opened, code) == (0, "input.erased")


def shown_digest(pair: Pair, ident: str) -> Digest:
    (digest,) = pair.receiver.connection.execute("SELECT digest FROM incoming WHERE id = ?", (ident,)).fetchone()
    return Digest(digest)


def test_evidence_goes_with_its_message_unless_another_names_it() -> None:
    """Of two files the one that a second message names as well stays."""

    async def main() -> tuple[list[bool], list[tuple[str, str]]]:
        pair = Pair()
        await pair.start()
        files = [evidence_file(DRAW.randbytes, number) for number in (1, 2)]
        names = [cast("Any", record)["blob"]["h"] for record, _ in files]
        for name, (_, sealed) in zip(names, files, strict=True):
            pair.sender.blobs[name] = sealed
        node = node_of(pair.sender)
        to = [pair.receiver.id]
        first = cast("Any", await node.sender.submit(draft("evidence", 1), to, [record for record, _ in files]))["id"]
        second = cast("Any", await node.sender.submit(draft("evidence", 1), to, [files[1][0]]))["id"]
        await until(lambda: pair.status(first) == pair.status(second) == "complete")
        await recall(pair, first)
        await until(lambda: pair.status(first) == "recalled")
        return [name in pair.receiver.blobs for name in names], await findings(pair.receiver)

    assert run_virtually(main) == ([False, True], [])


def test_a_file_that_comes_after_its_message_was_erased_is_not_kept() -> None:
    """What was under way while its message was erased leaves nothing behind, and the sender stops sending it."""

    async def main() -> tuple[list[str], str]:
        pair = Pair()
        await pair.start()
        record, sealed = evidence_file(DRAW.randbytes, 7)
        name = cast("Any", record)["blob"]["h"]
        node, there = node_of(pair.sender), node_of(pair.receiver)
        result = cast("Any", await node.sender.submit(draft("evidence", 1), [pair.receiver.id], [record]))
        ident = result["id"]
        await until(lambda: pair.status(ident) == "accepted")

        async def slow() -> Any:  # noqa: ANN401 - an iterator of pieces
            yield sealed[:10]
            await recall(pair, ident)
            await until(lambda: pair.status(ident) == "recalled")
            yield sealed[10:]

        answered = await there.evidence.receive(pair.sender.id, name, slow(), len(sealed))
        assert answered == {"answers": []}
        return list(pair.receiver.blobs), pair.status(ident)

    assert run_virtually(main) == ([], "recalled")


def test_a_repeat_of_an_erased_message_is_answered_as_before() -> None:
    """The same envelope after its erasing gets its stored answer, and is not accepted a second time."""

    async def main() -> tuple[int, bytes]:
        pair = Pair()
        await pair.start()
        ident = await delivered(pair)
        query = "SELECT document, body FROM envelopes WHERE digest = ?"
        frame = pair.sender.connection.execute(query, (pair.row(ident).record.digest,)).fetchone()
        await recall(pair, ident)
        await until(lambda: pair.status(ident) == "recalled")
        reply = cast("Any", await node_of(pair.receiver).receive_batch([frame]))
        return len(reply["answers"]), remains(pair.receiver, ident)[0]

    assert run_virtually(main) == (1, b"")


def test_a_message_that_was_not_accepted_is_taken_back_from_the_queue() -> None:
    """The recipient was away: nothing but a void reaches it, and the officer sees the message as recalled."""

    async def main() -> tuple[str, int, str]:
        pair = Pair()
        await pair.start()
        pair.cut(cut=True)
        ident = await pair.submit()
        told = await recall(pair, ident)
        assert [item["done"] for item in told] == ["taken_back"]
        await asyncio.sleep(60)  # what was under way has been given up
        pair.cut(cut=False)
        query = "SELECT count(*) FROM outbox"
        await until(lambda: pair.sender.connection.execute(query).fetchone() == (0,), 600)
        (line,) = cast("Any", await node_of(pair.sender).reader.outbox(9))
        count = pair.receiver.connection.execute("SELECT count(*) FROM incoming").fetchone()[0]
        return line["status"], count, copy(pair.sender, ident)[0]

    assert run_virtually(main) == ("recalled", 0, "wanted")


def test_what_was_accepted_while_it_was_taken_back_is_recalled_after_all() -> None:
    """The acceptance had been lost on the way: it stands, and the recall follows by itself."""

    async def main() -> str:
        pair = Pair()
        await pair.start()
        pair.network.weather = Weather(lose_answer=1.0)
        ident = await pair.submit()
        query = "SELECT count(*) FROM incoming"
        await until(lambda: pair.receiver.connection.execute(query).fetchone() == (1,))
        assert [item["done"] for item in await recall(pair, ident)] == ["taken_back"]
        pair.network.weather = CALM
        await until(lambda: pair.status(ident) == "recalled", 3_600)
        return copy(pair.receiver, ident)[0]

    assert run_virtually(main) == "erased"


def test_a_recall_reaches_a_peer_that_was_down() -> None:
    """The recall waits in the queue like any message; the copy goes when the peer is back."""

    async def main() -> tuple[str, str]:
        pair = Pair()
        await pair.start()
        ident = await delivered(pair)
        pair.receiver.kill()
        await recall(pair, ident)
        await asyncio.sleep(600)
        before = pair.status(ident)
        await pair.receiver.start()
        await until(lambda: pair.status(ident) == "recalled", 3_600)
        return before, copy(pair.receiver, ident)[0]

    assert run_virtually(main) == ("accepted", "erased")


@pytest.mark.parametrize("statement", ["put_gone", "drop_content"])
@pytest.mark.parametrize("fault", list(CommitFault))
def test_a_crash_while_erasing_is_carried_on(statement: str, fault: CommitFault) -> None:
    """Whatever commit fails, the next start erases the copy and sends one receipt."""

    async def main() -> tuple[str, int, int, list[tuple[str, str]]]:
        pair = Pair()
        await pair.start()
        ident = await delivered(pair)
        pair.receiver.armed = Trap(fault, statement)
        await recall(pair, ident)
        await until(lambda: pair.receiver.process is None or not pair.receiver.is_serving)
        pair.receiver.kill()
        await pair.receiver.start()
        await until(lambda: pair.status(ident) == "recalled", 3_600)
        query = "SELECT count(*) FROM outgoing WHERE duty = 'deletion-receipt'"
        (receipts,) = pair.receiver.connection.execute(query).fetchone()
        return (
            copy(pair.receiver, ident)[0],
            receipts,
            len(events(pair.receiver, "erased")),
            await findings(pair.receiver),
        )

    assert run_virtually(main) == ("erased", 1, 1, [])


def test_a_correction_erases_the_old_and_names_the_new() -> None:
    """The recipient's officers see which message takes its place."""

    async def main() -> tuple[str, Any, str]:
        pair = Pair()
        await pair.start()
        old = await delivered(pair)
        node = node_of(pair.sender)
        new, _ = await send(node, pair.receiver.id, draft("acknowledgement", 1, refers_to=[old]))
        told = await recall(pair, old, replaced_by=new)
        assert told[0]["done"] == "asked"
        await until(lambda: pair.status(old) == "recalled")
        shown = cast("Any", await node_of(pair.receiver).reader.show(old, "officer"))
        return shown["status"], shown["copy"]["replaced_by"] == new, shown["copy"]["why"]

    assert run_virtually(main) == ("recalled", True, "correction")


def test_a_second_recall_gets_a_second_receipt_and_erases_nothing() -> None:
    """What is erased stays erased at the first time; whoever asks again is answered again."""

    async def main() -> tuple[int, int, str]:
        pair = Pair()
        await pair.start()
        ident = await delivered(pair)
        await recall(pair, ident)
        await until(lambda: pair.status(ident) == "recalled")
        assert [item["done"] for item in await recall(pair, ident)] == ["erased"]
        _, code = await send(node_of(pair.sender), pair.receiver.id, duty("recall", ident))
        assert code is None
        query = "SELECT count(*) FROM incoming WHERE duty = 'deletion-receipt'"
        await until(lambda: pair.sender.connection.execute(query).fetchone() == (2,))
        receipts = pair.sender.connection.execute(query).fetchone()[0]
        return receipts, len(events(pair.receiver, "erased")), copy(pair.sender, ident)[0]

    assert run_virtually(main) == (2, 1, "erased")


def test_orders_that_cannot_be_carried_out_are_refused() -> None:
    """An unknown message, a duty, one that nobody has, and a receipt in an officer's hand are told apart."""

    async def main() -> list[str]:
        pair = Pair()
        await pair.start()
        ident = await delivered(pair)
        node = node_of(pair.sender)
        refused, _ = await send(node, pair.receiver.id, draft("acknowledgement", 1, refers_to=["9" * 32]))
        await until(lambda: pair.status(refused) == "refused")
        asked = (await recall(pair, ident))[0]["recall"]
        codes: list[str] = []
        for args in (
            {"id": "9" * 32},
            {"id": "nothing"},
            {"id": asked},
            {"id": refused},
            {"id": ident, "replaced_by": "9" * 32},
            {"id": ident, "to": ["LA"]},
        ):
            with pytest.raises((LocalError, PeerError)) as caught:
                await call(pair.sender, "recall", reason="error", actor="officer-1", **args)
            codes.append(caught.value.code)
        for kind in ("deletion-receipt", "hold-notice"):
            with pytest.raises(PeerError) as by_hand:
                await call(pair.receiver, "send", draft=duty(kind, ident), to=[pair.sender.id])
            codes.append(by_hand.value.code)
        return codes

    assert run_virtually(main) == [
        "input.unknown_id",
        "input.unknown_id",
        "duty.subject",
        "input.nothing_to_recall",
        "input.unknown_id",
        "card.unknown",
        "duty.by_node",
        "duty.by_node",
    ]


def test_a_receipt_waits_until_its_originator_may_be_sent_to() -> None:
    """The peer was blocked when the copy was erased: it is erased all the same, and told when the block ends."""

    async def main() -> tuple[str, str | None, str]:
        pair = Pair()
        await pair.start()
        ident = await delivered(pair)
        pair.receiver.armed = Trap(CommitFault.BEFORE, "put_gone")
        await recall(pair, ident)
        await until(lambda: pair.receiver.process is None or not pair.receiver.is_serving)
        pair.receiver.kill()
        stopped = await pair.receiver.load()
        assert stopped is not None
        async with stopped.writing():
            await stopped.block(pair.sender.id, blocked=True, actor="operator")
        await pair.receiver.start()
        await until(lambda: copy(pair.receiver, ident)[0] == "erased")
        without = copy(pair.receiver, ident)[2]
        await node_of(pair.receiver).block(pair.sender.id, blocked=False, actor="operator")
        await until(lambda: pair.status(ident) == "recalled", 3_600)
        return copy(pair.receiver, ident)[0], without, pair.status(ident)

    assert run_virtually(main) == ("erased", None, "recalled")
