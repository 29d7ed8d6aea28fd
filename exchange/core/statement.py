"""The statement: what one government says to another, cut into salted parts.

Implements docs/protocol.md section 5.

Rules:
1. A part is an exact JSON text with a salt of its own; its digest is SHA-256("fpx1-part" 0x00 || salt || text).
   The root covers all digests in order, with their count. Approvals and the audit log commit to parts, so that
   one part can be withheld, opened to a court, or erased, and everything else stays checkable.
2. Part 0 is the header. It is never withheld and names every other part in order.
3. A redacted variant replaces a part by its digest and the clause that withholds it; the root stays the same.
4. Texts are kept as received. Nothing here re-serialises a part in order to check it.

What it does not do: encrypt (core.envelope), know schemas (core.schemas) or rules (core.agreements).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from exchange.core import wire
from exchange.core.errors import PeerError
from exchange.core.wire import Digest, Fields, JsonObject, JsonValue

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SALT_BYTES: Final = 16  # 128 bits hide a part that could otherwise be guessed
MAX_PARTS: Final = 16
MAX_APPROVALS: Final = 9  # as many as a clause may ask for, and the proposer's
MAX_STATEMENT_BYTES: Final = 1_048_575  # with its padding mark it fills exactly 1 MiB; more is evidence
HEADER: Final = "header"
ATTACHMENTS: Final = "attachments"


@dataclass(frozen=True, slots=True)
class Part:
    """One part: either ``salt`` and ``text``, or, withheld, only ``digest`` and the ``clause`` that withholds it."""

    digest: Digest
    salt: bytes = b""
    text: str | None = None
    clause: str | None = None

    def value(self, where: str) -> JsonValue:
        """The part's JSON value. Only for parts that are there."""
        if self.text is None:
            raise PeerError("envelope.inner", f"{where} is withheld")
        return wire.parse_json(self.text.encode("utf-8"), max_bytes=MAX_STATEMENT_BYTES)


def part_digest(salt: bytes, text: str) -> Digest:
    """SHA-256("fpx1-part" 0x00 || salt || text): hides the text behind the salt and binds both."""
    return Digest(hashlib.sha256(b"fpx1-part\0" + salt + text.encode("utf-8")).hexdigest())


def make_part(value: JsonValue | Mapping[str, object], salt: bytes) -> Part:
    """A part that is there."""
    text = wire.encode_json(value).decode("utf-8")
    return Part(part_digest(salt, text), salt, text)


def root_of(digests: Sequence[Digest]) -> Digest:
    """SHA-256("fpx1-root" 0x00 || u16(count) || the parts' digests, in order)."""
    joined = b"".join(bytes.fromhex(digest) for digest in digests)
    return Digest(hashlib.sha256(b"fpx1-root\0" + len(digests).to_bytes(2, "big") + joined).hexdigest())


@dataclass(frozen=True, slots=True)
class Statement:
    """Binding, parts and approvals: the plaintext of an envelope."""

    agreement: Digest
    clause: str
    parts: tuple[Part, ...]
    approvals: tuple[str, ...] = ()

    @property
    def root(self) -> Digest:
        """SHA-256 over the parts' digests, in order, with their count: what officers approve."""
        return root_of([part.digest for part in self.parts])

    def header(self) -> JsonObject:
        """Part 0 as an object. Raises envelope.inner where it is withheld or is no object."""
        value = self.parts[0].value(HEADER)
        if not isinstance(value, dict):
            raise PeerError("envelope.inner", HEADER)
        return value

    def withhold(self, index: int, clause: str) -> Statement:
        """The redacted variant without part ``index``; the root does not change. Part 0 cannot be withheld."""
        if index <= 0:  # counted from the end, it could be part 0 as well
            raise PeerError("envelope.inner", "part 0 is never withheld")
        part = Part(self.parts[index].digest, clause=clause)
        return replace(self, parts=(*self.parts[:index], part, *self.parts[index + 1 :]))


def compose_statement(
    header: Mapping[str, object],
    parts: Sequence[JsonValue],
    salts: Sequence[bytes],
    *,
    agreement: Digest,
    clause: str,
) -> Statement:
    """A statement of the header and the other parts' values; ``salts`` has one of SALT_BYTES for each, header first."""
    made = tuple(make_part(value, salt) for value, salt in zip((header, *parts), salts, strict=True))
    return Statement(agreement, clause, made)


def encode_statement(statement: Statement) -> bytes:
    """The exact bytes that are padded and encrypted."""
    parts: list[dict[str, str | None]] = []
    for part in statement.parts:
        if part.text is None:
            parts.append({"digest": part.digest, "clause": part.clause})
        else:
            parts.append({"salt": wire.encode_base64(part.salt), "json": part.text})
    return wire.encode_json(
        {
            "binding": {"agreement": statement.agreement, "clause": statement.clause},
            "parts": parts,
            "approvals": list(statement.approvals),
        }
    )


def _parse_part(fields: Fields) -> Part:
    if fields.has("digest"):
        part = Part(fields.digest("digest"), clause=fields.text("clause", max_chars=32, pattern=wire.CLAUSE_ID))
    else:
        salt = fields.bytes("salt", length=SALT_BYTES, max_bytes=SALT_BYTES)
        text = fields.text("json", max_chars=MAX_STATEMENT_BYTES)
        part = Part(part_digest(salt, text), salt, text)
    fields.done()
    return part


def parse_statement(data: bytes) -> Statement:
    """Read a statement (R14). Raises ``PeerError``: wire.*, envelope.inner where part 0 is withheld."""
    fields = Fields(wire.parse_json(data, max_bytes=MAX_STATEMENT_BYTES, max_depth=6), "statement")
    binding = fields.object("binding")
    agreement = binding.digest("agreement")
    clause = binding.text("clause", max_chars=32, pattern=wire.CLAUSE_ID)
    binding.done()
    parts = tuple(_parse_part(item) for item in fields.each("parts", low=2, high=MAX_PARTS))
    approvals = fields.texts("approvals", high=MAX_APPROVALS, max_chars=16_384)
    fields.done()
    if parts[0].text is None:
        raise PeerError("envelope.inner", "part 0 is never withheld")
    return Statement(agreement, clause, parts, approvals)
