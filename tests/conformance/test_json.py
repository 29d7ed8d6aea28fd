"""The strict reader against nst/JSONTestSuite: what must be read, what must be refused, and what may be either."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from exchange.core import wire
from exchange.core.errors import PeerError
from tests.places import conformance_folder

if TYPE_CHECKING:
    from pathlib import Path

    from exchange.core.wire import JsonValue

FOLDER = conformance_folder()
FILES = sorted((FOLDER / "json-parsing/test_parsing").glob("*.json")) if FOLDER else []
MAX_BYTES = 1_000_000
# Valid JSON that could be read in two ways.
AMBIGUOUS = {"y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"}
# What the suite leaves to the implementation and we read; everything else of it is refused.
READ = {"i_number_double_huge_neg_exp.json", "i_number_real_underflow.json"}


def of(kind: str) -> list[Path]:
    return [path for path in FILES if path.name.startswith(kind)]


def name_of(path: Path) -> str:
    return path.stem


def read(path: Path) -> JsonValue:
    return wire.parse_json(path.read_bytes(), max_bytes=MAX_BYTES)


def test_the_suite_is_there(conformance: Path) -> None:
    """The suite holds as many files of each kind as it did when this was written."""
    assert (len(of("y_")), len(of("n_")), len(of("i_"))) == (95, 188, 35)
    assert len(FILES) == 318
    assert all(path.is_relative_to(conformance) for path in FILES)


@pytest.mark.parametrize("path", of("y_"), ids=name_of)
def test_valid_json_is_read(path: Path) -> None:
    """A valid text is read as everybody reads it, unless it has a member twice."""
    if path.name in AMBIGUOUS:
        with pytest.raises(PeerError) as caught:
            read(path)
        assert caught.value.code == "wire.duplicate_key"
    else:
        value = read(path)
        assert value == json.loads(path.read_bytes())
        assert wire.parse_json(wire.encode_json(value), max_bytes=MAX_BYTES) == value


@pytest.mark.parametrize("path", of("n_"), ids=name_of)
def test_invalid_json_is_refused(path: Path) -> None:
    """An invalid text is refused as what it is: not UTF-8, not JSON, or nested too deeply."""
    with pytest.raises(PeerError) as caught:
        read(path)
    assert caught.value.code in {"wire.not_utf8", "wire.not_json", "wire.too_deep"}


@pytest.mark.parametrize("path", of("i_"), ids=name_of)
def test_what_systems_read_differently_is_refused(path: Path) -> None:
    """A text that systems read differently is refused by a code of ours, save numbers that are merely rounded."""
    if path.name in READ:
        assert read(path) is not None
    else:
        with pytest.raises(PeerError) as caught:
            read(path)
        assert caught.value.code.startswith("wire.")
