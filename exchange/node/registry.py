"""What this node holds of others: cards, agreements, prekey bundles, blocks.

Implements docs/protocol.md sections 4 and 8.2. Rule: everything here was verified before it was installed and is
verified again when it is loaded from the store; the store is not trusted to be unchanged.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from exchange.core import wire
from exchange.core.agreements import ANY, Agreement, verify_agreement
from exchange.core.errors import IntegrityError, PeerError
from exchange.core.keys import Authority, Card, PrekeyBundle, read_card, verify_card, verify_prekeys
from exchange.core.wire import Digest, DocumentType, NetworkId, NodeId, parse_signed_document

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from exchange.ports import Changes, Records, Row


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

    def has_rival(self, ident: str, version: int, digest: str) -> bool:
        """Whether another document of that id and version is installed."""
        return any(
            item.id == ident and item.version == version and item.digest != digest for item in self.agreements.values()
        )

    def partners(self) -> list[NodeId]:
        """Every node that shares an agreement with this one and whose card is here."""
        nodes = {party.node for item in self.agreements.values() if item.names(self.me) for party in item.parties}
        return sorted(node for node in nodes if node != self.me and node in self.cards)

    # -- installing (the caller commits ``changes``, then calls ``keep``)

    def check_card(self, data: bytes, now: datetime) -> Card:
        """Verify a card against the one held."""
        document = parse_signed_document(data, DocumentType.CARD)
        held = self.cards.get(read_card(document).node)
        return verify_card(document, self.network, now, held)

    def check_agreement(self, data: bytes) -> Agreement:
        """Verify an agreement against the cards held. Raises agreement.conflict beside what core.agreements raises."""
        document = parse_signed_document(data, DocumentType.AGREEMENT)
        agreement = verify_agreement(document, self.network, self.authority_of)
        if not agreement.names(self.me):
            raise PeerError("agreement.not_party", self.me)
        if self.has_rival(agreement.id, agreement.version, agreement.digest):
            raise PeerError("agreement.conflict", f"{agreement.id}/{agreement.version}")
        if agreement.supersedes is not None and agreement.supersedes not in self.agreements:
            raise PeerError("agreement.unknown", "the version it supersedes is not installed")
        return agreement

    def authority_of(self, node: NodeId, fingerprint: Digest) -> Authority | None:
        """The authority of that fingerprint in the chain of a node's cards."""
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

    def keep(self, item: Card | Agreement | PrekeyBundle, data: bytes) -> None:
        """Use a document from now on, after its commit."""
        self.bytes_of[item.digest] = data
        if isinstance(item, Card):
            self.cards[item.node] = item
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


def document_row(item: Card | Agreement | PrekeyBundle, data: bytes, now: datetime) -> Row:
    """For put_document."""
    moment = wire.encode_time(now)
    if isinstance(item, Card):
        lineage = " ".join(item.lineage)
        return (item.digest, DocumentType.CARD, item.node, item.version, "current", lineage, data, moment)
    if isinstance(item, Agreement):
        return (item.digest, DocumentType.AGREEMENT, item.id, item.version, "current", "", data, moment)
    return (item.digest, DocumentType.PREKEYS, item.node, item.serial, "current", "", data, moment)


def add_document(
    changes: Changes, item: Card | Agreement | PrekeyBundle, data: bytes, now: datetime, *, own: bool = False
) -> None:
    """Add a verified document to a transaction; older cards and bundles of the same node are superseded.

    A peer's older bundles are removed: the log has their digests, and a peer that makes many must not fill the disk.
    """
    row = document_row(item, data, now)
    changes.add("put_document", *row)
    if isinstance(item, PrekeyBundle) and not own:
        changes.add("drop_documents", row[1], row[2], row[3])
    elif not isinstance(item, Agreement):
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
