"""The rules our own schemas obey, checked before any schema is used.

Implements docs/protocol.md section 5.2 (schemas). A schema that passes bounds every value it accepts, needs nothing
but the files beside it, and costs linear time.

Rules, each named in the message of a breach:
1. ``keyword``: only the keywords listed here; a misspelt ``maxlength`` would otherwise bound nothing.
2. ``ref``: ``$ref`` names a whole file inside schemas/, relative; no URL, no fragment, and beside it only
   annotations and ``contains``. ``recursion``: no file reaches itself.
3. ``unbounded``: a string has ``maxLength`` or a ``pattern``, an array ``maxItems``, a number both ends, and
   whatever may be there has a type. ``bound``: no bound is so large that it bounds nothing.
4. ``open``: an object is closed, a map with bounded names, or a choice by ``type`` among closed ones; otherwise
   ``x-open`` says who judges it.
5. ``unique``: ``uniqueItems`` compares pairs, so it stands only over short lists.
6. ``pattern``: anchored, bounded, without wildcard, class shorthand, look-around or back-reference, so that
   RE2, ECMAScript, Rust and Python read it alike.

What it does not do: look at code lists (``core.schema_codes``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

import jsonschema_rs

from exchange.core.errors import LocalError, PeerError
from exchange.core.wire import Digest, JsonObject, parse_json, sha256_hex

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAX_FILE_BYTES: Final = 262_144  # a code list in seven languages is about 60 KB
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

MAX_ITEMS: Final = 1000
MAX_UNIQUE_ITEMS: Final = 64
MAX_TEXT: Final = 20_000  # the longest free text; the longest of 91 real judgments' summaries has 7,988 characters
MAX_NODES: Final = 20_000  # of one schema with everything it references in place; the largest of ours has about 1,500
ENTITY_ID: Final = "^[a-z]{1,3}[1-9][0-9]{0,3}$"  # as schemas/common/entity-id.json says; too short to hold a name

ANNOTATIONS: Final = frozenset({"$schema", "title", "description", "x-codelist", "x-case", "x-parts", "x-open"})
ASSERTIONS: Final = frozenset(
    {
        *("type", "enum", "const", "allOf", "anyOf", "if", "then", "else"),
        *("properties", "required", "additionalProperties", "propertyNames", "minProperties", "maxProperties"),
        *("dependentRequired", "items", "minItems", "maxItems", "uniqueItems", "contains"),
        *("minLength", "maxLength", "pattern", "minimum", "maximum"),
    }
)
BESIDE_REF: Final = ANNOTATIONS | {"$ref", "contains"}

_ONE: Final = ("items", "contains", "if", "then", "else", "propertyNames", "additionalProperties")
_MANY: Final = ("allOf", "anyOf")
_REF: Final = re.compile(r"(?:\.\./[a-z][a-z-]{0,47}/)?[a-z0-9-]{1,48}\.json")

_ATOM: Final = re.compile(r"\\[.\\+*?()|\[\]{}^$/-]|\[\^?(?:[^\\\[\]&~-]|\\[\\\[\]^-]|-(?!-))+\]|[^\\\[\](){}.*+?|^$]")
_TIMES: Final = re.compile(r"\{([0-9]{1,4})(?:,([0-9]{1,4}))?\}")

Node = dict[str, Any]


def longest_match(pattern: str) -> int | None:
    """The most characters that ``pattern`` can match, or None where it is outside the dialect of rule 6."""
    if not (pattern.startswith("^") and pattern.endswith("$")):
        return None
    body = pattern[1:-1]
    try:
        longest, end = _alternatives(body, 0)
    except ValueError:
        return None
    return longest if end == len(body) else None


def _alternatives(body: str, at: int) -> tuple[int, int]:
    longest = 0
    while True:
        length, at = _sequence(body, at)
        longest = max(longest, length)
        if body[at : at + 1] != "|":
            return longest, at
        at += 1


def _sequence(body: str, at: int) -> tuple[int, int]:
    total = 0
    while at < len(body) and body[at] not in "|)":
        if body[at] == "(":
            length, at = _alternatives(body, at + 1)
            if body[at : at + 1] != ")":
                raise ValueError(at)
            at += 1
        elif atom := _ATOM.match(body, at):
            length, at = 1, atom.end()
        else:
            raise ValueError(at)
        if body[at : at + 1] == "?":
            at += 1
        elif times := _TIMES.match(body, at):
            length, at = length * int(times[2] or times[1]), times.end()
        total += length
    return total, at


def _children(node: Node) -> Iterator[tuple[str, Node]]:
    """Every subschema with its keyword path, in document order."""
    for name, child in node.get("properties", {}).items():
        yield f"properties/{name}", child
    for keyword in _ONE:
        if isinstance(child := node.get(keyword), dict):
            yield keyword, child
    for keyword in _MANY:
        for index, child in enumerate(node.get(keyword, ())):
            yield f"{keyword}/{index}", child


def subschemas(node: Node) -> Iterator[Node]:
    """The schema and every schema inside it, references not followed."""
    yield node
    for _, child in _children(node):
        yield from subschemas(child)


def lint_schema(path: str, schema: JsonObject) -> list[str]:
    """Every breach of the rules in one schema file, as ``path#/place (rule)``; an empty list is good."""
    return [f"{path}#{place} ({rule})" for place, rule in (*_lint(schema, ""), *_bounds(schema, ""))]


