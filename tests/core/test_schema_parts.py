"""Cutting content into parts: reversible, unambiguous, and checked against the schema that says where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.errors import LocalError, PeerError
from exchange.core.schema_parts import Cut, cut_schema, join_content, parse_cuts, split_content

if TYPE_CHECKING:
    from exchange.core.wire import JsonObject

TEXT: JsonObject = {"type": "string", "maxLength": 9}
CUTS = (Cut("identity", "identity", "entities", required=False), Cut("narrative", "summary", None, required=True))


def schema(**changes: Any) -> JsonObject:  # noqa: ANN401 - keywords
    """Return a kind's schema, references in place, with changes."""
    entity = {
        "type": "object",
        "properties": {"id": TEXT, "identity": {"enum": ["x"]}},
        "required": ["id", "identity"],
        "allOf": [
            {"if": {"required": ["id"]}, "then": {"type": "object", "properties": {"identity": {"enum": ["x"]}}}},
            {"anyOf": [{"required": ["id"]}]},
        ],
    }
    return {
        "x-parts": [
            {"part": "identity", "each": "entities", "member": "identity"},
            {"part": "narrative", "member": "summary"},
        ],
        "type": "object",
        "properties": {
            "entities": {"type": "array", "maxItems": 9, "items": entity},
            "summary": TEXT,
            "note": TEXT,
        },
        "required": ["entities", "summary"],
        **changes,
    }


def test_cuts_are_read_from_the_schema() -> None:
    """The annotation gives the cuts in order; a root member that is required makes a part that is."""
    assert parse_cuts("k/v1.json", schema()) == CUTS


@pytest.mark.parametrize(
    "entry",
    [
        "narrative",
        {"part": "narrative"},
        {"member": "note"},
        {"part": "more", "member": "note", "why": "because"},
        {"part": "more", "member": "absent"},
        {"part": "more", "member": "identity", "each": "absent"},
        {"part": "main", "member": "note"},
        {"part": "header", "member": "note"},
        {"part": "attachments", "member": "note"},
        {"part": "narrative", "member": "note"},
        {"part": "Big Part", "member": "note"},
    ],
)
def test_bad_annotation_is_refused(entry: object) -> None:
    """An entry that is incomplete, names nothing, or takes a name that is taken, is refused."""
    original: Any = schema()
    parts = [*original["x-parts"], entry]
    with pytest.raises(LocalError) as refused:
        parse_cuts("k/v1.json", schema(**{"x-parts": parts}))
    assert refused.value.where == "k/v1.json (x-parts)"


def test_pieces_of_the_schema() -> None:
    """The main piece forgets what is cut out, also in branches; each part has the schema of what was cut."""
    original = schema()
    pieces: Any = cut_schema("k/v1.json", original, CUTS)
    assert original == schema()
    assert list(pieces) == ["main", "identity", "narrative"]
    assert pieces["narrative"] == TEXT
    main = pieces["main"]
    assert set(main["properties"]) == {"entities", "note"}
    assert main["required"] == ["entities"]
    items = main["properties"]["entities"]["items"]
    assert set(items["properties"]) == {"id"}
    assert items["required"] == ["id"]
    assert items["allOf"][0]["then"]["properties"] == {}
    assert items["allOf"][1] == {"anyOf": [{"required": ["id"]}]}
    assert pieces["identity"] == {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 9,
        "propertyNames": {"type": "string", "pattern": "^[a-z]{1,3}[1-9][0-9]{0,3}$"},
        "additionalProperties": {"enum": ["x"]},
    }


def test_nothing_to_cut_is_refused() -> None:
    """A cut from items that do not know the member is refused, as is one of a member with two schemas."""
    nothing = Cut("more", "absent", "entities", required=False)
    with pytest.raises(LocalError):
        cut_schema("k/v1.json", schema(), (nothing,))
    two: Any = schema()
    two["properties"]["entities"]["items"]["allOf"][0]["then"]["properties"]["identity"] = {"enum": ["y"]}
    with pytest.raises(LocalError) as refused:
        cut_schema("k/v1.json", two, CUTS)
    assert refused.value.where == "k/v1.json (x-parts)"


IDS = st.sampled_from(["p1", "p2", "p3", "p4"])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3))
VALUES: st.SearchStrategy[Any] = st.one_of(
    SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(st.text(max_size=2), SCALARS, max_size=2)
)


@st.composite
def contents(draw: st.DrawFn) -> JsonObject:
    """Make content of entities with different ids, some with an identity, and maybe a summary."""
    entities: list[Any] = []
    for name in draw(st.lists(IDS, unique=True)):
        entity: dict[str, Any] = {"id": name, "more": draw(VALUES)}
        if draw(st.booleans()):
            entity["identity"] = draw(st.dictionaries(st.text(max_size=3), VALUES, min_size=1, max_size=2))
        entities.append(entity)
    content: JsonObject = {"entities": entities, "note": draw(VALUES)}
    if draw(st.booleans()):
        content["summary"] = draw(VALUES.filter(lambda value: value is not None))
    return content


@given(contents())
def test_join_is_the_inverse_of_split(content: JsonObject) -> None:
    """Whatever the content, its parts give it again, and no part is empty."""
    parts = split_content(CUTS, content)
    assert parts[0][0] == "main"
    assert all(value for name, value in parts if name == "identity")
    assert join_content(CUTS, dict(parts)) == content


@given(contents(), st.sampled_from(["identity", "narrative"]))
def test_split_is_the_inverse_of_join(content: JsonObject, withheld: str) -> None:
    """Parts of which one is withheld are cut again into the same parts."""
    parts = {name: value for name, value in split_content(CUTS, content) if name != withheld}
    assert dict(split_content(CUTS, join_content(CUTS, {**parts, withheld: None}))) == parts


@pytest.mark.parametrize(
    "entities",
    [
        None,
        "p1",
        [{"identity": {}}],
        [{"id": 1, "identity": {}}],
        ["p1"],
        [{"id": "p1", "identity": {}}, {"id": "p1"}],
    ],
)
def test_cut_that_could_not_be_undone_is_refused(entities: Any) -> None:  # noqa: ANN401 - any JSON value
    """Entities that are no list, have no id or share one are refused, by cutting and by joining alike."""
    content: JsonObject = {} if entities is None else {"entities": entities}
    with pytest.raises(PeerError) as refused:
        split_content(CUTS, content)
    assert (refused.value.code, refused.value.where) == ("schema.parts", "identity")
    with pytest.raises(PeerError) as refused:
        join_content(CUTS, {"main": content, "identity": {"p1": {}}})
    assert (refused.value.code, refused.value.where) == ("schema.parts", "identity")


@pytest.mark.parametrize(
    ("parts", "where"),
    [
        ({}, "main"),
        ({"main": None}, "main"),
        ({"main": []}, "main"),
        ({"main": {}, "rumours": {}}, "main"),
        ({"main": {"summary": "a"}, "narrative": "b"}, "narrative"),
        ({"main": {"entities": [{"id": "p1"}]}, "identity": {"p2": {}}}, "identity"),
        ({"main": {"entities": [{"id": "p1", "identity": {}}]}, "identity": {"p1": {}}}, "identity"),
        ({"main": {"entities": [{"id": "p1"}]}, "identity": ["p1"]}, "identity"),
    ],
)
def test_parts_that_contradict_each_other(parts: Any, where: str) -> None:  # noqa: ANN401 - any parts
    """No main part, a part too many, a member told twice and an owner that is not there are refused."""
    with pytest.raises(PeerError) as refused:
        join_content(CUTS, parts)
    assert (refused.value.code, refused.value.where) == ("schema.parts", where)
