"""Seal and open: padding, core, batches, and each step from R1 to R13 with the breach that it refuses.

Length: the steps are tried in their order, on one envelope.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt

from exchange.core import wire
from exchange.core.envelope import (
    MAX_BATCH_BYTES,
    MAX_BATCH_ITEMS,
    MAX_BODY_BYTES,
    MAX_CLOCK_SKEW,
    MAX_ENVELOPE_BYTES,
    MAX_LIFETIME,
    NONCE_BYTES,
    WRAPPED_BYTES,
    BlobRef,
    Core,
    SealedEnvelope,
    SignedEnvelope,
    body_key,
    check_times,
    encode_batch,
    encode_core,
    key_commitment,
    open_body,
    pad,
    padded_length,
    parse_batch,
    parse_core,
    parse_envelope,
    parse_padded,
    verify_envelope,
    wrap_info,
)
from exchange.core.statement import MAX_STATEMENT_BYTES, encode_statement
from exchange.core.wire import Digest, DocumentType, NodeId, Signature, UnverifiedDocument
from tests.core import builders
from tests.core.builders import ABSENT, CEK, KH, NETWORK, NONCE, NOW, TH, refused

if TYPE_CHECKING:
    from exchange.core.keys import Card
    from exchange.core.wire import JsonValue

SECOND = timedelta(seconds=1)
SENDER, RECIPIENT = builders.testonly_node(KH), builders.testonly_node(TH)
BLOBS = (BlobRef(Digest("1" * 64), 1), BlobRef(Digest("2" * 64), 5_000_000_000))
CORE = builders.sample_core(blobs=BLOBS)
PLAIN = encode_statement(builders.sample_statement())
SEALED = builders.testonly_seal(CORE, PLAIN)
DOCUMENT = wire.parse_signed_document(SEALED.document)


# -- padding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "padded"),
    [
        (0, 1024),
        (1023, 1024),
        (1024, 2048),
        (15_359, 15_360),
        (15_360, 16_384),
        (16_383, 16_384),
        (16_384, 32_768),
        (32_767, 32_768),
        (32_768, 65_536),
        (MAX_STATEMENT_BYTES, 1_048_576),
    ],
)
def test_padded_length(length: int, padded: int) -> None:
    """Sizes go in steps of 1 KiB up to 16 KiB, then in powers of two, with room for the mark."""
    assert padded_length(length) == padded
    assert len(pad(bytes(length))) == padded
    assert parse_padded(pad(bytes(length))) == bytes(length)


@given(st.binary(max_size=100), st.integers(0, 40_000))
def test_padding_round_trip(data: bytes, zeros: int) -> None:
    """Any bytes, also such as end in zeros or in the mark, come back from their padding."""
    for plain in (data + bytes(zeros), data + b"\x80" + bytes(zeros), bytes(zeros) + data):
        padded = pad(plain)
        assert len(padded) == padded_length(len(plain)) > len(plain)
        assert parse_padded(padded) == plain


@given(st.binary(max_size=40), st.integers(0, 3000))
@example(b"", 0)
@example(b"", 1024)
@example(b"\x80", 2047)
@example(b"a" * 40 + b"\x81", 983)
def test_padding_has_one_form(data: bytes, zeros: int) -> None:
    """Bytes are read as padded where they are what is made of their plaintext, and refused otherwise."""
    padded = data + bytes(zeros)
    cut = padded.rstrip(b"\0")
    if cut[-1:] == b"\x80" and pad(cut[:-1]) == padded:
        assert parse_padded(padded) == cut[:-1]
    else:
        with refused("envelope.padding", "R13"):
            parse_padded(padded)


# -- the core --------------------------------------------------------------------------------------


WRITTEN_CORE = encode_core(CORE)


def test_core_round_trip() -> None:
    """A core is read as it was written, and written again as the same bytes."""
    full = replace(CORE, blobs=tuple(BlobRef(Digest(f"{n:064x}"), n + 1) for n in range(64)), attempt=99, lane="alert")
    for core in (CORE, full, replace(CORE, blobs=())):
        assert parse_core(encode_core(core)) == core
        assert encode_core(parse_core(encode_core(core))) == encode_core(core)


@pytest.mark.parametrize(
    ("path", "to", "code", "where"),
    [
        (("v",), 2, "wire.bad_value", "core.v"),
        (("v",), ABSENT, "wire.missing", "core.v"),
        (("network",), "", "wire.bad_value", "core.network"),
        (("id",), "0" * 31, "wire.bad_value", "core.id"),
        (("attempt",), 0, "wire.bad_value", "core.attempt"),
        (("attempt",), 100, "wire.bad_value", "core.attempt"),
        (("from",), "KH-fp1", "wire.bad_value", "core.from"),
        (("key",), "0" * 63, "wire.bad_value", "core.key"),
        (("to",), "th-fp1", "wire.bad_type", "core.to"),
        (("to", "node"), "th", "wire.bad_value", "core.to.node"),
        (("to", "prekey"), "", "wire.bad_value", "core.to.prekey"),
        (("to", "agreement"), [], "wire.bad_type", "core.to.agreement"),
        (("to", "agreement", "id"), "A", "wire.bad_value", "core.to.agreement.id"),
        (("to", "agreement", "version"), 0, "wire.bad_value", "core.to.agreement.version"),
        (("to", "agreement", "digest"), "0", "wire.bad_value", "core.to.agreement.digest"),
        (("to", "agreement", "more"), 1, "wire.unknown_member", "core.to.agreement"),
        (("to", "seq"), 0, "wire.bad_value", "core.to.seq"),
        (("to", "more"), 1, "wire.unknown_member", "core.to"),
        (("created",), "now", "wire.bad_time", "core.created"),
        (("expires",), None, "wire.bad_type", "core.expires"),
        (("lane",), "fast", "wire.bad_value", "core.lane"),
        (("blobs",), [{"h": "0" * 64, "len": 1}] * 65, "wire.bad_value", "core.blobs"),
        (("blobs", 1, "h"), "", "wire.bad_value", "core.blobs[1].h"),
        (("blobs", 1, "len"), 0, "wire.bad_value", "core.blobs[1].len"),
        (("blobs", 1, "more"), 1, "wire.unknown_member", "core.blobs[1]"),
        (("kc",), wire.encode_base64(bytes(31)), "wire.bad_value", "core.kc"),
        (("kc",), wire.encode_base64(bytes(33)), "wire.bad_value", "core.kc"),
        (("more",), 1, "wire.unknown_member", "core"),
        (("more",), [[[[]]]], "wire.too_deep", "at most 4 levels"),
    ],
)
def test_core_refusals(path: tuple[str | int, ...], to: JsonValue, code: str, where: str) -> None:
    """A core with a wrong, missing or unknown member is refused at its place."""
    with refused(code, where):
        parse_core(builders.edited(WRITTEN_CORE, *path, to=to))


def test_keys_of_the_content_key() -> None:
    """Body key and commitment are keyed BLAKE2b-256 of nothing, personalised, and different."""
    assert body_key(CEK) == hashlib.blake2b(b"", key=CEK, digest_size=32, person=b"fpx1-body").digest()
    assert key_commitment(CEK) == hashlib.blake2b(b"", key=CEK, digest_size=32, person=b"fpx1-commit").digest()
    assert body_key(CEK) != key_commitment(CEK) != key_commitment(bytes(32))


def test_info() -> None:
    """HPKE's info is the label, the network, the core's digest, and recipient and prekey behind their lengths."""
    digest = hashlib.sha256(WRITTEN_CORE).digest()
    assert wrap_info(CORE, digest) == (
        b"focalpoint/v1/cek\0training-mekong\0" + digest + b"\0\x06th-fp1\0\x40" + CORE.prekey.encode()
    )


# -- sealing and opening ---------------------------------------------------------------------------


def test_seal_and_open() -> None:
    """The recipient opens exactly the bytes that were sealed, with what the envelope names."""
    envelope = parse_envelope(SEALED.document, SEALED.body)
    assert (envelope.core, envelope.received, envelope.digest) == (CORE, SEALED.document, SEALED.digest)
    signed = verify_envelope(envelope, network=NETWORK, me=TH, card=SENDER.card, blocked=False, now=NOW)
    assert (signed.core, signed.received, signed.digest) == (CORE, SEALED.document, SEALED.digest)
    check_times(signed.core, NOW)
    cek = RECIPIENT.prekey.unwrap(signed.info, signed.wrapped)
    assert cek == CEK
    assert open_body(signed, cek) == PLAIN


@given(st.binary(max_size=3000))
def test_any_bytes_are_sealed_and_opened(plain: bytes) -> None:
    """Whatever is sealed is opened byte for byte, and its size is hidden in steps."""
    sealed = builders.testonly_seal(CORE, plain)
    assert open_body(builders.verified(sealed), CEK) == plain
    assert (len(sealed.body) - NONCE_BYTES - 16) % 1024 == 0


def test_largest_envelope_fits_its_limits() -> None:
    """The largest statement and the most blobs make a document and a body just within their limits."""
    core = replace(
        CORE,
        network=wire.NetworkId("n" * 32),
        blobs=tuple(BlobRef(Digest(f"{n:064x}"), 2**53 - 1) for n in range(64)),
        agreement=replace(CORE.agreement, id=wire.AgreementId("a" * 64), version=9999),
        seq=2**53 - 1,
    )
    sealed = builders.testonly_seal(core, bytes(MAX_STATEMENT_BYTES))
    assert len(sealed.body) == MAX_BODY_BYTES
    assert len(sealed.document) < MAX_ENVELOPE_BYTES
    assert parse_envelope(sealed.document, sealed.body).core == core


def test_sealed_bytes() -> None:
    """The body is nonce and ciphertext under the core's digest; the digest covers type, payload and signature."""
    payload = wire.parse_json(DOCUMENT.payload, max_bytes=MAX_ENVELOPE_BYTES)
    assert isinstance(payload, dict)
    assert payload["core"] == WRITTEN_CORE.decode()
    assert payload["body"] == {"sha256": wire.sha256_hex(SEALED.body), "len": len(SEALED.body)}
    assert SEALED.body == NONCE + crypto_aead_xchacha20poly1305_ietf_encrypt(
        pad(PLAIN), hashlib.sha256(WRITTEN_CORE).digest(), NONCE, body_key(CEK)
    )
    signature = DOCUMENT.signatures[0]
    assert signature.keyid == SENDER.envelope.public.id
    assert SEALED.digest == wire.sha256_hex(b"fpx1-env\0" + DOCUMENT.signed_bytes() + signature.sig)
    assert SENDER.envelope.public.verify(DOCUMENT.signed_bytes(), signature.sig)


