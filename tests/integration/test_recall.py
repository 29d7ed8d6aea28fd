"""Taking messages back between real nodes: nothing is left at the recipient, and the receipt is verified."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from exchange.cli import demo_story as story
from exchange.cli import main
from exchange.cli.provision import utc_now
from exchange.core import wire
from exchange.core.envelope import SignedEnvelope, open_body, parse_envelope
from exchange.core.statement import parse_statement
from exchange.node.records import incoming_from_row
from tests.integration import nodes as harness
from tests.integration.leaks import Finder
from tests.integration.test_bad_input import DATES, clock, faketime, start_at

if TYPE_CHECKING:
    from pathlib import Path

    from exchange.cli.demo_nodes import TrainingNode
    from exchange.core.wire import JsonObject

pytestmark = pytest.mark.slow
__all__ = ["faketime"]

CASE: Final = "TH-EXAMPLE-2026/0815"
EVIDENCE: Final = b"evidence-that-goes-" * 9_000
PIECE: Final = 48  # bytes: more than chance would repeat


async def send(node: TrainingNode, to: str, **members: object) -> str:
    """A referral with a file that the other node has, whole."""
    attached = [story.attachment("TH", await node.stage(EVIDENCE))]
    draft: Any = {**story.case_referral("TH", "KH", CASE), **members}
    ident = (await harness.send(node, to, draft, attachments=attached))["id"]

    async def whole() -> bool:
        return bool((await line(node, "outbox", ident))["status"] == "complete")

    await harness.until(whole, "the file is there")
    return str(ident)


async def line(node: TrainingNode, op: str, ident: str) -> dict[str, Any]:
    """A message as a list shows it."""
    found: dict[str, Any] = next(item for item in await node.call(op, {"limit": 50}) if item["id"] == ident)
    return found


async def until_recalled(node: TrainingNode, ident: str) -> dict[str, Any]:
    """The message at its originator, once the receipt is here."""

    async def look() -> dict[str, Any] | None:
        found = await line(node, "outbox", ident)
        return found if found["status"] == "recalled" else None

    found: dict[str, Any] = await harness.until(look, "the deletion receipt")
    return found


def secrets_of(node: TrainingNode, ident: str) -> dict[str, bytes]:
    """What a thief would need of a received message: its body, its key in every form, its file and that one's key."""
    row = next(
        row for row in map(incoming_from_row, harness.rows(node, "incoming_by_id", ident)) if row.case_id is not None
    )
    ((_, document, body, boxed),) = harness.rows(node, "envelope", row.record.digest)
    keyring = node.new.keyring
    keyring.learn_case_key(row.case_id or "", harness.rows(node, "case_key", row.case_id)[0][0])
    cek = keyring.unwrap(row.case_id or "", boxed, row.record.digest)
    read = parse_envelope(document, body)
    envelope = SignedEnvelope(read.core, read.core_digest, read.wrapped, read.body, read.received, read.digest)
    statement = parse_statement(open_body(envelope, cek))
    named = dict(zip(cast("list[str]", statement.header()["parts"]), statement.parts[1:], strict=True))
    (attachment,) = cast("list[JsonObject]", named["attachments"].value("attachments"))
    blob = wire.Fields(attachment["blob"], "blob")
    h = blob.digest("h")
    path = node.path / "blobs" / h[:2] / h
    return {
        "body": body,
        "boxed key": boxed,
        "content key": cek,
        "file": path.read_bytes(),
        "file key": blob.bytes("key"),
    }


