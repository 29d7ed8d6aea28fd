"""jsonschema-rs, which decides, and jsonschema, which explains, never disagree."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exchange.core.schema_explain import reader_for
from exchange.core.schemas import ATTACHMENTS, DRAFT, HEADER, compile_schema
from tests.schemas import samples
from tests.schemas.samples import EXAMPLES, book

if TYPE_CHECKING:
    from pathlib import Path

    from exchange.core.wire import JsonValue, SchemaId

# What naughty input is made of: wrong types, edges of numbers, texts on both sides of bounds and patterns.
TEXTS = st.one_of(
    st.sampled_from(["", "p1", "p1\n", "H1", "2014-02-29", "2014-02-29\n", "en", "+85500000001", "a" * 65, "ก" * 1001]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 300),
    st.sampled_from([2**53, -(2**63), 0.0, 1.0, 0.5, 1e300]),
    TEXTS,
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(TEXTS, SCALARS, max_size=3))


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:  # noqa: ANN401 - any JSON value
    """List the way to everything inside a JSON value."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for step, inner in steps for place in places(inner, (*at, step)))]


@st.composite
def mutated(draw: st.DrawFn, original: JsonValue) -> JsonValue:
    """Change one to three places of a JSON value: replace, remove, add a member, repeat an item, move something."""
    root: list[Any] = [copy.deepcopy(original)]
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from([(0, *place) for place in places(root[0])]))
        holder: Any = root
        for step in way:
            holder = holder[step]
        action = draw(st.sampled_from(["replace", "remove", "add", "repeat", "move"]))
        target = holder[last]
        if action == "remove" and way:
            del holder[last]
        elif action == "add" and isinstance(target, dict):
            target[draw(TEXTS)] = draw(VALUES)
        elif action == "repeat" and isinstance(target, list) and target:
            target.extend(copy.deepcopy(target[:1]) * draw(st.integers(1, 80)))
        elif action == "move":
            moved: Any = root
            for step in draw(st.sampled_from([(0, *place) for place in places(root[0])])):
                moved = moved[step]
            holder[last] = copy.deepcopy(moved)
        else:
            holder[last] = draw(VALUES)
    value: JsonValue = root[0]
    return value


def assert_agreement(schema_id: SchemaId, part: str | None, value: JsonValue) -> None:
    schema = book().schema(schema_id, part)
    assert reader_for(schema).is_valid(value) is compile_schema(schema).is_valid(value)


@given(data=st.data(), path=st.sampled_from(EXAMPLES))
def test_agreement_on_changed_content(data: st.DataObject, path: Path) -> None:
    """Both validators say the same of an example's content after any few changes."""
    draft = samples.load(path)
    assert_agreement(book().newest(draft["kind"]), None, data.draw(mutated(draft["content"])))


@given(data=st.data(), path=st.sampled_from(EXAMPLES))
def test_agreement_on_changed_parts(data: st.DataObject, path: Path) -> None:
    """Both validators say the same of an example's parts after any few changes."""
    draft = samples.load(path)
    schema_id = book().newest(draft["kind"])
    part, value = data.draw(st.sampled_from(book().split(schema_id, draft["content"])))
    assert_agreement(schema_id, part, data.draw(mutated(value)))


@given(data=st.data())
@pytest.mark.parametrize("schema_id", [HEADER, ATTACHMENTS, DRAFT])
def test_agreement_on_changed_frames(schema_id: SchemaId, data: st.DataObject) -> None:
    """Both validators say the same of a header, attachments and a draft's frame after any few changes."""
    originals: dict[str, JsonValue] = {
        HEADER: samples.header(),
        ATTACHMENTS: list(samples.attachments()),
        DRAFT: {**samples.load(EXAMPLES[0]), "content": {}},
    }
    assert_agreement(schema_id, None, data.draw(mutated(originals[schema_id])))


SINGLE_TEXTS: Final = {
    path: schema
    for path in samples.files()
    if path.startswith("common/") and (schema := samples.load(samples.SCHEMAS / path)).get("type") == "string"
}


def test_single_texts_are_found() -> None:
    """The shared schemas of single texts are there to be held against each other."""
    assert len(SINGLE_TEXTS) >= 10


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.sampled_from(sorted(SINGLE_TEXTS)))
@example("2014-02-29\n", "common/day.json")
@example("p1\u2028", "common/entity-id.json")
@example("p\u0663", "common/entity-id.json")
@example("a\u0000", "common/case.json")
def test_agreement_on_single_texts(text: str, path: str) -> None:
    """Both validators say the same of any text, trailing line feeds and digits of other scripts included."""
    assert reader_for(SINGLE_TEXTS[path]).is_valid(text) is compile_schema(SINGLE_TEXTS[path]).is_valid(text)
