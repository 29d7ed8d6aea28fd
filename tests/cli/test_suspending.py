"""``exchange agreement suspend``, ``leave``, ``resume``: at the node, at the authority, and what both ends say then."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click
import pytest

from exchange.cli import provision
from exchange.core.wire import encode_signed_document
from tests.cli import homes

if TYPE_CHECKING:
    from pathlib import Path

WHY = ("--reason", "Keys of the node were stolen")


def draft_of(pair: homes.Pair, call: homes.Caller, action: str, *more: str) -> Path:
    """A notice's draft, written at Thailand's node."""
    path = pair.folder / f"{action}.draft.json"
    done = call("agreement", action, "pair", *WHY, "--draft", path, *more, "--home", pair.home("TH"), "--json")
    assert (done.code, done.json["file"]) == (0, str(path))
    return path


def sign(pair: homes.Pair, path: Path, country: str = "TH") -> bytes:
    """The notice signed by a country's authority."""
    return provision.sign_document(
        provision.unlock_authority(pair.authority(country), homes.PASSPHRASE), path.read_bytes()
    )


def state_of(call: homes.Caller, home: Path) -> Any:  # noqa: ANN401 - JSON
    """The one agreement as the list shows it."""
    (item,) = call("agreement", "list", "--home", home, "--json").json["agreements"]
    return item


def test_suspension_at_a_stopped_node(call: homes.Caller, pair: homes.Pair) -> None:
    """A stopped node suspends, refuses what its officers send, says so in list and doctor, and owes the notice."""
    home = pair.home("TH")
    done = call("agreement", "suspend", "pair", *WHY, "--home", home)
    assert done.code == 0
    assert "pair was suspended by th-fp1 at 20" in done.out
    checked = call("agreement", "check", homes.REFERRAL, "--to", "KH", "--home", home)
    assert checked.refused("agreement.suspended")
    assert "suspended by th-fp1" in checked.err
    item = state_of(call, home)
    assert item["state"] == "suspended"
    (stands,) = item["standing"]
    assert (stands["node"], stands["state"], stands["by"]) == ("kh-fp1", "suspended", "th-fp1")
    assert stands["reason"] == {"en": WHY[1]}
    assert "with kh-fp1: suspended by th-fp1" in " ".join(call("agreement", "list", "--home", home).out.split())
    shown = " ".join(call("agreement", "show", "pair", "--home", home).out.split())
    assert f"with kh-fp1: suspended by th-fp1 since {stands['since']}: {WHY[1]}" in shown
    assert call("agreement", "show", "pair", "--home", home, "--json").json["standing"] == [stands]
    checks = call("doctor", "--no-peers", "--home", home, "--json").json["checks"]
    (owed,) = [item for item in checks if item["check"] == "notices to kh-fp1"]
    assert (owed["state"], owed["detail"]) == ("warn", "1 not acknowledged")
    assert call("verify", "--home", home).code == 0


def test_authority_alone_resumes(call: homes.Caller, pair: homes.Pair) -> None:
    """A resumption is a file that changes nothing, becomes one with the authority's signature, and is installed."""
    home = pair.home("TH")
    call("agreement", "suspend", "pair", *WHY, "--home", home)
    path = draft_of(pair, call, "resume")
    assert json.loads(path.read_bytes())["serial"] == 2
    assert state_of(call, home)["state"] == "suspended"
    assert call("agreement", "install", path, "--home", home).refused("input.unsigned")
    signed = call(
        "authority", "sign", path, "--home", pair.authority("TH"), "--passphrase-file", pair.passphrase(), "--json"
    )
    assert (signed.json["type"], signed.json["action"], signed.json["signatures"]) == ("notice", "resume", 1)
    done = call("agreement", "install", signed.json["file"], "--home", home)
    assert "pair was resumed by th-fp1" in done.out
    assert state_of(call, home)["state"] == "serves"
    assert call("agreement", "check", homes.REFERRAL, "--to", "KH", "--home", home).code == 0
    assert call("agreement", "install", signed.json["file"], "--home", home, "--json").json["by_authority"] is True


