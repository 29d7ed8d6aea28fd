"""Test material made of one seed: keys, nodes, cards, prekeys, statements, envelopes.

Rules:
1. The same seed makes the same keys and bytes; only ML-DSA signatures and HPKE encapsulations differ from run to run,
   because the library draws for them.
2. Everything is of a training network, and everything that holds a secret says ``testonly``.
3. Import the module, not its names: pytest would collect a function whose name begins with ``test``.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite

from exchange.core import wire
from exchange.core.approvals import Approval, encode_approval
from exchange.core.envelope import (
    AgreementRef,
    BlobRef,
    Core,
    SealedEnvelope,
    SignedEnvelope,
    key_commitment,
    parse_envelope,
    seal_envelope,
    verify_envelope,
)
from exchange.core.errors import PeerError
from exchange.core.keys import (
    Alg,
    Authority,
    Card,
    NodeKey,
    Prekey,
    PrekeyBundle,
    PrekeyClass,
    PublicKey,
    Use,
    encode_card,
    encode_prekeys,
    public_key,
    verify_card,
    verify_prekeys,
)
from exchange.core.officers import Officer, OfficerList, Role, encode_officers
from exchange.core.signatures import Ed25519Secret
from exchange.core.statement import SALT_BYTES, Statement, compose_statement
from exchange.core.wire import (
    AgreementId,
    Digest,
    DocumentType,
    MessageId,
    NetworkId,
    NodeId,
    Signature,
    UnverifiedDocument,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from exchange.core.wire import JsonValue

NETWORK: Final = NetworkId("training-mekong")
NOW: Final = datetime(2026, 11, 23, 0, 27, 37, tzinfo=UTC)
DAY: Final = timedelta(days=1)
KH: Final = NodeId("kh-fp1")
TH: Final = NodeId("th-fp1")
SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


class TestOnlyEntropy:
    """Bytes that look random and follow from ``seed`` alone: SHA-256 of the seed and a counter."""

    __test__ = False  # its name begins with Test, for another reason

    def __init__(self, seed: str) -> None:
        self._seed = seed.encode()
        self._count = 0

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes."""
        self._count += 1
        return hashlib.shake_256(b"testonly %d " % self._count + self._seed).digest(length)

    def digest(self) -> Digest:
        """The next digest of nothing in particular."""
        return Digest(self.take(32).hex())

    def message_id(self) -> MessageId:
        """The next message id."""
        return MessageId(self.take(16).hex())


# -- what tests say of refusals --------------------------------------------------------------------


@contextmanager
def refused(code: str, where: str) -> Iterator[None]:
    """Expect the peer's fault ``code`` at exactly ``where``."""
    with pytest.raises(PeerError) as caught:
        yield
    assert (caught.value.code, caught.value.where) == (code, where)


ABSENT: Final = "ABSENT"


def edited(payload: bytes, *path: str | int, to: JsonValue) -> bytes:
    """A JSON text with the member at ``path`` set to ``to``, or taken out where that is ``ABSENT``."""
    document: Any = json.loads(payload)
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    if to is ABSENT:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return wire.encode_json(document)


# -- keys ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TestOnlyKey:
    """A signing key with its public half."""

    __test__ = False

    public: PublicKey
    sign: Callable[[bytes], bytes]


def testonly_ed25519(entropy: TestOnlyEntropy) -> TestOnlyKey:
    """An Ed25519 key."""
    secret = Ed25519Secret(entropy.take(32))
    return TestOnlyKey(public_key(Alg.ED25519, secret.public), secret.sign)


def testonly_mldsa44(entropy: TestOnlyEntropy) -> TestOnlyKey:
    """An ML-DSA-44 key."""
    secret = MLDSA44PrivateKey.from_seed_bytes(entropy.take(32))
    return TestOnlyKey(public_key(Alg.MLDSA44, secret.public_key().public_bytes_raw()), secret.sign)


def testonly_hybrid(entropy: TestOnlyEntropy) -> TestOnlyKey:
    """A hybrid key: Ed25519 and ML-DSA-65, both sign."""
    first, second = Ed25519Secret(entropy.take(32)), MLDSA65PrivateKey.from_seed_bytes(entropy.take(32))
    return TestOnlyKey(
        public_key(Alg.HYBRID, first.public + second.public_key().public_bytes_raw()),
        lambda message: first.sign(message) + second.sign(message),
    )


