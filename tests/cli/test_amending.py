"""``exchange agreement new --amend`` and ``--renew``, and ``diff``: from one version to the next."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from exchange.cli import provision
from exchange.cli.amending import next_version
from exchange.core import wire
from tests.cli import homes

if TYPE_CHECKING:
    from pathlib import Path

TODAY = datetime(2026, 11, 23, tzinfo=UTC)
DAY = timedelta(days=1)


def held(begin: int, end: int) -> dict[str, Any]:
    """A first version as the desk gives it; days from today."""
    text = {
        "id": "pair",
        "version": 1,
        "supersedes": None,
        "parties": [{"node": "kh-fp1", "authority": "1" * 64}, {"node": "th-fp1", "authority": "2" * 64}],
        "valid_from": wire.encode_time(TODAY + begin * DAY),
        "valid_until": wire.encode_time(TODAY + end * DAY),
        "clauses": ["as they were"],
    }
    return {"text": text, "digest": "9" * 64}


@pytest.mark.parametrize(
    ("begin", "end", "days", "renew", "expected"),
    [
        (-10, 90, None, False, (1, 90)),  # an amendment begins tomorrow and changes no end
        (-10, 90, 30, False, (1, 31)),
        (-10, 90, None, True, (90, 190)),  # a renewal begins when the one before ends, for as long
        (-10, 90, 30, True, (90, 120)),
        (-100, -10, None, False, (0, 90)),  # of what is over both begin today
        (-100, -10, None, True, (0, 90)),
        (-10, 1, None, False, (1, 12)),  # nothing is left of the old time
    ],
)
def test_dates_of_the_next_version(
    begin: int, end: int, days: int | None, expected: tuple[int, int], *, renew: bool
) -> None:
    """Amendments keep the end, renewals follow the end, and what is over begins again today."""
    made = next_version(held(begin, end), {}, TODAY, days, renew=renew)
    assert (made["valid_from"], made["valid_until"]) == tuple(wire.encode_time(TODAY + at * DAY) for at in expected)


def test_version_before_that_is_still_to_begin() -> None:
    """The next version of one that begins later begins after it."""
    made = next_version(held(5, 90), {}, TODAY, None, renew=False)
    assert made["valid_from"] == wire.encode_time(TODAY + 5 * DAY + timedelta(seconds=1))


def test_everything_else_is_taken_over() -> None:
    """Number and predecessor are filled in, a party's authority is that of its card now, the rest is as it was."""
    made = next_version(held(-10, 90), {"kh-fp1": "7" * 64}, TODAY, None, renew=False)
    assert (made["version"], made["supersedes"], made["clauses"]) == (2, "9" * 64, ["as they were"])
    assert [party["authority"] for party in made["parties"]] == ["7" * 64, "2" * 64]


def signed(pair: homes.Pair, path: Path) -> Path:
    """The file with both authorities' signatures."""
    data = path.read_bytes()
    for country in ("TH", "KH"):
        data = provision.sign_document(provision.unlock_authority(pair.authority(country), homes.PASSPHRASE), data)
    target = path.with_name("signed.json")
    target.write_bytes(data)
    return target


def test_amendment_from_draft_to_force(call: homes.Caller, pair: homes.Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A draft of the next version is changed, compared, signed by both, installed, and then takes over."""
    monkeypatch.chdir(pair.folder)
    home = ("--home", pair.home("TH"))
    done = call("agreement", "new", "--amend", "pair", *home)
    assert done.code == 0
    assert "pair.2.draft.json" in done.out
    path = pair.folder / "pair.2.draft.json"
    same = call("agreement", "diff", "pair", path, *home, "--json")
    assert {item["what"] for item in same.json["differences"]} == {"valid from"}
    draft = json.loads(path.read_bytes())
    draft["clauses"][0]["retention_days"] += 1
    draft["clauses"][0]["permit"]["tlp"] = "CLEAR"
    del draft["clauses"][1]
    path.write_text(json.dumps(draft))
    found = call("agreement", "diff", "pair", path, *home)
    text = " ".join(found.out.split())
    ident = draft["clauses"][0]["id"]
    for part in (f"clause {ident}:", "WIDER retention days:", "NARROWER TLP: AMBER -> CLEAR", "NARROWER clause: -"):
        assert part in text
    assert "pair/1 -> pair/2: 1 wider, 3 narrower, 0 changed" in text
    assert all(len(line) <= 100 for line in found.out.splitlines())
    assert call("agreement", "install", signed(pair, path), *home).code == 0
    both = call("agreement", "diff", "pair/1", "pair/2", *home, "--json").json
    assert (both["before"], both["after"], len(both["differences"])) == ("pair/1", "pair/2", 4)
    again = call("agreement", "diff", "pair/2", "pair", *home)
    assert "say the same" in again.out


def test_renewal_has_new_dates_only(call: homes.Caller, pair: homes.Pair) -> None:
    """A renewal begins when the version before ends, and differs from it in nothing but its dates."""
    path = pair.folder / "renewed.json"
    home = ("--home", pair.home("TH"))
    done = call("agreement", "new", "--renew", "pair", "--days", "30", "--out", path, *home, "--json")
    before = call("agreement", "show", "pair", *home, "--json").json
    assert (done.json["version"], done.json["supersedes"]) == (2, before["digest"])
    assert done.json["valid_from"] == before["valid_until"]
    found = call("agreement", "diff", "pair", path, *home, "--json").json["differences"]
    assert {(item["what"], item["effect"]) for item in found} == {("valid from", "narrower"), ("valid until", "wider")}
    assert call("agreement", "new", "--renew", "pair", "--out", path, *home).refused("input.exists")


def test_next_version_takes_no_parties(call: homes.Caller, pair: homes.Pair) -> None:
    """Parties and name come from the version before; an unknown one is told."""
    home = ("--home", pair.home("TH"))
    for more in (("--with", "KH"), ("--id", "other"), ("--renew", "pair")):
        assert call("agreement", "new", "--amend", "pair", *more, *home).code == 2
    assert call("agreement", "new", "--amend", "nothing", *home).refused("input.unknown_agreement")
    for which in ("nothing", "pair/2", "pair/x", "pair/"):
        assert call("agreement", "diff", "pair", which, *home).refused("input.unknown_agreement")


def test_status_names_what_ends_soon(call: homes.Caller, pair: homes.Pair) -> None:
    """An agreement whose end is near is in the node's status, with the days that are left."""
    home = ("--home", pair.home("TH"))
    assert "ending soon" not in call("node", "status", *home).out
    path = pair.folder / "short.json"
    assert call("agreement", "new", "--amend", "pair", "--days", "20", "--out", path, *home).code == 0
    assert call("agreement", "install", signed(pair, path), *home).code == 0
    assert "pair/2 on 20" in call("node", "status", *home).out
    (item,) = call("node", "status", *home, "--json").json["agreements_ending"]
    assert (item["agreement"], item["days_left"], item["warning"]) == ("pair/2", 20, 30)
