"""The records, events and effects of delivery: the words of ``core.relay``.

Implements the vocabulary of docs/protocol.md section 7.

Rules:
1. Records are frozen; a step makes new ones. They hold what delivery decides by, never content.
2. Events are in the past tense: something happened, at ``now``. Effects are orders to the caller.
3. ``Window`` is arithmetic on numbers and nothing else: what was answered, what is missing.

What it does not do: decide anything (``core.relay.handle``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from exchange.core.answers import MAX_MISSING

if TYPE_CHECKING:
    from datetime import datetime

    from exchange.core.answers import Outcome
    from exchange.core.audit import Event as LogEvent
    from exchange.core.wire import Digest, MessageId, NodeId


class Status(StrEnum):
    """Where a message is. An officer sees exactly one of these, with its time."""

    QUEUED = "queued"
    SENT = "sent"
    HELD = "held"  # at the receiver only, never shown: it waits for a message it refers to
    ACCEPTED = "accepted"
    COMPLETE = "complete"
    OPENED = "opened"
    ANSWERED = "answered"
    REFUSED = "refused"
    EXPIRED = "expired"
    RECALLED = "recalled"


OPEN: Final = frozenset({Status.QUEUED, Status.SENT})
DELIVERED: Final = (Status.ACCEPTED, Status.COMPLETE, Status.OPENED, Status.ANSWERED)


# -- records ---------------------------------------------------------------------------------------


class Window(NamedTuple):
    """The numbers of one pair: ``next_seq`` for what we send; ``through`` and ``above`` for what we answered.

    Every number up to ``through`` has had its final answer; ``above`` holds closed ranges beyond the first gap.
    """

    peer: NodeId
    next_seq: int = 1
    through: int = 0
    above: tuple[tuple[int, int], ...] = ()

    def has(self, seq: int) -> bool:
        """Whether ``seq`` was consumed."""
        return seq <= self.through or any(low <= seq <= high for low, high in self.above)

    def consume(self, seq: int) -> Window:
        """The window with ``seq`` consumed."""
        if self.has(seq):
            return self
        if seq == self.through + 1 and not self.above:  # the usual case, without building lists
            return self._replace(through=seq)
        merged: list[tuple[int, int]] = []
        for low, high in sorted((*self.above, (seq, seq))):
            if merged and low == merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], high)
            else:
                merged.append((low, high))
        through = self.through
        if merged[0][0] == through + 1:
            through = merged.pop(0)[1]
        return self._replace(through=through, above=tuple(merged))

    def missing(self, limit: int = MAX_MISSING) -> tuple[int, ...]:
        """The first numbers below the highest seen that were not consumed."""
        found: list[int] = []
        after = self.through
        for low, high in self.above:
            found += range(after + 1, min(low, after + 1 + limit - len(found)))
            after = high
        return tuple(found[:limit])

    def has_gap_below(self, seq: int) -> bool:
        """Whether a number below ``seq`` was not consumed: ``through + 1`` never is, else it would be ``through``."""
        return seq > self.through + 1


class Outgoing(NamedTuple):
    """One message to one peer, as its sender keeps it. ``digest`` is None while it waits unsealed."""

    peer: NodeId
    id: MessageId
    status: Status
    created: datetime
    updated: datetime
    attempt: int = 0
    seq: int = 0
    digest: Digest | None = None
    expires: datetime | None = None
    code: str | None = None
    clause: str | None = None
    log_index: int | None = None


class Incoming(NamedTuple):
    """One envelope from one peer, as its receiver keeps it. ``waits_for`` is only filled while held."""

    peer: NodeId
    id: MessageId
    attempt: int
    seq: int
    digest: Digest
    status: Status
    updated: datetime
    code: str | None = None
    clause: str | None = None
    log_index: int | None = None
    has_blobs: bool = False
    waits_for: tuple[MessageId, ...] = ()


class State(NamedTuple):
    """The records that one event touches. ``held`` are the messages of this peer that wait for others."""

    window: Window
    outgoing: Outgoing | None = None
    incoming: Incoming | None = None
    held: tuple[Incoming, ...] = ()


# -- events ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submitted:
    """An officer's message passed the agreement; it waits to be sealed."""

    id: MessageId
    now: datetime