@dataclass(frozen=True)
class TestOnlyPrekey:
    """A prekey with its secret half."""

    __test__ = False

    entry: Prekey
    secret: MLKEM768X25519PrivateKey

    def wrap(self, info: bytes, cek: bytes) -> bytes:
        """What a sender does: HPKE base mode, enc || ct."""
        return SUITE.encrypt(cek, self.secret.public_key(), info=info)

    def unwrap(self, info: bytes, wrapped: bytes) -> bytes:
        """What the recipient does."""
        return SUITE.decrypt(wrapped, self.secret, info=info)


def testonly_prekey(
    entropy: TestOnlyEntropy, use_from: datetime = NOW - DAY / 2, kind: PrekeyClass = PrekeyClass.DAILY
) -> TestOnlyPrekey:
    """An X-Wing prekey for one day."""
    first = MLKEM768PrivateKey.from_seed_bytes(entropy.take(64))
    second = X25519PrivateKey.from_private_bytes(entropy.take(32))
    raw = first.public_key().public_bytes_raw() + second.public_key().public_bytes_raw()
    until = use_from + DAY
    entry = Prekey(public_key(Alg.XWING, raw), kind, use_from, until, until + 7 * DAY + timedelta(hours=1))
    return TestOnlyPrekey(entry, MLKEM768X25519PrivateKey(first, second))


def testonly_sign(payload_type: str, payload: bytes, *signers: TestOnlyKey) -> UnverifiedDocument:
    """A document under the signatures of ``signers``."""
    message = wire.pae(payload_type, payload)
    return UnverifiedDocument(
        payload_type, payload, tuple(Signature(signer.public.id, signer.sign(message)) for signer in signers)
    )


# -- nodes -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TestOnlyNode:
    """A node with all its secrets, its card, and one day's prekey."""

    __test__ = False

    authority: tuple[TestOnlyKey, ...]
    envelope: TestOnlyKey
    bundle: TestOnlyKey
    log: tuple[TestOnlyKey, TestOnlyKey]
    prekey: TestOnlyPrekey
    card: Card
    personnel: tuple[TestOnlyKey, ...]

    @property
    def id(self) -> NodeId:
        return self.card.node

    def sign_card(self, card: Card, *others: TestOnlyKey) -> UnverifiedDocument:
        """The card under all keys of this authority, and of ``others``."""
        return testonly_sign(DocumentType.CARD, encode_card(card), *self.authority, *others)

    def prekeys_document(self, *entries: Prekey, serial: int = 1) -> UnverifiedDocument:
        """A bundle of ``entries``, or of the node's own prekey."""
        payload = encode_prekeys(
            network=self.card.network,
            node=self.id,
            serial=serial,
            issued=NOW,
            signing_key=self.bundle.public.id,
            prekeys=entries or (self.prekey.entry,),
        )
        return testonly_sign(DocumentType.PREKEYS, payload, self.bundle)

    def bundle_of(self, *entries: Prekey) -> PrekeyBundle:
        """The verified bundle of ``entries``."""
        return verify_prekeys(self.prekeys_document(*entries), self.card, NOW, 0)


@lru_cache
def testonly_node(node: NodeId = KH, authority_keys: int = 3, threshold: int = 2) -> TestOnlyNode:
    """A node that follows from its name: three authority keys, of which two must sign, and a card of version 1."""
    entropy = TestOnlyEntropy(f"node {node}")
    authority = tuple(testonly_hybrid(entropy) for _ in range(authority_keys))
    envelope, bundle = testonly_ed25519(entropy), testonly_hybrid(entropy)
    log = (testonly_ed25519(entropy), testonly_mldsa44(entropy))
    apart = TestOnlyEntropy(f"personnel {node}")
    personnel = tuple(testonly_hybrid(apart) for _ in range(3))
    uses = (
        *((envelope, Use.ENVELOPE), (bundle, Use.BUNDLE), (log[0], Use.LOG), (log[1], Use.LOG)),
        *((key, Use.PERSONNEL) for key in personnel),
    )
    draft = Card(
        network=NETWORK,
        node=node,
        country=node[:2].upper(),
        agency={"en": f"Focal point of {node[:2].upper()}"},
        version=1,
        previous=None,
        issued=NOW - 30 * DAY,
        expires=NOW + 335 * DAY,
        authority=Authority(threshold, tuple(key.public for key in authority)),
        keys=tuple(NodeKey(key.public, use, NOW - 30 * DAY, NOW + 335 * DAY) for key, use in uses),
        log_origin=f"focalpoint.example/{NETWORK}/{node}",
        tls_pins=(entropy.digest(),),
        endpoints=(f"https://{node}.example:8443",),
        reach="open",
        accepts=(DocumentType.ENVELOPE, "case-referral/v1"),
        duty_desk="+855 23 000 000, day and night",
        personnel_threshold=2,
    )
    document = testonly_sign(DocumentType.CARD, encode_card(draft), *authority)
    card = verify_card(document, NETWORK, NOW, None)
    return TestOnlyNode(authority, envelope, bundle, log, testonly_prekey(entropy), card, personnel)


