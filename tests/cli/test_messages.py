"""``exchange send`` and every dry run, at a node that does not run."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

import pytest

from exchange.adapters.snapshot import Snapshot
from exchange.core.audit import Event, Leaf, parse_leaf
from tests.cli import homes

if TYPE_CHECKING:
    from pathlib import Path


def entries(home: Path) -> list[Leaf]:
    """The audit log of a home."""
    with Snapshot(home / "node.db") as snapshot:
        return [parse_leaf(data) for data in snapshot.leaves()]


@pytest.fixture
def home(pair: homes.Pair) -> Path:
    """Thailand's home."""
    return pair.home("TH")


def test_message_waits_for_the_node_to_run(call: homes.Caller, home: Path) -> None:
    """A message sent at a stopped node is stored, listed as queued, and the user is told what it waits for."""
    done = call("send", homes.REFERRAL, "--to", "KH", "--home", home)
    assert done.code == 0
    assert "exchange node run" in done.err
    (message,) = call("outbox", "--home", home, "--json").json["messages"]
    assert (message["status"], message["to"], message["code"]) == ("queued", "kh-fp1", None)
    assert (message["kind"], message["case"]) == ("case-referral", "TH-EXAMPLE-2026/0001")  # it waits unsealed
    assert call("show", message["id"], "--home", home, "--json").json["content"]["kind"] == "case-referral"
    assert message["id"] in done.out
    assert message["id"] in call("outbox", "--home", home).out


def test_result_for_programs(call: homes.Caller, home: Path) -> None:
    """With --json id, status and each recipient's clause and parts are told."""
    found = call("send", homes.REFERRAL, "--to", "kh-fp1", "--to", "KH", "--home", home, "--json").json
    assert (found["ok"], found["status"], found["refused"], found["training"]) == (True, "queued", False, True)
    (recipient,) = found["recipients"]
    assert (recipient["clause"], recipient["agreement"]) == ("art-1", "pair/1")
    assert recipient["parts"] == ["main", "identity", "narrative"]
    assert len(found["id"]) == 32


def test_dry_run_shows_what_is_withheld(call: homes.Caller, home: Path) -> None:
    """The dry run names the parts that leave, those that do not, and the clause; nothing is stored or logged."""
    before = len(entries(home))
    words = ("send", homes.VICTIM, "--attach", homes.REFERRAL, "--to", "KH", "--dry-run", "--home", home)
    found = call(*words, "--json").json
    (recipient,) = found["recipients"]
    assert (found["ok"], found["id"], found["dry_run"]) == (True, None, True)
    assert (recipient["clause"], recipient["withheld"]) == ("art-2", ["safety"])
    assert "safety" not in recipient["parts"]
    text = call(*words).out
    assert "nothing was sent" in text
    assert "safety (clause art-2)" in " ".join(text.split())
    assert len(entries(home)) == before


def test_refusal_names_code_clause_and_remedy(call: homes.Caller, home: Path, tmp_path: Path) -> None:
    """A message that no clause permits is refused before anything leaves, and the refusal is in the log."""
    draft = homes.write_draft(tmp_path / "draft.json", tlp="RED")
    done = call("send", draft, "--to", "KH", "--home", home)
    assert done.code == 1
    assert done.refused("agreement.tlp")
    assert "clause: art-1" in done.err
    found = call("send", draft, "--to", "KH", "--home", home, "--json").json
    assert (found["ok"], found["refused"], found["id"], found["status"]) == (False, True, None, "refused")
    assert (found["error"]["code"], found["error"]["clause"]) == ("agreement.tlp", "art-1")
    logged = [(leaf.event, leaf.code, leaf.clause) for leaf in entries(home)][-2:]
    assert logged == [(Event.REFUSED, "agreement.tlp", "art-1")] * 2
    assert call("outbox", "--home", home, "--json").json["messages"] == []


