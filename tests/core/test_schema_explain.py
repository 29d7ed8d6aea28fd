"""Explanations: place, rule and expectation for people, never the value, never much work."""

from __future__ import annotations

from typing import Any

import pytest
from referencing.exceptions import Unresolvable

from exchange.core.schema_explain import MAX_LISTED, MAX_PROBLEMS, explain, reader_for, show_place

NAMES = frozenset({"a", "b", "names"})
TEXT: dict[str, Any] = {"type": "string", "maxLength": 3}


def closed(**properties: Any) -> dict[str, Any]:  # noqa: ANN401 - subschemas
    return {"type": "object", "properties": properties, "additionalProperties": False}


CASES: list[tuple[dict[str, Any], Any, str, str]] = [
    (TEXT, 7, "type", "a text"),
    ({"type": ["string", "null"]}, 7, "type", "a text or null"),
    ({"type": ["array", "boolean"]}, 7, "type", "a list or true or false"),
    ({"type": ["object", "integer"]}, "x", "type", "an object or a whole number"),
    ({"enum": ["H0", "H1"]}, "H9", "enum", "one of H0, H1"),
    ({"const": "victim"}, "x", "const", "victim"),
    ({"required": ["a", "b"]}, {"a": 1}, "required", "the member b"),
    ({"required": ["a", "b"]}, {}, "required", "the members a, b"),
    (closed(a=TEXT, b=TEXT), {"c": 1}, "additionalProperties", "no members but a, b"),
    ({"additionalProperties": False}, {"c": 1}, "additionalProperties", "no members but "),
    ({"minProperties": 1}, {}, "minProperties", "at least 1 members"),
    ({"maxProperties": 1}, {"a": 1, "b": 1}, "maxProperties", "at most 1 members"),
    ({"dependentRequired": {"a": ["b"], "b": ["a"]}}, {"a": 1}, "dependentRequired", "a, b only together"),
    ({"minItems": 1}, [], "minItems", "at least 1 items"),
    ({"maxItems": 1}, [1, 2], "maxItems", "at most 1 items"),
    ({"maxItems": 3, "uniqueItems": True}, [1, 1], "uniqueItems", "no item twice"),
    ({"minLength": 1}, "", "minLength", "at least 1 characters"),
    (TEXT, "abcd", "maxLength", "at most 3 characters"),
    ({"pattern": "^[a-z]$"}, "A", "pattern", "the form ^[a-z]$"),
    ({"propertyNames": {"pattern": "^[a-z]$"}}, {"A": 1}, "pattern", "the form ^[a-z]$"),
    ({"minimum": 1}, 0, "minimum", "at least 1"),
    ({"maximum": 1}, 2, "maximum", "at most 1"),
    ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, {}, "anyOf", "one of the members a, b"),
    (
        {"contains": {"properties": {"type": {"const": "person"}, "roles": {"contains": {"const": "victim"}}}}},
        [],
        "contains",
        "an item with type person, roles victim",
    ),
]


@pytest.mark.parametrize(
    ("schema", "value", "rule", "expected"), CASES, ids=[f"{c[2]}-{n}" for n, c in enumerate(CASES)]
)
def test_expectation(schema: dict[str, Any], value: Any, rule: str, expected: str) -> None:  # noqa: ANN401
    """A fault is told with its rule and, in words, with what the schema expects."""
    assert explain(schema, value, NAMES) == (("", rule, expected),)


def test_valid_value_has_no_problem() -> None:
    """A value that matches needs no explanation."""
    assert explain(closed(a=TEXT), {"a": "abc"}, NAMES) == ()


def test_long_lists_are_cut() -> None:
    """An expectation names so many codes and no more."""
    ((_, _, expected),) = explain({"enum": list(range(100))}, "x", NAMES)
    assert expected.endswith(f"{MAX_LISTED - 1}, ...")


def test_number_of_problems_is_bounded() -> None:
    """However many faults a value has, so many are told, each once."""
    schema: dict[str, Any] = {"items": TEXT}
    assert len(explain(schema, ["abcd"] * 1000, NAMES)) == MAX_PROBLEMS
    assert [problem.path for problem in explain(schema, ["a", "abcd"], NAMES)] == ["/1"]


@pytest.mark.parametrize(
    ("steps", "shown"),
    [
        ([], ""),
        (["a", 3, "b"], "/a/3/b"),
        (["names", "p12", "a"], "/names/p12/a"),
        (["names", "Sommut", "a"], "/names/*/a"),
        (["p1\n"], "/*"),
        (["p0"], "/*"),
    ],
)
def test_place(steps: list[str | int], shown: str) -> None:
    """A place shows positions, members of our schemas and entity ids; whatever a sender made up is a star."""
    assert show_place(steps, NAMES) == shown


def test_end_of_a_pattern_is_the_end_of_the_text() -> None:
    """A line feed after what a pattern wants is a fault, as for every other validator."""
    assert explain({"pattern": "^[a-z]$"}, "a\n", NAMES)
    assert not explain({"pattern": "^[a-z]$"}, "a", NAMES)
    assert not explain({"pattern": "^[a-z]$"}, 7, NAMES)


def test_hostile_list_is_not_compared_pair_by_pair() -> None:
    """A list far over its bound is refused for its length; its items are not compared."""
    schema: dict[str, Any] = {"maxItems": 64, "uniqueItems": True}
    assert [problem.rule for problem in explain(schema, [{"a": 1}] * 5000, NAMES)] == ["maxItems"]
    assert explain(schema, {"a": 1}, NAMES) == ()


@pytest.mark.parametrize("ref", ["http://127.0.0.1:9/person.json", "file:///etc/hostname", "person.json"])
def test_reader_fetches_nothing(ref: str) -> None:
    """A reference that would have to be fetched is an error at once."""
    with pytest.raises(Unresolvable):
        reader_for({"$ref": ref}).is_valid({})