# -- officers --------------------------------------------------------------------------------------


def testonly_officer(name: str) -> TestOnlyKey:
    """The personal key that follows from a name."""
    return testonly_ed25519(TestOnlyEntropy(f"officer {name}"))


def listed(name: str, *roles: Role) -> Officer:
    """An entry of a list: that officer in these roles, for a year."""
    return Officer(testonly_officer(name).public, frozenset(roles), NOW - 30 * DAY, NOW + 335 * DAY)


OFFICERS: Final = (
    listed("sok", Role.OFFICER),
    listed("dara", Role.OFFICER),
    listed("vanna", Role.OFFICER, Role.SUPERVISOR),
    listed("admin", Role.OPERATOR),
)


def officers_document(
    node: TestOnlyNode,
    *officers: Officer,
    serial: int = 1,
    issued: datetime = NOW - DAY,
    signers: Sequence[TestOnlyKey] | None = None,
) -> UnverifiedDocument:
    """A list of a node's officers under two of its personnel keys, or under ``signers``."""
    draft = OfficerList(NETWORK, node.id, serial, issued, officers or OFFICERS)
    return testonly_sign(
        DocumentType.OFFICERS, encode_officers(draft), *(node.personnel[:2] if signers is None else signers)
    )


def approval(name: str, root: Digest, role: str = "officer", **changes: Any) -> str:  # noqa: ANN401 - members of Approval
    """What the officer of that name signs now, for a week, as the text that a statement carries."""
    key = testonly_officer(name)
    given = Approval(NETWORK, root, key.public.id, role, NOW, NOW + 7 * DAY)
    payload = encode_approval(replace(given, **changes))
    return wire.encode_signed_document(testonly_sign(DocumentType.APPROVAL, payload, key)).decode()


def successor_of(card: Card) -> Card:
    """The next version of a card, not signed yet."""
    return replace(card, version=card.version + 1, previous=card.digest, lineage=())


# -- messages --------------------------------------------------------------------------------------


AGREEMENT: Final = AgreementRef(AgreementId("kh-th-2026"), 1, TestOnlyEntropy("agreement").digest())
HEADER: Final = {"kind": "case-referral", "case": "KH-2026-0001"}


def sample_statement(*values: JsonValue) -> Statement:
    """A statement of a header and ``values``, or one part of invented content."""
    entropy = TestOnlyEntropy("salts")
    parts = values or ({"summary": "ស្ត្រីម្នាក់ត្រូវបានរកឃើញ"},)
    return compose_statement(
        HEADER,
        parts,
        [entropy.take(SALT_BYTES) for _ in range(len(parts) + 1)],
        agreement=AGREEMENT.digest,
        clause="4.2",
    )


CEK: Final = TestOnlyEntropy("content key").take(32)
NONCE: Final = TestOnlyEntropy("nonce").take(24)


def sample_core(
    sender: TestOnlyNode | None = None, recipient: TestOnlyNode | None = None, blobs: Sequence[BlobRef] = ()
) -> Core:
    """The core of a message from KH to TH, created now, for two days."""
    sender, recipient = sender or testonly_node(KH), recipient or testonly_node(TH)
    return Core(
        network=NETWORK,
        id=TestOnlyEntropy("message").message_id(),
        attempt=1,
        sender=sender.id,
        signing_key=sender.envelope.public.id,
        recipient=recipient.id,
        prekey=recipient.prekey.entry.key.id,
        agreement=AGREEMENT,
        seq=1,
        created=NOW,
        expires=NOW + 2 * DAY,
        lane="normal",
        blobs=tuple(blobs),
        kc=key_commitment(CEK),
    )


def testonly_seal(core: Core, statement: bytes, *, cek: bytes = CEK, nonce: bytes = NONCE) -> SealedEnvelope:
    """Seal as the sender named in ``core``, with its true keys, to the recipient's prekey."""
    return seal_envelope(
        core,
        statement,
        cek=cek,
        nonce=nonce,
        wrap=testonly_node(core.recipient).prekey.wrap,
        sign=testonly_node(core.sender).envelope.sign,
    )


def verified(sealed: SealedEnvelope, now: datetime = NOW) -> SignedEnvelope:
    """The envelope after R1 to R5 at its recipient, who holds the sender's card."""
    envelope = parse_envelope(sealed.document, sealed.body)
    card = testonly_node(envelope.core.sender).card
    return verify_envelope(envelope, network=NETWORK, me=envelope.core.recipient, card=card, blocked=False, now=now)
