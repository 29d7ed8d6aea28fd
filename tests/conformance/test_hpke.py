"""The wrap of content keys against the test vectors of draft-ietf-hpke-pq.

Run: the two entries of X-Wing (KEM 0x647a) with ChaCha20-Poly1305 (AEAD 3): the product's own suite with HKDF-SHA256
(KDF 1), and the one with SHAKE256 (KDF 17), which shares its KEM. Of each: seed -> key pair, decapsulation, and the
first encryption.

Not run, because the library has no entry point for it: encapsulation with a given ``ikmE`` (it draws the randomness),
encryptions after the first (its interface is one message for each encapsulation), and exports. Not run, because the
product does not use them: the eleven entries of other KEMs and AEADs.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite

from exchange.core.keys import PUBLIC_BYTES, Alg, public_key
from tests.core import builders
from tests.places import conformance_folder

if TYPE_CHECKING:
    from pathlib import Path

XWING = 0x647A
KDFS = {1: KDF.HKDF_SHA256, 17: KDF.SHAKE256}
LABEL = b"\\.//^\\"  # X-Wing's own, drawn as a fighter


def load(folder: Path | None) -> list[dict[str, Any]]:
    path = folder / "hpke-pq/test-vectors.json" if folder else None
    return json.loads(path.read_bytes()) if path and path.is_file() else []


ENTRIES = load(conformance_folder())
OURS = [entry for entry in ENTRIES if entry["kem_id"] == XWING and entry["aead_id"] == 3]


def hexed(entry: dict[str, Any], name: str) -> bytes:
    return bytes.fromhex(entry[name])


def secret_of(entry: dict[str, Any]) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    """The two halves of X-Wing's secret key: SHAKE256 of the 32-byte seed gives ML-KEM's 64 bytes and X25519's 32."""
    expanded = hashlib.shake_256(hexed(entry, "skRm")).digest(96)
    return MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), X25519PrivateKey.from_private_bytes(expanded[64:])


def public_of(entry: dict[str, Any]) -> bytes:
    first, second = secret_of(entry)
    return first.public_key().public_bytes_raw() + second.public_key().public_bytes_raw()


each_of_ours = pytest.mark.parametrize("entry", OURS, ids=lambda entry: f"kdf-{entry['kdf_id']}")


@pytest.mark.usefixtures("conformance")
def test_the_vectors_are_there() -> None:
    """The file holds as many entries as it did when this was written, and ours among them."""
    assert len(ENTRIES) == 13
    assert [entry["kdf_id"] for entry in OURS] == [1, 17]
    assert all(entry["mode"] == 0 for entry in OURS)


@each_of_ours
def test_a_seed_gives_its_public_key(entry: dict[str, Any]) -> None:
    """A prekey's seed gives the public key of the vector, which is a sound key by our own rules."""
    assert public_of(entry) == hexed(entry, "pkRm")
    assert len(hexed(entry, "pkRm")) == PUBLIC_BYTES[Alg.XWING]
    assert public_key(Alg.XWING, hexed(entry, "pkRm")).raw == hexed(entry, "pkRm")


@each_of_ours
def test_both_halves_make_the_shared_secret(entry: dict[str, Any]) -> None:
    """The vector's encapsulation opens to its shared secret, made of both halves and bound to the X25519 keys."""
    first, second = secret_of(entry)
    enc = hexed(entry, "enc")
    assert len(enc) == KEM.MLKEM768_X25519.enc_length() == 1120
    both = first.decapsulate(enc[:1088]) + second.exchange(X25519PublicKey.from_public_bytes(enc[1088:]))
    bound = enc[1088:] + second.public_key().public_bytes_raw() + LABEL
    assert hashlib.sha3_256(both + bound).digest() == hexed(entry, "shared_secret")


@each_of_ours
def test_the_first_message_opens(entry: dict[str, Any]) -> None:
    """The vector's first message opens under its info and associated data, and under no others."""
    suite = Suite(KEM.MLKEM768_X25519, KDFS[entry["kdf_id"]], AEAD.CHACHA20_POLY1305)
    key, info = MLKEM768X25519PrivateKey(*secret_of(entry)), hexed(entry, "info")
    first = entry["encryptions"][0]
    sealed, aad = hexed(entry, "enc") + hexed(first, "ct"), hexed(first, "aad")
    # The vectors carry associated data, which the library's public interface leaves out, as the product does.
    assert openssl.hpke._decrypt_with_aad(suite, sealed, key, info, aad) == hexed(first, "pt")  # noqa: SLF001
    with pytest.raises(InvalidTag):
        openssl.hpke._decrypt_with_aad(suite, sealed, key, info, b"")  # noqa: SLF001
    with pytest.raises(InvalidTag):
        openssl.hpke._decrypt_with_aad(suite, sealed, key, info + b"\0", aad)  # noqa: SLF001


@each_of_ours
def test_what_we_wrap_opens_with_the_vectors_key(entry: dict[str, Any]) -> None:
    """A content key wrapped to the vector's key by the product's suite is opened by that key under the same info."""
    key = MLKEM768X25519PrivateKey(*secret_of(entry))
    wrapped = builders.SUITE.encrypt(builders.CEK, key.public_key(), info=b"info")
    assert len(wrapped) == 1120 + 32 + 16
    assert openssl.hpke._decrypt_with_aad(builders.SUITE, wrapped, key, b"info", b"") == builders.CEK  # noqa: SLF001
    with pytest.raises(InvalidTag):
        builders.SUITE.decrypt(wrapped, key, info=b"other")
