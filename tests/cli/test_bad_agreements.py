"""Agreements that must not be signed, or not be installed: each mistake has its own error, at either place."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from exchange.cli import provision
from exchange.core import wire
from exchange.core.keys import read_card
from tests.cli import homes

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


def text(moment: datetime) -> str:
    """A time as documents have it."""
    return wire.encode_time(moment)


def payload_of(pair: homes.Pair, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - members of an agreement
    """A fresh agreement between the two, under another name than the one installed."""
    cards = [read_card(provision.parse_draft(data)) for data in pair.cards.values()]
    made = homes.agreement_of(cards, homes.clauses_of([card.node for card in cards]))
    return {**made, "id": "other", **changes}


def digest_of(payload: dict[str, Any]) -> str:
    """The digest of an agreement, whoever signs it."""
    return provision.parse_draft(json.dumps(payload).encode()).digest()


def later(pair: homes.Pair, before: dict[str, Any], **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """The version after another one, which begins an hour after it."""
    begin = wire.parse_time(before["valid_from"]) + timedelta(hours=1)
    made = {"version": before["version"] + 1, "supersedes": digest_of(before), "valid_from": text(begin)}
    return payload_of(pair, **made) | changes


def sign(call: homes.Caller, pair: homes.Pair, payload: object, *more: str | Path, country: str = "TH") -> homes.Done:
    """``authority sign`` of a draft, at a country's authority."""
    draft = pair.folder / "draft.json"
    draft.write_text(json.dumps(payload))
    return sign_file(call, pair, draft, *more, country=country)


def sign_file(call: homes.Caller, pair: homes.Pair, file: Path, *more: str | Path, country: str = "TH") -> homes.Done:
    """``authority sign`` of a file, at a country's authority."""
    out = pair.folder / f"signed-{len(list(pair.folder.glob('signed-*')))}.json"
    words = ("--home", pair.authority(country), "--passphrase-file", pair.passphrase())
    return call("authority", "sign", file, "--out", out, *words, *more, "--json")


def by_all(
    pair: homes.Pair, payload: object, name: str = "all.json", countries: tuple[str, ...] = ("TH", "KH")
) -> Path:
    """The agreement with the signatures of these countries, whatever their homes remember."""
    data = json.dumps(payload).encode()
    for country in countries:
        data = provision.sign_document(provision.unlock_authority(pair.authority(country), homes.PASSPHRASE), data)
    path = pair.folder / name
    path.write_bytes(data)
    return path


def stranger(folder: Path) -> homes.Pair:
    """Laos, which is no party."""
    folder.mkdir()
    made: homes.Pair = homes.run(homes.make_pair(folder, ("LA",), link=False))
    return made


def install(call: homes.Caller, pair: homes.Pair, file: Path, *more: str) -> homes.Done:
    """``agreement install`` at Thailand's node."""
    return call("agreement", "install", file, *more, "--home", pair.home("TH"))


# -- at signing ------------------------------------------------------------------------------------


def test_authority_signs_versions_in_order(call: homes.Caller, pair: homes.Pair) -> None:
    """A version and its successor are signed and remembered in a private folder, also twice."""
    first = payload_of(pair)
    assert sign(call, pair, first).code == 0
    assert sign(call, pair, first).code == 0
    assert sign(call, pair, later(pair, first)).code == 0
    folder = pair.authority("TH") / "signed"
    assert sorted(path.name for path in folder.iterdir()) == ["other.1.json", "other.2.json"]
    assert folder.stat().st_mode & 0o777 == 0o700


def test_other_bytes_of_a_signed_version_are_not_signed(call: homes.Caller, pair: homes.Pair) -> None:
    """An authority that signed a version signs no other text under its name."""
    assert sign(call, pair, payload_of(pair)).code == 0
    assert sign(call, pair, payload_of(pair, title={"en": "Another text"})).refused("agreement.conflict")