# -- R1, R2 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "to", "code", "where"),
    [
        (("core",), {}, "wire.bad_type", "envelope.core"),
        (("core",), "{}", "wire.missing", "core.v"),
        (("core",), "{", "wire.not_json", "line 1, column 2"),
        (("wrapped",), wire.encode_base64(bytes(WRAPPED_BYTES - 1)), "wire.bad_value", "envelope.wrapped"),
        (("wrapped",), wire.encode_base64(bytes(WRAPPED_BYTES + 1)), "wire.bad_value", "envelope.wrapped"),
        (("body",), "", "wire.bad_type", "envelope.body"),
        (("body", "sha256"), "0" * 64, "envelope.malformed", "R2 body"),
        (("body", "sha256"), "0", "wire.bad_value", "envelope.body.sha256"),
        (("body", "len"), len(SEALED.body) + 1, "envelope.malformed", "R2 body"),
        (("body", "len"), MAX_BODY_BYTES + 1, "wire.bad_value", "envelope.body.len"),
        (("body", "more"), 1, "wire.unknown_member", "envelope.body"),
        (("more",), 1, "wire.unknown_member", "envelope"),
    ],
)
def test_r2_refuses_a_malformed_envelope(path: tuple[str | int, ...], to: JsonValue, code: str, where: str) -> None:
    """An envelope with a wrong, missing or unknown member is refused at its place."""
    document = replace(DOCUMENT, payload=builders.edited(DOCUMENT.payload, *path, to=to))
    with refused(code, where):
        parse_envelope(wire.encode_signed_document(document), SEALED.body)


