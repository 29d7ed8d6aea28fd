"""Approvals at the node of those who give them: what a statement waits for, and what comes of a signature.

Implements docs/protocol.md section 5.5, the sender's side.

Rules:
1. A statement whose clause asks for approvals waits unsealed until they are there, for all of its recipients at once:
   it is one decision. What waits lies in a box under its case's key, its approvals with it.
2. Who submitted a message signs as its proposer and is refused as its approver.
3. An approval is an entry of the log in the transaction that stores it; the last one seals in the same transaction.
4. Only what is still asked for is taken, so that what is sent carries no more names of keys than its clause wants.

What it does not do: show or sign (exchange.cli.approving), or judge clauses (core.decision).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from exchange.core.agreements import Approvals
from exchange.core.approvals import PROPOSER, Approval, count_approvals, verify_approval
from exchange.core.audit import Event
from exchange.core.delivery import Status
from exchange.core.errors import LocalError, PeerError
from exchange.core.gate import NO_APPROVALS, read_header
from exchange.core.officers import Role
from exchange.core.statement import Statement, encode_statement, parse_statement
from exchange.core.wire import encode_base64, encode_time
from exchange.node.records import outgoing_from_row
from exchange.node.roles import pseudonym

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from exchange.core.officers import OfficerList
    from exchange.core.schemas import SchemaBook
    from exchange.core.wire import JsonObject, JsonValue, NodeId
    from exchange.node.ledger import Ledger, Transaction
    from exchange.node.records import OutgoingRow
    from exchange.node.registry import Registry
    from exchange.node.roles import Actor
    from exchange.node.sending import Sender
    from exchange.ports import Clock, Secrets


@dataclass(frozen=True, slots=True)
class Given:
    """The approvals of a statement that count now, and what they amount to."""

    texts: tuple[str, ...] = ()
    approvals: tuple[Approval, ...] = ()
    counted: Approvals = NO_APPROVALS

    @property
    def is_proposed(self) -> bool:
        """Whether the proposer has signed."""
        return any(approval.role == PROPOSER for approval in self.approvals)


def given_approvals(statement: Statement, listed: OfficerList | None, now: datetime) -> Given:
    """What counts of a statement's approvals under the list in force; who left it, and what is over, does not."""
    if listed is None:
        return Given()
    good: list[tuple[str, Approval]] = []
    for text in statement.approvals:
        with suppress(PeerError):
            good.append((text, verify_approval(text, listed, statement.root, now)))
    approvals = tuple(approval for _, approval in good)
    counted = NO_APPROVALS
    with suppress(PeerError):  # the proposer's own is not there yet
        counted = count_approvals(approvals)
    return Given(tuple(text for text, _ in good), approvals, counted)


def _is_waiting(row: OutgoingRow) -> bool:
    """Whether approvals are what keeps it: one that came back to its officer in the meantime waits for nothing."""
    return row.waits and row.record.status is Status.QUEUED and row.draft is not None


def still_missing(asked: Approvals, given: Given) -> Approvals:
    """How many approvals are missing, and how many of these must be a supervisor's."""
    roles = [approval.role for approval in given.approvals if approval.role != PROPOSER]
    supervisors = max(0, asked.supervisors - roles.count(Role.SUPERVISOR.value))
    return Approvals(max(supervisors, asked.count - len(roles)), supervisors)


