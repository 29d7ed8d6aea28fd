"""Who holds which key, and when it is valid: keys, authorities, cards, prekey bundles.

Length: one node's card, with what it holds and what holds it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from exchange.core import wire
from exchange.core.keys import (
    MAX_LINEAGE,
    Alg,
    Authority,
    Card,
    NodeKey,
    Prekey,
    PrekeyClass,
    PublicKey,
    Use,
    encode_authority,
    encode_card,
    encode_public_key,
    parse_authority,
    public_key,
    read_card,
    verify_card,
    verify_prekeys,
    verify_single,
)
from exchange.core.wire import Digest, DocumentType, Fields, KeyId, Signature, UnverifiedDocument
from tests.core import builders
from tests.core.builders import ABSENT, DAY, NETWORK, NOW, TestOnlyEntropy, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.core.wire import JsonValue

SECOND = timedelta(seconds=1)
ENTROPY = TestOnlyEntropy("keys")
ED25519 = builders.testonly_ed25519(ENTROPY)
MLDSA44 = builders.testonly_mldsa44(ENTROPY)
HYBRID = builders.testonly_hybrid(ENTROPY)
NODE = builders.testonly_node()
CARD = NODE.card
CARD_DOCUMENT = NODE.sign_card(CARD)
PREKEYS_DOCUMENT = NODE.prekeys_document()


def changed(document: UnverifiedDocument, *path: str | int, to: JsonValue) -> UnverifiedDocument:
    """The document with one member changed; its signatures do not hold any more."""
    return replace(document, payload=builders.edited(document.payload, *path, to=to))


# -- public keys -----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [ED25519, MLDSA44, HYBRID], ids=["ed25519", "mldsa44", "hybrid"])
def test_signature_is_of_one_message_and_key(key: builders.TestOnlyKey) -> None:
    """A key verifies what it signed, and neither another message, nor a changed byte, nor another length."""
    signature = key.sign(b"message")
    assert key.public.verify(b"message", signature)
    assert not key.public.verify(b"another", signature)
    assert not key.public.verify(b"message", signature[:-1])
    assert not key.public.verify(b"message", signature + b"\0")
    for at in (0, 40, len(signature) - 40):
        assert not key.public.verify(b"message", signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :])


def test_hybrid_needs_both_halves() -> None:
    """A hybrid signature of which one half is of another key or message does not hold."""
    other = builders.testonly_hybrid(ENTROPY)
    ours, theirs = HYBRID.sign(b"message"), other.sign(b"message")
    wrong = HYBRID.sign(b"another")
    for mixed in (ours[:64] + theirs[64:], theirs[:64] + ours[64:], ours[:64] + wrong[64:], wrong[:64] + ours[64:]):
        assert not HYBRID.public.verify(b"message", mixed)


def test_key_id() -> None:
    """A key's id is SHA-256 over the name of its algorithm, a zero byte and its bytes."""
    assert str(ED25519.public.id) == wire.sha256_hex(b"ed25519\0" + ED25519.public.raw)
    assert str(HYBRID.public.id) == wire.sha256_hex(b"ed25519+mldsa65\0" + HYBRID.public.raw)


IDENTITY_POINT = bytes([1]) + bytes(31)


@pytest.mark.parametrize(
    ("alg", "raw"),
    [
        (Alg.ED25519, ED25519.public.raw[:-1]),
        (Alg.ED25519, IDENTITY_POINT),
        (Alg.HYBRID, IDENTITY_POINT + HYBRID.public.raw[32:]),
        (Alg.HYBRID, HYBRID.public.raw + b"\0"),
        (Alg.MLDSA44, MLDSA44.public.raw[:-1]),
        (Alg.XWING, NODE.prekey.entry.key.raw[:-1]),
        (Alg.XWING, NODE.prekey.entry.key.raw[:1184] + bytes(32)),
        (Alg.XWING, b"\xff" * 1184 + NODE.prekey.entry.key.raw[1184:]),
    ],
    ids=["short", "low-order", "hybrid-low-order", "long", "mldsa44-short", "xwing-short", "xwing-low", "xwing-bad"],
)
def test_weak_keys(alg: Alg, raw: bytes) -> None:
    """A key of a wrong length, of low order, or in a malformed encoding is refused where it is read."""
    with refused("key.weak", "card.keys[0]"):
        public_key(alg, raw, "card.keys[0]")


