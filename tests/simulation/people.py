"""Who takes part in the simulation: six focal points with fixed keys, their cards, and what they agree on.

Everything follows from names, is of a training network, and is made once a process: signing takes most of the time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from exchange.adapters.keyring import HybridKey, Keyring, new_hybrid_key, new_node_secrets
from exchange.core import wire
from exchange.core.checkpoint import Origin, log_keys
from exchange.core.keys import Authority, Card, NodeKey, Use, encode_card, read_card
from exchange.core.officers import Officer, OfficerList, Role, encode_officers
from exchange.core.suspensions import Action, Suspension, encode_suspension
from exchange.core.wire import AgreementId, DocumentType, NetworkId, NodeId, UnverifiedDocument, encode_signed_document
from tests.core.builders import TestOnlyEntropy
from tests.core.builders import testonly_officer as testonly_officer_key
from tests.schemas.samples import book

if TYPE_CHECKING:
    from exchange.core.checkpoint import LogKeys
    from exchange.core.wire import Digest

NETWORK: Final = NetworkId("training-simulation")
EPOCH: Final = datetime(2026, 11, 23, tzinfo=UTC)
COUNTRIES: Final = ("KH", "TH", "LA", "MM", "VN", "CN")
_DAY: Final = timedelta(days=1)


class _NoFiles:
    """A key holder that only shows its public halves needs no prekeys."""

    def save(self, name: str, data: bytes) -> None:
        raise NotImplementedError(name, data)

    def load(self, name: str) -> bytes | None:
        raise NotImplementedError(name)

    def destroy(self, name: str) -> None:
        raise NotImplementedError(name)


@dataclass(frozen=True)
class Person:
    """A focal point: its node's secrets, its authority, its card."""

    node: NodeId
    authority: HybridKey
    secrets: dict[str, bytes]
    log_keys: LogKeys
    card: bytes
    personnel: tuple[HybridKey, ...]

    @property
    def fingerprint(self) -> Digest:
        """What agreements name."""
        return Authority(1, (self.authority.public,)).fingerprint


def _sign(payload_type: str, payload: bytes, *keys: HybridKey) -> bytes:
    signatures = tuple(key.signature(payload_type, payload) for key in keys)
    return encode_signed_document(UnverifiedDocument(payload_type, payload, signatures))


@lru_cache
def person(index: int) -> Person:
    """The focal point of that index."""
    country = COUNTRIES[index]
    node = NodeId(f"{country.lower()}-fp1")
    entropy = TestOnlyEntropy(f"simulation {node}")
    authority, secrets = new_hybrid_key(entropy.take), new_node_secrets(entropy.take)
    ring = Keyring(secrets, _NoFiles(), entropy.take)
    origin = Origin(NETWORK, node)
    apart = TestOnlyEntropy(f"personnel {node}")
    personnel = tuple(new_hybrid_key(apart.take) for _ in range(3))
    uses = (
        (ring.envelope_key, Use.ENVELOPE),
        (ring.bundle_key, Use.BUNDLE),
        (ring.log_keys[0], Use.LOG),
        (ring.log_keys[1], Use.LOG),
        *((key.public, Use.PERSONNEL) for key in personnel),
    )
    card = Card(
        network=NETWORK,
        node=node,
        country=country,
        agency={"en": f"Invented focal point of {country}"},
        version=1,
        previous=None,
        issued=EPOCH - _DAY,
        expires=EPOCH + 700 * _DAY,
        authority=Authority(1, (authority.public,)),
        keys=tuple(NodeKey(key, use, EPOCH - _DAY, EPOCH + 700 * _DAY) for key, use in uses),
        log_origin=str(origin),
        tls_pins=(entropy.digest(),),
        endpoints=(f"https://{node}.example:8443",),
        reach="open",
        accepts=tuple(book().kinds),
        duty_desk="invented",
        personnel_threshold=2,
    )
    keys = log_keys(origin, ring.log_keys[0].raw, ring.log_keys[1].raw)
    return Person(node, authority, secrets, keys, _sign(DocumentType.CARD, encode_card(card), authority), personnel)


@lru_cache
def successor_card(index: int) -> bytes:
    """A properly signed second card that has no bundle key of the first any more."""
    document = wire.parse_signed_document(person(index).card)
    card = read_card(document)
    other = new_hybrid_key(TestOnlyEntropy(f"other bundle key of {card.node}").take)
    keys = tuple(replace(key, key=other.public) if key.use is Use.BUNDLE else key for key in card.keys)
    second = replace(card, version=2, previous=document.digest(), keys=keys)
    return _sign(DocumentType.CARD, encode_card(second), person(index).authority)


@lru_cache
def other_personnel(index: int) -> bytes:
    """A properly signed second card, whose personnel are other people."""
    document = wire.parse_signed_document(person(index).card)
    card = read_card(document)
    other = new_hybrid_key(TestOnlyEntropy(f"other personnel of {card.node}").take)
    kept = tuple(key for key in card.keys if key.use is not Use.PERSONNEL)
    named = replace(card.keys[-1], key=other.public)
    second = replace(card, version=2, previous=document.digest(), keys=(*kept, named), personnel_threshold=1)
    return _sign(DocumentType.CARD, encode_card(second), person(index).authority)