def test_r1_r2_refuse_other_bytes() -> None:
    """A body that is not the one named, another number of signatures, another type, or too much is refused."""
    for body in (b"", SEALED.body[:-1], SEALED.body + b"\0", SEALED.body[:-1] + bytes([SEALED.body[-1] ^ 1])):
        with refused("envelope.malformed", "R2 body"):
            parse_envelope(SEALED.document, body)
    twice = replace(DOCUMENT, signatures=DOCUMENT.signatures * 2)
    with refused("envelope.malformed", "R2 signatures"):
        parse_envelope(wire.encode_signed_document(twice), SEALED.body)
    with refused("wire.wrong_type", "document.payloadType"):
        parse_envelope(wire.encode_signed_document(replace(DOCUMENT, payload_type=DocumentType.VOID)), SEALED.body)
    with refused("wire.too_large", f"{MAX_ENVELOPE_BYTES + 1} bytes, at most {MAX_ENVELOPE_BYTES}"):
        parse_envelope(SEALED.document.ljust(MAX_ENVELOPE_BYTES + 1), SEALED.body)


# -- R3 to R5 --------------------------------------------------------------------------------------


def refuse_route(
    code: str,
    where: str,
    *,
    sealed: SealedEnvelope = SEALED,
    me: NodeId = TH,
    card: Card | None = SENDER.card,
    blocked: bool = False,
    now: datetime = NOW,
) -> None:
    envelope = parse_envelope(sealed.document, sealed.body)
    with refused(code, where):
        verify_envelope(envelope, network=NETWORK, me=me, card=card, blocked=blocked, now=now)


