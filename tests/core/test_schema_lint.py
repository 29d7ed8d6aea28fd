"""The linter of schemas: each rule has a schema that breaks it and one that does not."""

from __future__ import annotations

from typing import Any

import pytest

from exchange.core.errors import LocalError
from exchange.core.schema_lint import (
    MAX_FILE_BYTES,
    MAX_ITEMS,
    MAX_TEXT,
    bundle_paths,
    inline_schema,
    lint_schema,
    longest_match,
    parse_schema,
    references,
    subschemas,
)
from exchange.core.wire import JsonObject, encode_json

TEXT: JsonObject = {"type": "string", "maxLength": 9}


def closed(**properties: Any) -> dict[str, Any]:  # noqa: ANN401 - subschemas
    return {"type": "object", "properties": properties, "additionalProperties": False}


def choice(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - keywords
    """Return a choice by type among two closed schemas, with changes."""
    return {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": ["a", "b"]}},
        "allOf": [
            {"if": {"required": ["type"], "properties": {"type": {"const": name}}}, "then": {"$ref": f"{name}.json"}}
            for name in ("a", "b")
        ],
        **changes,
    }


GOOD: list[dict[str, Any]] = [
    TEXT,
    {"type": "string", "pattern": "^[a-z]{1,8}$"},
    {"type": ["string", "null"], "maxLength": 3},
    {"enum": ["a", 1, None]},
    {"const": "a"},
    {"type": "boolean"},
    {"type": "integer", "minimum": 0, "maximum": 9},
    {"type": "array", "maxItems": 3, "items": TEXT},
    {"type": "array", "maxItems": 64, "uniqueItems": True, "items": {"$ref": "code.json", "x-codelist": "acts"}},
    {"$ref": "../common/entities.json", "contains": {"required": ["type"]}, "description": "At least one."},
    closed(a=TEXT, b={"$ref": "b.json"}),
    {**closed(a=TEXT), "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
    {"type": "object", "maxProperties": 3, "propertyNames": TEXT, "additionalProperties": TEXT},
    {"type": "object", "x-open": "judged elsewhere"},
    {"if": {"type": "string"}, "then": TEXT, "else": {"type": "boolean"}},
    choice(),
]

BAD: list[tuple[dict[str, Any], str]] = [
    ({"type": "string", "maxlength": 9, "maxLength": 9}, "# (keyword)"),
    ({"type": "string", "maxLength": 9, "format": "date"}, "# (keyword)"),
    ({"type": "string"}, "# (unbounded)"),
    ({"type": ["null", "string"]}, "# (unbounded)"),
    ({"type": "integer", "minimum": 0}, "# (unbounded)"),
    ({"type": "integer", "maximum": 0}, "# (unbounded)"),
    ({"type": "number", "minimum": 0, "maximum": 1}, "# (unbounded)"),
    ({}, "# (unbounded)"),
    ({"description": "Anything."}, "# (unbounded)"),
    ({"type": "array", "items": TEXT}, "# (unbounded)"),
    ({"type": "array", "maxItems": 3}, "#/items (unbounded)"),
    ({"type": "array", "maxItems": 3, "items": {"type": "string"}}, "#/items (unbounded)"),
    ({"type": "array", "maxItems": MAX_ITEMS + 1, "items": TEXT}, "# (bound)"),
    ({"type": "string", "maxLength": MAX_TEXT + 1}, "# (bound)"),
    ({"type": "object", "properties": {"a": TEXT}}, "# (open)"),
    ({"type": "object", "properties": {"a": TEXT}, "additionalProperties": True}, "# (open)"),
    (closed(a={"type": "object"}), "#/properties/a (open)"),
    (closed(a={"type": "string"}), "#/properties/a (unbounded)"),
    ({"type": "object", "propertyNames": TEXT, "additionalProperties": TEXT}, "# (open)"),
    ({"type": "object", "maxProperties": 3, "additionalProperties": TEXT}, "#/propertyNames (unbounded)"),
    (
        {"type": "object", "maxProperties": 3, "propertyNames": TEXT, "additionalProperties": {}},
        "#/additionalProperties (unbounded)",
    ),
    ({"type": "array", "maxItems": 65, "uniqueItems": True, "items": TEXT}, "# (unique)"),
    ({"type": "array", "uniqueItems": True, "items": TEXT}, "# (unique)"),
    ({"type": "string", "maxLength": 9, "pattern": "^(a+)+$"}, "# (pattern)"),
    ({"type": "string", "maxLength": 9, "pattern": "[a-z]"}, "# (pattern)"),
    ({**closed(a=TEXT), "anyOf": [{"properties": {"a": {"pattern": "^.$"}}}]}, "#/anyOf/0/properties/a (pattern)"),
    ({"$ref": "https://example.invalid/person.json"}, "# (ref)"),
    ({"$ref": "file:///etc/passwd"}, "# (ref)"),
    ({"$ref": "/etc/passwd.json"}, "# (ref)"),
    ({"$ref": "../../person.json"}, "# (ref)"),
    ({"$ref": "#/properties/a"}, "# (ref)"),
    ({"$ref": "person.json#/properties/a"}, "# (ref)"),
    ({"$ref": 7}, "# (ref)"),
    ({"$ref": "person.json", "maxProperties": 3}, "# (ref)"),
    ({"if": {"type": "string"}, "then": {"type": "string"}, "else": TEXT}, "#/then (unbounded)"),
    ({"if": {"type": "string"}, "then": TEXT, "else": {"type": "string"}}, "#/else (unbounded)"),
    (choice(allOf=[]), "# (open)"),
    (choice(allOf=choice()["allOf"][:1]), "# (open)"),
    (choice(required=[]), "# (open)"),
    (choice(properties={"type": {"enum": ["a", "b"]}, "more": TEXT}), "# (open)"),
    (choice(properties={"type": TEXT}), "# (open)"),
    (choice(allOf=[{**rule, "then": {"type": "object", "x-open": "no"}} for rule in choice()["allOf"]]), "# (open)"),
    (choice(allOf=[{"if": rule["if"]} for rule in choice()["allOf"]]), "# (open)"),
]


@pytest.mark.parametrize("schema", GOOD, ids=range(len(GOOD)))
def test_good_schema(schema: JsonObject) -> None:
    """A schema that bounds all it lets in has no fault."""
    assert lint_schema("x.json", schema) == []


@pytest.mark.parametrize(("schema", "fault"), BAD, ids=range(len(BAD)))
def test_bad_schema(schema: JsonObject, fault: str) -> None:
    """A schema that breaks a rule is told by file, place and rule."""
    assert f"x.json{fault}" in lint_schema("x.json", schema)


@pytest.mark.parametrize(
    ("pattern", "longest"),
    [
        ("^$", 0),
        ("^abc$", 3),
        ("^[a-z]{2,3}(-[A-Za-z0-9]{1,8}){0,3}$", 30),
        ("^(ab|c)?d{4}$", 6),
        ("^[+][1-9]$", 2),
        ("^\\.[^./\\\\]$", 2),
        ("^[a-c-]$", 1),
        ("a", None),
        ("^a", None),
        ("^a+$", None),
        ("^a*$", None),
        ("^a{2,}$", None),
        ("^.$", None),
        ("^\\d$", None),
        ("^\\w$", None),
        ("^(?=a)$", None),
        ("^(?:a)$", None),
        ("^(a)\\1$", None),
        ("^(a$", None),
        ("^a)$", None),
        ("^[a&&b]$", None),
        ("^[a--b]$", None),
        ("^[[:alpha:]]$", None),
        ("^a$b$", None),
    ],
)
def test_longest_match(pattern: str, longest: int | None) -> None:
    """A pattern of the dialect tells its longest match; anything that engines read differently is outside."""
    assert longest_match(pattern) == longest


def test_pattern_too_long_to_bound() -> None:
    """A pattern that matches more than any text may hold does not count as a bound."""
    assert lint_schema("x.json", {"type": "string", "pattern": "^[a-z]{9999}[a-z]{9999}[a-z]{9999}$"}) == [
        "x.json# (unbounded)"
    ]


def test_subschemas_are_all_found() -> None:
    """Every keyword that holds a schema is looked into."""
    schema: dict[str, Any] = {
        "properties": {"a": {"title": "1"}},
        "items": {"title": "2"},
        "contains": {"title": "3"},
        "if": {"title": "4"},
        "then": {"title": "5"},
        "else": {"title": "6"},
        "propertyNames": {"title": "7"},
        "additionalProperties": {"title": "8"},
        "allOf": [{"title": "9"}],
        "anyOf": [{"title": "10"}],
    }
    assert sorted(int(node["title"]) for node in subschemas(schema) if "title" in node) == list(range(1, 11))


DIALECT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}


def test_schema_file_that_obeys() -> None:
    """A file that obeys all rules is the schema it says."""
    assert parse_schema("common/x.json", encode_json({**DIALECT, **TEXT})) == {**DIALECT, **TEXT}


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"{" + b" " * MAX_FILE_BYTES, "wire.too_large"),
        (b'{"type":1,"type":2}', "wire.duplicate_key"),
        (b"7", "object"),
        (encode_json(TEXT), "$schema"),
        (encode_json({"$schema": "http://json-schema.org/draft-07/schema#", **TEXT}), "$schema"),
        (encode_json({**DIALECT, "type": "text"}), "metaschema"),
        (encode_json({**DIALECT, "type": "string"}), "unbounded"),
    ],
)
def test_schema_file_that_does_not(data: bytes, rule: str) -> None:
    """A file that is no schema of ours is refused with its name and the rule."""
    with pytest.raises(LocalError) as refused:
        parse_schema("common/x.json", data)
    assert refused.value.where.startswith("common/x.json")
    assert refused.value.where.endswith(f"({rule})")


