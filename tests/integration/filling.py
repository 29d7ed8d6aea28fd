"""A case referral with a given text in every free text field that its schema knows.

The schema itself is walked, so that a field that is added later is filled without anybody remembering it. A field is
free where the schema gives no pattern, no list and no constant; a text that is longer than a field takes is left out
there, or cut where the field must be present.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from exchange.core.wire import JsonObject

# One text for each pattern of our schemas, by trying: the first that matches.
_SAMPLES: Final = (
    "p1", "A", "other", "en", "2026-11-23", "Thai", "TH", "+999000000001", "12345678901234", "USD", "abcdefgh",
    "1HGCM82633A004352", "12.5", "a" * 64, "2026-11-23T00:00:00Z", "0" * 32,
)  # fmt: skip
# What a statement's rules ask of members that point to others, or that exclude each other.
_LEFT_OUT: Final = frozenset({"attachment", "scan", "photos", "record", "sha256", "consent_exception", "in_reply_to"})


class Filler:
    """Makes values of schemas that have their references in place."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.filled = 0  # fields that hold the text

    def value(self, schema: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever the schema describes
        """A value of the schema with every member that it knows."""
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        match schema.get("type"):
            case "object":
                return self._object(schema)
            case "array":
                return [self.value(schema["items"])] if "items" in schema else []
            case "string":
                return self._string(schema)
            case "integer":
                return max(1, schema.get("minimum", 0))
            case "boolean":
                return True
        message = f"a schema of another form: {sorted(schema)}"
        raise AssertionError(message)

    def _object(self, schema: dict[str, Any]) -> JsonObject:
        made: JsonObject = {}
        for name, inner in schema["properties"].items():
            if name in _LEFT_OUT:
                continue
            if self._does_not_fit(inner) and name not in schema.get("required", ()):
                continue
            value = self.value(inner)
            if value != {}:
                made[name] = value
        return made

    def _does_not_fit(self, schema: dict[str, Any]) -> bool:
        """Whether a text field, or an object that cannot be without one, is too short for the text."""
        if schema.get("type") == "string" and not {"pattern", "enum", "const"} & schema.keys():
            return len(self._text) > int(schema["maxLength"])
        if schema.get("type") == "object":
            return any(self._does_not_fit(schema["properties"][name]) for name in schema.get("required", ()))
        return False

    def _string(self, schema: dict[str, Any]) -> str:
        if "pattern" in schema:
            return next(sample for sample in _SAMPLES if re.fullmatch(schema["pattern"], sample))
        text = self._text[: schema["maxLength"]]
        self.filled += text == self._text
        return text


def referral(schema: dict[str, Any], text: str) -> tuple[JsonObject, int]:
    """The content of a case referral with one entity of every type, and in how many fields the text is."""
    filler = Filler(text)
    members = dict(schema["properties"])
    variants = [branch["then"] for branch in members.pop("entities")["items"]["allOf"]]
    entities = []
    for number, variant in enumerate(variants, 1):
        entity = filler.value(variant)
        entity["id"] = f"e{number}"
        if "was_derived_from" in entity:
            entity["was_derived_from"] = "e1"
        entities.append(entity)
    content = filler.value({"type": "object", "properties": members})
    for link in content["links"]:
        link |= {"from": "e1", "to": "e2"}
    return {**content, "entities": entities}, filler.filled


def free_fields(schema: Any) -> int:  # noqa: ANN401 - any part of a schema
    """How many free text fields a schema knows, save those below members that are left out."""
    if isinstance(schema, list):
        return sum(free_fields(item) for item in schema)
    if not isinstance(schema, dict):
        return 0
    if schema.get("type") == "string" and not {"pattern", "enum", "const"} & schema.keys():
        return 1
    return sum(
        free_fields({n: v for n, v in inner.items() if n not in _LEFT_OUT} if name == "properties" else inner)
        for name, inner in schema.items()
    )