def test_draft_is_shown_before_it_is_signed(call: homes.Caller, pair: homes.Pair) -> None:
    """Whoever signs sees agreement, party, reason, and whether the others go on; the draft's place is told."""
    path = draft_of(pair, call, "suspend", "--nobody-continues", "--language", "th")
    read = json.loads(path.read_bytes())
    assert (read["others_continue"], read["reason"]) == (False, {"th": WHY[1]})
    words = ("--home", pair.authority("TH"), "--passphrase-file", pair.passphrase())
    signed = call("agreement", "sign", path, *words)
    for text in ("suspend pair", "th-fp1, number 1", "stop as well", WHY[1], "1 signature)"):
        assert text in signed.out
    told = call("agreement", "leave", "pair", *WHY, "--draft", path.with_name("leave.json"), "--home", pair.home("TH"))
    assert "nothing has changed yet" in told.out
    again = call("agreement", "leave", "pair", *WHY, "--draft", path.with_name("leave.json"), "--home", pair.home("TH"))
    assert again.refused("input.exists")


def test_authority_signs_its_own_countrys_notices(call: homes.Caller, pair: homes.Pair) -> None:
    """Another country's authority, and one of another network, refuse to sign; an unsigned file is no notice."""
    path = draft_of(pair, call, "suspend")
    words = ("--passphrase-file", pair.passphrase())
    assert call("authority", "sign", path, "--home", pair.authority("KH"), *words).refused("agreement.not_party")
    text = path.read_text().replace("training-cli", "training-other")
    path.write_text(text)
    assert call("authority", "sign", path, "--home", pair.authority("TH"), *words).refused("key.wrong_network")


def test_notice_of_another_party_comes_as_a_file(call: homes.Caller, pair: homes.Pair) -> None:
    """A notice that the other authority signed is installed from a file; one with another signature is refused."""
    path = draft_of(pair, call, "suspend")
    file = pair.folder / "notice.json"
    file.write_bytes(sign(pair, path))
    assert call("agreement", "install", file, "--home", pair.home("KH")).code == 0
    assert state_of(call, pair.home("KH"))["state"] == "suspended"
    checks = call("doctor", "--no-peers", "--home", pair.home("KH"), "--json").json["checks"]
    assert not [item for item in checks if item["check"].startswith("notices")]  # it is Thailand's to tell
    signer = provision.unlock_authority(pair.authority("KH"), homes.PASSPHRASE)
    document = provision.parse_draft(path.read_bytes())
    forged = document.payload.replace(b'"serial":1', b'"serial":5')
    key = signer.keys[0].sign(document.payload_type, forged)
    file.write_bytes(encode_signed_document(key))
    assert call("agreement", "install", file, "--home", pair.home("KH")).refused("key.threshold")


