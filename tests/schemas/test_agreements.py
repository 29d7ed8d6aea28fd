"""The schema of agreements: its examples serve, and it says no less than the reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from exchange.cli.agreement_faults import AGREEMENT, find_agreement_problems
from exchange.core import wire
from exchange.core.agreements import read_agreement
from exchange.core.errors import PeerError
from exchange.core.wire import DocumentType, UnverifiedDocument
from tests.core import rules
from tests.schemas import samples

if TYPE_CHECKING:
    from pathlib import Path


def document(payload: dict[str, Any]) -> UnverifiedDocument:
    return UnverifiedDocument(DocumentType.AGREEMENT, wire.encode_json(payload), ())


@pytest.mark.parametrize("path", samples.AGREEMENTS, ids=lambda path: path.stem)
def test_example_serves(path: Path) -> None:
    """Each example passes its schema, the reader and the lint."""
    payload = samples.load(path)
    samples.book().validate(AGREEMENT, payload)
    assert find_agreement_problems(samples.book(), document(payload)) == ()


def test_there_is_an_example_of_two_and_of_three() -> None:
    """SPA IV asks for bilateral and trilateral agreements: there is one of each."""
    parties = {path.stem: len(samples.load(path)["parties"]) for path in samples.AGREEMENTS}
    assert parties == {"bilateral": 2, "trilateral": 3}


FULL = rules.payload(
    supersedes=None,
    clauses=[
        rules.clause(
            respond_within={"urgent_3d": 72},
            onward={"use": "parties", "parties": ["kh-fp1"]},
            quota_per_day=3,
            content={"required": ["entities"]},
        )
    ],
    prohibitions=[
        {"id": "p-1", "text": {"en": "Never."}, "when": {"kinds": ["victim"], "purposes": ["*"], "content": {}}}
    ],
)


def places(value: Any, way: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:  # noqa: ANN401
    """Every member of an agreement, to be made wrong."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in inner for place in ((*way, key), *places(item, (*way, key)))]


def form_refused(payload: dict[str, Any]) -> bool:
    """Whether the reader refuses a member's form; what contradicts another member is nothing for a schema."""
    try:
        read_agreement(document(payload))
    except PeerError as error:
        return error.code.startswith("wire.")
    return False


WRONG: tuple[Any, ...] = ("x" * 70_000, "", -1, 10**7, True, [], ["?"] * 2, {}, {"?": "?"})
FREE = {"text", "title", "content", "article"}  # whose texts or schemas are judged elsewhere, or by nothing but length


@pytest.mark.parametrize("place", [place for place in places(FULL) if not FREE & set(place)], ids=str)
def test_what_the_reader_refuses_the_schema_explains(place: tuple[str | int, ...]) -> None:
    """A wrong value anywhere that the reader takes for a wrong form is told by the schema, with its place."""
    for wrong in WRONG:
        payload = samples.changed(FULL, place, wrong)
        problems = samples.book().explain(AGREEMENT, payload)
        assert problems or not form_refused(payload), wrong


@pytest.mark.parametrize(
    ("changes", "path", "rule"),
    [
        ({"clauses": [rules.clause()] * 65}, "/clauses", "maxItems"),
        ({"clauses": [{}] * 10_000}, "/clauses", "maxItems"),
        ({"clauses": []}, "/clauses", "minItems"),
        ({"valid_until": "tomorrow"}, "/valid_until", "pattern"),
        ({"legal_basis": [{"title": {"en": "Law"}}]}, "/legal_basis/0", "required"),
        ({"title": {"English": "x"}}, "/title", "pattern"),
        ({"clauses": [rules.clause(**rules.permit(tlp="WHITE"))]}, "/clauses/0/permit/tlp", "enum"),
        ({"clauses": [rules.clause(), rules.clause()]}, "agreement.clauses ids", "agreement.malformed"),
        ({"valid_until": rules.payload()["valid_from"]}, "agreement.valid_until", "agreement.malformed"),
        (
            {"clauses": [rules.clause(content={"properties": {"note": {"pattern": "(a+)+$"}}})]},
            "agreement.clauses[0].content: keyword not allowed in a clause",
            "agreement.malformed",
        ),
        (
            {"clauses": [rules.clause(content={"$ref": "https://example.org/schema"})]},
            "agreement.clauses[0].content: keyword not allowed in a clause",
            "agreement.malformed",
        ),
        (
            {"clauses": [rules.clause(content={"description": "x" * 9000})]},
            "agreement.clauses[0].content: too large",
            "agreement.malformed",
        ),
        ({"clauses": [rules.clause(**rules.permit(kinds=["gossip"]))]}, "art-1", "kind"),
    ],
)
def test_a_fault_is_told_with_its_place(changes: dict[str, Any], path: str, rule: str) -> None:
    """What an agreement may not be is told where it is, by the schema, the reader or the lint, in that order."""
    problems = find_agreement_problems(samples.book(), document(rules.payload(**changes)))
    assert (path, rule) in [(problem.path, problem.rule) for problem in problems]
    assert all(problem.expected for problem in problems)
    assert len(problems) == 1 or changes["clauses"][0] == {}