@dataclass(frozen=True, slots=True)
class Sealed:
    """The message was sealed as the attempt and number that ``next_attempt`` named."""

    digest: Digest
    expires: datetime
    now: datetime


@dataclass(frozen=True, slots=True)
class Sent:
    """The envelope left this node, and no answer came with it."""

    now: datetime


@dataclass(frozen=True, slots=True)
class Answered:
    """A verified final answer arrived for the envelope or void ``digest``."""

    digest: Digest
    outcome: Outcome
    log_index: int
    now: datetime
    code: str | None = None
    clause: str | None = None


@dataclass(frozen=True, slots=True)
class Replied:
    """The peer's message that answers this outgoing one was accepted, or ours that answers this incoming one sent."""

    now: datetime


@dataclass(frozen=True, slots=True)
class Cancelled:
    """This node takes the message back before it was accepted; ``code`` says why."""

    code: str
    now: datetime


@dataclass(frozen=True, slots=True)
class Recalled:
    """The peer's verified receipt says that it erased its copy because this node took the message back."""

    now: datetime


@dataclass(frozen=True, slots=True)
class Received:
    """An envelope passed every step up to the clause (``code`` None), or was refused by one.

    ``absent`` are the messages it refers to that are not stored here.
    """

    id: MessageId
    attempt: int
    seq: int
    digest: Digest
    now: datetime
    code: str | None = None
    clause: str | None = None
    has_blobs: bool = False
    absent: tuple[MessageId, ...] = ()


@dataclass(frozen=True, slots=True)
class Voided:
    """The peer declared, signed, that number ``seq`` will not arrive."""

    seq: int
    digest: Digest
    now: datetime


@dataclass(frozen=True, slots=True)
class Suspended:
    """The agreement of these held messages does not serve any more; the peer's numbers and ``held`` are touched."""

    digests: frozenset[Digest]
    now: datetime


@dataclass(frozen=True, slots=True)
class BlobsArrived:
    """Every evidence file of the incoming message is whole."""

    now: datetime


@dataclass(frozen=True, slots=True)
class Opened:
    """An officer read the incoming message."""

    by: str
    now: datetime


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed, for an outgoing message without a final answer."""

    now: datetime


Event: TypeAlias = (
    Submitted
    | Sealed
    | Sent
    | Answered
    | Replied
    | Cancelled
    | Recalled
    | Received
    | Voided
    | Suspended
    | BlobsArrived
    | Opened
    | Tick
)


# -- effects ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """Append a leaf to the audit log; ``log_index`` of the incoming or outgoing record becomes its index."""

    event: LogEvent
    subject: Digest | None
    code: str | None = None
    clause: str | None = None
    actor: str = "node"


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer the peer, signed, with the index of the leaf recorded just before."""

    digest: Digest
    outcome: Outcome
    code: str | None = None
    clause: str | None = None


@dataclass(frozen=True, slots=True)
class Defer:
    """Answer the peer with a bare transient code; nothing is stored about it."""

    digest: Digest
    code: str


@dataclass(frozen=True, slots=True)
class Send:
    """Put the envelope into the peer's outbox."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class Unsend:
    """Take the envelope out of the peer's outbox."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class Seal:
    """Seal the stored statement again, as the next attempt."""

    id: MessageId


@dataclass(frozen=True, slots=True)
class SendVoid:
    """Sign a void for the number and put it into the peer's outbox."""

    seq: int
    id: MessageId
    reason: str


@dataclass(frozen=True, slots=True)
class Deliver:
    """Show the message in the inbox, and tell whoever waits."""

    id: MessageId


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the officer who sent the message that its status changed."""

    id: MessageId
    status: Status


Effect: TypeAlias = Record | Answer | Defer | Send | Unsend | Seal | SendVoid | Deliver | Tell
Effects: TypeAlias = tuple[Effect, ...]
