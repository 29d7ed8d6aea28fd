"""Lists of officers: who signed them, what they say, and that their serials only grow."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from exchange.core.keys import Authority, Use, read_card
from exchange.core.officers import (
    MAX_OFFICERS,
    OfficerList,
    Role,
    check_serial,
    encode_officers,
    read_officers,
    verify_officers,
)
from exchange.core.wire import DocumentType
from tests.core import builders
from tests.core.builders import ABSENT, DAY, NETWORK, NOW, TH, refused

if TYPE_CHECKING:
    from exchange.core.wire import JsonValue, UnverifiedDocument

NODE = builders.testonly_node()
DOCUMENT = builders.officers_document(NODE)
LIST = verify_officers(DOCUMENT, NODE.card, NOW)


def changed(*path: str | int, to: JsonValue) -> UnverifiedDocument:
    return replace(DOCUMENT, payload=builders.edited(DOCUMENT.payload, *path, to=to))


def test_a_list_is_read_as_it_was_written() -> None:
    """Keys, roles and dates come back; the digest is that of the document."""
    assert LIST.officers == builders.OFFICERS
    assert (LIST.network, LIST.node, LIST.serial, LIST.digest) == (NETWORK, NODE.id, 1, DOCUMENT.digest())
    assert encode_officers(LIST) == DOCUMENT.payload


def test_an_officer_is_found_by_key_id_alone() -> None:
    """A key that is not listed belongs to nobody."""
    sok = builders.testonly_officer("sok").public.id
    assert LIST.find(sok) == builders.OFFICERS[0]
    assert LIST.find(builders.testonly_officer("bopha").public.id) is None


def test_an_officer_speaks_within_dates_alone() -> None:
    """The first moment counts, the last does not."""
    officer = builders.OFFICERS[0]
    assert officer.is_valid(officer.valid_from)
    assert not officer.is_valid(officer.valid_from - DAY)
    assert not officer.is_valid(officer.valid_until)


def test_a_list_of_nobody_is_a_list() -> None:
    """The last officer can be taken out: then nobody may act."""
    empty = builders.testonly_sign(
        DocumentType.OFFICERS, builders.edited(DOCUMENT.payload, "officers", to=[]), *NODE.personnel
    )
    assert verify_officers(empty, NODE.card, NOW).officers == ()


@pytest.mark.parametrize(
    ("path", "to", "code", "where"),
    [
        (("network",), "Mekong", "wire.bad_value", "officers.network"),
        (("node",), "kh", "wire.bad_value", "officers.node"),
        (("serial",), 0, "wire.bad_value", "officers.serial"),
        (("issued",), "today", "wire.bad_time", "officers.issued"),
        (("officers",), ABSENT, "wire.missing", "officers.officers"),
        (("more",), 1, "wire.unknown_member", "officers"),
        (("officers", 0, "name"), "Sok", "wire.unknown_member", "officers.officers[0]"),
        (("officers", 0, "id"), "0" * 64, "key.weak", "officers.officers[0].id"),
        (("officers", 0, "alg"), "ed25519+mldsa65", "wire.bad_value", "officers.officers[0].alg"),
        (("officers", 0, "roles"), [], "wire.bad_value", "officers.officers[0].roles"),
        (("officers", 0, "roles"), ["minister"], "wire.bad_value", "officers.officers[0].roles"),
        (("officers", 0, "roles"), ["officer", "officer"], "wire.bad_value", "officers.officers[0].roles"),
        (
            ("officers", 0, "valid_until"),
            "2026-01-01T00:00:00Z",
            "officers.invalid",
            "officers.officers[0].valid_until",
        ),
    ],
)
def test_what_is_no_list_is_refused_at_its_place(
    path: tuple[str | int, ...], to: JsonValue, code: str, where: str
) -> None:
    """A wrong, missing or unknown member, a role nobody knows, and dates that end before they begin."""
    with refused(code, where):
        read_officers(changed(*path, to=to))


def test_one_key_has_one_entry() -> None:
    """A key listed twice would hold the roles of either and count as two people."""
    twice = replace(builders.OFFICERS[0], roles=frozenset({Role.SUPERVISOR}))
    with refused("officers.invalid", "officers.officers"):
        read_officers(builders.officers_document(NODE, *builders.OFFICERS, twice))


def test_a_list_is_bounded() -> None:
    """No more officers than a document holds."""
    many = [builders.listed(str(number), Role.OFFICER) for number in range(MAX_OFFICERS + 1)]
    assert len(read_officers(builders.officers_document(NODE, *many[1:])).officers) == MAX_OFFICERS
    with refused("wire.bad_value", "officers.officers"):
        read_officers(builders.officers_document(NODE, *many))


def test_a_list_is_of_its_own_type_network_and_node() -> None:
    """Another type, another network and another node's list are refused, each with its code."""
    with refused("wire.wrong_type", "document.payloadType"):
        read_officers(replace(DOCUMENT, payload_type=DocumentType.CARD))
    with refused("key.wrong_network", "officers.network"):
        verify_officers(changed("network", to="mekong"), NODE.card, NOW)
    with refused("officers.invalid", "officers.node"):
        verify_officers(DOCUMENT, builders.testonly_node(TH).card, NOW)


