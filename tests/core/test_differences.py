"""Two versions of an agreement: every difference is found, and called what it does to what may pass."""

from __future__ import annotations

from typing import Any

import pytest

from exchange.core.differences import Difference, Effect, compare
from tests.core import rules
from tests.core.builders import KH
from tests.core.rules import TH

W, N, C = Effect.WIDER, Effect.NARROWER, Effect.CHANGED
RULE = {"id": "never-1", "text": {"en": "Never."}, "when": {"kinds": ["suspect"], "purposes": ["investigation"]}}
SCHEMA = {"required": ["acts"]}
OTHER = {"required": ["links"]}


def between(old: dict[str, Any], new: dict[str, Any]) -> list[Difference]:
    """The differences between two clauses."""
    before, after = (rules.agreement(clauses=[rules.clause(**changes)]) for changes in (old, new))
    return list(compare(before, after))


def test_same_agreement_has_no_difference() -> None:
    """An agreement does not differ from itself, nor by its version and digest alone."""
    full = {"content": SCHEMA, "quota_per_day": 3, "respond_within": {"normal_7d": 168}}
    one = rules.agreement(clauses=[rules.clause(**full)], prohibitions=[RULE])
    two = rules.agreement(clauses=[rules.clause(**full)], prohibitions=[RULE], version=2, supersedes="1" * 64)
    assert compare(one, one) == ()
    assert compare(one, two) == ()


CLAUSES = [
    ("kinds", rules.permit(), rules.permit(kinds=["suspect", "evidence"]), [("", "evidence", W)]),
    ("kinds", rules.permit(), rules.permit(kinds=["evidence"]), [("", "evidence", W), ("suspect", "", N)]),
    ("kinds", rules.permit(), rules.permit(kinds=["*"]), [("suspect", "*", W)]),
    ("purposes", rules.permit(purposes=["*"]), rules.permit(), [("*", "investigation", N)]),
    ("purposes", rules.permit(purposes=["*"]), rules.permit(purposes=["*", "investigation"]), []),
    ("from", rules.permit(), rules.permit(**{"from": [TH, KH]}), [("", KH, W)]),
    ("to", rules.permit(to=[KH, TH]), rules.permit(), [(TH, "", N)]),
    ("handling", rules.permit(), rules.permit(handling=["H0", "H1", "H2", "H3"]), [("", "H2, H3", W)]),
    ("urgency", rules.permit(), rules.permit(urgency=["normal_7d"]), [("urgent_3d", "", N)]),
    ("TLP", rules.permit(), rules.permit(tlp="RED"), [("AMBER", "RED", W)]),
    ("TLP", rules.permit(), rules.permit(tlp="CLEAR"), [("AMBER", "CLEAR", N)]),
    ("onward use", {}, {"onward": {"use": "never"}}, [("with_consent", "never", N)]),
    ("retention days", {}, {"retention_days": 366}, [("365", "366", W)]),
    ("files", {}, {"blobs": {"max_count": 1, "max_bytes": 1000}}, [("2", "1", N)]),
    ("bytes of files", {}, {"blobs": {"max_count": 2, "max_bytes": 1001}}, [("1000", "1001", W)]),
    ("quota a day", {}, {"quota_per_day": 3}, [("no limit", "3", N)]),
    ("quota a day", {"quota_per_day": 3}, {}, [("3", "no limit", W)]),
    ("quota a day", {"quota_per_day": 3}, {"quota_per_day": 4}, [("3", "4", W)]),
    ("approvals", {}, rules.requires(approvals={"count": 2, "supervisors": 0}), [("0", "2", N)]),
    ("consent", {}, rules.requires(consent=True), [("not required", "required", N)]),
    ("dual criminality", rules.requires(dual_criminality=True), {}, [("required", "not required", W)]),
    ("child safeguards", {}, rules.requires(child_safeguards=True), [("not required", "required", N)]),
    ("checks", {}, rules.requires(checks=["risk_to_person"]), [("", "risk_to_person", N)]),
    ("withheld", {"withhold": ["identity"]}, {}, [("identity", "", W)]),
    ("answer within", {}, {"respond_within": {"normal_7d": 24}}, [("", "normal_7d 24 h", C)]),
    ("content", {}, {"content": SCHEMA}, [("", '{"required":["acts"]}', N)]),
    ("content", {"content": SCHEMA}, {}, [('{"required":["acts"]}', "", W)]),
    ("content", {"content": SCHEMA}, {"content": OTHER}, [('{"required":["acts"]}', '{"required":["links"]}', C)]),
    ("text", {}, {"text": {"en": "Other."}}, None),
]


