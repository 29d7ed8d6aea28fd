"""A peer with valid keys and bad intent: what it may not learn, keep busy, or leave behind."""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from exchange.core import wire
from exchange.core.answers import encode_request, encode_void
from exchange.core.audit import Event, LogBatch
from exchange.core.errors import PeerError
from exchange.core.keys import encode_prekeys
from exchange.core.merkle import Frontier
from exchange.core.wire import DocumentType, encode_signed_document
from exchange.node import receiving
from exchange.node.evidence import MAX_UPLOADS
from exchange.node.node import PUSH_PAUSE
from tests.node.pair import Pair, node_of, until
from tests.simulation.drafts import draft, evidence_file
from tests.simulation.loop import run_virtually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from exchange.core.wire import JsonObject

DRAW: Final = random.Random(0)


def file(number: int) -> tuple[JsonObject, bytes, str]:
    """An attachment, its ciphertext and that one's name."""
    attachment, sealed = evidence_file(DRAW.randbytes, number)
    return attachment, sealed, hashlib.sha256(sealed).hexdigest()


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    """A body."""
    for piece in pieces:
        yield piece


async def put(pair: Pair, h: str, chunks: AsyncIterator[bytes], length: int) -> JsonObject:
    """What the receiver answers to a file of the sender."""
    ring = pair.sender.keyring()
    payload = encode_request(
        network=node_of(pair.sender).network,
        sender=pair.sender.id,
        recipient=pair.receiver.id,
        key=ring.envelope_key.id,
        time=pair.sender.now(),
        nonce=DRAW.randbytes(16).hex(),
        method="PUT",
        path=f"/v1/blobs/{h}",
        body=h,
    )
    request = encode_signed_document(await ring.sign_request(DocumentType.REQUEST, payload))
    return await node_of(pair.receiver).receive_blob(h, request, chunks, length)


async def accepted(pair: Pair, *files: JsonObject, **members: object) -> str:
    """A message with these files that the receiver has; the files do not go by themselves."""
    queue = node_of(pair.sender).queues.queue(pair.receiver.id)
    written = draft("evidence", 1, **members)
    result = await node_of(pair.sender).sender.submit(written, [pair.receiver.id], list(files))
    await until(lambda: pair.status(str(result["id"])) not in {"queued", "sent"})
    assert queue.failures == 0
    return str(result["id"])


def refusal(caught: pytest.ExceptionInfo[PeerError]) -> str:
    return caught.value.code


@pytest.fixture(autouse=True)
def no_files_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sender's own worker sends no evidence."""

    async def nothing(*_: object) -> bool:
        return False

    monkeypatch.setattr("exchange.node.delivering.Delivery._send_blobs", nothing)


def test_files_of_a_refused_message_are_not_taken() -> None:
    """Only an accepted message brings files; one that was refused brings none."""

    async def main() -> tuple[str, bool]:
        pair = Pair()
        await pair.start()
        attachment, sealed, h = file(1)
        ident = await accepted(pair, attachment, refers_to=["0" * 32])
        assert pair.row(ident).record.code == "envelope.reference"
        with pytest.raises(PeerError) as caught:
            await put(pair, h, stream(sealed), len(sealed))
        return refusal(caught), h in pair.receiver.blobs

    assert run_virtually(main) == ("blob.unknown", False)


def test_nobody_learns_that_a_file_is_here_already() -> None:
    """Naming a file that somebody else has sent proves nothing: its bytes have to come, all of them."""

    async def main() -> tuple[list[str], str]:
        pair = Pair()
        await pair.start()
        attachment, sealed, h = file(2)
        pair.receiver.blobs[h] = sealed
        ident = await accepted(pair, attachment)
        codes: list[str] = []
        for body in ((), (sealed[:-1] + b"x",), (sealed[:-1],), (sealed, b"x")):
            with pytest.raises(PeerError) as caught:
                await put(pair, h, stream(*body), len(sealed))
            codes.append(refusal(caught))
        with pytest.raises(PeerError) as caught:
            await put(pair, h, stream(sealed), len(sealed) - 1)
        codes.append(refusal(caught))
        answered = await put(pair, h, stream(sealed), len(sealed))
        assert len(cast("list[Any]", answered["answers"])) == 1
        (status,) = pair.receiver.connection.execute("SELECT status FROM incoming WHERE id = ?", (ident,)).fetchone()
        return codes, status

    codes, status = run_virtually(main)
    assert codes == ["blob.digest", "blob.digest", "blob.digest", "blob.too_large", "blob.digest"]
    assert status == "complete"


def test_a_shorter_file_than_announced_is_refused() -> None:
    """A file whose name fits and whose length does not completes nothing."""

    async def main() -> tuple[str, str]:
        pair = Pair()
        await pair.start()
        attachment, sealed, h = file(3)
        blob = cast("dict[str, Any]", attachment["blob"])
        ident = await accepted(pair, {**attachment, "blob": {**blob, "len": len(sealed) + 17}})
        with pytest.raises(PeerError) as caught:
            await put(pair, h, stream(sealed), len(sealed) + 17)
        (status,) = pair.receiver.connection.execute("SELECT status FROM incoming WHERE id = ?", (ident,)).fetchone()
        return refusal(caught), status

    assert run_virtually(main) == ("blob.digest", "accepted")


