"""Who will receive what, by which clause, and why not: the plan of a message before anything is sealed.

Implements docs/protocol.md sections 6.2 (S1) and 8.4 at the sender. Rule: the dry run and the sending use this one
plan, so that what an officer was shown is what happens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from exchange.core import wire
from exchange.core.agreements import MAX_APPROVALS, Approvals
from exchange.core.decision import Decision, Need, decide, decide_each
from exchange.core.duties import check_calendar, is_duty
from exchange.core.envelope import MAX_BLOBS, AgreementRef, BlobRef
from exchange.core.errors import PeerError
from exchange.core.gate import NO_APPROVALS, Header, make_exchange, read_header
from exchange.core.statement import (
    ATTACHMENTS,
    HEADER,
    MAX_STATEMENT_BYTES,
    SALT_BYTES,
    Part,
    Statement,
    encode_statement,
    make_part,
)
from exchange.node.explaining import duties_to_json, explain_decision, explain_withheld, find_duties
from exchange.node.subjects import find_duty

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from exchange.core.agreements import Agreement, Clause
    from exchange.core.decision import Exchange
    from exchange.core.duties import Duty
    from exchange.core.schemas import SchemaBook
    from exchange.core.suspensions import Standing, Suspension
    from exchange.core.wire import Digest, JsonObject, JsonValue, MessageId, NodeId
    from exchange.node.ledger import Transaction
    from exchange.node.registry import Registry

DEFAULT_RETENTION_DAYS: Final = 365
SUSPENDED_REACH: Final = 99  # beyond every condition of 8.3 and 8.4
APPROVAL_ROOM: Final = 1_024  # what one approval takes in a statement, and some more
ALL_APPROVALS: Final = Approvals(MAX_APPROVALS, MAX_APPROVALS)


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft that its schemas accepted, cut into parts; ``carried`` are parts of another node that travel as they are.

    ``parts`` are those that are there; ``carried`` also has those which their originator withheld.
    """

    id: MessageId
    header: JsonObject
    read: Header
    content: JsonObject
    parts: tuple[tuple[str, JsonValue], ...]
    blobs: tuple[BlobRef, ...]
    salts: tuple[bytes, ...]
    carried: tuple[Part, ...] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens for one recipient."""

    peer: NodeId
    decision: Decision
    agreement: Agreement | None
    withheld: tuple[str, ...]
    used: int = 0  # messages counted today against the clause that permits it
    approved: Approvals = NO_APPROVALS
    duty: Duty | None = None
    asks: Approvals = NO_APPROVALS  # what officers must have signed before it can leave


def read_draft(
    draft: JsonValue,
    attachments: Sequence[JsonObject],
    recipients: Sequence[NodeId],
    *,
    book: SchemaBook,
    registry: Registry,
    now: datetime,
    random: Callable[[int], bytes],
) -> Draft:
    """Read what an officer wrote. Raises ``PeerError``: schema.*, wire.*, blob.too_large."""
    if len(attachments) > MAX_BLOBS:
        raise PeerError("agreement.blobs", f"at most {MAX_BLOBS} files")
    schema, cut = book.cut_draft(draft, len(attachments))
    fields = wire.Fields(draft, "draft")
    content = fields.any("content")
    if not isinstance(content, dict):
        raise PeerError("wire.bad_type", "draft.content")
    check_calendar(schema.split("/")[0], content)
    parts = list(cut)
    if attachments:
        book.validate_attachments(list(attachments))
        parts.append((ATTACHMENTS, list(attachments)))
    handling = fields.any("handling")
    header: JsonObject = {
        "network": registry.network,
        "kind": fields.text("kind"),
        "schema": schema,
        "schema_digest": book.digest(schema),
        "id": random(16).hex(),
        "from": registry.me,
        "to": list(recipients),
        "written": wire.encode_time(now),
        "case": fields.text("case"),
        "in_reply_to": fields.optional_text("in_reply_to"),
        "refers_to": list(fields.texts("refers_to", high=32)) if fields.has("refers_to") else [],
        "purpose": fields.text("purpose"),
        "handling": handling if isinstance(handling, list) else [handling],
        "tlp": fields.text("tlp"),
        "retention": fields.integer("retention_days") if fields.has("retention_days") else DEFAULT_RETENTION_DAYS,
        "onward": fields.optional_text("onward") or "never",
        "urgency": fields.optional_text("urgency") or "normal_7d",
        "language": fields.optional_text("language") or "en",
        "parts": [name for name, _ in parts],
        "attachments": len(attachments),
    }
    for optional in ("legal_basis", "grading", "assurances"):
        if fields.has(optional):
            header[optional] = fields.any(optional)
    fields.done()
    read = read_header(header, book)
    drawn = random(SALT_BYTES * (len(parts) + 1))
    salts = tuple(drawn[at : at + SALT_BYTES] for at in range(0, len(drawn), SALT_BYTES))
    return Draft(read.id, header, read, content, tuple(parts), blob_refs(attachments), salts)


def for_recipients(draft: Draft, left: tuple[NodeId, ...]) -> Draft:
    """The draft for these alone: nobody learns who else was named and got nothing."""
    if left == draft.read.recipients:
        return draft
    return replace(draft, header={**draft.header, "to": list(left)}, read=replace(draft.read, recipients=left))


def blob_refs(attachments: Sequence[JsonObject]) -> tuple[BlobRef, ...]:
    """What an envelope names of its evidence."""
    described = [wire.Fields(item["blob"], "attachment.blob") for item in attachments]
    return tuple(BlobRef(blob.digest("h"), blob.integer("len")) for blob in described)


class Variants:
    """A draft as each clause would let the recipient have it: whole, or without the parts that the clause withholds."""

    def __init__(
        self, draft: Draft, peer: NodeId, now: datetime, book: SchemaBook, approved: Approvals = NO_APPROVALS
    ) -> None:
        self._draft, self._peer, self._now, self._book = draft, peer, now, book
        self.approved = approved
        self._names = tuple(name for name, _ in draft.parts)
        self._made: dict[tuple[str, ...], Exchange] = {}
        self._named: dict[tuple[tuple[str, ...], str], Exchange] = {}
        self.whole = self._make(())

    @property
    def kind(self) -> str:
        """The kind of the draft."""
        return self._draft.read.kind

    def withheld(self, clause: Clause) -> tuple[str, ...]:
        """What the clause takes out of this draft."""
        return tuple([name for name in clause.withhold if name in self._names]) if clause.withhold else ()

    def of(self, clause: Clause) -> Exchange:
        """What rules judge where this clause is relied on."""
        withheld = self.withheld(clause)
        if not withheld:
            return self.whole
        found = self._named.get((withheld, clause.id))
        if found is None:
            if withheld not in self._made:
                self._made[withheld] = self._make(withheld)
            named = tuple((name, clause.id) for name in withheld)
            found = self._named[withheld, clause.id] = replace(self._made[withheld], withheld=named)
        return found

    def _make(self, withheld: tuple[str, ...]) -> Exchange:
        draft = self._draft
        present = tuple(name for name in self._names if name not in withheld)
        blobs = () if ATTACHMENTS in withheld else draft.blobs
        content = draft.content
        if withheld:
            left = {name: value for name, value in draft.parts if name in present}
            content = self._book.join(draft.read.schema, left, draft.read.attachments)
        return make_exchange(draft.read, self._peer, self._now, content, (), present, blobs, self.approved)


async def make_plan(tx: Transaction, registry: Registry, book: SchemaBook, draft: Draft, peer: NodeId) -> Plan:
    """Judge a draft for one recipient: the first agreement and clause that permit it, else the nearest refusal.

    A duty message has no choice: it passes under what the message it is about passed under.
    """
    card = registry.cards.get(peer)
    if card is None:
        return Plan(peer, _refusal("card.unknown", peer), None, ())
    if peer in registry.blocked:
        return Plan(peer, _refusal("envelope.blocked", peer), None, ())
    if is_duty(draft.read.kind):
        return await _plan_duty(tx, registry, draft, peer)
    variants, day = Variants(draft, peer, tx.now, book), tx.now.date().isoformat()
    routes = registry.routes(peer, draft.read.kind)
    used = {
        agreement.digest: await tx.used_today(agreement.digest, registry.me, day)
        for agreement in routes
        if any(clause.quota_per_day is not None for clause in agreement.clauses_for(draft.read.kind))
    }
    plan = choose(registry, peer, variants, used, tx.notices)
    if not plan.decision.allowed and registry.officers_of(registry.me) is not None:
        # Nothing permits it as it is: approvals are what may still come. Then the first clause that would permit it.
        signed = choose(registry, peer, Variants(draft, peer, tx.now, book, ALL_APPROVALS), used, tx.notices)
        clause = None if signed.agreement is None else signed.agreement.clause(signed.decision.clause)
        asks = clause.approvals if clause is not None and signed.decision.allowed else NO_APPROVALS
        plan = replace(signed, approved=NO_APPROVALS, asks=asks)
    if plan.decision.allowed and draft.read.schema not in card.accepts:  # only the recipient's program has to change
        refused = _refusal("schema.unknown", peer)
        refused = replace(refused, agreement=plan.decision.agreement, version=plan.decision.version)
        return Plan(peer, refused, plan.agreement, ())
    return plan


async def _plan_duty(tx: Transaction, registry: Registry, draft: Draft, peer: NodeId) -> Plan:
    # Duties are part of the protocol: what a card says that its node accepts does not free it from hearing them.
    try:
        duty = await find_duty(tx, draft.read, peer)
    except PeerError as error:
        return Plan(peer, _refusal(error.code, error.where), None, ())
    agreement = None if duty is None else registry.agreements.get(duty.agreement)
    if agreement is None:
        return Plan(peer, _refusal("agreement.unknown", peer), None, ())
    exchange = replace(make_exchange(draft.read, peer, tx.now, draft.content, (), (), draft.blobs), duty=duty)
    return Plan(peer, decide(agreement, exchange, {}), agreement, (), duty=duty)


def choose(
    registry: Registry,
    peer: NodeId,
    variants: Variants,
    used: Mapping[Digest, Mapping[str, int]],
    pending: Sequence[Suspension] = (),
) -> Plan:
    """The first agreement and clause that permit, else the nearest refusal; ``used`` has those with a quota.

    ``pending`` are the notices about agreements that are being committed.
    """

    def stands(agreement: Agreement) -> Standing:
        return registry.standing(agreement, peer, pending)

    nearest = _choose(registry.routes(peer, variants.kind), peer, variants, used, stands)
    if nearest is not None and (nearest.decision.allowed or nearest.decision.reach >= 0):
        return nearest
    # No agreement in force has a clause for the kind: each is asked, so that the nearest reason is told.
    served = [registry.serving(held.digest) for held in registry.agreements_with(peer)]
    nearest = _choose([item for item in served if item is not None], peer, variants, used, stands)
    if nearest is not None:
        return nearest
    return Plan(peer, _refusal("agreement.unknown", f"{registry.me} and {peer}"), None, ())


def _choose(
    agreements: Sequence[Agreement],
    peer: NodeId,
    variants: Variants,
    used: Mapping[Digest, Mapping[str, int]],
    stands: Callable[[Agreement], Standing],
) -> Plan | None:
    nearest: Plan | None = None
    for agreement in agreements:
        counted = used.get(agreement.digest, {})
        decision = decide_each(agreement, variants.whole, variants.of, counted)
        if decision.allowed:
            decision = stop_suspended(decision, stands(agreement))
        if decision.allowed:
            clause = agreement.clause(decision.clause)
            withheld = () if clause is None else variants.withheld(clause)
            return Plan(peer, decision, agreement, withheld, counted.get(decision.clause or "", 0), variants.approved)
        if nearest is None or decision.reach > nearest.decision.reach:
            nearest = Plan(peer, decision, agreement, (), approved=variants.approved)
    return nearest


def stop_suspended(decision: Decision, standing: Standing) -> Decision:
    """A permit under an agreement that stands still is none: nearer than any other refusal, for only that must end."""
    if not decision.allowed or standing.serves:
        return decision
    code, reason = "agreement.suspended", f"{standing.state} by {standing.by}"
    needs = (Need(code, reason),)
    return replace(decision, allowed=False, code=code, reason=reason, reach=SUSPENDED_REACH, needs=needs)


def _refusal(code: str, what: str) -> Decision:
    """A no before any agreement was looked at."""
    return Decision(False, None, None, None, code, what, needs=(Need(code, what),))  # noqa: FBT003


def state_for(draft: Draft, plan: Plan) -> Statement:
    """The statement for one recipient: the same parts and root for all, with what its clause withholds taken out."""
    values = ((HEADER, draft.header), *(() if draft.carried is not None else draft.parts))
    parts = tuple(make_part(value, salt) for (_, value), salt in zip(values, draft.salts, strict=True))
    statement = Statement(_digest(plan), plan.decision.clause or "", (*parts, *(draft.carried or ())))
    for index, name in enumerate(draft.read.parts, start=1):
        if name in plan.withheld:
            statement = statement.withhold(index, statement.clause)
    return statement


def encode_variant(draft: Draft, plan: Plan) -> tuple[Statement, bytes]:
    """``state_for`` and its exact bytes. Raises ``PeerError`` wire.too_large: its recipient could not read it."""
    statement = state_for(draft, plan)
    encoded = encode_statement(statement)
    signed = len(encoded) + APPROVAL_ROOM * (plan.asks.count + 1 if plan.asks.count else 0)
    if signed > MAX_STATEMENT_BYTES:
        raise PeerError("wire.too_large", f"sealed {signed} bytes, at most {MAX_STATEMENT_BYTES}")
    return statement, encoded


def _digest(plan: Plan) -> Digest:
    if plan.agreement is None:
        raise plan.decision.refuse()
    return plan.agreement.digest


def agreement_reference(agreement: Agreement) -> AgreementRef:
    """How an envelope names the agreement."""
    return AgreementRef(agreement.id, agreement.version, agreement.digest)


def plan_to_json(plan: Plan, draft: Draft, book: SchemaBook) -> JsonObject:
    """A plan as the dry run prints it."""
    decision = plan.decision
    clause = None if plan.agreement is None else plan.agreement.clause(decision.clause)
    return {
        "to": plan.peer,
        "allowed": decision.allowed,
        "agreement": None if decision.agreement is None else f"{decision.agreement}/{decision.version}",
        "clause": decision.clause,
        "code": decision.code,
        "reason": decision.reason,
        "parts": [name for name, _ in draft.parts if name not in plan.withheld],
        "withheld": list(plan.withheld),
        "quota": _quota(plan),
        "withheld_fields": explain_withheld(plan.withheld, decision, draft.read, book),
        **explain_decision(decision),
        "duties": None if clause is None else duties_to_json(find_duties(clause, draft.read, plan.approved)),
    }


def _quota(plan: Plan) -> JsonObject | None:
    """How much of the day's quota is used, where the clause that permits has one."""
    clause = plan.agreement.clause(plan.decision.clause) if plan.decision.allowed and plan.agreement else None
    if clause is None or clause.quota_per_day is None:
        return None
    return {"used": plan.used, "per_day": clause.quota_per_day}
