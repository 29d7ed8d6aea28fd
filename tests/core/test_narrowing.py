"""Narrowing: a clause's own schema is bounded before it is built, and speaks of places only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from exchange.core.errors import PeerError
from exchange.core.narrowing import parse_narrowing

if TYPE_CHECKING:
    from exchange.core.wire import JsonValue

SCHEMA: dict[str, Any] = {
    "required": ["acts"],
    "properties": {"acts": {"type": "array", "maxItems": 2}, "note": False},
    "not": {"required": ["means"]},
    "allOf": [{"properties": {"acts": {"items": {"enum": ["recruitment", "transfer"]}}}}],
}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"acts": ["transfer"]}, None),
        ({}, "/ (required)"),
        ({"acts": ["a", "b", "c"]}, "/acts (maxItems)"),
        ({"acts": [], "means": []}, "/ (not)"),
        ({"acts": ["transfer", "receipt"]}, "/acts/1 (enum)"),
    ],
)
def test_the_first_problem_is_told_by_place_and_rule(content: JsonValue, problem: str | None) -> None:
    """What a clause narrows is refused with the place and the rule, and what fits has no problem."""
    assert parse_narrowing(SCHEMA, "clause").first_problem(content) == problem


def deep(levels: int) -> JsonValue:
    schema: JsonValue = True
    for _ in range(levels):
        schema = {"not": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        ({"$ref": "https://example.org/schema"}, "clause: keyword not allowed in a clause"),
        ({"properties": {"a": {"pattern": "^(a+)+$"}}}, "clause: keyword not allowed in a clause"),
        ({"properties": []}, "clause"),
        ({"allOf": {}}, "clause"),
        ({"anyOf": [5]}, "clause"),
        ({"contains": "x"}, "clause"),
        ("x", "clause"),
        (True, "clause"),
        ({"description": "x" * 8_192}, "clause: too large"),
        ({"allOf": [{"minLength": 1} for _ in range(256)]}, "clause: too large"),
        ({"maxItems": "many"}, "clause"),
    ],
)
def test_a_schema_that_could_run_away_is_refused(schema: JsonValue, where: str) -> None:
    """References, patterns, wrong shapes and large schemas are refused before anything is built."""
    with pytest.raises(PeerError) as caught:
        parse_narrowing(schema, "clause")
    assert (caught.value.code, caught.value.where) == ("agreement.malformed", where)
