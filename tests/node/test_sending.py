"""Sending: what one recipient's refusal, or one message that cannot be sealed, does to the others."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from exchange.core.errors import PeerError
from exchange.core.schemas import SchemaBook
from exchange.core.statement import MAX_STATEMENT_BYTES
from tests.node.pair import AGREEMENT, INDEXES, Pair, node_of, until
from tests.simulation.drafts import draft, evidence_file
from tests.simulation.loop import run_virtually
from tests.simulation.people import agreement, person

if TYPE_CHECKING:
    from exchange.core.wire import JsonObject, JsonValue, NodeId
    from exchange.node.sending import Sender

STRANGER = 2


async def three() -> Pair:
    """A pair whose sender also knows a third node, without an agreement."""
    pair = Pair()
    await pair.start(here=[agreement(*AGREEMENT), person(STRANGER).card])
    return pair


def test_recipients_do_not_learn_who_was_refused() -> None:
    """Where only the permitted recipients are sent to, the header names them alone."""

    async def main() -> object:
        pair = await three()
        to = [pair.receiver.id, person(STRANGER).node]
        sender = node_of(pair.sender).sender
        refused = await sender.submit(draft("acknowledgement", 1), to, [])
        assert refused["refused"]
        sent = cast("Any", await sender.submit(draft("acknowledgement", 1), to, [], permitted_only=True))
        await until(lambda: pair.status(sent["id"]) == "accepted")
        shown = cast("Any", await node_of(pair.receiver).reader.show(sent["id"], "officer"))
        return shown["header"]["to"]

    assert run_virtually(main) == [f"{person(INDEXES[1]).node}"]


def test_message_is_answered_only_where_its_reply_went() -> None:
    """A reply that goes to somebody else alone leaves the message that it answers as it was."""

    async def main() -> list[str]:
        pair = Pair()
        trio = agreement((*INDEXES, STRANGER), 1, -86_400, 365 * 86_400)
        await pair.start(here=[agreement(*AGREEMENT), person(STRANGER).card, trio])
        node, me = node_of(pair.sender), pair.sender.id
        theirs = cast("Any", await node_of(pair.receiver).sender.submit(draft("acknowledgement", 1), [me], []))
        await until(lambda: pair.sender.connection.execute("SELECT count(*) FROM incoming").fetchone() == (1,))
        await node.block(pair.receiver.id, blocked=True, actor="operator")
        reply = draft("acknowledgement", 1, in_reply_to=theirs["id"])
        to = [pair.receiver.id, person(STRANGER).node]
        done = await node.sender.submit(reply, to, [], permitted_only=True)
        assert "refused" not in done
        return [str(item["status"]) for item in cast("Any", await node.reader.inbox(9))]

    assert run_virtually(main) == ["accepted"]


def large() -> JsonObject:
    """A valid draft of half a mebibyte, full of characters that are escaped once in a part and again in a statement."""
    written: dict[str, Any] = draft("evidence", 1)
    exhibit = written["content"]["entities"][0]
    text = {"text": '"' * 900, "lang": "en"}
    written["content"]["entities"] = [{**exhibit, "id": f"x{n}", "description": text} for n in range(1, 320)]
    return written


def test_what_no_recipient_could_read_is_refused_before_anything_is_kept() -> None:
    """A statement that is too long once it is sealed is refused, in the dry run as well."""

    async def main() -> list[str]:
        pair = await three()
        sender = node_of(pair.sender).sender
        written = large()
        assert len(json.dumps(written)) < MAX_STATEMENT_BYTES * 2 // 3
        told: list[str] = []
        for dry_run in (True, False):
            with pytest.raises(PeerError) as caught:
                await sender.submit(written, [pair.receiver.id], [], dry_run=dry_run)
            told.append(caught.value.code)
        assert pair.sender.connection.execute("SELECT count(*) FROM outgoing").fetchone() == (0,)
        query = "SELECT count(*) FROM leaves WHERE instr(leaf, 'sealed')"
        assert pair.sender.connection.execute(query).fetchone() == (0,)
        return told

    assert run_virtually(main) == ["wire.too_large"] * 2


def test_waiting_message_that_cannot_be_read_any_more_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given back with its code, and those behind it are sealed."""

    async def main() -> list[tuple[str, str | None]]:
        pair = await three()
        node = node_of(pair.sender)
        bundle = node.registry.prekeys.pop(pair.receiver.id)
        pair.cut(cut=True)
        first, second = await pair.submit(), await pair.submit()
        check = SchemaBook.validate_header

        def changed(book: SchemaBook, header: JsonValue) -> None:
            if isinstance(header, dict) and header["id"] == first:
                raise PeerError("schema.digest", "header")
            check(book, header)

        monkeypatch.setattr(SchemaBook, "validate_header", changed)
        node.registry.prekeys[pair.receiver.id] = bundle
        pair.cut(cut=False)
        node.queues.wake_sealing(pair.receiver.id)
        await until(lambda: pair.status(second) == "accepted")
        return [(pair.status(ident), pair.row(ident).record.code) for ident in (first, second)]

    assert run_virtually(main) == [("refused", "schema.digest"), ("accepted", None)]


