"""The machine's clock and its random numbers: ``ports.Clock`` for real.

What it does not do: judge whether the clock can be believed (the node compares it with its own log).
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime


class SystemClock:
    """``ports.Clock`` on this machine."""

    def now(self) -> datetime:
        """See ``ports.Clock``."""
        return datetime.now(UTC)

    def steady(self) -> float:
        """See ``ports.Clock``. Where the machine has one, the clock that goes on while it sleeps."""
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    def random(self, length: int) -> bytes:
        """See ``ports.Clock``."""
        return os.urandom(length)
