"""A clause's own JSON Schema: how an agreement narrows what a message may contain.

Implements docs/protocol.md section 8.3, condition "content".

Rules:
1. A narrowing schema comes from outside, so it passes the same linter as our own schemas before it is built: no
   remote reference, no recursion, no pattern that can run away.
2. It may only look at content; it is not closed, so that it can speak of one member and leave the rest.
3. A problem is told by place and rule, never by value.

What it does not do: replace the schema of the kind, which every message satisfies first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

import jsonschema_rs

from exchange.core import wire
from exchange.core.errors import PeerError
from exchange.core.schemas import compile_schema

if TYPE_CHECKING:
    from exchange.core.wire import JsonValue

MAX_NARROWING_BYTES: Final = 8_192
_KEYWORDS: Final = frozenset(
    {
        "type", "properties", "required", "enum", "const", "not", "allOf", "anyOf", "items", "contains",
        "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties",
        "description",
    }
)  # fmt: skip
_MAX_KEYWORDS: Final = 256
_WHOLE: Final = frozenset({"enum", "const", "minProperties", "maxProperties"})


@dataclass(frozen=True, slots=True)
class Narrowing:
    """A checked schema, ready to be asked."""

    text: str
    _validator: jsonschema_rs.Draft202012Validator = field(repr=False, compare=False)
    _looks_at: frozenset[str] | None = field(repr=False, compare=False)

    def first_problem(self, content: JsonValue) -> str | None:
        """The place and rule that the content breaks, or None.

        The validator takes a copy of all it is given: it gets the members that the schema speaks of, and no others,
        where that cannot change what it says.
        """
        if self._looks_at is not None and isinstance(content, dict):
            content = {name: content[name] for name in self._looks_at if name in content}
        try:
            self._validator.validate(content)  # the first alone: all of them could be a gigabyte
        except jsonschema_rs.ValidationError as error:
            path = "/" + "/".join(str(step) for step in error.instance_path)
            return f"{path} ({error.schema_path[-1] if error.schema_path else 'schema'})"
        return None


def _count_keywords(schema: JsonValue, where: str) -> int:
    """Refuse every keyword that is not in the list; references and patterns are not."""
    if isinstance(schema, bool):
        return 1
    if not isinstance(schema, dict):
        raise PeerError("agreement.malformed", where)
    count = 0
    for keyword, value in schema.items():
        if keyword not in _KEYWORDS:
            raise PeerError("agreement.malformed", f"{where}: keyword not allowed in a clause")
        count += 1
        if keyword == "properties":
            if not isinstance(value, dict):
                raise PeerError("agreement.malformed", where)
            count += sum(_count_keywords(inner, where) for inner in value.values())
        elif keyword in {"allOf", "anyOf"}:
            if not isinstance(value, list):
                raise PeerError("agreement.malformed", where)
            count += sum(_count_keywords(inner, where) for inner in value)
        elif keyword in {"not", "items", "contains"}:
            count += _count_keywords(value, where)
    return count


def _looks_at(schema: JsonValue) -> frozenset[str] | None:
    """The members of an object that a checked schema speaks of; None where it looks at the object as a whole."""
    if not isinstance(schema, dict):
        return frozenset()
    if _WHOLE & set(schema):
        return None
    names = {
        *cast("dict[str, JsonValue]", schema.get("properties", {})),
        *cast("list[str]", schema.get("required", [])),
    }
    inner = [schema["not"]] if "not" in schema else []
    for keyword in ("allOf", "anyOf"):
        inner += cast("list[JsonValue]", schema.get(keyword, []))
    for found in map(_looks_at, inner):
        if found is None:
            return None
        names |= found
    return frozenset(names)


def parse_narrowing(schema: JsonValue, where: str) -> Narrowing:
    """Check and build a clause's schema. Raises agreement.malformed."""
    encoded = wire.encode_json(schema)
    if len(encoded) > MAX_NARROWING_BYTES or _count_keywords(schema, where) > _MAX_KEYWORDS:
        raise PeerError("agreement.malformed", f"{where}: too large")
    if not isinstance(schema, dict):
        raise PeerError("agreement.malformed", where)
    try:
        validator = compile_schema(schema)
    except ValueError:
        raise PeerError("agreement.malformed", where) from None
    return Narrowing(encoded.decode("utf-8"), validator, _looks_at(schema))
