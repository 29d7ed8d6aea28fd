"""The end of agreements: told before it comes, and noted when it has.

Implements docs/protocol.md section 8.2, G8.

Rules:
1. The operator is told 90, 30 and 7 days before the last version of an agreement ends, once each for every run of the
   node; what must not be missed is said again by ``exchange doctor`` and ``exchange node status`` as long as it is so.
2. The end is an entry of the log, once, by this node's clock: with it goes a row that says so, in one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from exchange.core.audit import Event, agreement_ref
from exchange.core.succession import days_left, warning_of
from exchange.core.wire import Digest, encode_time

if TYPE_CHECKING:
    from datetime import datetime

    from exchange.core.agreements import Agreement
    from exchange.core.wire import JsonObject
    from exchange.node.ledger import Ledger, Transaction
    from exchange.node.queues import Queues
    from exchange.node.registry import Registry

_PREFIX: Final = "ended "  # of the names under which the ends are stored


@dataclass(slots=True)
class Endings:
    """Watches the dates of every agreement held."""

    registry: Registry
    ledger: Ledger
    queues: Queues
    _told: dict[Digest, int] = field(default_factory=dict)
    _noted: set[Digest] | None = None

    async def look(self, now: datetime) -> None:
        """What is due now."""
        for agreement in self.registry.newest_versions():
            days = warning_of(agreement, now)
            if days is not None and days < self._told.get(agreement.digest, days + 1):
                self._told[agreement.digest] = days
                for party in agreement.parties:
                    if party.node != self.registry.me:
                        name = agreement_ref(agreement.id, agreement.version)
                        self.queues.notify(f"agreement_ends_in_{days}_days", party.node, name, None)
        await self._note_ends(now)

    async def _note_ends(self, now: datetime) -> None:
        if self._noted is None:
            names = [str(name) for name, _ in await self.ledger.store.read("meta")]
            self._noted = {Digest(name.removeprefix(_PREFIX)) for name in names if name.startswith(_PREFIX)}
        noted = self._noted
        over = [item for item in self.registry.agreements.values() if now >= item.valid_until]
        ended = [item for item in over if item.digest not in noted]
        if not ended:
            return

        async def job(tx: Transaction) -> None:
            for item in sorted(ended, key=lambda item: (item.id, item.version)):
                name = agreement_ref(item.id, item.version)
                tx.record(Event.AGREEMENT_ENDED, actor="node", subject=item.digest, agreement=name)
                tx.changes.add("put_meta", f"{_PREFIX}{item.digest}", encode_time(tx.now))
            tx.after.append(lambda: noted.update(item.digest for item in ended))

        await self.ledger.do(job)


def ending_soon(registry: Registry, now: datetime) -> list[JsonObject]:
    """The agreements whose last version ends within 90 days, the first to end first."""
    found = [(item, warning_of(item, now)) for item in registry.newest_versions()]
    found.sort(key=lambda pair: (pair[0].valid_until, pair[0].id))
    return [_to_json(item, days, now) for item, days in found if days is not None]


def _to_json(agreement: Agreement, days: int, now: datetime) -> JsonObject:
    return {
        "agreement": agreement_ref(agreement.id, agreement.version),
        "valid_until": encode_time(agreement.valid_until),
        "days_left": days_left(agreement, now),
        "warning": days,
    }