def test_r3_refuses_another_network_or_node() -> None:
    """An envelope of another network, to another node, or from ourselves is not for us."""
    other = builders.testonly_seal(replace(CORE, network=wire.NetworkId("mekong")), PLAIN)
    refuse_route("key.wrong_network", "R3", sealed=other)
    refuse_route("envelope.not_for_us", "R3", me=NodeId("th-fp2"))
    refuse_route("envelope.not_for_us", "R3", me=TH, sealed=builders.testonly_seal(replace(CORE, sender=TH), PLAIN))


def test_r4_refuses_an_unknown_expired_or_blocked_sender() -> None:
    """A sender without a card, with an expired one, or blocked here is refused, in this order."""
    refuse_route("envelope.unknown_sender", "R4", card=None, blocked=True)
    refuse_route("card.expired", "R4", now=SENDER.card.expires, blocked=True)
    refuse_route("envelope.blocked", "R4", now=SENDER.card.expires - SECOND, blocked=True)


def test_r5_refuses_a_key_or_signature_that_does_not_speak_for_the_sender() -> None:
    """The key named inside must be an envelope key of the sender, valid when created, and have signed these bytes."""
    stranger = builders.testonly_ed25519(builders.TestOnlyEntropy("stranger"))
    for key in (stranger.public.id, SENDER.log[0].public.id):
        sealed = builders.testonly_seal(replace(CORE, signing_key=key), PLAIN)
        refuse_route("key.unknown", "card of kh-fp1", sealed=sealed)
    until = SENDER.card.keys[0].valid_until
    late = replace(CORE, created=until, expires=until + SECOND)
    refuse_route("key.expired", "card of kh-fp1", sealed=builders.testonly_seal(late, PLAIN))
    forged = replace(DOCUMENT, signatures=(Signature(CORE.signing_key, stranger.sign(DOCUMENT.signed_bytes())),))
    refuse_route("envelope.signature", "R5", sealed=replace(SEALED, document=wire.encode_signed_document(forged)))
    moved = replace(
        DOCUMENT, payload=builders.edited(DOCUMENT.payload, "wrapped", to=wire.encode_base64(bytes(WRAPPED_BYTES)))
    )
    assert len(moved.payload) == len(DOCUMENT.payload)
    refuse_route("envelope.signature", "R5", sealed=replace(SEALED, document=wire.encode_signed_document(moved)))
    other_purpose = SENDER.envelope.sign(wire.pae(DocumentType.REQUEST, DOCUMENT.payload))
    reused = replace(DOCUMENT, signatures=(Signature(CORE.signing_key, other_purpose),))
    refuse_route("envelope.signature", "R5", sealed=replace(SEALED, document=wire.encode_signed_document(reused)))


