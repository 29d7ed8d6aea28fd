"""``exchange init``, ``exchange authority`` and the signing of drafts."""

from __future__ import annotations

import io
import json
import stat
import sys
from typing import TYPE_CHECKING

import pytest

from exchange.cli import output, provision
from exchange.core import wire
from exchange.core.errors import LocalError, PeerError
from exchange.core.keys import read_card
from exchange.core.wire import DocumentType, NetworkId, UnverifiedDocument
from tests.cli import homes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def cheap() -> Iterator[None]:
    """New secrets are quick to open."""
    with homes.cheap_passphrases():
        yield


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    """A file with a passphrase."""
    path = tmp_path / "passphrase"
    path.write_bytes(homes.PASSPHRASE + b"\n")
    return path


# -- init ------------------------------------------------------------------------------------------


def test_init_makes_a_closed_home(call: homes.Caller, tmp_path: Path, passphrase: Path) -> None:
    """A new home is closed to others and holds a configuration, keys, a store and a card to be signed."""
    home = tmp_path / "th"
    done = call("init", "--home", home, "--country", "th", "--agency", "Invented", "--passphrase-file", passphrase)
    assert done.code == 0
    assert done.out.startswith("TRAINING network training-local")
    assert "exchange authority sign card.unsigned.json" in done.out
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    draft = json.loads((home / "card.unsigned.json").read_bytes())
    assert (draft["node"], draft["country"], draft["authority"]) == ("th-fp1", "TH", None)
    assert draft["endpoints"] == ["https://127.0.0.1:8443"]
    assert (home / "config.toml").is_file()
    assert homes.PASSPHRASE not in b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())


def test_init_tells_programs_what_it_made(call: homes.Caller, tmp_path: Path, passphrase: Path) -> None:
    """With --json the home, the node and the card's draft are named."""
    home = tmp_path / "kh"
    words = ("--country", "KH", "--agency", "Invented", "--network", "training-cli", "--node", "kh-police")
    listen = ("--listen", "[::1]:9443", "--duty-desk", "+000 000")
    done = call("init", "--json", "--home", home, *words, *listen, "--passphrase-file", passphrase)
    assert done.code == 0
    assert done.json["node"] == "kh-police"
    assert done.json["url"] == "https://[::1]:9443"
    assert done.json["training"] is True
    assert json.loads((home / "card.unsigned.json").read_bytes())["duty_desk"] == "+000 000"


def test_init_spares_what_exists(call: homes.Caller, tmp_path: Path, passphrase: Path) -> None:
    """A folder that holds anything is not touched."""
    home = tmp_path / "th"
    home.mkdir()
    (home / "notes.txt").write_text("mine")
    done = call("init", "--home", home, "--country", "TH", "--agency", "A", "--passphrase-file", passphrase)
    assert done.code == 3
    assert done.refused("input.exists")
    assert [path.name for path in home.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--country", "THA"), "two letters"),
        (("--country", "TH", "--listen", "8443"), "HOST:PORT"),
        (("--country", "TH", "--listen", "127.0.0.1:99999"), "HOST:PORT"),
        (("--country", "TH", "--listen", "0.0.0.0:8443"), "--url"),
        (("--country", "TH", "--url", "http://plain.example"), "--url: https://host"),
        (("--country", "TH", "--agency", ""), "--agency: a text"),
        (("--country", "TH", "--node", "kh-fp1"), "--node: "),
        (("--country", "TH", "--network", "Mekong!"), "small letters"),
    ],
)
def test_init_refuses_what_no_card_could_say(
    call: homes.Caller, tmp_path: Path, passphrase: Path, words: tuple[str, ...], told: str
) -> None:
    """Values that could not stand in a card are usage errors, and no home is made."""
    home = tmp_path / "th"
    done = call("init", "--home", home, "--agency", "A", *words, "--passphrase-file", passphrase)
    assert done.code == 2
    assert told in done.err
    assert "line " not in done.err  # of a file that nobody has seen
    assert not home.exists()


# -- authorities -----------------------------------------------------------------------------------


def test_authority_shows_the_same_fingerprint_again(call: homes.Caller, tmp_path: Path, passphrase: Path) -> None:
    """The fingerprint is shown in groups of four digits, and later again without the passphrase."""
    home = tmp_path / "authority"
    made = call("authority", "create", "--home", home, "--country", "TH", "--passphrase-file", passphrase)
    assert made.code == 0
    shown = call("authority", "show", "--home", home)
    assert shown.out == made.out
    groups = shown.out.split("voice):")[1].split()
    assert [len(group) for group in groups] == [4] * 16
    assert "".join(groups) == call("authority", "show", "--json", "--home", home).json["fingerprint"]


