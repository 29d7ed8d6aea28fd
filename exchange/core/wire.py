"""Strict bytes <-> values: JSON, base64, times, identifiers, signed documents.

Implements docs/protocol.md section 2 (encodings) and section 3 (the signed document, DSSE).

Rules:
1. Bound first: every ``parse_`` function knows its largest input before it looks at the first byte.
2. What could be read in two ways is refused: duplicate members, lone surrogates, numbers that other
   systems round, base64 with stray bits, times in local zones.
3. A ``parse_`` function raises ``PeerError`` and nothing else; its ``encode_`` is the tested inverse.
4. The payload of a signed document is kept, and verified, as the bytes received. No signature is ever checked
   over a value written anew.

What it does not do: decide whom to believe (``core.keys``) or what a document means.

Length: one place where bytes become values.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final, NewType, TypeAlias

import orjson

from exchange.core.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Mapping

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = "dict[str, JsonValue]"

NodeId = NewType("NodeId", str)
NetworkId = NewType("NetworkId", str)
MessageId = NewType("MessageId", str)
AgreementId = NewType("AgreementId", str)
SchemaId = NewType("SchemaId", str)
KeyId = NewType("KeyId", str)
Digest = NewType("Digest", str)

TRAINING_PREFIX: Final = "training-"
MAX_DEPTH: Final = 32  # deeper than any schema of ours; far below the parser's recursion limit
MAX_SAFE_INTEGER: Final = 2**53 - 1  # RFC 8259 section 6: what every implementation reads alike
MAX_DOCUMENT_BYTES: Final = 262_144  # an agreement of three parties with post-quantum signatures is about 60 KB
MAX_SIGNATURES: Final = 72  # eight parties with nine authority keys each
MAX_KEY_CHARS: Final = 32  # a language tag, with room

NODE_ID: Final = re.compile(r"[a-z]{2}-[a-z0-9]{1,16}")
NETWORK_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
MESSAGE_ID: Final = re.compile(r"[0-9a-f]{32}")
AGREEMENT_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
SCHEMA_ID: Final = re.compile(r"[a-z][a-z-]{0,47}/v[1-9][0-9]{0,3}")
CLAUSE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,31}")
HEX_256: Final = re.compile(r"[0-9a-f]{64}")

# A possessive repeat, and the end of the text as a closing quote: linear on hostile input.
_STRINGS: Final = re.compile(rb'"[^"]*+(?:"|\Z)')
_NOT_OPENINGS: Final = bytes(set(range(256)) - set(b"[{"))
_NOT_BRACKETS_OR_QUOTES: Final = bytes(set(range(256)) - set(b'[]{}"'))
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_SURROGATE_ESCAPE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?!24)[0-9]{2}:[0-9]{2}:[0-9]{2}Z")  # some Pythons read 24:00
_MEDIA_TYPE: Final = re.compile(r"application/vnd\.focalpoint\.[a-z-]{1,32}\.v[1-9][0-9]{0,3}\+json")


# -- JSON ------------------------------------------------------------------------------------------


def _object_without_duplicates(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise PeerError("wire.duplicate_key")
    return members


def _bounded_int(text: str) -> int:
    # The length is looked at first: int() of a long run of digits is quadratic and then raises ValueError.
    if len(text) > 17 or abs(value := int(text)) > MAX_SAFE_INTEGER:  # noqa: PLR2004 - sign and 16 digits
        raise PeerError("wire.bad_number")
    return value


def _finite_float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise PeerError("wire.bad_number")
    return value


def _no_constant(_: str) -> JsonValue:
    raise PeerError("wire.not_json", "NaN and Infinity are not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object_without_duplicates,
    parse_int=_bounded_int,
    parse_float=_finite_float,
    parse_constant=_no_constant,
)


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)

# Nothing is written that the other encoder would refuse.
_QUICK: Final = (
    orjson.OPT_STRICT_INTEGER
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)


def _is_deeper(data: bytes, max_depth: int) -> bool:
    """Whether brackets outside strings nest deeper than ``max_depth``; each round peels exactly the innermost level.

    Both kinds of brackets count alike here: a pair of unlike ones is refused by the decoder, which comes no deeper.
    """
    if len(data.translate(None, _NOT_OPENINGS)) <= max_depth:
        return False
    if b"\\" in data:
        # Escapes go first, pairs of backslashes before escaped quotes, as a reader from left to right meets them.
        # Outside strings a backslash is no JSON, and the decoder comes no further than it.
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Now quotes alone delimit strings; the text to search shrinks, and strings without brackets vanish.
    data = data.translate(None, _NOT_BRACKETS_OR_QUOTES).replace(b'""', b"")
    brackets = (_STRINGS.sub(b"", data) if b'"' in data else data).translate(_ONE_KIND)
    for _ in range(max_depth):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _nests_deeper(value: JsonValue, max_depth: int) -> bool:
    """As ``_is_deeper``, of a value: quicker for few members with long texts, such as a text that holds JSON."""
    level: list[JsonValue] = [value]
    for _ in range(max_depth + 1):
        groups = [item for item in level if isinstance(item, (dict, list))]
        if not groups:
            return False
        level = [item for group in groups for item in (group.values() if isinstance(group, dict) else group)]
    return True


def parse_json(data: bytes, *, max_bytes: int, max_depth: int = MAX_DEPTH) -> JsonValue:
    """Read one JSON text (RFC 8259) of at most ``max_bytes`` and ``max_depth`` levels, strictly.

    Raises ``PeerError``: wire.too_large, wire.not_utf8, wire.too_deep, wire.not_json, wire.duplicate_key,
    wire.bad_number, wire.bad_text. Line and column are told, the text never.
    """
    if len(data) > max_bytes:
        raise PeerError("wire.too_large", f"{len(data)} bytes, at most {max_bytes}")
    # What orjson writes again to the last byte has nothing in it that can be read in two ways: no member twice, no
    # number that is rounded, no surrogate. Such a text, as every node of ours writes it, takes a third of the time;
    # whatever differs by a byte is judged, and refused, by the slow reader and nowhere else. (Both directions of
    # orjson end by themselves at some hundred levels.)
    try:
        value: JsonValue = orjson.loads(data)
        if orjson.dumps(value, option=orjson.OPT_STRICT_INTEGER) == data and not (
            _nests_deeper(value, max_depth) if b"\\" in data else _is_deeper(data, max_depth)
        ):
            return value
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        pass
    return _parse_slowly(data, max_depth)


def _parse_slowly(data: bytes, max_depth: int) -> JsonValue:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PeerError("wire.not_utf8", f"byte {error.start}") from None
    if _is_deeper(data, max_depth):
        raise PeerError("wire.too_deep", f"at most {max_depth} levels")
    try:
        value: JsonValue = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise PeerError("wire.not_json", f"line {error.lineno}, column {error.colno}") from None
    if _SURROGATE_ESCAPE.search(data):
        try:
            encode_json(value)
        except UnicodeEncodeError:
            raise PeerError("wire.bad_text") from None
    return value


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return all(map(_is_finite, value)) if isinstance(value, (list, tuple)) else True


def encode_json(value: JsonValue | Mapping[str, object]) -> bytes:
    """Write compact UTF-8 JSON, members in the order given. ``ValueError`` on NaN or infinity."""
    try:
        quickly = orjson.dumps(value, option=_QUICK)
        if b"null" not in quickly or _is_finite(value):  # orjson writes NaN as null without a word
            return quickly
    except orjson.JSONEncodeError:
        pass
    return _ENCODER.encode(value).encode("utf-8")


# -- base64, times, digests ------------------------------------------------------------------------


def encode_base64(data: bytes) -> str:
    """Write standard padded base64 (RFC 4648 section 4)."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def parse_base64(text: str, where: str = "") -> bytes:
    """Read canonical base64: standard alphabet, padded, unused bits zero. Raises wire.bad_base64."""
    try:
        data = binascii.a2b_base64(text)
    except ValueError:  # binascii.Error is one, and so is a character outside ASCII
        raise PeerError("wire.bad_base64", where) from None
    if encode_base64(data) != text:  # the decoder drops what it does not know
        raise PeerError("wire.bad_base64", where)
    return data


