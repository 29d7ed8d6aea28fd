"""The delivery state machine: ``handle(state, event) -> (state, effects)``.

Implements docs/protocol.md section 7 (steps R6 and R18 to R20, answers, voids, ordering).

Rules:
1. ``state`` holds only the records that one event touches: the pair's numbers, one message, what waits for it.
2. Events are in the past tense, effects are orders. The caller writes the new state, the leaves and the outbox in
   one transaction; only after the commit it sends anything.
3. Nothing takes effect twice: an answered envelope is answered again from the store, whatever it says.
4. Numbers (``seq``) prove completeness and are never a gate: each final answer consumes one, each gap is filled
   by the envelope or by a signed void.
5. A message that refers to one not yet here waits for it, and no longer than the gaps below it are open.
6. A bare (transient) code never ends an attempt; a re-sealed attempt takes a new number.

What it does not do: clocks, bytes, keys, policy. Time enters with the event.

Length: one machine, one table.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, assert_never

from exchange.core.answers import Outcome
from exchange.core.audit import Event as Log
from exchange.core.delivery import (
    DELIVERED,
    OPEN,
    Answer,
    Answered,
    BlobsArrived,
    Cancelled,
    Defer,
    Deliver,
    Effect,
    Effects,
    Event,
    Incoming,
    Opened,
    Outgoing,
    Recalled,
    Received,
    Record,
    Replied,
    Seal,
    Sealed,
    Send,
    SendVoid,
    Sent,
    State,
    Status,
    Submitted,
    Suspended,
    Tell,
    Tick,
    Unsend,
    Voided,
)
from exchange.core.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from exchange.core.wire import Digest, MessageId

MAX_ATTEMPTS: Final = 16
RESEAL_WAIT: Final = timedelta(minutes=5)  # after the second refusal that seals again; doubles to a day with the others
MAX_RANGES: Final = 1_024  # gaps that one peer may keep open here
MAX_HELD: Final = 1_024  # messages of one peer that wait here for others
MAX_WAIT: Final = timedelta(days=35)  # an unsealed or unanswered message comes back to its officer after this

TRANSIENT: Final = frozenset(
    {
        "key.unknown",
        "agreement.unknown",
        "officers.unknown",
        "envelope.not_yet_valid",
        "relay.held",
        "relay.busy",
        "relay.quota",
        "relay.disk",
    }
)
RESEAL: Final = frozenset({"envelope.expired", "envelope.prekey_gone", "officers.superseded"})


# -- questions the caller asks before it makes an event --------------------------------------------


def next_attempt(state: State) -> tuple[int, int]:
    """The attempt and number that the next sealing of ``state.outgoing`` takes."""
    return (state.outgoing.attempt if state.outgoing else 0) + 1, state.window.next_seq


def find_repeat(prior: Iterable[Incoming], attempt: int, digest: Digest) -> Incoming | None:
    """Step R6: the stored record whose answer is the answer to this envelope, or None if it is new.

    ``prior`` are all stored attempts of (from, id). Raises envelope.equivocation where the same attempt came with
    other bytes. An accepted id is answered as accepted, whatever attempt comes later.
    """
    accepted: Incoming | None = None
    for record in prior:
        if record.attempt == attempt:
            if record.digest != digest:
                raise PeerError("envelope.equivocation", "R6")
            return record
        if record.status in DELIVERED or record.status is Status.HELD:
            accepted = record
    return accepted


def is_overfull(state: State, seq: int) -> bool:
    """Whether the peer keeps too many gaps or waiting messages open to take this number; asked before a key is used."""
    window = state.window
    if seq == window.through + 1 or window.has(seq):
        return False
    return len(window.above) >= MAX_RANGES or len(state.held) >= MAX_HELD


# -- the machine -----------------------------------------------------------------------------------


def handle(state: State, event: Event) -> tuple[State, Effects]:  # noqa: C901, PLR0911, PLR0912 - the table itself
    """Take one step; the table of all events.

    ============  =========  ==================================================================
    event         record     what follows
    ============  =========  ==================================================================
    Submitted     outgoing   queued, unsealed
    Sealed        outgoing   number and attempt taken, leaf, into the outbox
    Sent          outgoing   queued -> sent
    Answered      outgoing   accepted, complete, refused, or sealed again; leaf; out of the outbox
    Replied       either     answered
    Cancelled     outgoing   refused with our own code; the number is voided; leaf
    Recalled      outgoing   recalled
    Received      incoming   accepted, held or refused; leaf; number consumed; held ones looked at
    Voided        window     number consumed; leaf; held ones looked at
    Suspended     window     held ones refused; leaf; numbers consumed; the others looked at
    BlobsArrived  incoming   complete; leaf
    Opened        incoming   opened; leaf, each time
    Tick          outgoing   expired after MAX_WAIT; the number is voided; leaf
    ============  =========  ==================================================================
    """  # fmt: skip
    match event:
        case Submitted():
            created = Outgoing(state.window.peer, event.id, Status.QUEUED, event.now, event.now)
            return state._replace(outgoing=created), ()
        case Sealed():
            return _sealed(state, event)
        case Sent():
            return _sent(state)
        case Answered():
            return _answered(state, event)
        case Replied():
            return _replied(state, event)
        case Cancelled():
            return _returned(state, Status.REFUSED, event.code, event.now)
        case Recalled():
            return _recalled(state, event)
        case Received():
            return _received(state, event)
        case Voided():
            return _voided(state, event)
        case Suspended():
            return _suspended(state, event)
        case BlobsArrived():
            return _blobs_arrived(state, event)
        case Opened():
            return _opened(state, event)
        case Tick():
            outgoing = state.outgoing
            if outgoing is None or event.now - outgoing.updated < MAX_WAIT:
                return state, ()
            return _returned(state, Status.EXPIRED, "envelope.expired", event.now)
        case _:
            assert_never(event)


def _sealed(state: State, event: Sealed) -> tuple[State, Effects]:
    outgoing = state.outgoing
    if outgoing is None or outgoing.status is not Status.QUEUED or outgoing.digest is not None:
        return state, ()  # sealed already: a second number for the same attempt would leave a gap that nobody fills
    attempt, seq = next_attempt(state)
    sealed = outgoing._replace(attempt=attempt, seq=seq, digest=event.digest, expires=event.expires, updated=event.now)
    window = state.window._replace(next_seq=seq + 1)
    return state._replace(outgoing=sealed, window=window), (Record(Log.SEALED, event.digest), Send(event.digest))


def _sent(state: State) -> tuple[State, Effects]:
    outgoing = state.outgoing
    if outgoing is None or outgoing.status is not Status.QUEUED or outgoing.digest is None:
        return state, ()  # also where the answer was faster than this news and the message waits to be sealed again
    # ``updated`` stays: MAX_WAIT counts from the sealing, not from the last try.
    return state._replace(outgoing=outgoing._replace(status=Status.SENT)), ()


def _answered(state: State, event: Answered) -> tuple[State, Effects]:
    outgoing = state.outgoing
    if outgoing is None or outgoing.digest != event.digest:
        return state, (Unsend(event.digest),)  # a late answer to an older attempt, or to a void
    if outgoing.status is Status.RECALLED:
        return state, (Unsend(event.digest),)  # the copy that a late answer speaks of is erased
    if event.outcome is Outcome.REFUSED:
        return _refused_by_peer(state, outgoing, event)
    status = Status.COMPLETE if event.outcome is Outcome.COMPLETE else Status.ACCEPTED
    receipt = Record(Log.COMPLETED if status is Status.COMPLETE else Log.DELIVERED, event.digest)
    if outgoing.status in DELIVERED and DELIVERED.index(outgoing.status) >= DELIVERED.index(status):
        if outgoing.log_index is not None:
            return state, (Unsend(event.digest),)
        # The peer's own message overtook its answer: the receipt is still recorded, once.
        receipted = outgoing._replace(log_index=event.log_index)
        return state._replace(outgoing=receipted), (receipt, Unsend(event.digest))
    delivered = outgoing._replace(
        status=status, code=None, clause=event.clause, log_index=event.log_index, updated=event.now
    )
    return state._replace(outgoing=delivered), (receipt, Unsend(event.digest), Tell(outgoing.id, status))


def _refused_by_peer(state: State, outgoing: Outgoing, event: Answered) -> tuple[State, Effects]:
    if outgoing.status in DELIVERED:
        # Accepted before and refused now: the peer contradicts its own signature. The first answer stands.
        return state, (Record(Log.CONTRADICTION, event.digest, event.code), Unsend(event.digest))
    if outgoing.status not in OPEN:
        return state, (Unsend(event.digest),)  # it had come back to its officer already
    refusal = Record(Log.REFUSED_BY_PEER, event.digest, event.code, event.clause)
    if event.code in RESEAL and outgoing.attempt < MAX_ATTEMPTS:
        again = outgoing._replace(status=Status.QUEUED, digest=None, expires=None, seq=0, updated=event.now)
        return state._replace(outgoing=again), (refusal, Unsend(event.digest), Seal(outgoing.id))
    status, code = (Status.EXPIRED, "relay.attempts") if event.code in RESEAL else (Status.REFUSED, event.code)
    ended = outgoing._replace(
        status=status,
        code=code,
        clause=event.clause,
        log_index=event.log_index,
        updated=event.now,
    )
    return state._replace(outgoing=ended), (refusal, Unsend(event.digest), Tell(outgoing.id, status))


def _may_be_replied(outgoing: Outgoing) -> bool:
    """Delivered, or on its way in an envelope whose receipt the reply overtook.

    What was refused, came back, or was never sealed stays what it is: a peer's reply does not end its waiting.
    """
    on_its_way = outgoing.status in OPEN and outgoing.digest is not None
    return on_its_way or (outgoing.status in DELIVERED and outgoing.status is not Status.ANSWERED)


def _replied(state: State, event: Replied) -> tuple[State, Effects]:
    if state.outgoing is not None and _may_be_replied(state.outgoing):
        answered = state.outgoing._replace(status=Status.ANSWERED, updated=event.now)
        return state._replace(outgoing=answered), (Tell(answered.id, Status.ANSWERED),)
    if state.incoming is not None and state.incoming.status in DELIVERED:
        return state._replace(incoming=state.incoming._replace(status=Status.ANSWERED, updated=event.now)), ()
    return state, ()


def _lacks_receipt(outgoing: Outgoing) -> bool:
    """Whether the peer replied to it and never signed that it has it."""
    return outgoing.status is Status.ANSWERED and outgoing.log_index is None


def _returned(state: State, status: Status, code: str, now: datetime) -> tuple[State, Effects]:
    """The message comes back to its officer; a number already taken is voided."""
    outgoing = state.outgoing
    if outgoing is None or not (outgoing.status in OPEN or _lacks_receipt(outgoing)):
        return state, ()
    ended = outgoing._replace(status=status, code=code, updated=now)
    effects: list[Effect] = [Record(Log.RETURNED, outgoing.digest, code)]
    if outgoing.digest is not None:
        effects += (Unsend(outgoing.digest), SendVoid(outgoing.seq, outgoing.id, code))
    return state._replace(outgoing=ended), (*effects, Tell(outgoing.id, status))


def _recalled(state: State, event: Recalled) -> tuple[State, Effects]:
    outgoing = state.outgoing
    if outgoing is None or outgoing.status not in DELIVERED:
        return state, ()
    recalled = outgoing._replace(status=Status.RECALLED, updated=event.now)
    return state._replace(outgoing=recalled), (Tell(outgoing.id, Status.RECALLED),)


def _received(state: State, event: Received) -> tuple[State, Effects]:
    window = state.window
    # Repeats were answered in R6, so a number in use belongs to another message, or was voided.
    taken = window.has(event.seq) or any(item.seq == event.seq for item in state.held)
    incoming = Incoming(
        peer=window.peer,
        id=event.id,
        attempt=event.attempt,
        seq=event.seq,
        digest=event.digest,
        status=Status.HELD,
        updated=event.now,
        code=event.code or ("envelope.seq" if taken else None),
        clause=event.clause,
        has_blobs=event.has_blobs,
        waits_for=event.absent,
    )
    if incoming.code is None and event.absent and window.has_gap_below(event.seq):
        held = (*state.held, incoming)
        return state._replace(incoming=incoming, held=held), (
            Record(Log.HELD, event.digest),
            Defer(event.digest, "relay.held"),
        )
    if incoming.code is None and event.absent:
        incoming = incoming._replace(code="envelope.reference")
    done, effects = _settle(incoming, event.now)
    state = state._replace(window=window.consume(event.seq), incoming=done)
    state, more = _release(state, event.id if done.code is None else None, event.now)
    return state, (*effects, *more)


def _settle(incoming: Incoming, now: datetime) -> tuple[Incoming, Effects]:
    """The final answer to an envelope: refused with its code, or accepted."""
    if incoming.code is not None:
        refused = incoming._replace(status=Status.REFUSED, waits_for=(), updated=now)
        return refused, (
            Record(Log.REFUSED, incoming.digest, incoming.code, incoming.clause),
            Answer(incoming.digest, Outcome.REFUSED, incoming.code, incoming.clause),
        )
    accepted = incoming._replace(status=Status.ACCEPTED, waits_for=(), updated=now)
    return accepted, (
        Record(Log.RECEIVED, incoming.digest, None, incoming.clause),
        Answer(incoming.digest, Outcome.ACCEPTED, None, incoming.clause),
        Deliver(incoming.id),
    )


def _release(state: State, arrived: MessageId | None, now: datetime) -> tuple[State, Effects]:
    """Look at held messages again, after ``arrived`` came or a number was consumed; the settled stay in ``held``."""
    if not state.held:
        return state, ()
    effects: list[Effect] = []
    held = [_without(item, arrived) for item in state.held]
    window = state.window
    progress = True
    while progress:
        progress = False
        for at in range(len(held)):
            item = held[at]
            if item.status is not Status.HELD or (item.waits_for and window.has_gap_below(item.seq)):
                continue
            done, more = _settle(item._replace(code="envelope.reference") if item.waits_for else item, now)
            effects += more
            window = window.consume(done.seq)
            held[at] = done
            if done.code is None:
                held = [_without(other, done.id) for other in held]
            progress = True
    return state._replace(window=window, held=tuple(held)), tuple(effects)


def _without(item: Incoming, arrived: MessageId | None) -> Incoming:
    """The record, not waiting for ``arrived`` any more."""
    if arrived not in item.waits_for:
        return item
    return item._replace(waits_for=tuple(other for other in item.waits_for if other != arrived))


def _voided(state: State, event: Voided) -> tuple[State, Effects]:
    window = state.window
    if window.has(event.seq):
        # Its envelope was answered first, and that answer stands: the caller sends it again in the same document, for
        # the void shows that it was lost. (A void that comes a second time is a repeat: it is answered from the store.)
        refusal = Answer(event.digest, Outcome.REFUSED, "envelope.void")
        return state, (Record(Log.VOID_REFUSED, event.digest, "envelope.void"), refusal)
    if is_overfull(state, event.seq):
        return state, (Defer(event.digest, "relay.quota"),)
    # A message held under that number has no answer yet, so its sender may still take it back.
    effects: list[Effect] = [Record(Log.VOID_RECEIVED, event.digest), Answer(event.digest, Outcome.ACCEPTED)]
    held: list[Incoming] = []
    for item in state.held:
        kept = item
        if item.seq == event.seq and item.status is Status.HELD:
            kept, taken_back = _settle(item._replace(code="relay.cancelled"), event.now)
            effects += taken_back
        held.append(kept)
    state = state._replace(window=window.consume(event.seq), held=tuple(held))
    state, more = _release(state, None, event.now)
    return state, (*effects, *more)


def _suspended(state: State, event: Suspended) -> tuple[State, Effects]:
    """What was held is judged at its commit, and that would come after the suspension: it is refused now."""
    window = state.window
    effects: list[Effect] = []
    held: list[Incoming] = []
    for item in state.held:
        kept = item
        if item.digest in event.digests and item.status is Status.HELD:
            kept, refused = _settle(item._replace(code="agreement.suspended"), event.now)
            effects += refused
            window = window.consume(item.seq)
        held.append(kept)
    state, more = _release(state._replace(window=window, held=tuple(held)), None, event.now)
    return state, (*effects, *more)


def _blobs_arrived(state: State, event: BlobsArrived) -> tuple[State, Effects]:
    incoming = state.incoming
    if incoming is None or not incoming.has_blobs or incoming.status not in DELIVERED:
        return state, ()
    status = Status.COMPLETE if incoming.status is Status.ACCEPTED else incoming.status
    whole = incoming._replace(status=status, has_blobs=False, updated=event.now)
    effects = (Record(Log.COMPLETED, incoming.digest), Answer(incoming.digest, Outcome.COMPLETE, None, incoming.clause))
    return state._replace(incoming=whole), effects


def _opened(state: State, event: Opened) -> tuple[State, Effects]:
    incoming = state.incoming
    if incoming is None or incoming.status not in DELIVERED:
        return state, ()
    status = incoming.status if incoming.status is Status.ANSWERED else Status.OPENED
    return state._replace(incoming=incoming._replace(status=status, updated=event.now)), (
        Record(Log.OPENED, incoming.digest, actor=event.by),
    )