def test_enough_personnel_keys_must_have_signed() -> None:
    """Fewer than the card's threshold, one key twice, the authority, and the node's own keys make no list."""
    for signers in (NODE.personnel[:1], (NODE.personnel[0],) * 2, NODE.authority, (NODE.bundle, NODE.personnel[0])):
        with refused("key.threshold", "personnel of kh-fp1"):
            verify_officers(builders.officers_document(NODE, signers=signers), NODE.card, NOW)
    assert verify_officers(builders.officers_document(NODE, signers=NODE.personnel), NODE.card, NOW).serial == 1


def test_a_card_without_personnel_has_no_officers() -> None:
    """Where the card names nobody who may sign a list, none is taken."""
    keys = tuple(held for held in NODE.card.keys if held.use is not Use.PERSONNEL)
    without = replace(NODE.card, keys=keys, personnel_threshold=None)
    assert without.personnel(NOW) is None
    with refused("key.threshold", "personnel of kh-fp1"):
        verify_officers(DOCUMENT, without, NOW)


def test_personnel_keys_sign_within_their_dates() -> None:
    """A key must be valid both when the list says it was issued and when it is installed."""
    for moment, issued in ((NOW + 400 * DAY, NOW), (NOW, NOW - 40 * DAY)):
        with refused("key.threshold", "personnel of kh-fp1"):
            verify_officers(builders.officers_document(NODE, issued=issued), NODE.card, moment)


def test_a_card_says_how_many_personnel_keys_must_sign() -> None:
    """The threshold is there exactly where such keys are, and can be met."""
    keys = tuple(held.key for held in NODE.card.keys if held.use is Use.PERSONNEL)
    assert NODE.card.personnel(NOW) == Authority(2, keys)
    assert read_card(NODE.sign_card(replace(NODE.card, personnel_threshold=3))).personnel_threshold == 3
    none_named = tuple(held for held in NODE.card.keys if held.use is not Use.PERSONNEL)
    for wrong in (
        replace(NODE.card, personnel_threshold=None),
        replace(NODE.card, personnel_threshold=4),
        replace(NODE.card, personnel_threshold=0),
        replace(NODE.card, keys=none_named),
    ):
        with refused("wire.bad_value", "card.personnel_threshold"):
            read_card(NODE.sign_card(wrong))


def later(serial: int, *names: str) -> OfficerList:
    officers = [builders.listed(name, Role.OFFICER) for name in names]
    return read_officers(builders.officers_document(NODE, *officers, serial=serial))


def test_serials_only_grow() -> None:
    """A list older than one held is refused where it would come into force; the same one again is no fault."""
    check_serial(later(3, "sok"), [later(1, "sok"), later(2, "sok")], only_grow=True)
    check_serial(later(2, "sok"), [later(2, "sok")], only_grow=True)
    with refused("officers.stale", "officers.serial"):
        check_serial(later(1, "sok"), [later(2, "sok")], only_grow=True)


def test_an_older_list_of_a_peer_is_history() -> None:
    """It may be kept, and a second one of its serial may not."""
    check_serial(later(1, "sok"), [later(2, "sok")], only_grow=False)
    with refused("officers.conflict", "officers.serial"):
        check_serial(later(1, "dara"), [later(1, "sok"), later(2, "sok")], only_grow=False)