# -- authorities -----------------------------------------------------------------------------------


def keys_of(count: int) -> tuple[builders.TestOnlyKey, ...]:
    entropy = TestOnlyEntropy("authority")
    return tuple(builders.testonly_hybrid(entropy) for _ in range(count))


THREE = keys_of(3)
TWO_OF_THREE = Authority(2, tuple(key.public for key in THREE))


def authority_fields(authority: Authority) -> Fields:
    return Fields(wire.parse_json(wire.encode_json(encode_authority(authority)), max_bytes=100_000), "authority")


def test_authority_round_trip() -> None:
    """An authority of up to nine keys is read as it was written."""
    for authority in (TWO_OF_THREE, Authority(9, tuple(key.public for key in keys_of(9)))):
        assert parse_authority(authority_fields(authority)) == authority


def test_authority_refusals() -> None:
    """A threshold that cannot be met, no keys, a key twice, or a key that is no hybrid is refused."""
    one = THREE[0].public
    with refused("wire.bad_value", "authority.threshold"):
        parse_authority(authority_fields(replace(TWO_OF_THREE, threshold=4)))
    with refused("wire.bad_value", "authority.threshold"):
        parse_authority(authority_fields(replace(TWO_OF_THREE, threshold=0)))
    with refused("wire.bad_value", "authority.keys"):
        parse_authority(authority_fields(Authority(1, (one, THREE[1].public, one))))
    with refused("wire.bad_value", "authority.keys"):
        parse_authority(authority_fields(Authority(1, ())))
    with refused("wire.bad_value", "authority.keys"):
        parse_authority(authority_fields(Authority(1, tuple(key.public for key in keys_of(10)))))
    with refused("wire.bad_value", "authority.keys[1].alg"):
        parse_authority(authority_fields(Authority(1, (one, ED25519.public))))


def test_fingerprint() -> None:
    """A fingerprint is of threshold and keys: it changes with either, and not with their order."""
    first, second, third = sorted(TWO_OF_THREE.keys, key=lambda key: key.id)
    ids = b"".join(bytes.fromhex(key.id) for key in (first, second, third))
    assert TWO_OF_THREE.fingerprint == wire.sha256_hex(b"fpx1-authority\0\x02" + ids)
    assert Authority(2, (third, first, second)).fingerprint == TWO_OF_THREE.fingerprint
    assert Authority(1, TWO_OF_THREE.keys).fingerprint != TWO_OF_THREE.fingerprint
    assert Authority(2, (first, second)).fingerprint != TWO_OF_THREE.fingerprint


def test_authority_counts_each_key_once() -> None:
    """An authority approves with k different keys: the same key twice, or one key's bad signature, is not enough."""
    kind, payload = DocumentType.CARD, b"{}"
    stranger = builders.testonly_hybrid(ENTROPY)
    cases: list[tuple[tuple[builders.TestOnlyKey, ...], bool]] = [
        ((), False),
        ((THREE[0],), False),
        ((THREE[0], THREE[0]), False),
        ((THREE[0], stranger), False),
        ((THREE[2], THREE[0]), True),
        ((THREE[0], stranger, THREE[1], THREE[0]), True),
    ]
    for signers, approved in cases:
        assert TWO_OF_THREE.approves(builders.testonly_sign(kind, payload, *signers)) is approved
    good = builders.testonly_sign(kind, payload, THREE[0], THREE[1])
    first, second = good.signatures
    assert not TWO_OF_THREE.approves(replace(good, signatures=(first, Signature(second.keyid, first.sig))))
    assert not TWO_OF_THREE.approves(replace(good, signatures=(first, Signature(THREE[2].public.id, second.sig))))
    assert not TWO_OF_THREE.approves(replace(good, payload_type=DocumentType.AGREEMENT))
    assert not TWO_OF_THREE.approves(replace(good, payload=b"{ }"))
    # A bad signature beside good ones does no harm.
    assert TWO_OF_THREE.approves(replace(good, signatures=(Signature(first.keyid, bytes(3373)), first, second)))


