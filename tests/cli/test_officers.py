"""Officers from the command line: made, listed, signed offline, and let in or turned away."""

from __future__ import annotations

import io
import json
import re
import stat
import sys
from typing import TYPE_CHECKING, Any

import pytest

from exchange.adapters.keyring import unlock_secrets
from exchange.cli import approving
from exchange.core.errors import LocalError
from tests.cli import homes, staff

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def cheap() -> Iterator[None]:
    with homes.cheap_passphrases():
        yield


@pytest.fixture
def people(pair: homes.Pair, call: homes.Caller) -> staff.Staff:
    made = staff.Staff(call, pair)
    staff.appoint(made)
    return made


def draft(people: staff.Staff) -> Path:
    """A message that two must approve."""
    return homes.write_draft(people.pair.folder / "draft.json", purpose="coordination")


def test_a_personal_key_is_the_officers_own(pair: homes.Pair, call: homes.Caller) -> None:
    """Its file opens with its own passphrase, not with the node's, is private, and its name stays in the home."""
    me = staff.Staff(call, pair)
    made = me.done("officer", "new", "សុខ", "--officer-passphrase-file", me.passphrase("sok"), "--json").json
    path = me.home / "officers" / f"{made['id'][:32]}.json"
    assert made["file"] == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "សុខ" not in path.read_text()
    box = json.dumps(json.loads(path.read_bytes())["secret"]).encode()
    assert set(unlock_secrets(box, b"testonly sok", "key")) == {"ed25519"}
    with pytest.raises(LocalError, match=r"input\.passphrase"):
        unlock_secrets(box, homes.PASSPHRASE, "key")
    assert json.loads((me.home / "officers" / "names.json").read_bytes()) == {made["id"]: "សុខ"}
    again = me("officer", "new", "សុខ", "--officer-passphrase-file", me.passphrase("sok"))
    assert (again.code, again.refused("input.exists")) == (3, True)
    assert me("officer", "new", "a/b").code == 2
    outside = me.done("officer", "new", "dara", "--out", pair.folder / "stick.json", "--officer-passphrase-file",
                      me.passphrase("dara"), "--json").json  # fmt: skip
    assert outside["file"] == str(pair.folder / "stick.json")


def test_a_list_says_who_may_what(people: staff.Staff) -> None:
    """What is installed is told by key, with the names of this home; a peer sees none of these."""
    listed = people.done("officer", "list", "--json").json
    assert (listed["serial"], listed["node"]) == (1, "th-fp1")
    assert {item["name"]: tuple(item["roles"]) for item in listed["officers"]} == staff.ROLES
    shown = people.done("officer", "list").out
    assert "vanna" in shown
    assert "officer, supervisor" in shown
    assert max(map(len, shown.splitlines())) <= 100
    theirs = people.done("officer", "list", "KH")
    assert "has no officers" in theirs.out
    document = (people.pair.folder / "officers.json").read_text()
    assert not any(name in document for name in staff.ROLES)


def test_a_card_shows_who_appoints(people: staff.Staff) -> None:
    """How many personnel keys must sign stands on the card, at the node and in the file; without any, nothing does."""
    for which in ((), (people.pair.folder / "card.json",)):
        assert re.search(r"^personnel +2 of 3 keys$", people.done("card", "show", *which).out, re.MULTILINE)
    assert "personnel" not in people.done("card", "show", "KH").out


def test_enough_of_the_personnel_must_sign(people: staff.Staff) -> None:
    """One key of two is not enough; file in, file out, the next one adds its own."""
    folder = people.pair.folder
    next_list = folder / "next.draft.json"
    people.done("officer", "remove", "audit", "--draft", next_list)
    keys = sorted((people.personnel / "keys").iterdir())
    for key in keys[1:]:
        key.rename(folder / f"away-{key.name}")
    people.offline("officer", "sign", next_list)
    refused = people("officer", "install", folder / "next.json")
    assert (refused.code, refused.refused("key.threshold")) == (1, True)
    keys[0].rename(folder / "away-1.json")
    (folder / f"away-{keys[1].name}").rename(keys[1])
    signed = people.offline("officer", "sign", folder / "next.json", "--json").json
    assert (signed["type"], signed["signatures"], signed["serial"]) == ("officers", 2, 2)
    people.done("officer", "install", folder / "next.json")
    ids = people.done("officer", "list", "--json").json["officers"]
    assert "audit" not in {item["name"] for item in ids}
    stale = people("officer", "install", folder / "officers.json")
    assert stale.code == 1
    assert stale.refused("officers.stale")