def _lint(node: Node, place: str) -> Iterator[tuple[str, str]]:
    """Rules that hold for every subschema, whether it opens something or only narrows."""
    if "$ref" in node:
        if not set(node) <= BESIDE_REF or not _REF.fullmatch(str(node["$ref"])):
            yield place, "ref"
    elif not set(node) <= ANNOTATIONS | ASSERTIONS:
        yield place, "keyword"
    if "pattern" in node and longest_match(str(node["pattern"])) is None:
        yield place, "pattern"
    if node.get("uniqueItems") and node.get("maxItems", MAX_ITEMS) > MAX_UNIQUE_ITEMS:
        yield place, "unique"
    if node.get("maxItems", 0) > MAX_ITEMS or node.get("maxLength", 0) > MAX_TEXT:
        yield place, "bound"
    for step, child in _children(node):
        yield from _lint(child, f"{place}/{step}")


def _bounds(node: Node, place: str) -> Iterator[tuple[str, str]]:
    """Rules 3 and 4, for the subschemas that let something in.

    ``contains``, ``anyOf``, ``if`` and an ``allOf`` that is no choice only take away from what these let in:
    they need no bounds of their own.
    """
    if "$ref" in node or "enum" in node or "const" in node:
        return
    if {"if", "then", "else"} <= set(node):
        yield from _bounds(node["then"], f"{place}/then")
        yield from _bounds(node["else"], f"{place}/else")
        return
    types = node.get("type")
    for name in types if isinstance(types, list) else [types]:
        yield from _BOUNDS.get(str(name), _untyped)(node, place)


def _untyped(_: Node, place: str) -> Iterator[tuple[str, str]]:
    yield place, "unbounded"


def _nothing(_: Node, __: str) -> Iterator[tuple[str, str]]:
    yield from ()


def _string(node: Node, place: str) -> Iterator[tuple[str, str]]:
    if "maxLength" not in node and (longest_match(node.get("pattern", "")) or MAX_TEXT + 1) > MAX_TEXT:
        yield place, "unbounded"


def _number(node: Node, place: str) -> Iterator[tuple[str, str]]:
    if "minimum" not in node or "maximum" not in node:
        yield place, "unbounded"


def _array(node: Node, place: str) -> Iterator[tuple[str, str]]:
    if "maxItems" not in node:
        yield place, "unbounded"
    yield from _bounds(node.get("items", {}), f"{place}/items")


def _object(node: Node, place: str) -> Iterator[tuple[str, str]]:
    for name, child in node.get("properties", {}).items():
        yield from _bounds(child, f"{place}/properties/{name}")
    rest = node.get("additionalProperties")
    if isinstance(rest, dict):
        yield from _bounds(rest, f"{place}/additionalProperties")
        yield from _bounds(node.get("propertyNames", {}), f"{place}/propertyNames")
        if "maxProperties" not in node:
            yield place, "open"
    elif rest is not False and "x-open" not in node and not _is_choice(node):
        yield place, "open"


def _is_choice(node: Node) -> bool:
    """Whether the object is closed by a schema for each value of its ``type``, and for no other."""
    wanted = [{"if": {"required": ["type"], "properties": {"type": {"const": name}}}} for name in _types_of(node)]
    rules = node.get("allOf", ())
    return (
        bool(wanted)
        and set(node.get("properties", {})) == set(node.get("required", ())) == {"type"}
        and [{key: rule[key] for key in rule if key != "then"} for rule in rules] == wanted
        and all(set(rule.get("then", ())) == {"$ref"} for rule in rules)
    )


