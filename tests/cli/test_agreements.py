"""``exchange agreement``: draft, install, show, check."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from exchange.cli import provision
from exchange.core.keys import read_card
from exchange.core.wire import DocumentType, KeyId, Signature, UnverifiedDocument, encode_signed_document, encode_time
from tests.cli import homes

if TYPE_CHECKING:
    from pathlib import Path


def signed(pair: homes.Pair, payload: object) -> bytes:
    """An agreement's payload signed by both authorities."""
    data = json.dumps(payload).encode()
    for country in ("TH", "KH"):
        data = provision.sign_document(provision.unlock_authority(pair.authority(country), homes.PASSPHRASE), data)
    return data


def payload_of(pair: homes.Pair, **changes: object) -> dict[str, object]:
    """The payload of a fresh agreement between the two."""
    cards = [read_card(provision.parse_draft(data)) for data in pair.cards.values()]
    return dict(homes.agreement_of(cards, homes.clauses_of([card.node for card in cards]))) | changes


# -- drafts ----------------------------------------------------------------------------------------


def test_draft_from_the_cards_held(call: homes.Caller, pair: homes.Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The draft names both nodes with their authorities' fingerprints, explains itself, and can be signed as it is."""
    monkeypatch.chdir(pair.folder)
    done = call("agreement", "new", "--with", "KH", "--home", pair.home("TH"), "--days", "30", "--json")
    assert done.code == 0
    assert (done.json["file"], done.json["parties"]) == ("kh-th.draft.json", ["kh-fp1", "th-fp1"])
    draft = json.loads((pair.folder / "kh-th.draft.json").read_bytes())
    prints = {
        f"{country.lower()}-fp1": provision.load_authority(pair.authority(country)).authority.fingerprint
        for country in ("TH", "KH")
    }
    assert {party["node"]: party["authority"] for party in draft["parties"]} == prints
    assert draft["//"]
    again = call("agreement", "new", "--with", "KH", "--home", pair.home("TH"))
    assert (again.code, again.refused("input.exists")) == (3, True)


def test_draft_from_card_files_needs_no_home(call: homes.Caller, made: homes.Pair, tmp_path: Path) -> None:
    """Two cards as files are enough; a card that is not signed, and one card alone, are not."""
    for country, card in made.cards.items():
        (tmp_path / f"{country}.json").write_bytes(card)
    words = ("agreement", "new", "--id", "two", "--card", tmp_path / "TH.json")
    done = call(*words, "--card", tmp_path / "KH.json", "--out", tmp_path / "two.draft.json")
    assert done.code == 0
    assert done.out.startswith("TRAINING")
    shown = call("agreement", "show", tmp_path / "two.draft.json")
    assert "two/1" in shown.out
    assert all(len(line) <= 100 for line in shown.out.splitlines())
    assert call(*words).code == 2
    bare = json.loads(made.cards["KH"]) | {"signatures": [{"keyid": "0" * 64, "sig": "AAAA"}]}
    (tmp_path / "bare.json").write_text(json.dumps(bare))
    assert call(*words, "--card", tmp_path / "bare.json").refused("key.threshold")


# -- installing ------------------------------------------------------------------------------------


def test_agreement_is_installed_once_all_signed(call: homes.Caller, pair: homes.Pair) -> None:
    """An agreement with one signature of two is refused; with both it serves, and a rival of it is refused."""
    home, file = pair.home("TH"), pair.folder / "second.json"
    payload = payload_of(pair, id="second")
    signer = provision.unlock_authority(pair.authority("TH"), homes.PASSPHRASE)
    file.write_bytes(provision.sign_document(signer, json.dumps(payload).encode()))
    half = call("agreement", "install", file, "--home", home)
    assert (half.code, half.refused("key.threshold")) == (1, True)
    file.write_bytes(signed(pair, payload))
    assert call("agreement", "install", file, "--home", home).code == 0
    again = call("agreement", "install", file, "--home", home, "--json")
    assert again.json["id"] == "second"
    file.write_bytes(signed(pair, payload | {"title": {"en": "Another text"}}))
    assert call("agreement", "install", file, "--home", home).refused("agreement.conflict")
    listed = call("agreement", "list", "--home", home, "--json").json["agreements"]
    assert [item["id"] for item in listed] == ["pair", "second"]


def test_successor_ends_what_it_supersedes(call: homes.Caller, pair: homes.Pair) -> None:
    """The list says that a version serves until its successor begins, and show takes the newest."""
    home, file = pair.home("TH"), pair.folder / "next.json"
    first = call("agreement", "show", "pair", "--home", home, "--json").json
    begin = provision.utc_now() + timedelta(days=1)
    payload = payload_of(pair, version=2, supersedes=first["digest"], valid_from=begin.strftime("%Y-%m-%dT%H:%M:%SZ"))
    file.write_bytes(signed(pair, payload))
    assert call("agreement", "install", file, "--home", home).code == 0
    listed = call("agreement", "list", "--home", home, "--json").json["agreements"]
    assert [(item["version"], item["serves_until"]) for item in listed] == [
        (2, payload["valid_until"]),
        (1, payload["valid_from"]),
    ]
    assert call("agreement", "show", "pair", "--home", home, "--json").json["version"] == 2
    assert call("agreement", "show", "pair", "--version", "1", "--home", home, "--json").json["version"] == 1
    assert "pair/2" in call("agreement", "list", "--home", home).out


def test_unknown_agreement_is_told(call: homes.Caller, pair: homes.Pair) -> None:
    """An id or a version that is not installed is refused."""
    for words in (("nothing",), ("No.thing",), ("pair", "--version", "7")):
        done = call("agreement", "show", *words, "--home", pair.home("TH"))
        assert (done.code, done.refused("input.unknown_agreement")) == (3, True)


def test_file_that_is_no_agreement(call: homes.Caller, pair: homes.Pair) -> None:
    """A draft that nobody signed, and a file that is something else, are told as what they are."""
    draft = pair.home("TH") / "card.unsigned.json"
    home = ("--home", pair.home("TH"))
    for words in (("card", "import", draft), ("agreement", "install", draft), ("agreement", "new", "--card", draft)):
        more = ("--card", draft) if "new" in words else ()
        done = call(*words, *more, *home)
        assert (done.code, done.refused("input.unsigned")) == (1, True)
        assert "exchange authority sign" in done.err
    for words in (
        ("card", "import", homes.REFERRAL),
        ("card", "show", homes.REFERRAL),
        ("agreement", "install", homes.REFERRAL),
        ("agreement", "show", homes.REFERRAL),
    ):
        done = call(*words, *home)
        assert (done.code, done.refused("input.not_document")) == (1, True)
    (pair.folder / "th.json").write_bytes(pair.cards["TH"])
    assert call("agreement", "install", pair.folder / "th.json", *home).refused("wire.wrong_type")
    half = json.loads(pair.cards["TH"])
    del half["payload"]
    (pair.folder / "th.json").write_text(json.dumps(half))
    assert call("card", "import", pair.folder / "th.json", *home).refused("wire.missing")


def test_card_is_no_agreement(call: homes.Caller, pair: homes.Pair) -> None:
    """A document of another type is not installed as an agreement."""
    path = pair.folder / "card.json"
    path.write_bytes(pair.cards["KH"])
    assert call("agreement", "install", path, "--home", pair.home("TH")).refused("wire.wrong_type")


def test_every_condition_is_shown(call: homes.Caller, pair: homes.Pair, tmp_path: Path) -> None:
    """Quota, approvals, a narrowing schema and prohibitions are shown with the clauses."""
    payload = payload_of(pair)
    clauses = payload["clauses"]
    assert isinstance(clauses, list)
    clauses[0] |= {"quota_per_day": 5, "content": {"required": ["links"]}}
    clauses[0]["requires"]["approvals"] = {"count": 2, "supervisors": 1}
    clauses[0]["respond_within"] = {"urgent_8h": 8}
    payload["prohibitions"] = [
        {"id": "never-1", "text": {"en": "Never this."}, "when": {"content": {"required": ["acts"]}}}
    ]
    path = tmp_path / "draft.json"
    path.write_text(json.dumps(payload))
    out = call("agreement", "show", path).out
    assert "quota" in out
    assert "5 a day" in out
    assert "2 officers, 1 of them supervisors" in out
    assert "urgent_8h (answer within 8 h)" in out
    assert 'must match {"required":["links"]}' in out
    assert 'matches {"required":["acts"]}' in out
    assert "never-1 (prohibition): Never this." in out
    assert "safety" in out


# -- checking --------------------------------------------------------------------------------------


def test_check_says_yes_by_clause(call: homes.Caller, pair: homes.Pair) -> None:
    """A permitted draft is shown with its clause and parts, and nothing is stored."""
    done = call("agreement", "check", homes.REFERRAL, "--to", "KH", "--home", pair.home("TH"))
    assert done.code == 0
    assert "allowed" in done.out
    assert "art-1" in done.out
    assert call("outbox", "--home", pair.home("TH"), "--json").json["messages"] == []


def test_check_says_no_and_why(call: homes.Caller, pair: homes.Pair, tmp_path: Path) -> None:
    """A draft that no clause permits is answered with code, clause and what would have to change; exit code 1."""
    draft = homes.write_draft(tmp_path / "draft.json", tlp="RED")
    done = call("agreement", "check", draft, "--to", "KH", "--home", pair.home("TH"))
    assert done.code == 1
    assert done.refused("agreement.tlp")
    assert "clause: art-1" in done.err
    assert "at most AMBER" in done.err


def installed_with(pair: homes.Pair, folder: Path, call: homes.Caller, **changes: object) -> homes.Pair:
    """A copy of the pair where a second version of the agreement is in force."""
    copied = homes.copy_pair(pair, folder / "pair")
    document = provision.parse_draft(pair.agreement)
    begin = encode_time(provision.utc_now() - timedelta(hours=1))  # after the first version, and before now
    payload = payload_of(copied, version=2, supersedes=document.digest(), valid_from=begin, **changes)
    path = folder / "second.json"
    path.write_bytes(signed(copied, payload))
    done = call("agreement", "install", path, "--home", copied.home("TH"))
    assert done.code == 0, done.err
    return copied


def clause_of(pair: homes.Pair, **changes: object) -> dict[str, object]:
    """The clause for cases, with some members changed."""
    clauses = payload_of(pair)["clauses"]
    assert isinstance(clauses, list)
    first = clauses[0]
    assert isinstance(first, dict)
    return first | changes


def test_dry_run_tells_everything_that_would_have_to_change(
    call: homes.Caller, pair: homes.Pair, tmp_path: Path
) -> None:
    """A refusal lists each condition that fails, not only the first, in the words of the clause."""
    draft = homes.write_draft(tmp_path / "draft.json", tlp="RED", onward="parties", retention_days=9000)
    done = call("send", draft, "--to", "KH", "--dry-run", "--home", pair.home("TH"))
    assert done.code == 1
    for told in (
        "KH-fp1".lower() + ": refused by pair/1 art-1: Cases, suspects",
        "to change: at most AMBER (agreement.tlp)",
        "to change: at most with_consent (agreement.onward)",
        "to change: at most 1825 days (agreement.retention)",
    ):
        assert told in done.out
    assert max(map(len, done.out.splitlines())) <= 100
    listed = call("send", draft, "--to", "KH", "--dry-run", "--home", pair.home("TH"), "--json").json
    needs = listed["recipients"][0]["needs"]
    assert [need["code"] for need in needs] == ["agreement.tlp", "agreement.onward", "agreement.retention"]


def test_dry_run_tells_what_is_withheld_and_which_duties_follow(
    call: homes.Caller, pair: homes.Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A permitted draft is told with the fields that stay here, why, when an answer is due and when it is erased."""
    monkeypatch.setenv("LC_ALL", "km_KH.UTF-8")
    text = {"en": "Cases may be sent.", "km": "អាចផ្ញើករណីបាន។"}
    clause = clause_of(pair, withhold=["identity"], respond_within={"urgent_8h": 6, "normal_7d": 168}, text=text)
    copied = installed_with(pair, tmp_path, call, clauses=[clause])
    draft = homes.write_draft(tmp_path / "draft.json", handling=["H1", "H3"])
    clause["permit"]["handling"] = ["H1", "H3"]  # type: ignore[index]
    done = call("agreement", "check", draft, "--to", "KH", "--home", copied.home("TH"))
    assert done.refused("agreement.handling")
    draft = homes.write_draft(tmp_path / "draft.json", urgency="normal_7d")
    done = call("agreement", "check", draft, "--to", "KH", "--home", copied.home("TH"))
    assert done.code == 0
    for told in (
        "kh-fp1: allowed by pair/2 art-1: អាចផ្ញើករណីបាន។",
        "withheld:  identity (entities[].identity), because art-1 says so",
        "duty:      the recipient answers within 168 hours of accepting it",
        "days after accepting it",
        "duty:      the recipient does not pass it on",
    ):
        assert told in done.out


def test_dry_run_tells_who_must_still_approve(call: homes.Caller, pair: homes.Pair, tmp_path: Path) -> None:
    """Approvals that are missing are a duty before sending; onward use and conditions are told with their parties."""
    ask = clause_of(pair)["requires"]
    assert isinstance(ask, dict)
    clause = clause_of(
        pair,
        requires=ask | {"approvals": {"count": 2, "supervisors": 1}},
        onward={"use": "parties", "parties": ["kh-fp1"]},
    )
    permit = clause["permit"]
    assert isinstance(permit, dict)
    clause["permit"] = permit | {"handling": ["H1", "H3"]}
    copied = installed_with(pair, tmp_path, call, clauses=[clause])
    where = ("--to", "KH", "--home", copied.home("TH"))
    draft = homes.write_draft(tmp_path / "draft.json", handling=["H3"], onward="parties")
    done = call("agreement", "check", draft, *where)
    assert done.refused("envelope.approval")
    for told in (
        "to change: 2 approvals, 1 by supervisors; there: 0, 0",
        "duty:      2 more officers must approve before it can leave",
        "duty:      1 more of those who approve must be supervisors",
        "duty:      the recipient may pass it on to kh-fp1",
        "(H3)",
    ):
        assert told in done.out
    draft = homes.write_draft(tmp_path / "draft.json", handling=["H3"], onward="with_consent")
    assert "the recipient asks before passing it on" in call("agreement", "check", draft, *where).out


@pytest.mark.parametrize(
    ("changes", "code", "told"),
    [
        ({"prohibitions": [{"id": "p-1", "text": {"en": "No."}, "when": {}}]}, "agreement.unusable", "shadowed"),
        ({"valid_until": "tomorrow"}, "wire.bad_time", "/valid_until"),
        ({"title": {"English": "x"}}, "agreement.malformed", "/title"),
    ],
)
def test_a_faulty_agreement_is_neither_signed_nor_installed(
    call: homes.Caller, pair: homes.Pair, tmp_path: Path, changes: dict[str, object], code: str, told: str
) -> None:
    """Every fault is told with its place before anything is signed; what others signed all the same is not used."""
    draft = tmp_path / "draft.json"
    draft.write_text(json.dumps(payload_of(pair, **changes)))
    done = call("agreement", "sign", draft, "--home", pair.authority("TH"), "--json")
    assert done.code == 1
    assert done.json["error"]["code"] == code
    assert told in json.dumps(done.json["problems"])
    document = UnverifiedDocument(DocumentType.AGREEMENT, draft.read_bytes(), (Signature(KeyId("0" * 64), b"x"),))
    signed = tmp_path / "signed.json"
    signed.write_bytes(encode_signed_document(document))
    done = call("agreement", "install", signed, "--home", pair.home("TH"))
    assert done.refused(code)
    assert told in done.out
    done = call("schema", "validate", draft)
    assert done.code == 1
    assert told in done.out


def test_a_sound_agreement_is_valid(call: homes.Caller, pair: homes.Pair, tmp_path: Path) -> None:
    """A draft and a signed agreement are told to be valid by the schema of agreements."""
    draft = tmp_path / "draft.json"
    draft.write_text(json.dumps(payload_of(pair)))
    signed = tmp_path / "signed.json"
    signed.write_bytes(pair.agreement)
    for path in (draft, signed):
        done = call("schema", "validate", path)
        assert (done.code, done.out) == (0, f"{path.name} is valid: agreement/v1\n")
