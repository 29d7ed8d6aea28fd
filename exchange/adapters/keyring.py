"""The key holder: every secret key of one node, in one process.

Implements ``ports.Secrets`` and docs/protocol.md section 12.

Rules:
1. At rest everything is under one random master key, which is under Argon2id (MODERATE) of the passphrase; the
   passphrase is asked for once a process.
2. A function that signs or opens claims the reserved leaf before it touches the key: no key is used unlogged.
3. A content key leaves only to read a message with; a case key never leaves.
4. Prekey secrets are files of their own, never in the database, so that no backup holds them; a destroyed one is
   overwritten, synced and removed.
5. Two writers are impossible: the home is locked by the node.

What it does not do: wipe memory. Python cannot (docs/attacks.md).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id

from exchange.core import wire
from exchange.core.audit import Event, ReservedLeaf
from exchange.core.envelope import KEY_BYTES, NONCE_BYTES, SealedEnvelope, key_commitment, seal_envelope
from exchange.core.errors import IntegrityError, LocalError, PeerError
from exchange.core.keys import Alg, PublicKey, public_key
from exchange.core.signatures import Ed25519Secret
from exchange.core.wire import KeyId, Signature, UnverifiedDocument

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exchange.ports import OpenItem, SealItem

SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
XWING_SEED_BYTES: Final = 32
_MLKEM_PUBLIC: Final = 1184
_SALT_BYTES: Final = 16


# -- X-Wing keys (draft-connolly-cfrg-xwing-kem) ---------------------------------------------------


def xwing_secret(seed: bytes) -> tuple[MLKEM768X25519PrivateKey, bytes]:
    """The private key of a 32-byte seed, and the 1,216 public bytes."""
    expanded = hashlib.shake_256(seed).digest(96)
    mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    x25519 = X25519PrivateKey.from_private_bytes(expanded[64:])
    public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
    return MLKEM768X25519PrivateKey(mlkem, x25519), public


def xwing_public(raw: bytes) -> MLKEM768X25519PublicKey:
    """A recipient's prekey for HPKE."""
    return MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC]),
        X25519PublicKey.from_public_bytes(raw[_MLKEM_PUBLIC:]),
    )


# -- secrets under a passphrase --------------------------------------------------------------------


def encrypt(key: bytes, plain: bytes, bound_to: str, nonce: bytes) -> bytes:
    """XChaCha20-Poly1305, the nonce in front, bound to a text that names what it is."""
    return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(plain, bound_to.encode(), nonce, key)


def decrypt(key: bytes, sealed: bytes, bound_to: str) -> bytes | None:
    """The inverse of ``encrypt``; None where the key, the bytes or the binding differ."""
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(
            sealed[NONCE_BYTES:], bound_to.encode(), sealed[:NONCE_BYTES], key
        )
    except (CryptoError, ValueError, TypeError):
        return None


def _wrap(recipient: MLKEM768X25519PublicKey, info: bytes, cek: bytes) -> bytes:
    """HPKE base mode (RFC 9180): enc || ct."""
    return SUITE.encrypt(cek, recipient, info)


def lock_secrets(secrets: dict[str, bytes], passphrase: bytes, random: Callable[[int], bytes]) -> bytes:
    """Secrets as a file under a passphrase: Argon2id (RFC 9106), moderate cost of libsodium."""
    salt = random(_SALT_BYTES)
    key = argon2id.kdf(
        KEY_BYTES, passphrase, salt, opslimit=argon2id.OPSLIMIT_MODERATE, memlimit=argon2id.MEMLIMIT_MODERATE
    )
    plain = wire.encode_json({name: wire.encode_base64(value) for name, value in secrets.items()})
    return wire.encode_json(
        {
            "kdf": "argon2id",
            "opslimit": argon2id.OPSLIMIT_MODERATE,
            "memlimit": argon2id.MEMLIMIT_MODERATE,
            "salt": wire.encode_base64(salt),
            "box": wire.encode_base64(encrypt(key, plain, "fpx1-secrets", random(NONCE_BYTES))),
        }
    )


def unlock_secrets(data: bytes, passphrase: bytes, where: str) -> dict[str, bytes]:
    """The inverse of ``lock_secrets``. Raises ``LocalError`` input.passphrase, node.key."""
    try:
        fields = wire.Fields(wire.parse_json(data, max_bytes=wire.MAX_DOCUMENT_BYTES), "secrets")
        fields.choice("kdf", ("argon2id",))
        ops, memory = fields.integer("opslimit", low=1, high=16), fields.integer("memlimit", low=8192, high=2**31)
        salt, box = fields.bytes("salt", length=_SALT_BYTES), fields.bytes("box")
    except PeerError:
        raise LocalError("node.key", where) from None
    plain = decrypt(argon2id.kdf(KEY_BYTES, passphrase, salt, opslimit=ops, memlimit=memory), box, "fpx1-secrets")
    if plain is None:
        raise LocalError("input.passphrase", where)
    value = wire.parse_json(plain, max_bytes=wire.MAX_DOCUMENT_BYTES)
    if not isinstance(value, dict):
        raise LocalError("node.key", where)
    return {name: wire.parse_base64(str(text)) for name, text in value.items()}


