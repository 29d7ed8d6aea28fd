"""Whatever comes from outside: it is read, or refused as the sender's fault, and nothing of it is told."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core import wire
from exchange.core.errors import PeerError
from tests.core import builders
from tests.fuzz.parsers import BYTE_PARSERS, JSON_PARSERS, Parser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exchange.core.wire import JsonValue

SECRET = "Sok Dara"
HOSTILE: list[JsonValue] = [
    None,
    True,
    0,
    -1,
    1,
    2**53 - 1,
    0.5,
    "",
    "0",
    SECRET,
    SECRET * 40,
    "kh-fp1",
    "0" * 64,
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "\ud7ff\U0010ffff\x1b[31m",
    [],
    [SECRET],
    [[]] * 300,
    {},
    {SECRET: SECRET},
    {SECRET: 1},
    {"": None},
]


def fresh(value: JsonValue) -> JsonValue:
    """A copy: a list that were drawn twice would hold itself."""
    return deepcopy(value)


hostile_values = st.sampled_from(HOSTILE).map(fresh)


def check_refusal(error: PeerError) -> None:
    """A refusal tells a place in plain letters, and nothing of what was sent."""
    assert SECRET not in str(error)
    assert error.where.isascii()
    assert error.where.isprintable()
    assert len(error.where) < 100


def try_to_read(parser: Parser, data: bytes) -> None:
    """Read, and write again what could be read; any other error than the peer's is a defect."""
    try:
        value = parser.parse(data)
    except PeerError as error:
        check_refusal(error)
        return
    if parser.encode is not None:
        written = parser.encode(value)
        assert parser.encode(parser.parse(written)) == written
        assert written == data or not parser.one_form


def places(value: JsonValue, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths to every value within a value."""
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, name)
            yield from places(inner, (*path, name))


@st.composite
def spoiled(draw: st.DrawFn, parser: Parser) -> bytes:
    """A valid sample with a few bytes changed, taken out, put in or repeated."""
    data = bytearray(draw(st.sampled_from(parser.samples)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 8)))
        piece = draw(st.sampled_from([b"", bytes(data[at:end]) * 2]) | st.binary(max_size=4))
        data[at:end] = piece
    return bytes(data)


@st.composite
def twisted(draw: st.DrawFn, parser: Parser) -> bytes:
    """A valid JSON sample in which some members are hostile values, missing, doubled or unknown."""
    document: Any = wire.parse_json(draw(st.sampled_from(parser.samples)), max_bytes=100_000)
    for _ in range(draw(st.integers(1, 3))):
        paths = list(places(document))
        if not paths:
            break
        *way, last = draw(st.sampled_from(paths))
        inner = document
        for step in way:
            inner = inner[step]
        match draw(st.sampled_from(["set", "set", "set", "delete", "add"])):
            case "set":
                inner[last] = draw(hostile_values)
            case "delete":
                del inner[last]
            case _:
                if isinstance(inner, dict):
                    inner[draw(st.sampled_from([SECRET, "note", ""]))] = draw(hostile_values)
                else:
                    inner.append(draw(hostile_values))
    return wire.encode_json(document)


def name_of(parser: Parser) -> str:
    return parser.name


all_parsers = pytest.mark.parametrize("parser", [*JSON_PARSERS, *BYTE_PARSERS], ids=name_of)


@all_parsers
def test_samples_are_read(parser: Parser) -> None:
    """Every sample is valid, and is written again as the same bytes."""
    for sample in parser.samples:
        value = parser.parse(sample)
        if parser.encode is not None:
            assert parser.parse(parser.encode(value)) is not None
        if parser.one_form:
            assert parser.encode is not None
            assert parser.encode(value) == sample


@all_parsers
@given(st.binary(max_size=200) | st.text(max_size=60).map(str.encode) | st.from_regex(rb"[\[\]{}\",:0-9a-z\\ ]{0,60}"))
def test_arbitrary_bytes(parser: Parser, data: bytes) -> None:
    """Arbitrary bytes are read or refused as the sender's fault."""
    try_to_read(parser, data)


@all_parsers
@given(st.data())
def test_spoiled_samples(parser: Parser, data: st.DataObject) -> None:
    """A valid input with a few bytes changed is read or refused as the sender's fault."""
    try_to_read(parser, data.draw(spoiled(parser)))


@pytest.mark.parametrize("parser", JSON_PARSERS, ids=name_of)
def test_every_member_of_every_sample(parser: Parser) -> None:
    """Each member of a valid document, replaced by each hostile value or left out, is read or refused likewise."""
    for sample in parser.samples:
        document = wire.parse_json(sample, max_bytes=100_000)
        for path in list(places(document)):
            for value in [*HOSTILE, builders.ABSENT]:
                try_to_read(parser, builders.edited(sample, *path, to=value))


@pytest.mark.parametrize("parser", JSON_PARSERS, ids=name_of)
@given(st.data())
def test_twisted_documents(parser: Parser, data: st.DataObject) -> None:
    """A valid document with hostile, missing or unknown members is read or refused, and no refusal tells content."""
    try_to_read(parser, data.draw(twisted(parser)))