# -- references ------------------------------------------------------------------------------------


def test_references_are_paths_from_the_root() -> None:
    """A reference to a sister file and one to another folder both name a file by its path from schemas/."""
    schema = closed(a={"$ref": "x.json"}, b={"type": "array", "items": {"$ref": "../common/y.json"}})
    assert list(references("victim/v1.json", schema)) == ["victim/x.json", "common/y.json"]


DOCUMENTS: dict[str, JsonObject] = {
    "k/v1.json": {
        **DIALECT,
        "title": "K",
        **closed(a={"$ref": "../common/a.json", "title": "this one", "contains": {"const": 1}}),
        "allOf": [{"if": {"properties": {"a": {"const": 1}}}, "then": {"$ref": "../common/b.json"}}],
    },
    "common/a.json": {**DIALECT, "title": "A", "type": "array", "maxItems": 3, "items": {"$ref": "b.json"}},
    "common/b.json": {**DIALECT, "title": "B", **TEXT},
}


def test_bundle() -> None:
    """A bundle is the file and all it reaches, sorted."""
    assert bundle_paths("k/v1.json", DOCUMENTS) == ("common/a.json", "common/b.json", "k/v1.json")
    assert bundle_paths("common/b.json", DOCUMENTS) == ("common/b.json",)


def test_missing_file() -> None:
    """A reference to a file that is not there is told at the file that refers, and a missing start by its name."""
    with pytest.raises(LocalError) as refused:
        bundle_paths("k/v1.json", {**DOCUMENTS, "common/b.json": {"$ref": "c.json"}})
    assert refused.value.where == "common/b.json (ref)"
    with pytest.raises(LocalError) as refused:
        bundle_paths("no/v1.json", DOCUMENTS)
    assert refused.value.where == "no/v1.json (ref)"


