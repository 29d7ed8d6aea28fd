"""The one gate: where a signed envelope becomes a message that the rest of the node may trust.

Implements docs/protocol.md section 7.1, steps R8, R9 and R11 to R19.

Rules:
1. ``UnverifiedEnvelope`` -> ``SignedEnvelope`` (core.envelope) -> ``Message`` (here). Nothing downstream checks
   again, nothing upstream trusts.
2. The order of the steps is the order of the lines. A refusal carries the code of its step; from R6 on it is
   final and signed, save the transient ones.
3. What the envelope says outside, the statement must say inside: network, id, parties, agreement, evidence.
4. The clause is the one the statement relies on, judged by the same ``decide`` as at the sender.
5. What a statement is about is known once it is read, so reading (R10 to R17) and permitting (R19) are two steps:
   between them the caller looks up what a duty message is about (``core.duties``).

What it does not do: look anything up. The caller passes what it holds as ``Reception``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, cast

from exchange.core import wire
from exchange.core.agreements import Approvals
from exchange.core.approvals import verify_approvals
from exchange.core.decision import Decision, Exchange, decide
from exchange.core.duties import Claim, check_calendar
from exchange.core.envelope import BlobRef, Core, SignedEnvelope, check_times, open_body
from exchange.core.errors import PeerError
from exchange.core.onward import Origin, check_origin, read_origin
from exchange.core.statement import ATTACHMENTS, Statement, parse_statement
from exchange.core.wire import Digest, JsonObject, JsonValue, MessageId, NodeId, SchemaId

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from exchange.core.agreements import Agreement
    from exchange.core.duties import Duty
    from exchange.core.officers import OfficerList
    from exchange.core.schemas import SchemaBook

NO_APPROVALS: Final = Approvals(0, 0)
LANE_OF_URGENCY: Final = {"urgent_8h": "alert", "urgent_3d": "normal", "normal_7d": "normal"}


class PrekeyState(Enum):
    """What became of a prekey of ours; one that does not serve ``created`` is unknown for this message."""

    LIVE = "live"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Reception:
    """What the receiver holds that the steps need: its own looking-up, done before the gate."""

    book: SchemaBook
    agreement: Agreement | None
    rival: bool  # another agreement of the same id and version is installed
    prekey: PrekeyState
    used_today: Mapping[str, int]
    now: datetime
    officers: OfficerList | None = None  # the list of the sender that the core names
    superseded: bool = False  # a later list of the sender is held


@dataclass(frozen=True, slots=True)
class Assurances:
    """What the sender states beside the content, because a clause may ask for it."""

    checks: frozenset[str]
    dual_criminality: bool
    child_safeguards: bool


@dataclass(frozen=True, slots=True)
class Header:
    """Part 0, read: what every rule and every listing goes by."""

    kind: str
    schema: SchemaId
    id: MessageId
    sender: NodeId
    recipients: tuple[NodeId, ...]
    case: str
    in_reply_to: MessageId | None
    refers_to: tuple[MessageId, ...]
    purpose: str
    handling: frozenset[str]
    tlp: str
    urgency: str
    onward: str
    retention_days: int
    parts: tuple[str, ...]
    network: str
    schema_digest: Digest
    attachments: int
    assured: Assurances
    origin: Origin | None = None

    @property
    def references(self) -> tuple[MessageId, ...]:
        """Every message this one refers to, the one it replies to first."""
        reply = () if self.in_reply_to is None else (self.in_reply_to,)
        return tuple(dict.fromkeys((*reply, *self.refers_to)))

    @property
    def claim(self) -> Claim:
        """What a duty message says of itself."""
        return Claim(self.kind, self.refers_to, self.in_reply_to, self.attachments)


@dataclass(frozen=True, slots=True)
class Opened:
    """A statement that was read and holds together (R10 to R17); whether it may pass is still to be judged."""

    core: Core
    statement: Statement
    header: Header
    content: JsonObject
    attachments: tuple[JsonObject, ...]
    withheld: tuple[tuple[str, str], ...]
    approved: Approvals
    digest: Digest


@dataclass(frozen=True, slots=True)
class Message:
    """A statement that passed every check, with what it was carried by."""

    core: Core
    statement: Statement
    header: Header
    content: JsonObject
    attachments: tuple[JsonObject, ...]
    decision: Decision
    digest: Digest
    duty: Duty | None = None

    @property
    def commitment(self) -> Digest:
        """The salted digest of part 0: what the leaves of both logs commit to."""
        return self.statement.parts[0].digest


def check_route(envelope: SignedEnvelope, reception: Reception) -> Agreement:
    """Steps R7 to R9: times, agreement, officer list, prekey. Returns the agreement that serves.

    Raises ``PeerError`` with the code of the step.
    """
    core = envelope.core
    check_times(core, reception.now)
    agreement = reception.agreement
    if agreement is None:
        # Another document under the same id and version will not become right by waiting.
        raise PeerError("agreement.digest" if reception.rival else "agreement.unknown", "R8")
    if agreement.id != core.agreement.id or agreement.version != core.agreement.version:
        raise PeerError("agreement.digest", "R8")
    if not agreement.names(core.sender, core.recipient):
        raise PeerError("agreement.not_party", "R8")
    if core.created < agreement.valid_from:
        raise PeerError("agreement.not_in_force", "R8")  # whether it is over is asked in R19: a duty still passes
    if core.officers is not None:
        # Before anything is opened: what is unknown here will be told, and nothing is ever opened twice.
        if reception.officers is None or reception.officers.node != core.sender:
            raise PeerError("officers.unknown", "R8")
        if reception.superseded:
            raise PeerError("officers.superseded", "R8")
    if reception.prekey is PrekeyState.UNKNOWN:
        raise PeerError("envelope.prekey_unknown", "R9")
    if reception.prekey is PrekeyState.GONE:
        raise PeerError("envelope.prekey_gone", "R9")
    return agreement


def read_header(value: JsonObject, book: SchemaBook) -> Header:
    """Read part 0. Raises ``PeerError``: schema.invalid, schema.code."""
    book.validate_header(value)
    # The schema has settled every member's presence and form, so they are taken as they are; whole numbers alone are
    # looked at again, because to JSON Schema 1.0 is one.
    fields = cast("dict[str, Any]", value)
    assured = fields.get("assurances", {})
    whole = wire.Fields({"retention": fields["retention"], "attachments": fields["attachments"]}, "header")
    return Header(
        kind=fields["kind"],
        schema=SchemaId(fields["schema"]),
        id=MessageId(fields["id"]),
        sender=NodeId(fields["from"]),
        recipients=tuple(fields["to"]),
        case=fields["case"],
        in_reply_to=fields["in_reply_to"],
        refers_to=tuple(fields["refers_to"]),
        purpose=fields["purpose"],
        handling=frozenset(fields["handling"]),
        tlp=fields["tlp"],
        urgency=fields["urgency"],
        onward=fields["onward"],
        retention_days=whole.integer("retention"),
        parts=tuple(fields["parts"]),
        network=fields["network"],
        schema_digest=Digest(fields["schema_digest"]),
        attachments=whole.integer("attachments"),
        assured=Assurances(
            checks=frozenset(assured.get("checks", ())),
            dual_criminality="dual_criminality" in assured,
            child_safeguards="child_safeguards" in assured,
        ),
        origin=read_origin(value),
    )


def consent_recorded(content: JsonValue) -> bool:
    """Whether every victim in the content has a recorded consent or a named lawful exception."""
    entities = content.get("entities") if isinstance(content, dict) else None
    if not isinstance(entities, list):
        return False
    for entity in entities:
        if not isinstance(entity, dict):
            return False
        roles = entity.get("roles")
        is_victim = isinstance(roles, list) and "victim" in roles
        if is_victim and not (entity.get("consent") or entity.get("consent_exception")):
            return False
    return True


def may_name_child(content: JsonValue) -> bool:
    """Whether a person of the content is a child, or may be: the age group is unknown, or not given for a victim.

    Age groups are never in a part that can be withheld, so both ends look at the same.
    """
    entities = content.get("entities") if isinstance(content, dict) else None
    for entity in entities if isinstance(entities, list) else ():
        if not isinstance(entity, dict):
            continue
        group, roles = entity.get("age_group"), entity.get("roles")
        unsaid = group is None and isinstance(roles, list) and "victim" in roles
        if group in {"child", "unknown"} or unsaid:
            return True
    return False


def make_exchange(
    header: Header,
    recipient: NodeId,
    created: datetime,
    content: JsonValue,
    withheld: tuple[tuple[str, str], ...],
    present: tuple[str, ...],
    blobs: tuple[BlobRef, ...],
    approved: Approvals = NO_APPROVALS,
) -> Exchange:
    """The view of a message that agreements judge: one function for both ends.

    ``approved`` counts the officers whose approvals the caller has verified.
    """
    # What an originator withheld from who forwards it, no clause between these two can ask for.
    absent = () if header.origin is None else header.origin.withheld
    return Exchange(
        sender=header.sender,
        recipient=recipient,
        kind=header.kind,
        purpose=header.purpose,
        handling=header.handling,
        tlp=header.tlp,
        urgency=header.urgency,
        onward=header.onward,
        retention_days=header.retention_days,
        created=created,
        content=content,
        withheld=tuple(pair for pair in withheld if pair[0] not in absent),
        present=present,
        blob_count=len(blobs),
        blob_bytes=sum(blob.length for blob in blobs),
        consent=consent_recorded(content),
        checks=header.assured.checks,
        dual_criminality=header.assured.dual_criminality,
        child_safeguards=header.assured.child_safeguards,
        child=may_name_child(content),
        approvals=approved.count,
        supervisors=approved.supervisors,
    )


def _check_inner(core: Core, statement: Statement, header: Header) -> None:
    """Step R15: the inside repeats what the outside says."""
    same = (
        header.network == core.network
        and header.id == core.id
        and header.sender == core.sender
        and core.recipient in header.recipients
        and statement.agreement == core.agreement.digest
        and LANE_OF_URGENCY[header.urgency] == core.lane
        and header.schema == f"{header.kind}/{header.schema.rpartition('/')[2]}"
        and len(header.parts) == len(statement.parts) - 1
    )
    if not same:
        raise PeerError("envelope.inner", "R15")
    if header.origin is not None:
        check_origin(statement, header.parts, header.sender, header.onward, header.origin)


def _read_parts(
    statement: Statement, header: Header, book: SchemaBook
) -> tuple[JsonObject, tuple[JsonObject, ...], tuple[tuple[str, str], ...]]:
    """Step R17: every part that is there is valid by its own piece of the schema; then content is put together."""
    if header.schema_digest != book.digest(header.schema):
        raise PeerError("schema.digest", "R17")
    book.check_parts(header.schema, header.parts, header.attachments)
    values: dict[str, JsonValue] = {}
    withheld: list[tuple[str, str]] = []
    attachments: tuple[JsonObject, ...] = ()
    for name, part in zip(header.parts, statement.parts[1:], strict=True):
        if part.text is None:
            withheld.append((name, part.clause or ""))
            continue
        values[name] = value = part.value(name)
        if name == ATTACHMENTS:
            attachments = book.validate_attachments(value)
        else:
            book.validate_part(header.schema, name, value)
    content = book.join(header.schema, values, header.attachments)
    check_calendar(header.kind, content)
    return content, attachments, tuple(withheld)


def _check_blobs(core: Core, attachments: tuple[JsonObject, ...]) -> None:
    """Step R15, the evidence: what travels beside the envelope is what the statement describes, in order."""
    described: list[BlobRef] = []
    for attachment in attachments:
        blob = wire.Fields(attachment["blob"], "attachment.blob")
        described.append(BlobRef(blob.digest("h"), blob.integer("len")))
    if tuple(described) != core.blobs:
        raise PeerError("envelope.inner", "R15 blobs")


def read_message(envelope: SignedEnvelope, cek: bytes | None, reception: Reception) -> Opened:
    """Steps R10 to R17. ``cek`` is the content key that the key holder opened, None where it could not.

    Raises ``PeerError``.
    """
    if cek is None:
        raise PeerError("envelope.open", "R10")
    core = envelope.core
    statement = parse_statement(open_body(envelope, cek))
    header = read_header(statement.header(), reception.book)
    _check_inner(core, statement, header)
    listed = None if core.officers is None else reception.officers
    approved = verify_approvals(statement.approvals, listed, statement.root, core.created)
    content, attachments, withheld = _read_parts(statement, header, reception.book)
    _check_blobs(core, attachments)
    return Opened(core, statement, header, content, attachments, withheld, approved, envelope.digest)


def permit(opened: Opened, agreement: Agreement, reception: Reception, duty: Duty | None) -> Message:
    """Step R19 (R18, references, needs the store and is core.relay's). ``agreement`` is what ``check_route`` returned.

    ``duty`` is what the caller found for a duty message, None for every other. Raises ``PeerError``.
    """
    core, header, withheld = opened.core, opened.header, opened.withheld
    present = tuple(name for name in header.parts if name not in dict(withheld))
    exchange = make_exchange(
        header, core.recipient, core.created, opened.content, withheld, present, core.blobs, opened.approved
    )
    if duty is not None:
        exchange = replace(exchange, duty=duty)
    decision = decide(agreement, exchange, reception.used_today, opened.statement.clause)
    if not decision.allowed:
        raise decision.refuse()
    return Message(core, opened.statement, header, opened.content, opened.attachments, decision, opened.digest, duty)
