"""The desk of a node that does not run: operations, staged evidence, faults."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from exchange.adapters.home import Home
from exchange.cli.unlock import unlock_home
from exchange.cli.wiring import offline_node
from exchange.core.errors import ExchangeError, IntegrityError, LocalError, PeerError
from exchange.core.evidence import FRAME_BYTES
from tests.cli import homes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from exchange.cli.wiring import NodeBundle
    from exchange.core.wire import JsonObject
    from exchange.node.desk import Desk


@pytest.fixture
async def bundle(pair: homes.Pair) -> AsyncIterator[NodeBundle]:
    """Thailand's node, opened."""
    async with offline_node(Home.open(pair.home("TH")), homes.PASSPHRASE) as opened:
        yield opened


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    """Data in pieces."""
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def code_of(work: Any) -> str:  # noqa: ANN401 - an awaitable
    """The code of the refusal."""
    with pytest.raises(ExchangeError) as caught:
        await work
    return caught.value.code


def handle(staged: JsonObject, name: str = "a.bin") -> JsonObject:
    """How a draft names a staged file."""
    return {"h": staged["h"], "name": name, "media_type": "application/octet-stream"}


def draft() -> Any:  # noqa: ANN401 - JSON
    """A draft that is permitted."""
    return json.loads(homes.REFERRAL.read_bytes())


@pytest.mark.parametrize("length", [0, 1, FRAME_BYTES, 3 * 1_048_576 + 17])
async def test_staged_file_comes_back_as_it_was(bundle: NodeBundle, length: int) -> None:
    """A file of any length is sealed, kept under the master key, named by a statement, and given out again."""
    desk: Desk = bundle.desk
    data = bytes(range(256)) * (length // 256 + 1)
    staged = await desk.stage(pieces(data[:length], 100_000))
    assert staged["len"] == length
    args: JsonObject = {"draft": draft(), "to": ["KH"], "attachments": [handle(staged)], "wait": "accepted"}
    sent: Any = await desk.call("send", args)
    assert [item["status"] for item in sent["recipients"]] == ["queued"]
    # The key is in the statement now, and nowhere else.
    assert await code_of(desk.call("send", args)) == "input.unknown_attachment"
    assert await code_of(desk.evidence(sent["id"], 1)) == "input.unknown_id"  # unsealed: nobody has a prekey yet


async def test_file_above_the_limit_is_refused_while_it_comes(bundle: NodeBundle) -> None:
    """A file larger than allowed is refused before it is stored."""
    bundle.desk._staging._max_bytes = 10  # noqa: SLF001 - the configured limit
    assert await code_of(bundle.desk.stage(pieces(bytes(11), 4))) == "blob.too_large"


async def test_stored_evidence_opens_only_whole(bundle: NodeBundle) -> None:
    """A file that is missing is the sender's or the store's fault by its direction; a damaged one ends in an error."""
    desk = bundle.desk
    staged = await desk.stage(pieces(b"x" * 200_000, 70_000))
    record = await desk._staging.record(handle(staged), dry_run=False)  # noqa: SLF001 - what a statement holds
    chunks = [piece async for piece in desk._staging.open(record, incoming=True)]  # noqa: SLF001
    assert b"".join(chunks) == b"x" * 200_000
    (path,) = [path for path in bundle.home.blobs.rglob("*") if path.is_file()]
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(PeerError) as caught:
        [piece async for piece in desk._staging.open(record, incoming=True)]  # noqa: SLF001
    assert caught.value.code == "blob.frame"
    path.unlink()
    with pytest.raises(PeerError):
        desk._staging.open(record, incoming=True)  # noqa: SLF001
    with pytest.raises(IntegrityError):
        desk._staging.open(record, incoming=False)  # noqa: SLF001


@pytest.mark.parametrize(
    ("op", "args", "code"),
    [
        ("fly", {}, "node.internal"),
        ("inbox", {}, "wire.missing"),
        ("inbox", {"limit": 0}, "wire.bad_value"),
        ("show", {"id": "nonsense"}, "input.unknown_id"),
        ("wait", {"id": "0" * 32, "seconds": 1}, "input.unknown_id"),
        ("wait", {"id": "0" * 32, "seconds": 0}, "wire.bad_value"),
        ("cards", {"surplus": 1}, "wire.unknown_member"),
        ("inbox", {"limit": 1, "surplus": 1}, "wire.unknown_member"),
        ("outbox", {"limit": 1, "surplus": 1}, "wire.unknown_member"),
        ("show", {"id": "0" * 32, "surplus": 1}, "wire.unknown_member"),
        ("header", {"id": "0" * 32, "surplus": 1}, "wire.unknown_member"),
        ("wait", {"id": "0" * 32, "seconds": 1, "surplus": 1}, "wire.unknown_member"),
        ("install", {"document": "AAAA"}, "wire.not_json"),
        ("agreement", {"id": "pair", "version": 9}, "input.unknown_agreement"),
        ("send", {"draft": {}, "to": ["th"]}, "input.own_node"),
        ("send", {"draft": {}, "to": ["KH", "th-fp1"]}, "input.own_node"),
        ("send", {"draft": {}, "to": ["LA"]}, "card.unknown"),
        ("block", {"node": "TH", "blocked": True}, "input.own_node"),
        ("send", {"draft": {}, "to": []}, "wire.bad_value"),
    ],
)
async def test_faulty_call_is_refused(bundle: NodeBundle, op: str, args: JsonObject, code: str) -> None:
    """An operation that does not exist and arguments that do not fit are refused by code."""
    assert await code_of(bundle.desk.call(op, args)) == code


async def test_node_says_how_it_is(bundle: NodeBundle) -> None:
    """Health tells the log, prekeys and queues of a node, and no content."""
    health: Any = await bundle.desk.call("health", {})
    assert (health["running"], health["own_prekeys_until"]) == (False, None)
    assert health["checkpoint"]["size"] <= health["log_size"]
    assert health["peers_state"][0]["waiting"] == 0


async def test_evidence_needs_a_message_id(bundle: NodeBundle) -> None:
    """An id that is none names no evidence."""
    assert await code_of(bundle.desk.evidence("nonsense", 1)) == "input.unknown_id"


def test_foreign_secrets_open_no_home(pair: homes.Pair) -> None:
    """A file of secrets that opens and holds other things is damaged."""
    home = Home.open(pair.home("TH"))
    key = (pair.authority("TH") / "keys" / "1.json").read_bytes()
    home.keyring.write_bytes(key)
    with pytest.raises(LocalError) as caught:
        unlock_home(home, homes.PASSPHRASE)
    assert caught.value.code == "node.key"
    home.keyring.unlink()
    with pytest.raises(LocalError) as caught:
        unlock_home(home, homes.PASSPHRASE)
    assert caught.value.code == "node.key"


def test_open_home_is_closed_to_others(pair: homes.Pair) -> None:
    """A home that is open here is closed to everybody else until it is given back."""

    async def twice() -> str:
        home = Home.open(pair.home("TH"))
        async with offline_node(home, homes.PASSPHRASE):
            with pytest.raises(LocalError) as caught:
                async with offline_node(home, homes.PASSPHRASE):
                    pass
        async with offline_node(home, homes.PASSPHRASE):
            return caught.value.code

    assert homes.run(twice()) == "node.locked"
