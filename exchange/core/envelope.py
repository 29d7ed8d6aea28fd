"""Seal and open one message: one sender, one recipient.

Implements docs/protocol.md section 6 (the envelope) and the steps R1 to R5, R7 and R10 to R13 of section 7.

Rules:
1. ``core`` is an exact text inside the signed payload; its SHA-256 is in the key wrap's info and is the body's
   associated data, so that no part of an envelope can be moved to another.
2. ``kc`` commits to the content key: an envelope opens to one text, also for somebody who chose the key badly.
3. The signature covers everything, the body by its digest, and is checked on the bytes received.
4. Each check is one line with one code, in the order of section 7; a vector in tests/vectors reaches it.

What it does not do: draw random bytes or hold keys. The caller passes a content key and a nonce that are used
once, and the functions that wrap and sign (``ports.Secrets``).

Length: the format, its sealing and its opening are read side by side.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from exchange.core import wire
from exchange.core.errors import PeerError
from exchange.core.keys import Use
from exchange.core.statement import MAX_STATEMENT_BYTES
from exchange.core.wire import (
    AgreementId,
    Digest,
    DocumentType,
    Fields,
    KeyId,
    MessageId,
    NetworkId,
    NodeId,
    Signature,
    UnverifiedDocument,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from exchange.core.keys import Card

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 24
TAG_BYTES: Final = 16
WRAPPED_BYTES: Final = 1120 + KEY_BYTES + TAG_BYTES  # X-Wing encapsulation and the sealed content key
MAX_BLOBS: Final = 64
MAX_ENVELOPE_BYTES: Final = 32_768  # the signed document without its body, with the most blobs
MAX_BODY_BYTES: Final = NONCE_BYTES + MAX_STATEMENT_BYTES + 1 + TAG_BYTES
MAX_BATCH_ITEMS: Final = 256
MAX_BATCH_BYTES: Final = 8 * 1_048_576
MAX_CLOCK_SKEW: Final = timedelta(minutes=15)
MAX_LIFETIME: Final = timedelta(days=71)  # courier keys live longest: 35 days of use, 35 more to open
LANES: Final = ("alert", "normal", "bulk")
_SMALL: Final = 16_384
_STEP: Final = 1_024


# -- padding ---------------------------------------------------------------------------------------


def padded_length(length: int) -> int:
    """The padded size of ``length`` bytes: steps of 1 KiB up to 16 KiB, then powers of two."""
    needed = length + 1
    if needed <= _SMALL:
        return -(-needed // _STEP) * _STEP
    return 1 << (needed - 1).bit_length()


def pad(data: bytes) -> bytes:
    """Append 0x80 and zeros up to ``padded_length`` (ISO/IEC 7816-4)."""
    return (data + b"\x80").ljust(padded_length(len(data)), b"\0")


def parse_padded(padded: bytes) -> bytes:
    """The inverse of ``pad``. Raises envelope.padding on any other padding than the one ``pad`` makes."""
    stripped = padded.rstrip(b"\0")
    if not stripped.endswith(b"\x80") or padded_length(len(stripped) - 1) != len(padded):
        raise PeerError("envelope.padding", "R13")
    return stripped[:-1]


# -- the core --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlobRef:
    """An evidence file by the SHA-256 and length of its ciphertext."""

    h: Digest
    length: int


@dataclass(frozen=True, slots=True)
class AgreementRef:
    """An agreement by id, version and document digest."""

    id: AgreementId
    version: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class Core:
    """The clear part of an envelope: what routing needs, and no more."""

    network: NetworkId
    id: MessageId
    attempt: int
    sender: NodeId
    signing_key: KeyId
    recipient: NodeId
    prekey: KeyId
    agreement: AgreementRef
    seq: int
    created: datetime
    expires: datetime
    lane: str
    blobs: tuple[BlobRef, ...]
    kc: bytes
    officers: Digest | None = None  # the sender's list that the approvals inside rest on


def encode_core(core: Core) -> bytes:
    """The exact text of the core."""
    officers = {} if core.officers is None else {"officers": core.officers}
    return wire.encode_json(
        {
            "v": 1,
            "network": core.network,
            "id": core.id,
            "attempt": core.attempt,
            "from": core.sender,
            "key": core.signing_key,
            "to": {
                "node": core.recipient,
                "prekey": core.prekey,
                "agreement": {
                    "id": core.agreement.id,
                    "version": core.agreement.version,
                    "digest": core.agreement.digest,
                },
                "seq": core.seq,
            },
            "created": wire.encode_time(core.created),
            "expires": wire.encode_time(core.expires),
            "lane": core.lane,
            "blobs": [{"h": blob.h, "len": blob.length} for blob in core.blobs],
            "kc": wire.encode_base64(core.kc),
            **officers,
        }
    )


def _parse_blob(fields: Fields) -> BlobRef:
    blob = BlobRef(fields.digest("h"), fields.integer("len", low=1))
    fields.done()
    return blob


def parse_core(data: bytes) -> Core:
    """Read a core's text strictly."""
    fields = Fields(wire.parse_json(data, max_bytes=MAX_ENVELOPE_BYTES, max_depth=4), "core")
    fields.integer("v", low=1, high=1)
    to = fields.object("to")
    agreement = to.object("agreement")
    core = Core(
        network=NetworkId(fields.text("network", max_chars=32, pattern=wire.NETWORK_ID)),
        id=MessageId(fields.text("id", max_chars=32, pattern=wire.MESSAGE_ID)),
        attempt=fields.integer("attempt", low=1, high=99),
        sender=NodeId(fields.text("from", max_chars=19, pattern=wire.NODE_ID)),
        signing_key=KeyId(fields.digest("key")),
        recipient=NodeId(to.text("node", max_chars=19, pattern=wire.NODE_ID)),
        prekey=KeyId(to.digest("prekey")),
        agreement=AgreementRef(
            AgreementId(agreement.text("id", max_chars=64, pattern=wire.AGREEMENT_ID)),
            agreement.integer("version", low=1, high=9999),
            agreement.digest("digest"),
        ),
        seq=to.integer("seq", low=1),
        created=fields.time("created"),
        expires=fields.time("expires"),
        lane=fields.choice("lane", LANES),
        blobs=tuple(_parse_blob(item) for item in fields.each("blobs", high=MAX_BLOBS)),
        kc=fields.bytes("kc", length=KEY_BYTES, max_bytes=KEY_BYTES),
        officers=fields.digest("officers") if fields.has("officers") else None,
    )
    for part in (agreement, to, fields):
        part.done()
    return core