def _types_of(node: Node) -> list[str]:
    return cast("list[str]", node.get("properties", {}).get("type", {}).get("enum", []))


_BOUNDS: Final = {
    "string": _string,
    "integer": _number,
    "array": _array,
    "object": _object,
    "boolean": _nothing,
    "null": _nothing,
}


# -- files ---------------------------------------------------------------------------------------


def parse_object(path: str, data: bytes) -> JsonObject:
    """One JSON object of a file. Raises schema.unsafe."""
    try:
        value = parse_json(data, max_bytes=MAX_FILE_BYTES)
    except PeerError as error:
        raise LocalError("schema.unsafe", f"{path} ({error.code})") from None
    if not isinstance(value, dict):
        raise LocalError("schema.unsafe", f"{path} (object)")
    return value


def parse_schema(path: str, data: bytes) -> JsonObject:
    """One schema file that is a schema, says which, and obeys our rules. Raises schema.unsafe.

    The metaschema is judged by jsonschema-rs: 1 ms for all files where jsonschema takes 100, at every start of every
    command. Tests ask jsonschema too.
    """
    schema = parse_object(path, data)
    if schema.get("$schema") != DIALECT:
        raise LocalError("schema.unsafe", f"{path} ($schema)")
    if not jsonschema_rs.meta.is_valid(schema):
        raise LocalError("schema.unsafe", f"{path} (metaschema)")
    if faults := lint_schema(path, schema):
        raise LocalError("schema.unsafe", faults[0])
    return schema


# -- references ------------------------------------------------------------------------------------


def references(path: str, schema: Node) -> Iterator[str]:
    """The files that a schema file names, as paths from schemas/."""
    for node in subschemas(schema):
        if "$ref" not in node:
            continue
        ref: str = node["$ref"]
        # Every schema file lies exactly one folder deep, so this is all there is to resolving.
        yield ref[3:] if ref.startswith("../") else f"{path.split('/', maxsplit=1)[0]}/{ref}"


def bundle_paths(path: str, documents: Mapping[str, JsonObject]) -> tuple[str, ...]:
    """The file and every file it reaches, sorted. Raises schema.unsafe: a missing file, a recursion."""
    reached: set[str] = set()

    def visit(at: str, way: tuple[str, ...]) -> None:
        if at in way:
            raise LocalError("schema.unsafe", f"{at} (recursion)")
        if at not in documents:
            raise LocalError("schema.unsafe", f"{way[-1] if way else at} (ref)")
        if at not in reached:
            for target in references(at, documents[at]):
                visit(target, (*way, at))
            reached.add(at)

    visit(path, ())
    return tuple(sorted(reached))


def bundle_digest(paths: Sequence[str], files: Mapping[str, bytes]) -> Digest:
    """SHA-256 over what ``sha256sum`` prints for the files, in the order given."""
    lines = "".join(f"{sha256_hex(files[path])}  {path}\n" for path in paths)
    return sha256_hex(lines.encode("ascii"))


def inline_schema(path: str, documents: Mapping[str, JsonObject]) -> JsonObject:
    """The schema with every reference replaced by what it names, so that no validator ever resolves one.

    Call ``bundle_paths`` first: it proves that this ends. Raises schema.unsafe where the result is too large.
    """
    budget = [MAX_NODES]

    def place(at: str, node: Node) -> Node:
        budget[0] -= 1
        if budget[0] < 0:
            raise LocalError("schema.unsafe", f"{path} (size)")
        if "$ref" in node:
            target = next(references(at, node))
            named = place(target, documents[target])
            # What stands beside the reference describes this use of it; ``contains`` narrows it further.
            return {**named, **{key: node[key] for key in node if key != "$ref"}}
        copy: Node = {key: value for key, value in node.items() if key != "$schema"}
        if "properties" in node:
            copy["properties"] = {name: place(at, child) for name, child in node["properties"].items()}
        for keyword in _ONE:
            if isinstance(child := node.get(keyword), dict):
                copy[keyword] = place(at, child)
        for keyword in _MANY:
            if keyword in node:
                copy[keyword] = [place(at, child) for child in node[keyword]]
        return copy

    return place(path, documents[path])