def test_the_key_id_beside_a_signature_is_a_hint() -> None:
    """Another key id beside the signature changes neither what is verified nor the envelope's digest."""
    hinted = replace(DOCUMENT, signatures=(Signature(wire.KeyId("0" * 64), DOCUMENT.signatures[0].sig),))
    envelope = parse_envelope(wire.encode_signed_document(hinted), SEALED.body)
    assert envelope.digest == SEALED.digest
    verify_envelope(envelope, network=NETWORK, me=TH, card=SENDER.card, blocked=False, now=NOW)


# -- R7 --------------------------------------------------------------------------------------------


LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def with_times(created: datetime, expires: datetime) -> Core:
    return replace(CORE, created=created, expires=expires)


def test_r7_accepts_the_bounds() -> None:
    """A message is accepted from a quarter of an hour before its creation until before its expiry, within 71 days."""
    check_times(with_times(NOW, NOW + MAX_LIFETIME), NOW)
    check_times(with_times(NOW + MAX_CLOCK_SKEW, NOW + 2 * MAX_CLOCK_SKEW), NOW)
    check_times(with_times(NOW - MAX_LIFETIME + SECOND, NOW + SECOND), NOW)
    check_times(with_times(LAST - SECOND, LAST), LAST - SECOND)


@pytest.mark.parametrize(
    ("created", "expires", "code"),
    [
        (NOW, NOW, "envelope.lifetime"),
        (NOW, NOW - SECOND, "envelope.lifetime"),
        (NOW, NOW + MAX_LIFETIME + SECOND, "envelope.lifetime"),
        (datetime(1, 1, 1, tzinfo=UTC), LAST, "envelope.lifetime"),
        (LAST, LAST, "envelope.lifetime"),
        (NOW + MAX_CLOCK_SKEW + SECOND, NOW + 2 * MAX_CLOCK_SKEW, "envelope.not_yet_valid"),
        (LAST - SECOND, LAST, "envelope.not_yet_valid"),
        (NOW - SECOND, NOW, "envelope.expired"),
    ],
)
def test_r7_refuses_times_that_cannot_be(created: datetime, expires: datetime, code: str) -> None:
    """Times that contradict each other, a message of the future and one past its expiry are refused."""
    with refused(code, "R7"):
        check_times(with_times(created, expires), NOW)


# -- R11 to R13 ------------------------------------------------------------------------------------


def refuse_body(code: str, where: str, envelope: SignedEnvelope, cek: bytes = CEK) -> None:
    with refused(code, where):
        open_body(envelope, cek)


def test_r11_refuses_another_content_key() -> None:
    """A content key that the core does not commit to opens nothing, also where the body would open with it."""
    signed = builders.verified(SEALED)
    refuse_body("envelope.commitment", "R11", signed, bytes(32))
    two_texts = builders.verified(builders.testonly_seal(CORE, PLAIN, cek=bytes(32)))
    refuse_body("envelope.commitment", "R11", two_texts, bytes(32))


@pytest.mark.parametrize("length", [0, 1, 23, 24, 25, 39, 40, 41, 1064])
def test_r12_refuses_a_body_of_any_length(length: int) -> None:
    """A body without room for nonce or tag, or of the right length with other bytes, does not open."""
    refuse_body("envelope.body", "R12", replace(builders.verified(SEALED), body=bytes(length)))


def test_r12_refuses_a_body_moved_to_another_core() -> None:
    """A body opens only under the core that it was sealed with, and with no bit changed."""
    signed = builders.verified(SEALED)
    moved = builders.verified(builders.testonly_seal(replace(CORE, seq=2), PLAIN))
    refuse_body("envelope.body", "R12", replace(moved, body=signed.body))
    for at in (0, 24, len(signed.body) - 1):
        spoiled = signed.body[:at] + bytes([signed.body[at] ^ 1]) + signed.body[at + 1 :]
        refuse_body("envelope.body", "R12", replace(signed, body=spoiled))


