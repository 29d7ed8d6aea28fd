"""Signature algorithms: which signatures and keys count."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA65PrivateKey
from nacl.bindings import crypto_core_ed25519_add, crypto_scalarmult_ed25519_base_noclamp, crypto_sign_open

from exchange.core.signatures import (
    Ed25519Secret,
    is_sound_ed25519,
    sign_ed25519,
    verify_ed25519,
    verify_mldsa44,
    verify_mldsa65,
)

SEED = bytes(range(32))
MESSAGE = b"a message"
ORDER = 2**252 + 27742317777372353535851937790883648493
PRIME = 2**255 - 19
# The points whose order divides the cofactor, as every list of them has it (for example libsodium's own).
LOW_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    (PRIME - 1).to_bytes(32, "little"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
]


def test_rfc_8032_vector() -> None:
    """Signing gives the signature of RFC 8032 section 7.1, test 2, and it verifies."""
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    secret = Ed25519Secret(seed)
    assert secret.public.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert secret.sign(b"\x72") == sign_ed25519(seed, b"\x72") == signature
    assert verify_ed25519(secret.public, b"\x72", signature)


def test_ed25519_wrong_message_signature_or_key() -> None:
    """An Ed25519 signature is one of exactly one message and key."""
    secret = Ed25519Secret(SEED)
    signature = secret.sign(MESSAGE)
    assert verify_ed25519(secret.public, MESSAGE, signature)
    assert not verify_ed25519(secret.public, MESSAGE + b"\0", signature)
    assert not verify_ed25519(Ed25519Secret(bytes(32)).public, MESSAGE, signature)
    for at in range(64):
        changed = bytearray(signature)
        changed[at] ^= 1
        assert not verify_ed25519(secret.public, MESSAGE, bytes(changed))


def test_ed25519_lengths() -> None:
    """A signature or key of another length is refused without an exception."""
    secret = Ed25519Secret(SEED)
    signature = secret.sign(MESSAGE)
    for wrong in (b"", signature[:-1], signature + b"\0"):
        assert not verify_ed25519(secret.public, MESSAGE, wrong)
    for wrong in (b"", secret.public[:-1], secret.public + b"\0"):
        assert not verify_ed25519(wrong, MESSAGE, signature)
    # The 65th byte must not slip over into the message.
    assert not verify_ed25519(secret.public, MESSAGE[1:], signature + MESSAGE[:1])


def test_ed25519_signature_cannot_be_varied() -> None:
    """The same signature with the group order added to its second half is refused."""
    secret = Ed25519Secret(SEED)
    signature = secret.sign(MESSAGE)
    varied = signature[:32] + (int.from_bytes(signature[32:], "little") + ORDER).to_bytes(32, "little")
    assert not verify_ed25519(secret.public, MESSAGE, varied)


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:8])
def test_ed25519_low_order_keys(point: bytes) -> None:
    """A key of low order, under which one signature fits every message, is refused with either sign bit."""
    for public in (point, point[:31] + bytes([point[31] | 0x80])):
        assert not is_sound_ed25519(public)
        # With A of low order, R = A' and S = 0 satisfy the equation for many messages.
        assert not any(verify_ed25519(public, bytes([n]), LOW_ORDER[1] + bytes(32)) for n in range(16))


def test_ed25519_mixed_order_and_non_canonical_keys() -> None:
    """A key with a low-order part, or one written above the field's prime, is refused."""
    secret = Ed25519Secret(SEED)
    assert is_sound_ed25519(secret.public)
    assert not is_sound_ed25519(crypto_core_ed25519_add(secret.public, LOW_ORDER[3]))
    for value in range(PRIME, 2**255):
        assert not is_sound_ed25519(value.to_bytes(32, "little"))


def test_ed25519_mixed_order_key_that_libsodium_alone_accepts() -> None:
    """A signature under a key with a low-order part is refused, although its equation holds."""
    scalar = int.from_bytes(hashlib.sha512(SEED).digest()[:32], "little") & (2**254 - 8) | 2**254
    mixed = crypto_core_ed25519_add(Ed25519Secret(SEED).public, LOW_ORDER[3])
    commitment = crypto_scalarmult_ed25519_base_noclamp((7).to_bytes(32, "little"))

    def challenge_of(message: bytes) -> int:
        return int.from_bytes(hashlib.sha512(commitment + mixed + message).digest(), "little") % ORDER

    # Where the challenge is a multiple of 8, the low-order part falls out of the equation.
    message = next(bytes([n]) for n in range(256) if challenge_of(bytes([n])) % 8 == 0)
    signature = commitment + ((7 + challenge_of(message) * scalar) % ORDER).to_bytes(32, "little")
    assert crypto_sign_open(signature + message, mixed) == message
    assert not verify_ed25519(mixed, message, signature)


def test_mldsa44() -> None:
    """An ML-DSA-44 signature is one of exactly one message and key, and lengths are checked."""
    key = MLDSA44PrivateKey.from_seed_bytes(SEED)
    public, signature = key.public_key().public_bytes_raw(), key.sign(MESSAGE)
    assert verify_mldsa44(public, MESSAGE, signature)
    assert not verify_mldsa44(public, MESSAGE + b"\0", signature)
    assert not verify_mldsa44(public, MESSAGE, key.sign(MESSAGE, b"context"))
    assert not verify_mldsa44(public, MESSAGE, signature[:-1])
    assert not verify_mldsa44(public[:-1], MESSAGE, signature)
    assert not verify_mldsa65(public, MESSAGE, signature)


def test_mldsa65() -> None:
    """An ML-DSA-65 signature is one of exactly one message and key, and lengths are checked."""
    key = MLDSA65PrivateKey.from_seed_bytes(SEED)
    public, signature = key.public_key().public_bytes_raw(), key.sign(MESSAGE)
    assert verify_mldsa65(public, MESSAGE, signature)
    assert not verify_mldsa65(public, MESSAGE + b"\0", signature)
    assert not verify_mldsa65(public, MESSAGE, key.sign(MESSAGE, b"context"))
    assert not verify_mldsa65(public, MESSAGE, signature[:-1])
    assert not verify_mldsa65(public[:-1], MESSAGE, signature)
    assert not verify_mldsa44(public, MESSAGE, signature)


def test_secret_tells_nothing() -> None:
    """The text form of a signing key holds no byte of it."""
    secret = Ed25519Secret(hashlib.sha256(b"seed").digest())
    assert repr(secret) == str(secret) == "Ed25519Secret(...)"


def test_seed_length() -> None:
    """A seed of another length is a fault of the program."""
    with pytest.raises(ValueError, match="32 bytes"):
        sign_ed25519(b"short", MESSAGE)
