"""Duty messages: what two nodes owe each other about a message that they exchanged.

Implements docs/protocol.md section 8.6, and its part of steps R17 and R18.

Rules:
1. A duty is a statement like any other: sealed, signed, answered, logged. It is about exactly one earlier message,
   which its header refers to, and carries no evidence.
2. It needs no permit of its own. It passes under the agreement and the clause of the message it is about, also when
   that agreement is over: what was sent under it can still be taken back, and its deletion still be told.
3. Only the originator of a message recalls it, corrects it and decides on its onward use; only a recipient asks for
   onward use, tells of it, of a deletion or of a legal hold. Nobody does so about a duty: a receipt is not taken back.
4. A duty is never held for a message that is still to come: whoever sends one has the signed answer to the message that
   it is about, or received that message.
5. Duties are acted on by their days and times, so each is one of the calendar: the pattern of a schema lets through a
   29 February of every year, and a year 0.

What it does not do: look anything up (``node.subjects``), or carry a duty out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from exchange.core.errors import PeerError
from exchange.core.wire import parse_day, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exchange.core.wire import Digest, JsonObject, MessageId


class Side(Enum):
    """What a node was to the message that a duty is about."""

    ORIGINATOR = "originator"
    RECIPIENT = "recipient"


RECALL: Final = "recall"
CORRECTION: Final = "correction"
DELETION_RECEIPT: Final = "deletion-receipt"
HOLD_NOTICE: Final = "hold-notice"
ONWARD_REQUEST: Final = "onward-request"
ONWARD_DECISION: Final = "onward-decision"
ONWARD_NOTICE: Final = "onward-notice"

SENT_BY: Final[Mapping[str, Side]] = {
    RECALL: Side.ORIGINATOR,
    CORRECTION: Side.ORIGINATOR,
    DELETION_RECEIPT: Side.RECIPIENT,
    HOLD_NOTICE: Side.RECIPIENT,
    ONWARD_REQUEST: Side.RECIPIENT,
    ONWARD_DECISION: Side.ORIGINATOR,
    ONWARD_NOTICE: Side.RECIPIENT,
}
# Members of the content by kind, each a day or a time by its schema.
_DAYS: Final[Mapping[str, str]] = {HOLD_NOTICE: "until", ONWARD_DECISION: "until"}
_TIMES: Final[Mapping[str, str]] = {DELETION_RECEIPT: "deleted_at", ONWARD_NOTICE: "time"}
_REPLIES_TO: Final[Mapping[str, frozenset[str]]] = {
    DELETION_RECEIPT: frozenset({RECALL, CORRECTION}),
    HOLD_NOTICE: frozenset({RECALL, CORRECTION}),
    ONWARD_DECISION: frozenset({ONWARD_REQUEST}),
    ONWARD_NOTICE: frozenset({ONWARD_DECISION}),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """An earlier message as the records of a node have it; ``duty`` and ``about`` where it was a duty itself."""

    agreement: Digest
    clause: str | None
    duty: str | None = None
    about: MessageId | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """What the header of a duty says of it."""

    kind: str
    refers_to: tuple[MessageId, ...]
    in_reply_to: MessageId | None
    attachments: int


@dataclass(frozen=True, slots=True)
class Duty:
    """A duty that fits the message it is about, and what it passes under."""

    kind: str
    about: MessageId
    agreement: Digest
    clause: str


def is_duty(kind: str) -> bool:
    """Whether statements of this kind pass by section 8.6, not by a permit."""
    return kind in SENT_BY


def check_form(claim: Claim) -> MessageId:
    """The message that a duty is about. Raises duty.form."""
    if len(claim.refers_to) != 1 or claim.attachments:
        raise PeerError("duty.form", "header/refers_to" if len(claim.refers_to) != 1 else "header/attachments")
    if claim.in_reply_to is not None and claim.kind not in _REPLIES_TO:
        raise PeerError("duty.form", "header/in_reply_to")
    if claim.in_reply_to is None and claim.kind == ONWARD_DECISION:
        raise PeerError("duty.form", "header/in_reply_to")
    return claim.refers_to[0]


def check_calendar(kind: str, content: JsonObject) -> None:
    """Hold the days and times of a duty's content, valid by its schema, against the calendar. Raises schema.invalid."""
    for members, parse in ((_DAYS, parse_day), (_TIMES, parse_time)):
        member = members.get(kind)
        value = None if member is None else content.get(member)
        if not isinstance(value, str):  # not of this kind, or optional and not there
            continue
        try:
            parse(value)
        except PeerError:
            raise PeerError("schema.invalid", f"main/{member} (calendar)") from None


def check_duty(claim: Claim, subject: Subject | None, *, crossed: bool, request: Subject | None) -> Duty:
    """Hold a duty against the message it is about; what it passes under.

    ``subject`` is the message of that id which went the right way between the two nodes, ``crossed`` whether one of
    that id went the other way; ``request`` is the message of the other side that the duty replies to. Raises
    ``PeerError``: duty.form, duty.side, duty.subject, duty.request, envelope.reference.
    """
    about = check_form(claim)
    if subject is None:
        raise PeerError("duty.side" if crossed else "envelope.reference", "header/refers_to")
    if subject.duty is not None or subject.clause is None:
        raise PeerError("duty.subject", "header/refers_to")
    if claim.in_reply_to is not None:
        if request is None:
            raise PeerError("envelope.reference", "header/in_reply_to")
        if request.duty not in _REPLIES_TO[claim.kind] or request.about != about:
            raise PeerError("duty.request", "header/in_reply_to")
    return Duty(claim.kind, about, subject.agreement, subject.clause)
