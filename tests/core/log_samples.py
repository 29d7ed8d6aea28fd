"""A small signed log, made of fixed seeds, for the tests that need one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from exchange.core.audit import Event, Leaf, encode_leaf
from exchange.core.checkpoint import (
    KeyKind,
    LogKeys,
    NoteKey,
    Origin,
    TreeHead,
    assemble_checkpoint,
    checkpoint_body,
    cosigned_message,
    log_keys,
    timestamped,
)
from exchange.core.merkle import Frontier, hash_leaf
from exchange.core.signatures import Ed25519Secret
from exchange.core.wire import NetworkId, NodeId

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW: Final = datetime(2026, 11, 23, 0, 27, 37, tzinfo=UTC)
STAMP: Final = int(NOW.timestamp())
ORIGIN: Final = Origin(NetworkId("asean-1"), NodeId("kh-fp1"))


class LogSigner:
    """Holds the two secret keys of a log and signs heads with them."""

    def __init__(self, origin: Origin = ORIGIN, seed: bytes = b"log") -> None:
        self.origin = origin
        self.ed25519 = Ed25519Secret(sha256(seed + b"ed25519").digest())
        self.mldsa44 = MLDSA44PrivateKey.from_seed_bytes(sha256(seed + b"mldsa44").digest())
        self.keys: LogKeys = log_keys(origin, self.ed25519.public, self.mldsa44.public_key().public_bytes_raw())

    def head(self, leaves: Sequence[bytes]) -> TreeHead:
        frontier = Frontier().extend(map(hash_leaf, leaves))
        return TreeHead(self.origin, frontier.size, frontier.root())

    def by_ed25519(self, head: TreeHead) -> tuple[NoteKey, bytes]:
        return self.keys.ed25519, self.ed25519.sign(checkpoint_body(head))

    def by_mldsa44(self, head: TreeHead, stamp: int = STAMP) -> tuple[NoteKey, bytes]:
        return cosign(self.mldsa44, self.keys.mldsa44, head, stamp)

    def checkpoint(self, leaves: Sequence[bytes], stamp: int | None = None) -> bytes:
        """Dated, unless told otherwise, within the minute of the newest of the sample entries."""
        head = self.head(leaves)
        stamp = STAMP + len(leaves) // 60 * 60 if stamp is None else stamp
        return assemble_checkpoint(head, [self.by_ed25519(head), self.by_mldsa44(head, stamp)])


def cosign(secret: MLDSA44PrivateKey, key: NoteKey, head: TreeHead, stamp: int = STAMP) -> tuple[NoteKey, bytes]:
    return key, timestamped(stamp, secret.sign(cosigned_message(head, key.name, stamp)))


def witness(name: str) -> tuple[MLDSA44PrivateKey, NoteKey]:
    secret = MLDSA44PrivateKey.from_seed_bytes(sha256(name.encode()).digest())
    return secret, NoteKey(name, KeyKind.MLDSA44, secret.public_key().public_bytes_raw())


def sample_leaf(seq: int) -> Leaf:
    """Entries of several kinds, a second apart; the first has every member, the second none that may be absent."""
    time = NOW + timedelta(seconds=seq)
    peer = NodeId("th-fp1")
    subject, commitment = (sha256(b"%s %d" % (word, seq)).hexdigest() for word in (b"subject", b"detail"))
    match seq % 3:
        case 0:
            return Leaf(
                seq,
                time,
                Event.RECEIVED,
                actor="officer-7",
                peer=peer,
                subject=subject,  # type: ignore[arg-type]
                agreement="kh-th-referrals/3",
                clause="2.1",
                code="agreement.purpose",
                commitment=commitment,  # type: ignore[arg-type]
            )
        case 1:
            return Leaf(seq, time, Event.NODE_START)
        case _:
            return Leaf(seq, time, Event.SEALED, actor="node", peer=peer, code="accepted")


def sample_entries(count: int) -> list[bytes]:
    return [encode_leaf(sample_leaf(seq)) for seq in range(count)]
