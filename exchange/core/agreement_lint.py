"""What is wrong with an agreement that reads well: clauses that can never serve, and codes that nobody knows.

Implements docs/protocol.md section 8.2, G5. Two governments sign what they believe to permit something; a clause that
permits nothing, because of a slip or because another rule forbids all of it, is found before they sign, not on the
day it is needed.

Rules, each named in the message of a fault:
1. ``kind``, ``purpose``, ``check``, ``part``: a code that this program's schemas and lists do not have. An unknown one
   refuses: nobody can say what a rule means that names it.
2. ``direction``: the clause leads from a node to itself alone.
3. ``shadowed``: prohibitions that look at no content forbid every kind and purpose of the clause.
4. ``contradiction``: the narrowing schema accepts nothing, or asks for a member that no content of the clause's kinds
   has, or that the clause itself withholds.

What it does not do: find every contradiction (of two schemas in general nobody can), or believe signatures. A clause
that passes here may still permit little; ``exchange agreement check`` tries a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from exchange.core import wire
from exchange.core.agreements import ANY
from exchange.core.errors import PeerError
from exchange.core.narrowing import MAX_NARROWING_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from exchange.core.agreements import Agreement, Clause, Prohibition
    from exchange.core.schemas import SchemaBook

MAIN: Final = "main"
Node = dict[str, Any]
_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": (int, float),
    "number": (int, float),
}
_BOUNDS: Final = (
    ({"object"}, ("minProperties", "maxProperties")),
    ({"array"}, ("minItems", "maxItems")),
    ({"string"}, ("minLength", "maxLength")),
    ({"integer", "number"}, ("minimum", "maximum")),
)


class Fault(NamedTuple):
    """One fault: its rule, the clause or prohibition, and what is wrong, in words without values of strangers."""

    rule: str
    clause: str
    what: str

    @property
    def code(self) -> str:
        """The error code of the rule."""
        known = self.rule in {"kind", "purpose", "check", "part"}
        return "agreement.unknown_code" if known else "agreement.unusable"


def check_agreement(agreement: Agreement, book: SchemaBook) -> None:
    """Refuse an agreement with a fault. Raises ``PeerError``: agreement.unknown_code, agreement.unusable."""
    for fault in find_faults(agreement, book):
        raise PeerError(fault.code, f"{fault.rule}: {fault.what}", fault.clause)


def find_faults(agreement: Agreement, book: SchemaBook) -> tuple[Fault, ...]:
    """Every fault, in the order of the document."""
    lint = _Lint(book)
    faults: list[Fault] = []
    for clause in agreement.clauses:
        # Of a clause whose words nobody knows there is no saying what it permits.
        faults += list(lint.codes(clause)) or lint.sense(clause, agreement.prohibitions)
    for rule in agreement.prohibitions:
        faults += lint.codes(rule)
    return tuple(faults)


class _Lint:
    def __init__(self, book: SchemaBook) -> None:
        self._schemas = {kind.partition("/")[0]: kind for kind in book.kinds}  # of several versions the newest
        self._book = book

    def codes(self, rule: Clause | Prohibition) -> Iterator[Fault]:
        """Rule 1."""
        known = (
            ("kind", rule.kinds, {ANY, *self._schemas}),
            ("purpose", rule.purposes, {ANY, *self._book.codes("message_purposes")}),
            ("check", getattr(rule, "checks", ()), {*self._book.codes("safety_checks")}),
            ("part", getattr(rule, "withhold", ()), self._parts(self._kinds(rule)) - {MAIN}),
        )
        for name, used, listed in known:
            if unknown := [code for code in used if code not in listed]:
                what = "no part of its kinds that can be withheld" if name == "part" else "not known here"
                yield Fault(name, rule.id, f"{what}: {', '.join(unknown)}")

    def sense(self, clause: Clause, prohibitions: Iterable[Prohibition]) -> Iterator[Fault]:
        """Rules 2 to 4."""
        if len({*clause.sender, *clause.recipients}) == 1:
            yield Fault("direction", clause.id, "it leads from a node to itself alone")
        plain = [rule for rule in prohibitions if rule.content is None]
        pairs = {(kind, purpose) for kind in self._kinds(clause) for purpose in self._purposes(clause)}
        for rule in plain:
            pairs -= {(kind, purpose) for kind in self._kinds(rule) for purpose in self._purposes(rule)}
        if not pairs:
            yield Fault("shadowed", clause.id, f"forbidden whole by {', '.join(rule.id for rule in plain)}")
        yield from self._contradiction(clause)

    def _contradiction(self, clause: Clause) -> Iterator[Fault]:
        if clause.content is None:
            return
        schema = wire.parse_json(clause.content.text.encode("utf-8"), max_bytes=MAX_NARROWING_BYTES)
        if accepts_nothing({"type": "object"}, schema):
            yield Fault("contradiction", clause.id, "its content schema accepts nothing")
            return
        needed = _needed(part for part in _all_of(schema) if isinstance(part, dict))
        if withheld := sorted(needed & self._withheld(clause)):
            yield Fault("contradiction", clause.id, f"asks for what it withholds: {', '.join(withheld)}")
        if not any(needed <= self._members(kind) for kind in self._kinds(clause)):
            yield Fault("contradiction", clause.id, "its content schema asks for a member that no kind of it has")

    def _members(self, kind: str) -> set[str]:
        """The members that content of the kind may have."""
        return set(cast("Node", self._book.schema(self._schemas[kind])["properties"]))

    def _withheld(self, clause: Clause) -> set[str]:
        """The members of the content that are withheld whole."""
        fields = (
            self._book.part_fields(self._schemas[kind], part)
            for kind in self._kinds(clause)
            for part in clause.withhold
        )
        return {field for found in fields for field in found if "[]" not in field}

    def _kinds(self, rule: Clause | Prohibition) -> list[str]:
        return [kind for kind in self._schemas if ANY in rule.kinds or kind in rule.kinds]

    def _purposes(self, rule: Clause | Prohibition) -> list[str]:
        return [code for code in self._book.codes("message_purposes") if ANY in rule.purposes or code in rule.purposes]

    def _parts(self, kinds: Iterable[str]) -> set[str]:
        return {part for kind in kinds for part in self._book.part_names(self._schemas[kind])}


# -- schemas that accept nothing -------------------------------------------------------------------


def _needed(nodes: Iterable[Node]) -> set[str]:
    """The members that every object has which these accept."""
    return {name for node in nodes for name in node.get("required", ())}


def _all_of(schema: Any) -> list[Any]:  # noqa: ANN401 - a JSON Schema
    """The schema and those that must hold together with it."""
    inner = schema.get("allOf", ()) if isinstance(schema, dict) else ()
    return [schema, *(part for item in inner for part in _all_of(item))]


def accepts_nothing(*schemas: Any) -> bool:  # noqa: ANN401 - JSON Schemas
    """Whether no value can satisfy all of these checked schemas; True is certain, False is not."""
    parts = [part for schema in schemas for part in _all_of(schema)]
    nodes: list[Node] = [part for part in parts if isinstance(part, dict)]
    if False in [part for part in parts if isinstance(part, bool)]:
        return True
    if any(node.get("not") in (True, {}) for node in nodes):
        return True
    if any("anyOf" in node and all(map(accepts_nothing, node["anyOf"])) for node in nodes):
        return True
    types = set(_TYPES).intersection(*(_types_of(node) for node in nodes if "type" in node))
    listed = [node["enum"] if "enum" in node else [node["const"]] for node in nodes if {"enum", "const"} & set(node)]
    if listed and not any(_is_one_of(value, types) for value in listed[0]):
        return True
    # What a schema says of members holds for objects alone: it rules out everything only where the type is settled.
    bounds = [names for kinds, names in _BOUNDS if types <= kinds]
    return not types or any(_crossed(nodes, *names) for names in bounds) or (types == {"object"} and _no_object(nodes))


def _types_of(node: Node) -> set[str]:
    named = {node["type"]} if isinstance(node["type"], str) else set(node["type"])
    return named | {"integer"} if "number" in named else named


def _is_one_of(value: object, types: set[str]) -> bool:
    return any(isinstance(value, _TYPES[name]) for name in types)


def _crossed(nodes: list[Node], low: str, high: str) -> bool:
    """Whether a lower bound lies above an upper one."""
    lows, highs = [node[low] for node in nodes if low in node], [node[high] for node in nodes if high in node]
    return bool(lows and highs) and max(lows) > min(highs)


def _no_object(nodes: list[Node]) -> bool:
    """Whether a member is needed that is forbidden, or whose value could be nothing."""
    needed = _needed(nodes)
    forbidden = [
        node["not"] for node in nodes if isinstance(node.get("not"), dict) and set(node["not"]) == {"required"}
    ]
    return any(set(rule["required"]) <= needed for rule in forbidden) or any(
        accepts_nothing(*(node["properties"][name] for node in nodes if name in node.get("properties", {})))
        for name in needed
    )
