"""``exchange doctor``: what is wrong is found before it does harm, with its remedy."""

from __future__ import annotations

import os
import sqlite3
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from exchange.cli import checks, provision
from exchange.core.wire import encode_time, parse_time
from tests.cli import homes

if TYPE_CHECKING:
    from pathlib import Path


def examine(call: homes.Caller, home: Path, code: int, *words: str) -> dict[str, Any]:
    """What each check says, by its name."""
    done = call("doctor", "--home", home, "--json", *words)
    assert done.code == code, done
    return {check["check"]: check for check in done.json["checks"]}


def test_stopped_node_is_examined_without_asking(call: homes.Caller, pair: homes.Pair) -> None:
    """A stopped node is examined without a prompt; that it does not run is a warning, an unreachable peer a failure."""
    found = examine(call, pair.home("TH"), 1)
    assert found["node"]["state"] == "warn"
    assert found["passphrase"]["state"] == found["TLS key"]["state"] == found["own card"]["state"] == "ok"
    assert found["own prekeys"]["state"] == "warn"
    assert (found["way to kh-fp1"]["state"], found["way to kh-fp1"]["code"]) == ("fail", "relay.unreachable")
    assert all(check["remedy"] for check in found.values() if check["state"] != "ok")
    alone = examine(call, pair.home("TH"), 0, "--no-peers")
    assert "way to kh-fp1" not in alone
    text = call("doctor", "--no-peers", "--home", pair.home("TH"))
    assert text.out.startswith("TRAINING")
    assert all(len(line) <= 100 for line in text.out.splitlines())


def test_others_at_the_door_are_told(call: homes.Caller, pair: homes.Pair) -> None:
    """A home that others can enter is not opened; a passphrase file that others can read is a warning."""
    home = pair.home("TH")
    pair.passphrase().chmod(0o644)
    found = examine(call, home, 0, "--no-peers")["passphrase"]
    assert (found["state"], "chmod 600" in found["remedy"]) == ("warn", True)
    home.chmod(0o755)
    done = call("doctor", "--home", home)
    assert (done.code, done.refused("node.config")) == (3, True)
    assert "chmod 700" in done.err


def test_passphrase_is_tried(call: homes.Caller, pair: homes.Pair) -> None:
    """A passphrase that does not open the keys fails; none at hand is a warning."""
    home = pair.home("TH")
    pair.passphrase().write_bytes(b"wrong")
    assert examine(call, home, 1, "--no-peers")["passphrase"]["code"] == "input.passphrase"
    config = home / "config.toml"
    config.write_text(config.read_text().replace("passphrase_file = ", "# passphrase_file = "))
    assert examine(call, home, 0, "--no-peers")["passphrase"]["state"] == "warn"


