"""``exchange verify`` and ``exchange audit``: whatever is altered in a store or an export is found."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from exchange.adapters.home import Home
from exchange.cli.audit import log_keys_of
from exchange.cli.wiring import offline_node
from exchange.core.errors import PeerError
from exchange.core.keys import Use, read_card
from exchange.core.wire import NodeId, parse_signed_document
from tests.cli import homes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> homes.Pair:
    """Two stopped nodes that exchanged an accepted message with evidence, a refused one, and one that is queued."""
    pair: homes.Pair = homes.run(homes.make_pair(tmp_path_factory.mktemp("history")))
    file = ("--passphrase-file", pair.passphrase())
    with homes.running(pair, "TH", "KH"):
        sent = homes.program(
            "send", homes.REFERRAL, "--to", "KH", "--attach", homes.VICTIM, "--wait", "--home", pair.home("TH"), *file
        )
        assert sent.code == 0, sent.err
        back = homes.write_draft(
            pair.folder / "ack.json", homes.EXAMPLES / "acknowledgement" / "examples" / "bare.json",
            case=None, in_reply_to=None,
        )  # fmt: skip
        ident = sent.out.split("Message ")[1].split()[0]
        assert homes.program("reply", ident, back, "--wait", "--home", pair.home("KH"), *file).code == 0
        assert homes.program("card", "block", "KH", "--home", pair.home("TH"), *file).code == 0
        assert homes.program("send", homes.REFERRAL, "--to", "TH", "--home", pair.home("KH"), *file).code == 0
    return pair


@pytest.fixture
def spoiled(history: homes.Pair, tmp_path: Path) -> homes.Pair:
    """A copy of ``history`` that a test may spoil."""
    return homes.copy_pair(history, tmp_path)


def change(home: Path, *statements: str) -> None:
    """Change the database behind the node's back."""
    connection = sqlite3.connect(home / "node.db")
    for statement in statements:
        assert connection.execute(statement).rowcount > 0, statement
    connection.commit()
    connection.close()


def found(call: homes.Caller, home: Path, code: int = 4) -> list[tuple[str, str]]:
    """What verify finds: (code, the first word of the place)."""
    done = call("verify", "--home", home, "--json")
    assert done.code == code, done
    return [(str(item["code"]), str(item["where"]).split()[0]) for item in done.json["findings"]]


def test_untouched_stores_are_in_order(call: homes.Caller, history: homes.Pair, tmp_path: Path) -> None:
    """Nothing is found at either node, with the passphrase or without it."""
    pair = homes.copy_pair(history, tmp_path)
    for country in ("TH", "KH"):
        assert found(call, pair.home(country), 0) == []
    config = pair.home("TH") / "config.toml"
    config.write_text(config.read_text().replace("passphrase_file = ", "# passphrase_file = "))
    done = call("verify", "--home", pair.home("TH"))
    assert done.code == 0
    assert "checked sealed, not opened" in done.err