def body_key(cek: bytes) -> bytes:
    """K_body: BLAKE2b-256 keyed by the content key, personalised."""
    return hashlib.blake2b(key=cek, digest_size=32, person=b"fpx1-body").digest()


def key_commitment(cek: bytes) -> bytes:
    """kc: BLAKE2b-256 keyed by the content key, personalised; one text for each envelope."""
    return hashlib.blake2b(key=cek, digest_size=32, person=b"fpx1-commit").digest()


def wrap_info(core: Core, core_digest: bytes) -> bytes:
    """HPKE's info: binds the wrapped key to the network, this core, the recipient and its prekey."""
    return b"".join(
        (
            b"focalpoint/v1/cek\0",
            core.network.encode("ascii"),
            b"\0",
            core_digest,
            wire.length_prefixed(core.recipient),
            wire.length_prefixed(core.prekey),
        )
    )


# -- sealing ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SealedEnvelope:
    """An envelope ready for the outbox: the signed document's bytes, the body, and their digest."""

    document: bytes
    body: bytes
    digest: Digest


def envelope_digest(document: UnverifiedDocument) -> Digest:
    """SHA-256("fpx1-env" 0x00 || PAE || signature): the message's name in both logs and in answers."""
    return wire.sha256_hex(b"fpx1-env\0" + document.signed_bytes() + document.signatures[0].sig)


def seal_envelope(
    core: Core,
    statement: bytes,
    *,
    cek: bytes,
    nonce: bytes,
    wrap: Callable[[bytes, bytes], bytes],
    sign: Callable[[bytes], bytes],
) -> SealedEnvelope:
    """Seal ``statement`` for one recipient (protocol 6, S1 to S6).

    ``core.kc`` must be ``key_commitment(cek)``. ``wrap(info, cek)`` is HPKE base mode to the recipient's prekey and
    returns enc || ct; ``sign(message)`` is Ed25519 by ``core.signing_key``. ``cek`` and ``nonce`` are used once.
    """
    text = encode_core(core)
    core_digest = hashlib.sha256(text).digest()
    body = nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(pad(statement), core_digest, nonce, body_key(cek))
    payload = wire.encode_json(
        {
            "core": text.decode("utf-8"),
            "wrapped": wire.encode_base64(wrap(wrap_info(core, core_digest), cek)),
            "body": {"sha256": hashlib.sha256(body).hexdigest(), "len": len(body)},
        }
    )
    signature = Signature(core.signing_key, sign(wire.pae(DocumentType.ENVELOPE, payload)))
    document = UnverifiedDocument(DocumentType.ENVELOPE, payload, (signature,))
    return SealedEnvelope(wire.encode_signed_document(document), body, envelope_digest(document))


# -- batches on the wire ---------------------------------------------------------------------------


