"""``exchange card``: who the nodes are."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

import pytest

from exchange.cli import provision
from exchange.core import wire
from tests.cli import homes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def apart(tmp_path_factory: pytest.TempPathFactory) -> homes.Pair:
    """Thailand and Cambodia with signed cards that nobody has imported; not to be changed."""
    pair: homes.Pair = homes.run(homes.make_pair(tmp_path_factory.mktemp("apart"), link=False))
    return pair


@pytest.fixture
def strangers(apart: homes.Pair, tmp_path: Path) -> homes.Pair:
    """A copy of ``apart`` with the cards as files."""
    pair = homes.copy_pair(apart, tmp_path)
    for country, card in pair.cards.items():
        (tmp_path / f"{country}.json").write_bytes(card)
    return pair


def fingerprint(pair: homes.Pair, country: str) -> str:
    """The fingerprint of a country's authority."""
    return provision.load_authority(pair.authority(country)).authority.fingerprint


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let somebody answer the question."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


# -- importing -------------------------------------------------------------------------------------


def test_own_card_is_imported_without_a_question(call: homes.Caller, strangers: homes.Pair) -> None:
    """The node's own card is checked against its own keys, kept in the home, and can be exported again."""
    home = strangers.home("TH")
    assert call("card", "show", "--home", home).refused("node.card")
    done = call("card", "import", strangers.folder / "TH.json", "--home", home)
    assert done.code == 0
    assert (home / "card.json").read_bytes() == strangers.cards["TH"]
    out = call("card", "export", "--home", home)
    assert out.out.strip().encode() == strangers.cards["TH"]
    assert "TRAINING" in out.err


def test_card_of_other_keys_is_not_our_own(call: homes.Caller, strangers: homes.Pair, tmp_path: Path) -> None:
    """A card that names this node and other keys is refused, though our own authority signed it."""
    with homes.cheap_passphrases():
        twin = homes.run(provision.create_home(tmp_path / "twin", homes.config_of("TH", 1), homes.PASSPHRASE))
    signer = provision.unlock_authority(strangers.authority("TH"), homes.PASSPHRASE)
    path = tmp_path / "twin.json"
    path.write_bytes(provision.sign_document(signer, twin.card_draft))
    done = call("card", "import", path, "--home", strangers.home("TH"))
    assert done.code == 3
    assert done.refused("input.card")


def test_first_card_of_a_peer_is_compared(
    call: homes.Caller, strangers: homes.Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer's first card is installed when a person says that the fingerprint is the same, and only then."""
    home, file = strangers.home("TH"), strangers.folder / "KH.json"
    assert call("card", "import", strangers.folder / "TH.json", "--home", home).code == 0
    answer(monkeypatch, "")
    nobody = call("card", "import", file, "--home", home)
    assert (nobody.code, nobody.refused("input.compare")) == (3, True)
    answer(monkeypatch, "n\n")
    differs = call("card", "import", file, "--home", home)
    assert (differs.code, differs.refused("input.fingerprint")) == (1, True)
    answer(monkeypatch, "y\n")
    same = call("card", "import", file, "--home", home)
    assert same.code == 0
    digest = fingerprint(strangers, "KH")
    assert " ".join(digest[at : at + 4] for at in range(0, 32, 4)) in same.err
    assert call("card", "import", file, "--home", home).code == 0  # it is held now: nothing to compare


def test_fingerprint_may_be_given(call: homes.Caller, strangers: homes.Pair) -> None:
    """A fingerprint that was told before is compared by the program, however it is grouped."""
    home, file = strangers.home("TH"), strangers.folder / "KH.json"
    assert call("card", "import", strangers.folder / "TH.json", "--home", home).code == 0
    wrong = call("card", "import", file, "--home", home, "--fingerprint", fingerprint(strangers, "TH"), "--json")
    assert wrong.code == 1
    assert wrong.json["error"]["code"] == "input.fingerprint"
    digest = fingerprint(strangers, "KH").upper()
    grouped = " ".join(digest[at : at + 4] for at in range(0, 64, 4))
    assert call("card", "import", file, "--home", home, "--fingerprint", grouped, "--json").json["ok"] is True
    listed = call("card", "list", "--home", home)
    assert "th-fp1 (this node)" in listed.out
    assert "kh-fp1" in listed.out


def test_peer_before_own_card_is_refused(call: homes.Caller, strangers: homes.Pair) -> None:
    """A node without a card of its own installs nobody else's."""
    done = call("card", "import", strangers.folder / "KH.json", "--home", strangers.home("TH"))
    assert (done.code, done.refused("node.card")) == (3, True)


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"", "wire.not_json"), (b'{"payloadType": "appl', "wire.not_json"), (b"\xff", "wire.not_utf8")],
)
def test_damaged_card_is_refused(call: homes.Caller, pair: homes.Pair, data: bytes, code: str) -> None:
    """An empty file, a half-written one and one of another kind change nothing."""
    path = pair.folder / "card.json"
    path.write_bytes(data)
    done = call("card", "import", path, "--home", pair.home("TH"))
    assert (done.code, done.refused(code)) == (1, True)