@pytest.mark.parametrize(
    ("country", "statement", "finding"),
    [
        # the log
        ("KH", "UPDATE leaves SET leaf = CAST(replace(leaf, 'operator', 'somebody') AS BLOB) WHERE seq = 0",
         ("store.log_mismatch", "checkpoint")),
        ("KH", "UPDATE leaves SET leaf = x'7b7d' WHERE seq = 1", ("audit.bad_leaf", "entry")),
        ("KH", "UPDATE leaves SET leaf = (SELECT leaf FROM leaves WHERE seq = 0) WHERE seq = 2",
         ("audit.order", "entry")),
        ("KH", "DELETE FROM leaves WHERE seq = 2", ("audit.order", "entry")),
        ("KH", "UPDATE leaves SET leaf = CAST(replace(leaf, '\"time\":\"2', '\"time\":\"1') AS BLOB) WHERE seq = 3",
         ("audit.back_dated", "entry")),
        ("KH", "UPDATE log SET frontier = x'0000000000000000', size = 0", ("store.log_mismatch", "the")),
        ("KH", "UPDATE checkpoints SET note = x'00'", ("audit.bad_checkpoint", "checkpoint")),
        ("KH", "UPDATE checkpoints SET size = size + 100000", ("store.log_mismatch", "checkpoint")),
        # documents
        ("KH", "UPDATE documents SET bytes = x'7b7d' WHERE subject = 'th-fp1' AND type LIKE '%card%'",
         ("wire.missing", "document")),
        ("KH", "UPDATE documents SET digest = replace(digest, substr(digest, 1, 4), 'abcd') WHERE type LIKE '%agree%'",
         ("store.corrupt", "document")),
        # messages
        ("TH", "UPDATE outgoing SET status = 'refused' WHERE status IN ('answered', 'complete')",
         ("store.leaf_missing", "outgoing")),
        ("TH", "UPDATE outgoing SET answer = NULL, status = 'accepted'", ("store.leaf_missing", "outgoing")),
        ("TH", "UPDATE outgoing SET answer = 'abcd'", ("store.corrupt", "outgoing")),
        ("TH", "UPDATE windows SET next_seq = 1", ("store.corrupt", "outgoing")),
        ("KH", "UPDATE windows SET through = 0, above = ''", ("store.corrupt", "incoming")),
        ("KH", "UPDATE incoming SET status = 'refused'", ("store.leaf_missing", "incoming")),
        ("KH", "UPDATE incoming SET status = 'held'", ("store.leaf_missing", "incoming")),
        ("KH", "UPDATE incoming SET answer = NULL", ("store.corrupt", "incoming")),
        ("KH", "UPDATE incoming SET digest = replace(digest, substr(digest, 1, 4), 'abcd')",
         ("store.leaf_missing", "incoming")),
        ("KH", "UPDATE answers SET bytes = x'7b7d'", ("wire.missing", "incoming")),
        ("KH", "UPDATE answers SET bytes = (SELECT bytes FROM answers a WHERE a.digest <> answers.digest LIMIT 1)",
         ("envelope.not_for_us", "outgoing")),
        # envelopes
        ("KH", "DELETE FROM envelopes WHERE digest IN (SELECT digest FROM incoming)", ("store.row_missing", "entry")),
        ("KH", "DELETE FROM envelopes WHERE digest IN (SELECT digest FROM outbox)", ("store.corrupt", "outbox")),
        ("KH", "UPDATE envelopes SET body = zeroblob(length(body))", ("envelope.malformed", "envelope")),
        ("KH", "UPDATE envelopes SET digest = replace(digest, substr(digest, 1, 4), 'abcd')",
         ("store.corrupt", "envelope")),
        ("KH", "UPDATE envelopes SET peer = 'la-fp1'", ("store.corrupt", "envelope")),
        ("KH", "UPDATE envelopes SET cek = zeroblob(length(cek)) WHERE cek IS NOT NULL", ("store.corrupt", "envelope")),
        ("KH", "UPDATE cases SET wrapped = zeroblob(length(wrapped))", ("store.corrupt", "case")),
    ],
)  # fmt: skip
def test_altered_record_is_found(
    call: homes.Caller, spoiled: homes.Pair, country: str, statement: str, finding: tuple[str, str]
) -> None:
    """A record that was altered behind the node's back is found with its code and place, and the exit code is 4."""
    change(spoiled.home(country), statement)
    assert finding in found(call, spoiled.home(country))


def test_altered_evidence_is_found(call: homes.Caller, spoiled: homes.Pair) -> None:
    """An evidence file that was altered or removed is found."""
    home = spoiled.home("KH")
    (blob,) = [path for path in (home / "blobs").rglob("*") if path.is_file()]
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    assert found(call, home) == [("store.blob_missing", "evidence")]
    blob.unlink()
    assert found(call, home) == [("store.blob_missing", "evidence")]


def test_findings_are_shown_to_people(call: homes.Caller, spoiled: homes.Pair) -> None:
    """Each finding is shown with code, place and remedy."""
    home = spoiled.home("KH")
    change(home, "UPDATE incoming SET answer = NULL")
    done = call("verify", "--home", home)
    assert done.code == 4
    assert "STORE AND LOG DO NOT AGREE" in done.out
    assert done.refused("store.corrupt")


# The subjects of all entries of one event.
NAMED = "SELECT leaf ->> '$.subject' FROM (SELECT CAST(leaf AS TEXT) AS leaf FROM leaves) WHERE leaf ->> '$.event' = "
OTHERS_CARD = "SELECT digest FROM documents WHERE type LIKE '%card%' AND subject = 'kh-fp1'"


@pytest.mark.parametrize(
    ("country", "table", "which", "place"),
    [
        ("KH", "incoming", NAMED + "'received'", "(received), record"),
        ("TH", "incoming", NAMED + "'received'", "(received), record"),
        ("KH", "outgoing", NAMED + "'sealed'", "(sealed), record"),
        ("TH", "outgoing", NAMED + "'sealed'", "(sealed), record"),
        ("KH", "envelopes", NAMED + "'received'", "(received), envelope"),
        ("KH", "envelopes", NAMED + "'sealed'", "(sealed), envelope"),
        ("KH", "answers", NAMED + "'answered'", "(answered), answer"),
        ("TH", "documents", OTHERS_CARD, "(card_installed), record"),
        ("TH", "documents", NAMED + "'agreement_installed'", "(agreement_installed), record"),
        ("TH", "documents", NAMED + "'prekeys_published'", "(prekeys_published), record"),
        ("TH", "documents", NAMED + "'prekeys_received'", "prekeys of kh-fp1"),
    ],
)
def test_what_an_entry_names_is_asked_for(
    call: homes.Caller, spoiled: homes.Pair, country: str, table: str, which: str, place: str
) -> None:
    """A record that was removed behind the node's back is missed, because its entry still speaks of it."""
    change(spoiled.home(country), f"DELETE FROM {table} WHERE digest IN ({which})")  # noqa: S608 - see above
    assert [where for where in missing(call, spoiled.home(country)) if where.endswith(place)]


