"""The statement: parts that can be withheld, opened and checked one by one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core import wire
from exchange.core.statement import (
    MAX_PARTS,
    MAX_STATEMENT_BYTES,
    SALT_BYTES,
    Part,
    compose_statement,
    encode_statement,
    make_part,
    parse_statement,
    part_digest,
)
from tests.core import builders
from tests.core.builders import ABSENT, refused

if TYPE_CHECKING:
    from exchange.core.wire import JsonValue

SALT = bytes(range(16))
STATEMENT = builders.sample_statement({"name": "Sok Dara"}, ["two"], None)
WRITTEN = encode_statement(STATEMENT)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_part_digest() -> None:
    """A part's digest is SHA-256 over its label, its salt and its text, as the protocol writes it."""
    expected = hashlib.sha256(b"fpx1-part\0" + SALT + '{"a":"ក"}'.encode()).hexdigest()
    assert part_digest(SALT, '{"a":"ក"}') == expected
    assert make_part({"a": "ក"}, SALT) == Part(wire.Digest(expected), SALT, '{"a":"ក"}')
    assert part_digest(bytes(16), '{"a":"ក"}') != expected


def test_root() -> None:
    """The root covers the digests of all parts in order, with their count."""
    digests = b"".join(bytes.fromhex(part.digest) for part in STATEMENT.parts)
    assert STATEMENT.root == hashlib.sha256(b"fpx1-root\0\x00\x04" + digests).hexdigest()
    header, first, *rest = STATEMENT.parts
    for parts in ((header, *rest, first), (header, first), (header, first, first, *rest)):
        assert replace(STATEMENT, parts=parts).root != STATEMENT.root


def test_statement_round_trip() -> None:
    """A statement is read as it was written, and written again as the same bytes."""
    approved = replace(STATEMENT, approvals=("first", "second")).withhold(2, "7.1")
    for statement in (STATEMENT, approved):
        read = parse_statement(encode_statement(statement))
        assert read == statement
        assert read.root == STATEMENT.root
        assert encode_statement(read) == encode_statement(statement)


@given(st.lists(st.dictionaries(TEXTS, TEXTS, max_size=3), min_size=1, max_size=4), st.data())
def test_any_part_can_be_withheld(values: list[JsonValue], data: st.DataObject) -> None:
    """Whatever parts are withheld, the root stays, what is left is unchanged, and the redacted one travels."""
    statement = builders.sample_statement(*values)
    withheld = data.draw(st.sets(st.integers(1, len(values))))
    redacted = statement
    for index in withheld:
        redacted = redacted.withhold(index, "7.1")
    assert redacted.root == statement.root
    read = parse_statement(encode_statement(redacted))
    assert read == redacted
    for index, (part, original) in enumerate(zip(read.parts, statement.parts, strict=True)):
        assert part == (Part(original.digest, clause="7.1") if index in withheld else original)


def test_a_withheld_part_says_nothing() -> None:
    """Neither salt nor text of a withheld part is written, and its value cannot be asked for."""
    redacted = STATEMENT.withhold(1, "7.1")
    written = encode_statement(redacted)
    assert b"Sok Dara" in WRITTEN
    assert b"Sok Dara" not in written
    assert wire.encode_base64(STATEMENT.parts[1].salt).encode() not in written
    with refused("envelope.inner", "victim is withheld"):
        redacted.parts[1].value("victim")


def test_the_header_is_never_withheld() -> None:
    """Part 0 can neither be withheld nor be read as withheld."""
    for index in (0, -1, -4):
        with refused("envelope.inner", "part 0 is never withheld"):
            STATEMENT.withhold(index, "7.1")
    hidden = Part(STATEMENT.parts[0].digest, clause="7.1")
    with refused("envelope.inner", "part 0 is never withheld"):
        parse_statement(encode_statement(replace(STATEMENT, parts=(hidden, *STATEMENT.parts[1:]))))


def test_header() -> None:
    """The header is part 0 as an object, and nothing else is one."""
    assert STATEMENT.header() == builders.HEADER
    with refused("envelope.inner", "header"):
        replace(STATEMENT, parts=(make_part(["no object"], SALT), *STATEMENT.parts[1:])).header()
    with refused("envelope.inner", "header is withheld"):
        replace(STATEMENT, parts=(Part(STATEMENT.parts[0].digest), *STATEMENT.parts[1:])).header()


