"""The core against the big list of naughty strings: each survives a statement, its sealing and its opening."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from exchange.core.envelope import open_body
from exchange.core.statement import encode_statement, make_part, parse_statement
from tests.core import builders

if TYPE_CHECKING:
    from pathlib import Path

    from exchange.core.wire import JsonValue


@pytest.fixture(scope="module")
def strings(conformance: Path) -> list[str]:
    """The list; it holds as many strings as it did when this was written."""
    read: list[str] = json.loads((conformance / "naughty-strings/blns.json").read_bytes())
    assert len(read) == 515
    return read


def test_each_survives_as_a_part(strings: list[str]) -> None:
    """A part holds each string as a text, a member's name or a whole, and gives it back byte for byte."""
    for text in strings:
        values: list[JsonValue] = [text, [text], {text: text}]
        for value in values:
            part = make_part(value, bytes(16))
            assert part.value("part") == value
            assert make_part(part.value("part"), bytes(16)) == part


def test_each_survives_sealing_and_opening(strings: list[str]) -> None:
    """A statement of each string is sealed, opened and read byte for byte."""
    for text in strings:
        statement = builders.sample_statement({"text": text}, text)
        written = encode_statement(statement)
        signed = builders.verified(builders.testonly_seal(builders.sample_core(), written))
        cek = builders.testonly_node(builders.TH).prekey.unwrap(signed.info, signed.wrapped)
        opened = open_body(signed, cek)
        assert opened == written
        read = parse_statement(opened)
        assert read == statement
        assert [part.value("part") for part in read.parts[1:]] == [{"text": text}, text]
        assert encode_statement(read) == written


def test_all_survive_in_one_statement(strings: list[str]) -> None:
    """A statement that holds all strings at once is sealed, opened and read byte for byte."""
    statement = builders.sample_statement(list(strings), {str(n): text for n, text in enumerate(strings)})
    signed = builders.verified(builders.testonly_seal(builders.sample_core(), encode_statement(statement)))
    assert parse_statement(open_body(signed, builders.CEK)) == statement