@pytest.mark.parametrize("country", ["KH", "TH"])
@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("DELETE FROM blobs", "evidence"),
        ("DELETE FROM cases", "case"),
        ("UPDATE outgoing SET status = 'sent', answer = NULL", "answer"),
        ("UPDATE incoming SET status = 'refused'", "(received), record"),
    ],
)
def test_what_a_message_needs_is_asked_for(
    call: homes.Caller, spoiled: homes.Pair, country: str, statement: str, place: str
) -> None:
    """A message without its evidence, its case's key or its answer, or with another outcome than logged, is found."""
    change(spoiled.home(country), statement)
    assert [where for where in missing(call, spoiled.home(country)) if place in where]


def missing(call: homes.Caller, home: Path) -> list[str]:
    """What verify misses in the store: the places."""
    done = call("verify", "--home", home, "--json")
    assert done.code == 4, done
    return [str(item["where"]) for item in done.json["findings"] if item["code"] == "store.row_missing"]


def test_emptied_store_is_found(call: homes.Caller, spoiled: homes.Pair) -> None:
    """A store whose messages were all removed does not agree with its log, however well the log itself holds."""
    home = spoiled.home("KH")
    tables = ("incoming", "outgoing", "envelopes", "answers", "blobs", "cases", "outbox")
    change(home, *(f"DELETE FROM {name}" for name in tables))  # noqa: S608 - the names above
    assert {code for code, _ in found(call, home)} == {"store.row_missing"}


def test_log_that_was_never_signed_is_found(call: homes.Caller, spoiled: homes.Pair) -> None:
    """The log of a node that has run has a checkpoint."""
    home = spoiled.home("KH")
    change(home, "DELETE FROM checkpoints")
    assert found(call, home) == [("store.unsigned", "checkpoints")]


def test_damaged_database_is_told(call: homes.Caller, spoiled: homes.Pair) -> None:
    """A database that is none any more, and one that is missing, exit 4 for every command that reads it."""
    home = spoiled.home("KH")
    (home / "node.db").write_bytes(b"not a database" * 1000)
    for words in (("verify",), ("audit", "export", "--out", spoiled.folder / "out"), ("inbox",), ("node", "run")):
        done = call(*words, "--home", home)
        assert (done.code, done.refused("store.corrupt")) == (4, True), words
    (home / "node.db").unlink()
    for words in (("verify",), ("inbox",)):
        assert call(*words, "--home", home).code == 4
    doctor = call("doctor", "--no-peers", "--home", home)
    assert doctor.code == 1
    assert "store.corrupt" in doctor.out


def test_database_of_a_later_version_is_told(call: homes.Caller, spoiled: homes.Pair) -> None:
    """A database without the tables that this program knows is not called damaged."""
    home = spoiled.home("KH")
    connection = sqlite3.connect(home / "node.db")
    connection.execute("ALTER TABLE documents RENAME TO papers")
    connection.close()
    assert call("verify", "--home", home).refused("node.database")


# -- exports ---------------------------------------------------------------------------------------


def test_export_is_a_new_folder(call: homes.Caller, history: homes.Pair, tmp_path: Path) -> None:
    """An export goes into a new folder, an existing one is left alone, and what was exported verifies."""
    out = tmp_path / "log"
    done = call("audit", "export", "--out", out, "--home", history.home("TH"))
    assert done.code == 0
    assert done.out.startswith("TRAINING")
    again = call("audit", "export", "--out", out, "--home", history.home("TH"))
    assert (again.code, again.refused("input.exists")) == (3, True)
    card = tmp_path / "th.json"
    card.write_bytes(history.cards["TH"])
    checked = call("audit", "verify", out, "--card", card)
    assert checked.code == 0
    assert "whole and unaltered" in checked.out
    assert "fingerprint" in checked.out
    assert "clock set back" in checked.out
    assert "log restarts" in checked.out
    assert "sealed" in checked.out


