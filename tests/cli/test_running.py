"""Two running nodes on loopback, asked by commands: what was sent is read, answered, exported and checked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from exchange.adapters.control import ControlClient
from exchange.adapters.home import Home
from exchange.adapters.snapshot import Snapshot
from exchange.core.audit import Event, parse_leaf
from exchange.core.errors import LocalError
from tests.cli import homes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow
PHOTO = b"invented picture " * 20_000


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[homes.Pair]:
    """Thailand and Cambodia, both running."""
    pair: homes.Pair = homes.run(homes.make_pair(tmp_path_factory.mktemp("network")))
    with homes.running(pair, "TH", "KH"):
        yield pair


@pytest.fixture
def sent(call: homes.Caller, network: homes.Pair, tmp_path: Path) -> str:
    """The id of a referral with a picture, accepted in Cambodia."""
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(PHOTO)
    words = ("send", homes.REFERRAL, "--to", "KH", "--attach", photo, "--wait", "--json")
    done = call(*words, "--home", network.home("TH"))
    assert (done.code, done.json["status"]) == (0, "accepted")
    return str(done.json["id"])


def row(call: homes.Caller, home: Path, box: str, ident: str) -> dict[str, Any]:
    """One message of a list."""
    found = [item for item in call(box, "--home", home, "--json").json["messages"] if item["id"] == ident]
    assert len(found) == 1
    message: dict[str, Any] = found[0]
    return message


def test_received_message_is_listed_by_its_header(call: homes.Caller, network: homes.Pair, sent: str) -> None:
    """The inbox shows sender, kind, case and status, and no content."""
    message = row(call, network.home("KH"), "inbox", sent)
    assert (message["from"], message["kind"], message["case"]) == ("th-fp1", "case-referral", "TH-EXAMPLE-2026/0001")
    text = call("inbox", "--home", network.home("KH"), "--limit", "1").out
    assert text.startswith("TRAINING")
    assert sent in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_showing_is_logged_before_it_is_shown(call: homes.Caller, network: homes.Pair, sent: str) -> None:
    """The content is shown in original script; that it was opened is in the log, and the status says so."""
    home = network.home("KH")
    shown = call("show", sent, "--home", home)
    assert shown.code == 0
    assert "evidence 1: photo.jpg" in shown.out
    assert "ប្រឌិត" in shown.out
    message = call("show", sent, "--home", home, "--json").json
    assert (message["direction"], message["status"]) == ("in", "opened")
    assert message["content"]["kind"] == "case-referral"
    assert "key" not in json.dumps(message["attachments"])
    with Snapshot(home / "node.db") as snapshot:
        assert [leaf.event for leaf in map(parse_leaf, snapshot.leaves())].count(Event.OPENED) >= 2


def test_sender_can_read_what_it_sent(call: homes.Caller, network: homes.Pair, sent: str) -> None:
    """A sent message is listed by its header and shown with its content and its recipients' states."""
    listed = row(call, network.home("TH"), "outbox", sent)
    assert (listed["kind"], listed["case"]) == ("case-referral", "TH-EXAMPLE-2026/0001")
    message = call("show", sent, "--home", network.home("TH"), "--json").json
    assert (message["direction"], message["to"]) == ("out", "kh-fp1")
    assert message["receipt"] is not None
    assert message["content"]["kind"] == "case-referral"