@lru_cache(maxsize=64)
def officers(index: int, serial: int, *listed: tuple[str, str], signers: int = 2) -> bytes:
    """The list of a focal point's officers: names, and their roles separated by spaces; in force for a year."""
    someone = person(index)
    entries = tuple(
        Officer(
            testonly_officer_key(name).public,
            frozenset(map(Role, roles.split())),
            EPOCH - _DAY,
            EPOCH + 365 * _DAY,
        )
        for name, roles in listed
    )
    draft = OfficerList(NETWORK, someone.node, serial, EPOCH, entries)
    return _sign(DocumentType.OFFICERS, encode_officers(draft), *someone.personnel[:signers])


# -- agreements ------------------------------------------------------------------------------------


QUOTA: Final = 3


def _clause(ident: str, kinds: list[str], parties: list[str], **changes: object) -> dict[str, object]:
    clause: dict[str, Any] = {
        "id": ident,
        "text": {"en": "invented"},
        "permit": {
            "kinds": kinds,
            "from": parties,
            "to": parties,
            "purposes": ["*"],
            "handling": ["H0", "H1", "H2", "H3"],
            "tlp": "RED",
            "urgency": ["urgent_8h", "urgent_3d", "normal_7d"],
        },
        "requires": {
            "approvals": {"count": 0, "supervisors": 0},
            "consent": False,
            "checks": [],
            "dual_criminality": False,
            "child_safeguards": False,
        },
        "blobs": {"max_count": 0, "max_bytes": 0},
        "retention_days": 3000,
        "withhold": [],
        "onward": {"use": "never"},
    }
    clause["permit"]["from"] = changes.pop("sender", parties)
    return clause | changes


def agreement_id(indexes: tuple[int, ...]) -> str:
    """How the agreement of these focal points is called."""
    return "-".join(COUNTRIES[index].lower() for index in indexes)


@lru_cache(maxsize=512)
def agreement(indexes: tuple[int, ...], version: int, valid_from: int, valid_until: int) -> bytes:
    """The agreement of these focal points; ``valid_from`` and ``valid_until`` in seconds from EPOCH.

    Clauses: ``talk`` for requests, answers and acknowledgements; ``names``, a few a day, without identities; ``files``
    for evidence with its files, from the first party alone. Profiles of victims are prohibited. The second version
    permits no requests any more, and any number of names.
    """
    people = [person(index) for index in indexes]
    nodes: list[str] = [item.node for item in people]
    requests = ["information-request"] if version == 1 else []
    quota: dict[str, object] = {"quota_per_day": QUOTA} if version == 1 else {}
    clauses = [
        _clause("talk", ["acknowledgement", "information-response", *requests], nodes),
        _clause("names", ["suspect"], nodes, withhold=["identity"], **quota),
        _clause("files", ["evidence"], nodes, sender=nodes[:1], blobs={"max_count": 4, "max_bytes": 10**7}),
    ]
    before = None
    if version > 1:
        first = wire.parse_signed_document(agreement(indexes, version - 1, -86_400, valid_until))
        before = first.digest()
    payload = wire.encode_json(
        {
            "network": NETWORK,
            "id": agreement_id(indexes),
            "version": version,
            "supersedes": before,
            "title": {"en": "Invented agreement"},
            "legal_basis": [{"title": {"en": "invented"}, "article": "1", "date": "2026-01-01"}],
            "parties": [{"node": item.node, "authority": item.fingerprint} for item in people],
            "valid_from": wire.encode_time(EPOCH + timedelta(seconds=valid_from)),
            "valid_until": wire.encode_time(EPOCH + timedelta(seconds=valid_until)),
            "clauses": clauses,
            "prohibitions": [{"id": "victims", "text": {"en": "none"}, "when": {"kinds": ["victim"]}}],
        }
    )
    return _sign(DocumentType.AGREEMENT, payload, *(item.authority for item in people))


@lru_cache(maxsize=64)
def agreement_of(indexes: tuple[int, ...], ident: str, clauses: str) -> bytes:
    """The agreement of these focal points with clauses of a test's own, in force for a year.

    ``clauses`` is a JSON object: by the id of a clause, its ``kinds`` and whatever else of it is not usual.
    """
    people = [person(index) for index in indexes]
    nodes: list[str] = [item.node for item in people]
    wanted = json.loads(clauses)
    payload = wire.encode_json(
        {
            "network": NETWORK,
            "id": ident,
            "version": 1,
            "supersedes": None,
            "title": {"en": "Invented agreement"},
            "legal_basis": [{"title": {"en": "invented"}, "article": "1", "date": "2026-01-01"}],
            "parties": [{"node": item.node, "authority": item.fingerprint} for item in people],
            "valid_from": wire.encode_time(EPOCH - timedelta(days=1)),
            "valid_until": wire.encode_time(EPOCH + timedelta(days=365)),
            "clauses": [_clause(name, changes.pop("kinds"), nodes, **changes) for name, changes in wanted.items()],
            "prohibitions": [],
        }
    )
    return _sign(DocumentType.AGREEMENT, payload, *(item.authority for item in people))


def notice(index: int, indexes: tuple[int, ...], serial: int, action: Action, time: datetime) -> bytes:
    """A notice of a focal point about the agreement of these, signed by its authority."""
    ident = AgreementId(agreement_id(indexes))
    made = Suspension(
        NETWORK,
        ident,
        person(index).node,
        serial,
        action,
        time.replace(microsecond=0),
        {"en": "invented"},
        True,  # noqa: FBT003 - others go on
    )
    return _sign(DocumentType.SUSPENSION, encode_suspension(made), person(index).authority)
