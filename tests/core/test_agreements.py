"""Agreements: read strictly, and believed when every authority has signed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from exchange.core import wire
from exchange.core.agreements import Approvals, LegalBasis, Onward, read_agreement, verify_agreement
from exchange.core.errors import PeerError
from exchange.core.wire import Digest, DocumentType, NodeId
from tests.core import builders
from tests.core.builders import KH
from tests.core.rules import TH, agreement, clause, payload, permit, requires

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_clause_says_what_was_read() -> None:
    """Every member of the clause form is in the clause, with the meaning of protocol 8.1."""
    three = [{"node": node, "authority": digit * 64} for node, digit in ((TH, "1"), (KH, "2"), ("la-fp1", "3"))]
    said = clause(
        **requires(approvals={"count": 3, "supervisors": 1}, checks=["informed"], child_safeguards=True),
        respond_within={"urgent_3d": 72},
        onward={"use": "parties", "parties": ["la-fp1"]},
        quota_per_day=7,
    )
    (read,) = agreement(parties=three, clauses=[said]).clauses
    assert read.approvals == Approvals(3, 1)
    assert read.onward == Onward("parties", (NodeId("la-fp1"),))
    assert read.urgency == {"urgent_3d", "normal_7d"}
    assert read.respond_within == {"urgent_3d": 72}
    assert (read.checks, read.dual_criminality, read.child_safeguards) == (("informed",), False, True)
    assert (read.quota_per_day, read.consent) == (7, False)
    assert agreement().legal_basis == (LegalBasis({"en": "Memorandum"}, "1", "2026-01-31"),)


def test_a_clause_is_found_by_kind_and_by_id() -> None:
    """Clauses for a kind keep the order of the document, those for all kinds among them."""
    every = permit(kinds=["*"])
    read = agreement(clauses=[clause(id="a", **every), clause(id="b"), clause(id="c", **permit(kinds=["victim"]))])
    assert [item.id for item in read.clauses_for("suspect")] == ["a", "b"]
    assert [item.id for item in read.clauses_for("victim")] == ["a", "c"]
    assert [item.id for item in read.clauses_for("evidence")] == ["a"]
    assert agreement().clauses_for("evidence") == ()
    assert (read.clause("b"), read.clause("z")) == (read.clauses[1], None)


@pytest.mark.parametrize(
    ("changes", "code", "where"),
    [
        ({"parties": payload()["parties"][:1] * 2}, "agreement.malformed", "agreement.parties"),
        ({"clauses": [clause(), clause()]}, "agreement.malformed", "agreement.clauses ids"),
        ({"valid_until": payload()["valid_from"]}, "agreement.malformed", "agreement.valid_until"),
        ({"version": 2}, "agreement.malformed", "agreement.supersedes"),
        ({"supersedes": "3" * 64}, "agreement.malformed", "agreement.supersedes"),
        (
            {"clauses": [clause(**permit(to=["la-fp1"]))]},
            "agreement.malformed",
            "a clause names a node that is not a party",
        ),
        (
            {"clauses": [clause(**permit(handling=["H9"]))]},
            "agreement.malformed",
            "agreement.clauses[0].permit.handling",
        ),
        (
            {"clauses": [clause(onward={"use": "parties", "parties": ["la-fp1"]})]},
            "agreement.malformed",
            "a clause names a node that is not a party",
        ),
        (
            {"clauses": [clause(**permit(urgency=["soon"]))]},
            "agreement.malformed",
            "agreement.clauses[0].permit.urgency",
        ),
        ({"clauses": [clause(**permit(urgency=[]))]}, "wire.bad_value", "agreement.clauses[0].permit.urgency"),
        ({"clauses": [clause(respond_within={})]}, "agreement.malformed", "agreement.clauses[0].respond_within"),
        (
            {"clauses": [clause(respond_within={"urgent_8h": 8})]},
            "agreement.malformed",
            "agreement.clauses[0].respond_within",
        ),
        (
            {"clauses": [clause(respond_within={"urgent_3d": 0})]},
            "wire.bad_value",
            "agreement.clauses[0].respond_within.urgent_3d",
        ),
        (
            {"clauses": [clause(respond_within={"soon": 1})]},
            "wire.unknown_member",
            "agreement.clauses[0].respond_within",
        ),
        (
            {"clauses": [clause(onward={"use": "parties"})]},
            "agreement.malformed",
            "agreement.clauses[0].onward.parties",
        ),
        (
            {"clauses": [clause(onward={"use": "never", "parties": [KH]})]},
            "agreement.malformed",
            "agreement.clauses[0].onward.parties",
        ),
        (
            {"clauses": [clause(**requires(approvals={"count": 1, "supervisors": 2}))]},
            "wire.bad_value",
            "agreement.clauses[0].requires.approvals.supervisors",
        ),
        (
            {"clauses": [clause(**requires(checks=["Not a code"]))]},
            "wire.bad_value",
            "agreement.clauses[0].requires.checks",
        ),
        ({"legal_basis": []}, "wire.bad_value", "agreement.legal_basis"),
        (
            {"legal_basis": [{"title": {"en": "Act"}, "article": "1", "date": "2026-02-30"}]},
            "agreement.malformed",
            "agreement.legal_basis[0].date",
        ),
        (
            {"legal_basis": [{"title": {"en": "Act"}, "article": "1", "date": "2026"}]},
            "wire.bad_value",
            "agreement.legal_basis[0].date",
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
        (document, (thai,), "agreement.authority", KH),
        (signed(thai, khmer, parties=parties, network="training-x"), (thai, khmer), "key.wrong_network", None),
    ):
        with pytest.raises(PeerError) as caught:
            verify_agreement(broken, network, authorities(*held))
        assert caught.value.code == code
        assert where is None or caught.value.where == where