@pytest.mark.parametrize(("what", "old", "new", "expected"), CLAUSES)
def test_every_member_of_a_clause(
    what: str, old: dict[str, Any], new: dict[str, Any], expected: list[tuple[str, str, Effect]] | None
) -> None:
    """Each member is told with what it was and is, as wider where more may pass and narrower where less may."""
    found = between(old, new)
    assert {item.place for item in found} <= {"clause art-1"}
    assert {item.what for item in found} <= {what}
    if expected is None:
        assert [item.effect for item in found] == [C]
    else:
        assert [(item.before, item.after, item.effect) for item in found] == expected


def test_supervisors_and_parties_of_onward_use() -> None:
    """Supervisors are told beside approvals, and named parties beside the use."""
    two = rules.requires(approvals={"count": 2, "supervisors": 1})
    found = between(rules.requires(approvals={"count": 2, "supervisors": 0}), two)
    assert [(item.what, item.effect) for item in found] == [("supervisors", N)]
    named = between({}, {"onward": {"use": "parties", "parties": [TH]}})
    assert {(item.what, item.effect) for item in named} == {("onward parties", W), ("onward use", W)}


def test_new_and_removed_rules() -> None:
    """A new clause is wider and a removed one narrower; of prohibitions it is the other way round."""
    one, two = rules.clause(), rules.clause(id="art-2")
    before = rules.agreement(clauses=[one], prohibitions=[])
    after = rules.agreement(clauses=[two], prohibitions=[RULE])
    assert [(item.place, item.effect, bool(item.before)) for item in compare(before, after)] == [
        ("clause art-2", W, False),
        ("clause art-1", N, True),
        ("prohibition never-1", N, False),
    ]
    assert [item.effect for item in compare(after, before)] == [W, N, W]


@pytest.mark.parametrize(
    ("what", "change", "effect"),
    [
        ("kinds", {"when": {"kinds": ["suspect", "evidence"], "purposes": ["investigation"]}}, N),
        ("kinds", {"when": {"purposes": ["investigation"]}}, N),
        ("purposes", {"when": {"kinds": ["suspect"], "purposes": ["prevention"]}}, None),
        ("content", {"when": {**RULE["when"], "content": SCHEMA}}, W),  # type: ignore[dict-item] # a dict
        ("text", {"text": {"en": "Not this."}}, C),
    ],
)
def test_every_member_of_a_prohibition(what: str, change: dict[str, Any], effect: Effect | None) -> None:
    """What a prohibition covers more, may pass less; one with a schema forbids less than one without."""
    before, after = rules.agreement(prohibitions=[RULE]), rules.agreement(prohibitions=[RULE | change])
    found = compare(before, after)
    assert {item.what for item in found} == {what}
    assert {item.effect for item in found} == ({N, W} if effect is None else {effect})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"title": {"en": "Other", "th": "x"}}, [("title", C)]),
        (
            {"legal_basis": [{"title": {"en": "Memorandum"}, "article": "2", "date": "2026-01-31"}]},
            [("legal basis", C)],
        ),
        ({"valid_from": "2020-01-01T00:00:00Z"}, [("valid from", W)]),
        ({"valid_from": "2026-11-23T00:00:00Z"}, [("valid from", N)]),
        ({"valid_until": "2030-01-01T00:00:00Z"}, [("valid until", W)]),
        ({"valid_until": "2026-11-23T12:00:00Z"}, [("valid until", N)]),
        (
            {"parties": [{"node": TH, "authority": "3" * 64}, {"node": KH, "authority": "2" * 64}]},
            [(f"authority of {TH}", C)],
        ),
        (
            {"parties": [*rules.payload()["parties"], {"node": "la-fp1", "authority": "3" * 64}]},
            [("parties", W)],
        ),
    ],
)
def test_members_of_the_agreement(change: dict[str, Any], expected: list[tuple[str, Effect]]) -> None:
    """Dates, parties, their authorities, title and legal basis are told before the clauses."""
    found = compare(rules.agreement(), rules.agreement(**change))
    assert [(item.what, item.effect) for item in found] == expected
    assert {item.place for item in found} == {"agreement"}