def test_a_part_is_read_strictly() -> None:
    """A part's text may be any text until it is asked for its value: then it must be strict JSON."""
    part = Part(part_digest(SALT, '{"a":1,"a":2}'), SALT, '{"a":1,"a":2}')
    statement = parse_statement(encode_statement(replace(STATEMENT, parts=(STATEMENT.parts[0], part))))
    with refused("wire.duplicate_key", ""):
        statement.parts[1].value("victim")


def test_compose_needs_a_salt_for_each_part() -> None:
    """A statement is made with one salt for each part, header first."""
    salts = [bytes([n]) * SALT_BYTES for n in range(3)]
    made = compose_statement({"a": 1}, [2, 3], salts, agreement=builders.AGREEMENT.digest, clause="4.2")
    assert [part.salt for part in made.parts] == salts
    assert [part.text for part in made.parts] == ['{"a":1}', "2", "3"]
    assert (made.agreement, made.clause, made.approvals) == (builders.AGREEMENT.digest, "4.2", ())
    with pytest.raises(ValueError, match="zip"):
        compose_statement({"a": 1}, [2, 3], salts[:2], agreement=builders.AGREEMENT.digest, clause="4.2")


PART = {"salt": wire.encode_base64(SALT), "json": "{}"}


@pytest.mark.parametrize(
    ("path", "to", "code", "where"),
    [
        (("binding",), ABSENT, "wire.missing", "statement.binding"),
        (("binding", "agreement"), "0", "wire.bad_value", "statement.binding.agreement"),
        (("binding", "clause"), "4 2", "wire.bad_value", "statement.binding.clause"),
        (("binding", "more"), 1, "wire.unknown_member", "statement.binding"),
        (("parts",), [PART], "wire.bad_value", "statement.parts"),
        (("parts",), [PART] * (MAX_PARTS + 1), "wire.bad_value", "statement.parts"),
        (("parts", 1), "{}", "wire.bad_type", "statement.parts[1]"),
        (("parts", 1, "salt"), ABSENT, "wire.missing", "statement.parts[1].salt"),
        (("parts", 1, "salt"), wire.encode_base64(bytes(15)), "wire.bad_value", "statement.parts[1].salt"),
        (("parts", 1, "salt"), wire.encode_base64(bytes(17)), "wire.bad_value", "statement.parts[1].salt"),
        (("parts", 1, "json"), {}, "wire.bad_type", "statement.parts[1].json"),
        (("parts", 1, "json"), "", "wire.bad_value", "statement.parts[1].json"),
        (("parts", 1, "more"), 1, "wire.unknown_member", "statement.parts[1]"),
        (("parts", 1, "digest"), "0" * 64, "wire.missing", "statement.parts[1].clause"),
        (("parts", 1), {"digest": "0" * 63, "clause": "4.2"}, "wire.bad_value", "statement.parts[1].digest"),
        (("parts", 1), {"digest": "0" * 64, "clause": ""}, "wire.bad_value", "statement.parts[1].clause"),
        (("parts", 1), {"digest": "0" * 64, "clause": "4", **PART}, "wire.unknown_member", "statement.parts[1]"),
        (("approvals",), ABSENT, "wire.missing", "statement.approvals"),
        (("approvals",), ["a"] * 2, "wire.bad_value", "statement.approvals"),
        (("approvals",), [str(n) for n in range(10)], "wire.bad_value", "statement.approvals"),
        (("approvals",), ["x" * 16_385], "wire.bad_value", "statement.approvals"),
        (("more",), 1, "wire.unknown_member", "statement"),
        (("more",), [[[[[[]]]]]], "wire.too_deep", "at most 6 levels"),
    ],
)
def test_statement_refusals(path: tuple[str | int, ...], to: JsonValue, code: str, where: str) -> None:
    """A statement with a wrong, missing or unknown member is refused at its place."""
    with refused(code, where):
        parse_statement(builders.edited(WRITTEN, *path, to=to))


def test_statement_size() -> None:
    """A statement fills at most one padded MiB, less the mark of its end."""
    room = MAX_STATEMENT_BYTES - len(encode_statement(builders.sample_statement("")))
    fits = encode_statement(builders.sample_statement("x" * room))
    assert len(fits) == MAX_STATEMENT_BYTES
    assert encode_statement(parse_statement(fits)) == fits
    with refused("wire.too_large", f"{MAX_STATEMENT_BYTES + 1} bytes, at most {MAX_STATEMENT_BYTES}"):
        parse_statement(encode_statement(builders.sample_statement("x" * (room + 1))))