def test_two_files_that_come_at_once_complete_their_message() -> None:
    """The last files of a message may be written by one transaction."""

    async def main() -> tuple[int, str]:
        pair = Pair()
        await pair.start()
        files = [file(4), file(5)]
        ident = await accepted(pair, *(attachment for attachment, _, _ in files))
        done = await asyncio.gather(*(put(pair, h, stream(sealed), len(sealed)) for _, sealed, h in files))
        (status,) = pair.receiver.connection.execute("SELECT status FROM incoming WHERE id = ?", (ident,)).fetchone()
        return sum(len(cast("list[Any]", answer["answers"])) for answer in done), status

    answers, status = run_virtually(main)
    assert answers >= 1
    assert status == "complete"


def test_a_peer_has_few_uploads_and_each_file_once() -> None:
    """What is coming already is not taken a second time, and beyond its share a peer waits."""

    async def main() -> list[str]:
        pair = Pair()
        await pair.start()
        files = [file(number) for number in range(10, 10 + MAX_UPLOADS)]
        more = file(99)
        await accepted(pair, *(attachment for attachment, _, _ in files))
        await accepted(pair, more[0])
        released = asyncio.Event()

        async def slow(sealed: bytes) -> AsyncIterator[bytes]:
            await released.wait()
            yield sealed

        coming = [asyncio.create_task(put(pair, h, slow(sealed), len(sealed))) for _, sealed, h in files[:1]]
        await asyncio.sleep(1)
        codes: list[str] = []
        with pytest.raises(PeerError) as caught:
            await put(pair, files[0][2], stream(files[0][1]), len(files[0][1]))
        codes.append(refusal(caught))
        coming += [asyncio.create_task(put(pair, h, slow(sealed), len(sealed))) for _, sealed, h in files[1:]]
        await asyncio.sleep(1)
        with pytest.raises(PeerError) as caught:
            await put(pair, more[2], stream(more[1]), len(more[1]))
        codes.append(refusal(caught))
        released.set()
        await asyncio.gather(*coming)
        await put(pair, more[2], stream(more[1]), len(more[1]))
        return codes

    assert run_virtually(main) == ["relay.busy", "relay.busy"]


async def void(pair: Pair, seq: int) -> bytes:
    """A signed void of the sender."""
    ring = pair.sender.keyring()
    payload = encode_void(
        network=node_of(pair.sender).network,
        sender=pair.sender.id,
        recipient=pair.receiver.id,
        key=ring.envelope_key.id,
        time=pair.sender.now(),
        seq=seq,
        message=wire.MessageId(f"{seq:032x}"),
        reason="relay.cancelled",
    )
    return encode_signed_document(await ring.sign_request(DocumentType.VOID, payload))