# -- hybrid keys -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HybridKey:
    """Ed25519 and ML-DSA-65 as one signing key; both seeds are 32 bytes."""

    ed25519: bytes
    mldsa65: bytes

    @property
    def public(self) -> PublicKey:
        """The public half."""
        raw = MLDSA65PrivateKey.from_seed_bytes(self.mldsa65).public_key().public_bytes_raw()
        return public_key(Alg.HYBRID, Ed25519Secret(self.ed25519).public + raw)

    def sign(self, payload_type: str, payload: bytes) -> UnverifiedDocument:
        """A document with one hybrid signature."""
        return UnverifiedDocument(payload_type, payload, (self.signature(payload_type, payload),))

    def signature(self, payload_type: str, payload: bytes) -> Signature:
        """One hybrid signature, to be joined with those of other keys."""
        message = wire.pae(payload_type, payload)
        halves = Ed25519Secret(self.ed25519).sign(message) + MLDSA65PrivateKey.from_seed_bytes(self.mldsa65).sign(
            message
        )
        return Signature(self.public.id, halves)


def new_hybrid_key(random: Callable[[int], bytes]) -> HybridKey:
    """A fresh hybrid key."""
    return HybridKey(random(32), random(32))


# -- the node's keyring ----------------------------------------------------------------------------


class PrekeyFiles(Protocol):
    """Where prekey secrets lie: one file each."""

    def save(self, name: str, data: bytes) -> None:
        """Write, sync, and only then return."""

    def load(self, name: str) -> bytes | None:
        """The bytes, or None."""

    def destroy(self, name: str) -> None:
        """Overwrite, sync, remove, sync."""


def new_node_secrets(random: Callable[[int], bytes]) -> dict[str, bytes]:
    """Every secret that a new node needs."""
    names = ("master", "index", "envelope", "bundle_ed25519", "bundle_mldsa65", "log_ed25519", "log_mldsa44", "tls")
    return {name: random(32) for name in names}


