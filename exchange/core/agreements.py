"""Agreements: the rules two governments signed, executed.

Implements docs/protocol.md section 8.

Rules:
1. Default refuses. A message passes only by a clause of an agreement in force for its pair, and names that clause.
2. ``decide`` is the same function at both ends, over the same values of the statement and of its envelope's
   ``created``; so sender and receiver cannot disagree about a permit.
3. Prohibitions win over every clause.
4. Policy returns a ``Decision``; it raises only where the document itself cannot be read.
5. A refusal names the clause that came nearest, and what would have to change.

What it does not do: know case content (a clause may narrow it by a JSON Schema of its own, which
core.schemas has checked), or count: the quota already used is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exchange.core import wire
from exchange.core.errors import PeerError
from exchange.core.narrowing import Narrowing, parse_narrowing
from exchange.core.wire import (
    AgreementId,
    Digest,
    DocumentType,
    Fields,
    JsonValue,
    NetworkId,
    NodeId,
    UnverifiedDocument,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from exchange.core.keys import Authority

MAX_PARTIES: Final = 8
MAX_CLAUSES: Final = 64
MAX_CODES: Final = 64
TLP_ORDER: Final = ("CLEAR", "GREEN", "AMBER", "AMBER+STRICT", "RED")
HANDLING: Final = frozenset({"H0", "H1", "H2", "H3"})
ONWARD: Final = ("never", "with_consent", "parties")
ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class Clause:
    """One permit. Every condition must hold; ``*`` among the kinds or purposes stands for all of them."""

    id: str
    text: Mapping[str, str]
    kinds: tuple[str, ...]
    sender: tuple[NodeId, ...]
    recipients: tuple[NodeId, ...]
    purposes: tuple[str, ...]
    handling: frozenset[str]
    tlp: str
    retention_days: int
    max_blobs: int
    max_blob_bytes: int
    approvals: int
    consent: bool
    withhold: tuple[str, ...]
    onward: str
    quota_per_day: int | None
    content: Narrowing | None


@dataclass(frozen=True, slots=True)
class Prohibition:
    """One thing that is never exchanged, whatever a clause permits. Every condition given must hold to match."""

    id: str
    text: Mapping[str, str]
    kinds: tuple[str, ...]
    purposes: tuple[str, ...]
    content: Narrowing | None


@dataclass(frozen=True, slots=True)
class Party:
    """A node and the fingerprint of the authority that signs for it."""

    node: NodeId
    authority: Digest


@dataclass(frozen=True, slots=True)
class Agreement:
    """An agreement whose signatures were verified by ``verify_agreement``."""

    network: NetworkId
    id: AgreementId
    version: int
    supersedes: Digest | None
    title: Mapping[str, str]
    legal_basis: Mapping[str, str]
    parties: tuple[Party, ...]
    valid_from: datetime
    valid_until: datetime
    clauses: tuple[Clause, ...]
    prohibitions: tuple[Prohibition, ...]
    digest: Digest

    def names(self, *nodes: str) -> bool:
        """Whether all the nodes are parties."""
        return {party.node for party in self.parties}.issuperset(nodes)

    def is_in_force(self, moment: datetime) -> bool:
        """Whether the agreement serves messages created at ``moment``."""
        return self.valid_from <= moment < self.valid_until


@dataclass(frozen=True, slots=True)
class Exchange:
    """What is about to move, as far as rules look at it."""

    sender: NodeId
    recipient: NodeId
    kind: str
    purpose: str
    handling: frozenset[str]
    tlp: str
    onward: str
    retention_days: int
    created: datetime
    content: JsonValue
    withheld: tuple[tuple[str, str], ...] = ()
    present: tuple[str, ...] = ()
    blob_count: int = 0
    blob_bytes: int = 0
    approvals: int = 0
    consent: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """Yes or no, by which clause, and for a no the code and what would have to change.

    ``reach`` is how far a refused exchange came in the order of protocol 8.4, so that the nearest of several refusals
    can be told.
    """

    allowed: bool
    agreement: AgreementId | None
    version: int | None
    clause: str | None
    code: str | None = None
    reason: str = ""
    reach: int = -4

    def refuse(self) -> PeerError:
        """The refusal as an error."""
        return PeerError(self.code or "agreement.no_clause", self.reason, self.clause)


# -- reading ---------------------------------------------------------------------------------------


def _parse_text(fields: Fields, name: str) -> Mapping[str, str]:
    return fields.mapping(name, high=8, max_chars=4096)


def _parse_narrowing(fields: Fields, name: str) -> Narrowing | None:
    return parse_narrowing(fields.any(name), f"{fields.where}.{name}") if fields.has(name) else None


def _parse_clause(fields: Fields) -> Clause:
    permit = fields.object("permit")
    requires = fields.object("requires")
    blobs = fields.object("blobs")
    clause = Clause(
        id=fields.text("id", max_chars=32, pattern=wire.CLAUSE_ID),
        text=_parse_text(fields, "text"),
        kinds=permit.texts("kinds", low=1, high=MAX_CODES),
        sender=tuple(NodeId(n) for n in permit.texts("from", low=1, high=MAX_PARTIES, pattern=wire.NODE_ID)),
        recipients=tuple(NodeId(n) for n in permit.texts("to", low=1, high=MAX_PARTIES, pattern=wire.NODE_ID)),
        purposes=permit.texts("purposes", low=1, high=MAX_CODES),
        handling=frozenset(permit.texts("handling", low=1, high=len(HANDLING))),
        tlp=permit.choice("tlp", TLP_ORDER),
        retention_days=fields.integer("retention_days", low=1, high=36_500),
        max_blobs=blobs.integer("max_count", high=64),
        max_blob_bytes=blobs.integer("max_bytes"),
        approvals=requires.integer("approvals", high=8),
        consent=requires.flag("consent"),
        withhold=fields.texts("withhold", high=16),
        onward=fields.choice("onward", ONWARD),
        quota_per_day=fields.integer("quota_per_day", low=1) if fields.has("quota_per_day") else None,
        content=_parse_narrowing(fields, "content"),
    )
    for part in (permit, requires, blobs, fields):
        part.done()
    if not clause.handling <= HANDLING:
        raise PeerError("agreement.malformed", f"{fields.where}.permit.handling")
    return clause


def _parse_prohibition(fields: Fields) -> Prohibition:
    when = fields.object("when")
    prohibition = Prohibition(
        id=fields.text("id", max_chars=32, pattern=wire.CLAUSE_ID),
        text=_parse_text(fields, "text"),
        kinds=when.texts("kinds", low=1, high=MAX_CODES) if when.has("kinds") else (ANY,),
        purposes=when.texts("purposes", low=1, high=MAX_CODES) if when.has("purposes") else (ANY,),
        content=_parse_narrowing(when, "content"),
    )
    when.done()
    fields.done()
    return prohibition


def read_agreement(document: UnverifiedDocument) -> Agreement:
    """Read an agreement without believing its signatures: for showing and signing drafts, never for trust.

    Raises ``PeerError``: wire.*, schema.invalid for a narrowing schema that is unsafe, agreement.malformed.
    """
    if document.payload_type != DocumentType.AGREEMENT:
        raise PeerError("wire.wrong_type", "document.payloadType")
    fields = document.fields("agreement")
    parties: list[Party] = []
    for item in fields.each("parties", low=2, high=MAX_PARTIES):
        parties.append(Party(NodeId(item.text("node", pattern=wire.NODE_ID)), item.digest("authority")))
        item.done()
    agreement = Agreement(
        network=NetworkId(fields.text("network", pattern=wire.NETWORK_ID)),
        id=AgreementId(fields.text("id", pattern=wire.AGREEMENT_ID)),
        version=fields.integer("version", low=1, high=9999),
        supersedes=fields.digest("supersedes") if fields.has("supersedes") else None,
        title=_parse_text(fields, "title"),
        legal_basis=_parse_text(fields, "legal_basis"),
        parties=tuple(parties),
        valid_from=fields.time("valid_from"),
        valid_until=fields.time("valid_until"),
        clauses=tuple(_parse_clause(item) for item in fields.each("clauses", low=1, high=MAX_CLAUSES)),
        prohibitions=tuple(_parse_prohibition(item) for item in fields.each("prohibitions", high=MAX_CLAUSES)),
        digest=document.digest(),
    )
    fields.done()
    _check_sense(agreement)
    return agreement


def _check_sense(agreement: Agreement) -> None:
    nodes = [party.node for party in agreement.parties]
    ids = [clause.id for clause in agreement.clauses] + [rule.id for rule in agreement.prohibitions]
    if len(set(nodes)) != len(nodes):
        raise PeerError("agreement.malformed", "agreement.parties")
    if len(set(ids)) != len(ids):
        raise PeerError("agreement.malformed", "agreement.clauses ids")
    if agreement.valid_from >= agreement.valid_until:
        raise PeerError("agreement.malformed", "agreement.valid_until")
    if (agreement.supersedes is None) is not (agreement.version == 1):
        raise PeerError("agreement.malformed", "agreement.supersedes")
    for clause in agreement.clauses:
        if not agreement.names(*clause.sender, *clause.recipients):
            raise PeerError("agreement.malformed", "a clause names a node that is not a party", clause.id)


def verify_agreement(
    document: UnverifiedDocument, network: str, authority_of: Callable[[NodeId, Digest], Authority | None]
) -> Agreement:
    """Turn a signed document into an agreement: every party's authority, as its card chain has it, signed.

    ``authority_of`` gives the authority of that fingerprint in the card chain of a node, so that an agreement stays
    installable after its authority took new keys. Raises ``PeerError``: as ``read_agreement``, key.wrong_network,
    card.chain (the party's fingerprint is not in the chain of its cards held here), key.threshold.
    """
    agreement = read_agreement(document)
    if agreement.network != network:
        raise PeerError("key.wrong_network", "agreement.network")
    for party in agreement.parties:
        authority = authority_of(party.node, party.authority)
        if authority is None:
            raise PeerError("card.chain", party.node)
        if not authority.approves(document):
            raise PeerError("key.threshold", f"authority of {party.node}")
    return agreement


# -- deciding --------------------------------------------------------------------------------------


_PROHIBITED: Final = 13  # beyond every condition of a clause: nothing that the officer changes there would help


def _covers(listed: tuple[str, ...], value: str) -> bool:
    return ANY in listed or value in listed


def _first_obstacle(clause: Clause, exchange: Exchange, used_today: int) -> tuple[int, str, str] | None:  # noqa: C901, PLR0911, PLR0912 - one line a condition, in the order of protocol 8.4
    """The first condition that fails: (how far the clause got, code, what would have to change)."""
    if not _covers(clause.kinds, exchange.kind):
        return 0, "agreement.no_clause", "the kind is not in this clause"
    if exchange.sender not in clause.sender or exchange.recipient not in clause.recipients:
        return 1, "agreement.no_clause", "the direction is not in this clause"
    if not _covers(clause.purposes, exchange.purpose):
        return 2, "agreement.purpose", "permitted: " + ", ".join(clause.purposes)
    if not exchange.handling <= clause.handling:
        return 3, "agreement.handling", "permitted: " + ", ".join(sorted(clause.handling))
    if TLP_ORDER.index(exchange.tlp) > TLP_ORDER.index(clause.tlp):
        return 4, "agreement.tlp", "at most " + clause.tlp
    if ONWARD.index(exchange.onward) > ONWARD.index(clause.onward):
        return 5, "agreement.onward", "at most " + clause.onward
    if exchange.retention_days > clause.retention_days:
        return 6, "agreement.retention", f"at most {clause.retention_days} days"
    if exchange.blob_count > clause.max_blobs or exchange.blob_bytes > clause.max_blob_bytes:
        return 7, "agreement.blobs", f"at most {clause.max_blobs} files, {clause.max_blob_bytes} bytes"
    if clause.consent and not exchange.consent:
        return 8, "agreement.consent", "a consent or a named lawful exception is required"
    if any(part not in clause.withhold or named != clause.id for part, named in exchange.withheld) or any(
        part in clause.withhold for part in exchange.present
    ):
        return 9, "agreement.withheld", "withheld by this clause: " + (", ".join(clause.withhold) or "nothing")
    if exchange.approvals < clause.approvals:
        return 10, "envelope.approval", f"{clause.approvals} approvals are required"
    if clause.content is not None and (place := clause.content.first_problem(exchange.content)) is not None:
        return 11, "agreement.content", place
    if clause.quota_per_day is not None and used_today >= clause.quota_per_day:
        return 12, "agreement.quota", f"at most {clause.quota_per_day} a day"
    return None


def decide(
    agreement: Agreement, exchange: Exchange, used_today: Mapping[str, int], only_clause: str | None = None
) -> Decision:
    """Whether ``agreement`` permits ``exchange``; ``used_today`` counts by clause on the UTC day of ``created``.

    A sender leaves ``only_clause`` out and learns the clause to rely on; a receiver passes the clause that the
    statement relies on, so that both judged the same rule.
    """

    def no(reach: int, code: str, reason: str, clause: str | None = None) -> Decision:
        return Decision(False, agreement.id, agreement.version, clause, code, reason, reach)  # noqa: FBT003

    if not agreement.names(exchange.sender, exchange.recipient):
        return no(-3, "agreement.not_party", "")
    if not agreement.is_in_force(exchange.created):
        return no(-2, "agreement.not_in_force", f"in force until {wire.encode_time(agreement.valid_until)}")
    for rule in agreement.prohibitions:
        matches = _covers(rule.kinds, exchange.kind) and _covers(rule.purposes, exchange.purpose)
        if matches and (rule.content is None or rule.content.first_problem(exchange.content) is None):
            return no(_PROHIBITED, "agreement.prohibited", "a prohibition matches", rule.id)
    nearest: tuple[int, str, str] = (-1, "agreement.no_clause", "no such clause")
    named: str | None = only_clause
    for clause in agreement.clauses:
        if only_clause is not None and clause.id != only_clause:
            continue
        obstacle = _first_obstacle(clause, exchange, used_today.get(clause.id, 0))
        if obstacle is None:
            return Decision(True, agreement.id, agreement.version, clause.id)  # noqa: FBT003
        if obstacle[0] > nearest[0]:
            # A clause for other kinds has nothing to say about this one: it is not named.
            nearest, named = obstacle, clause.id if obstacle[0] > 0 else only_clause
    return no(*nearest, named)
