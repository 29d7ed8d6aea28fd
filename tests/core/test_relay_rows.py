"""The delivery state machine, row by row; tests/core/test_relay_model.py plays it as a whole.

Length: one table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from exchange.core.answers import Outcome
from exchange.core.audit import Event as Log
from exchange.core.delivery import (
    DELIVERED,
    Answer,
    Answered,
    BlobsArrived,
    Cancelled,
    Defer,
    Deliver,
    Effect,
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
from exchange.core.relay import (
    MAX_ATTEMPTS,
    MAX_WAIT,
    RESEAL,
    handle,
)
from tests.core.builders import DAY, NOW, TH
from tests.core.delivery_records import (
    THEN,
    VOID,
    WINDOW,
    D,
    M,
    consumed,
    held,
    incoming,
    outgoing,
    receiving,
    sending,
    unsealed,
)


def received(number: int, *absent: int, **changes: object) -> Received:
    event = Received(M[number], 1, number, D[number], NOW, absent=tuple(M[n] for n in absent))
    return replace(event, **changes)  # type: ignore[arg-type]


def accepted(number: int, clause: str | None = None) -> tuple[Effect, ...]:
    return (
        Record(Log.RECEIVED, D[number], None, clause),
        Answer(D[number], Outcome.ACCEPTED, None, clause),
        Deliver(M[number]),
    )


def refusal(number: int, code: str, clause: str | None = None) -> tuple[Effect, ...]:
    return Record(Log.REFUSED, D[number], code, clause), Answer(D[number], Outcome.REFUSED, code, clause)


@dataclass(frozen=True)
class Row:
    """One step: what is there, what happens, what is there then, and what is to be done."""

    name: str
    state: State
    event: Event
    after: State | None  # None: the state as it was
    effects: tuple[Effect, ...] = ()


ACCEPT = Answered(D[1], Outcome.ACCEPTED, 42, NOW)
COMPLETE = Answered(D[1], Outcome.COMPLETE, 43, NOW)
REFUSE = Answered(D[1], Outcome.REFUSED, 44, NOW, "agreement.purpose", "4.2")
EXPIRE = Answered(D[1], Outcome.REFUSED, 45, NOW, "envelope.expired")

SEALED = outgoing(Status.QUEUED)
SENT = outgoing(Status.SENT)
REFUSED = outgoing(Status.REFUSED, code="relay.cancelled")

SENDER_ROWS = [
    Row("submit", sending(None), Submitted(M[1], NOW), sending(Outgoing(TH, M[1], Status.QUEUED, NOW, NOW))),
    Row(
        "seal",
        sending(unsealed(), WINDOW._replace(next_seq=7)),
        Sealed(D[2], NOW + 2 * DAY, NOW),
        sending(
            outgoing(Status.QUEUED, seq=7, digest=D[2], expires=NOW + 2 * DAY, updated=NOW), WINDOW._replace(next_seq=8)
        ),
        (Record(Log.SEALED, D[2]), Send(D[2])),
    ),
    Row(
        "seal-again",
        sending(unsealed(attempt=3), WINDOW._replace(next_seq=9)),
        Sealed(D[4], NOW + DAY, NOW),
        sending(outgoing(Status.QUEUED, attempt=4, seq=9, digest=D[4], updated=NOW), WINDOW._replace(next_seq=10)),
        (Record(Log.SEALED, D[4]), Send(D[4])),
    ),
    Row("seal-what-is-sealed", sending(SEALED), Sealed(D[2], NOW, NOW), None),
    Row("seal-what-was-taken-back", sending(REFUSED._replace(digest=None)), Sealed(D[2], NOW, NOW), None),
    Row("seal-nothing", sending(None), Sealed(D[2], NOW, NOW), None),
    Row("send", sending(SEALED), Sent(NOW), sending(SENT)),
    Row("send-twice", sending(SENT), Sent(NOW), None),
    Row("send-what-is-delivered", sending(outgoing(Status.ACCEPTED)), Sent(NOW), None),
    Row("send-what-waits-to-be-sealed-again", sending(unsealed(attempt=1)), Sent(NOW), None),
    Row("send-nothing", sending(None), Sent(NOW), None),
    Row(
        "accept",
        sending(SENT),
        ACCEPT,
        sending(outgoing(Status.ACCEPTED, log_index=42, updated=NOW)),
        (Record(Log.DELIVERED, D[1]), Unsend(D[1]), Tell(M[1], Status.ACCEPTED)),
    ),
    Row(
        "accept-before-sent-is-known",
        sending(SEALED),
        ACCEPT,
        sending(outgoing(Status.ACCEPTED, log_index=42, updated=NOW)),
        (Record(Log.DELIVERED, D[1]), Unsend(D[1]), Tell(M[1], Status.ACCEPTED)),
    ),
    Row(
        "complete",
        sending(outgoing(Status.ACCEPTED, log_index=42)),
        COMPLETE,
        sending(outgoing(Status.COMPLETE, log_index=43, updated=NOW)),
        (Record(Log.COMPLETED, D[1]), Unsend(D[1]), Tell(M[1], Status.COMPLETE)),
    ),
    Row(
        "complete-first",
        sending(SENT),
        COMPLETE,
        sending(outgoing(Status.COMPLETE, log_index=43, updated=NOW)),
        (Record(Log.COMPLETED, D[1]), Unsend(D[1]), Tell(M[1], Status.COMPLETE)),
    ),
    Row("accept-after-complete", sending(outgoing(Status.COMPLETE, log_index=43)), ACCEPT, None, (Unsend(D[1]),)),
    Row("accept-twice", sending(outgoing(Status.ACCEPTED, log_index=42)), ACCEPT, None, (Unsend(D[1]),)),
    Row("accept-after-reply", sending(outgoing(Status.ANSWERED, log_index=42)), ACCEPT, None, (Unsend(D[1]),)),
    Row(
        "reply-overtook-the-receipt",
        sending(outgoing(Status.ANSWERED)),
        ACCEPT,
        sending(outgoing(Status.ANSWERED, log_index=42)),
        (Record(Log.DELIVERED, D[1]), Unsend(D[1])),
    ),
    Row(
        "accepted-after-all",
        sending(REFUSED),
        ACCEPT,
        sending(outgoing(Status.ACCEPTED, log_index=42, updated=NOW)),
        (Record(Log.DELIVERED, D[1]), Unsend(D[1]), Tell(M[1], Status.ACCEPTED)),
    ),
    Row("answer-to-an-older-attempt", sending(SENT), replace(ACCEPT, digest=D[2]), None, (Unsend(D[2]),)),
    Row("answer-to-what-waits", sending(unsealed(attempt=1)), ACCEPT, None, (Unsend(D[1]),)),
    Row("answer-to-nothing", sending(None), ACCEPT, None, (Unsend(D[1]),)),
    Row(
        "refuse",
        sending(SENT),
        REFUSE,
        sending(outgoing(Status.REFUSED, code="agreement.purpose", clause="4.2", log_index=44, updated=NOW)),
        (
            Record(Log.REFUSED_BY_PEER, D[1], "agreement.purpose", "4.2"),
            Unsend(D[1]),
            Tell(M[1], Status.REFUSED),
        ),
    ),
    *(
        Row(
            f"too-late-{code}",
            sending(SENT),
            replace(EXPIRE, code=code),
            sending(unsealed(updated=NOW, attempt=1)),
            (Record(Log.REFUSED_BY_PEER, D[1], code), Unsend(D[1]), Seal(M[1])),
        )
        for code in sorted(RESEAL)
    ),
    Row(
        "too-late-too-often",
        sending(outgoing(Status.SENT, attempt=MAX_ATTEMPTS)),
        EXPIRE,
        sending(outgoing(Status.EXPIRED, attempt=MAX_ATTEMPTS, code="relay.attempts", log_index=45, updated=NOW)),
        (Record(Log.REFUSED_BY_PEER, D[1], "envelope.expired"), Unsend(D[1]), Tell(M[1], Status.EXPIRED)),
    ),
    *(
        Row(
            f"refuse-after-{status}",
            sending(outgoing(status, log_index=42)),
            REFUSE,
            None,
            (Record(Log.CONTRADICTION, D[1], "agreement.purpose"), Unsend(D[1])),
        )
        for status in DELIVERED
    ),
    Row("refuse-what-was-taken-back", sending(REFUSED), REFUSE, None, (Unsend(D[1]),)),
    Row("expire-what-was-taken-back", sending(REFUSED), EXPIRE, None, (Unsend(D[1]),)),
    *(
        Row(
            f"reply-to-{record.status}",
            sending(record),
            Replied(NOW),
            sending(record._replace(status=Status.ANSWERED, updated=NOW)),
            (Tell(M[1], Status.ANSWERED),),
        )
        for record in (SENT, outgoing(Status.ACCEPTED, log_index=42))
    ),
    # A peer's reply does not end the waiting of what it refused, of what came back, or of what was never sealed.
    Row("reply-to-refused", sending(REFUSED), Replied(NOW), None),
    Row("reply-to-expired", sending(outgoing(Status.EXPIRED)), Replied(NOW), None),
    Row("reply-to-unsealed", sending(unsealed()), Replied(NOW), None),
    Row("reply-twice", sending(outgoing(Status.ANSWERED)), Replied(NOW), None),
    Row("reply-to-nothing", sending(None), Replied(NOW), None),
    Row(
        "take-back-unsealed",
        sending(unsealed()),
        Cancelled("relay.cancelled", NOW),
        sending(unsealed()._replace(status=Status.REFUSED, code="relay.cancelled", updated=NOW)),
        (Record(Log.RETURNED, None, "relay.cancelled"), Tell(M[1], Status.REFUSED)),
    ),
    Row(
        "take-back",
        sending(SENT),
        Cancelled("relay.cancelled", NOW),
        sending(REFUSED._replace(updated=NOW)),
        (
            Record(Log.RETURNED, D[1], "relay.cancelled"),
            Unsend(D[1]),
            SendVoid(1, M[1], "relay.cancelled"),
            Tell(M[1], Status.REFUSED),
        ),
    ),
    Row("take-back-twice", sending(REFUSED), Cancelled("relay.cancelled", NOW), None),
    Row("take-back-too-late", sending(outgoing(Status.ACCEPTED)), Cancelled("relay.cancelled", NOW), None),
    Row("take-back-nothing", sending(None), Cancelled("relay.cancelled", NOW), None),
    *(
        Row(
            f"recalled-{status}",
            sending(outgoing(status)),
            Recalled(NOW),
            sending(outgoing(Status.RECALLED, updated=NOW)),
            (Tell(M[1], Status.RECALLED),),
        )
        for status in DELIVERED
    ),
    Row("recalled-twice", sending(outgoing(Status.RECALLED)), Recalled(NOW), None),
    Row("recalled-before-acceptance", sending(SENT), Recalled(NOW), None),
    Row("recalled-nothing", sending(None), Recalled(NOW), None),
    # The copy that a late answer speaks of is erased.
    *(
        Row(
            f"answered-{answer.outcome}-after-recall", sending(outgoing(Status.RECALLED)), answer, None, (Unsend(D[1]),)
        )
        for answer in (ACCEPT, COMPLETE, REFUSE)
    ),
    Row("tick", sending(SENT), Tick(THEN + MAX_WAIT - timedelta(seconds=1)), None),
    Row("tick-delivered", sending(outgoing(Status.ACCEPTED)), Tick(THEN + MAX_WAIT), None),
    Row("tick-nothing", sending(None), Tick(THEN + MAX_WAIT), None),
    Row("tick-answered", sending(outgoing(Status.ANSWERED, log_index=42)), Tick(THEN + MAX_WAIT), None),
    Row(
        "tick-answered-without-receipt",
        sending(outgoing(Status.ANSWERED)),
        Tick(THEN + MAX_WAIT),
        sending(outgoing(Status.EXPIRED, code="envelope.expired", updated=THEN + MAX_WAIT)),
        (
            Record(Log.RETURNED, D[1], "envelope.expired"),
            Unsend(D[1]),
            SendVoid(1, M[1], "envelope.expired"),
            Tell(M[1], Status.EXPIRED),
        ),
    ),
    Row(
        "tick-to-the-end",
        sending(SENT),
        Tick(THEN + MAX_WAIT),
        sending(outgoing(Status.EXPIRED, code="envelope.expired", updated=THEN + MAX_WAIT)),
        (
            Record(Log.RETURNED, D[1], "envelope.expired"),
            Unsend(D[1]),
            SendVoid(1, M[1], "envelope.expired"),
            Tell(M[1], Status.EXPIRED),
        ),
    ),
    Row(
        "tick-unsealed",
        sending(unsealed()),
        Tick(THEN + MAX_WAIT),
        sending(unsealed()._replace(status=Status.EXPIRED, code="envelope.expired", updated=THEN + MAX_WAIT)),
        (Record(Log.RETURNED, None, "envelope.expired"), Tell(M[1], Status.EXPIRED)),
    ),
]


def settled(number: int, code: str | None = None, **changes: object) -> Incoming:
    """Message ``number`` after its final answer, just now."""
    return incoming(Status.REFUSED if code else Status.ACCEPTED, number, code=code, updated=NOW, **changes)


def in_a_row(*effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
    return tuple(effect for some in effects for effect in some)


VOIDED = (Record(Log.VOID_RECEIVED, VOID), Answer(VOID, Outcome.ACCEPTED))

RECEIVER_ROWS = [
    Row("receive", receiving(None), received(1), receiving(settled(1), consumed(1)), accepted(1)),
    Row(
        "receive-with-evidence",
        receiving(None),
        received(1, clause="4.2", has_blobs=True),
        receiving(settled(1, clause="4.2", has_blobs=True), consumed(1)),
        accepted(1, "4.2"),
    ),
    Row("receive-beyond-a-gap", receiving(None), received(3), receiving(settled(3), consumed(3)), accepted(3)),
    Row(
        "refuse",
        receiving(None),
        received(1, code="agreement.tlp", clause="4.2"),
        receiving(settled(1, "agreement.tlp", clause="4.2"), consumed(1)),
        refusal(1, "agreement.tlp", "4.2"),
    ),
    Row(
        "number-used-before",
        receiving(None, consumed(1, 2)),
        received(2),
        receiving(settled(2, "envelope.seq"), consumed(1, 2)),
        refusal(2, "envelope.seq"),
    ),
    Row(
        "number-of-a-held-message",
        receiving(None, waiting=[held(2, 9)]),
        replace(received(3), seq=2),
        receiving(settled(3, "envelope.seq", seq=2), consumed(2), [held(2, 9)]),
        refusal(3, "envelope.seq"),
    ),
    Row(
        "refused-by-a-step-under-a-number-used-before",
        receiving(None, consumed(1)),
        received(1, code="agreement.tlp"),
        receiving(settled(1, "agreement.tlp"), consumed(1)),
        refusal(1, "agreement.tlp"),
    ),
    Row(
        "hold",
        receiving(None),
        received(2, 9),
        receiving(held(2, 9)._replace(updated=NOW), waiting=[held(2, 9)._replace(updated=NOW)]),
        (Record(Log.HELD, D[2]), Defer(D[2], "relay.held")),
    ),
    Row(
        "no-gap-to-hold-for",
        receiving(None, consumed(1)),
        received(2, 9),
        receiving(settled(2, "envelope.reference"), consumed(1, 2)),
        refusal(2, "envelope.reference"),
    ),
    Row(
        "never-hold-what-is-refused",
        receiving(None),
        received(2, 9, code="agreement.tlp"),
        receiving(settled(2, "agreement.tlp"), consumed(2)),
        refusal(2, "agreement.tlp"),
    ),
    Row(
        "never-hold-under-a-number-used-before",
        receiving(None, consumed(2)),
        received(2, 9),
        receiving(settled(2, "envelope.seq"), consumed(2)),
        refusal(2, "envelope.seq"),
    ),
    Row(
        "what-it-waited-for-came",
        receiving(None, waiting=[held(4, 2)]),
        received(2),
        receiving(settled(2), consumed(2, 4), [settled(4)]),
        in_a_row(accepted(2), accepted(4)),
    ),
    Row(
        "one-of-two-came",
        receiving(None, waiting=[held(4, 2, 3)]),
        received(2),
        receiving(settled(2), consumed(2), [held(4, 3)]),
        accepted(2),
    ),
    Row(
        "what-it-waited-for-was-refused",
        receiving(None, waiting=[held(4, 2)]),
        received(2, code="agreement.tlp"),
        receiving(settled(2, "agreement.tlp"), consumed(2), [held(4, 2)]),
        refusal(2, "agreement.tlp"),
    ),
    Row(
        "the-last-gap-closed-without-it",
        receiving(None, consumed(2), [held(3, 9)]),
        received(1),
        receiving(settled(1), consumed(1, 2, 3), [settled(3, "envelope.reference")]),
        in_a_row(accepted(1), refusal(3, "envelope.reference")),
    ),
    Row(
        "one-after-the-other",
        receiving(None, waiting=[held(5, 4), held(4, 3), held(3, 2), held(8, 9)]),
        received(2),
        receiving(settled(2), consumed(2, 3, 4, 5), [settled(5), settled(4), settled(3), held(8, 9)]),
        in_a_row(accepted(2), accepted(3), accepted(4), accepted(5)),
    ),
    Row(
        "a-refusal-frees-the-next",
        receiving(None, waiting=[held(3, 2), held(2, 9)]),
        received(1),
        receiving(settled(1), consumed(1, 2, 3), [settled(3, "envelope.reference"), settled(2, "envelope.reference")]),
        in_a_row(accepted(1), refusal(2, "envelope.reference"), refusal(3, "envelope.reference")),
    ),
    Row(
        "void",
        receiving(None),
        Voided(1, VOID, NOW),
        receiving(None, consumed(1)),
        VOIDED,
    ),
    Row(
        "void-too-late",
        receiving(None, consumed(1)),
        Voided(1, VOID, NOW),
        None,
        (Record(Log.VOID_REFUSED, VOID, "envelope.void"), Answer(VOID, Outcome.REFUSED, "envelope.void")),
    ),
    Row(
        "void-closes-the-last-gap",
        receiving(None, waiting=[held(2, 9), held(3, 2)]),
        Voided(1, VOID, NOW),
        receiving(None, consumed(1, 2, 3), [settled(2, "envelope.reference"), settled(3, "envelope.reference")]),
        in_a_row(VOIDED, refusal(2, "envelope.reference"), refusal(3, "envelope.reference")),
    ),
    Row(
        "void-for-a-held-message",
        receiving(None, waiting=[held(2, 9), held(4, 9)]),
        Voided(2, VOID, NOW),
        receiving(None, consumed(2), [settled(2, "relay.cancelled"), held(4, 9)]),
        in_a_row(VOIDED, refusal(2, "relay.cancelled")),
    ),
    Row(
        "suspension-refuses-what-is-held-under-it",
        receiving(None, waiting=[held(2, 9), held(4, 9), held(3, 2)]),
        Suspended(frozenset({D[2]}), NOW),
        receiving(None, consumed(2), [settled(2, "agreement.suspended"), held(4, 9), held(3, 2)]),
        in_a_row(refusal(2, "agreement.suspended")),
    ),
    Row(
        "suspension-closes-the-last-gap",
        receiving(None, consumed(1, 3), waiting=[held(2, 9), held(4, 2)]),
        Suspended(frozenset({D[2]}), NOW),
        receiving(None, consumed(1, 2, 3, 4), [settled(2, "agreement.suspended"), settled(4, "envelope.reference")]),
        in_a_row(refusal(2, "agreement.suspended"), refusal(4, "envelope.reference")),
    ),
    Row(
        "suspension-of-nothing-held",
        receiving(None, waiting=[held(2, 9)]),
        Suspended(frozenset({D[3]}), NOW),
        None,
    ),
    *(
        Row(
            f"evidence-whole-{status}",
            receiving(incoming(status, has_blobs=True, clause="4.2")),
            BlobsArrived(NOW),
            receiving(incoming(then, clause="4.2", updated=NOW)),
            (Record(Log.COMPLETED, D[1]), Answer(D[1], Outcome.COMPLETE, None, "4.2")),
        )
        for status, then in (
            (Status.ACCEPTED, Status.COMPLETE),
            (Status.OPENED, Status.OPENED),
            (Status.ANSWERED, Status.ANSWERED),
        )
    ),
    Row("evidence-whole-twice", receiving(incoming(Status.COMPLETE)), BlobsArrived(NOW), None),
    Row("evidence-of-what-was-refused", receiving(incoming(Status.REFUSED, has_blobs=True)), BlobsArrived(NOW), None),
    Row("evidence-of-what-is-held", receiving(incoming(Status.HELD, has_blobs=True)), BlobsArrived(NOW), None),
    Row("evidence-of-nothing", receiving(None), BlobsArrived(NOW), None),
    *(
        Row(
            f"open-{status}",
            receiving(incoming(status)),
            Opened("officer-7", NOW),
            receiving(incoming(then, updated=NOW)),
            (Record(Log.OPENED, D[1], actor="officer-7"),),
        )
        for status, then in (
            (Status.ACCEPTED, Status.OPENED),
            (Status.COMPLETE, Status.OPENED),
            (Status.OPENED, Status.OPENED),
            (Status.ANSWERED, Status.ANSWERED),
        )
    ),
    Row("open-what-was-refused", receiving(incoming(Status.REFUSED)), Opened("officer-7", NOW), None),
    Row("open-what-is-held", receiving(incoming(Status.HELD)), Opened("officer-7", NOW), None),
    Row("open-nothing", receiving(None), Opened("officer-7", NOW), None),
    *(
        Row(
            f"we-replied-to-{status}",
            receiving(incoming(status)),
            Replied(NOW),
            receiving(incoming(Status.ANSWERED, updated=NOW)),
        )
        for status in DELIVERED
    ),
    Row("we-replied-to-what-was-refused", receiving(incoming(Status.REFUSED)), Replied(NOW), None),
]


@pytest.mark.parametrize("row", [*SENDER_ROWS, *RECEIVER_ROWS], ids=lambda row: row.name)
def test_row(row: Row) -> None:
    """Each event takes each record one step, with exactly the effects of the table, and touches nothing else."""
    after, effects = handle(row.state, row.event)
    assert after == (row.state if row.after is None else row.after)
    assert effects == row.effects


def test_every_event_has_rows() -> None:
    """The table tries every event of the machine."""
    tried = {type(row.event) for row in (*SENDER_ROWS, *RECEIVER_ROWS)}
    assert tried == set(Event.__args__)


@pytest.mark.parametrize("row", [*SENDER_ROWS, *RECEIVER_ROWS], ids=lambda row: row.name)
def test_effects_of_a_row_are_in_order(row: Row) -> None:
    """What happened is recorded before it is answered, and every change that leaves the node has its leaf."""
    _, effects = handle(row.state, row.event)
    for at, effect in enumerate(effects):
        if isinstance(effect, Answer):
            leaf = effects[at - 1]
            assert isinstance(leaf, Record)
            assert (leaf.subject, leaf.code) == (effect.digest, effect.code)
        if isinstance(effect, Send | Seal | SendVoid | Deliver):
            assert isinstance(effects[0], Record)
