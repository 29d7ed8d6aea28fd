"""``exchange due`` and what else tells of answers that are due: lists, doctor, the operator's log, quotas."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from exchange.cli import provision, reading
from exchange.core.wire import encode_time, parse_signed_document
from tests.cli import homes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exchange.core.wire import JsonObject

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


# -- onward use ------------------------------------------------------------------------------------


def test_unknown_message_is_told(call: homes.Caller, pair: homes.Pair) -> None:
    """What this node never received is not asked about, decided on or passed on."""
    home, ident = pair.home("TH"), "0" * 32
    words = ("--to", "KH", "--purpose", "prosecution", "--reason", "why")
    assert call("onward", "request", ident, *words, "--home", home).refused("input.unknown_id")
    assert call("onward", "decide", ident, "--refuse", "--home", home).refused("input.unknown_id")
    assert call("forward", ident, "--to", "KH", "--home", home).refused("input.unknown_id")


def test_decision_is_one_of_two(call: homes.Caller, pair: homes.Pair) -> None:
    """A decision without a word, with a last day for a refusal, or with a day that is none is a wrong command."""
    home, ident = pair.home("TH"), "0" * 32
    for words in ((), ("--refuse", "--until", "2026-12-01"), ("--grant", "--until", "tomorrow")):
        done = call("onward", "decide", ident, *words, "--home", home)
        assert (done.code, done.refused("input.usage")) == (2, True)


# -- running nodes ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[homes.Pair]:
    """Thailand, Cambodia and Viet Nam, all running."""
    pair: homes.Pair = homes.run(homes.make_pair(tmp_path_factory.mktemp("network"), ("TH", "KH", "VN")))
    with homes.running(pair, "TH", "KH", "VN"):
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


@pytest.mark.slow
def test_message_is_passed_on_once_its_originator_agrees(
    call: homes.Caller, network: homes.Pair, tmp_path: Path
) -> None:
    """Cambodia asks, Thailand grants, Viet Nam receives and sees the origin, and Thailand is told; not before."""
    draft = homes.write_draft(tmp_path / "case.json", onward="with_consent")
    th, kh, vn = network.home("TH"), network.home("KH"), network.home("VN")
    ident = call("send", draft, "--to", "KH", "--wait", "--json", "--home", th).json["id"]
    early = call("forward", ident, "--to", "VN", "--home", kh)
    assert (early.code, early.refused("onward.not_permitted")) == (1, True)
    assert "clause: art-1" in early.err
    words = ("--to", "VN", "--purpose", "prosecution", "--reason", "The recruiter lives there.", "--json")
    asked = call("onward", "request", ident, *words, "--home", kh)
    assert (asked.code, asked.json["to"]) == (0, "th-fp1")
    came(call, th, asked.json["id"])
    decided = call("onward", "decide", asked.json["id"], "--grant", "--condition", "Police only.", "--home", th)
    assert (decided.code, "to kh-fp1" in decided.out) == (0, True)
    came(call, kh, decided.out.split("Message ")[1].split()[0])
    plan = call("forward", ident, "--to", "VN", "--dry-run", "--home", kh)
    assert (plan.code, "nothing was passed on" in plan.out) == (0, True)
    done = call("forward", ident, "--to", "VN", "--json", "--home", kh)
    assert (done.code, done.json["origin"]["id"]) == (0, ident)
    came(call, vn, done.json["id"])
    shown = call("show", done.json["id"], "--json", "--home", vn).json
    assert (shown["from"], shown["origin"]) == ("kh-fp1", "th-fp1")
    assert shown["header"]["origin"]["root"] == call("show", ident, "--json", "--home", th).json["root"]
    came(call, th, done.json["notice"])
    again = call("forward", ident, "--to", "VN", "--home", kh)
    assert (again.code, "th-fp1, is told" in again.out) == (0, True)
    second = call("forward", done.json["id"], "--to", "TH", "--home", vn)
    assert second.refused("onward.not_permitted")


def came(call: homes.Caller, home: Path, ident: str) -> None:
    """Wait until a message is there."""
    while call("show", ident, "--home", home).refused("input.unknown_id"):
        pass


def test_what_may_be_done_with_a_message_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """A message shows how far it may go, how long it may be kept and which others it is about."""
    header: JsonObject = {"onward": "with_consent", "retention": 730, "refers_to": ["a" * 32], "to": ["kh-fp1"]}
    reading._show_message({"id": "b" * 32, "status": "accepted", "header": header})  # noqa: SLF001 - told to people alone
    told = capsys.readouterr().out
    for words in ("with_consent", "730", "a" * 32, "b" * 32, "accepted"):
        assert words in told