# -- cards -----------------------------------------------------------------------------------------


def test_card_round_trip() -> None:
    """A card is read as it was written, its digest is that of its document, its lineage its own authority."""
    card = verify_card(CARD_DOCUMENT, NETWORK, NOW, None)
    assert card == CARD
    assert card.digest == CARD_DOCUMENT.digest()
    assert card.lineage == (CARD.authority.fingerprint,)
    assert encode_card(card) == CARD_DOCUMENT.payload


@pytest.mark.parametrize(
    ("path", "to", "code", "where"),
    [
        (("network",), "Mekong", "wire.bad_value", "card.network"),
        (("node",), "kh", "wire.bad_value", "card.node"),
        (("node",), "th-fp1", "wire.bad_value", "card.country"),
        (("country",), "Kh", "wire.bad_value", "card.country"),
        (("country",), "K", "wire.bad_value", "card.country"),
        (("agency",), {}, "wire.bad_value", "card.agency"),
        (("agency",), {str(n): "a" for n in range(9)}, "wire.bad_value", "card.agency"),
        (("version",), 0, "wire.bad_value", "card.version"),
        (("version",), 2, "card.chain", "card.previous"),
        (("previous",), "0" * 64, "card.chain", "card.previous"),
        (("previous",), "0" * 63, "wire.bad_value", "card.previous"),
        (("issued",), "2026-11-23", "wire.bad_time", "card.issued"),
        (("expires",), ABSENT, "wire.missing", "card.expires"),
        (("authority",), [], "wire.bad_type", "card.authority"),
        (("authority", "threshold"), 4, "wire.bad_value", "card.authority.threshold"),
        (("authority", "keys", 0, "more"), 1, "wire.unknown_member", "card.authority.keys[0]"),
        (("authority", "more"), 1, "wire.unknown_member", "card.authority"),
        (("keys",), [], "wire.bad_value", "card.keys"),
        (("keys", 0, "use"), "witness", "wire.bad_value", "card.keys[0].use"),
        (("keys", 0, "use"), "bundle", "wire.bad_value", "card.keys[0].alg"),
        (("keys", 1, "use"), "envelope", "wire.bad_value", "card.keys[1].alg"),
        (("keys", 3, "use"), "envelope", "wire.bad_value", "card.keys[3].alg"),
        (("keys", 0, "alg"), "mldsa44", "wire.bad_value", "card.keys[0].alg"),
        (("keys", 0, "id"), "0" * 64, "key.weak", "card.keys[0].id"),
        (("keys", 0, "pk"), wire.encode_base64(IDENTITY_POINT), "key.weak", "card.keys[0]"),
        (("keys", 0, "valid_from"), ABSENT, "wire.missing", "card.keys[0].valid_from"),
        (("keys", 0, "valid_until"), "", "wire.bad_value", "card.keys[0].valid_until"),
        (("keys", 0, "more"), None, "wire.unknown_member", "card.keys[0]"),
        (("log_origin",), "x" * 129, "wire.bad_value", "card.log_origin"),
        (("tls_pins",), [], "wire.bad_value", "card.tls_pins"),
        (("tls_pins", 0), "0", "wire.bad_value", "card.tls_pins"),
        (("endpoints", 0), "http://kh-fp1.example", "wire.bad_value", "card.endpoints"),
        (("endpoints", 0), "https://kh-fp1.example/path", "wire.bad_value", "card.endpoints"),
        (("endpoints", 0), "https://user@kh-fp1.example", "wire.bad_value", "card.endpoints"),
        (("reach",), "closed", "wire.bad_value", "card.reach"),
        (("accepts",), [], "wire.bad_value", "card.accepts"),
        (("accepts", 0), "x" * 97, "wire.bad_value", "card.accepts"),
        (("duty_desk",), "x" * 513, "wire.bad_value", "card.duty_desk"),
        (("more",), None, "wire.unknown_member", "card"),
    ],
)
def test_card_refusals(path: tuple[str | int, ...], to: JsonValue, code: str, where: str) -> None:
    """A card with a wrong, missing or unknown member is refused at its place."""
    with refused(code, where):
        read_card(changed(CARD_DOCUMENT, *path, to=to))


