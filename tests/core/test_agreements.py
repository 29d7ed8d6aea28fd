"""Agreements: read strictly, signed by every authority, and decided alike at both ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from exchange.core import wire
from exchange.core.agreements import Agreement, Exchange, decide, read_agreement, verify_agreement
from exchange.core.errors import PeerError
from exchange.core.wire import Digest, DocumentType, NodeId
from tests.core import builders
from tests.core.builders import KH, NOW

if TYPE_CHECKING:
    from collections.abc import Callable

TH = NodeId("th-fp1")


def clause(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - members of a clause
    return {
        "id": "art-1",
        "text": {"en": "Suspects may be sent."},
        "permit": {
            "kinds": ["suspect"],
            "from": [TH],
            "to": [KH],
            "purposes": ["investigation"],
            "handling": ["H0", "H1"],
            "tlp": "AMBER",
        },
        "requires": {"approvals": 0, "consent": False},
        "blobs": {"max_count": 2, "max_bytes": 1000},
        "retention_days": 365,
        "withhold": [],
        "onward": "with_consent",
        **changes,
    }


def payload(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - members of an agreement
    return {
        "network": "training-test",
        "id": "kh-th",
        "version": 1,
        "title": {"en": "Exchange"},
        "legal_basis": {"en": "Memorandum, article 1"},
        "parties": [{"node": TH, "authority": "1" * 64}, {"node": KH, "authority": "2" * 64}],
        "valid_from": wire.encode_time(NOW - timedelta(days=1)),
        "valid_until": wire.encode_time(NOW + timedelta(days=1)),
        "clauses": [clause()],
        "prohibitions": [],
        **changes,
    }


def agreement(**changes: Any) -> Agreement:  # noqa: ANN401
    return read_agreement(wire.UnverifiedDocument(DocumentType.AGREEMENT, wire.encode_json(payload(**changes)), ()))


EXCHANGE = Exchange(
    sender=TH,
    recipient=KH,
    kind="suspect",
    purpose="investigation",
    handling=frozenset({"H1"}),
    tlp="AMBER",
    onward="never",
    retention_days=365,
    created=NOW,
    content={"acts": ["transfer"]},
    blob_count=2,
    blob_bytes=1000,
)


def test_a_permit_names_its_agreement_and_clause() -> None:
    """What every condition of a clause permits is allowed, under that clause."""
    decision = decide(agreement(), EXCHANGE, {})
    assert (decision.allowed, decision.agreement, decision.version, decision.clause) == (True, "kh-th", 1, "art-1")


@pytest.mark.parametrize(
    ("changes", "clause_changes", "code", "named"),
    [
        ({"kind": "victim"}, {}, "agreement.no_clause", None),
        ({"sender": KH, "recipient": TH}, {}, "agreement.no_clause", "art-1"),
        ({"purpose": "repatriation"}, {}, "agreement.purpose", "art-1"),
        ({"handling": frozenset({"H1", "H2"})}, {}, "agreement.handling", "art-1"),
        ({"tlp": "RED"}, {}, "agreement.tlp", "art-1"),
        ({"onward": "parties"}, {}, "agreement.onward", "art-1"),
        ({"retention_days": 366}, {}, "agreement.retention", "art-1"),
        ({"blob_count": 3}, {}, "agreement.blobs", "art-1"),
        ({"blob_bytes": 1001}, {}, "agreement.blobs", "art-1"),
        ({}, {"requires": {"approvals": 0, "consent": True}}, "agreement.consent", "art-1"),
        ({"withheld": (("identity", "art-1"),)}, {}, "agreement.withheld", "art-1"),
        ({"withheld": (("identity", "art-9"),)}, {"withhold": ["identity"]}, "agreement.withheld", "art-1"),
        ({"present": ("identity",)}, {"withhold": ["identity"]}, "agreement.withheld", "art-1"),
        ({}, {"requires": {"approvals": 2, "consent": False}}, "envelope.approval", "art-1"),
        ({}, {"content": {"required": ["means"]}}, "agreement.content", "art-1"),
        ({}, {"quota_per_day": 3}, "agreement.quota", "art-1"),
        ({"recipient": NodeId("la-fp1")}, {}, "agreement.not_party", None),
        ({"created": NOW + timedelta(days=1)}, {}, "agreement.not_in_force", None),
        ({"created": NOW - timedelta(days=1, seconds=1)}, {}, "agreement.not_in_force", None),
    ],
)
def test_the_first_condition_that_fails_refuses(
    changes: dict[str, Any], clause_changes: dict[str, Any], code: str, named: str | None
) -> None:
    """Each condition refuses with its own code and names the clause that came nearest."""
    decision = decide(agreement(clauses=[clause(**clause_changes)]), replace(EXCHANGE, **changes), {"art-1": 3})
    assert (decision.allowed, decision.code, decision.clause) == (False, code, named)
    assert (decision.refuse().code, decision.refuse().clause) == (code, named)


@pytest.mark.parametrize(
    ("changes", "clause_changes"),
    [
        ({"consent": True}, {"requires": {"approvals": 0, "consent": True}}),
        ({"withheld": (("identity", "art-1"),), "present": ("main",)}, {"withhold": ["identity"]}),
        ({"approvals": 2}, {"requires": {"approvals": 2, "consent": False}}),
        ({}, {"content": {"required": ["acts"]}}),
        ({}, {"quota_per_day": 4}),
        ({"kind": "victim"}, {"permit": {**clause()["permit"], "kinds": ["*"]}}),
    ],
)
def test_a_condition_that_holds_does_not_refuse(changes: dict[str, Any], clause_changes: dict[str, Any]) -> None:
    """What a clause demands and the message has is allowed."""
    assert decide(agreement(clauses=[clause(**clause_changes)]), replace(EXCHANGE, **changes), {"art-1": 3}).allowed


def test_the_nearest_clause_is_named() -> None:
    """Of several clauses that refuse, the one that got furthest explains; a later one that permits is used."""
    far = clause(id="art-2", permit={**clause()["permit"], "tlp": "CLEAR"})
    near = clause(permit={**clause()["permit"], "purposes": ["repatriation"]})
    assert decide(agreement(clauses=[near, far]), EXCHANGE, {}).clause == "art-2"
    assert decide(agreement(clauses=[far, near]), EXCHANGE, {}).clause == "art-2"
    assert decide(agreement(clauses=[near, clause(id="art-3")]), EXCHANGE, {}).clause == "art-3"


def test_a_receiver_judges_the_clause_relied_on() -> None:
    """Another clause that would permit does not help a message that relies on one that does not."""
    both = agreement(clauses=[clause(), clause(id="art-2", permit={**clause()["permit"], "tlp": "CLEAR"})])
    assert decide(both, EXCHANGE, {}, "art-1").allowed
    refused = decide(both, EXCHANGE, {}, "art-2")
    assert (refused.code, refused.clause) == ("agreement.tlp", "art-2")
    unknown = decide(both, EXCHANGE, {}, "art-7")
    assert (unknown.code, unknown.clause) == ("agreement.no_clause", "art-7")


@pytest.mark.parametrize(
    ("when", "matches"),
    [
        ({}, True),
        ({"kinds": ["suspect"]}, True),
        ({"kinds": ["victim"]}, False),
        ({"purposes": ["repatriation"]}, False),
        ({"content": {"required": ["acts"]}}, True),
        ({"content": {"required": ["means"]}}, False),
    ],
)
def test_a_prohibition_wins(when: dict[str, Any], matches: bool) -> None:  # noqa: FBT001
    """A prohibition whose every condition holds refuses what a clause permits, and names itself."""
    decision = decide(agreement(prohibitions=[{"id": "p-1", "text": {"en": "Never."}, "when": when}]), EXCHANGE, {})
    assert decision.allowed is not matches
    if matches:
        assert (decision.code, decision.clause) == ("agreement.prohibited", "p-1")


@pytest.mark.parametrize(
    ("changes", "code", "where"),
    [
        ({"parties": payload()["parties"][:1] * 2}, "agreement.malformed", "agreement.parties"),
        ({"clauses": [clause(), clause()]}, "agreement.malformed", "agreement.clauses ids"),
        ({"valid_until": payload()["valid_from"]}, "agreement.malformed", "agreement.valid_until"),
        ({"version": 2}, "agreement.malformed", "agreement.supersedes"),
        ({"supersedes": "3" * 64}, "agreement.malformed", "agreement.supersedes"),
        (
            {"clauses": [clause(permit={**clause()["permit"], "to": ["la-fp1"]})]},
            "agreement.malformed",
            "a clause names a node that is not a party",
        ),
        (
            {"clauses": [clause(permit={**clause()["permit"], "handling": ["H9"]})]},
            "agreement.malformed",
            "agreement.clauses[0].permit.handling",
        ),
        ({"extra": 1}, "wire.unknown_member", "agreement"),
        ({"clauses": [clause(content={"$ref": "x"})]}, "agreement.malformed", None),
    ],
)
def test_an_agreement_without_sense_is_refused(changes: dict[str, Any], code: str, where: str | None) -> None:
    """An agreement that contradicts itself is refused with the place."""
    with pytest.raises(PeerError) as caught:
        agreement(**changes)
    assert caught.value.code == code
    assert where is None or caught.value.where == where


def test_another_document_is_not_an_agreement() -> None:
    """A payload of another type is refused before it is read."""
    with pytest.raises(PeerError) as caught:
        read_agreement(wire.UnverifiedDocument(DocumentType.CARD, wire.encode_json(payload()), ()))
    assert caught.value.code == "wire.wrong_type"


def signed(*signers: builders.TestOnlyNode, **changes: Any) -> wire.UnverifiedDocument:  # noqa: ANN401
    keys = [key for node in signers for key in node.authority[:2]]
    return builders.testonly_sign(DocumentType.AGREEMENT, wire.encode_json(payload(**changes)), *keys)


def authorities(*nodes: builders.TestOnlyNode) -> Callable[[NodeId, Digest], Any]:
    held = {(node.card.node, node.card.authority.fingerprint): node.card.authority for node in nodes}
    return lambda node, fingerprint: held.get((node, fingerprint))


def test_every_authority_must_have_signed() -> None:
    """An agreement is trusted when each party's authority, of the fingerprint named, signed with its threshold."""
    thai, khmer = builders.testonly_node(TH), builders.testonly_node(KH)
    parties = [{"node": n.card.node, "authority": n.card.authority.fingerprint} for n in (thai, khmer)]
    network = thai.card.network
    document = signed(thai, khmer, parties=parties, network=network)
    verified = verify_agreement(document, network, authorities(thai, khmer))
    assert verified.digest == document.digest()
    assert [party.node for party in verified.parties] == [TH, KH]
    for broken, held, code, where in (
        (signed(thai, parties=parties, network=network), (thai, khmer), "key.threshold", f"authority of {KH}"),
        (document, (thai,), "card.chain", KH),
        (signed(thai, khmer, parties=parties, network="training-x"), (thai, khmer), "key.wrong_network", None),
    ):
        with pytest.raises(PeerError) as caught:
            verify_agreement(broken, network, authorities(*held))
        assert caught.value.code == code
        assert where is None or caught.value.where == where
