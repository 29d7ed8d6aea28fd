"""How long a received message is kept, and when a clock is too doubtful to destroy anything by it.

Implements docs/protocol.md sections 5.2 (``retention``) and 8.9.

Rules:
1. Days count from acceptance. The clause bounded them when the message was permitted, at both ends.
2. What a wrong clock destroys is gone for ever, and what it keeps too long is erased a day later: in doubt nothing is
   destroyed. A clock is doubtful when it outran one that nobody can set, or when a start lies far after the last
   entry of the log; a peer's fresh signed time, or the operator, ends the doubt.

What it does not do: read a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

MAX_LEAP: Final = timedelta(hours=1)  # more than a clock that is being corrected runs ahead of one that is not
MAX_SILENCE: Final = timedelta(days=7)
AGREEMENT: Final = timedelta(hours=1)  # between this node's time and one that a peer has just signed


def keep_until(accepted: datetime, days: int) -> datetime:
    """When a message accepted then is over."""
    return accepted + timedelta(days=days)


@dataclass(frozen=True, slots=True)
class Anchor:
    """Wall time and the seconds of a clock that nobody can set, read at one moment."""

    wall: datetime
    steady: float

    def leapt(self, wall: datetime, steady: float) -> bool:
        """Whether wall time has outrun the other clock since."""
        return wall - self.wall > timedelta(seconds=steady - self.steady) + MAX_LEAP


def is_late_start(last: datetime | None, now: datetime) -> bool:
    """Whether a start lies so far after the last entry of the log that the clock may be wrong."""
    return last is not None and now - last > MAX_SILENCE


def confirms(told: datetime, now: datetime) -> bool:
    """Whether a time that a peer signed agrees with this node's."""
    return abs(told - now) <= AGREEMENT