def encode_batch(frames: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Envelopes as (document, body) pairs, each part behind its length in four bytes (protocol 11.2)."""
    parts: list[bytes] = []
    for document, body in frames:
        parts += (struct.pack(">I", len(document)), document, struct.pack(">I", len(body)), body)
    return b"".join(parts)


def parse_batch(data: bytes) -> list[tuple[bytes, bytes]]:
    """The inverse of ``encode_batch`` (R1). Raises wire.too_large, wire.bad_frame."""
    if len(data) > MAX_BATCH_BYTES:
        raise PeerError("wire.too_large", f"batch, at most {MAX_BATCH_BYTES} bytes")
    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        limit = MAX_BODY_BYTES if len(pieces) % 2 else MAX_ENVELOPE_BYTES
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 4 + length
        if at + 4 > len(data) or end > len(data) or len(pieces) >= 2 * MAX_BATCH_ITEMS:
            raise PeerError("wire.bad_frame", f"byte {at}")
        if length > limit:
            raise PeerError("wire.too_large", f"byte {at}, at most {limit} bytes")
        pieces.append(data[at + 4 : end])
        at = end
    if not pieces or len(pieces) % 2:
        raise PeerError("wire.bad_frame", "end")
    return list(zip(pieces[::2], pieces[1::2], strict=True))


# -- opening ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UnverifiedEnvelope:
    """An envelope that could be read (R2). Nothing in it is believed yet."""

    core: Core
    core_digest: bytes
    wrapped: bytes
    body: bytes
    document: UnverifiedDocument
    received: bytes
    digest: Digest


@dataclass(frozen=True, slots=True)
class SignedEnvelope:
    """An envelope for us, by a known, unblocked node, under its valid signature (R5)."""

    core: Core
    core_digest: bytes
    wrapped: bytes
    body: bytes
    received: bytes
    digest: Digest

    @property
    def info(self) -> bytes:
        """HPKE's info for opening the content key."""
        return wrap_info(self.core, self.core_digest)


def parse_envelope(data: bytes, body: bytes) -> UnverifiedEnvelope:
    """Read an envelope (R1, R2). Raises ``PeerError``: wire.*, envelope.malformed."""
    document = wire.parse_signed_document(data, DocumentType.ENVELOPE, max_bytes=MAX_ENVELOPE_BYTES)
    fields = document.fields("envelope", max_bytes=MAX_ENVELOPE_BYTES)
    text = fields.text("core", max_chars=MAX_ENVELOPE_BYTES).encode("utf-8")
    wrapped = fields.bytes("wrapped", length=WRAPPED_BYTES, max_bytes=WRAPPED_BYTES)
    described = fields.object("body")
    body_digest, body_length = described.digest("sha256"), described.integer("len", high=MAX_BODY_BYTES)
    described.done()
    fields.done()
    core = parse_core(text)
    if len(document.signatures) != 1:
        raise PeerError("envelope.malformed", "R2 signatures")
    if len(body) != body_length or wire.sha256_hex(body) != body_digest:
        raise PeerError("envelope.malformed", "R2 body")
    core_digest = hashlib.sha256(text).digest()
    return UnverifiedEnvelope(core, core_digest, wrapped, body, document, data, envelope_digest(document))


def verify_envelope(
    envelope: UnverifiedEnvelope, *, network: str, me: str, card: Card | None, blocked: bool, now: datetime
) -> SignedEnvelope:
    """Steps R3 to R5: for us, from a known node, under its signature.

    ``card`` is the sender's card held here. Raises ``PeerError`` with the code of the step; its answer is bare,
    because nobody has been authenticated.
    """
    core = envelope.core
    if core.network != network:
        raise PeerError("key.wrong_network", "R3")
    if core.recipient != me or core.sender == me:
        raise PeerError("envelope.not_for_us", "R3")
    if card is None:
        raise PeerError("envelope.unknown_sender", "R4")
    if now >= card.expires:
        raise PeerError("card.expired", "R4")
    if blocked:
        raise PeerError("envelope.blocked", "R4")
    key = card.signing_key(core.signing_key, Use.ENVELOPE, core.created)
    if not key.verify(envelope.document.signed_bytes(), envelope.document.signatures[0].sig):
        raise PeerError("envelope.signature", "R5")
    return SignedEnvelope(
        core, envelope.core_digest, envelope.wrapped, envelope.body, envelope.received, envelope.digest
    )


def check_times(core: Core, now: datetime) -> None:
    """Step R7. Raises envelope.lifetime, envelope.not_yet_valid (transient) or envelope.expired."""
    # Differences, not sums: a sum with the last day of the calendar overflows.
    if not timedelta() < core.expires - core.created <= MAX_LIFETIME:
        raise PeerError("envelope.lifetime", "R7")
    if core.created - now > MAX_CLOCK_SKEW:
        raise PeerError("envelope.not_yet_valid", "R7")
    if now >= core.expires:
        raise PeerError("envelope.expired", "R7")


def open_body(envelope: SignedEnvelope, cek: bytes) -> bytes:
    """Steps R11 to R13: the statement's bytes under the content key.

    Raises envelope.commitment, envelope.body, envelope.padding. Also what a court runs, years later, with the
    envelope and one content key.
    """
    if not hmac.compare_digest(key_commitment(cek), envelope.core.kc):
        raise PeerError("envelope.commitment", "R11")
    nonce, sealed = envelope.body[:NONCE_BYTES], envelope.body[NONCE_BYTES:]
    try:
        padded = crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, envelope.core_digest, nonce, body_key(cek))
    except (CryptoError, ValueError, TypeError):
        raise PeerError("envelope.body", "R12") from None
    return parse_padded(padded)