def test_who_signs_what(people: staff.Staff) -> None:
    """The authority signs no list, the personnel sign no card, and nobody a list of another country or network."""
    folder, secret = people.pair.folder, ("--passphrase-file", people.pair.passphrase())
    people.done("officer", "remove", "audit", "--draft", folder / "x.draft.json")
    by_authority = people.call(
        "authority", "sign", folder / "x.draft.json", "--home", people.pair.authority("TH"), *secret
    )
    assert by_authority.refused("wire.wrong_type")
    by_personnel = people.call("officer", "sign", people.home / "card.json", "--home", people.personnel, *secret)
    assert by_personnel.refused("wire.wrong_type")
    for country, network, code in (("KH", homes.NETWORK, "officers.invalid"), ("TH", "mekong", "key.wrong_network")):
        other = folder / f"personnel-{country}-{network}"
        words = ("--home", other, *secret)
        assert people.call("personnel", "create", "--country", country, "--network", network, *words).code == 0
        refused = people.call("officer", "sign", folder / "x.draft.json", *words)
        assert (refused.code, refused.refused(code)) == (1, True)
        wrong = "card.chain" if country == "KH" else "key.wrong_network"
        assert people.call("personnel", "card", people.home / "card.json", *words).refused(wrong)
    assert people.call("personnel", "card", folder / "x.draft.json", "--home", people.personnel).refused(
        "wire.wrong_type"
    )
    few = ("personnel", "create", "--country", "TH", "--keys", "1", "--threshold", "2", "--home", folder / "few")
    assert people.call(*few).code == 2


def test_personnel_go_into_a_first_card(people: staff.Staff, tmp_path: Path) -> None:
    """A card's draft is completed in its place, and names these personnel and no earlier ones."""
    path = tmp_path / "first.unsigned.json"
    path.write_bytes((people.home / "card.unsigned.json").read_bytes())
    for _ in range(2):
        people.offline("personnel", "card", path)
    found = json.loads(path.read_bytes())
    assert [key["use"] for key in found["keys"]].count("personnel") == 3
    assert (found["personnel_threshold"], found["version"]) == (2, 1)


def test_a_draft_is_continued_and_corrected(people: staff.Staff) -> None:
    """Adding again changes roles, a draft of the next serial grows, and a signed list is not written over."""
    folder = people.pair.folder
    path = folder / "next.draft.json"
    first = people.done("officer", "add", "sok", "--role", "officer", "--role", "supervisor", "--draft", path, "--json")
    assert (first.json["serial"], len(first.json["officers"])) == (2, 5)
    shown = people.done("officer", "remove", "dara", "--draft", path).out
    assert "list 2" in shown
    assert "dara" not in shown
    roles = {tuple(item["roles"]) for item in json.loads(path.read_bytes())["officers"]}
    assert ("officer", "supervisor") in roles
    unknown = people("officer", "remove", "nobody", "--draft", path)
    assert (unknown.code, unknown.refused("input.officer")) == (3, True)
    assert people("officer", "add", "nobody", "--role", "officer", "--draft", path).refused("input.officer")
    over = people("officer", "remove", "sok", "--draft", folder / "officers.json")
    assert over.refused("input.exists")
    assert people.call("officer", "add", "sok", "--role", "officer", "--draft", path, "--home",
                       people.pair.home("KH")).refused("input.officer")  # fmt: skip


def test_the_operator_and_the_auditor_open_nothing(people: staff.Staff) -> None:
    """Without an officer, or as one without the role, nothing is sent or shown; what runs the node goes on."""
    staff.agree(people)
    for words in (("send", draft(people), "--to", "KH"), ("show", "0" * 32), ("approve", "0" * 32)):
        alone = people(*words)
        assert alone.code in {1, 2}
        for name in ("admin", "audit"):
            refused = people(*words, by=name)
            assert (refused.code, refused.refused("officers.role")) == (1, True)
    assert people("send", draft(people), "--to", "KH").refused("officers.required")
    for line in ("inbox", "outbox", "card list", "agreement list", "officer list"):
        assert people(*line.split()).code == 0