def test_skipped_version_is_not_signed(call: homes.Caller, pair: homes.Pair) -> None:
    """A version whose predecessor this home has not seen is not signed, until that is given and bears our signature."""
    first = payload_of(pair)
    second = later(pair, first)
    assert sign(call, pair, second).refused("agreement.predecessor")
    theirs = by_all(pair, first, "theirs.json", ("KH",))
    assert sign(call, pair, second, "--before", theirs).refused("key.threshold")
    ours = by_all(pair, first, "ours.json")
    assert sign(call, pair, second, "--before", ours).code == 0
    third = later(pair, second) | {"version": 4}
    assert sign(call, pair, third).refused("agreement.predecessor")


def test_overlapping_version_is_not_signed(call: homes.Caller, pair: homes.Pair) -> None:
    """A version that begins no later than the one before it is not signed."""
    first = payload_of(pair)
    assert sign(call, pair, first).code == 0
    assert sign(call, pair, later(pair, first, valid_from=first["valid_from"])).refused("agreement.overlap")


def test_what_is_over_is_not_signed(call: homes.Caller, pair: homes.Pair) -> None:
    """An agreement whose validity has ended is not signed."""
    now = provision.utc_now()
    past = payload_of(pair, valid_from=text(now - timedelta(days=9)), valid_until=text(now - timedelta(days=1)))
    assert sign(call, pair, past).refused("agreement.over")


def test_foreign_authority_does_not_sign(call: homes.Caller, pair: homes.Pair, tmp_path: Path) -> None:
    """Who is no party is told so; whose country is a party under another authority is told that."""
    third = stranger(tmp_path / "third")
    draft = pair.folder / "draft.json"
    draft.write_text(json.dumps(payload_of(pair)))
    words = ("--passphrase-file", pair.passphrase())
    assert call("authority", "sign", draft, "--home", third.authority("LA"), *words).refused("agreement.not_party")
    payload = payload_of(pair)
    for party in payload["parties"]:
        party["authority"] = "7" * 64
    assert sign(call, pair, payload).refused("agreement.authority")


def test_missing_signature_is_told(call: homes.Caller, pair: homes.Pair) -> None:
    """Where more keys of an authority must sign, it is said how many; with one key of two the file goes on."""
    home = pair.folder / "authority-MM"
    with homes.cheap_passphrases():
        provision.create_authority(home, "MM", homes.NETWORK, keys=2, threshold=2, passphrase=homes.PASSPHRASE)
    (home / "keys" / "2.json").rename(pair.folder / "2.json")
    payload = payload_of(pair)
    payload["parties"][0] = {"node": "mm-fp1", "authority": provision.load_authority(home).authority.fingerprint}
    for clause in payload["clauses"]:
        clause["permit"] |= {"from": ["mm-fp1"], "to": [payload["parties"][1]["node"]]}
    draft = pair.folder / "draft.json"
    draft.write_text(json.dumps(payload))
    words = ("--home", home, "--passphrase-file", pair.passphrase())
    half = call("authority", "sign", draft, "--out", pair.folder / "half.json", *words)
    assert "1 more key of this authority must sign." in half.out
    (pair.folder / "2.json").rename(home / "keys" / "2.json")
    whole = call("authority", "sign", pair.folder / "half.json", *words, "--json")
    assert (whole.json["missing_here"], whole.json["signatures"]) == (0, 2)


def test_damaged_memory_of_an_authority_is_told(call: homes.Caller, pair: homes.Pair) -> None:
    """A file among the signed ones that cannot be read stops the signing: nobody knows what was signed."""
    assert sign(call, pair, payload_of(pair)).code == 0
    (pair.authority("TH") / "signed" / "other.1.json").write_text("{}")
    assert sign(call, pair, payload_of(pair)).refused("node.key")
    (pair.authority("KH") / "signed").write_text("")
    assert sign(call, pair, payload_of(pair), country="KH").refused("node.disk")


# -- at install ------------------------------------------------------------------------------------