class Approving:
    """Takes approvals for messages that wait for them."""

    def __init__(
        self, registry: Registry, book: SchemaBook, ledger: Ledger, sender: Sender, secrets: Secrets, clock: Clock
    ) -> None:
        self._registry = registry
        self._book = book
        self._ledger = ledger
        self._sender = sender
        self._secrets = secrets
        self._clock = clock

    # -- what waits

    async def _waiting(self, ident: str) -> list[tuple[OutgoingRow, Statement]]:
        """The records of a message that waits, by recipient. Raises input.unknown_id, officers.not_asked."""
        rows = [outgoing_from_row(raw) for raw in await self._ledger.store.read("outgoing_by_id", ident)]
        if not rows:
            raise LocalError("input.unknown_id")
        found: list[tuple[OutgoingRow, Statement]] = []
        for row in rows:
            if _is_waiting(row):
                keys = await self._ledger.store.read("case_key", row.case_id)
                if not keys:
                    raise LocalError("input.erased")
                self._secrets.learn_case_key(row.case_id, keys[0][0])
                found.append((row, self._read(row)))
        if not found:
            raise PeerError("officers.not_asked", "no approval is missing")
        return found

    def _read(self, row: OutgoingRow) -> Statement:
        return parse_statement(self._secrets.unwrap(row.case_id, row.draft or b"", f"draft {row.record.id}"))

    def _asked(self, waiting: Sequence[tuple[OutgoingRow, Statement]]) -> Approvals:
        """The most that the clauses of the recipients ask for."""
        asked = [self._asked_for(row.record.peer, statement) for row, statement in waiting]
        return Approvals(max(item.count for item in asked), max(item.supervisors for item in asked))

    def _asked_for(self, peer: NodeId, statement: Statement) -> Approvals:
        """What the clause asks for in the version that serves now, as sealing will judge."""
        relied = self._registry.agreements.get(statement.agreement)
        for installed in self._registry.agreements_with(peer):
            serving = self._registry.serving(installed.digest)
            clause = None if serving is None else serving.clause(statement.clause)
            same = relied is not None and installed.id == relied.id
            if same and serving is not None and clause is not None and serving.is_in_force(self._clock.now()):
                return clause.approvals
        return NO_APPROVALS

    async def state(self, ident: str) -> JsonObject:
        """What a message waits for: {proposer, asked, given[], missing}."""
        return self._state(await self._waiting(ident))

    def _state(self, waiting: Sequence[tuple[OutgoingRow, Statement]]) -> JsonObject:
        row, statement = waiting[0]
        given = given_approvals(statement, self._registry.officers_of(self._registry.me), self._clock.now())
        asked = self._asked(waiting)
        missing = still_missing(asked, given)
        signed: list[JsonValue] = [
            {
                "officer": pseudonym(approval.officer),
                "role": approval.role,
                "time": encode_time(approval.time),
                "until": encode_time(approval.until),
            }
            for approval in given.approvals
        ]
        return {
            "proposer": None if row.proposer is None else pseudonym(row.proposer),
            "asked": {"count": asked.count, "supervisors": asked.supervisors},
            "given": signed,
            "missing": {
                "count": missing.count,
                "supervisors": missing.supervisors,
                "proposer": not given.is_proposed,
            },
        }

    async def proposal(self, ident: str) -> JsonObject:
        """All that an officer looks at before signing, with the salts: they compute for themselves what the root is of.

        {id, network, root, header, names[], parts[], recipients[]} and ``state``. A part that no recipient gets is
        there by its digest.
        """
        waiting = await self._waiting(ident)
        statements = [statement for _, statement in waiting]
        parts: list[JsonValue] = []
        for variants in zip(*(statement.parts for statement in statements), strict=True):
            part = next((item for item in variants if item.text is not None), variants[0])
            if part.text is None:
                parts.append({"digest": part.digest, "clause": part.clause})
            else:
                parts.append({"salt": encode_base64(part.salt), "json": part.text})
        header = read_header(statements[0].header(), self._book)
        recipients: list[JsonValue] = [
            {
                "to": row.record.peer,
                "clause": statement.clause,
                "withheld": [
                    name for name, part in zip(header.parts, statement.parts[1:], strict=True) if part.text is None
                ],
            }
            for row, statement in waiting
        ]
        return {
            "id": ident,
            "network": self._registry.network,
            "root": statements[0].root,
            "header": statements[0].header(),
            "names": [*header.parts],
            "parts": parts,
            "recipients": recipients,
            **self._state(waiting),
        }

    # -- what comes

    async def approve(self, ident: str, text: str, actor: Actor) -> JsonObject:
        """Attach an officer's approval; the last one that was missing lets the message go.

        Raises ``PeerError``: officers.not_asked, officers.proposer, officers.twice, officers.act, envelope.approval.
        """
        peers = [row.record.peer for row, _ in await self._waiting(ident)]

        async def job(tx: Transaction) -> JsonObject:
            waiting: list[tuple[OutgoingRow, Statement]] = []
            for peer in peers:
                await tx.load_outgoing(peer, [ident])
                row = tx.outgoing[peer, ident]
                if _is_waiting(row):
                    waiting.append((row, self._read(row)))
            if not waiting:
                raise PeerError("officers.not_asked", "no approval is missing")
            approval, given = self._check(waiting, text, actor, tx.now)
            statement = waiting[0][1]
            tx.record(
                Event.APPROVED,
                actor=actor.name,
                subject=approval.digest,
                commitment=statement.parts[0].digest,
            )
            approved: list[tuple[OutgoingRow, Statement]] = []
            for row, variant in waiting:
                signed = replace(variant, approvals=(*given.texts, text))
                draft = tx.secrets.wrap(row.case_id, encode_statement(signed), f"draft {ident}")
                approved.append((row._replace(draft=draft), signed))
                tx.put_outgoing(approved[-1][0])
            state = self._state(approved)
            if state["missing"] == {"count": 0, "supervisors": 0, "proposer": False}:
                for row, _ in approved:
                    tx.put_outgoing(row._replace(waits=False))
                header = read_header(statement.header(), self._book)
                await self._sender.seal_approved(tx, [row.record.peer for row, _ in approved], header)
            return {"id": ident, **state}

        result: JsonObject = await self._ledger.do(job)
        return result

    def _check(
        self, waiting: Sequence[tuple[OutgoingRow, Statement]], text: str, actor: Actor, now: datetime
    ) -> tuple[Approval, Given]:
        """Whether the approval is that of the actor, holds, and is one of those that are missing."""
        row, statement = waiting[0]
        listed = self._registry.officers_of(self._registry.me)
        if listed is None:
            raise PeerError("officers.not_listed", self._registry.me)
        approval = verify_approval(text, listed, statement.root, now)
        if actor.officer is None or actor.officer.key.id != approval.officer:
            raise PeerError("officers.act", "approval.officer")
        if (approval.role == PROPOSER) is not (approval.officer == row.proposer):
            raise PeerError("officers.proposer", "approval.role")
        given = given_approvals(statement, listed, now)
        if approval.officer in {other.officer for other in given.approvals}:
            raise PeerError("officers.twice", "approval.officer")
        missing = still_missing(self._asked(waiting), given)
        is_supervisor = approval.role == Role.SUPERVISOR.value
        if approval.role != PROPOSER and missing.count <= (0 if is_supervisor else missing.supervisors):
            raise PeerError("officers.not_asked", "approval.role")
        return approval, given
