"""Who holds which key, and when it is valid: node cards, authority signatures, prekey bundles.

Implements docs/protocol.md section 4 (trust without a root).

Rules:
1. There is no certificate authority. A card is signed k of n by its own country's authority keys; what binds
   two countries is that each compared the other's authority fingerprint and signed it into an agreement.
2. A long-lived document carries Ed25519 and ML-DSA-65 by one hybrid key: both signatures must verify, so that
   breaking either scheme alone is not enough.
3. A successor card satisfies the threshold of the card held here and its own, and names the digest of the card
   held. Anything else is an alarm and changes nothing.
4. A key speaks only for the use its card names, and only within its dates.

What it does not do: hold secrets (adapters.keyring), or decide what an agreement permits (core.agreements).

Length: cards, authorities and prekeys share one grammar of keys.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from exchange.core import wire
from exchange.core.errors import PeerError
from exchange.core.signatures import is_sound_ed25519, verify_ed25519, verify_mldsa44, verify_mldsa65
from exchange.core.wire import Digest, DocumentType, Fields, KeyId, NetworkId, NodeId, UnverifiedDocument

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

MAX_AUTHORITY_KEYS: Final = 9
MAX_CARD_KEYS: Final = 24
MAX_PREKEYS: Final = 48  # eight daily and forty courier days
MAX_LINEAGE: Final = 64

_ANY_X25519: Final = X25519PrivateKey.from_private_bytes(bytes(32))  # no secret: it only asks whether a point is sound
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_URL: Final = re.compile(r"https://[A-Za-z0-9.:\[\]-]{1,200}")


class Alg(StrEnum):
    """Key algorithms. The hybrid's public key and signature are the two halves, Ed25519 first."""

    ED25519 = "ed25519"
    MLDSA44 = "mldsa44"
    HYBRID = "ed25519+mldsa65"
    XWING = "xwing"


PUBLIC_BYTES: Final = {Alg.ED25519: 32, Alg.MLDSA44: 1312, Alg.HYBRID: 32 + 1952, Alg.XWING: 1184 + 32}
SIGNATURE_BYTES: Final = {Alg.ED25519: 64, Alg.MLDSA44: 2420, Alg.HYBRID: 64 + 3309}


class Use(StrEnum):
    """What a node key of a card is for."""

    ENVELOPE = "envelope"  # Ed25519: envelopes, answers, voids, requests
    BUNDLE = "bundle"  # hybrid: prekey bundles, suspensions
    LOG = "log"  # Ed25519 and ML-DSA-44: checkpoints of the audit log
    PERSONNEL = "personnel"  # hybrid, never at the node: the list of officers


_ALG_OF_USE: Final = {
    Use.ENVELOPE: frozenset({Alg.ED25519}),
    Use.BUNDLE: frozenset({Alg.HYBRID}),
    Use.LOG: frozenset({Alg.ED25519, Alg.MLDSA44}),
    Use.PERSONNEL: frozenset({Alg.HYBRID}),
}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key; ``id`` is SHA-256 over its algorithm's name, a zero byte and its bytes."""

    id: KeyId
    alg: Alg
    raw: bytes

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether ``signature`` over ``message`` is by this key; for the hybrid, both halves."""
        if len(signature) != SIGNATURE_BYTES[self.alg]:
            return False
        if self.alg is Alg.ED25519:
            return verify_ed25519(self.raw, message, signature)
        if self.alg is Alg.MLDSA44:
            return verify_mldsa44(self.raw, message, signature)
        return verify_ed25519(self.raw[:32], message, signature[:64]) and verify_mldsa65(
            self.raw[32:], message, signature[64:]
        )


def _is_sound_xwing(raw: bytes) -> bool:
    """Whether a message can be sealed to the key: ML-KEM's check of the encoding (FIPS 203 7.2), no low-order point."""
    try:
        MLKEM768PublicKey.from_public_bytes(raw[:1184])
        _ANY_X25519.exchange(X25519PublicKey.from_public_bytes(raw[1184:]))
    except ValueError:
        return False
    return True


def public_key(alg: Alg, raw: bytes, where: str = "key") -> PublicKey:
    """Make a public key from its bytes. Raises key.weak on a wrong length, a malformed key or a low-order point."""
    sound = len(raw) == PUBLIC_BYTES[alg]
    if sound and alg in {Alg.ED25519, Alg.HYBRID}:
        sound = is_sound_ed25519(raw[:32])
    if sound and alg is Alg.XWING:
        sound = _is_sound_xwing(raw)
    if not sound:
        raise PeerError("key.weak", where)
    return PublicKey(KeyId(hashlib.sha256(alg.encode() + b"\0" + raw).hexdigest()), alg, raw)