@pytest.mark.parametrize(("free", "state"), [("1125899906842624", "fail"), ("{now}", "warn"), ("0", "ok")])
def test_room_on_the_disk_is_measured(call: homes.Caller, pair: homes.Pair, free: str, state: str) -> None:
    """A disk below what is never filled fails, one that comes near it is a warning."""
    home = pair.home("TH")
    now = os.statvfs(home)
    value = free.format(now=now.f_bavail * now.f_frsize - checks.ROOM_AHEAD // 2)
    config = home / "config.toml"
    config.write_text(config.read_text().replace("free_space_bytes = 0", f"free_space_bytes = {value}"))
    done = call("doctor", "--home", home, "--json", "--no-peers")
    assert {check["check"]: check["state"] for check in done.json["checks"]}["disk"] == state


def test_damaged_tls_file_is_told(call: homes.Caller, pair: homes.Pair) -> None:
    """A TLS certificate that cannot be read fails, and so does one that the card does not name."""
    home = pair.home("TH")
    (home / "tls.crt").write_bytes((pair.home("KH") / "tls.crt").read_bytes())
    assert examine(call, home, 1, "--no-peers")["own TLS pin"]["code"] == "input.card"
    (home / "tls.crt").write_bytes(b"")
    assert examine(call, home, 1, "--no-peers")["TLS key"]["code"] == "node.key"
    (home / "tls.crt").unlink()
    assert examine(call, home, 1, "--no-peers")["TLS key"]["code"] == "node.key"


def test_home_without_documents(call: homes.Caller, tmp_path: Path) -> None:
    """A new home has no card, no checkpoint and no agreement, and each is told."""
    pair = homes.run(homes.make_pair(tmp_path, ("TH",), link=False))
    found = examine(call, pair.home("TH"), 1)
    assert found["own card"]["code"] == "node.card"
    assert found["checkpoint"]["state"] == "warn"
    assert found["agreements"]["code"] == "agreement.unknown"


def test_blocked_peer_is_told(call: homes.Caller, pair: homes.Pair) -> None:
    """A block is a warning, so that nobody forgets it."""
    assert call("card", "block", "KH", "--home", pair.home("TH")).code == 0
    assert examine(call, pair.home("TH"), 0, "--no-peers")["block of kh-fp1"]["state"] == "warn"


@pytest.mark.parametrize(
    ("later", "card", "agreement"),
    [
        (timedelta(), "ok", "ok"),
        (timedelta(days=273), "ok", "ok"),
        (timedelta(days=275), "ok", "warn"),
        (timedelta(days=360), "ok", "warn"),
        (timedelta(days=400), "ok", "fail"),
        (timedelta(days=710), "warn", "fail"),
        (timedelta(days=800), "fail", "fail"),
    ],
)
def test_what_ends_is_told_in_time(
    call: homes.Caller,
    pair: homes.Pair,
    monkeypatch: pytest.MonkeyPatch,
    *,
    later: timedelta,
    card: str,
    agreement: str,
) -> None:
    """Cards are a warning thirty days before they end and agreements ninety, and both fail after it."""
    moment = provision.utc_now() + later
    monkeypatch.setattr(checks, "now", lambda: moment)
    done = call("doctor", "--home", pair.home("TH"), "--json", "--no-peers")
    states = {check["check"]: check["state"] for check in done.json["checks"]}
    assert (states["own card"], states["card of kh-fp1"], states["agreement pair/1"]) == (card, card, agreement)


@pytest.mark.parametrize("moment", [timedelta(hours=-2), timedelta(days=-3650), timedelta(days=36500)])
def test_clock_that_cannot_be_right(
    call: homes.Caller, pair: homes.Pair, monkeypatch: pytest.MonkeyPatch, moment: timedelta
) -> None:
    """A clock before the last log entry, before this program, or a lifetime ahead fails."""
    wrong = provision.utc_now() + moment
    monkeypatch.setattr(checks, "now", lambda: wrong)
    done = call("doctor", "--home", pair.home("TH"), "--json", "--no-peers")
    assert {check["check"]: check["code"] for check in done.json["checks"]}["clock"] == "node.clock"


def change(home: Path, statement: str, *values: str) -> None:
    """Change the database behind the node's back."""
    connection = sqlite3.connect(home / "node.db")
    connection.execute(statement, values)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("age", "state"), [(timedelta(), "ok"), (timedelta(hours=2), "warn"), (timedelta(hours=9), "fail")]
)
def test_old_message_in_a_queue_is_told(call: homes.Caller, pair: homes.Pair, age: timedelta, state: str) -> None:
    """A message that waits for hours is a warning, and after a working day a failure."""
    home = pair.home("TH")
    assert call("send", homes.REFERRAL, "--to", "KH", "--home", home).code == 0
    change(home, "UPDATE outgoing SET created = ?", encode_time(provision.utc_now() - age))
    found = examine(call, home, int(state == "fail"), "--no-peers")["queue to kh-fp1"]
    assert (found["state"], found["detail"].startswith("1 waiting")) == (state, True)


def queue_check(trouble: str | None, age: timedelta) -> checks.Check:
    """What is said of a queue whose oldest message has that age."""
    now = provision.utc_now()
    row = (
        "kh-fp1", "0" * 32, "sent", encode_time(now - age), encode_time(now), 1, 1, "a" * 64, None, None, None, None,
        "case", "b" * 64, None, None, "1", None, None, None, 0,
    )  # fmt: skip
    snapshot: Any = SimpleNamespace(rows=lambda *_: [row])
    registry: Any = SimpleNamespace(partners=lambda: ["kh-fp1"])
    health: dict[str, Any] = {"peers_state": [{"node": "kh-fp1", "trouble": trouble, "deferred": []}]}
    (check,) = checks.check_queues(snapshot, registry, health, now)
    return check


