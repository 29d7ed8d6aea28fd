"""Strict bytes <-> values: what is read, what is refused, and where."""

from __future__ import annotations

import base64
import binascii
import json
import math
import string
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exchange.core import wire
from exchange.core.errors import PeerError
from tests.core.builders import refused

if TYPE_CHECKING:
    import re

    from exchange.core.wire import JsonValue

SAFE = 2**53 - 1
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.text('[]{}"\\a', max_size=8)
VALUES: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-SAFE, SAFE) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)

PIECES = [
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"0",
    b"-",
    b".",
    b"e",
    b" ",
    b"\\u0061",
    b'"a":1,',
    b"\xc3",
    b"9" * 20,
]


def parse(text: bytes, max_bytes: int = 10_000, max_depth: int = 32) -> JsonValue:
    return wire.parse_json(text, max_bytes=max_bytes, max_depth=max_depth)


def depth_of(value: JsonValue) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


# -- JSON ------------------------------------------------------------------------------------------


@given(VALUES)
def test_json_round_trip(value: JsonValue) -> None:
    """What is written is read back as the same value, and written again as the same bytes."""
    written = wire.encode_json(value)
    read = parse(written, max_bytes=len(written))
    assert read == value
    assert wire.encode_json(read) == written


@given(VALUES, st.data())
def test_json_quick_and_strict_readers_agree(value: JsonValue, data: st.DataObject) -> None:
    """What the quick reader takes the strict one takes, as the same value; a text changed anywhere is no exception."""
    written = bytearray(wire.encode_json(value))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(written) - 1))
        written[at : at + data.draw(st.integers(0, 2))] = data.draw(st.sampled_from(PIECES))
    text = bytes(written)
    try:
        strict: object = wire._parse_slowly(text, 32)  # noqa: SLF001 - the judge of the other reader
    except PeerError as error:
        strict = error.code
    try:
        read: object = parse(text)
    except PeerError as error:
        read = error.code
    assert repr(read) == repr(strict)  # 1 and 1.0 and True differ here


@given(VALUES, st.integers(0, 5))
def test_json_depth(value: JsonValue, max_depth: int) -> None:
    """A document is refused exactly where it nests deeper than allowed, however its strings look."""
    for written in (wire.encode_json(value), json.dumps(value).encode(), json.dumps(value, indent=1).encode()):
        if depth_of(value) <= max_depth:
            assert parse(written, max_depth=max_depth) == value
        else:
            with refused("wire.too_deep", f"at most {max_depth} levels"):
                parse(written, max_depth=max_depth)


@pytest.mark.parametrize(
    ("text", "max_depth"),
    [
        (b"[[[]]]", 3),
        (b'[[["[[[[[[{{{{{{"]]]', 3),
        (rb'[[["\"[[[[[[\\"]]]', 3),
        (rb'{"[[[[\\\"[[[[":{"[":["{"]}}', 3),
        (b"[" + b"[]," * 40 + b"[]]", 2),
        (b'{"a":[{"b":[{"c":[]}]}]}', 6),
        (b'[{"a":[{}]},[{"b":[{}]}]]', 5),
        (b"[" * 32 + b"]" * 32, 32),
    ],
)
def test_json_brackets_in_strings_do_not_count(text: bytes, max_depth: int) -> None:
    """Brackets inside strings and beside each other are not nesting."""
    assert wire.encode_json(parse(text, max_depth=max_depth)) == text
    with refused("wire.too_deep", f"at most {max_depth - 1} levels"):
        parse(text, max_depth=max_depth - 1)


def test_json_depth_never_reaches_the_recursion_limit() -> None:
    """Ten thousand levels are refused as too deep, also unclosed, and unbalanced brackets are refused either way."""
    for text in (
        b"[" * 10_000 + b"]" * 10_000,
        b"[" * 10_000,
        b'[{"a":' * 3_000,
        b'"' + b"[" * 5_000 + b'"' + b"[" * 99,
    ):
        with refused("wire.too_deep", "at most 32 levels"):
            parse(text, max_bytes=100_000)
    with refused("wire.not_json", "line 1, column 1"):
        parse(b"]" * 9_000)
    with refused("wire.not_json", "line 1, column 1"):
        parse(b'"' + b"[" * 5_000)