def test_versions_are_installed_in_order(call: homes.Caller, pair: homes.Pair) -> None:
    """A successor is installed after its predecessor, one that skips it or overlaps it is not, nor is a rival."""
    first = payload_of(pair)
    second = later(pair, first)
    assert install(call, pair, by_all(pair, second)).refused("agreement.predecessor")
    assert install(call, pair, by_all(pair, first)).code == 0
    assert install(call, pair, by_all(pair, later(pair, second))).refused("agreement.predecessor")
    renumbered = by_all(pair, later(pair, first, version=3))
    assert install(call, pair, renumbered).refused("agreement.predecessor")
    overlapping = by_all(pair, later(pair, first, valid_from=first["valid_from"]))
    assert install(call, pair, overlapping).refused("agreement.overlap")
    assert install(call, pair, by_all(pair, second)).code == 0
    rival = by_all(pair, later(pair, first, title={"en": "Another text"}))
    assert install(call, pair, rival).refused("agreement.conflict")


@pytest.mark.parametrize("country", ["TH", "KH"])
def test_one_missing_signature_is_enough_to_refuse(call: homes.Caller, pair: homes.Pair, country: str) -> None:
    """An agreement that one of the two authorities did not sign is refused, and it is said whose is missing."""
    done = install(call, pair, by_all(pair, payload_of(pair), countries=(country,)))
    assert done.refused("key.threshold")
    assert f"authority of {'kh' if country == 'TH' else 'th'}-fp1" in done.err


def test_signature_of_another_authority_does_not_count(call: homes.Caller, pair: homes.Pair, tmp_path: Path) -> None:
    """A signature by keys that are not the party's authority leaves its own missing."""
    third = stranger(tmp_path / "third")
    signer = provision.unlock_authority(third.authority("LA"), homes.PASSPHRASE)
    half = provision.parse_draft(by_all(pair, payload_of(pair), countries=("TH",)).read_bytes())
    extra = signer.keys[0].signature(half.payload_type, half.payload)
    path = pair.folder / "wrong.json"
    document = wire.UnverifiedDocument(half.payload_type, half.payload, (*half.signatures, extra))
    path.write_bytes(wire.encode_signed_document(document))
    done = install(call, pair, path)
    assert done.refused("key.threshold")
    assert "authority of kh-fp1" in done.err


def test_another_card_than_the_one_held_is_told(call: homes.Caller, pair: homes.Pair) -> None:
    """An agreement that names another authority for a node than its card here, or a node without a card, is refused."""
    payload = payload_of(pair)
    payload["parties"][0]["authority"] = "7" * 64
    path = pair.folder / "pinned.json"
    data = json.dumps(payload).encode()
    for country in ("TH", "KH"):
        keys = provision.unlock_authority(pair.authority(country), homes.PASSPHRASE).keys
        document = provision.parse_draft(data)
        signed = wire.UnverifiedDocument(
            document.payload_type,
            document.payload,
            (*document.signatures, keys[0].signature(document.payload_type, document.payload)),
        )
        data = wire.encode_signed_document(signed)
    path.write_bytes(data)
    done = install(call, pair, path)
    assert done.refused("agreement.authority")
    assert payload["parties"][0]["node"] in done.err
    unknown = payload_of(pair)
    unknown["parties"].append({"node": "la-fp1", "authority": "7" * 64})
    assert install(call, pair, by_all(pair, unknown)).refused("card.unknown")


def test_what_is_over_is_installed_only_on_request(call: homes.Caller, pair: homes.Pair) -> None:
    """An agreement that has ended is refused, and taken as a predecessor where the operator says so."""
    now = provision.utc_now()
    past = by_all(
        pair, payload_of(pair, valid_from=text(now - timedelta(days=9)), valid_until=text(now - timedelta(days=1)))
    )
    assert install(call, pair, past).refused("agreement.over")
    assert install(call, pair, past, "--ended").code == 0
    listed = call("agreement", "list", "--home", pair.home("TH"), "--json").json["agreements"]
    assert {item["id"]: item["state"] for item in listed} == {"other": "over", "pair": "serves"}
