"""What the node needs from outside: five promises.

Each port is a Protocol whose docstring is its contract: durability, ordering, concurrency, and what is *not*
promised. tests/contract runs one suite over every adapter of a port.

Rules:
1. A port speaks in the core's types and in bytes, never in those of a library.
2. What can fail raises ``LocalError`` or ``IntegrityError``; a caller that sees either stops the node's work.
3. Secrets is batched and asynchronous, so that it can become a process of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from exchange.core.audit import Event, ReservedLeaf
    from exchange.core.envelope import Core, SealedEnvelope
    from exchange.core.keys import Card, PublicKey
    from exchange.core.wire import KeyId, UnverifiedDocument

Row: TypeAlias = "tuple[Any, ...]"


@dataclass(slots=True)
class Changes:
    """What one transaction writes: rows by the name of a statement, in the order of their adding."""

    rows: dict[str, list[Row]] = field(default_factory=dict)

    def add(self, statement: str, *values: object) -> None:
        """Add one row for a named statement of queries.sql."""
        self.rows.setdefault(statement, []).append(values)


class Records(Protocol):
    """The reading half of ``Store``: named queries, nothing else."""

    async def read(self, statement: str, *values: object) -> list[Row]:
        """Run one named query."""


class Store(Records, Protocol):
    """The node's records.

    Durability: when ``commit`` returns, all of ``changes`` is on stable storage and survives power loss; when it
    raises, either all or nothing is, and the node must stop and find out by starting again. Ordering: statements
    run in the order in which their first row was added. Concurrency: one writer; ``read`` sees every committed
    transaction and nothing of an uncommitted one. Not promised: that ``read`` is cheap for many rows.
    """

    async def commit(self, changes: Changes) -> None:
        """Write one transaction. Raises ``LocalError`` node.disk, ``IntegrityError`` store.corrupt."""

    async def scrub(self) -> bool:
        """Leave nothing of erased rows behind that this program can remove; whether that was done.

        Deleted and overwritten bytes are zeroed in the file by every commit; older pages wait in the write-ahead log,
        which this empties. A reader at work may prevent it: then it is asked for again. Only where nothing is
        being committed.
        """

    async def close(self) -> None:
        """Release the files; nothing is written after it."""


class Blobs(Protocol):
    """Evidence ciphertext by its SHA-256.

    Durability: ``save`` returns after the bytes and their name are on stable storage. A blob is visible only whole
    and matching its name. Concurrency: any number of readers; two savers of one name both succeed. Not promised:
    confidentiality (what is saved is ciphertext) or counting of users (the store knows them).
    """

    async def save(self, chunks: AsyncIterator[bytes], *, h: str | None, max_bytes: int) -> tuple[str, int]:
        """Save a stream and return its digest and length. Raises blob.digest where ``h`` is given and differs."""

    def load(self, h: str) -> AsyncIterator[bytes]:
        """The bytes in pieces. Raises ``IntegrityError`` store.blob_missing."""

    def has(self, h: str) -> bool:
        """Whether the blob is here, whole."""

    async def remove(self, h: str) -> None:
        """Remove a blob; after it returned its name is gone from stable storage. One that is not here is no fault."""

    def has_room(self, size: int) -> bool:
        """Whether ``size`` more bytes leave free what the node's own work needs; blobs and records share a disk."""


class Peers(Protocol):
    """Other nodes, over the network.

    Every call checks the peer's TLS key against its card before the first byte leaves. Not promised: delivery,
    order, or that a lost answer means a lost request. Raises ``PeerError`` relay.unreachable, card.tls_mismatch,
    relay.bad_answer.
    """

    async def send_batch(self, card: Card, batch: bytes) -> bytes:
        """POST /v1/envelopes; the answer's bytes."""

    async def fetch_prekeys(self, card: Card, request: UnverifiedDocument) -> bytes:
        """GET /v1/prekeys; also wakes the peer's queue towards us."""

    async def send_blob(self, card: Card, request: UnverifiedDocument, h: str, length: int) -> bytes:
        """PUT /v1/blobs/{h}, streamed from the blob store; the answer's bytes."""

    async def send_document(self, card: Card, document: bytes) -> None:
        """POST /v1/documents."""

    async def close(self) -> None:
        """Close all connections."""


