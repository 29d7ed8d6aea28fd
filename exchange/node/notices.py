"""Suspending, leaving and resuming agreements: our own notices and those of other parties, put into effect.

Implements docs/protocol.md section 8.5, L7 to L9.

Rules:
1. A notice, its log entry, what it gives back and refuses, and who has to be told are one transaction.
2. From that commit on nothing is sealed, sent or accepted under the agreement between nodes for which it stands still.
3. Our own notice is owed to every other party until it has said that it has it (node.pushing).
4. A peer's key alone can repeat a suspension for ever, and each is an entry of the log: it is taken once in a while.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from exchange.core.audit import Event, agreement_ref
from exchange.core.delivery import OPEN, Cancelled, State, Suspended
from exchange.core.errors import PeerError
from exchange.core.keys import Use
from exchange.core.suspensions import Action, Suspension, encode_suspension, verify_suspension
from exchange.core.wire import AgreementId, Digest, DocumentType, NodeId, encode_signed_document
from exchange.node.effects import Context, step
from exchange.node.records import id_list
from exchange.node.registry import add_document

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from exchange.core.agreements import Agreement
    from exchange.node.ledger import Ledger, Transaction
    from exchange.node.queues import Queues
    from exchange.node.registry import Registry
    from exchange.ports import Clock

EVENT_OF: Final = {
    Action.SUSPEND: Event.AGREEMENT_SUSPENDED,
    Action.LEAVE: Event.AGREEMENT_LEFT,
    Action.RESUME: Event.AGREEMENT_RESUMED,
}
REPEAT_PAUSE: Final = timedelta(minutes=10)  # between two notices of a peer's node that change nothing
CODE: Final = "agreement.suspended"


@dataclass(slots=True)
class Notices:
    """Issues our notices and takes those of others."""

    registry: Registry
    ledger: Ledger
    queues: Queues
    clock: Clock
    _repeated: dict[tuple[AgreementId, NodeId], datetime] = field(default_factory=dict)

    # -- our own

    def draft(self, agreement: str, action: Action, reason: Mapping[str, str], *, others_continue: bool) -> Suspension:
        """The next notice of this node about an agreement, for its authority to sign. Raises as ``issue``."""
        return self._next(agreement, action, reason, others_continue=others_continue, now=self.clock.now())

    async def issue(
        self, agreement: str, action: Action, reason: Mapping[str, str], *, others_continue: bool, actor: str
    ) -> Suspension:
        """Suspend or leave an agreement by this node's own key, from the commit on.

        Raises ``PeerError``: agreement.unknown, agreement.notice_stale (left already), key.threshold (only an authority
        resumes), key.unknown and key.expired (this node's card does not carry its key now).
        """

        async def job(tx: Transaction) -> Suspension:
            draft = self._next(
                agreement, action, reason, others_continue=others_continue, now=tx.now, pending=tuple(tx.notices)
            )
            card, key = self.registry.cards[self.registry.me], tx.secrets.envelope_key
            if action is Action.RESUME:
                raise PeerError("key.threshold", f"authority of {card.node}")
            card.signing_key(key.id, Use.ENVELOPE, draft.time)  # before a reservation: nothing may fail after it
            event = EVENT_OF[action]
            leaf = tx.reserve(event)
            document = await tx.secrets.sign(leaf, event, DocumentType.SUSPENSION, encode_suspension(draft))
            notice = verify_suspension(document, card)
            tx.record(event, leaf, **self._entry(notice, actor))
            await self._take_effect(tx, notice, encode_signed_document(document))
            return notice

        notice: Suspension = await self.ledger.do(job)
        return notice

    def _next(
        self,
        agreement: str,
        action: Action,
        reason: Mapping[str, str],
        *,
        others_continue: bool,
        now: datetime,
        pending: tuple[Suspension, ...] = (),
    ) -> Suspension:
        newest = self.registry.newest_notices(AgreementId(agreement), pending).get(self.registry.me)
        if not self.registry.versions_of(agreement):
            raise PeerError("agreement.unknown", "agreement")
        if newest is not None and newest.action is Action.LEAVE:
            raise PeerError("agreement.notice_stale", agreement)
        return Suspension(
            network=self.registry.network,
            agreement=AgreementId(agreement),
            party=self.registry.me,
            serial=1 if newest is None else newest.serial + 1,
            action=action,
            time=now.replace(microsecond=0),
            reason=dict(reason),
            others_continue=others_continue,
        )

    # -- anybody's

    async def install(self, data: bytes, actor: str) -> Suspension:
        """Take a signed notice, from a peer or from a file. Raises ``PeerError`` as ``Registry.check_notice``."""

        async def job(tx: Transaction) -> Suspension:
            notice = self.registry.check_notice(data, tx.now, tx.notices)
            if notice.digest in self.registry.bytes_of or tx.installs(notice.digest):
                return notice  # it came twice
            if actor == "peer":
                self._pace(notice, tx)
            tx.record(EVENT_OF[notice.action], **self._entry(notice, actor))
            await self._take_effect(tx, notice, data)
            return notice

        notice: Suspension = await self.ledger.do(job)
        return notice

    def _pace(self, notice: Suspension, tx: Transaction) -> None:
        """Rule 4. What its authority signed is never put off, nor what stops more than before."""
        held = self.registry.newest_notices(notice.agreement, tx.notices).get(notice.party)
        if notice.by_authority or held is None:
            return
        if held.action is not notice.action or (held.others_continue and not notice.others_continue):
            return
        key = (notice.agreement, notice.party)
        last = self._repeated.get(key)
        if last is not None and tx.now - last < REPEAT_PAUSE:
            raise PeerError("relay.busy", "document")
        self._repeated[key] = tx.now

    def _entry(self, notice: Suspension, actor: str) -> dict[str, Any]:
        newest = self.registry.versions_of(notice.agreement)[-1]
        return {
            "actor": actor,
            "peer": None if notice.party == self.registry.me else notice.party,
            "subject": notice.digest,
            "agreement": agreement_ref(newest.id, newest.version),
        }

    # -- what follows

    async def _take_effect(self, tx: Transaction, notice: Suspension, data: bytes) -> None:
        add_document(tx.changes, notice, data, tx.now)
        tx.notices.append(notice)
        tx.after.append(lambda: self.registry.keep(notice, data))
        versions = self.registry.versions_of(notice.agreement)
        if notice.party == self.registry.me:
            for peer in sorted({party.node for item in versions for party in item.parties} - {self.registry.me}):
                tx.changes.add("put_push", peer, notice.digest)
                tx.after.append(self.queues.queue(NodeId(peer)).documents.set)
        await self._give_back(tx, {item.digest: item for item in versions})
        await self._refuse_held(tx, versions)

    async def _give_back(self, tx: Transaction, versions: dict[Digest, Agreement]) -> None:
        """What waits, and what was sent and not answered, comes back to its officer; numbers taken are voided (L8).

        Duties stay: what was exchanged before can still be taken back, and its deletion still be told (8.6).
        """
        waiting: dict[NodeId, list[str]] = {}
        for peer, ident in await tx.store.read("outgoing_under", id_list(versions)):
            waiting.setdefault(peer, []).append(ident)
        for peer, idents in waiting.items():
            await tx.load_outgoing(peer, idents)
        # Also what this very transaction took from an officer, or answered: its rows are newer than the store's.
        for row in list(tx.outgoing.values()):
            record, agreement = row.record, versions.get(row.agreement)
            if agreement is None or row.duty is not None or record.status not in OPEN:
                continue
            if self.registry.standing(agreement, record.peer, tx.notices).serves:
                continue
            if record.digest is not None:
                tx.forget_send(record.digest)
            await step(
                tx, self.queues, State(tx.window(record.peer), outgoing=record), Cancelled(CODE, tx.now), Context()
            )

    async def _refuse_held(self, tx: Transaction, versions: list[Agreement]) -> None:
        """Messages that wait here for others were not committed yet, and will not be (L7); duties never wait so."""
        by_name = {agreement_ref(item.id, item.version): item for item in versions}
        for peer in sorted({party.node for item in versions for party in item.parties}):
            held = tx.held_of(peer)
            await tx.load_incoming(peer, [item.id for item in held])
            stopped: set[Digest] = set()
            for item in held:
                agreement = by_name.get(tx.incoming[peer, item.id][item.attempt].agreement or "")
                if agreement is not None and not self.registry.standing(agreement, peer, tx.notices).serves:
                    stopped.add(item.digest)
            if stopped:
                state = State(tx.window(peer), held=held)
                await step(tx, self.queues, state, Suspended(frozenset(stopped), tx.now), Context())