def test_two_approve_and_it_leaves(people: staff.Staff) -> None:
    """Sent by one officer, it waits and says for what; two others see and sign it; the proposer cannot."""
    staff.agree(people)
    trial = people.done("agreement", "check", draft(people), "--to", "KH").out
    assert "2 more officers must approve" in trial
    sent = people.done("send", draft(people), "--to", "KH", by="sok").out
    assert "It waits for 2 approvals, of whom 1 a supervisor." in sent
    (line,) = people.done("outbox", "--json", by="sok").json["messages"]
    ident = line["id"]
    assert (line["status"], line["code"]) == ("queued", "envelope.approval")
    assert [item["role"] for item in line["approvals"]["given"]] == ["proposer"]
    (bare,) = people.done("outbox", "--json").json["messages"]
    assert "kind" not in bare
    unread = people("approve", ident, by="dara")
    assert (unread.code, unread.refused("input.declined")) == (3, True)
    own = people("approve", ident, "--yes", by="sok")
    assert own.refused("officers.twice")
    first = people.done("approve", ident, "--yes", "--json", by="dara").json
    assert first["missing"] == {"count": 1, "supervisors": 1, "proposer": False}
    shown = people.done("show", ident, by="dara").out
    assert "signed as officer by dara (" in shown
    assert "It waits for 1 approval, of whom 1 a supervisor." in shown
    last = people.done("approve", ident, "--yes", by="vanna")
    assert "All approvals are there: it leaves." in last.out
    (left,) = people.done("outbox", "--json", by="vanna").json["messages"]
    assert (left["status"], "approvals" in left) == ("queued", False)  # it waits for contact now, as any other
    assert people("approve", ident, "--yes", by="vanna").refused("officers.not_asked")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_officer_reads_before_signing(people: staff.Staff, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal the whole header and all parts are shown, with the root computed from them; a no signs nothing."""
    staff.agree(people)
    people.done("send", draft(people), "--to", "KH", by="sok")
    ident = people.done("outbox", "--json", by="sok").json["messages"][0]["id"]
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    no = people("approve", ident, by="vanna")
    assert (no.code, no.refused("input.declined")) == (3, True)
    for shown in (
        "purpose: coordination",
        "to: kh-fp1",
        f"id: {ident}",
        "retention: ",
        "proposed by  sok (",
        "the node says: to kh-fp1 by clause 4-eyes",
        "part main",
        "root",
    ):
        assert shown in no.out
    assert "Approve this as supervisor?" in no.err
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    yes = people.done("approve", ident, "--role", "officer", by="vanna")
    assert "It waits for 1 approval, of whom 1 a supervisor." in yes.out


def test_a_root_of_something_else_is_not_signed() -> None:
    """Whatever the node says the root is, it is computed from what is shown."""
    parts = [{"salt": "AAAAAAAAAAAAAAAAAAAAAA==", "json": "{}"}, {"digest": "0" * 64, "clause": "1"}]
    with pytest.raises(LocalError, match=r"input\.root"):
        approving.compute_root({"parts": parts, "root": "0" * 64})


def test_keys_of_files_are_not_shown_to_approvers(capsys: pytest.CaptureFixture[str]) -> None:
    """Who approves sees which files go, and not the keys that open them."""
    digest = "0" * 64
    file = {"name": "bank.csv", "len": 3, "blob": {"h": digest, "key": "Tol1Z3rX", "len": 9}}
    texts = [json.dumps({"kind": "evidence"}), json.dumps([file, "as it is"]), json.dumps({"blob": "of a case"})]
    shown: dict[str, Any] = {
        "id": "0" * 32, "proposer": digest, "recipients": [], "names": ["attachments", "main"], "given": [],
        "parts": [{"salt": "", "json": text} for text in texts],
        "missing": {"proposer": False, "count": 0, "supervisors": 0},
    }  # fmt: skip
    approving._show(shown, {}, digest)  # noqa: SLF001 - asked at a terminal alone
    told = capsys.readouterr().out
    assert "bank.csv" in told
    assert "as it is" in told
    assert "of a case" in told
    assert "Tol1Z3rX" not in told


def test_approving_needs_somebody(people: staff.Staff) -> None:
    """Without a name there is nobody to sign; a wrong passphrase and an unknown name are told as such."""
    assert people("approve", "0" * 32).code == 2
    assert people("show", "0" * 32, "--as", "nobody").refused("input.officer")
    wrong = people("show", "0" * 32, "--as", "sok", "--officer-passphrase-file", people.passphrase("dara"))
    assert (wrong.code, wrong.refused("input.passphrase")) == (3, True)
    assert people("show", "0" * 32, "--as", "sok").refused("input.no_passphrase")
    damaged = people.pair.folder / "damaged.json"
    damaged.write_text("{}")
    assert people("show", "0" * 32, "--as", damaged).refused("node.key")


def test_a_node_without_officers_has_nobody_to_act_as(pair: homes.Pair, call: homes.Caller) -> None:
    """A key alone makes nobody an officer."""
    me = staff.Staff(call, pair)
    me.done("officer", "new", "sok", "--officer-passphrase-file", me.passphrase("sok"))
    assert me("inbox", by="sok").refused("officers.not_listed")
    listed = me.done("officer", "list", "--json").json
    assert (listed["serial"], listed["officers"]) == (0, [])


def doctored(people: staff.Staff, code: int = 0) -> dict[str, dict[str, str]]:
    done = people("doctor", "--no-peers", "--json")
    assert done.code == code, done
    return {item["check"]: item for item in done.json["checks"]}


def test_doctor_misses_people(people: staff.Staff) -> None:
    """A list of nobody, keys that end soon, and clauses that want more people than there are."""
    staff.agree(people)
    assert doctored(people)["officers, list 1"]["state"] == "ok"
    path = people.pair.folder / "next.draft.json"

    def install(number: int) -> None:
        people.offline("officer", "sign", path, "--out", people.pair.folder / f"{number}.json")
        people.done("officer", "install", people.pair.folder / f"{number}.json")
        path.unlink()

    people.done("officer", "remove", "vanna", "--draft", path)
    people.done("officer", "add", "sok", "--role", "officer", "--days", "20", "--draft", path)
    install(2)
    found = doctored(people)
    assert found["officers, list 2"]["state"] == "warn"
    assert found["clause 4-eyes of four-eyes/1"]["detail"] == (
        "asks for 2 approvals, 1 by supervisors: too few are listed"
    )
    for name in ("sok", "dara"):
        people.done("officer", "remove", name, "--draft", path)
    install(3)
    assert doctored(people, 1)["officers"]["detail"] == "list 3: nobody can act"
    assert "officers" not in {name.partition(",")[0] for name in _of_kh(people)}


def test_doctor_tells_of_clauses_that_nobody_can_serve(pair: homes.Pair, call: homes.Caller) -> None:
    """A node without officers that agreed to approvals sends nothing under that clause, and is told so."""
    me = staff.Staff(call, pair)
    me.done("agreement", "install", staff.four_eyes(me, ("TH", "KH")))
    found = doctored(me)["clause 4-eyes of four-eyes/1"]
    assert (found["state"], found["code"]) == ("warn", "officers.not_listed")
    assert "officers, list 1" not in doctored(me)


def test_doctor_tells_of_a_list_that_the_card_does_not_stand_behind(people: staff.Staff) -> None:
    """After a card with other personnel, nobody can act until these have signed."""
    folder, secret = people.pair.folder, ("--passphrase-file", people.pair.passphrase())
    other = ("--home", folder / "others", *secret)
    assert people.call("personnel", "create", "--country", "TH", "--network", homes.NETWORK, *other).code == 0
    assert (
        people.call("personnel", "card", people.home / "card.json", "--out", folder / "3.unsigned.json", *other).code
        == 0
    )
    sign = ("authority", "sign", folder / "3.unsigned.json", "--home", people.pair.authority("TH"), *secret)
    assert people.call(*sign).code == 0
    people.done("card", "import", folder / "3.json")
    assert doctored(people, 1)["officers"]["code"] == "key.threshold"
    assert people("inbox", by="sok").refused("officers.not_listed")


def _of_kh(people: staff.Staff) -> list[str]:
    done = people.call("doctor", "--no-peers", "--json", "--home", people.pair.home("KH"))
    return [item["check"] for item in done.json["checks"]]


def test_the_log_knows_officers_by_key_alone(people: staff.Staff) -> None:
    """Who sent and approved is in the log by the beginning of the key id, and nowhere by name."""
    staff.agree(people)
    people.done("send", draft(people), "--to", "KH", by="sok")
    ids = {item["name"]: item["id"] for item in people.done("officer", "list", "--json").json["officers"]}
    people.done("audit", "export", "--out", people.pair.folder / "log")
    entries = b"".join(path.read_bytes() for path in sorted((people.pair.folder / "log").rglob("*")) if path.is_file())
    assert f'"event":"approved","actor":"{ids["sok"][:32]}"'.encode() in entries
    assert not any(f'"{name}'.encode() in entries for name in staff.ROLES if name != "audit")
    assert people("verify").code == 0


def test_verify_misses_the_list_that_a_message_rests_on(people: staff.Staff) -> None:
    """A list that is taken out of the store is missed, by its entry and by what was sealed under it."""
    import sqlite3  # noqa: PLC0415 - whoever damages a store comes from outside

    staff.agree(people)
    with sqlite3.connect(people.home / "node.db") as database:
        database.execute("DELETE FROM documents WHERE type LIKE '%officers%'")
    database.close()
    found = people("verify", "--json")
    assert found.code == 4
    assert [item["where"].partition(" (")[2] for item in found.json["findings"]] == ["officers_installed), record"]
