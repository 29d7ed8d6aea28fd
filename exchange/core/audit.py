"""The entries of the audit log, and the rule that no key is used without one.

Implements docs/protocol.md section 9.1.

Rules:
1. An entry is one line of compact JSON with a fixed order of members, absent ones left out. One grammar
   writes and reads it, so that an entry has exactly one form. It holds identifiers, codes and digests:
   never content, a name of a person, or a path.
2. What may have to be erased one day is held elsewhere as salt and detail; the entry holds SHA-256(salt ||
   detail). Erasing both leaves the tree valid, and is an entry of its own.
3. A function that signs or opens takes a ``ReservedLeaf`` and claims it first. Only ``LogBatch.reserve`` makes
   one; a batch gives its bytes and the new frontier away only once every reservation is settled; and nothing
   is sent before the batch is committed. So whatever a key did is in the log, or never left the node.
4. ``seq`` is the index in the tree, known from the reservation on, so that an answer can name it.
5. No entry is older than the latest one before it by more than ``MAX_STEP_BACK``: a larger step of the clock is
   declared by a clock_step entry first.

What it does not do: hash the tree (``core.merkle``), sign it (``core.checkpoint``), export it
(``core.auditpack``) or decide which events happen (``core.relay``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from exchange.core.errors import IntegrityError, LocalError, PeerError
from exchange.core.merkle import Frontier, hash_leaf
from exchange.core.wire import (
    AGREEMENT_ID,
    CLAUSE_ID,
    NODE_ID,
    AgreementId,
    Digest,
    NodeId,
    encode_time,
    parse_time,
    sha256_hex,
)

if TYPE_CHECKING:
    from datetime import datetime

MAX_LEAF_BYTES: Final = 1_024  # the longest entry the grammar allows has fewer
MAX_STEP_BACK: Final = timedelta(seconds=60)  # more than clock corrections and events of one batch make
SALT_BYTES: Final = 32


class Event(StrEnum):
    """What happened. A name never changes its meaning; unknown names are refused, so new ones come with a release."""

    # the node
    NODE_INIT = "node_init"
    NODE_START = "node_start"
    NODE_STOP = "node_stop"
    CONFIGURED = "configured"
    CLOCK_STEP = "clock_step"
    LOG_RESTART = "log_restart"
    BACKED_UP = "backed_up"
    RESTORED = "restored"
    ALARM = "alarm"
    # messages
    SEALED = "sealed"
    SENT = "sent"
    RECEIVED = "received"
    REFUSED = "refused"
    ANSWERED = "answered"
    DELIVERED = "delivered"
    COMPLETED = "completed"
    HELD = "held"
    REFUSED_BY_PEER = "refused_by_peer"
    RETURNED = "returned"
    CONTRADICTION = "contradiction"
    VOID_REFUSED = "void_refused"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    RECALLED = "recalled"
    FORWARDED = "forwarded"
    APPROVED = "approved"
    BLOB_STORED = "blob_stored"
    VOID_SENT = "void_sent"
    VOID_RECEIVED = "void_received"
    EQUIVOCATION = "equivocation"
    ERASED_BY_PEER = "erased_by_peer"
    HOLD_PLACED = "hold_placed"
    HOLD_RELEASED = "hold_released"
    OVERDUE = "overdue"
    ESCALATED = "escalated"
    # what people did with them
    OPENED = "opened"
    SEARCHED = "searched"
    PRINTED = "printed"
    EXPORTED = "exported"
    DISCLOSED = "disclosed"
    ERASED = "erased"
    BREAK_GLASS = "break_glass"
    # documents and keys
    AGREEMENT_INSTALLED = "agreement_installed"
    AGREEMENT_SUSPENDED = "agreement_suspended"
    AGREEMENT_RESUMED = "agreement_resumed"
    AGREEMENT_LEFT = "agreement_left"
    AGREEMENT_ENDED = "agreement_ended"
    CARD_INSTALLED = "card_installed"
    CARD_BLOCKED = "card_blocked"
    CARD_UNBLOCKED = "card_unblocked"
    KEY_CHANGED = "key_changed"
    KEY_REVOKED = "key_revoked"
    OFFICERS_INSTALLED = "officers_installed"
    OFFICER_ADDED = "officer_added"
    OFFICER_REMOVED = "officer_removed"
    PREKEYS_PUBLISHED = "prekeys_published"
    PREKEYS_RECEIVED = "prekeys_received"
    PREKEY_DESTROYED = "prekey_destroyed"
    REQUEST_SIGNED = "request_signed"
    # the oversight of this log
    WITNESSED = "witnessed"
    FORK_SEEN = "fork_seen"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One entry. ``seq`` is its index in the tree, ``time`` an aware time that is kept in whole seconds.

    actor: pseudonym of who did it (an officer, or a part of the node); peer: the other node; subject: digest of
    the envelope or document; agreement: ``<id>/<version>``; clause: the clause relied on or that refused; code: a
    stable code or decision; commitment: ``commit_detail`` of what may be erased.
    """

    seq: int
    time: datetime
    event: Event
    actor: str | None = None
    peer: NodeId | None = None
    subject: Digest | None = None
    agreement: str | None = None
    clause: str | None = None
    code: str | None = None
    commitment: Digest | None = None


