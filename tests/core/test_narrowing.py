"""Narrowing: a clause's own schema is bounded before it is built, and speaks of places only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.errors import PeerError
from exchange.core.narrowing import parse_narrowing
from exchange.core.schemas import compile_schema

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


NAMES = st.sampled_from(["a", "b", "c", "d"])
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from(["x", "y"]))
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3))
CONTENT = VALUES | st.dictionaries(NAMES, VALUES, max_size=4)


def schemas(depth: int = 3) -> st.SearchStrategy[Any]:
    """Schemas of every keyword that a clause may use."""
    if depth == 0:
        return st.booleans()
    inner = schemas(depth - 1)
    keywords: dict[str, st.SearchStrategy[Any]] = {
        "type": st.sampled_from(["object", "array", "string", "integer"]),
        "properties": st.dictionaries(NAMES, inner, max_size=2),
        "required": st.lists(NAMES, max_size=2, unique=True),
        "enum": st.lists(VALUES, min_size=1, max_size=2),
        "const": VALUES,
        "not": inner,
        "allOf": st.lists(inner, min_size=1, max_size=2),
        "anyOf": st.lists(inner, min_size=1, max_size=2),
        "items": inner,
        "contains": inner,
        "minItems": st.integers(0, 2),
        "maxProperties": st.integers(0, 2),
        "minProperties": st.integers(0, 2),
    }
    chosen = st.lists(st.sampled_from(sorted(keywords)), max_size=3, unique=True)
    objects = chosen.flatmap(lambda names: st.fixed_dictionaries({name: keywords[name] for name in names}))
    return objects if depth == 3 else st.booleans() | objects  # a clause's schema is an object


@given(schemas(), CONTENT)
def test_looking_at_few_members_changes_no_verdict(schema: dict[str, Any], content: JsonValue) -> None:
    """A narrowing schema says of the members that it speaks of what it says of the whole content."""
    whole = compile_schema(schema).is_valid(content)
    assert (parse_narrowing(schema, "clause").first_problem(content) is None) is whole


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"maxProperties": 1}, "/ (maxProperties)"),
        ({"allOf": [{"minProperties": 3}]}, "/ (minProperties)"),
        ({"not": {"required": ["acts"]}}, "/ (not)"),
    ],
)
def test_a_schema_of_the_whole_sees_the_whole(schema: dict[str, Any], place: str) -> None:
    """A schema that counts members, or looks at those it forbids, is given them."""
    assert parse_narrowing(schema, "clause").first_problem({"acts": ["transfer"], "persons": 2}) == place
