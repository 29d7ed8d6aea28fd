"""Decisions: every condition refuses by itself, the nearest clause explains, prohibitions win."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from exchange.core.decision import decide
from exchange.core.wire import NodeId
from tests.core.builders import KH, NOW
from tests.core.rules import EXCHANGE, TH, agreement, clause, permit, requires


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
        ({}, requires(consent=True), "agreement.consent", "art-1"),
        ({"withheld": (("identity", "art-1"),)}, {}, "agreement.withheld", "art-1"),
        ({"withheld": (("identity", "art-9"),)}, {"withhold": ["identity"]}, "agreement.withheld", "art-1"),
        ({"present": ("identity",)}, {"withhold": ["identity"]}, "agreement.withheld", "art-1"),
        ({"urgency": "urgent_8h"}, {}, "agreement.urgency", "art-1"),
        (
            {"checks": frozenset({"informed"})},
            requires(checks=["informed", "not_detained"]),
            "agreement.checks",
            "art-1",
        ),
        ({}, requires(dual_criminality=True), "agreement.dual_criminality", "art-1"),
        ({"child": True}, requires(child_safeguards=True), "agreement.child_safeguards", "art-1"),
        ({"approvals": 1}, requires(approvals={"count": 2, "supervisors": 0}), "envelope.approval", "art-1"),
        ({"approvals": 2}, requires(approvals={"count": 2, "supervisors": 1}), "envelope.approval", "art-1"),
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
        ({"consent": True}, requires(consent=True)),
        ({"withheld": (("identity", "art-1"),), "present": ("main",)}, {"withhold": ["identity"]}),
        ({"approvals": 2, "supervisors": 1}, requires(approvals={"count": 2, "supervisors": 1})),
        ({"checks": frozenset({"informed", "not_detained"})}, requires(checks=["informed"])),
        ({"dual_criminality": True}, requires(dual_criminality=True)),
        ({"child": True, "child_safeguards": True}, requires(child_safeguards=True)),
        ({}, requires(child_safeguards=True)),
        ({"urgency": "urgent_3d"}, {}),
        ({}, {"content": {"required": ["acts"]}}),
        ({}, {"quota_per_day": 4}),
        ({"kind": "victim"}, permit(kinds=["*"])),
    ],
)
def test_a_condition_that_holds_does_not_refuse(changes: dict[str, Any], clause_changes: dict[str, Any]) -> None:
    """What a clause demands and the message has is allowed."""
    assert decide(agreement(clauses=[clause(**clause_changes)]), replace(EXCHANGE, **changes), {"art-1": 3}).allowed


def test_the_nearest_clause_is_named() -> None:
    """Of several clauses that refuse, the one that got furthest explains; a later one that permits is used."""
    far = clause(id="art-2", **permit(tlp="CLEAR"))
    near = clause(**permit(purposes=["repatriation"]))
    assert decide(agreement(clauses=[near, far]), EXCHANGE, {}).clause == "art-2"
    assert decide(agreement(clauses=[far, near]), EXCHANGE, {}).clause == "art-2"
    assert decide(agreement(clauses=[near, clause(id="art-3")]), EXCHANGE, {}).clause == "art-3"


def test_a_receiver_judges_the_clause_relied_on() -> None:
    """Another clause that would permit does not help a message that relies on one that does not."""
    both = agreement(clauses=[clause(), clause(id="art-2", **permit(tlp="CLEAR"))])
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


def test_a_refusal_tells_everything_that_would_have_to_change() -> None:
    """What is lacking is listed whole, in the order of the conditions, with the clause's wording in every language."""
    asked = clause(**requires(consent=True, dual_criminality=True))
    changed = replace(EXCHANGE, tlp="RED", retention_days=400)
    refused = decide(agreement(clauses=[asked]), changed, {})
    assert [need.code for need in refused.needs] == [
        "agreement.tlp",
        "agreement.retention",
        "agreement.consent",
        "agreement.dual_criminality",
    ]
    assert (refused.code, refused.reason) == refused.needs[0] == ("agreement.tlp", "at most AMBER")
    assert refused.text == asked["text"]
    assert decide(agreement(), EXCHANGE, {}).text == asked["text"]


def test_every_prohibition_that_matches_is_told_before_what_the_clause_lacks() -> None:
    """A message that two prohibitions forbid learns of both, and of what its clause asks for besides."""
    rules: list[dict[str, Any]] = [{"id": f"p-{n}", "text": {"en": f"Never {n}."}, "when": {}} for n in range(2)]
    rules.append({"id": "p-9", "text": {"en": "Other."}, "when": {"kinds": ["victim"]}})
    refused = decide(agreement(prohibitions=rules), replace(EXCHANGE, tlp="RED"), {})
    assert [need.what for need in refused.needs] == [
        "the prohibition p-0 matches",
        "the prohibition p-1 matches",
        "at most AMBER",
    ]
    assert (refused.clause, refused.text) == ("p-0", {"en": "Never 0."})


def test_a_clause_relied_on_for_another_kind_is_named() -> None:
    """A receiver that looks at one clause names it, though it has nothing to say of the kind."""
    refused = decide(agreement(), replace(EXCHANGE, kind="victim"), {}, "art-1")
    assert (refused.code, refused.clause, refused.reason) == (
        "agreement.no_clause",
        "art-1",
        "no clause is for this kind",
    )