def test_authority_needs_no_more_signatures_than_keys(call: homes.Caller, tmp_path: Path) -> None:
    """A threshold above the number of keys is a usage error."""
    words = ("--country", "TH", "--keys", "2", "--threshold", "3")
    assert call("authority", "create", "--home", tmp_path / "a", *words).code == 2
    with pytest.raises(PeerError):
        provision.create_authority(
            tmp_path / "a", "TH", homes.NETWORK, keys=1, threshold=2, passphrase=homes.PASSPHRASE
        )


def test_authority_spares_what_exists(call: homes.Caller, tmp_path: Path, passphrase: Path) -> None:
    """A folder that holds anything, and a folder whose parent is missing, are refused."""
    words = ("authority", "create", "--country", "TH", "--passphrase-file", passphrase, "--home")
    assert call(*words, tmp_path).refused("input.exists")
    assert call(*words, tmp_path / "no" / "where").refused("input.not_found")


def test_authority_home_is_asked_for(call: homes.Caller, tmp_path: Path) -> None:
    """A folder without an authority, and a damaged one, are told apart."""
    assert call("authority", "show", "--home", tmp_path).refused("input.not_found")
    (tmp_path / "authority.json").write_text("{}")
    assert call("authority", "show", "--home", tmp_path).refused("node.key")


# -- signing ---------------------------------------------------------------------------------------


def test_signed_card_appears_beside_its_draft(call: homes.Caller, pair: homes.Pair, passphrase: Path) -> None:
    """Signing a draft writes the card beside it, fills in the authority, and leaves out the comment."""
    draft = pair.home("TH") / "card.unsigned.json"
    (pair.home("TH") / "card.json").unlink()
    done = call("authority", "sign", draft, "--home", pair.authority("TH"), "--passphrase-file", passphrase)
    assert done.code == 0
    document = wire.parse_signed_document((pair.home("TH") / "card.json").read_bytes(), DocumentType.CARD)
    card = read_card(document)
    assert card.authority.approves(document)
    assert b'"//"' in draft.read_bytes()
    assert b'"//"' not in document.payload
    again = call("authority", "sign", draft, "--home", pair.authority("TH"), "--passphrase-file", passphrase)
    assert again.refused("input.exists")


