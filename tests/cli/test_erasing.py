"""``exchange recall``, ``exchange hold`` and what lists, show and doctor say of copies, at nodes that do not run."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from exchange.cli import provision
from exchange.cli.erasing import REASONS, copy_words
from exchange.core.wire import encode_time
from tests.cli import homes
from tests.schemas.samples import book

if TYPE_CHECKING:
    from tests.cli.homes import Caller, Pair

ERASED = {
    "stage": "erased", "erased": "2026-11-24T02:10:00Z", "why": "recall", "held_until": None, "replaced_by": None,
}  # fmt: skip


def sent(call: Caller, pair: Pair) -> str:
    """A message that waits in Thailand's queue."""
    return str(call("send", homes.REFERRAL, "--to", "KH", "--home", pair.home("TH"), "--json").json["id"])


def test_reasons_are_those_of_the_code_list() -> None:
    """The command line knows the reasons before the schemas are read, and they are the same."""
    assert tuple(book().codes("recall_reasons")) == REASONS


def test_a_waiting_message_is_taken_back(call: Caller, pair: Pair) -> None:
    """The command says what it did for each recipient, and the outbox shows the message as recalled."""
    ident = sent(call, pair)
    done = call("recall", ident, "--reason", "error", "--home", pair.home("TH"))
    assert (done.code, "taken back before it was accepted" in done.out) == (0, True)
    (line,) = call("outbox", "--home", pair.home("TH"), "--json").json["messages"]
    assert (line["status"], line["copy"]["stage"], line["copy"]["reason"]) == ("recalled", "wanted", "error")
    text = call("outbox", "--home", pair.home("TH")).out
    assert "taken back" in text
    assert all(len(row) <= 100 for row in text.splitlines())
    shown = call("show", ident, "--home", pair.home("TH")).out
    assert "copy at kh-fp1: taken back" in shown


def test_a_recall_that_reaches_nobody_is_a_no(call: Caller, pair: Pair) -> None:
    """An unknown message, a reason that is none, and a message that nobody has any more."""
    home = pair.home("TH")
    assert call("recall", "0" * 32, "--reason", "error", "--home", home, "--json").code == 3
    assert call("recall", "0" * 32, "--reason", "regret", "--home", home, "--json").code == 2
    ident = sent(call, pair)
    assert call("recall", ident, "--reason", "other", "--note", "why", "--to", "KH", "--home", home, "--json").code == 0
    again = call("recall", ident, "--reason", "other", "--home", home, "--json")
    assert (again.code, again.json["error"]["code"]) == (1, "input.nothing_to_recall")


def test_a_hold_needs_a_received_message(call: Caller, pair: Pair) -> None:
    """Nothing that this node sent can be held, and what was never received is unknown."""
    ident = sent(call, pair)
    for words in (
        ("add", ident, "--court", "Invented court", "--reference", "EX-1", "--until", "2999-01-01"),
        ("release", ident),
        ("list", ident),
    ):
        done = call("hold", *words, "--home", pair.home("TH"), "--json")
        assert (done.code, done.json["error"]["code"]) == (3, "input.unknown_id")


@pytest.mark.parametrize(
    ("copy", "words"),
    [
        (None, ""),
        (ERASED, "erased 2026-11-24 (recall)"),
        ({"stage": "asked", "held_until": None}, "recall sent"),
        ({"stage": "asked", "held_until": "2027-01-01"}, "recall sent, held until 2027-01-01"),
        ({"stage": "due", "held_until": None}, "to be erased"),
        ({"stage": "kept", "held_until": "2027-01-01"}, "held until 2027-01-01"),
        ({"stage": "kept", "held_until": None}, ""),
    ],
)
def test_words_of_a_list(copy: dict[str, Any] | None, words: str) -> None:
    """A list says in a few words what becomes of a copy."""
    assert copy_words({"copy": copy}) == words


def test_doctor_tells_of_copies_and_of_a_doubtful_clock(call: Caller, pair: Pair) -> None:
    """A doubted clock is a warning with the command that ends it, and that command ends it."""
    home = pair.home("TH")

    def checks() -> dict[str, dict[str, Any]]:
        found = call("doctor", "--no-peers", "--home", home, "--json").json["checks"]
        return {item["check"]: item for item in found}

    assert checks()["copies here"]["detail"] == "0 to be erased, 0 of them under a legal hold"
    assert checks()["clock for erasing"]["state"] == "ok"
    with sqlite3.connect(home / "node.db") as store:
        store.execute("INSERT OR REPLACE INTO meta VALUES ('clock_doubt', ?)", (encode_time(provision.utc_now()),))
    store.close()
    doubted = checks()["clock for erasing"]
    assert (doubted["state"], "node clock --confirm" in doubted["remedy"]) == ("warn", True)
    assert "has been doubted since" in call("node", "clock", "--home", home).out
    assert "not doubted" in call("node", "clock", "--confirm", "--home", home).out
    assert call("node", "clock", "--home", home, "--json").json["doubted_since"] is None
    assert checks()["clock for erasing"]["state"] == "ok"