def encode_time(moment: datetime) -> str:
    """Write an aware time as UTC in whole seconds, for example ``2026-11-23T00:27:37Z``."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")[:19] + "Z"


def parse_time(text: str, where: str = "") -> datetime:
    """Read the one form that ``encode_time`` writes (RFC 3339 profile of protocol 2). Raises wire.bad_time."""
    if not _TIME.fullmatch(text):
        raise PeerError("wire.bad_time", where)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise PeerError("wire.bad_time", where) from None


def parse_day(text: str, where: str = "") -> date:
    """Read a day of the calendar, ``2026-11-23``; there is no year 0. Raises wire.bad_time."""
    if not _DAY.fullmatch(text):  # Python reads other forms too
        raise PeerError("wire.bad_time", where)
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise PeerError("wire.bad_time", where) from None


def sha256_hex(data: bytes) -> Digest:
    """SHA-256 (FIPS 180-4) in lower-case hexadecimal, the form of every public digest."""
    return Digest(hashlib.sha256(data).hexdigest())


def length_prefixed(text: str) -> bytes:
    """A text as two length bytes (big endian) and its UTF-8 bytes, so that neighbours cannot run together."""
    data = text.encode("utf-8")
    return len(data).to_bytes(2, "big") + data


# -- reading documents member by member ------------------------------------------------------------


class Fields:
    """Reads one JSON object member by member; every wrong member is named, no value ever is.

    ``done()`` refuses members that nobody asked for, so that a document cannot say more than was understood.
    """

    __slots__ = ("_left", "where")

    def __init__(self, value: JsonValue, where: str) -> None:
        if not isinstance(value, dict):
            raise PeerError("wire.bad_type", where)
        self._left = dict(value)
        self.where = where

    def _place(self, name: str) -> str:
        return f"{self.where}.{name}"

    def _take(self, name: str) -> JsonValue:
        try:
            return self._left.pop(name)
        except KeyError:
            raise PeerError("wire.missing", self._place(name)) from None

    def has(self, name: str) -> bool:
        """Whether the member is there and is not null; a null member is dropped."""
        if self._left.get(name) is None:
            self._left.pop(name, None)
            return False
        return True

    def any(self, name: str) -> JsonValue:
        """The member, whatever it is."""
        return self._take(name)

    def text(self, name: str, *, max_chars: int = 256, pattern: re.Pattern[str] | None = None) -> str:
        """A text of 1 to ``max_chars`` characters that matches ``pattern`` as a whole."""
        try:
            value = self._left.pop(name)
        except KeyError:
            raise PeerError("wire.missing", self._place(name)) from None
        if not isinstance(value, str):
            raise PeerError("wire.bad_type", self._place(name))
        if not value or len(value) > max_chars or (pattern is not None and not pattern.fullmatch(value)):
            raise PeerError("wire.bad_value", self._place(name))
        return value

    def optional_text(self, name: str, *, max_chars: int = 256, pattern: re.Pattern[str] | None = None) -> str | None:
        """As ``text``, or None where the member is missing or null."""
        return self.text(name, max_chars=max_chars, pattern=pattern) if self.has(name) else None

    def choice(self, name: str, allowed: frozenset[str] | tuple[str, ...]) -> str:
        """One of the texts allowed."""
        value = self.text(name)
        if value not in allowed:
            raise PeerError("wire.bad_value", self._place(name))
        return value

    def integer(self, name: str, *, low: int = 0, high: int = MAX_SAFE_INTEGER) -> int:
        """A whole number within the bounds."""
        value = self._take(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise PeerError("wire.bad_type", self._place(name))
        if not low <= value <= high:
            raise PeerError("wire.bad_value", self._place(name))
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._take(name)
        if not isinstance(value, bool):
            raise PeerError("wire.bad_type", self._place(name))
        return value

    def time(self, name: str) -> datetime:
        """A time in the form of ``parse_time``."""
        return parse_time(self.text(name, max_chars=20), self._place(name))

    def bytes(self, name: str, *, length: int | None = None, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
        """Bytes in base64, of exactly ``length`` or at most ``max_bytes``."""
        data = parse_base64(self.text(name, max_chars=4 * (max_bytes // 3 + 1)), self._place(name))
        if len(data) > max_bytes or (length is not None and len(data) != length):
            raise PeerError("wire.bad_value", self._place(name))
        return data

    def digest(self, name: str) -> Digest:
        """A SHA-256 digest in hexadecimal."""
        return Digest(self.text(name, max_chars=64, pattern=HEX_256))

    def items(self, name: str, *, high: int, low: int = 0) -> list[JsonValue]:
        """A list of ``low`` to ``high`` items."""
        value = self._take(name)
        if not isinstance(value, list):
            raise PeerError("wire.bad_type", self._place(name))
        if not low <= len(value) <= high:
            raise PeerError("wire.bad_value", self._place(name))
        return value

    def each(self, name: str, *, high: int, low: int = 0) -> tuple[Fields, ...]:
        """A list of objects, each ready to be read."""
        items = self.items(name, high=high, low=low)
        return tuple(Fields(item, f"{self._place(name)}[{index}]") for index, item in enumerate(items))

    def texts(
        self, name: str, *, high: int, low: int = 0, max_chars: int = 64, pattern: re.Pattern[str] | None = None
    ) -> tuple[str, ...]:
        """A list of different texts."""
        values: list[str] = []
        for item in self.items(name, high=high, low=low):
            if not isinstance(item, str):
                raise PeerError("wire.bad_type", self._place(name))
            if not 0 < len(item) <= max_chars or (pattern is not None and not pattern.fullmatch(item)):
                raise PeerError("wire.bad_value", self._place(name))
            values.append(item)
        if len(set(values)) != len(values):
            raise PeerError("wire.bad_value", self._place(name))
        return tuple(values)

    def object(self, name: str) -> Fields:
        """An object, ready to be read."""
        return Fields(self._take(name), self._place(name))

    def mapping(self, name: str, *, high: int, max_chars: int = 256) -> dict[str, str]:
        """An object of texts by keys of 1 to 32 characters, for example an agency's name by language."""
        inner = self.object(name)
        keys = list(inner._left)  # noqa: SLF001 - same class
        if not 0 < len(keys) <= high or not all(0 < len(key) <= MAX_KEY_CHARS for key in keys):
            raise PeerError("wire.bad_value", self._place(name))
        try:
            return {key: inner.text(key, max_chars=max_chars) for key in keys}
        except PeerError as error:
            # The key is the sender's text as well: only the place of the whole object is told.
            raise PeerError(error.code, self._place(name)) from None

    def done(self) -> None:
        """Refuse what nobody asked for."""
        for name in self._left:
            # The name of an unknown member is the sender's text: only its place is told.
            del name
            raise PeerError("wire.unknown_member", self.where)