def test_card_lists_a_key_once() -> None:
    """A card that lists one key with two uses or two dates is refused."""
    later = replace(CARD.keys[0], valid_from=CARD.keys[0].valid_until, valid_until=CARD.keys[0].valid_until + DAY)
    both = replace(CARD.keys[0], use=Use.LOG)
    for again in (later, both):
        with refused("wire.bad_value", "card.keys"):
            read_card(NODE.sign_card(replace(CARD, keys=(*CARD.keys, again))))


def test_card_of_a_payload_that_is_no_object() -> None:
    """A payload that is not an object is no card."""
    with refused("wire.bad_type", "card"):
        read_card(replace(CARD_DOCUMENT, payload=b"[]"))


def test_card_needs_its_own_authority() -> None:
    """A card is trusted only under the threshold of its own authority, over exactly these bytes and this type."""
    with refused("wire.wrong_type", "document.payloadType"):
        verify_card(replace(CARD_DOCUMENT, payload_type=DocumentType.AGREEMENT), NETWORK, NOW, None)
    with refused("key.wrong_network", "card.network"):
        verify_card(CARD_DOCUMENT, "training-other", NOW, None)
    for weakened in (
        replace(CARD_DOCUMENT, signatures=CARD_DOCUMENT.signatures[:1]),
        replace(CARD_DOCUMENT, payload=CARD_DOCUMENT.payload.replace(b'"open"', b'"pull"')),
        builders.testonly_sign(DocumentType.CARD, CARD_DOCUMENT.payload, *keys_of(3)),
    ):
        with refused("key.threshold", "card.authority"):
            verify_card(weakened, NETWORK, NOW, None)


def test_card_expiry() -> None:
    """A card is refused from the second of its expiry on."""
    assert verify_card(CARD_DOCUMENT, NETWORK, CARD.expires - SECOND, None) == CARD
    with refused("card.expired", "card of kh-fp1"):
        verify_card(CARD_DOCUMENT, NETWORK, CARD.expires, None)


def test_the_card_held_changes_nothing() -> None:
    """The card that is held already is returned as it is held, also after its expiry."""
    held = replace(CARD, lineage=(Digest("1" * 64), Digest("2" * 64)))
    assert verify_card(CARD_DOCUMENT, NETWORK, CARD.expires, held) is held


def test_card_successor() -> None:
    """A successor by the same authority continues the chain and adds nothing to the lineage."""
    following = builders.successor_of(CARD)
    card = verify_card(NODE.sign_card(following), NETWORK, NOW, CARD)
    assert (card.version, card.previous) == (2, CARD.digest)
    assert card.lineage == CARD.lineage
    third = verify_card(NODE.sign_card(builders.successor_of(card)), NETWORK, NOW, card)
    assert third.version == 3


def test_card_successor_changes_the_authority() -> None:
    """A new authority takes over under the signatures of both, and the lineage names both."""
    following = replace(builders.successor_of(CARD), authority=TWO_OF_THREE)
    card = verify_card(NODE.sign_card(following, *THREE), NETWORK, NOW, CARD)
    assert card.lineage == (CARD.authority.fingerprint, TWO_OF_THREE.fingerprint)
    old_only = NODE.sign_card(following)
    with refused("key.threshold", "card.authority"):
        verify_card(old_only, NETWORK, NOW, CARD)
    new_only = builders.testonly_sign(DocumentType.CARD, encode_card(following), *THREE, NODE.authority[0])
    with refused("key.threshold", "authority of the card held"):
        verify_card(new_only, NETWORK, NOW, CARD)