@pytest.mark.parametrize(
    ("text", "code", "where"),
    [
        (b"12345", "wire.too_large", "5 bytes, at most 4"),
        (b'"\xff"', "wire.not_utf8", "byte 1"),
        (b'"\xed\xa0\x80"', "wire.not_utf8", "byte 1"),
        (b'"\xc0\xaf"', "wire.not_utf8", "byte 1"),
        (b"", "wire.not_json", "line 1, column 1"),
        (b"\xef\xbb\xbf1", "wire.not_json", "line 1, column 1"),
        (b"1\n 2", "wire.not_json", "line 2, column 2"),
        (b"{,}", "wire.not_json", "line 1, column 2"),
        (b'"\x00"', "wire.not_json", "line 1, column 2"),
        (b"NaN", "wire.not_json", "NaN and Infinity are not JSON"),
        (b"-Infinity", "wire.not_json", "NaN and Infinity are not JSON"),
        (b'{"a":1,"a":1}', "wire.duplicate_key", ""),
        (rb'{"a":1,"\u0061":2}', "wire.duplicate_key", ""),
        (b'[{"b":{"a":1,"b":[],"a":1}}]', "wire.duplicate_key", ""),
        (b"9007199254740992", "wire.bad_number", ""),
        (b"-9007199254740992", "wire.bad_number", ""),
        (b"-90071992547409910", "wire.bad_number", ""),
        (b"9" * 5_000, "wire.bad_number", ""),
        (b"1e309", "wire.bad_number", ""),
        (b"-1e309", "wire.bad_number", ""),
        (b"1" * 400 + b".0", "wire.bad_number", ""),
        (rb'"\ud800"', "wire.bad_text", ""),
        (rb'"\uDFFF\uD800"', "wire.bad_text", ""),
        (rb'{"\udbff":1}', "wire.bad_text", ""),
        (rb'["\ud83d\ude00","\ud83d"]', "wire.bad_text", ""),
    ],
)
def test_json_refusals(text: bytes, code: str, where: str) -> None:
    """What is too large, is not JSON, or could be read in two ways is refused by its own code and place."""
    with refused(code, where):
        parse(text, max_bytes=4 if code == "wire.too_large" else 5_000)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"9007199254740991", SAFE),
        (b"-9007199254740991", -SAFE),
        (b"-0", 0),
        (b"1e308", 1e308),
        (b"1e-400", 0.0),
        (b" \t\r\n[ 1 , 2 ]\n", [1, 2]),
        (rb'"\ud83d\ude00"', "😀"),
        (rb'"\\ud800"', "\\ud800"),
        (b'{"a":null,"A":null}', {"a": None, "A": None}),
    ],
)
def test_json_accepts(text: bytes, value: JsonValue) -> None:
    """The largest safe number, paired surrogates and white space are read."""
    assert parse(text) == value


def test_json_size_is_looked_at_first() -> None:
    """A text of exactly the limit is read; one byte more is refused before its bytes are looked at."""
    assert parse(b'"ab"', max_bytes=4) == "ab"
    with refused("wire.too_large", "5 bytes, at most 4"):
        parse(b"\xff\xff\xff\xff\xff", max_bytes=4)


def test_json_refuses_what_is_no_json_value_when_writing() -> None:
    """NaN, infinity and unpaired surrogates are never written."""
    for number in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="not JSON compliant"):
            wire.encode_json(number)
    with pytest.raises(UnicodeEncodeError):
        wire.encode_json("\ud800")


def test_json_is_compact_and_keeps_the_order() -> None:
    """Members are written in the order given, without white space, in UTF-8 without needless escapes."""
    assert wire.encode_json({"b": [1, "ក"], "a": {"/": '"\\\n'}}) == '{"b":[1,"ក"],"a":{"/":"\\"\\\\\\n"}}'.encode()


# -- base64, times, digests ------------------------------------------------------------------------


@given(st.binary(max_size=100))
def test_base64_round_trip(data: bytes) -> None:
    """Any bytes are written as standard base64 and read back."""
    text = wire.encode_base64(data)
    assert text == base64.b64encode(data).decode()
    assert wire.parse_base64(text) == data


@given(st.text(string.ascii_letters + string.digits + "+/=-_ \n\u0660\uff21", max_size=12))
@example("")
@example("AA==")
@example("AB==")
@example("AAB=")
@example("A===")
@example("AAAAA")
@example("=")
@example("AA=A")
@example("AAAA====")
def test_base64_has_one_text_for_any_bytes(text: str) -> None:
    """A text is read if it is the one that is written for its bytes, and refused otherwise."""
    try:
        canonical = base64.b64encode(base64.b64decode(text, validate=True)).decode() == text
    except (binascii.Error, ValueError):
        canonical = False
    if canonical:
        assert wire.encode_base64(wire.parse_base64(text)) == text
    else:
        with refused("wire.bad_base64", "card.pk"):
            wire.parse_base64(text, "card.pk")