def test_altered_export_is_found(call: homes.Caller, history: homes.Pair, tmp_path: Path) -> None:
    """An export with one changed byte, and one held against another node's card, are not in order; exit code 1."""
    out = tmp_path / "log"
    assert call("audit", "export", "--out", out, "--home", history.home("TH")).code == 0
    card = tmp_path / "kh.json"
    card.write_bytes(history.cards["KH"])
    other = call("audit", "verify", out, "--card", card)
    assert (other.code, other.refused("audit.wrong_key")) == (1, True)
    entries = next((out / "tile" / "entries").rglob("*.p/*"))
    data = bytearray(entries.read_bytes())
    data[-2] ^= 1
    entries.write_bytes(data)
    done = call("audit", "verify", out)
    assert (done.code, "NOT IN ORDER" in done.out) == (1, True)
    assert call("audit", "verify", out, "--json").json["ok"] is False
    missing = call("audit", "verify", tmp_path / "nothing")
    assert (missing.code, missing.refused("input.not_found")) == (3, True)


def test_export_is_held_against_the_cards_dates(
    call: homes.Caller, history: homes.Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export is in order while the card's log keys were valid, and not when they begin to be later."""
    out, card = tmp_path / "log", tmp_path / "th.json"
    assert call("audit", "export", "--out", out, "--home", history.home("TH")).code == 0
    card.write_bytes(history.cards["TH"])
    assert call("audit", "verify", out, "--card", card).code == 0
    held = read_card(parse_signed_document(history.cards["TH"]))
    keys = log_keys_of(held)
    assert (keys.valid_from, keys.valid_until) == (held.keys[0].valid_from, held.keys[0].valid_until)
    late = replace(keys, valid_from=datetime.now(UTC) + timedelta(days=1))
    monkeypatch.setattr("exchange.cli.audit.log_keys_of", lambda _: late)
    done = call("audit", "verify", out, "--card", card)
    assert (done.code, done.refused("audit.key_expired")) == (1, True)


def test_only_a_signed_card_proves_whose_log_it_is(call: homes.Caller, history: homes.Pair, tmp_path: Path) -> None:
    """A card that its own authority did not sign is not believed."""
    out, card = tmp_path / "log", tmp_path / "card.json"
    assert call("audit", "export", "--out", out, "--home", history.home("TH")).code == 0
    card.write_bytes(history.cards["TH"].replace(b'"signatures":[{"keyid":"', b'"signatures":[{"keyid":"0')[:-1])
    assert call("audit", "verify", out, "--card", card).code == 1
    text = history.cards["TH"].replace(b'"sig":"A', b'"sig":"B').replace(b'"sig":"', b'"sig":"AAAA')
    card.write_bytes(text)
    assert call("audit", "verify", out, "--card", card).refused("key.threshold")


def test_home_without_a_card_exports_nothing(call: homes.Caller, tmp_path: Path) -> None:
    """Before a node has its card there is no log that anybody could check."""
    pair = homes.run(homes.make_pair(tmp_path, ("TH",), link=False))
    for words in (("audit", "export", "--out", tmp_path / "out"), ("verify",)):
        done = call(*words, "--home", pair.home("TH"))
        assert (done.code, done.refused("node.card")) == (3, True)


def test_card_names_both_log_keys(history: homes.Pair) -> None:
    """A card without one of the log's two keys names no log."""
    card: Any = read_card(parse_signed_document(history.cards["TH"]))
    assert log_keys_of(card).origin.node == "th-fp1"
    kept = tuple(held for held in card.keys if held.use is not Use.LOG or held.key.alg.value == "ed25519")
    object.__setattr__(card, "keys", kept)
    with pytest.raises(PeerError):
        log_keys_of(card)


def test_message_that_was_taken_back(call: homes.Caller, spoiled: homes.Pair) -> None:
    """A message that its sender took back has its entry and its signed void, and a damaged void is found."""
    home = spoiled.home("KH")
    (ident,) = [
        item["id"]
        for item in call("outbox", "--home", home, "--json").json["messages"]
        if item["status"] in {"queued", "sent"}
    ]

    async def take_back() -> None:
        async with offline_node(Home.open(home), homes.PASSPHRASE) as bundle:
            await bundle.node.sender.cancel(NodeId("th-fp1"), [ident], "relay.cancelled")

    homes.run(take_back())
    assert call("show", ident, "--home", home, "--json").json["status"] == "refused"
    assert found(call, home, 0) == []
    change(home, "UPDATE envelopes SET digest = replace(digest, substr(digest, 1, 4), 'abcd') WHERE body = x''")
    assert found(call, home) == [
        ("store.corrupt", "envelope"),
        ("store.corrupt", "outbox"),
        ("store.row_missing", "entry"),
    ]