def test_blocked_peer_gets_nothing(call: homes.Caller, home: Path) -> None:
    """A message to a blocked peer is refused with the code of the block."""
    assert call("card", "block", "KH", "--home", home).code == 0
    done = call("send", homes.REFERRAL, "--to", "KH", "--home", home, "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "envelope.blocked")
    assert "card unblock" in done.json["error"]["remedy"]


def test_this_node_is_no_recipient(call: homes.Caller, home: Path) -> None:
    """A message to this node itself is refused as such, by country and by id, and nothing is stored."""
    for name in ("TH", "th-fp1"):
        done = call("send", homes.REFERRAL, "--to", name, "--home", home)
        assert (done.code, done.refused("input.own_node")) == (1, True)
    assert call("outbox", "--home", home, "--json").json["messages"] == []


def test_recipient_named_twice_receives_once(call: homes.Caller, home: Path) -> None:
    """The same recipient given twice is one recipient."""
    done = call("send", homes.REFERRAL, "--to", "KH", "--to", "KH", "--to", "kh", "--home", home, "--json")
    assert (done.code, [item["to"] for item in done.json["recipients"]]) == (0, ["kh-fp1"])


def test_unknown_peer_is_told(call: homes.Caller, home: Path) -> None:
    """A recipient without a card here is refused with how to get one."""
    done = call("send", homes.REFERRAL, "--to", "LA", "--home", home)
    assert (done.code, done.refused("card.unknown")) == (1, True)
    assert "exchange card import" in done.err


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> homes.Pair:
    """Thailand and Cambodia with an agreement, and Laos, whose card alone is known; not to be changed."""
    pair: homes.Pair = homes.run(homes.make_pair(tmp_path_factory.mktemp("three"), ("LA",), link=False))
    linked: homes.Pair = homes.run(homes.make_pair(tmp_path_factory.mktemp("linked")))
    (linked.folder / "la.json").write_bytes(pair.cards["LA"])
    return linked


def test_permitted_only_leaves_the_others_out(
    call: homes.Caller, three: homes.Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one of two recipients may not receive it, nothing leaves, unless the officer said that some are enough."""
    home = homes.copy_pair(three, tmp_path).home("TH")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert call("card", "import", tmp_path / "la.json", "--home", home).code == 0
    words = ("send", homes.REFERRAL, "--to", "KH", "--to", "LA", "--home", home)
    none = call(*words)
    assert (none.code, none.refused("agreement.unknown")) == (1, True)
    assert "not sent" in none.out
    assert call(*words, "--dry-run").code == 1
    assert call(*words, "--dry-run", "--permitted-only").code == 0
    some = call(*words, "--permitted-only", "--json")
    assert (some.code, some.json["ok"], some.json["refused"]) == (0, True, False)
    assert [item["allowed"] for item in some.json["recipients"]] == [True, False]
    assert some.json["recipients"][1]["error"]["code"] == "agreement.unknown"
    assert [item["to"] for item in call("outbox", "--home", home, "--json").json["messages"]] == ["kh-fp1"]


# -- drafts ----------------------------------------------------------------------------------------


def test_faulty_draft_is_explained(call: homes.Caller, home: Path, tmp_path: Path) -> None:
    """A draft that its schema refuses is shown with every fault, place and expectation."""
    draft = homes.write_draft(tmp_path / "draft.json", case=None, tlp="PURPLE")
    done = call("send", draft, "--to", "KH", "--home", home)
    assert done.code == 1
    assert "the member case" in done.out
    assert "PURPLE" not in done.out + done.err
    found = call("send", draft, "--to", "KH", "--home", home, "--json").json
    assert {item["rule"] for item in found["problems"]} == {"required", "enum"}


def test_unknown_kind_is_told(call: homes.Caller, home: Path, tmp_path: Path) -> None:
    """A kind that no schema knows is refused with where to look."""
    draft = homes.write_draft(tmp_path / "draft.json", kind="poem")
    done = call("send", draft, "--to", "KH", "--home", home)
    assert (done.code, done.refused("schema.unknown")) == (1, True)


class Piped(io.TextIOWrapper):
    """Standard input from another program."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))


def test_draft_may_come_from_a_pipe(call: homes.Caller, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A draft is read from standard input where the file is a hyphen."""
    monkeypatch.setattr(sys, "stdin", Piped(homes.REFERRAL.read_bytes()))
    assert call("send", "-", "--to", "KH", "--home", home).code == 0


# -- evidence --------------------------------------------------------------------------------------


def test_evidence_is_sealed_and_named(call: homes.Caller, home: Path, tmp_path: Path) -> None:
    """An attached file is stored as ciphertext, and once the statement names it only the statement has its key."""
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"invented picture" * 10_000)
    custody = tmp_path / "custody.json"
    custody.write_text(json.dumps({"photo.jpg": {"exhibit_number": "E-1", "collected_by": "Invented unit"}}))
    done = call("send", homes.REFERRAL, "--to", "KH", "--attach", photo, "--custody", custody, "--home", home, "--json")
    assert done.code == 0
    assert "attachments" in done.json["recipients"][0]["parts"]
    stored = [path for path in (home / "blobs").rglob("*") if path.is_file()]
    assert len(stored) == 1
    assert b"invented picture" not in stored[0].read_bytes()
    with Snapshot(home / "node.db") as snapshot:
        ((_, message, direction, _, _, secret),) = snapshot.rows("blobs_named", stored[0].name)
    assert (message, direction, secret) == (done.json["id"], "out", None)


def test_refused_message_seals_no_evidence(call: homes.Caller, home: Path, tmp_path: Path) -> None:
    """Evidence of a message that may not leave is not stored, and the refusal is in the log."""
    draft = homes.write_draft(tmp_path / "draft.json", tlp="RED")
    done = call("send", draft, "--to", "KH", "--attach", homes.REFERRAL, "--home", home)
    assert (done.code, done.refused("agreement.tlp")) == (1, True)
    assert [path for path in (home / "blobs").rglob("*") if path.is_file()] == []
    assert entries(home)[-1].event is Event.REFUSED


@pytest.mark.parametrize(
    ("attach", "custody", "code"),
    [
        ("missing.jpg", None, "input.not_found"),
        (".hidden", None, "schema.invalid"),
        ("photo.jpg", {"other.jpg": {}}, "input.draft"),
        ("photo.jpg", [], "input.draft"),
        ("photo.jpg", {"photo.jpg": {"colour": "red"}}, "schema.invalid"),
    ],
)
def test_evidence_that_cannot_go_is_told(
    call: homes.Caller, home: Path, tmp_path: Path, attach: str, custody: object, code: str
) -> None:
    """A missing file, a name that no statement carries and custody that does not fit are refused; nothing is stored."""
    for name in ("photo.jpg", ".hidden"):
        (tmp_path / name).write_bytes(b"x")
    words: list[str | Path] = ["--attach", tmp_path / attach]
    if custody is not None:
        (tmp_path / "custody.json").write_text(json.dumps(custody))
        words += ["--custody", tmp_path / "custody.json"]
    done = call("send", homes.REFERRAL, "--to", "KH", *words, "--home", home)
    assert done.code in {1, 3}
    assert done.refused(code)
    assert call("outbox", "--home", home, "--json").json["messages"] == []


# -- replies ---------------------------------------------------------------------------------------


def test_reply_to_what_was_never_received(call: homes.Caller, home: Path) -> None:
    """An id that is unknown, and one that is none, are refused alike."""
    for ident in ("0" * 32, "nonsense"):
        done = call("reply", ident, homes.REFERRAL, "--home", home)
        assert (done.code, done.refused("input.unknown_id")) == (3, True)