SECONDS = st.datetimes(
    min_value=datetime(1, 1, 1),  # noqa: DTZ001 - hypothesis wants bounds without a zone
    max_value=datetime(9999, 12, 31, 23, 59, 59),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(SECONDS)
@example(datetime(1, 1, 1, tzinfo=UTC))
@example(datetime(999, 12, 31, 23, 59, 59, tzinfo=UTC))
@example(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
def test_time_round_trip(moment: datetime) -> None:
    """Every second from year 1 to year 9999 is written in twenty characters and read back."""
    text = wire.encode_time(moment)
    assert len(text) == 20
    assert wire.parse_time(text) == moment.replace(microsecond=0)
    assert wire.parse_time(text).utcoffset() == timedelta(0)
    assert wire.encode_time(wire.parse_time(text)) == text


@given(SECONDS, SECONDS)
def test_time_texts_sort_as_times(one: datetime, other: datetime) -> None:
    """Texts of times compare as the seconds they stand for."""
    one, other = one.replace(microsecond=0), other.replace(microsecond=0)
    assert (wire.encode_time(one) < wire.encode_time(other)) == (one < other)


def test_time_of_another_zone() -> None:
    """A time of another zone is written in UTC, and a part of a second is left out."""
    phnom_penh = timezone(timedelta(hours=7))
    assert wire.encode_time(datetime(2026, 11, 23, 7, 27, 37, 999_999, phnom_penh)) == "2026-11-23T00:27:37Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-23",
        "2026-11-23T00:27:37",
        "2026-11-23t00:27:37z",
        "2026-11-23 00:27:37Z",
        "2026-11-23T00:27:37+00:00",
        "2026-11-23T00:27:37.0Z",
        "2026-11-23T00:27:37Z\n",
        " 2026-11-23T00:27:37Z",
        "+026-11-23T00:27:37Z",
        "٢٠٢٦-11-23T00:27:37Z",
        "2026-1-023T00:27:37Z",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-11-23T24:00:00Z",
        "2026-12-31T23:59:60Z",
        "2026-12-31T23:59:61Z",
        "0000-01-01T00:00:00Z",
    ],
)
def test_time_refusals(text: str) -> None:
    """Any other form of a time, a day that does not exist, and a leap second are refused."""
    with refused("wire.bad_time", "card.issued"):
        wire.parse_time(text, "card.issued")


def test_sha256() -> None:
    """A digest is SHA-256 in lower-case hexadecimal (FIPS 180-4, the example abc)."""
    assert wire.sha256_hex(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@given(TEXTS, TEXTS)
def test_length_prefix_keeps_neighbours_apart(one: str, other: str) -> None:
    """Two texts behind each other can be told apart by their lengths."""
    data = wire.length_prefixed(one) + wire.length_prefixed(other)
    length = int.from_bytes(data[:2], "big")
    assert data[2 : 2 + length].decode() == one
    assert data[4 + length :].decode() == other


# -- identifiers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (wire.NODE_ID, ["kh-fp1", "th-" + "a" * 16], ["KH-fp1", "k-fp1", "kh-", "kh-" + "a" * 17, "kh-fp1\n"]),
        (wire.NETWORK_ID, ["training-mekong", "0", "a" * 32], ["-a", "", "a" * 33, "Mekong", "a_b"]),
        (wire.MESSAGE_ID, ["0" * 32], ["0" * 31, "0" * 33, "G" * 32, "A" * 32]),
        (wire.AGREEMENT_ID, ["kh-th-2026", "a" * 64], ["", "-a", "a" * 65]),
        (wire.SCHEMA_ID, ["case-referral/v1", "a/v9999"], ["a/v0", "a/v01", "a", "a/v10000", "1/v1"]),
        (wire.CLAUSE_ID, ["4.2", "A-1", "a" * 32], ["", ".4", "a" * 33, "4 2"]),
        (wire.HEX_256, ["0" * 64], ["0" * 63, "F" * 64]),
    ],
)
def test_identifiers(pattern: re.Pattern[str], good: list[str], bad: list[str]) -> None:
    """Identifiers have one form and a bounded length."""
    assert all(pattern.fullmatch(text) for text in good)
    assert not any(pattern.fullmatch(text) for text in bad)


def test_errors_of_parsing_are_peers_faults() -> None:
    """An error of a nested parser reaches the caller as it is, without the library's error behind it."""
    with pytest.raises(PeerError) as caught:
        parse(b"[1,")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("text", ["2027-02-29", "0000-01-01", "20270101", "2027-W01-1", "2027-01-01T00:00:00Z", ""])
def test_a_day_is_one_of_the_calendar(text: str) -> None:
    """A day that does not exist, and every form but one, is refused; a leap day of a leap year is read."""
    assert wire.parse_day("2028-02-29") == date(2028, 2, 29)
    with refused("wire.bad_time", "here"):
        wire.parse_day(text, "here")
