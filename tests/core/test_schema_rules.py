"""Rules between the members of a statement: each has a statement that breaks it and the nearest that does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from exchange.core import schema_rules
from exchange.core.schema_rules import EXPECTED, find_breaches

if TYPE_CHECKING:
    from collections.abc import Callable

VICTIM: dict[str, Any] = {"id": "p1", "type": "person", "roles": ["victim"], "consent": {"by": "self"}}
PHONE: dict[str, Any] = {"id": "ph1", "type": "phone"}


def main(*entities: dict[str, Any], **more: Any) -> dict[str, Any]:  # noqa: ANN401 - members
    return {"entities": list(entities), "links": [], "means": ["deception"], **more}


def breaches(parts: dict[str, Any], kind: str = "case-referral", attachments: int | None = None) -> list[str]:
    return [f"{breach.part}{breach.path} {breach.rule}" for breach in find_breaches(kind, parts, attachments)]


def of_main(content: dict[str, Any], **more: Any) -> list[str]:  # noqa: ANN401 - as for breaches
    return breaches({"main": content}, **more)


def test_every_rule_has_its_expectation() -> None:
    """What is expected is worded for exactly the rules that the module's docstring numbers."""
    assert all(f"``{rule}``" in str(schema_rules.__doc__) for rule in EXPECTED)
    assert len(EXPECTED) == 8


def test_nothing_is_judged_without_the_main_part() -> None:
    """A statement whose main part is not there breaks no rule that could be seen."""
    assert breaches({"main": None, "identity": {"p1": {}}}) == []


def test_ids_are_unique() -> None:
    """The second of two entities with one id is a breach."""
    assert of_main(main(VICTIM, PHONE)) == []
    assert of_main(main(VICTIM, PHONE, {**PHONE})) == ["main/entities/2/id ids-unique"]


@pytest.mark.parametrize("end", ["from", "to"])
def test_links_resolve(end: str) -> None:
    """Either end of a link must be an entity."""
    link = {"from": "p1", "to": "ph1", "relation": "uses"}
    assert of_main(main(VICTIM, PHONE, links=[link])) == []
    assert of_main(main(VICTIM, PHONE, links=[link, {**link, end: "p2"}])) == [f"main/links/1/{end} ids-resolve"]


def test_provenance_resolves() -> None:
    """An exhibit is derived from an entity of the statement."""
    copy = {"id": "x2", "type": "exhibit", "was_derived_from": "x1"}
    assert of_main(main({"id": "x1", "type": "exhibit"}, copy)) == []
    assert of_main(main(copy)) == ["main/entities/0/was_derived_from ids-resolve"]


def test_questions_and_answers_resolve() -> None:
    """What a question or an answer is about is an entity of the statement."""
    questions = [{"number": 1}, {"number": 2, "about": ["ph1", "p9"]}]
    assert of_main(main(PHONE, questions=questions), kind="information-request") == [
        "main/questions/1/about/1 ids-resolve"
    ]
    answers = {"main": main(PHONE), "narrative": [{"number": 1, "about": ["ph1"]}, {"number": 2, "about": ["p9"]}]}
    assert breaches(answers, kind="information-response") == ["narrative/1/about/0 ids-resolve"]
    prose = {"main": main(PHONE), "narrative": {"text": "Invented.", "lang": "en"}}
    assert breaches(prose, kind="suspect") == []


def test_identity_belongs_to_a_person() -> None:
    """The identity part speaks of persons of the statement only."""
    parts = {"main": main(VICTIM, PHONE), "identity": {"p1": {}, "ph1": {}, "p2": {}}}
    assert breaches(parts) == ["identity/ph1 identity-owned", "identity/p2 identity-owned"]


@pytest.mark.parametrize("kind", ["case-referral", "suspect", "victim", "information-request"])
def test_victim_has_consent_or_exception(kind: str) -> None:
    """In every kind, a victim has a consent or a named exception; others need neither."""
    bare = {name: value for name, value in VICTIM.items() if name != "consent"}
    excused = {**bare, "id": "p2", "consent_exception": {"code": "vital_interest"}}
    witness = {**bare, "id": "p3", "roles": ["witness"]}
    both = {**bare, "id": "p4", "roles": ["suspect", "victim"]}
    assert of_main(main(VICTIM, excused, witness), kind=kind) == []
    assert of_main(main(VICTIM, bare | {"id": "p5"}, both), kind=kind) == [
        "main/entities/1 consent-or-exception",
        "main/entities/2 consent-or-exception",
    ]