class Keyring:
    """``ports.Secrets`` in this process."""

    def __init__(self, secrets: dict[str, bytes], prekeys: PrekeyFiles, random: Callable[[int], bytes]) -> None:
        self._secrets = secrets
        self._files = prekeys
        self._random = random
        self._bundle = HybridKey(secrets["bundle_ed25519"], secrets["bundle_mldsa65"])
        self._log = MLDSA44PrivateKey.from_seed_bytes(secrets["log_mldsa44"])
        self._envelope = Ed25519Secret(secrets["envelope"])
        self._log_ed25519 = Ed25519Secret(secrets["log_ed25519"])
        self._envelope_public = public_key(Alg.ED25519, self._envelope.public)
        self._bundle_public = self._bundle.public
        self._cases: dict[str, bytes] = {}
        self._opened: dict[str, MLKEM768X25519PrivateKey] = {}
        self._recipients: dict[str, MLKEM768X25519PublicKey] = {}

    @property
    def envelope_key(self) -> PublicKey:
        """See ``ports.Secrets``."""
        return self._envelope_public

    @property
    def bundle_key(self) -> PublicKey:
        """See ``ports.Secrets``."""
        return self._bundle_public

    @property
    def log_keys(self) -> tuple[PublicKey, PublicKey]:
        """The public halves of the log's two keys."""
        return (
            public_key(Alg.ED25519, self._log_ed25519.public),
            public_key(Alg.MLDSA44, self._log.public_key().public_bytes_raw()),
        )

    @property
    def tls_password(self) -> str:
        """What the TLS key file is encrypted under; derived, so that one passphrase opens the node."""
        return hashlib.blake2b(key=self._secrets["tls"], person=b"fpx1-tls").hexdigest()

    async def seal(self, items: Sequence[SealItem]) -> list[tuple[SealedEnvelope, bytes]]:
        """See ``ports.Secrets``."""
        sealed: list[tuple[SealedEnvelope, bytes]] = []
        for item in items:
            item.leaf.claim(Event.SEALED)
            cek = self._random(KEY_BYTES)
            wrap = partial(_wrap, self._recipient(item.prekey))
            envelope = seal_envelope(
                replace(item.core, kc=key_commitment(cek), signing_key=self._envelope_public.id),
                item.statement,
                cek=cek,
                nonce=self._random(NONCE_BYTES),
                wrap=wrap,
                sign=self._envelope.sign,
            )
            sealed.append((envelope, self.wrap(item.case_id, cek, envelope.digest)))
        return sealed

    def _recipient(self, prekey: PublicKey) -> MLKEM768X25519PublicKey:
        key = self._recipients.get(prekey.id)
        if key is None:
            key = self._recipients[prekey.id] = xwing_public(prekey.raw)
        return key

    async def open(self, items: Sequence[OpenItem]) -> list[bytes | None]:
        """See ``ports.Secrets``."""
        return [self._open_one(item) for item in items]

    def _open_one(self, item: OpenItem) -> bytes | None:
        item.leaf.claim(Event.RECEIVED)
        secret = self._opened.get(item.prekey)
        if secret is None:
            sealed = self._files.load(item.prekey)
            seed = None if sealed is None else decrypt(self._secrets["master"], sealed, item.prekey)
            if seed is None:
                return None
            secret = self._opened[item.prekey] = xwing_secret(seed)[0]
        try:
            cek = SUITE.decrypt(item.wrapped, secret, item.info)
        except (InvalidTag, ValueError):
            return None
        return cek if len(cek) == KEY_BYTES else None

    async def sign(self, leaf: ReservedLeaf, event: Event, payload_type: str, payload: bytes) -> UnverifiedDocument:
        """See ``ports.Secrets``."""
        leaf.claim(event)
        return await self.sign_request(payload_type, payload)

    async def sign_request(self, payload_type: str, payload: bytes) -> UnverifiedDocument:
        """See ``ports.Secrets``."""
        signature = self._envelope.sign(wire.pae(payload_type, payload))
        return UnverifiedDocument(payload_type, payload, (Signature(self._envelope_public.id, signature),))

    async def sign_bundle(self, leaf: ReservedLeaf, payload_type: str, payload: bytes) -> UnverifiedDocument:
        """See ``ports.Secrets``."""
        leaf.claim(Event.PREKEYS_PUBLISHED)
        return self._bundle.sign(payload_type, payload)

    async def sign_checkpoint(self, body: bytes, cosigned: bytes) -> tuple[bytes, bytes]:
        """See ``ports.Secrets``."""
        return self._log_ed25519.sign(body), self._log.sign(cosigned)

    # -- case keys

    def case_id(self, case: str) -> str:
        """See ``ports.Secrets``."""
        return hashlib.blake2b(
            case.encode(), key=self._secrets["index"], digest_size=16, person=b"fpx1-case"
        ).hexdigest()

    def new_case_key(self, case_id: str) -> bytes:
        """See ``ports.Secrets``."""
        return encrypt(self._secrets["master"], self._random(KEY_BYTES), f"case {case_id}", self._random(NONCE_BYTES))

    def learn_case_key(self, case_id: str, wrapped: bytes) -> None:
        """See ``ports.Secrets``."""
        key = decrypt(self._secrets["master"], wrapped, f"case {case_id}")
        if key is None:
            raise IntegrityError("store.corrupt", "case key")
        self._cases[case_id] = key

    def wrap(self, case_id: str, secret: bytes, bound_to: str) -> bytes:
        """See ``ports.Secrets``."""
        return encrypt(self._cases[case_id], secret, bound_to, self._random(NONCE_BYTES))

    def unwrap(self, case_id: str, wrapped: bytes, bound_to: str) -> bytes:
        """See ``ports.Secrets``."""
        plain = decrypt(self._cases[case_id], wrapped, bound_to)
        if plain is None:
            raise IntegrityError("store.corrupt", "wrapped under a case key")
        return plain

    def wrap_local(self, secret: bytes, bound_to: str) -> bytes:
        """Encrypt under the master key, for what belongs to no case yet (staged evidence)."""
        return encrypt(self._secrets["master"], secret, bound_to, self._random(NONCE_BYTES))

    def unwrap_local(self, sealed: bytes, bound_to: str) -> bytes:
        """The inverse of ``wrap_local``. Raises ``IntegrityError`` store.corrupt."""
        plain = decrypt(self._secrets["master"], sealed, bound_to)
        if plain is None:
            raise IntegrityError("store.corrupt", bound_to)
        return plain

    # -- prekeys

    async def new_prekey(self) -> PublicKey:
        """See ``ports.Secrets``."""
        seed = self._random(XWING_SEED_BYTES)
        key = public_key(Alg.XWING, xwing_secret(seed)[1])
        self._files.save(key.id, encrypt(self._secrets["master"], seed, key.id, self._random(NONCE_BYTES)))
        return key

    async def destroy_prekey(self, prekey: KeyId) -> None:
        """See ``ports.Secrets``."""
        self._opened.pop(prekey, None)
        self._files.destroy(prekey)

    def holds_prekey(self, prekey: KeyId) -> bool:
        """See ``ports.Secrets``."""
        return self._files.load(prekey) is not None
