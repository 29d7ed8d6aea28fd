"""Whether this node may destroy anything by its own clock.

Implements docs/protocol.md section 8.9 (clock). Rule: a doubt outlives a restart; it is written before anything else is
decided by the time, and ended by a peer's fresh signed answer or by the operator.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from exchange.core.audit import Event
from exchange.core.retention import Anchor, confirms, is_late_start
from exchange.core.wire import encode_time

if TYPE_CHECKING:
    from datetime import datetime

    from exchange.node.ledger import Ledger, Transaction
    from exchange.ports import Clock

DOUBT: Final = "clock_doubt"  # in ``meta``: since when; empty once it is ended


@dataclass(slots=True)
class Steadiness:
    """Watches the wall clock against the steady one, and what peers sign against both."""

    ledger: Ledger
    clock: Clock
    since: str = ""
    _anchor: Anchor | None = field(default=None)

    @property
    def doubtful(self) -> bool:
        """Whether nothing may be destroyed by the time."""
        return bool(self.since)

    async def load(self) -> None:
        """Read what the last process left."""
        for name, value in await self.ledger.store.read("meta"):
            if name == DOUBT:
                self.since = value

    async def start(self) -> None:
        """Look at the time since the last entry. Before anything is logged by this process."""
        self._anchor = Anchor(self.clock.now(), self.clock.steady())
        if is_late_start(self.ledger.last, self.clock.now()):
            await self._doubt()

    async def look(self, now: datetime) -> None:
        """Compare the clocks again."""
        steady = self.clock.steady()
        leapt = self._anchor is not None and self._anchor.leapt(now, steady)
        self._anchor = Anchor(now, steady)
        if leapt:
            await self._doubt()

    def hear(self, tx: Transaction, told: datetime) -> None:
        """A peer has just signed this time."""
        if self.doubtful and confirms(told, tx.now):
            self._end(tx)

    async def confirm(self, actor: str) -> None:
        """The operator says that the clock is right."""

        async def job(tx: Transaction) -> None:
            if self.doubtful:
                tx.record(Event.CONFIGURED, actor=actor, code="clock_confirmed")
                self._end(tx)

        await self.ledger.do(job)

    async def _doubt(self) -> None:
        async def job(tx: Transaction) -> None:
            since = encode_time(tx.now)
            tx.changes.add("put_meta", DOUBT, since)
            tx.record(Event.ALARM, code="node.clock_doubt")
            tx.after.append(lambda: setattr(self, "since", since))

        if not self.doubtful:
            await self.ledger.do(job)

    def _end(self, tx: Transaction) -> None:
        tx.changes.add("put_meta", DOUBT, "")
        tx.after.append(lambda: setattr(self, "since", ""))