def test_evidence_comes_back_byte_for_byte(call: homes.Caller, network: homes.Pair, sent: str, tmp_path: Path) -> None:
    """Evidence is written verified into a new, closed file, at either end; an existing file is never overwritten."""
    for country in ("TH", "KH"):
        out = tmp_path / f"{country}.jpg"
        words = ("evidence", "get", sent, "1", "--out", out, "--home", network.home(country))
        while (done := call(*words, "--json")).code == 1:
            assert done.json["error"]["code"] == "blob.incomplete"  # accepted first, evidence after it
        assert (done.code, done.json["len"]) == (0, len(PHOTO))
        assert out.read_bytes() == PHOTO
        assert out.stat().st_mode & 0o077 == 0
        again = call(*words)
        assert (again.code, again.refused("input.exists")) == (3, True)
    other = tmp_path / "other"
    none = call("evidence", "get", sent, "2", "--out", other, "--home", network.home("KH"))
    assert (none.code, none.refused("input.unknown_attachment")) == (3, True)
    unknown = call("evidence", "get", "f" * 32, "1", "--out", other, "--home", network.home("KH"))
    assert (unknown.code, unknown.refused("input.unknown_id")) == (3, True)
    assert not other.exists()
    text = call("evidence", "get", sent, "1", "--out", other, "--home", network.home("KH")).out
    assert "SHA-256" in text


def test_reply_fills_in_sender_case_and_id(call: homes.Caller, network: homes.Pair, sent: str, tmp_path: Path) -> None:
    """An answer needs neither recipient nor case; it makes the first message answered at both ends."""
    source = homes.EXAMPLES / "acknowledgement" / "examples" / "bare.json"
    draft = homes.write_draft(tmp_path / "ack.json", source, case=None, in_reply_to=None)
    home = network.home("KH")
    assert call("reply", sent, draft, "--dry-run", "--home", home).code == 0
    done = call("reply", sent, draft, "--wait", "--json", "--home", home)
    assert (done.code, done.json["status"]) == (0, "accepted")
    answer = row(call, network.home("TH"), "inbox", done.json["id"])
    assert (answer["in_reply_to"], answer["case"]) == (sent, "TH-EXAMPLE-2026/0001")
    assert row(call, network.home("TH"), "outbox", sent)["status"] == "answered"
    assert row(call, home, "inbox", sent)["status"] == "answered"
    other = homes.write_draft(tmp_path / "other.json", source, in_reply_to="1" * 32)
    assert call("reply", sent, other, "--home", home).refused("input.draft")
    not_a_draft = tmp_path / "list.json"
    not_a_draft.write_text("[]")
    assert call("reply", sent, not_a_draft, "--home", home).refused("schema.invalid")


def test_unknown_message_is_told(call: homes.Caller, network: homes.Pair) -> None:
    """An id that is not stored is refused by show, running or not."""
    done = call("show", "0" * 32, "--home", network.home("TH"), "--json")
    assert (done.code, done.json["error"]["code"]) == (3, "input.unknown_id")