def test_r13_refuses_other_padding() -> None:
    """A body that opens to anything but the agreed padding is refused."""
    signed = builders.verified(SEALED)
    for padded in (b"", bytes(1024), PLAIN, PLAIN + b"\x80", pad(PLAIN) + bytes(1024)):
        body = NONCE + crypto_aead_xchacha20poly1305_ietf_encrypt(padded, signed.core_digest, NONCE, body_key(CEK))
        refuse_body("envelope.padding", "R13", replace(signed, body=body))


def test_a_content_key_does_not_open_under_another_core_or_prekey() -> None:
    """The wrapped key is bound to the network, the core, the recipient and its prekey."""
    signed = builders.verified(SEALED)
    for core in (
        replace(CORE, network=wire.NetworkId("mekong")),
        replace(CORE, recipient=NodeId("th-fp2")),
        replace(CORE, prekey=wire.KeyId("0" * 64)),
    ):
        assert wrap_info(core, signed.core_digest) != signed.info
    assert wrap_info(CORE, bytes(32)) != signed.info


# -- batches ---------------------------------------------------------------------------------------


FRAMES = st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=40)), max_size=5)


@given(FRAMES)
def test_batch_round_trip(frames: list[tuple[bytes, bytes]]) -> None:
    """Documents and bodies come back in pairs and in order; a batch of none is malformed."""
    batch = encode_batch(frames)
    if frames:
        assert parse_batch(batch) == frames
        assert encode_batch(parse_batch(batch)) == batch
    else:
        with refused("wire.bad_frame", "end"):
            parse_batch(batch)


@given(FRAMES.filter(bool), st.data())
def test_batch_cut_short(frames: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    """A batch that ends anywhere but behind a body is refused."""
    batch = encode_batch(frames)
    ends = {len(encode_batch(frames[:count])): count for count in range(1, len(frames) + 1)}
    cut = data.draw(st.integers(0, len(batch)))
    if cut in ends:
        assert parse_batch(batch[:cut]) == frames[: ends[cut]]
        return
    # Where it is noticed: at the piece that lacks bytes, or at the end where a body lacks altogether.
    at, pieces = 0, [piece for frame in frames for piece in frame]
    while pieces and at + 4 + len(pieces[0]) <= cut:
        at += 4 + len(pieces.pop(0))
    with refused("wire.bad_frame", "end" if at == cut else f"byte {at}"):
        parse_batch(batch[:cut])


def test_batch_limits() -> None:
    """A batch holds at most 256 pairs and 8 MiB, and each piece at most what an envelope or a body may have."""
    most = [(b"d", b"")] * MAX_BATCH_ITEMS
    assert parse_batch(encode_batch(most)) == most
    with refused("wire.bad_frame", f"byte {9 * MAX_BATCH_ITEMS}"):
        parse_batch(encode_batch([*most, (b"d", b"")]))
    largest = [(bytes(MAX_ENVELOPE_BYTES), bytes(MAX_BODY_BYTES))]
    assert parse_batch(encode_batch(largest)) == largest
    with refused("wire.too_large", f"byte 0, at most {MAX_ENVELOPE_BYTES} bytes"):
        parse_batch(encode_batch([(bytes(MAX_ENVELOPE_BYTES + 1), b"")]))
    with refused("wire.too_large", f"byte 4, at most {MAX_BODY_BYTES} bytes"):
        parse_batch(encode_batch([(b"", bytes(MAX_BODY_BYTES + 1))]))
    with refused("wire.too_large", f"batch, at most {MAX_BATCH_BYTES} bytes"):
        parse_batch(bytes(MAX_BATCH_BYTES + 1))
    with refused("wire.bad_frame", f"byte {4 * 2 * MAX_BATCH_ITEMS}"):
        parse_batch(bytes(MAX_BATCH_BYTES))


def test_a_document_is_no_envelope_of_another_kind() -> None:
    """A signed document whose payload reads as an envelope but whose type says otherwise is not read as one."""
    other = UnverifiedDocument(DocumentType.CARD, DOCUMENT.payload, DOCUMENT.signatures)
    with refused("wire.wrong_type", "document.payloadType"):
        parse_envelope(wire.encode_signed_document(other), SEALED.body)