def parse_public_key(fields: Fields, algs: frozenset[Alg]) -> PublicKey:
    """The members ``id``, ``alg`` and ``pk`` of an object. Raises key.weak where they do not belong together."""
    alg = Alg(fields.choice("alg", tuple(algs)))
    key = public_key(alg, fields.bytes("pk", max_bytes=2048), fields.where)
    if fields.text("id", max_chars=64, pattern=wire.HEX_256) != key.id:
        raise PeerError("key.weak", f"{fields.where}.id")
    return key


def encode_public_key(key: PublicKey) -> dict[str, object]:
    """The members of a key in a card, an agreement or a bundle."""
    return {"id": key.id, "alg": key.alg.value, "pk": wire.encode_base64(key.raw)}


# -- authorities -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Authority:
    """A country's authority: ``threshold`` of ``keys`` must sign (k of n)."""

    threshold: int
    keys: tuple[PublicKey, ...]

    @property
    def fingerprint(self) -> Digest:
        """What two operators compare by voice, and what an agreement names."""
        parts = [b"fpx1-authority\0", self.threshold.to_bytes(1, "big")]
        parts += [bytes.fromhex(key.id) for key in sorted(self.keys, key=lambda key: key.id)]
        return wire.sha256_hex(b"".join(parts))

    def approves(self, document: UnverifiedDocument) -> bool:
        """Whether at least ``threshold`` different keys of this authority signed the document."""
        message = document.signed_bytes()
        by_id = {key.id: key for key in self.keys}
        signed = {s.keyid for s in document.signatures if s.keyid in by_id and by_id[s.keyid].verify(message, s.sig)}
        return len(signed) >= self.threshold


def parse_authority(fields: Fields) -> Authority:
    """Read ``{threshold, keys[]}``; keys are hybrid and different."""
    keys: list[PublicKey] = []
    for item in fields.each("keys", low=1, high=MAX_AUTHORITY_KEYS):
        keys.append(parse_public_key(item, frozenset({Alg.HYBRID})))
        item.done()
    threshold = fields.integer("threshold", low=1, high=len(keys))
    fields.done()
    if len({key.id for key in keys}) != len(keys):
        raise PeerError("wire.bad_value", f"{fields.where}.keys")
    return Authority(threshold, tuple(keys))


def encode_authority(authority: Authority) -> dict[str, object]:
    """The inverse of ``parse_authority``."""
    return {"threshold": authority.threshold, "keys": [encode_public_key(key) for key in authority.keys]}


# -- cards -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeKey:
    """A key of a card with its use and dates."""

    key: PublicKey
    use: Use
    valid_from: datetime
    valid_until: datetime

    def is_valid(self, moment: datetime) -> bool:
        """Whether the key may speak at ``moment``."""
        return self.valid_from <= moment < self.valid_until


@dataclass(frozen=True, slots=True)
class Card:
    """A node's public card, verified. ``lineage`` holds the authority fingerprints of the whole chain."""

    network: NetworkId
    node: NodeId
    country: str
    agency: Mapping[str, str]
    version: int
    previous: Digest | None
    issued: datetime
    expires: datetime
    authority: Authority
    keys: tuple[NodeKey, ...]
    log_origin: str
    tls_pins: tuple[Digest, ...]
    endpoints: tuple[str, ...]
    reach: str
    accepts: tuple[str, ...]
    duty_desk: str
    digest: Digest = Digest("")
    lineage: tuple[Digest, ...] = ()
    personnel_threshold: int | None = None

    def signing_key(self, key_id: str, use: Use, moment: datetime) -> PublicKey:
        """The key of that id and use, valid at ``moment``. Raises key.unknown or key.expired."""
        for held in self.keys:
            if held.key.id == key_id and held.use is use:
                if not held.is_valid(moment):
                    raise PeerError("key.expired", f"card of {self.node}")
                return held.key
        raise PeerError("key.unknown", f"card of {self.node}")

    def keys_for(self, use: Use) -> tuple[PublicKey, ...]:
        """All keys of that use, whatever their dates."""
        return tuple(held.key for held in self.keys if held.use is use)

    def personnel(self, *moments: datetime) -> Authority | None:
        """Who may sign the list of officers: the keys for it that are valid at all ``moments``; None without any."""
        if self.personnel_threshold is None:
            return None
        named = [held for held in self.keys if held.use is Use.PERSONNEL]
        valid = tuple(held.key for held in named if all(held.is_valid(moment) for moment in moments))
        return Authority(self.personnel_threshold, valid)