def test_repeats_do_not_make_a_large_response(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored answers are given again as far as one response carries them; the rest is asked for once more."""

    async def main() -> tuple[int, int, set[str]]:
        pair = Pair()
        await pair.start()
        node = node_of(pair.receiver)
        voids = [await void(pair, seq) for seq in range(1, 9)]
        for one in voids:
            await node.receive_batch([(one, b"")])
        answer = len(pair.receiver.connection.execute("SELECT bytes FROM answers LIMIT 1").fetchone()[0])
        monkeypatch.setattr(receiving, "MAX_REPEATED_BYTES", 3 * answer + 10)
        again = cast("Any", await node.receive_batch([(one, b"") for one in voids]))
        return len(again["answers"]), len(again["deferred"]), {item["code"] for item in again["deferred"]}

    assert run_virtually(main) == (3, 5, {"relay.busy"})


def test_nothing_is_taken_without_room_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that would fill the disk is put off, whatever it says, and comes again."""

    async def main() -> tuple[str | None, str]:
        pair = Pair()
        await pair.start()
        blobs = node_of(pair.receiver).outside.blobs
        with monkeypatch.context() as full:
            full.setattr(type(blobs), "has_room", lambda _, size: size == 0)
            ident = await pair.submit()
            await asyncio.sleep(1)
            code = node_of(pair.sender).queues.queue(pair.receiver.id).deferred.get(pair.row(ident).record.digest or "")
            assert pair.receiver.connection.execute("SELECT count(*) FROM envelopes").fetchone() == (0,)
        await until(lambda: pair.status(ident) == "accepted")
        return code, pair.status(ident)

    assert run_virtually(main) == ("relay.disk", "accepted")


async def bundle(pair: Pair, serial: int, **times: timedelta) -> bytes:
    """A prekey bundle of the sender, with its own keys and other times."""
    ring, now = pair.sender.keyring(), pair.sender.now().replace(microsecond=0)
    held = node_of(pair.sender).registry.prekeys[pair.sender.id]
    entries = [
        replace(key, use_until=now + times["open_for"] / 2, open_until=now + times["open_for"]) if times else key
        for key in held.prekeys[:1]
    ]
    payload = encode_prekeys(
        network=node_of(pair.sender).network,
        node=pair.sender.id,
        serial=serial,
        issued=now,
        signing_key=ring.bundle_key.id,
        prekeys=entries,
    )
    leaf = LogBatch(Frontier()).reserve(Event.PREKEYS_PUBLISHED)
    return encode_signed_document(await ring.sign_bundle(leaf, DocumentType.PREKEYS, payload))


def test_a_bundle_that_is_held_keeps_no_new_one_out() -> None:
    """Who repeats the bundle that is held, as anybody can, does not put off the node's next one."""

    async def main() -> None:
        pair = Pair()
        _, victim = await pair.start()
        held, following = await bundle(pair, 30), await bundle(pair, 31)
        await victim.receive_document(held)
        await asyncio.sleep(PUSH_PAUSE.total_seconds() - 1)
        await victim.receive_document(held)
        with pytest.raises(PeerError, match=r"relay\.busy"):
            await victim.receive_document(following)
        await asyncio.sleep(1)
        await victim.receive_document(following)
        assert victim.registry.prekeys[pair.sender.id].serial == 31

    run_virtually(main)


def test_many_bundles_leave_one_behind() -> None:
    """A peer that pushes bundle after bundle is slowed, and of those taken only the newest is kept."""

    async def main() -> tuple[list[str], int, int]:
        pair = Pair()
        _, victim = await pair.start()
        codes: list[str] = []
        for serial in range(10, 16):
            data = await bundle(pair, serial)
            try:
                await victim.receive_document(data)
                codes.append("taken")
            except PeerError as error:
                codes.append(error.code)
            await asyncio.sleep(400)
        query = "SELECT count(*) FROM documents WHERE subject = ? AND type LIKE '%prekeys%'"
        (rows,) = pair.receiver.connection.execute(query, (pair.sender.id,)).fetchone()
        held = sum(
            b"prekeys" in wire.parse_signed_document(data).payload_type.encode()
            for data in victim.registry.bytes_of.values()
        )
        return codes, rows, held

    codes, rows, held = run_virtually(main)
    assert codes.count("relay.busy") >= 2
    assert codes.count("taken") >= 2
    assert (rows, held) == (1, 2)  # the peer's newest, and our own


def test_documents_that_rule_each_other_out_are_not_installed_at_once() -> None:
    """Of two bundles pushed together the older one does not come last."""

    async def main() -> tuple[int, int]:
        pair = Pair()
        _, victim = await pair.start()
        newer, older = await bundle(pair, 31), await bundle(pair, 30)
        check = victim.registry.check_prekeys
        now = pair.receiver.now()
        items = [(check(data, pair.sender.id, now), data) for data in (newer, older)]
        done = await asyncio.gather(
            *(victim._install(item, data, "peer") for item, data in items),  # noqa: SLF001 - both checked before either is installed
            return_exceptions=True,
        )
        return victim.registry.prekeys[pair.sender.id].serial, sum(isinstance(item, PeerError) for item in done)

    assert run_virtually(main) == (31, 1)


def test_what_was_installed_since_it_was_checked_counts() -> None:
    """A bundle that was newest when it was checked, and is not when it is written, is refused."""

    async def main() -> tuple[str, int]:
        pair = Pair()
        _, victim = await pair.start()
        newer, older = await bundle(pair, 31), await bundle(pair, 30)
        checked = victim.registry.check_prekeys(older, pair.sender.id, pair.receiver.now())
        await victim.receive_document(newer)
        with pytest.raises(PeerError) as caught:
            await victim._install(checked, older, "peer")  # noqa: SLF001 - checked before the other was installed
        return refusal(caught), victim.registry.prekeys[pair.sender.id].serial

    assert run_virtually(main) == ("prekey.stale", 31)


def test_a_peers_prekey_does_not_stretch_an_envelope() -> None:
    """Whatever a peer's bundle says, an envelope lives no longer than the protocol lets it, and is not born expired."""

    async def main() -> tuple[timedelta, bool]:
        pair = Pair()
        _, victim = await pair.start()
        await victim.receive_document(await bundle(pair, 40, open_for=timedelta(days=20_000)))
        to_evil = await victim.sender.submit(draft("acknowledgement", 1), [pair.sender.id], [])
        row = pair.receiver.connection.execute("SELECT created, expires FROM outgoing WHERE id = ?", (to_evil["id"],))
        created, expires = (wire.parse_time(text) for text in row.fetchone())
        await asyncio.sleep(700)
        await victim.receive_document(await bundle(pair, 41, open_for=timedelta(minutes=30)))
        return expires - created, victim.sender.live_prekey(pair.sender.id, pair.receiver.now()) is None

    life, none = run_virtually(main)
    assert life <= timedelta(days=71)
    assert none
