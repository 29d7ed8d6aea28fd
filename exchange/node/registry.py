"""What this node holds of others: cards, agreements and notices about them, officers, prekey bundles, blocks.

Implements docs/protocol.md sections 4, 8.2 and 8.5 (L1 to L6). Rule: everything here was verified before it was
installed and is verified again when it is loaded from the store; the store is not trusted to be unchanged.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from exchange.core import wire
from exchange.core.agreements import ANY, Agreement, verify_agreement
from exchange.core.errors import IntegrityError, PeerError
from exchange.core.keys import Authority, Card, PrekeyBundle, read_card, verify_card, verify_prekeys
from exchange.core.officers import OfficerList, check_serial, read_officers, verify_officers
from exchange.core.succession import check_succession
from exchange.core.suspensions import (
    SERVES,
    Standing,
    Suspension,
    check_date,
    read_suspension,
    standing,
    verify_suspension,
)
from exchange.core.wire import AgreementId, Digest, DocumentType, NetworkId, NodeId, parse_signed_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from exchange.core.wire import UnverifiedDocument
    from exchange.ports import Changes, Records, Row

Document: TypeAlias = "Card | Agreement | OfficerList | PrekeyBundle | Suspension"


@dataclass(slots=True)
class Registry:
    """The documents in force, by what they are looked up by."""

    network: NetworkId
    me: NodeId
    cards: dict[NodeId, Card] = field(default_factory=dict)
    agreements: dict[Digest, Agreement] = field(default_factory=dict)
    prekeys: dict[NodeId, PrekeyBundle] = field(default_factory=dict)
    blocked: set[NodeId] = field(default_factory=set)
    bytes_of: dict[Digest, bytes] = field(default_factory=dict)
    authorities: dict[tuple[NodeId, Digest], Authority] = field(default_factory=dict)
    chains: dict[NodeId, list[Card]] = field(default_factory=dict)  # every version held here, oldest first
    notices: dict[AgreementId, dict[NodeId, Suspension]] = field(default_factory=dict)  # the newest of each party
    officers: dict[Digest, OfficerList] = field(default_factory=dict)  # every list that was ever installed
    _unsigned: set[Digest] = field(default_factory=set)  # lists that the newest card's personnel did not sign
    # Every message asks; both are made anew when an agreement is installed.
    _serving: dict[Digest, Agreement] = field(default_factory=dict)
    _routes: dict[tuple[NodeId, str], tuple[Agreement, ...]] = field(default_factory=dict)

    # -- looking up

    def resolve(self, name: str) -> NodeId:
        """A node id from itself or from a country that has one node. Raises card.unknown, card.ambiguous."""
        if wire.NODE_ID.fullmatch(name) and name in self.cards:
            return NodeId(name)
        found = [node for node, card in self.cards.items() if card.country == name.upper() and node != self.me]
        if not found:
            raise PeerError("card.unknown", name[:20])
        if len(found) > 1:
            raise PeerError("card.ambiguous", ", ".join(found))
        return found[0]

    def agreements_with(self, peer: NodeId) -> list[Agreement]:
        """Installed agreements that name this node and the peer, newest version of each id first."""
        named = [item for item in self.agreements.values() if item.names(self.me, peer)]
        return sorted(named, key=lambda item: (item.id, -item.version))

    def routes(self, peer: NodeId, kind: str) -> tuple[Agreement, ...]:
        """The agreements with the peer that have a clause for the kind, as they serve, in that order.

        Of many agreements a message concerns few: whoever judges it looks at no other.
        """
        found = self._routes.get((peer, kind))
        return self._routes.get((peer, ANY), ()) if found is None else found

    def serving(self, digest: Digest) -> Agreement | None:
        """The agreement of that digest, in force no longer than until its successor starts."""
        if digest in self._serving:
            return self._serving[digest]
        agreement = self.agreements.get(digest)
        if agreement is None:
            return None
        starts = [
            item.valid_from
            for item in self.agreements.values()
            if item.id == agreement.id and item.version > agreement.version
        ]
        self._serving[digest] = serving = replace(agreement, valid_until=min([agreement.valid_until, *starts]))
        return serving

    def versions_of(self, ident: str) -> list[Agreement]:
        """Every installed version of an agreement, oldest first."""
        held = [item for item in self.agreements.values() if item.id == ident]
        return sorted(held, key=lambda item: item.version)

    def newest_versions(self) -> list[Agreement]:
        """The last version of every agreement, by id."""
        return [self.versions_of(ident)[-1] for ident in sorted({item.id for item in self.agreements.values()})]

    def newest_notices(self, ident: AgreementId, pending: Sequence[Suspension] = ()) -> dict[NodeId, Suspension]:
        """The newest notice of each party about an agreement; ``pending`` are those that are being committed."""
        newest = dict(self.notices.get(ident, {}))
        for notice in pending:
            if notice.agreement == ident and notice.is_newer(newest.get(notice.party)):
                newest[notice.party] = notice
        return newest

    def standing(self, agreement: Agreement, peer: NodeId, pending: Sequence[Suspension] = ()) -> Standing:
        """How an agreement stands between this node and a peer; a notice of who is no party to it counts nothing."""
        if not pending and agreement.id not in self.notices:
            return SERVES
        newest = self.newest_notices(agreement.id, pending).values()
        return standing([notice for notice in newest if agreement.names(notice.party)], self.me, peer)

    def has_rival(self, ident: str, version: int, digest: str) -> bool:
        """Whether another document of that id and version is installed."""
        return any(
            item.id == ident and item.version == version and item.digest != digest for item in self.agreements.values()
        )

    def partners(self) -> list[NodeId]:
        """Every node that shares an agreement with this one and whose card is here."""
        nodes = {party.node for item in self.agreements.values() if item.names(self.me) for party in item.parties}
        return sorted(node for node in nodes if node != self.me and node in self.cards)

    def officers_of(self, node: NodeId) -> OfficerList | None:
        """The list of officers in force for a node: its newest, if the personnel of its newest card signed that."""
        newest = max(self._lists_of(node), key=lambda item: item.serial, default=None)
        return None if newest is None or newest.digest in self._unsigned else newest

    def has_officers(self, node: NodeId) -> bool:
        """Whether a list was ever installed: from then on nobody acts in their place, also where none is in force."""
        return bool(self._lists_of(node))

    def counts_approvals(self) -> list[NodeId]:
        """The peers to whom a clause lets this node send what officers approved: they count by its list."""
        asking = [
            clause
            for item in self.agreements.values()
            for clause in item.clauses
            if clause.approvals.count and self.me in clause.sender
        ]
        nodes = {node for clause in asking for node in clause.recipients}
        return sorted(node for node in nodes if node != self.me and node in self.cards)

    def _lists_of(self, node: NodeId) -> list[OfficerList]:
        return [item for item in self.officers.values() if item.node == node]

    # -- installing (the caller commits ``changes``, then calls ``keep``)

    def check_card(self, data: bytes, now: datetime) -> Card:
        """Verify a card against the one held."""
        document = parse_signed_document(data, DocumentType.CARD)
        held = self.cards.get(read_card(document).node)
        return verify_card(document, self.network, now, held)

    def check_agreement(self, data: bytes) -> Agreement:
        """Verify an agreement against the cards and the versions held (G1 to G4, G6, G7).

        Raises ``PeerError``: card.unknown, agreement.not_party, and what core.agreements and core.succession raise.
        """
        document = parse_signed_document(data, DocumentType.AGREEMENT)
        agreement = verify_agreement(document, self.network, self.authority_of)
        if not agreement.names(self.me):
            raise PeerError("agreement.not_party", self.me)
        check_succession(agreement, self.agreements.values())
        return agreement

    def authority_of(self, node: NodeId, fingerprint: Digest) -> Authority | None:
        """The authority of that fingerprint in the chain of a node's cards. Raises card.unknown."""
        if node not in self.cards:
            raise PeerError("card.unknown", node)
        return self.authorities.get((node, fingerprint))

    def check_prekeys(self, data: bytes, node: NodeId, now: datetime) -> PrekeyBundle:
        """Verify a prekey bundle of ``node`` against its card and the bundle held."""
        card = self.cards.get(node)
        if card is None:
            raise PeerError("card.unknown", node)
        held = self.prekeys.get(node)
        document = parse_signed_document(data, DocumentType.PREKEYS)
        bundle = verify_prekeys(document, card, now, 0 if held is None else held.serial)
        if held is not None and held.serial == bundle.serial and held.digest != bundle.digest:
            raise PeerError("prekey.invalid", "prekeys.serial")
        return bundle

    def check_notice(self, data: bytes, now: datetime, pending: Sequence[Suspension] = ()) -> Suspension:
        """Verify a notice about an agreement with the card held of its party (L1 to L5); the one held passes again.

        Raises ``PeerError``: card.unknown, agreement.unknown, agreement.not_party, agreement.notice_stale, and what
        core.suspensions raises.
        """
        document = parse_signed_document(data, DocumentType.SUSPENSION)
        party = read_suspension(document).party
        card = self.cards.get(party)
        if card is None:
            raise PeerError("card.unknown", party)
        notice = verify_suspension(document, card)
        check_date(notice, now)
        versions = self.versions_of(notice.agreement)
        if not versions:
            raise PeerError("agreement.unknown", "suspension.agreement")
        if not any(item.names(party) for item in versions):
            raise PeerError("agreement.not_party", "suspension.party")
        if notice.digest in self.bytes_of or notice.digest in {item.digest for item in pending}:
            return notice
        if not notice.is_newer(self.newest_notices(notice.agreement, pending).get(party)):
            raise PeerError("agreement.notice_stale", "suspension.serial")
        return notice

    def verify_held_notice(self, document: UnverifiedDocument) -> Suspension:
        """A stored notice, by whichever of its party's cards it was verified with when it came."""
        party = read_suspension(document).party
        refusal = PeerError("card.unknown", party)
        for card in reversed(self.chains.get(party, [])):
            try:
                return verify_suspension(document, card)
            except PeerError as error:
                refusal = error
        raise refusal

    def check_officers(self, data: bytes, now: datetime) -> OfficerList:
        """Verify a list of officers against its node's card and the lists held; a peer's may be older (4.5, O5)."""
        document = parse_signed_document(data, DocumentType.OFFICERS)
        node = read_officers(document).node
        card = self.cards.get(node)
        if card is None:
            raise PeerError("card.unknown", node)
        listed = verify_officers(document, card, now)
        check_serial(listed, self._lists_of(node), only_grow=node == self.me)
        return listed

    def _judge_officers(self, listed: OfficerList) -> None:
        """Whether the personnel of the card held now stand behind a list that was installed once."""
        card = self.cards.get(listed.node)
        self._unsigned.add(listed.digest)
        with suppress(PeerError):
            if card is not None:
                verify_officers(parse_signed_document(self.bytes_of[listed.digest]), card, listed.issued)
                self._unsigned.discard(listed.digest)

    def keep(self, item: Document, data: bytes) -> None:
        """Use a document from now on, after its commit."""
        self.bytes_of[item.digest] = data
        if isinstance(item, Card):
            self.cards[item.node] = item
            self.chains.setdefault(item.node, []).append(item)
            for listed in self._lists_of(item.node):
                self._judge_officers(listed)
            self.authorities[item.node, item.authority.fingerprint] = item.authority
            bundle = self.prekeys.pop(item.node, None)
            # Nothing is sealed to prekeys that were signed by a key which the new card does not name any more.
            with suppress(PeerError):
                if bundle is not None:
                    self.prekeys[item.node] = self.check_prekeys(self.bytes_of[bundle.digest], item.node, bundle.issued)
        elif isinstance(item, Agreement):
            self.agreements[item.digest] = item
            self._serving.clear()
            self._route(item)
        elif isinstance(item, Suspension):
            newest = self.notices.setdefault(item.agreement, {})
            if item.is_newer(newest.get(item.party)):
                newest[item.party] = item
        elif isinstance(item, OfficerList):
            self.officers[item.digest] = item
            self._judge_officers(item)
        else:
            before = self.prekeys.get(item.node)
            if before is not None and before.digest != item.digest:
                self.bytes_of.pop(before.digest, None)  # a peer that makes many must not fill the memory
            self.prekeys[item.node] = item

    def _route(self, installed: Agreement) -> None:
        """Index the agreements with every other party of the one installed."""
        for peer in {party.node for party in installed.parties} - {self.me}:
            serving = [item for held in self.agreements_with(peer) if (item := self.serving(held.digest)) is not None]
            kinds = {ANY, *(kind for item in serving for clause in item.clauses for kind in clause.kinds)}
            for kind in kinds:
                self._routes[peer, kind] = tuple(item for item in serving if item.clauses_for(kind))