def test_leaving_is_asked_for_and_final(call: homes.Caller, pair: homes.Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a yes nothing is left; with it nothing about the agreement is said any more."""
    home = pair.home("TH")
    assert homes.program("agreement", "leave", "pair", *WHY, "--home", home).refused("input.declined")
    monkeypatch.setattr(click, "confirm", lambda *_, **__: False)
    assert call("agreement", "leave", "pair", *WHY, "--home", home).refused("input.declined")
    assert state_of(call, home)["state"] == "serves"
    monkeypatch.setattr(click, "confirm", lambda *_, **__: True)
    assert "pair was left by th-fp1" in call("agreement", "leave", "pair", *WHY, "--home", home).out
    assert state_of(call, home)["state"] == "left"
    for words in (("suspend",), ("resume",), ("leave", "--yes")):
        assert call("agreement", *words, "pair", *WHY, "--home", home).refused("agreement.notice_stale")


def test_unknown_agreement_is_not_suspended(call: homes.Caller, pair: homes.Pair) -> None:
    """An id that is not installed is told, and a reason is asked for."""
    home = pair.home("TH")
    assert call("agreement", "suspend", "nothing", *WHY, "--home", home).refused("input.unknown_agreement")
    assert call("agreement", "suspend", "pair", "--home", home).code == 2


@pytest.mark.slow
def test_suspension_between_running_nodes(pair: homes.Pair) -> None:
    """Suspended at one running node, the other refuses too; after the authority's word both ends exchange again."""
    th, kh = ("--home", pair.home("TH")), ("--home", pair.home("KH"))

    def until(state: str) -> None:
        end = time.monotonic() + homes.SECONDS
        while homes.program("agreement", "list", *kh, "--json").json["agreements"][0]["state"] != state:
            assert time.monotonic() < end

    with homes.running(pair, "TH", "KH"):
        sent = homes.program("send", homes.REFERRAL, "--to", "KH", "--wait", *th, "--json")
        assert sent.json["recipients"][0]["status"] in {"accepted", "complete"}
        assert homes.program("agreement", "suspend", "pair", *WHY, *th).code == 0
        assert homes.program("send", homes.REFERRAL, "--to", "KH", *th).refused("agreement.suspended")
        until("suspended")
        assert homes.program("send", homes.REFERRAL, "--to", "TH", *kh).refused("agreement.suspended")
        draft = pair.folder / "resume.draft.json"
        assert homes.program("agreement", "resume", "pair", *WHY, "--draft", draft, *th).code == 0
        file = pair.folder / "resume.json"
        file.write_bytes(sign(pair, draft))
        assert homes.program("agreement", "install", file, *th).code == 0
        until("serves")
        again = homes.program("send", homes.REFERRAL, "--to", "TH", "--wait", *kh, "--json")
        assert again.json["recipients"][0]["status"] in {"accepted", "complete"}
    for country in ("TH", "KH"):
        assert homes.program("verify", "--home", pair.home(country)).code == 0


@pytest.mark.slow
def test_two_of_three_running_nodes_go_on(tmp_path: Path) -> None:
    """One of three suspends: nothing passes to or from it, the others go on until its notice says that nobody does."""
    three: homes.Pair = homes.run(homes.make_pair(tmp_path, ("TH", "KH", "LA")))
    th, kh, la = (("--home", three.home(country)) for country in ("TH", "KH", "LA"))

    def stands(home: tuple[str, Path]) -> Any:  # noqa: ANN401 - JSON
        (item,) = homes.program("agreement", "list", *home, "--json").json["agreements"]
        return {entry["node"]: entry["state"] for entry in item["standing"]}

    def until(home: tuple[str, Path], expected: dict[str, str]) -> None:
        end = time.monotonic() + homes.SECONDS
        while stands(home) != expected:
            assert time.monotonic() < end

    with homes.running(three, "TH", "KH", "LA"):
        assert homes.program("agreement", "suspend", "pair", *WHY, *th).code == 0
        until(kh, {"th-fp1": "suspended", "la-fp1": "serves"})
        until(la, {"th-fp1": "suspended", "kh-fp1": "serves"})
        assert homes.program("send", homes.REFERRAL, "--to", "TH", *kh).refused("agreement.suspended")
        sent = homes.program("send", homes.REFERRAL, "--to", "LA", "--wait", *kh, "--json")
        assert sent.json["recipients"][0]["status"] in {"accepted", "complete"}
        assert homes.program("agreement", "suspend", "pair", *WHY, "--nobody-continues", *th).code == 0
        # What only repeats a notice waits ten minutes at a peer; this one changes who stops, and does not.
        until(kh, {"th-fp1": "suspended", "la-fp1": "suspended"})
        assert homes.program("send", homes.REFERRAL, "--to", "LA", *kh).refused("agreement.suspended")
