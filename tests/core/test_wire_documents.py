"""Documents member by member, and the signed document around them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core import wire
from exchange.core.wire import Fields
from tests.core import builders
from tests.core.builders import refused

if TYPE_CHECKING:
    from exchange.core.wire import JsonValue

# -- Fields ----------------------------------------------------------------------------------------


def fields(value: JsonValue) -> Fields:
    return Fields(value, "card")


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "text", [], [{}]])
def test_fields_of_something_else(value: JsonValue) -> None:
    """Only an object has members."""
    with refused("wire.bad_type", "card"):
        fields(value)


def test_fields_missing_and_unknown() -> None:
    """A member that is missing is named; one that nobody asked for is refused without its name."""
    reader = fields({"node": "kh-fp1", "Sok Dara": 1})
    with refused("wire.missing", "card.network"):
        reader.any("network")
    assert reader.any("node") == "kh-fp1"
    with refused("wire.missing", "card.node"):
        reader.any("node")
    with refused("wire.unknown_member", "card"):
        reader.done()


def test_fields_done() -> None:
    """A document whose members were all asked for, or are null and were looked for, is done."""
    value: JsonValue = {"a": 1, "b": None, "c": None}
    reader = fields(value)
    assert reader.integer("a") == 1
    assert not reader.has("b")
    assert not reader.has("d")
    with refused("wire.unknown_member", "card"):
        reader.done()
    assert reader.any("c") is None
    reader.done()
    assert value == {"a": 1, "b": None, "c": None}


def test_fields_text() -> None:
    """A text has 1 to the most characters, counted as characters, and matches its pattern as a whole."""
    pattern = re.compile(r"[a-z]+|ក+")
    value: JsonValue = {"a": "ab", "k": "កក", "e": "", "n": 1, "long": "abc", "no": "a\n"}
    assert fields(value).text("a", max_chars=2, pattern=pattern) == "ab"
    assert fields(value).text("k", max_chars=2, pattern=pattern) == "កក"
    assert fields({"t": "x" * 256}).text("t") == "x" * 256
    with refused("wire.bad_type", "card.n"):
        fields(value).text("n")
    for name in ("e", "long", "no"):
        with refused("wire.bad_value", f"card.{name}"):
            fields(value).text(name, max_chars=2, pattern=pattern)
    with refused("wire.bad_value", "card.t"):
        fields({"t": "x" * 257}).text("t")


def test_fields_optional_text() -> None:
    """An optional text may be missing or null; otherwise it is a text like any other."""
    value: JsonValue = {"a": "ab", "b": None, "c": ""}
    assert fields(value).optional_text("a") == "ab"
    assert fields(value).optional_text("b") is None
    assert fields(value).optional_text("d") is None
    with refused("wire.bad_value", "card.c"):
        fields(value).optional_text("c")
    with refused("wire.bad_value", "card.a"):
        fields(value).optional_text("a", max_chars=1)
    with refused("wire.bad_value", "card.a"):
        fields(value).optional_text("a", pattern=re.compile("b"))


def test_fields_choice() -> None:
    """A choice is one of the texts allowed."""
    assert fields({"reach": "open"}).choice("reach", ("open", "pull")) == "open"
    with refused("wire.bad_value", "card.reach"):
        fields({"reach": "ope"}).choice("reach", frozenset({"open"}))


def test_fields_integer() -> None:
    """An integer lies within its bounds; true and 1.0 are none."""
    assert fields({"n": 3}).integer("n", low=3, high=3) == 3
    assert fields({"n": 0}).integer("n") == 0
    assert fields({"n": 2**53 - 1}).integer("n") == 2**53 - 1
    for value in (True, 1.0, "1", None):
        with refused("wire.bad_type", "card.n"):
            fields({"n": value}).integer("n")
    for bad in (2, 5):
        with refused("wire.bad_value", "card.n"):
            fields({"n": bad}).integer("n", low=3, high=4)
    with refused("wire.bad_value", "card.n"):
        fields({"n": -1}).integer("n")


def test_fields_flag() -> None:
    """A flag is true or false, not 1 and not a text."""
    assert fields({"f": True}).flag("f") is True
    assert fields({"f": False}).flag("f") is False
    for value in (1, 0, "true", None):
        with refused("wire.bad_type", "card.f"):
            fields({"f": value}).flag("f")


def test_fields_time() -> None:
    """A time is read by the rules of times, at its place."""
    assert fields({"t": "2026-11-23T00:27:37Z"}).time("t") == builders.NOW
    with refused("wire.bad_time", "card.t"):
        fields({"t": "2026-11-23T00:27:3Z"}).time("t")
    with refused("wire.bad_value", "card.t"):
        fields({"t": "2026-11-23T00:27:37.0Z"}).time("t")


@given(st.integers(0, 40), st.integers(1, 40))
def test_fields_bytes(length: int, limit: int) -> None:
    """Bytes are read up to exactly the most allowed, and an exact length is exact."""
    data = bytes(length)
    value: JsonValue = {"pk": wire.encode_base64(data)}
    if 0 < length <= limit:
        assert fields(value).bytes("pk", max_bytes=limit) == data
        assert fields(value).bytes("pk", length=length, max_bytes=limit) == data
        for other in (length - 1, length + 1):
            with refused("wire.bad_value", "card.pk"):
                fields(value).bytes("pk", length=other)
    else:
        with refused("wire.bad_value", "card.pk"):
            fields(value).bytes("pk", max_bytes=limit)


def test_fields_bytes_in_another_base64() -> None:
    """Bytes that are not in canonical base64 are refused at their place."""
    with refused("wire.bad_base64", "card.pk"):
        fields({"pk": "AB=="}).bytes("pk", max_bytes=3)


def test_fields_digest() -> None:
    """A digest is 64 lower-case hexadecimal digits."""
    digest = wire.sha256_hex(b"abc")
    assert fields({"h": digest}).digest("h") == digest
    for bad in (digest.upper(), digest[:-1], digest + "0", digest[:-1] + "g"):
        with refused("wire.bad_value", "card.h"):
            fields({"h": bad}).digest("h")


def test_fields_items() -> None:
    """A list has at least the fewest and at most the most items."""
    assert fields({"l": [1, "a", None]}).items("l", low=3, high=3) == [1, "a", None]
    assert fields({"l": []}).items("l", high=3) == []
    with refused("wire.bad_type", "card.l"):
        fields({"l": {}}).items("l", high=3)
    for low, high in ((2, 3), (0, 0)):
        with refused("wire.bad_value", "card.l"):
            fields({"l": [1]}).items("l", low=low, high=high)


def test_fields_each() -> None:
    """Each object of a list is read at its own place."""
    first, second = fields({"keys": [{"a": 1}, {"a": "x"}]}).each("keys", high=2)
    assert first.integer("a") == 1
    with refused("wire.bad_type", "card.keys[1].a"):
        second.integer("a")
    with refused("wire.bad_type", "card.keys[1]"):
        fields({"keys": [{}, 1]}).each("keys", high=2)
    with refused("wire.bad_value", "card.keys"):
        fields({"keys": []}).each("keys", low=1, high=2)


def test_fields_texts() -> None:
    """A list of texts holds different texts, each in its bounds."""
    read = fields({"l": ["b", "a"]}).texts("l", high=2, max_chars=1, pattern=re.compile("[ab]"))
    assert read == ("b", "a")
    with refused("wire.bad_type", "card.l"):
        fields({"l": ["a", 1]}).texts("l", high=2)
    bad: list[list[JsonValue]] = [["a", "a"], [""], ["bb"], ["c"]]
    for value in bad:
        with refused("wire.bad_value", "card.l"):
            fields({"l": value}).texts("l", high=2, max_chars=1, pattern=re.compile("[ab]"))


def test_fields_object() -> None:
    """An object within an object is read at its own place."""
    with refused("wire.missing", "card.authority.threshold"):
        fields({"authority": {}}).object("authority").integer("threshold")
    with refused("wire.bad_type", "card.authority"):
        fields({"authority": []}).object("authority")


def test_fields_mapping() -> None:
    """A mapping holds 1 to the most texts by short keys, in their order, and no error tells a key."""
    read = fields({"agency": {"km": "ក", "en": "x" * 256}}).mapping("agency", high=2)
    assert list(read.items()) == [("km", "ក"), ("en", "x" * 256)]
    assert fields({"agency": {"k" * 32: "a"}}).mapping("agency", high=1) == {"k" * 32: "a"}
    bad: list[JsonValue] = [{}, {"a": "a", "b": "b"}, {"": "a"}, {"k" * 33: "a"}, {"Sok Dara": ""}, {"en": "toolong"}]
    for value in bad:
        with refused("wire.bad_value", "card.agency"):
            fields({"agency": value}).mapping("agency", high=1, max_chars=6)
    with refused("wire.bad_type", "card.agency"):
        fields({"agency": {"Sok Dara": 1}}).mapping("agency", high=1)


# -- signed documents ------------------------------------------------------------------------------


DIGEST = wire.sha256_hex(b"abc")
DOCUMENT = wire.UnverifiedDocument(
    wire.DocumentType.CARD,
    b"{}",
    (wire.Signature(wire.KeyId(DIGEST), b"one"), wire.Signature(wire.KeyId(DIGEST), b"2")),
)


def test_pae() -> None:
    """The bytes that are signed are those of the DSSE specification's own example."""
    assert (
        wire.pae("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_document_round_trip() -> None:
    """A signed document is read back as it was written, its payload byte for byte."""
    odd = wire.UnverifiedDocument(DOCUMENT.payload_type, b'\n{ "a" : 1.0 }\xff', DOCUMENT.signatures)
    for document in (DOCUMENT, odd):
        written = wire.encode_signed_document(document)
        assert wire.parse_signed_document(written) == document
        assert wire.parse_signed_document(written, wire.DocumentType.CARD) == document
        assert wire.encode_signed_document(wire.parse_signed_document(written)) == written


def test_document_digest_is_of_type_and_payload() -> None:
    """The digest of a document is SHA-256 over PAE: another type changes it, another signature does not."""
    assert DOCUMENT.digest() == wire.sha256_hex(DOCUMENT.signed_bytes())
    assert DOCUMENT.signed_bytes() == b"DSSEv1 39 application/vnd.focalpoint.card.v1+json 2 {}"
    unsigned = wire.UnverifiedDocument(DOCUMENT.payload_type, DOCUMENT.payload, ())
    assert unsigned.digest() == DOCUMENT.digest()
    assert wire.UnverifiedDocument(wire.DocumentType.VOID, DOCUMENT.payload, ()).digest() != DOCUMENT.digest()


def test_document_fields() -> None:
    """The payload is read strictly, within its limit, at the place given."""
    document = wire.UnverifiedDocument(DOCUMENT.payload_type, b'{"a":1}', ())
    assert document.fields("card").integer("a") == 1
    with refused("wire.too_large", "7 bytes, at most 6"):
        document.fields("card", max_bytes=6)
    with refused("wire.bad_type", "card"):
        wire.UnverifiedDocument(DOCUMENT.payload_type, b"[]", ()).fields("card")


@pytest.mark.parametrize(
    ("path", "to", "code", "where"),
    [
        (("payloadType",), builders.ABSENT, "wire.missing", "document.payloadType"),
        (("payloadType",), "application/json", "wire.bad_value", "document.payloadType"),
        (("payloadType",), "application/vnd.focalpoint.card.v0+json", "wire.bad_value", "document.payloadType"),
        (("payloadType",), "application/vnd.focalpoint.card.v2+json", "wire.unknown_type", "document.payloadType"),
        (("payloadType",), "application/vnd.focalpoint.void.v1+json", "wire.wrong_type", "document.payloadType"),
        (("payload",), "e30", "wire.bad_base64", "document.payload"),
        (("payload",), "", "wire.bad_value", "document.payload"),
        (("signatures",), [], "wire.bad_value", "document.signatures"),
        (("signatures", 1), 1, "wire.bad_type", "document.signatures[1]"),
        (("signatures", 0, "keyid"), "abc", "wire.bad_value", "document.signatures[0].keyid"),
        (("signatures", 0, "sig"), "A", "wire.bad_base64", "document.signatures[0].sig"),
        (("signatures", 1, "note"), 1, "wire.unknown_member", "document.signatures[1]"),
        (("note",), 1, "wire.unknown_member", "document"),
        (("note",), [[[[]]]], "wire.too_deep", "at most 4 levels"),
    ],
)
def test_document_refusals(path: tuple[str | int, ...], to: JsonValue, code: str, where: str) -> None:
    """A signed document with a wrong, missing or unknown member is refused at its place."""
    text = builders.edited(wire.encode_signed_document(DOCUMENT), *path, to=to)
    with refused(code, where):
        wire.parse_signed_document(text, wire.DocumentType.CARD)


def test_document_limits() -> None:
    """A document holds at most 72 signatures of at most 8,192 bytes, and itself at most what the caller allows."""
    signature = wire.Signature(wire.KeyId(DIGEST), bytes(8192))
    full = wire.UnverifiedDocument(DOCUMENT.payload_type, b"{}", (wire.Signature(wire.KeyId(DIGEST), b"1"),) * 72)
    assert wire.parse_signed_document(wire.encode_signed_document(full)) == full
    over = wire.UnverifiedDocument(DOCUMENT.payload_type, b"{}", (*full.signatures, signature))
    with refused("wire.bad_value", "document.signatures"):
        wire.parse_signed_document(wire.encode_signed_document(over))
    long = wire.Signature(wire.KeyId(DIGEST), bytes(8193))
    for signatures, fits in (((signature,), True), ((long,), False)):
        written = wire.encode_signed_document(wire.UnverifiedDocument(DOCUMENT.payload_type, b"{}", signatures))
        if fits:
            assert wire.parse_signed_document(written, max_bytes=len(written)).signatures == signatures
            with refused("wire.too_large", f"{len(written)} bytes, at most {len(written) - 1}"):
                wire.parse_signed_document(written, max_bytes=len(written) - 1)
        else:
            with refused("wire.bad_value", "document.signatures[0].sig"):
                wire.parse_signed_document(written)


def test_a_draft_has_no_signature() -> None:
    """A document without a signature is read only where a draft is expected."""
    draft = wire.encode_signed_document(replace(DOCUMENT, signatures=()))
    assert wire.parse_signed_document(draft, min_signatures=0).signatures == ()
    with refused("wire.bad_value", "document.signatures"):
        wire.parse_signed_document(draft)


def test_every_type_is_known() -> None:
    """Every payload type of the table is read where no single one is expected."""
    assert len(wire.DocumentType.ALL) == 11
    for kind in wire.DocumentType.ALL:
        document = wire.UnverifiedDocument(kind, b"{}", DOCUMENT.signatures)
        assert wire.parse_signed_document(wire.encode_signed_document(document)) == document