def found_in(folder: Path, secrets: dict[str, bytes]) -> set[str]:
    """Which of these are in any file below a folder, in whole or in any piece that is on a page of its own."""
    held = [path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {
        name
        for name, secret in secrets.items()
        for at in range(0, max(1, len(secret) - PIECE), PIECE)
        if any(secret[at : at + PIECE] in data for data in held)
    }


async def test_recall_after_it_was_opened(tmp_path: Path) -> None:
    """Body, keys and file are nowhere in the recipient's home, running or stopped, and the log says what happened."""
    async with harness.running(tmp_path) as nodes:
        thailand, cambodia = nodes["TH"], nodes["KH"]
        ident = await send(thailand, "KH")
        await cambodia.call("show", {"id": ident})
        secrets = secrets_of(cambodia, ident)
        assert found_in(cambodia.path, secrets) == set(secrets) - {"content key", "file key"}
        code = await asyncio.to_thread(
            main.main,
            ["--home", str(thailand.path), "recall", ident, "--reason", "consent_withdrawn", "--note", "She asked."],
        )
        assert code == 0
        recalled = await until_recalled(thailand, ident)
        assert (recalled["copy"]["why"], recalled["copy"]["stage"]) == ("consent_withdrawn", "erased")

        async def scrubbed() -> bool:
            return not found_in(cambodia.path, secrets)

        await harness.until(scrubbed, "the write-ahead log is empty")
        assert (await line(cambodia, "inbox", ident))["status"] == "recalled"
        assert "content" not in await cambodia.call("show", {"id": ident})
        logs = await harness.checked(nodes)
        assert found_in(cambodia.path, secrets) == set()
        assert Finder([CASE]).in_files(cambodia.path) == {}
        assert [leaf.code for leaf in logs["KH"].entries if leaf.event == "erased"] == ["consent_withdrawn"]
        assert [leaf.code for leaf in logs["TH"].entries if leaf.event == "erased_by_peer"] == ["consent_withdrawn"]


async def test_recall_while_the_peer_is_down(tmp_path: Path) -> None:
    """The order waits like a message; the copy goes as soon as the peer is back, without anybody's help."""
    async with harness.running(tmp_path) as nodes:
        thailand, cambodia = nodes["TH"], nodes["KH"]
        ident = await send(thailand, "KH")
        secrets = secrets_of(cambodia, ident)
        await cambodia.kill()
        told = await thailand.call("recall", {"id": ident, "reason": "wrong_recipient"})
        assert [item["done"] for item in told["recipients"]] == ["asked"]
        assert found_in(cambodia.path, secrets) != set()
        await cambodia.start()
        await until_recalled(thailand, ident)
        await harness.checked(nodes)
        assert found_in(cambodia.path, secrets) == set()


async def test_a_court_holds_what_was_recalled(tmp_path: Path) -> None:
    """The originator is told of the hold, and gets the receipt when it is released."""
    async with harness.running(tmp_path) as nodes:
        thailand, cambodia = nodes["TH"], nodes["KH"]
        ident = await send(thailand, "KH")
        until = (utc_now() + timedelta(days=90)).date().isoformat()
        words = [
            "hold",
            "add",
            ident,
            "--court",
            "Invented Court",
            "--reference",
            "EX-2026/4711-held",
            "--until",
            until,
        ]
        assert await asyncio.to_thread(main.main, ["--home", str(cambodia.path), *words]) == 0
        await thailand.call("recall", {"id": ident, "reason": "error"})

        async def held() -> bool:
            copy = (await line(thailand, "outbox", ident))["copy"]
            return copy is not None and copy["stage"] == "asked" and copy["held_until"] == until

        await harness.until(held, "the notice of the hold")
        assert "content" in await cambodia.call("show", {"id": ident})
        assert Finder(["Invented Court", "EX-2026/4711-held"]).in_tables(cambodia.path / "node.db") == {}
        assert await asyncio.to_thread(main.main, ["--home", str(cambodia.path), "hold", "release", ident]) == 0
        await until_recalled(thailand, ident)
        await harness.checked(nodes)


async def test_retention_ends_by_the_clock(tmp_path: Path, faketime: dict[str, str]) -> None:
    """Two days later a message that might be kept for one is erased at the start, and its originator is told."""
    async with harness.running(tmp_path) as nodes:
        thailand, cambodia = nodes["TH"], nodes["KH"]
        ident = await send(thailand, "KH", retention_days=1)
        secrets = secrets_of(cambodia, ident)
        for node in nodes.values():
            await node.stop()
        for node in nodes.values():
            await start_at(node, clock(faketime, utc_now() + timedelta(days=2)))

        async def receipt() -> bool:
            copy = (await line(thailand, "outbox", ident))["copy"]
            return copy is not None and (copy["stage"], copy["why"]) == ("erased", "retention")

        await harness.until(receipt, "the receipt of retention")
        assert (await line(thailand, "outbox", ident))["status"] == "complete"
        await harness.checked(nodes, DATES)
        assert found_in(cambodia.path, secrets) == set()