def agreement_ref(agreement: AgreementId, version: int) -> str:
    """How an entry names an agreement: ``<id>/<version>``."""
    return f"{agreement}/{version}"


_MEMBERS: Final = (
    ("actor", r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"),
    ("peer", NODE_ID.pattern),
    ("subject", "[0-9a-f]{64}"),
    ("agreement", AGREEMENT_ID.pattern + "/[1-9][0-9]{0,3}"),
    ("clause", CLAUSE_ID.pattern),
    ("code", r"[a-z][a-z0-9_]{0,31}(?:\.[a-z][a-z0-9_]{0,31})?"),
    ("commitment", "[0-9a-f]{64}"),
)
_Optional: TypeAlias = tuple[
    str | None, NodeId | None, Digest | None, str | None, str | None, str | None, Digest | None
]
_LEAF: Final = re.compile(
    r'\{"v":1,"seq":(0|[1-9][0-9]{0,15}),"time":"([0-9TZ:-]{20})","event":"(' + "|".join(Event) + ')"'
    + "".join(f'(?:,"{name}":"({pattern})")?' for name, pattern in _MEMBERS)
    + r"\}"
)  # fmt: skip


def encode_leaf(leaf: Leaf) -> bytes:
    """The bytes of an entry, as hashed, stored and exported. ``ValueError`` where a field breaks the grammar."""
    time = encode_time(leaf.time)
    fields = (leaf.actor, leaf.peer, leaf.subject, leaf.agreement, leaf.clause, leaf.code, leaf.commitment)
    text = f'{{"v":1,"seq":{leaf.seq},"time":"{time}","event":"{leaf.event}"'
    for (name, _), value in zip(_MEMBERS, fields, strict=True):
        if value is not None:
            text += f',"{name}":"{value}"'
    text += "}"
    match = _LEAF.fullmatch(text)
    # The groups are compared too: a quote inside a value must not be read as the start of the next member.
    if match is None or match.groups() != (str(leaf.seq), time, leaf.event, *fields):
        message = "a field of the log entry does not have its form"
        raise ValueError(message)
    return text.encode("ascii")


def parse_leaf(data: bytes) -> Leaf:
    """The inverse of ``encode_leaf``. Raises audit.bad_leaf."""
    match = _LEAF.fullmatch(data.decode("ascii", "replace")) if len(data) <= MAX_LEAF_BYTES else None
    if match is None:
        raise PeerError("audit.bad_leaf", "form")
    seq, time, event = match.group(1, 2, 3)
    try:
        moment = parse_time(time)
    except PeerError:
        raise PeerError("audit.bad_leaf", "time") from None
    optional = cast("_Optional", match.groups()[3:])  # the grammar has checked each form
    return Leaf(int(seq), moment, Event(event), *optional)


def commit_detail(salt: bytes, detail: bytes) -> Digest:
    """SHA-256(salt || detail), with 32 fresh random bytes of salt for each detail, else short details are guessed."""
    if len(salt) != SALT_BYTES:
        message = f"a salt has {SALT_BYTES} bytes"
        raise ValueError(message)
    return sha256_hex(salt + detail)


def needs_clock_step(latest: datetime | None, now: datetime) -> bool:
    """Whether a clock_step entry must come before an entry at ``now`` (rule 5)."""
    return latest is not None and now < latest - MAX_STEP_BACK


def is_back_dated(latest: datetime | None, leaf: Leaf) -> bool:
    """Whether an entry goes back in time further than rule 5 allows."""
    return leaf.event is not Event.CLOCK_STEP and needs_clock_step(latest, leaf.time)


def advance(latest: datetime | None, leaf: Leaf) -> datetime:
    """The latest time after an entry: many small steps back stay as visible as a large one; clock_step begins anew."""
    return leaf.time if latest is None or leaf.event is Event.CLOCK_STEP else max(latest, leaf.time)


# -- no key without an entry -----------------------------------------------------------------------


class ReservedLeaf:
    """The right to use a key once, against an entry that will say so (rule 3).

    Functions that sign or open take one and call ``claim`` before they touch the key. One made by hand belongs
    to no batch and claims nothing.
    """

    __slots__ = ("_batch", "_claimed", "outcomes", "seq")

    def __init__(self, batch: LogBatch, seq: int, outcomes: frozenset[Event]) -> None:
        self._batch = batch
        self._claimed = False
        self.seq = seq
        self.outcomes = outcomes

    def claim(self, event: Event) -> None:
        """Use the reservation for what ``event`` names; a second time, for another event, or late: audit.unreserved."""
        if self._claimed or event not in self.outcomes or not self._batch.holds(self):
            raise IntegrityError("audit.unreserved", f"entry {self.seq}")
        self._claimed = True


@dataclass(frozen=True, slots=True)
class ClosedBatch:
    """What a transaction stores.

    The index of the first entry, the entries' bytes in order, and, after them, the frontier and the latest time.
    """

    first: int
    leaves: tuple[bytes, ...]
    frontier: Frontier
    latest: datetime | None


class LogBatch:
    """The entries of one transaction, from the frontier that the store holds to the one it will hold.

    ``reserve`` -> use the key -> ``settle``; ``record`` for events that use no key; ``close`` once, at the end. A
    batch that is never closed (the transaction failed) leaves no trace, and nothing that it signed may be sent.
    One batch at a time: the store's single writer opens it on the frontier it read in the same transaction.
    """

    def __init__(self, frontier: Frontier, latest: datetime | None = None) -> None:
        """``frontier`` and ``latest`` as the last ``ClosedBatch`` gave them; a new log has neither."""
        self._frontier = frontier
        self._latest = latest
        self._open: dict[int, ReservedLeaf] = {}
        self._leaves: dict[int, Leaf] = {}
        self._reserved = 0
        self._closed = False

    @property
    def next_seq(self) -> int:
        """The index of the next entry."""
        return self._frontier.size + self._reserved

    def holds(self, reserved: ReservedLeaf) -> bool:
        """Whether this very reservation is open here."""
        return self._open.get(reserved.seq) is reserved

    def reserve(self, *outcomes: Event) -> ReservedLeaf:
        """Take the next index for an entry that will record one of ``outcomes``."""
        self._refuse_closed()
        reserved = ReservedLeaf(self, self.next_seq, frozenset(outcomes))
        self._open[reserved.seq] = reserved
        self._reserved += 1
        return reserved

    def settle(self, reserved: ReservedLeaf, leaf: Leaf) -> None:
        """Write the entry of a reservation. Raises audit.unreserved where it is not the one that was reserved."""
        if not self.holds(reserved) or leaf.seq != reserved.seq or leaf.event not in reserved.outcomes:
            raise IntegrityError("audit.unreserved", f"entry {reserved.seq}")
        del self._open[reserved.seq]
        self._leaves[reserved.seq] = leaf

    def record(self, leaf: Leaf) -> None:
        """Add an entry for an event that used no key; its ``seq`` is ``next_seq``."""
        self.settle(self.reserve(leaf.event), leaf)

    def close(self) -> ClosedBatch:
        """Give away the bytes and the frontier to store.

        Raises audit.unreserved while a reservation is open or a second time; ``LocalError`` node.clock where time
        goes back further than an undeclared step may (rule 5). Nothing is given away then.
        """
        self._refuse_closed()
        if self._open:
            raise IntegrityError("audit.unreserved", f"entry {min(self._open)} was reserved and not written")
        leaves = [self._leaves[seq] for seq in range(self._frontier.size, self.next_seq)]
        latest = self._latest
        for leaf in leaves:
            if is_back_dated(latest, leaf):
                raise LocalError("node.clock", f"entry {leaf.seq}")
            latest = advance(latest, leaf)
        encoded = tuple(encode_leaf(leaf) for leaf in leaves)
        self._closed = True
        return ClosedBatch(self._frontier.size, encoded, self._frontier.extend(map(hash_leaf, encoded)), latest)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise IntegrityError("audit.unreserved", "the batch is closed")
