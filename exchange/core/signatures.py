"""Signature algorithms: bytes in, yes or no out. The one place where a signature is checked.

Implements docs/protocol.md section 2 (algorithms).

Rules:
1. Ed25519 is verified by libsodium alone: libraries disagree about edge cases, and two nodes that
   disagree about one signature would disagree about what happened.
2. An Ed25519 public key must be the canonical encoding of a point of the prime-order group (RFC 8032
   5.1.7 leaves this open): with any other key one signature can fit two messages or two keys.
3. ML-DSA (FIPS 204) is used pure, with the empty context; each message starts with its own label.
4. Wrong lengths are a plain no: every caller refuses in one way, with its own code.

What it does not do: sign with ML-DSA (that draws hidden randomness: ``ports.Secrets``), know who owns
a key or when it is valid (``core.keys``), or give purposes their labels (``wire.pae``, ``checkpoint``).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey, MLDSA65PublicKey
from nacl.bindings import (
    crypto_core_ed25519_is_valid_point,
    crypto_sign,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import BadSignatureError

ED25519_PUBLIC_BYTES: Final = 32
ED25519_SEED_BYTES: Final = 32
ED25519_SIGNATURE_BYTES: Final = 64
MLDSA44_PUBLIC_BYTES: Final = 1312
MLDSA44_SIGNATURE_BYTES: Final = 2420
MLDSA65_PUBLIC_BYTES: Final = 1952
MLDSA65_SIGNATURE_BYTES: Final = 3309


@lru_cache(maxsize=1024)  # the check costs almost as much as a signature, and a node meets few keys
def _is_group_element(public: bytes) -> bool:
    return crypto_core_ed25519_is_valid_point(public)


def is_sound_ed25519(public: bytes) -> bool:
    """Whether 32 bytes encode, canonically, a point of the prime-order group (rule 2)."""
    return len(public) == ED25519_PUBLIC_BYTES and _is_group_element(public)


def verify_ed25519(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` (64 bytes) is one of ``public`` (32 bytes) over ``message`` (RFC 8032, rules 1 and 2)."""
    if len(signature) != ED25519_SIGNATURE_BYTES or not is_sound_ed25519(public):
        return False
    try:
        crypto_sign_open(signature + message, public)
    except BadSignatureError:
        return False
    return True


def verify_mldsa44(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` (2,420 bytes) is one of ``public`` (1,312 bytes) over ``message`` (FIPS 204)."""
    if len(public) != MLDSA44_PUBLIC_BYTES or len(signature) != MLDSA44_SIGNATURE_BYTES:
        return False
    try:
        MLDSA44PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def verify_mldsa65(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` (3,309 bytes) is one of ``public`` (1,952 bytes) over ``message`` (FIPS 204)."""
    if len(public) != MLDSA65_PUBLIC_BYTES or len(signature) != MLDSA65_SIGNATURE_BYTES:
        return False
    try:
        MLDSA65PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


class Ed25519Secret:
    """An Ed25519 signing key, expanded once: ``sign`` then costs half of ``sign_ed25519``.

    The public half is always computed here and never taken from outside: a signature made with a foreign
    public half gives the secret away. The secret has no text form.
    """

    __slots__ = ("_expanded", "public")

    def __init__(self, seed: bytes) -> None:
        """``seed``: 32 bytes, else ``ValueError``."""
        if len(seed) != ED25519_SEED_BYTES:
            message = f"an Ed25519 seed has {ED25519_SEED_BYTES} bytes"
            raise ValueError(message)
        self.public, self._expanded = crypto_sign_seed_keypair(seed)

    def sign(self, message: bytes) -> bytes:
        """64 bytes, the same for the same message (RFC 8032: no randomness)."""
        return crypto_sign(message, self._expanded)[:ED25519_SIGNATURE_BYTES]

    def __repr__(self) -> str:
        return "Ed25519Secret(...)"


def sign_ed25519(seed: bytes, message: bytes) -> bytes:
    """Sign once with a 32-byte seed; 64 bytes. ``ValueError`` on another length of the seed."""
    return Ed25519Secret(seed).sign(message)
