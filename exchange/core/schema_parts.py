"""Cutting content into parts that can be withheld one by one, and putting it together again.

Implements docs/protocol.md section 5.1 (parts). A kind's schema says where to cut, by an
annotation at its root, in the order of the parts::

    "x-parts": [
      {"part": "identity", "each": "entities", "member": "identity"},
      {"part": "narrative", "member": "summary"}
    ]

Rules:
1. Part ``main`` is the content without the members that are cut out; it comes first and is never withheld alone, as
   every other part hangs on it.
2. Without ``each``, a part is the bare value of a root member. With it, a part is an object of the members taken, by
   the id of the entity each was taken from.
3. A part that would be empty does not exist. So there is one way to cut, and ``join`` is its exact inverse.
4. The piece of the schema for ``main`` does not know the members cut out: what a part may withhold cannot be
   smuggled past it.

What it does not do: salt, hash or withhold parts (``core.envelope``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from exchange.core.errors import LocalError, PeerError
from exchange.core.schema_lint import ENTITY_ID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exchange.core.wire import JsonObject, JsonValue

RESERVED: Final = frozenset({"header", "main", "attachments"})

_PART: Final = re.compile(r"[a-z][a-z-]{0,31}")

Node = dict[str, Any]


class Cut(NamedTuple):
    """One entry of ``x-parts``. ``required``: content of this kind cannot be without the part."""

    part: str
    member: str
    each: str | None
    required: bool


def parse_cuts(path: str, schema: JsonObject) -> tuple[Cut, ...]:
    """Read ``x-parts`` of a schema whose references are in place. Raises schema.unsafe."""
    node = cast("Node", schema)
    cuts: list[Cut] = []
    for entry in node["x-parts"]:
        if not isinstance(entry, dict) or not {"part", "member"} <= set(entry) <= {"part", "member", "each"}:
            raise LocalError("schema.unsafe", f"{path} (x-parts)")
        part, member, each = entry["part"], entry["member"], entry.get("each")
        taken = RESERVED | {cut.part for cut in cuts}
        holder = node["properties"].get(each or member)
        if not _PART.fullmatch(part) or part in taken or holder is None:
            raise LocalError("schema.unsafe", f"{path} (x-parts)")
        cuts.append(Cut(part, member, each, required=each is None and member in node["required"]))
    return tuple(cuts)


def cut_schema(path: str, schema: JsonObject, cuts: Sequence[Cut]) -> dict[str, JsonObject]:
    """The piece of the schema for each part, ``main`` first. Raises schema.unsafe: nothing there to cut."""
    main = cast("Node", schema)
    pieces: dict[str, JsonObject] = {}
    for cut in cuts:
        if cut.each is None:
            main, found = _without(main, cut.member)
            pieces[cut.part] = found[0]
            continue
        array = main["properties"][cut.each]
        items, found = _without(array.get("items", {}), cut.member)
        # One schema for the member, whatever entity has it: the part is judged without the entities beside it.
        if not found or any(other != found[0] for other in found):
            raise LocalError("schema.unsafe", f"{path} (x-parts)")
        main = {**main, "properties": {**main["properties"], cut.each: {**array, "items": items}}}
        pieces[cut.part] = {
            "type": "object",
            "minProperties": 1,
            "maxProperties": array["maxItems"],
            "propertyNames": {"type": "string", "pattern": ENTITY_ID},
            "additionalProperties": found[0],
        }
    return {"main": main, **pieces}


def _without(node: Node, member: str) -> tuple[Node, list[Node]]:
    """An object schema that no longer knows ``member``, also in the branches of a choice, and what was taken out."""
    copy = dict(node)
    found: list[Node] = []
    if member in node.get("properties", {}):
        copy["properties"] = {name: child for name, child in node["properties"].items() if name != member}
        copy["required"] = [name for name in node.get("required", ()) if name != member]
        found.append(node["properties"][member])
    branches = []
    for rule in node.get("allOf", ()):
        then, inner = _without(rule.get("then", {}), member)
        branches.append({**rule, "then": then} if "then" in rule else rule)
        found += inner
    if branches:
        copy["allOf"] = branches
    return copy, found


def split_content(cuts: Sequence[Cut], content: JsonObject) -> tuple[tuple[str, JsonValue], ...]:
    """Cut content into (part, value). Raises schema.parts where that could not be undone."""
    main = dict(content)
    parts: list[tuple[str, JsonValue]] = []
    for cut in cuts:
        if cut.each is None:
            if cut.member in main:
                parts.append((cut.part, main.pop(cut.member)))
            continue
        taken: JsonObject = {}
        left: list[JsonValue] = []
        items = _items(main, cut)
        for item in items:
            if cut.member in item:
                taken[item["id"]] = item[cut.member]
                left.append({name: value for name, value in item.items() if name != cut.member})
            else:
                left.append(item)
        if taken:
            main[cut.each] = left
            parts.append((cut.part, taken))
    return (("main", main), *parts)


def join_content(cuts: Sequence[Cut], parts: Mapping[str, JsonValue | None]) -> JsonObject:
    """Put content together; a part that is None or missing leaves its members out. Raises schema.parts."""
    main = parts.get("main")
    if not isinstance(main, dict) or not set(parts) <= {"main", *(cut.part for cut in cuts)}:
        raise PeerError("schema.parts", "main")
    content = dict(main)
    for cut in cuts:
        value = parts.get(cut.part)
        if cut.part not in parts or value is None:
            continue
        if cut.each is None:
            if cut.member in content:
                raise PeerError("schema.parts", cut.part)
            content[cut.member] = value
            continue
        items = _items(content, cut)
        owners = {item["id"] for item in items if cut.member not in item}
        if not isinstance(value, dict) or not owners.issuperset(value):
            raise PeerError("schema.parts", cut.part)
        content[cut.each] = [{**item, cut.member: value[item["id"]]} if item["id"] in value else item for item in items]
    return content


def _items(content: JsonObject, cut: Cut) -> list[Node]:
    """The entities to cut from or to give to; each must have an id of its own, or the cut could not be undone."""
    items = content.get(cut.each or "")
    if not isinstance(items, list):
        raise PeerError("schema.parts", cut.part)
    ids = {item["id"] for item in items if isinstance(item, dict) and isinstance(item.get("id"), str)}
    if len(ids) != len(items):
        raise PeerError("schema.parts", cut.part)
    return cast("list[Node]", items)