def document_row(item: Document, data: bytes, now: datetime) -> Row:
    """For put_document."""
    moment = wire.encode_time(now)
    if isinstance(item, Card):
        lineage = " ".join(item.lineage)
        return (item.digest, DocumentType.CARD, item.node, item.version, "current", lineage, data, moment)
    if isinstance(item, Agreement):
        return (item.digest, DocumentType.AGREEMENT, item.id, item.version, "current", "", data, moment)
    if isinstance(item, Suspension):
        subject = f"{item.party}/{item.agreement}"
        return (item.digest, DocumentType.SUSPENSION, subject, item.serial, "current", "", data, moment)
    if isinstance(item, OfficerList):
        return (item.digest, DocumentType.OFFICERS, item.node, item.serial, "current", "", data, moment)
    return (item.digest, DocumentType.PREKEYS, item.node, item.serial, "current", "", data, moment)


def add_document(changes: Changes, item: Document, data: bytes, now: datetime, *, own: bool = False) -> None:
    """Add a verified document to a transaction; older cards and bundles of the same node are superseded.

    A peer's older bundles are removed: the log has their digests, and a peer that makes many must not fill the disk.
    Lists of officers all stay: approvals of accepted messages rest on them.
    """
    row = document_row(item, data, now)
    changes.add("put_document", *row)
    if isinstance(item, PrekeyBundle) and not own:
        changes.add("drop_documents", row[1], row[2], row[3])
    elif not isinstance(item, Agreement | OfficerList | Suspension):
        changes.add("supersede_documents", row[1], row[2], row[3])