def test_card_lineage_is_bounded_and_in_order() -> None:
    """The lineage keeps the last 64 fingerprints, oldest first, each once."""
    old = tuple(Digest(f"{n:064x}") for n in range(MAX_LINEAGE))
    held = replace(CARD, lineage=(*old[1:], CARD.authority.fingerprint))
    following = replace(builders.successor_of(CARD), authority=TWO_OF_THREE)
    card = verify_card(NODE.sign_card(following, *THREE), NETWORK, NOW, held)
    assert card.lineage == (*old[2:], CARD.authority.fingerprint, TWO_OF_THREE.fingerprint)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda card: replace(card, version=3),
        lambda card: replace(card, version=1, previous=None, issued=NOW),
        lambda card: replace(card, previous=Digest("0" * 64)),
        lambda card: replace(card, node=builders.TH, country="TH"),
    ],
    ids=["skipped", "rival", "previous", "node"],
)
def test_card_that_does_not_continue(spoil: Callable[[Card], Card]) -> None:
    """A card that skips a version, rivals the first, names another predecessor or is of another node is an alarm."""
    with refused("card.chain", "card.previous"):
        verify_card(NODE.sign_card(spoil(builders.successor_of(CARD))), NETWORK, NOW, CARD)


def test_key_speaks_for_its_use_within_its_dates() -> None:
    """A key is found by its id and use, from its first second until before its last."""
    key = CARD.keys[0]
    assert CARD.signing_key(key.key.id, Use.ENVELOPE, key.valid_from) == key.key
    assert CARD.signing_key(key.key.id, Use.ENVELOPE, key.valid_until - SECOND) == key.key
    for moment in (key.valid_from - SECOND, key.valid_until):
        with refused("key.expired", "card of kh-fp1"):
            CARD.signing_key(key.key.id, Use.ENVELOPE, moment)
    with refused("key.unknown", "card of kh-fp1"):
        CARD.signing_key(key.key.id, Use.LOG, NOW)
    with refused("key.unknown", "card of kh-fp1"):
        CARD.signing_key("0" * 64, Use.ENVELOPE, NOW)


def test_keys_for_a_use() -> None:
    """All keys of a use are listed, whatever their dates."""
    assert CARD.keys_for(Use.LOG) == (NODE.log[0].public, NODE.log[1].public)
    past = NodeKey(ED25519.public, Use.ENVELOPE, NOW - DAY, NOW - DAY)
    assert replace(CARD, keys=(*CARD.keys, past)).keys_for(Use.ENVELOPE) == (NODE.envelope.public, ED25519.public)


# -- prekey bundles --------------------------------------------------------------------------------


def test_prekeys_round_trip() -> None:
    """A bundle is read as it was written, under its card's bundle key."""
    bundle = verify_prekeys(PREKEYS_DOCUMENT, CARD, NOW, 1)
    assert (bundle.network, bundle.node, bundle.serial, bundle.issued) == (NETWORK, CARD.node, 1, NOW)
    assert bundle.prekeys == (NODE.prekey.entry,)
    assert bundle.digest == PREKEYS_DOCUMENT.digest()


@pytest.mark.parametrize(
    ("path", "to", "code", "where"),
    [
        (("network",), "training-other", "key.wrong_network", "prekeys.network"),
        (("network",), "", "wire.bad_value", "prekeys.network"),
        (("node",), "th-fp1", "prekey.invalid", "prekeys.node"),
        (("signing_key",), "0" * 64, "key.unknown", "card of kh-fp1"),
        (("signing_key",), NODE.envelope.public.id, "key.unknown", "card of kh-fp1"),
        (("serial",), 0, "wire.bad_value", "prekeys.serial"),
        (("issued",), ABSENT, "wire.missing", "prekeys.issued"),
        (("prekeys",), [], "wire.bad_value", "prekeys.prekeys"),
        (("prekeys", 0, "alg"), "ed25519", "wire.bad_value", "prekeys.prekeys[0].alg"),
        (("prekeys", 0, "id"), "0" * 64, "key.weak", "prekeys.prekeys[0].id"),
        (("prekeys", 0, "pk"), wire.encode_base64(b"\xff" * 1216), "key.weak", "prekeys.prekeys[0]"),
        (("prekeys", 0, "class"), "hourly", "wire.bad_value", "prekeys.prekeys[0].class"),
        (("prekeys", 0, "use_from"), "2026-11-24T00:27:37Z", "prekey.invalid", "prekeys.prekeys[0]"),
        (("prekeys", 0, "open_until"), "2026-11-23T12:27:37Z", "prekey.invalid", "prekeys.prekeys[0]"),
        (("prekeys", 0, "more"), 1, "wire.unknown_member", "prekeys.prekeys[0]"),
        (("more",), 1, "wire.unknown_member", "prekeys"),
        (("serial",), 2, "key.bad_signature", "document.signatures"),
    ],
)
def test_prekeys_refusals(path: tuple[str | int, ...], to: JsonValue, code: str, where: str) -> None:
    """A bundle with a wrong, missing or unknown member is refused at its place, and a changed one by its signature."""
    with refused(code, where):
        verify_prekeys(changed(PREKEYS_DOCUMENT, *path, to=to), CARD, NOW, 0)