def test_recursion() -> None:
    """A file that reaches itself is refused."""
    with pytest.raises(LocalError) as refused:
        bundle_paths("k/v1.json", {**DOCUMENTS, "common/b.json": {"$ref": "a.json"}})
    assert refused.value.where == "common/a.json (recursion)"


def test_inlining() -> None:
    """References are replaced by what they name; what stands beside one is added, and nothing is changed in place."""
    assert inline_schema("k/v1.json", DOCUMENTS) == {
        "title": "K",
        "type": "object",
        "properties": {
            "a": {
                "title": "this one",
                "type": "array",
                "maxItems": 3,
                "items": {"title": "B", **TEXT},
                "contains": {"const": 1},
            }
        },
        "additionalProperties": False,
        "allOf": [{"if": {"properties": {"a": {"const": 1}}}, "then": {"title": "B", **TEXT}}],
    }
    assert "$schema" in DOCUMENTS["k/v1.json"]


def test_inlining_is_bounded() -> None:
    """A few small files that multiply one another are refused before they fill the memory."""
    bomb: dict[str, JsonObject] = {"common/x0.json": dict(TEXT)}
    for level in range(1, 6):
        ref = {"$ref": f"x{level - 1}.json"}
        bomb[f"common/x{level}.json"] = closed(**{f"a{index}": ref for index in range(10)})
    with pytest.raises(LocalError) as refused:
        inline_schema("common/x5.json", bomb)
    assert refused.value.where == "common/x5.json (size)"
