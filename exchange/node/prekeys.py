"""This node's own prekeys: published ahead, destroyed on time.

Implements docs/protocol.md section 4.4.

Rules:
1. Each day has a key; keys exist for today and three days ahead; a key opens until a week and an hour after its day.
2. A secret is destroyed at ``open_until`` by this node's clock, and not before; the id stays known as gone.
3. A bundle is published (signed, logged, committed) before anybody can have sealed to its keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Final

from exchange.core import wire
from exchange.core.audit import Event
from exchange.core.envelope import MAX_CLOCK_SKEW
from exchange.core.gate import PrekeyState
from exchange.core.keys import Prekey, PrekeyBundle, PrekeyClass, encode_prekeys
from exchange.core.wire import DocumentType, KeyId, encode_signed_document
from exchange.node.registry import add_document

if TYPE_CHECKING:
    from exchange.node.ledger import Ledger, Transaction
    from exchange.node.registry import Registry
    from exchange.ports import Secrets, Store

DAYS_AHEAD: Final = 3
OPEN_AFTER: Final = timedelta(days=7, hours=1)
SEND_MARGIN: Final = timedelta(hours=1)


@dataclass(slots=True)
class Prekeys:
    """Makes, publishes and destroys."""

    registry: Registry
    ledger: Ledger
    secrets: Secrets
    _live: dict[KeyId, tuple[datetime, datetime, datetime]] = field(default_factory=dict)
    _gone: set[KeyId] = field(default_factory=set)

    async def load(self, store: Store) -> None:
        """Read what was published and what was destroyed."""
        for ident, use_from, use_until, open_until, destroyed in await store.read("prekeys"):
            # A home that was copied without its prekeys has lost them: senders seal again, as after destruction.
            if destroyed or not self.secrets.holds_prekey(KeyId(ident)):
                self._gone.add(KeyId(ident))
            else:
                times = (wire.parse_time(use_from), wire.parse_time(use_until), wire.parse_time(open_until))
                self._live[KeyId(ident)] = times

    def state(self, prekey: KeyId, created: datetime) -> PrekeyState:
        """Step R9: live for a message created then, gone, or never ours.

        The key's day bounds ``created``: a sender cannot choose a time that suits another agreement version, another
        day's quota or a signing key that has expired since.
        """
        if prekey in self._gone:
            return PrekeyState.GONE
        times = self._live.get(prekey)
        if times is None or not times[0] - MAX_CLOCK_SKEW <= created < times[1] + MAX_CLOCK_SKEW:
            return PrekeyState.UNKNOWN
        return PrekeyState.LIVE

    async def keep_house(self, now: datetime) -> None:
        """Publish what is needed for the days ahead, destroy what is over."""
        held = self.registry.prekeys.get(self.registry.me)
        # Not those that are gone: lost with a restored home, or destroyed by a clock that went wrong.
        entries = (
            [entry for entry in held.prekeys if entry.use_until > now and entry.key.id in self._live] if held else []
        )
        covered = {entry.use_from for entry in entries}
        days = [_midnight(now) + timedelta(days=ahead) for ahead in range(DAYS_AHEAD + 1)]
        if wanted := [day for day in days if day not in covered]:
            await self._publish(entries, wanted, 1 if held is None else held.serial + 1)
        over = [key for key, (_, _, until) in self._live.items() if now >= until]
        if over:
            await self._destroy(over)

    async def _publish(self, entries: list[Prekey], days: list[datetime], serial: int) -> None:
        """A bundle of what is there and a fresh key for each of ``days``."""
        fresh: list[Prekey] = []
        for day in days:
            until = day + timedelta(days=1)
            key = await self.secrets.new_prekey()
            fresh.append(Prekey(key, PrekeyClass.DAILY, day, until, until + OPEN_AFTER))
        bundle_entries = tuple(sorted(entries + fresh, key=lambda entry: entry.use_from))

        async def job(tx: Transaction) -> None:
            leaf = tx.reserve(Event.PREKEYS_PUBLISHED)
            payload = encode_prekeys(
                network=self.registry.network,
                node=self.registry.me,
                serial=serial,
                issued=tx.now,
                signing_key=self.secrets.bundle_key.id,
                prekeys=bundle_entries,
            )
            document = await tx.secrets.sign_bundle(leaf, DocumentType.PREKEYS, payload)
            data = encode_signed_document(document)
            tx.record(Event.PREKEYS_PUBLISHED, leaf, subject=document.digest())
            bundle = PrekeyBundle(
                self.registry.network, self.registry.me, serial, tx.now, bundle_entries, document.digest()
            )
            add_document(tx.changes, bundle, data, tx.now, own=True)
            for entry in fresh:
                times = (entry.use_from, entry.use_until, entry.open_until)
                tx.changes.add("put_prekey", entry.key.id, *map(wire.encode_time, times), 0)
            tx.after.append(lambda: self._keep(bundle, data))

        await self.ledger.do(job)

    def _keep(self, bundle: PrekeyBundle, data: bytes) -> None:
        self.registry.keep(bundle, data)
        for entry in bundle.prekeys:
            self._live.setdefault(entry.key.id, (entry.use_from, entry.use_until, entry.open_until))

    async def _destroy(self, keys: list[KeyId]) -> None:
        async def job(tx: Transaction) -> None:
            for key in keys:
                # First gone, then noted: a crash in between leaves a key that cannot be opened and is destroyed again.
                await tx.secrets.destroy_prekey(key)
                tx.record(Event.PREKEY_DESTROYED, subject=wire.Digest(key))
                tx.changes.add("put_prekey", key, *map(wire.encode_time, self._live[key]), 1)
            tx.after.append(lambda: self._forget(keys))

        await self.ledger.do(job)

    def _forget(self, keys: list[KeyId]) -> None:
        for key in keys:
            self._live.pop(key, None)
            self._gone.add(key)


def _midnight(moment: datetime) -> datetime:
    return datetime.combine(moment.astimezone(UTC).date(), time(), tzinfo=UTC)
