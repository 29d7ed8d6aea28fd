"""``exchange due`` and what else tells of answers that are due: lists, doctor, the operator's log, quotas."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from exchange.cli import provision
from exchange.core.wire import encode_time, parse_signed_document
from tests.cli import homes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RESPONSE: Final = homes.EXAMPLES / "information-response" / "examples" / "answered.json"
HOUR: Final = timedelta(hours=1)


def put(pair: homes.Pair, *rows: tuple[str, str, timedelta]) -> None:
    """Write clocks into Thailand's store: direction, urgency, and how long ago the message was accepted."""
    digest = parse_signed_document(pair.agreement).digest()
    with sqlite3.connect(pair.home("TH") / "node.db") as store:
        for number, (direction, urgency, ago) in enumerate(rows, 1):
            accepted = encode_time(provision.utc_now() - ago)
            values = (direction, "kh-fp1", f"{number:032x}", urgency, None, digest, "art-1", accepted, "waiting")
            store.execute("INSERT INTO clocks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    store.close()


def test_nothing_is_due_at_first(call: homes.Caller, pair: homes.Pair) -> None:
    """A node that nobody asked says so, in words and as an empty list."""
    done = call("due", "--home", pair.home("TH"))
    assert (done.code, "No answer is due." in done.out) == (0, True)
    assert call("due", "--home", pair.home("TH"), "--json").json["due"] == []


def test_due_list_is_sorted_and_marked(call: homes.Caller, pair: homes.Pair) -> None:
    """The list begins with what is due first, marks what is late, and names the duty desk of the latest."""
    put(
        pair,
        ("in", "urgent_8h", HOUR),
        ("out", "urgent_8h", 17 * HOUR),
        ("in", "urgent_8h", 9 * HOUR),
        ("out", "urgent_3d", 40 * HOUR),
        ("in", "urgent_8h", 7 * HOUR),
        ("out", "urgent_8h", 8 * HOUR),
    )
    found = call("due", "--home", pair.home("TH"), "--json").json["due"]
    assert [item["state"] for item in found] == [
        "escalated", "overdue", "due", "last_reminder", "waiting", "reminder",
    ]  # fmt: skip
    assert [item["owed"] for item in found] == ["to us", "by us", "to us", "by us", "by us", "to us"]
    assert [item["due"] for item in found] == sorted(item["due"] for item in found)
    assert [bool(item["duty_desk"]) for item in found] == [True, *[False] * 5]
    text = call("due", "--home", pair.home("TH")).out
    assert all(len(line) <= 100 for line in text.splitlines())
    assert text.count("OVERDUE") == 2
    assert "DUE NOW" in text
    assert f"duty desk of kh-fp1: {found[0]['duty_desk']}" in " ".join(text.split())


def test_doctor_warns_of_late_answers(call: homes.Caller, pair: homes.Pair) -> None:
    """Late answers are a warning with what to do, by whom they are owed; those in time are none."""
    put(pair, ("in", "urgent_8h", 9 * HOUR), ("out", "urgent_8h", HOUR))
    done = call("doctor", "--no-peers", "--json", "--home", pair.home("TH"))
    found = {check["check"]: check for check in done.json["checks"]}
    assert done.code == 0
    assert (found["answers owed by us"]["state"], found["answers owed to us"]["state"]) == ("warn", "ok")
    assert found["answers owed by us"]["detail"] == "1 due, 1 of them late"
    assert "exchange due" in found["answers owed by us"]["remedy"]


def test_quota_of_the_day_is_shown(call: homes.Caller, pair: homes.Pair, tmp_path: Path) -> None:
    """The dry run and the agreement say how many of the day's messages are used, of this sender and of the other."""
    home = pair.home("TH")
    digest = parse_signed_document(pair.agreement).digest()
    with sqlite3.connect(home / "node.db") as store:
        day = provision.utc_now().date().isoformat()
        store.execute("INSERT INTO quotas VALUES (?, 'art-1', 'th-fp1', ?, 7)", (digest, day))
    store.close()
    done = call("agreement", "check", homes.REFERRAL, "--to", "KH", "--home", home, "--json")
    assert done.json["recipients"][0]["quota"] == {"used": 7, "per_day": 100}
    text = call("agreement", "check", homes.REFERRAL, "--to", "KH", "--home", home).out
    assert "quota:     7 of 100 a day are used" in text
    shown = call("agreement", "show", "pair", "--home", home, "--json").json["quotas"]
    assert sorted((item["from"], item["used"]) for item in shown) == [("kh-fp1", 0), ("th-fp1", 7)]
    assert "th-fp1 has used 7 of 100 messages" in call("agreement", "show", "pair", "--home", home).out
    acknowledgement = homes.EXAMPLES / "acknowledgement" / "examples" / "bare.json"
    draft = homes.write_draft(tmp_path / "ack.json", acknowledgement, in_reply_to=None)
    free = call("agreement", "check", draft, "--to", "KH", "--home", home, "--json")
    assert free.json["recipients"][0]["quota"] is None


# -- running nodes ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[homes.Pair]:
    """Thailand and Cambodia, both running."""
    pair: homes.Pair = homes.run(homes.make_pair(tmp_path_factory.mktemp("network")))
    with homes.running(pair, "TH", "KH"):
        yield pair


def one(call: homes.Caller, home: Path, command: str, ident: str) -> dict[str, Any]:
    """What a list says of one message."""
    listed = call(command, "--home", home, "--json").json
    (found,) = [item for item in listed["due" if command == "due" else "messages"] if item["id"] == ident]
    return dict(found)


@pytest.mark.slow
def test_answer_is_due_at_both_ends_until_it_is_given(call: homes.Caller, network: homes.Pair, tmp_path: Path) -> None:
    """A referral is listed with the same due time by who sent it and who has to answer, until the answer arrived."""
    home, other = network.home("TH"), network.home("KH")
    done = call("send", homes.REFERRAL, "--to", "KH", "--wait", "--json", "--home", home)
    ident = done.json["id"]
    ours, theirs = one(call, home, "due", ident), one(call, other, "due", ident)
    assert (ours["owed"], theirs["owed"]) == ("to us", "by us")
    same = ("due", "accepted", "urgency", "agreement", "clause", "kind", "case")
    assert [ours[name] for name in same] == [theirs[name] for name in same]
    assert ours["kind"] == "case-referral"
    assert one(call, home, "outbox", ident)["clock"]["due"] == ours["due"]
    assert one(call, other, "inbox", ident)["clock"]["state"] == "waiting"
    assert f"due {ours['due']}" in call("inbox", "--home", other).out
    draft = homes.write_draft(tmp_path / "answer.json", RESPONSE, case=None, in_reply_to=None, onward=None)
    answered = call("reply", ident, draft, "--wait", "--json", "--home", other)
    assert (answered.code, answered.json["status"]) == (0, "accepted")
    clocks = [one(call, home, "outbox", ident)["clock"], one(call, other, "inbox", ident)["clock"]]
    assert [item["state"] for item in clocks] == ["answered", "answered"]
    assert clocks[0]["answered"] == clocks[1]["answered"]
    for at in (home, other):
        assert ident not in [item["id"] for item in call("due", "--home", at, "--json").json["due"]]
