"""Response clocks: until when an answer is due, and how late it is.

Implements docs/protocol.md section 8.7.

Rules:
1. A clock runs on what both nodes hold: the ``time`` of the receiver's signed acceptance, the urgency in the header,
   and the clause relied on. So both compute the same moment, whatever their own clocks say.
2. What asks and what answers is read off the kind and ``in_reply_to`` alone: an acknowledgement says that somebody read
   it, and stops nothing; an answer asks nothing back, unless it is a question itself.
3. An answer counts from its own signed acceptance: what was written and never arrived is no answer.
4. For ``GRACE`` after the time is up nobody is called late: the clocks of two nodes may differ by as much (7.8).

What it does not do: know the time of day, remember what was told to whom, or look anything up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

GRACE: Final = timedelta(minutes=15)
_LAST: Final = datetime.max.replace(microsecond=0, tzinfo=UTC)
QUESTIONS: Final = frozenset({"information-request"})  # ask also where they come as a reply
# They tell or order something about an earlier message; none of them says what was asked.
SILENT: Final = frozenset(
    {
        "acknowledgement", "recall", "correction", "deletion-receipt", "hold-notice", "onward-request",
        "onward-decision", "onward-notice",
    }
)  # fmt: skip


class ClockState(StrEnum):
    """How far a clock has run, in this order."""

    WAITING = "waiting"
    REMINDER = "reminder"  # from half of the time on
    LAST_REMINDER = "last_reminder"  # from three quarters on
    DUE = "due"  # the time is up
    OVERDUE = "overdue"  # and the grace too
    ESCALATED = "escalated"  # twice the time
    ANSWERED = "answered"


LATE: Final = frozenset({ClockState.OVERDUE, ClockState.ESCALATED})


def start_of(signed: datetime, now: datetime) -> datetime:
    """When an acceptance counts from that comes ``now``: its signed time, unless no honest clock is so far ahead."""
    return signed if signed - now <= GRACE else now


def asks(kind: str, in_reply_to: str | None) -> bool:
    """Whether a message of this kind asks for an answer where its clause gives a time for one (W1)."""
    return kind not in SILENT and (in_reply_to is None or kind in QUESTIONS)


def answers(kind: str, in_reply_to: str | None) -> bool:
    """Whether a message of this kind answers the one it replies to (W3)."""
    return in_reply_to is not None and kind not in SILENT


@dataclass(frozen=True, slots=True)
class Clock:
    """One question's clock: ``started`` by the signed acceptance, ``answered`` by that of the first answer."""

    started: datetime
    hours: int
    answered: datetime | None = None

    @property
    def due(self) -> datetime:
        """When the answer has to be there (W2); where the calendar ends before, at its end."""
        return self.started + min(timedelta(hours=self.hours), _LAST - self.started)

    @property
    def was_late(self) -> bool:
        """Whether the answer came, and came after its time and the grace."""
        return self.answered is not None and self.answered - self.started >= timedelta(hours=self.hours) + GRACE

    def state(self, now: datetime) -> ClockState:
        """How far it has run (W4)."""
        if self.answered is not None:
            return ClockState.ANSWERED
        whole = timedelta(hours=self.hours)
        run = now - self.started
        steps = (
            (2 * whole, ClockState.ESCALATED),
            (whole + GRACE, ClockState.OVERDUE),
            (whole, ClockState.DUE),
            (whole * 3 / 4, ClockState.LAST_REMINDER),
            (whole / 2, ClockState.REMINDER),
        )
        return next((state for after, state in steps if run >= after), ClockState.WAITING)