def encode_card(card: Card) -> bytes:
    """The payload of a card, ready to be signed; ``digest`` and ``lineage`` follow from it and are not in it."""
    personnel = {} if card.personnel_threshold is None else {"personnel_threshold": card.personnel_threshold}
    return wire.encode_json(
        {
            "network": card.network,
            "node": card.node,
            "country": card.country,
            "agency": dict(card.agency),
            "version": card.version,
            "previous": card.previous,
            "issued": wire.encode_time(card.issued),
            "expires": wire.encode_time(card.expires),
            "authority": encode_authority(card.authority),
            "keys": [
                {
                    **encode_public_key(held.key),
                    "use": held.use.value,
                    "valid_from": wire.encode_time(held.valid_from),
                    "valid_until": wire.encode_time(held.valid_until),
                }
                for held in card.keys
            ],
            **personnel,
            "log_origin": card.log_origin,
            "tls_pins": list(card.tls_pins),
            "endpoints": list(card.endpoints),
            "reach": card.reach,
            "accepts": list(card.accepts),
            "duty_desk": card.duty_desk,
        }
    )


def _parse_node_key(fields: Fields) -> NodeKey:
    use = Use(fields.choice("use", tuple(Use)))
    key = parse_public_key(fields, _ALG_OF_USE[use])
    held = NodeKey(key, use, fields.time("valid_from"), fields.time("valid_until"))
    fields.done()
    return held


def read_card(document: UnverifiedDocument) -> Card:
    """Read a card's payload without believing it: for showing a draft, never for trust."""
    fields = document.fields("card")
    card = Card(
        network=NetworkId(fields.text("network", pattern=wire.NETWORK_ID)),
        node=NodeId(fields.text("node", pattern=wire.NODE_ID)),
        country=fields.text("country", pattern=_COUNTRY),
        agency=fields.mapping("agency", high=8),
        version=fields.integer("version", low=1),
        previous=fields.digest("previous") if fields.has("previous") else None,
        issued=fields.time("issued"),
        expires=fields.time("expires"),
        authority=parse_authority(fields.object("authority")),
        keys=tuple(_parse_node_key(item) for item in fields.each("keys", low=3, high=MAX_CARD_KEYS)),
        log_origin=fields.text("log_origin", max_chars=128),
        tls_pins=tuple(Digest(pin) for pin in fields.texts("tls_pins", low=1, high=4, pattern=wire.HEX_256)),
        endpoints=fields.texts("endpoints", low=1, high=4, max_chars=208, pattern=_URL),
        reach=fields.choice("reach", ("open", "pull", "courier")),
        accepts=fields.texts("accepts", low=1, high=128, max_chars=96),
        duty_desk=fields.text("duty_desk", max_chars=512),
        digest=document.digest(),
        personnel_threshold=(
            fields.integer("personnel_threshold", low=1) if fields.has("personnel_threshold") else None
        ),
    )
    fields.done()
    if len({held.key.id for held in card.keys}) != len(card.keys):
        raise PeerError("wire.bad_value", "card.keys")  # one key with two uses or two dates would speak for either
    personnel = len(card.keys_for(Use.PERSONNEL))
    if (card.personnel_threshold is None) is not (personnel == 0) or (card.personnel_threshold or 0) > personnel:
        raise PeerError("wire.bad_value", "card.personnel_threshold")
    if not card.node.startswith(f"{card.country.lower()}-"):
        raise PeerError("wire.bad_value", "card.country")
    if (card.previous is None) is not (card.version == 1):
        raise PeerError("card.chain", "card.previous")
    return card


def verify_card(document: UnverifiedDocument, network: str, now: datetime, held: Card | None) -> Card:
    """Turn a signed document into the trusted card of its node.

    ``held`` is the card of that node held here; None trusts on the operator's word, who compared the fingerprint.
    Raises ``PeerError``: wire.*, key.wrong_network, key.threshold, card.chain, card.expired.
    """
    if document.payload_type != DocumentType.CARD:
        raise PeerError("wire.wrong_type", "document.payloadType")
    card = read_card(document)
    if card.network != network:
        raise PeerError("key.wrong_network", "card.network")
    if not card.authority.approves(document):
        raise PeerError("key.threshold", "card.authority")
    lineage: tuple[Digest, ...] = (card.authority.fingerprint,)
    if held is not None:
        if card.digest == held.digest:
            return held
        if card.node != held.node or card.version != held.version + 1 or card.previous != held.digest:
            raise PeerError("card.chain", "card.previous")
        if not held.authority.approves(document):
            raise PeerError("key.threshold", "authority of the card held")
        lineage = tuple(dict.fromkeys((*held.lineage, *lineage)))
    if now >= card.expires:
        raise PeerError("card.expired", f"card of {card.node}")
    return replace(card, lineage=lineage[-MAX_LINEAGE:])