async def load_registry(store: Records, network: NetworkId, me: NodeId) -> Registry:
    """Everything installed, read from the store and verified again. Raises ``IntegrityError`` store.corrupt."""
    registry = Registry(network, me)
    try:
        for _, _, _, _, lineage, data in await store.read("documents", DocumentType.CARD):
            # In order of version, so that the newest stays; the older ones name the authorities of the chain.
            document = parse_signed_document(data, DocumentType.CARD)
            card = read_card(document)
            # Its chain was verified when it was installed; an expired card is still needed to name its node.
            if not card.authority.approves(document):
                raise IntegrityError("store.corrupt", f"card of {card.node}")
            registry.keep(replace(card, lineage=tuple(Digest(item) for item in lineage.split())), data)
        for data, _ in _current(await store.read("documents", DocumentType.AGREEMENT)):
            document = parse_signed_document(data, DocumentType.AGREEMENT)
            registry.keep(verify_agreement(document, network, registry.authority_of), data)
        for data, _ in _current(await store.read("documents", DocumentType.SUSPENSION)):
            document = parse_signed_document(data, DocumentType.SUSPENSION)
            registry.keep(registry.verify_held_notice(document), data)
        for data, _ in _current(await store.read("documents", DocumentType.OFFICERS)):
            # Those that the newest card does not stand behind any more are kept as history: ``keep`` judges them.
            registry.keep(read_officers(parse_signed_document(data, DocumentType.OFFICERS)), data)
        for data, _ in _current(await store.read("documents", DocumentType.PREKEYS)):
            document = parse_signed_document(data, DocumentType.PREKEYS)
            node, issued = NodeId(document.fields("prekeys").text("node")), document.fields("prekeys").time("issued")
            # A newer card may have ended the key that signed them: they are fetched again, or published anew.
            with suppress(PeerError):
                registry.keep(registry.check_prekeys(data, node, issued), data)
    except PeerError as error:
        raise IntegrityError("store.corrupt", f"document: {error.code}") from None
    registry.blocked = {NodeId(peer) for (peer,) in await store.read("blocks")}
    return registry


def _current(rows: Iterable[Row]) -> list[tuple[bytes, str]]:
    return [(data, lineage) for _, _, _, state, lineage, data in rows if state == "current"]