def test_sealing_that_failed_is_tried_again() -> None:
    """A refusal while waiting messages are sealed does not make the node forget them."""

    async def main() -> str:
        pair = await three()
        node = node_of(pair.sender)
        bundle = node.registry.prekeys.pop(pair.receiver.id)
        pair.cut(cut=True)
        ident = await pair.submit()
        sender = node.sender
        seal = type(sender).seal_waiting
        failed: list[str] = []

        async def once(self: Sender, peer: NodeId, limit: int = 64) -> int:
            if not failed:
                failed.append(peer)
                raise PeerError("relay.busy")
            return await seal(self, peer, limit)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(sender), "seal_waiting", once)
            node.registry.prekeys[pair.receiver.id] = bundle
            pair.cut(cut=False)
            node.queues.wake_sealing(pair.receiver.id)
            await until(lambda: pair.status(ident) == "accepted")
        assert failed
        return pair.status(ident)

    assert run_virtually(main) == "accepted"


def test_nearest_of_several_agreements_is_named() -> None:
    """A refusal tells what the agreement lacks that came nearest, whichever was asked last."""

    async def main() -> tuple[Any, ...]:
        pair = Pair()
        other_way = agreement((INDEXES[1], INDEXES[0], STRANGER), 1, -86_400, 365 * 86_400)
        await pair.start(here=[person(STRANGER).card, agreement(*AGREEMENT), other_way])
        files = [evidence_file(random.Random(0).randbytes, number)[0] for number in range(5)]
        sender = node_of(pair.sender).sender
        done = cast("Any", await sender.submit(draft("evidence", 1), [pair.receiver.id], files, dry_run=True))
        plan = done["recipients"][0]
        return plan["agreement"].count("-"), plan["code"], plan["reason"]

    assert run_virtually(main) == (1, "agreement.blobs", "at most 4 files, 10000000 bytes")


def test_ends_that_hold_different_rules_raise_an_alarm() -> None:
    """What one end permits and the other refuses by a rule is refused with its clause, and both operators are told."""

    async def main() -> tuple[str, str | None, str | None, set[str]]:
        pair = Pair()
        here, there = await pair.start()
        told: set[str] = set()
        for name, node in (("sender", here), ("receiver", there)):

            def news(kind: str, _peer: NodeId, _message: str, _status: object, name: str = name) -> None:
                if kind == "alarm":
                    told.add(name)

            node.queues.on_news = news
        await pair.submit()
        await until(lambda: pair.sender.connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,))
        assert told == set()
        (agreed,) = here.registry.agreements.values()
        loose = tuple(replace(clause, retention_days=36_500) for clause in agreed.clauses)
        here.registry.keep(replace(agreed, clauses=loose), here.registry.bytes_of[agreed.digest])
        long = draft("acknowledgement", 2) | {"retention_days": 3_001}
        ident = str((await here.sender.submit(long, [pair.receiver.id], []))["id"])
        await until(lambda: pair.status(ident) == "refused")
        record = pair.row(ident).record
        return pair.status(ident), record.code, record.clause, told

    assert run_virtually(main) == ("refused", "agreement.retention", "talk", {"sender", "receiver"})