class Terminal(io.StringIO):
    """A terminal at which somebody types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("answer", ["y", "n"])
def test_at_a_terminal_nobody_signs_unseen(
    call: homes.Caller, pair: homes.Pair, passphrase: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """What is to be signed is shown first, and signed only after a yes."""
    (pair.home("TH") / "card.json").unlink()
    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
    draft = pair.home("TH") / "card.unsigned.json"
    done = call("authority", "sign", draft, "--home", pair.authority("TH"), "--passphrase-file", passphrase)
    assert done.out.index("th-fp1") < (done.out + done.err).index("Sign this? [y/N]")
    assert done.out.count("duty desk") == 1
    assert (pair.home("TH") / "card.json").exists() is (answer == "y")
    assert (done.code == 0) if answer == "y" else done.refused("input.declined")


def test_an_agreement_is_shown_with_both_authorities(call: homes.Caller, pair: homes.Pair, tmp_path: Path) -> None:
    """Whoever signs or installs an agreement sees whose keys it speaks of."""
    file = tmp_path / "pair.json"
    file.write_bytes(pair.agreement)
    out = call("agreement", "show", file).out
    for data in pair.cards.values():
        card = read_card(wire.parse_signed_document(data))
        assert f"that signs for {card.node}" in out
        assert output.fingerprint(card.authority.fingerprint).splitlines()[0] in out


def test_authority_signs_for_its_own_country_and_network(
    call: homes.Caller, pair: homes.Pair, passphrase: Path, tmp_path: Path
) -> None:
    """A card of another country, of another network, or one that names another authority is not signed."""
    sign = ("--passphrase-file", passphrase, "--out", tmp_path / "signed.json")
    foreign = call("authority", "sign", pair.home("KH") / "card.unsigned.json", "--home", pair.authority("TH"), *sign)
    assert (foreign.code, foreign.refused("card.chain")) == (1, True)
    other = provision.create_authority(
        tmp_path / "other", "TH", NetworkId("training-other"), passphrase=homes.PASSPHRASE
    )
    with pytest.raises(PeerError) as caught:
        provision.sign_document(other, (pair.home("TH") / "card.unsigned.json").read_bytes())
    assert caught.value.code == "key.wrong_network"
    second = provision.create_authority(tmp_path / "second", "TH", homes.NETWORK, passphrase=homes.PASSPHRASE)
    with pytest.raises(PeerError) as caught:
        provision.sign_document(second, pair.cards["TH"])
    assert caught.value.where == "card.authority"
    with pytest.raises(PeerError) as caught:
        provision.sign_document(second, pair.agreement)
    assert caught.value.code == "agreement.authority"
    with pytest.raises(PeerError) as caught:
        provision.sign_document(other, pair.agreement)
    assert caught.value.code == "key.wrong_network"


def test_custodians_sign_one_after_the_other(pair: homes.Pair, tmp_path: Path) -> None:
    """Where two of three keys must sign, each custodian's key file adds one signature, and never a second one."""
    folder = tmp_path / "three"
    whole = provision.create_authority(folder, "TH", homes.NETWORK, keys=3, threshold=2, passphrase=homes.PASSPHRASE)
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for number in (2, 3):
        (folder / "keys" / f"{number}.json").rename(shelf / f"{number}.json")
    first = provision.unlock_authority(folder, homes.PASSPHRASE)
    assert (len(first.keys), first.authority) == (1, whole.authority)
    once = provision.sign_document(first, (pair.home("TH") / "card.unsigned.json").read_bytes())
    assert not whole.authority.approves(wire.parse_signed_document(once))
    assert provision.sign_document(first, once) == once
    (folder / "keys" / "1.json").unlink()
    (shelf / "3.json").rename(folder / "keys" / "3.json")
    twice = provision.sign_document(provision.unlock_authority(folder, homes.PASSPHRASE), once)
    assert whole.authority.approves(wire.parse_signed_document(twice))


def test_document_on_its_way_is_signed_in_place(
    call: homes.Caller, pair: homes.Pair, passphrase: Path, tmp_path: Path
) -> None:
    """The second authority's signature goes into the file that the first one signed."""
    parsed = [read_card(provision.parse_draft(data)) for data in pair.cards.values()]
    draft = tmp_path / "pair.draft.json"
    draft.write_bytes(provision.encode_readable(homes.agreement_of(parsed, homes.clauses_of(["th-fp1", "kh-fp1"]))))
    for country, count in (("TH", 1), ("KH", 2)):
        file = draft if count == 1 else tmp_path / "pair.json"
        done = call(
            "agreement", "sign", file, "--json", "--home", pair.authority(country), "--passphrase-file", passphrase
        )
        assert (done.code, done.json["signatures"], done.json["type"]) == (0, count, "agreement")
        assert done.json["file"] == str(tmp_path / "pair.json")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"[]", "input.not_document"),
        (b"{}", "input.not_document"),
        (b'{"tls_pins": [', "wire.not_json"),
        (wire.encode_signed_document(UnverifiedDocument(DocumentType.REQUEST, b"{}", ())), "wire.wrong_type"),
    ],
)
def test_only_cards_and_agreements_are_signed(made: homes.Pair, data: bytes, code: str) -> None:
    """Whatever is neither a card nor an agreement is refused."""
    signer = provision.unlock_authority(made.authority("TH"), homes.PASSPHRASE)
    with pytest.raises(PeerError) as caught:
        provision.sign_document(signer, data)
    assert caught.value.code == code


def test_wrong_passphrase_of_an_authority(pair: homes.Pair) -> None:
    """A wrong passphrase, a foreign key file and no key file at all are each told."""
    folder = pair.authority("TH")
    with pytest.raises(LocalError) as caught:
        provision.unlock_authority(folder, b"wrong")
    assert caught.value.code == "input.passphrase"
    (pair.authority("KH") / "keys" / "1.json").rename(folder / "keys" / "1.json")
    with pytest.raises(LocalError) as caught:
        provision.unlock_authority(folder, homes.PASSPHRASE)
    assert caught.value.code == "node.key"
    (folder / "keys" / "1.json").unlink()
    with pytest.raises(LocalError) as caught:
        provision.unlock_authority(folder, homes.PASSPHRASE)
    assert caught.value.code == "node.key"