# -- signed documents (DSSE v1) --------------------------------------------------------------------


class DocumentType:
    """The payload types, one for each purpose: a signature made for one can never serve another (P3)."""

    CARD: Final = "application/vnd.focalpoint.card.v1+json"
    PREKEYS: Final = "application/vnd.focalpoint.prekeys.v1+json"
    OFFICERS: Final = "application/vnd.focalpoint.officers.v1+json"
    AGREEMENT: Final = "application/vnd.focalpoint.agreement.v1+json"
    APPROVAL: Final = "application/vnd.focalpoint.approval.v1+json"
    SUSPENSION: Final = "application/vnd.focalpoint.suspension.v1+json"
    ACT: Final = "application/vnd.focalpoint.act.v1+json"
    ENVELOPE: Final = "application/vnd.focalpoint.envelope.v1+json"
    ANSWERS: Final = "application/vnd.focalpoint.answers.v1+json"
    VOID: Final = "application/vnd.focalpoint.void.v1+json"
    REQUEST: Final = "application/vnd.focalpoint.request.v1+json"

    ALL: Final = frozenset(
        {CARD, PREKEYS, OFFICERS, AGREEMENT, SUSPENSION, APPROVAL, ACT, ENVELOPE, ANSWERS, VOID, REQUEST}
    )


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature; ``keyid`` is a hint only, the key named inside the payload decides."""

    keyid: KeyId
    sig: bytes


@dataclass(frozen=True, slots=True)
class UnverifiedDocument:
    """A signed document whose signatures nobody has looked at yet. ``payload`` is exactly as received."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]

    def signed_bytes(self) -> bytes:
        """What the signatures cover: PAE of DSSE v1."""
        return pae(self.payload_type, self.payload)

    def digest(self) -> Digest:
        """SHA-256 over PAE: the document's name, whoever signed it."""
        return sha256_hex(self.signed_bytes())

    def fields(self, where: str, *, max_bytes: int = MAX_DOCUMENT_BYTES) -> Fields:
        """The payload as an object to read."""
        return Fields(parse_json(self.payload, max_bytes=max_bytes), where)


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding of DSSE v1: lengths first, so that type and payload cannot run together."""
    kind = payload_type.encode("ascii")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def parse_signed_document(
    data: bytes, expect: str | None = None, *, max_bytes: int = MAX_DOCUMENT_BYTES, min_signatures: int = 1
) -> UnverifiedDocument:
    """Read a DSSE envelope; ``expect`` names the only payload type wanted here.

    ``min_signatures`` is 0 only for drafts on their way to be signed.

    Raises ``PeerError``: as ``parse_json`` and ``Fields``, wire.unknown_type, wire.wrong_type.
    """
    fields = Fields(parse_json(data, max_bytes=max_bytes, max_depth=4), "document")
    payload_type = fields.text("payloadType", max_chars=96, pattern=_MEDIA_TYPE)
    payload = fields.bytes("payload", max_bytes=max_bytes)
    signatures: list[Signature] = []
    for item in fields.each("signatures", low=min_signatures, high=MAX_SIGNATURES):
        signatures.append(
            Signature(KeyId(item.text("keyid", max_chars=64, pattern=HEX_256)), item.bytes("sig", max_bytes=8192))
        )
        item.done()
    fields.done()
    if payload_type not in DocumentType.ALL:
        raise PeerError("wire.unknown_type", "document.payloadType")
    if expect is not None and payload_type != expect:
        raise PeerError("wire.wrong_type", "document.payloadType")
    return UnverifiedDocument(payload_type, payload, tuple(signatures))


def encode_signed_document(document: UnverifiedDocument) -> bytes:
    """Write a DSSE envelope."""
    return encode_json(
        {
            "payloadType": document.payload_type,
            "payload": encode_base64(document.payload),
            "signatures": [{"keyid": s.keyid, "sig": encode_base64(s.sig)} for s in document.signatures],
        }
    )
