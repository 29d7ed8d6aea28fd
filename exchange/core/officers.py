"""Lists of officers: which keys speak for people of a node, in which role, and for how long.

Implements docs/protocol.md section 4.5.

Rules:
1. A list is signed k of n by the personnel keys of the node's card. These are never at the node: who operates it cannot
   make an officer (P6).
2. Serials only grow. The list with the highest serial is the one in force; an older one that a peer pushes is kept as
   history and never comes back into force.
3. A list names keys and roles. Names of people are in no document that travels.
4. A key speaks only within its dates and only in a role that its list gives it.

What it does not do: say what a role may do at its own node (``exchange.node.roles``), or read approvals
(core.approvals).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from exchange.core import wire
from exchange.core.errors import PeerError
from exchange.core.keys import Alg, PublicKey, encode_public_key, parse_public_key
from exchange.core.wire import Digest, DocumentType, Fields, NetworkId, NodeId, UnverifiedDocument

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from exchange.core.keys import Card

MAX_OFFICERS: Final = 256  # with all roles they fill a third of a document


class Role(StrEnum):
    """What an officer may do. Peers rely on the first two alone; the others are for the node itself."""

    OFFICER = "officer"  # writes, opens and approves
    SUPERVISOR = "supervisor"  # as an officer, and approves where a clause asks for a supervisor
    OPERATOR = "operator"  # runs the node, opens no message
    AUDITOR = "auditor"  # reads logs


@dataclass(frozen=True, slots=True)
class Officer:
    """One key of a list with its roles and dates."""

    key: PublicKey
    roles: frozenset[Role]
    valid_from: datetime
    valid_until: datetime

    def is_valid(self, moment: datetime) -> bool:
        """Whether the key may speak at ``moment``."""
        return self.valid_from <= moment < self.valid_until


@dataclass(frozen=True, slots=True)
class OfficerList:
    """A node's list of officers, verified by ``verify_officers``."""

    network: NetworkId
    node: NodeId
    serial: int
    issued: datetime
    officers: tuple[Officer, ...]
    digest: Digest = Digest("")

    def find(self, ident: str) -> Officer | None:
        """The officer of that key id."""
        return next((officer for officer in self.officers if officer.key.id == ident), None)


def encode_officers(listed: OfficerList) -> bytes:
    """The payload of a list, ready to be signed."""
    return wire.encode_json(
        {
            "network": listed.network,
            "node": listed.node,
            "serial": listed.serial,
            "issued": wire.encode_time(listed.issued),
            "officers": [
                {
                    **encode_public_key(officer.key),
                    "roles": [role.value for role in Role if role in officer.roles],
                    "valid_from": wire.encode_time(officer.valid_from),
                    "valid_until": wire.encode_time(officer.valid_until),
                }
                for officer in listed.officers
            ],
        }
    )


def _parse_officer(fields: Fields) -> Officer:
    key = parse_public_key(fields, frozenset({Alg.ED25519}))
    roles = fields.texts("roles", low=1, high=len(Role))
    if not set(roles) <= set(Role):
        raise PeerError("wire.bad_value", f"{fields.where}.roles")
    officer = Officer(key, frozenset(map(Role, roles)), fields.time("valid_from"), fields.time("valid_until"))
    fields.done()
    if officer.valid_from >= officer.valid_until:
        raise PeerError("officers.invalid", f"{fields.where}.valid_until")
    return officer


def read_officers(document: UnverifiedDocument) -> OfficerList:
    """Read a list without believing it: for showing and signing drafts. Raises ``PeerError``: wire.*, officers.*."""
    if document.payload_type != DocumentType.OFFICERS:
        raise PeerError("wire.wrong_type", "document.payloadType")
    fields = document.fields("officers")
    listed = OfficerList(
        network=NetworkId(fields.text("network", pattern=wire.NETWORK_ID)),
        node=NodeId(fields.text("node", pattern=wire.NODE_ID)),
        serial=fields.integer("serial", low=1),
        issued=fields.time("issued"),
        officers=tuple(_parse_officer(item) for item in fields.each("officers", high=MAX_OFFICERS)),
        digest=document.digest(),
    )
    fields.done()
    if len({officer.key.id for officer in listed.officers}) != len(listed.officers):
        # One key with two entries would hold the roles of either, and would count as two people.
        raise PeerError("officers.invalid", "officers.officers")
    return listed


def verify_officers(document: UnverifiedDocument, card: Card, now: datetime) -> OfficerList:
    """Turn a signed document into the trusted list of ``card``'s node (O1 to O3).

    Raises ``PeerError``: as ``read_officers``, key.wrong_network, officers.invalid, key.threshold.
    """
    listed = read_officers(document)
    if listed.network != card.network:
        raise PeerError("key.wrong_network", "officers.network")
    if listed.node != card.node:
        raise PeerError("officers.invalid", "officers.node")
    personnel = card.personnel(listed.issued, now)
    if personnel is None or not personnel.approves(document):
        raise PeerError("key.threshold", f"personnel of {card.node}")
    return listed


def check_serial(offered: OfficerList, held: Iterable[OfficerList], *, only_grow: bool) -> None:
    """Serials name one list each (O4); ``only_grow`` also refuses what is older than a list held.

    A peer's older list is kept as history: a message that was sealed under it is then told from one under a list that
    was never signed. Raises ``PeerError``: officers.conflict, officers.stale.
    """
    for other in held:
        if other.serial == offered.serial and other.digest != offered.digest:
            raise PeerError("officers.conflict", "officers.serial")
        if only_grow and other.serial > offered.serial:
            raise PeerError("officers.stale", "officers.serial")
