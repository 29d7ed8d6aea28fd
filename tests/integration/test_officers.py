"""Two real nodes whose agreement wants two people to approve, one of them a supervisor."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import pytest

from exchange.adapters.control import ControlClient
from exchange.adapters.home import Home
from exchange.adapters.snapshot import Snapshot
from exchange.core.envelope import parse_envelope
from tests.cli import homes, staff

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def test_two_people_approve_across_two_nodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The recipient, who had never seen the list, is given it, counts the same people, and accepts."""
    with homes.cheap_passphrases():
        pair: homes.Pair = asyncio.run(homes.make_pair(tmp_path))
        people = staff.Staff(homes.Caller(capsys), pair)
        staff.appoint(people)
        staff.agree(people)
        draft = homes.write_draft(tmp_path / "draft.json", purpose="coordination")
        photo = tmp_path / "photo.bin"
        photo.write_bytes(bytes(range(256)) * 500)
        with homes.running(pair, *pair.ports):
            refused = people("send", draft, "--to", "KH")
            assert refused.refused("officers.required")
            sent = people.done("send", draft, "--to", "KH", "--attach", photo, "--json", by="sok").json
            assert (sent["status"], sent["waits"]) == ("queued", True)
            ident = sent["id"]
            people.done("approve", ident, "--yes", by="dara")
            assert people("approve", ident, "--yes", by="admin").refused("officers.role")
            people.done("approve", ident, "--yes", by="vanna")
            arrived = asyncio.run(wait_for(people, ident))
            assert arrived in ({"kh-fp1": "accepted"}, {"kh-fp1": "complete"})
            got = people.call("show", ident, "--json", "--home", pair.home("KH")).json
            assert (got["purpose"], got["clause"]) == ("coordination", "4-eyes")
            assert [item["role"] for item in got["approved"]] == ["proposer", "officer", "supervisor"]
            theirs = people.call("officer", "list", "TH", "--json", "--home", pair.home("KH")).json
            assert {item["name"] for item in theirs["officers"]} == {None}
            out = tmp_path / "copy.bin"
            assert people("evidence", "get", ident, "1", "--out", out).refused("officers.required")
            people.done("evidence", "get", ident, "1", "--out", out, by="dara")
            assert out.read_bytes() == photo.read_bytes()
        assert people("verify").code == people.call("verify", "--home", pair.home("KH")).code == 0
        with sqlite3.connect(pair.home("KH") / "node.db") as database:
            database.execute("DELETE FROM documents WHERE type LIKE '%officers%'")
        database.close()
        missed = people.call("verify", "--json", "--home", pair.home("KH")).json["findings"]
        assert [item["where"].rpartition(", ")[2] for item in missed] == ["officers", "record"]
        with Snapshot(pair.home("KH") / "node.db") as held:
            (row,) = [row for row in held.rows("all_envelopes") if row[3]]
        assert parse_envelope(row[2], row[3]).core.officers == theirs["digest"]


async def wait_for(people: staff.Staff, ident: str) -> object:
    """Where a message is once its recipient has answered."""
    async with ControlClient(Home.open(people.home)) as client:
        return await client.call("wait", {"id": ident, "seconds": 60})