def test_not_identifiable_means_no_identity() -> None:
    """Whoever is excused because nothing identifies the person sends no identity of that person."""
    hidden = {"id": "p1", "type": "person", "roles": ["victim"], "consent_exception": {"code": "not_identifiable"}}
    named = {**hidden, "consent_exception": {"code": "public_record"}}
    assert breaches({"main": main(hidden), "identity": None}) == []
    assert breaches({"main": main(named), "identity": {"p1": {}}}) == []
    assert breaches({"main": main(hidden), "identity": {"p1": {}}}) == [
        "main/entities/0/consent_exception not-identifiable"
    ]


@pytest.mark.parametrize(
    ("victims", "needed"),
    [
        (["child"], False),
        (["child", "child"], False),
        (["child", "adult"], True),
        (["unknown"], True),
        ([None], True),
        ([], True),
    ],
)
def test_means_are_not_needed_for_children(victims: list[str | None], needed: bool) -> None:  # noqa: FBT001
    """A referral without means passes where every victim is a child, and there is one; other kinds need none."""
    people = [
        {**VICTIM, "id": f"p{number}", **({"age_group": group} if group else {})}
        for number, group in enumerate(victims, 1)
    ]
    content = main(*people, {"id": "p9", "type": "person", "roles": ["suspect"], "age_group": "adult"}, PHONE)
    assert of_main(content) == []
    breach = ["main/means means-or-children"] if needed else []
    assert of_main({**content, "means": []}) == breach
    del content["means"]
    assert of_main(content) == breach
    assert of_main(content, kind="victim") == []


PLACES: list[tuple[str, Callable[[Any], dict[str, Any]]]] = [
    (
        "main/entities/1/attachment",
        lambda at: {"main": main(VICTIM, {"id": "x1", "type": "exhibit", "attachment": at})},
    ),
    ("main/entities/1/scan", lambda at: {"main": main(VICTIM, {"id": "d1", "type": "document", "scan": at})}),
    ("main/entities/0/consent/record", lambda at: {"main": main({**VICTIM, "consent": {"by": "self", "record": at}})}),
    ("identity/p1/photos/1", lambda at: {"main": main(VICTIM), "identity": {"p1": {"photos": [0, at]}}}),
    (
        "identity/p1/documents/1/scan",
        lambda at: {"main": main(VICTIM), "identity": {"p1": {"documents": [{}, {"scan": at}]}}},
    ),
]


@pytest.mark.parametrize(("place", "parts"), PLACES, ids=[place for place, _ in PLACES])
def test_attachments_exist(place: str, parts: Callable[[Any], dict[str, Any]]) -> None:
    """Every index names an attachment and is an int in Python too; it is not judged before their number is known."""
    assert breaches(parts(1), attachments=2) == []
    assert breaches(parts(2), attachments=2) == [f"{place} attachments-exist"]
    assert breaches(parts(1.0), attachments=2) == [f"{place} attachments-exist"]
    assert breaches(parts(2)) == []


def test_digests_match() -> None:
    """A digest told at the exhibit and at its file is the same, as far as both can be seen."""
    files = [{"sha256": "a"}, {"sha256": "b"}]
    exhibit = {"id": "x1", "type": "exhibit", "attachment": 1, "sha256": "b"}
    undigested = {"id": "x2", "type": "exhibit", "attachment": 0}
    unattached = {"id": "x3", "type": "exhibit", "sha256": "c"}
    good = main(exhibit, undigested, unattached, PHONE)
    assert breaches({"main": good, "attachments": files}, attachments=2) == []
    wrong = main({**exhibit, "sha256": "a"})
    assert breaches({"main": wrong, "attachments": files}, attachments=2) == ["main/entities/0/sha256 digests-match"]
    assert breaches({"main": wrong, "attachments": None}, attachments=2) == []
    beyond = main({**exhibit, "attachment": 2})
    assert breaches({"main": beyond, "attachments": files}, attachments=2) == [
        "main/entities/0/attachment attachments-exist"
    ]