def test_log_is_exported_and_checked_beside_the_node(
    call: homes.Caller, network: homes.Pair, sent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running node's log is exported and verified without a passphrase; with the card it is known whose it is."""
    assert sent
    monkeypatch.setenv("EXCHANGE_PASSPHRASE_FILE", os.devnull)
    out = tmp_path / "log"
    done = call("audit", "export", "--out", out, "--home", network.home("KH"), "--json")
    assert (done.code, done.json["node"]) == (0, "kh-fp1")
    plain = call("audit", "verify", out, "--json").json
    assert (plain["ok"], plain["size"], plain["key_from"]) == (True, done.json["size"], "folder")
    (tmp_path / "kh.json").write_bytes(network.cards["KH"])
    assert call("audit", "verify", out, "--card", tmp_path / "kh.json", "--json").json["key_from"] == "card"


def test_store_is_verified_beside_the_node(call: homes.Caller, network: homes.Pair, sent: str) -> None:
    """The store of a running node is read again and opened with the passphrase, and nothing is found."""
    assert sent
    found = call("verify", "--home", network.home("KH"), "--json")
    assert (found.code, found.json["findings"], found.json["opened"]) == (0, [], True)
    assert found.json["counts"]["opened"] >= 1
    assert "Store and log agree" in call("verify", "--home", network.home("TH")).out


def test_doctor_finds_nothing_at_a_running_node(call: homes.Caller, network: homes.Pair) -> None:
    """At a healthy node every check passes, the peer is reached and shows the key of its card."""
    done = call("doctor", "--home", network.home("TH"), "--json")
    states = {check["check"]: check["state"] for check in done.json["checks"]}
    assert done.code == 0
    assert states["node"] == states["way to kh-fp1"] == states["queue to kh-fp1"] == "ok"
    assert "0 failed" in call("doctor", "--home", network.home("TH")).out


def test_document_is_installed_while_the_node_runs(call: homes.Caller, network: homes.Pair, tmp_path: Path) -> None:
    """Cards and agreements reach a running node over its socket."""
    home = network.home("TH")
    (tmp_path / "pair.json").write_bytes(network.agreement)
    assert call("agreement", "install", tmp_path / "pair.json", "--home", home).code == 0
    status = call("node", "status", "--home", home, "--json").json
    assert (status["running"], status["peers"], status["training"]) == (True, ["kh-fp1"], True)
    assert "running  yes" in call("node", "status", "--home", home).out


def test_wait_gives_up_on_a_silent_peer(
    call: homes.Caller, network: homes.Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting for a peer that does not answer ends after its time, with exit code 1 and the state of the message."""
    home = network.home("TH")
    monkeypatch.setattr("exchange.cli.messages.WAIT_SECONDS", 1)
    monkeypatch.setenv("EXCHANGE_HOME", str(home))
    assert call("card", "block", "TH", "--home", network.home("KH")).code == 0
    try:
        done = call("send", homes.REFERRAL, "--to", "KH", "--wait", "--json")
        assert done.code == 1
        assert done.json["status"] in {"queued", "sent"}
    finally:
        assert call("card", "unblock", "TH", "--home", network.home("KH")).code == 0


@pytest.mark.parametrize("as_json", [False, True])
def test_ending_the_wait_leaves_the_message_queued(pair: homes.Pair, *, as_json: bool) -> None:
    """Whoever waits knows the id before, and is told when ending the wait that the message goes on being sent."""
    words = ["send", str(homes.REFERRAL), "--to", "KH", "--wait", *(["--json"] if as_json else [])]
    with homes.running(pair, "TH"):
        waiting = subprocess.Popen(
            [sys.executable, "-m", "exchange", *words, "--home", str(pair.home("TH"))],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert waiting.stdout is not None
        shown = "" if as_json else waiting.stdout.readline() + waiting.stdout.readline()
        ident = _only_message(pair)
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=homes.SECONDS)
    assert waiting.returncode == 130
    assert f"message {ident} is queued and goes on being sent" in err
    assert "Traceback" not in err
    assert "nothing more was done" not in err
    if as_json:
        document = json.loads(out)
        assert (document["ok"], document["id"], document["status"]) == (False, ident, "queued")
    else:
        assert shown.endswith(f"Message {ident}\n")


def _only_message(pair: homes.Pair) -> str:
    """The id of the one message, once there is one."""
    while not (found := homes.program("outbox", "--json", "--home", pair.home("TH")).json["messages"]):
        pass
    (message,) = found
    return str(message["id"])


def test_wait_ends_where_the_answer_came_before(call: homes.Caller, network: homes.Pair, sent: str) -> None:
    """Waiting for a message that was answered already ends at once with its status; an unknown id is refused."""

    async def ask(ident: str) -> Any:  # noqa: ANN401 - JSON
        async with ControlClient(Home.open(network.home("TH"))) as client:
            return await client.call("wait", {"id": ident, "seconds": 3_600})

    while row(call, network.home("TH"), "outbox", sent)["status"] != "complete":  # its evidence may still be coming
        pass
    assert homes.run(ask(sent)) == {"kh-fp1": "complete"}
    with pytest.raises(LocalError) as caught:
        homes.run(ask("0" * 32))
    assert caught.value.code == "input.unknown_id"