def test_prekeys_of_another_type_key_or_time() -> None:
    """A bundle needs its type and exactly one signature of a bundle key valid now."""
    with refused("wire.wrong_type", "document.payloadType"):
        verify_prekeys(replace(PREKEYS_DOCUMENT, payload_type=DocumentType.CARD), CARD, NOW, 0)
    with refused("key.expired", "card of kh-fp1"):
        verify_prekeys(PREKEYS_DOCUMENT, CARD, CARD.keys[1].valid_until, 0)
    with refused("key.bad_signature", "document.signatures"):
        verify_prekeys(builders.testonly_sign(DocumentType.PREKEYS, PREKEYS_DOCUMENT.payload, HYBRID), CARD, NOW, 0)


def test_prekeys_twice_in_a_bundle() -> None:
    """A bundle that holds one key twice is refused."""
    entry = NODE.prekey.entry
    with refused("prekey.invalid", "prekeys.prekeys"):
        verify_prekeys(NODE.prekeys_document(entry, replace(entry, kind=PrekeyClass.COURIER)), CARD, NOW, 0)


def test_prekeys_never_go_back() -> None:
    """A bundle of a lower serial than the one held is refused; the same one again is not."""
    document = NODE.prekeys_document(serial=7)
    assert verify_prekeys(document, CARD, NOW, 7).serial == 7
    assert verify_prekeys(document, CARD, NOW, 6).serial == 7
    with refused("prekey.stale", "prekeys.serial"):
        verify_prekeys(document, CARD, NOW, 8)


def test_live_prekey() -> None:
    """A sender uses a key from its first second until before its last, of several the one that opens longest."""

    def entry(use_from: int, use_until: int, open_until: int, kind: PrekeyClass = PrekeyClass.DAILY) -> Prekey:
        key = builders.testonly_prekey(ENTROPY).entry.key
        return Prekey(key, kind, NOW + use_from * DAY, NOW + use_until * DAY, NOW + open_until * DAY)

    first, second, longest = entry(0, 1, 8), entry(1, 3, 9), entry(2, 3, 12)
    courier = entry(0, 9, 30, PrekeyClass.COURIER)
    bundle = NODE.bundle_of(first, longest, courier, second)
    assert bundle.live(NOW - SECOND) is None
    assert bundle.live(NOW) == first
    assert bundle.live(NOW + DAY - SECOND) == first
    assert bundle.live(NOW + DAY) == second
    assert bundle.live(NOW + 2 * DAY) == longest
    assert bundle.live(NOW + 3 * DAY) is None
    assert bundle.live(NOW + 3 * DAY, PrekeyClass.COURIER) == courier


def test_single_signature() -> None:
    """A document that one key signs carries exactly one signature, whatever key id it names."""
    document = builders.testonly_sign(DocumentType.VOID, b"{}", ED25519)
    verify_single(document, ED25519.public)
    renamed = Signature(KeyId("0" * 64), document.signatures[0].sig)
    verify_single(replace(document, signatures=(renamed,)), ED25519.public)
    for signatures in ((), document.signatures * 2, (Signature(document.signatures[0].keyid, bytes(64)),)):
        with refused("key.bad_signature", "document.signatures"):
            verify_single(replace(document, signatures=signatures), ED25519.public)
    with refused("key.bad_signature", "document.signatures"):
        verify_single(document, builders.testonly_ed25519(ENTROPY).public)


def test_written_key() -> None:
    """A key is written with its id, the name of its algorithm and its bytes."""
    key: PublicKey = ED25519.public
    assert encode_public_key(key) == {"id": key.id, "alg": "ed25519", "pk": wire.encode_base64(key.raw)}
