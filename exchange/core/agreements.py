"""Agreements: the rules two governments signed, executed.

Implements docs/protocol.md sections 8.1 to 8.3.

Rules:
1. A document is read whole or refused: a member that is missing, unknown or contradicts another is
   ``agreement.malformed`` or ``wire.*``, so that no rule is ever half understood.
2. An agreement is believed when the authority of every party has signed the same bytes, and not before.
3. Clauses are kept in the order of the document, and besides by kind: a decision looks at no clause for other kinds.

What it does not do: decide (core.decision), know which codes the lists of schemas/ have, or look for clauses that
can never serve (core.agreement_lint).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Final

from exchange.core import wire
from exchange.core.errors import PeerError
from exchange.core.narrowing import Narrowing, parse_narrowing
from exchange.core.wire import (
    AgreementId,
    Digest,
    DocumentType,
    Fields,
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
MAX_BASES: Final = 16
MAX_APPROVALS: Final = 8
MAX_HOURS: Final = 8_784  # of a leap year
TLP_ORDER: Final = ("CLEAR", "GREEN", "AMBER", "AMBER+STRICT", "RED")
HANDLING: Final = frozenset({"H0", "H1", "H2", "H3"})
ONWARD: Final = ("never", "with_consent", "parties")
URGENCY: Final = ("urgent_8h", "urgent_3d", "normal_7d")
ANY: Final = "*"
_CODE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True, slots=True)
class Approvals:
    """How many officers must have approved, and how many of these must be supervisors."""

    count: int
    supervisors: int


@dataclass(frozen=True, slots=True)
class Onward:
    """The widest onward use; ``parties`` are those that it names, and none otherwise."""

    use: str
    parties: tuple[NodeId, ...] = ()


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
    urgency: frozenset[str]
    approvals: Approvals
    consent: bool
    checks: tuple[str, ...]
    dual_criminality: bool
    child_safeguards: bool
    respond_within: Mapping[str, int]
    max_blobs: int
    max_blob_bytes: int
    retention_days: int
    withhold: tuple[str, ...]
    onward: Onward
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
class LegalBasis:
    """One treaty, memorandum or law that the agreement rests on."""

    title: Mapping[str, str]
    article: str
    date: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """An agreement whose signatures were verified by ``verify_agreement``."""

    network: NetworkId
    id: AgreementId
    version: int
    supersedes: Digest | None
    title: Mapping[str, str]
    legal_basis: tuple[LegalBasis, ...]
    parties: tuple[Party, ...]
    valid_from: datetime
    valid_until: datetime
    clauses: tuple[Clause, ...]
    prohibitions: tuple[Prohibition, ...]
    digest: Digest
    _by_kind: Mapping[str, tuple[Clause, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        kinds = dict.fromkeys((ANY, *(kind for clause in self.clauses for kind in clause.kinds)))
        by_kind = {kind: tuple(clause for clause in self.clauses if covers(clause.kinds, kind)) for kind in kinds}
        object.__setattr__(self, "_by_kind", by_kind)

    def clauses_for(self, kind: str) -> tuple[Clause, ...]:
        """The clauses that list the kind, or ``*``, in the order of the document."""
        found = self._by_kind.get(kind)
        return self._by_kind[ANY] if found is None else found

    def clause(self, ident: str | None) -> Clause | None:
        """The clause of that id."""
        return next((clause for clause in self.clauses if clause.id == ident), None)

    def names(self, *nodes: str) -> bool:
        """Whether all the nodes are parties."""
        return {party.node for party in self.parties}.issuperset(nodes)

    def is_in_force(self, moment: datetime) -> bool:
        """Whether the agreement serves messages created at ``moment``."""
        return self.valid_from <= moment < self.valid_until


def covers(listed: tuple[str, ...], value: str) -> bool:
    """Whether a list of kinds or purposes has the value, or ``*``."""
    return value in listed or ANY in listed


# -- reading ---------------------------------------------------------------------------------------


def _parse_text(fields: Fields, name: str) -> Mapping[str, str]:
    return fields.mapping(name, high=8, max_chars=4096)


def _parse_narrowing(fields: Fields, name: str) -> Narrowing | None:
    return parse_narrowing(fields.any(name), f"{fields.where}.{name}") if fields.has(name) else None


def _parse_nodes(fields: Fields, name: str, low: int = 1) -> tuple[NodeId, ...]:
    return tuple(NodeId(node) for node in fields.texts(name, low=low, high=MAX_PARTIES, pattern=wire.NODE_ID))


def _parse_approvals(fields: Fields) -> Approvals:
    count = fields.integer("count", high=MAX_APPROVALS)
    approvals = Approvals(count, fields.integer("supervisors", high=count))
    fields.done()
    return approvals


def _parse_respond_within(fields: Fields, urgency: frozenset[str]) -> Mapping[str, int]:
    """Hours by urgency; one that the clause does not permit could never be due."""
    if not fields.has("respond_within"):
        return {}
    hours = fields.object("respond_within")
    within = {code: hours.integer(code, low=1, high=MAX_HOURS) for code in URGENCY if hours.has(code)}
    hours.done()
    if not within or not urgency.issuperset(within):
        raise PeerError("agreement.malformed", hours.where)
    return within


def _parse_onward(fields: Fields) -> Onward:
    onward = Onward(fields.choice("use", ONWARD), _parse_nodes(fields, "parties", 0) if fields.has("parties") else ())
    fields.done()
    if bool(onward.parties) is not (onward.use == "parties"):
        raise PeerError("agreement.malformed", f"{fields.where}.parties")
    return onward


def _parse_codes(fields: Fields, name: str, known: frozenset[str]) -> frozenset[str]:
    codes = frozenset(fields.texts(name, low=1, high=len(known)))
    if not codes <= known:
        raise PeerError("agreement.malformed", f"{fields.where}.{name}")
    return codes


def _parse_clause(fields: Fields) -> Clause:
    permit = fields.object("permit")
    requires = fields.object("requires")
    blobs = fields.object("blobs")
    urgency = _parse_codes(permit, "urgency", frozenset(URGENCY))
    clause = Clause(
        id=fields.text("id", max_chars=32, pattern=wire.CLAUSE_ID),
        text=_parse_text(fields, "text"),
        kinds=permit.texts("kinds", low=1, high=MAX_CODES),
        sender=_parse_nodes(permit, "from"),
        recipients=_parse_nodes(permit, "to"),
        purposes=permit.texts("purposes", low=1, high=MAX_CODES),
        handling=_parse_codes(permit, "handling", HANDLING),
        tlp=permit.choice("tlp", TLP_ORDER),
        urgency=urgency,
        approvals=_parse_approvals(requires.object("approvals")),
        consent=requires.flag("consent"),
        checks=requires.texts("checks", high=MAX_CODES, pattern=_CODE),
        dual_criminality=requires.flag("dual_criminality"),
        child_safeguards=requires.flag("child_safeguards"),
        respond_within=_parse_respond_within(fields, urgency),
        max_blobs=blobs.integer("max_count", high=64),
        max_blob_bytes=blobs.integer("max_bytes"),
        retention_days=fields.integer("retention_days", low=1, high=36_500),
        withhold=fields.texts("withhold", high=16),
        onward=_parse_onward(fields.object("onward")),
        quota_per_day=fields.integer("quota_per_day", low=1) if fields.has("quota_per_day") else None,
        content=_parse_narrowing(fields, "content"),
    )
    for part in (permit, requires, blobs, fields):
        part.done()
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


def _parse_legal_basis(fields: Fields) -> LegalBasis:
    basis = LegalBasis(
        title=_parse_text(fields, "title"),
        article=fields.text("article", max_chars=128),
        date=fields.text("date", max_chars=10, pattern=_DAY),
    )
    fields.done()
    try:
        date.fromisoformat(basis.date)
    except ValueError:
        raise PeerError("agreement.malformed", f"{fields.where}.date") from None
    return basis


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
        legal_basis=tuple(_parse_legal_basis(item) for item in fields.each("legal_basis", low=1, high=MAX_BASES)),
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
        if not agreement.names(*clause.sender, *clause.recipients, *clause.onward.parties):
            raise PeerError("agreement.malformed", "a clause names a node that is not a party", clause.id)


def verify_agreement(
    document: UnverifiedDocument, network: str, authority_of: Callable[[NodeId, Digest], Authority | None]
) -> Agreement:
    """Turn a signed document into an agreement: every party's authority, as its card chain has it, signed.

    ``authority_of`` gives the authority of that fingerprint in the card chain of a node, so that an agreement stays
    installable after its authority took new keys. Raises ``PeerError``: as ``read_agreement``, key.wrong_network,
    agreement.authority (the party's fingerprint is not in the chain of its cards held here), key.threshold.
    """
    agreement = read_agreement(document)
    if agreement.network != network:
        raise PeerError("key.wrong_network", "agreement.network")
    for party in agreement.parties:
        authority = authority_of(party.node, party.authority)
        if authority is None:
            raise PeerError("agreement.authority", party.node)
        if not authority.approves(document):
            raise PeerError("key.threshold", f"authority of {party.node}")
    return agreement
