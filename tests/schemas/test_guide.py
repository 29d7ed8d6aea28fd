"""The guide for legal officers: its worked example is an agreement that does what the guide says it does."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any, Final

import pytest

from exchange.cli.agreement_faults import find_agreement_problems
from exchange.core.agreements import Agreement, read_agreement
from exchange.core.decision import Decision, Exchange, decide
from exchange.core.wire import DocumentType, NodeId, UnverifiedDocument, encode_json
from tests.core import rules
from tests.core.builders import NOW
from tests.places import ROOT
from tests.schemas import samples

GUIDE: Final = (ROOT / "docs" / "agreements.md").read_text(encoding="utf-8")
EXAMPLES: Final = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)]


@pytest.fixture(scope="module")
def worked() -> Agreement:
    """The worked example, as both authorities would sign it; it has no fault."""
    said, basis = EXAMPLES
    payload = rules.payload(**said, legal_basis=basis)
    document = UnverifiedDocument(DocumentType.AGREEMENT, encode_json(payload), ())
    assert find_agreement_problems(samples.book(), document) == ()
    return read_agreement(document)


def person(**more: Any) -> dict[str, Any]:  # noqa: ANN401 - members of a person
    return {"id": "p1", "type": "person", "roles": ["victim"], "age_group": "adult", "status": ["in_shelter"], **more}


CASE: Final = Exchange(
    sender=NodeId("th-fp1"),
    recipient=NodeId("kh-fp1"),
    kind="case-referral",
    purpose="investigation",
    handling=frozenset({"H1"}),
    tlp="AMBER",
    urgency="urgent_3d",
    onward="never",
    retention_days=365,
    created=NOW,
    content={"entities": [person()]},
    withheld=(("identity", "art-10.1"),),
    dual_criminality=True,
    approvals=2,
    supervisors=1,
)
VICTIM: Final = replace(
    CASE,
    kind="victim",
    purpose="victim_protection",
    withheld=(),
    present=("identity",),
    consent=True,
    checks=frozenset({"risk_to_person", "informed", "minimum_data"}),
)


@pytest.mark.parametrize(
    ("message", "clause", "needs"),
    [
        (CASE, "art-10.1", []),
        (replace(CASE, purpose="prevention"), "art-10.1", ["agreement.purpose"]),
        (
            replace(CASE, tlp="RED", retention_days=3650, approvals=1),
            "art-10.1",
            ["agreement.tlp", "agreement.retention", "envelope.approval"],
        ),
        (VICTIM, "art-6.1", []),
        (replace(VICTIM, child=True), "art-6.1", ["agreement.child_safeguards"]),
        (
            replace(VICTIM, content={"entities": [person(status=["arrested"])]}),
            "art-6.1-custody",
            ["agreement.prohibited"],
        ),
    ],
)
def test_the_worked_example_does_what_the_guide_says(
    worked: Agreement, message: Exchange, clause: str, needs: list[str]
) -> None:
    """Each line of the guide's last table ends as it is told there."""
    decision: Decision = decide(worked, message, {})
    assert (decision.clause, [need.code for need in decision.needs]) == (clause, needs)
    assert decision.allowed is not bool(needs)


def test_every_member_of_a_clause_is_explained() -> None:
    """The guide names every member that a clause and what is in it may have."""
    clause: dict[str, Any] = samples.load(samples.SCHEMAS / "common" / "clause.json")["properties"]
    inner = [*clause["permit"]["properties"], *clause["requires"]["properties"], *clause["onward"]["properties"]]
    missing = [name for name in (*clause, *inner) if not re.search(rf"[`.]{name}[`.]", GUIDE)]
    assert [name for name in missing if name not in {"id", "permit", "requires"}] == []