@dataclass(frozen=True, slots=True)
class SealItem:
    """One statement to seal: ``core.kc`` and ``core.signing_key`` are filled in by the key holder."""

    leaf: ReservedLeaf
    core: Core
    statement: bytes
    prekey: PublicKey
    case_id: str


@dataclass(frozen=True, slots=True)
class OpenItem:
    """One content key to open."""

    leaf: ReservedLeaf
    prekey: KeyId
    wrapped: bytes
    info: bytes


class Secrets(Protocol):
    """All secret keys of the node. Nothing here returns one, save content keys that a message is being read with.

    Every function that signs or opens claims its reserved leaf first. Concurrency: calls may overlap. Durability:
    ``new_prekey`` returns after the secret is on stable storage; ``destroy_prekey`` after it was overwritten and
    removed. Not promised: that Python's memory forgets.
    """

    async def seal(self, items: Sequence[SealItem]) -> list[tuple[SealedEnvelope, bytes]]:
        """Seal each; returns the envelope and its content key wrapped under the case key."""

    async def open(self, items: Sequence[OpenItem]) -> list[bytes | None]:
        """Step R10: the content key of each, None where it does not open."""

    async def sign(self, leaf: ReservedLeaf, event: Event, payload_type: str, payload: bytes) -> UnverifiedDocument:
        """Sign with the envelope key."""

    async def sign_bundle(self, leaf: ReservedLeaf, payload_type: str, payload: bytes) -> UnverifiedDocument:
        """Sign with the hybrid bundle key."""

    async def sign_request(self, payload_type: str, payload: bytes) -> UnverifiedDocument:
        """Sign a request that changes nothing at either end; it takes no leaf."""

    async def sign_checkpoint(self, body: bytes, cosigned: bytes) -> tuple[bytes, bytes]:
        """Sign a checkpoint: Ed25519 over the note's body, ML-DSA-44 over the cosigned message."""

    def case_id(self, case: str) -> str:
        """The keyed hash that stands for a case number at rest."""

    def new_case_key(self, case_id: str) -> bytes:
        """A fresh case key, wrapped under the master key and bound to its case."""

    def learn_case_key(self, case_id: str, wrapped: bytes) -> None:
        """Unwrap a case key for use. Raises ``IntegrityError`` store.corrupt."""

    def wrap(self, case_id: str, secret: bytes, bound_to: str) -> bytes:
        """Encrypt under a learned case key, bound to what it belongs to."""

    def unwrap(self, case_id: str, wrapped: bytes, bound_to: str) -> bytes:
        """The inverse of ``wrap``. Raises ``IntegrityError`` store.corrupt."""

    def wrap_local(self, secret: bytes, bound_to: str) -> bytes:
        """Encrypt under the master key, for what belongs to no case yet (staged evidence)."""

    def unwrap_local(self, sealed: bytes, bound_to: str) -> bytes:
        """The inverse of ``wrap_local``. Raises ``IntegrityError`` store.corrupt."""

    async def new_prekey(self) -> PublicKey:
        """Make a prekey; its secret stays here."""

    async def destroy_prekey(self, prekey: KeyId) -> None:
        """Destroy a prekey's secret."""

    def holds_prekey(self, prekey: KeyId) -> bool:
        """Whether the secret is here."""

    @property
    def envelope_key(self) -> PublicKey:
        """The public half of the key that signs envelopes."""

    @property
    def bundle_key(self) -> PublicKey:
        """The public half of the hybrid key."""


class Clock(Protocol):
    """Time and randomness: the only things a simulation must own to be repeatable."""

    def now(self) -> datetime:
        """The time, aware, UTC."""

    def steady(self) -> float:
        """Seconds since some moment, by a clock that nobody can set."""

    def random(self, length: int) -> bytes:
        """Random bytes from the operating system."""