# -- prekey bundles --------------------------------------------------------------------------------


class PrekeyClass(StrEnum):
    """How long a prekey lives: ``daily`` for the network, ``courier`` for sticks that travel for weeks."""

    DAILY = "daily"
    COURIER = "courier"


@dataclass(frozen=True, slots=True)
class Prekey:
    """A one-way mailbox key: senders use it in [use_from, use_until); its secret is destroyed at open_until."""

    key: PublicKey
    kind: PrekeyClass
    use_from: datetime
    use_until: datetime
    open_until: datetime


@dataclass(frozen=True, slots=True)
class PrekeyBundle:
    """A node's published prekeys, verified."""

    network: NetworkId
    node: NodeId
    serial: int
    issued: datetime
    prekeys: tuple[Prekey, ...]
    digest: Digest

    def live(self, now: datetime, kind: PrekeyClass = PrekeyClass.DAILY) -> Prekey | None:
        """The key a sender uses at ``now``, the one that opens longest; None where none is live."""
        live = [key for key in self.prekeys if key.kind is kind and key.use_from <= now < key.use_until]
        return max(live, key=lambda key: key.open_until, default=None)


def encode_prekeys(
    *, network: str, node: str, serial: int, issued: datetime, signing_key: str, prekeys: Sequence[Prekey]
) -> bytes:
    """The payload of a prekey bundle, ready to be signed."""
    return wire.encode_json(
        {
            "network": network,
            "node": node,
            "serial": serial,
            "issued": wire.encode_time(issued),
            "signing_key": signing_key,
            "prekeys": [
                {
                    **encode_public_key(entry.key),
                    "class": entry.kind.value,
                    "use_from": wire.encode_time(entry.use_from),
                    "use_until": wire.encode_time(entry.use_until),
                    "open_until": wire.encode_time(entry.open_until),
                }
                for entry in prekeys
            ],
        }
    )


def _parse_prekey(fields: Fields) -> Prekey:
    entry = Prekey(
        key=parse_public_key(fields, frozenset({Alg.XWING})),
        kind=PrekeyClass(fields.choice("class", tuple(PrekeyClass))),
        use_from=fields.time("use_from"),
        use_until=fields.time("use_until"),
        open_until=fields.time("open_until"),
    )
    fields.done()
    if not entry.use_from < entry.use_until < entry.open_until:
        raise PeerError("prekey.invalid", fields.where)
    return entry


def verify_prekeys(document: UnverifiedDocument, card: Card, now: datetime, held_serial: int) -> PrekeyBundle:
    """Turn a signed document into the trusted prekey bundle of ``card``'s node.

    Raises ``PeerError``: wire.*, key.*, prekey.invalid, prekey.stale (an older serial than the one held).
    """
    if document.payload_type != DocumentType.PREKEYS:
        raise PeerError("wire.wrong_type", "document.payloadType")
    fields = document.fields("prekeys")
    if fields.text("network", pattern=wire.NETWORK_ID) != card.network:
        raise PeerError("key.wrong_network", "prekeys.network")
    if fields.text("node", pattern=wire.NODE_ID) != card.node:
        raise PeerError("prekey.invalid", "prekeys.node")
    signer = card.signing_key(fields.text("signing_key", pattern=wire.HEX_256), Use.BUNDLE, now)
    bundle = PrekeyBundle(
        network=card.network,
        node=card.node,
        serial=fields.integer("serial", low=1),
        issued=fields.time("issued"),
        prekeys=tuple(_parse_prekey(item) for item in fields.each("prekeys", low=1, high=MAX_PREKEYS)),
        digest=document.digest(),
    )
    fields.done()
    if len({entry.key.id for entry in bundle.prekeys}) != len(bundle.prekeys):
        raise PeerError("prekey.invalid", "prekeys.prekeys")
    verify_single(document, signer)
    if bundle.serial < held_serial:
        raise PeerError("prekey.stale", "prekeys.serial")
    return bundle


def verify_single(document: UnverifiedDocument, key: PublicKey) -> None:
    """Check that the document carries exactly one signature and that it is by ``key``. Raises key.bad_signature."""
    if len(document.signatures) != 1 or not key.verify(document.signed_bytes(), document.signatures[0].sig):
        raise PeerError("key.bad_signature", "document.signatures")