def test_agreement_is_no_card(call: homes.Caller, pair: homes.Pair) -> None:
    """A document of another type is not imported as a card."""
    path = pair.folder / "pair.json"
    path.write_bytes(pair.agreement)
    assert call("card", "import", path, "--home", pair.home("TH")).refused("wire.wrong_type")


# -- showing ---------------------------------------------------------------------------------------


def test_card_is_shown_by_country_id_and_file(call: homes.Caller, pair: homes.Pair) -> None:
    """A peer's card is found by its country or node id, and a file is shown without being trusted."""
    home = pair.home("TH")
    path = pair.folder / "kh.json"
    path.write_bytes(pair.cards["KH"])
    shown = [call("card", "show", which, "--json", "--home", home).json for which in ("KH", "kh-fp1", path)]
    assert {card["digest"] for card in shown} == {wire.parse_signed_document(pair.cards["KH"]).digest()}
    assert call("card", "show", "TH", "--home", home).code == 0
    text = call("card", "show", path).out
    assert text.startswith("TRAINING")
    assert "kh-fp1" in text


def test_card_without_enough_signatures_is_marked(call: homes.Caller, pair: homes.Pair) -> None:
    """A card that its authority has not signed is shown with a warning."""
    value = json.loads(pair.cards["KH"])
    path = pair.folder / "unsigned.json"
    path.write_text(json.dumps(value | {"signatures": []}))
    done = call("card", "show", path)
    assert done.code == 0
    assert "worth nothing yet" in done.err


def test_unknown_node_has_no_card(call: homes.Caller, pair: homes.Pair) -> None:
    """A node that is not known here has no card to show or to export."""
    for words in (("show",), ("export",)):
        done = call("card", *words, "LA", "--home", pair.home("TH"))
        assert (done.code, done.refused("card.unknown")) == (1, True)


def test_export_never_overwrites(call: homes.Caller, pair: homes.Pair) -> None:
    """A card is exported into a new file, and an existing one stays as it is."""
    path = pair.folder / "out.json"
    done = call("card", "export", "KH", "--out", path, "--home", pair.home("TH"))
    assert done.code == 0
    assert path.read_bytes() == pair.cards["KH"]
    again = call("card", "export", "--out", path, "--home", pair.home("TH"), "--json")
    assert (again.code, again.json["error"]["code"]) == (3, "input.exists")
    assert path.read_bytes() == pair.cards["KH"]
    other = call("card", "export", "--out", pair.folder / "own.json", "--home", pair.home("TH"), "--json")
    assert other.json["node"] == "th-fp1"


# -- blocking --------------------------------------------------------------------------------------


def test_block_lasts_until_it_is_ended(call: homes.Caller, pair: homes.Pair) -> None:
    """A blocked node stays blocked for every later command, until the block is ended."""
    home = pair.home("TH")
    assert call("card", "block", "KH", "--home", home, "--json").json["blocked"] is True
    assert "blocked" in call("card", "show", "KH", "--home", home).out
    assert "blocked" in call("card", "list", "--home", home).out
    assert "not blocked" in call("card", "unblock", "kh-fp1", "--home", home).out
    assert call("card", "show", "KH", "--home", home, "--json").json["blocked"] is False


def test_node_does_not_block_itself(call: homes.Caller, pair: homes.Pair) -> None:
    """This node itself and a node that is unknown cannot be blocked."""
    assert call("card", "block", "th-fp1", "--home", pair.home("TH")).refused("input.own_node")
    assert call("card", "block", "VN", "--home", pair.home("TH")).refused("card.unknown")