def test_trouble_of_a_queue_is_told_with_its_remedy() -> None:
    """What the running node last met at a peer is told, as a failure once messages wait for long."""
    fresh = queue_check("envelope.not_yet_valid", timedelta(minutes=5))
    assert (fresh.state, fresh.code, "clocks" in fresh.remedy) == ("warn", "envelope.not_yet_valid", True)
    assert queue_check("relay.unreachable", timedelta(hours=9)).state == "fail"


def test_log_of_a_running_node_is_signed_soon() -> None:
    """A running node whose newest checkpoint is old while its log grew has failed to sign."""
    now = provision.utc_now()
    old = encode_time(now - timedelta(hours=1))
    rows = {"log": [(9, b"", encode_time(now))], "checkpoint": [(5, old, b"")]}
    snapshot: Any = SimpleNamespace(rows=lambda name: rows[name])
    states = [check.state for check in checks.check_log(snapshot, now, running=True)]
    assert states == ["ok", "fail"]
    assert [check.state for check in checks.check_log(snapshot, now, running=False)] == ["ok", "ok"]


def test_agreements_that_begin_later_or_were_replaced() -> None:
    """An agreement that begins later, and one whose successor serves, are in order."""
    now = provision.utc_now()

    def agreement(version: int, begin: timedelta, end: timedelta) -> SimpleNamespace:
        return SimpleNamespace(
            id="pair", version=version, digest=str(version), valid_from=now + begin, valid_until=now + end, parties=()
        )

    day = timedelta(days=1)
    held = {"1": agreement(1, -9 * day, 99 * day), "2": agreement(2, day, 99 * day)}
    for end, word in ((-day, "replaced"), (day, "until")):  # of the first version, by its successor
        first = agreement(1, -9 * day, end)
        serving = held | {"1": first}
        registry: Any = SimpleNamespace(agreements=held, serving=serving.get, me="th-fp1")
        found = [(check.state, check.detail.split()[0]) for check in checks.check_agreements(registry, now)]
        assert found == [("ok", word), ("ok", "from")]


@pytest.mark.parametrize(("days", "warned"), [(89, 90), (29, 30), (6, 7)])
def test_end_of_an_agreement_is_warned_of_three_times(
    call: homes.Caller, pair: homes.Pair, monkeypatch: pytest.MonkeyPatch, days: int, warned: int
) -> None:
    """Ninety, thirty and seven days before, the days left are told with the command that renews it."""
    ends = call("agreement", "show", "pair", "--home", pair.home("TH"), "--json").json["valid_until"]
    monkeypatch.setattr(checks, "now", lambda: parse_time(ends) - timedelta(days=days, hours=1))
    done = call("doctor", "--home", pair.home("TH"), "--json", "--no-peers")
    (found,) = [check for check in done.json["checks"] if check["check"] == "agreement pair/1"]
    assert found["detail"].endswith(f": {days} days left, warned of at {warned}")
    assert found["remedy"] == "exchange agreement new --renew pair"


def test_suspended_agreement_is_told(call: homes.Caller, pair: homes.Pair) -> None:
    """An agreement that a party has suspended is a warning that says by whom."""
    home = pair.home("TH")
    assert call("agreement", "suspend", "pair", "--reason", "Invented.", "--home", home).code == 0
    found = examine(call, home, 0, "--no-peers")["agreement pair/1"]
    assert (found["state"], found["code"]) == ("warn", "agreement.suspended")
    assert found["detail"].startswith("suspended by th-fp1 since ")


def test_dead_socket_is_not_a_running_node(call: homes.Caller, pair: homes.Pair) -> None:
    """A socket that a crash left behind does not count as a running node."""
    home = pair.home("TH")
    (home / "control.sock").touch()
    assert examine(call, home, 0, "--no-peers")["node"]["state"] == "warn"
    assert call("outbox", "--home", home).code == 0
