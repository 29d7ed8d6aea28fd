"""Why a value does not match its schema, in words that an officer can act on.

Implements docs/protocol.md section 5.2 (schemas). The path of the node asks jsonschema-rs, which is hundreds of times
faster; this asks jsonschema, an independent implementation, when a person wants to know more. Tests hold the two
against each other.

Rules:
1. Never ``str()`` of a validation error, never its message: both hold the value. Place, rule and expectation only.
2. jsonschema gets an empty registry of ours: the default one fetches over HTTP.
3. The number of problems is bounded, and so is the work on a hostile value: ``uniqueItems`` is quadratic there and is
   skipped where ``maxItems`` fails anyway; patterns are bounded (``core.schema_lint`` rule 6) and tried once.
4. ``$`` in a pattern means the end, as in ECMAScript and Rust; Python's ``$`` also matches before a last line feed.

What it does not do: run in the path of the node.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from exchange.core.schema_lint import ENTITY_ID, MAX_UNIQUE_ITEMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from jsonschema import Draft202012Validator, ValidationError

    from exchange.core.wire import JsonObject, JsonValue

MAX_PROBLEMS: Final = 20
MAX_LISTED: Final = 24  # codes or members named in one expectation

_ENTITY_ID: Final = re.compile(ENTITY_ID[:-1] + r"\Z")


class Problem(NamedTuple):
    """One fault: where (JSON Pointer), which rule, and what the schema expects there. Never the value."""

    path: str
    rule: str
    expected: str


class Fault(Protocol):
    """What the expectations read of jsonschema's error; its own types leave open what a valid schema settles."""

    validator_value: Any
    instance: Any
    schema: Any


def show_place(steps: Iterable[str | int], names: frozenset[str]) -> str:
    """A JSON Pointer in which every step that a sender chose freely is ``*``."""
    return "".join(
        f"/{step}" if isinstance(step, int) or step in names or _ENTITY_ID.match(step) else "/*" for step in steps
    )


@cache
def _reader() -> Callable[[JsonObject], Draft202012Validator]:
    """Jsonschema's validator with our patterns and bounds; loaded when a person asks, not whenever a node starts."""
    from jsonschema import Draft202012Validator, ValidationError, validators  # noqa: PLC0415 - see above
    from referencing import Registry  # noqa: PLC0415

    def pattern(_: object, wanted: str, value: object, __: object) -> Iterator[ValidationError]:
        if isinstance(value, str) and not re.match(wanted[:-1] + r"\Z", value):
            yield ValidationError("")

    def unique(reader: object, wanted: object, value: object, schema: object) -> Iterator[ValidationError]:
        if isinstance(value, list) and len(value) <= MAX_UNIQUE_ITEMS:
            yield from Draft202012Validator.VALIDATORS["uniqueItems"](reader, wanted, value, schema)

    extend: Any = validators.extend
    reader: Any = extend(Draft202012Validator, {"pattern": pattern, "uniqueItems": unique})
    return lambda schema: cast("Draft202012Validator", reader(schema, registry=Registry()))


def reader_for(schema: JsonObject) -> Draft202012Validator:
    """Jsonschema's validator of a schema that passed the linter and has its references in place."""
    return _reader()(schema)


def explain(schema: JsonObject, value: JsonValue, names: frozenset[str]) -> tuple[Problem, ...]:
    """The first ``MAX_PROBLEMS`` faults of a value, in the order of the schema."""
    found: dict[Problem, None] = {}
    for error in reader_for(schema).iter_errors(value):
        rule = str(error.validator)
        found[Problem(show_place(error.absolute_path, names), rule, _EXPECTED[rule](cast("Fault", error)))] = None
        if len(found) == MAX_PROBLEMS:
            break
    return tuple(found)


# -- expectations ----------------------------------------------------------------------------------

_TYPES: Final = {
    "object": "an object",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "null",
}


def _listed(items: Iterable[object]) -> str:
    texts = [str(item) for item in items]
    return ", ".join(texts[:MAX_LISTED]) + (", ..." if len(texts) > MAX_LISTED else "")


def _type(error: Fault) -> str:
    types = error.validator_value
    return " or ".join(_TYPES[name] for name in (types if isinstance(types, list) else [types]))


def _required(error: Fault) -> str:
    # jsonschema reports each missing member by itself and names it in the message only; all are named at once here.
    missing = [name for name in error.validator_value if name not in error.instance]
    return f"the member{'s' * (len(missing) > 1)} {_listed(missing)}"


def _only(error: Fault) -> str:
    return f"no members but {_listed(error.schema.get('properties', ()))}"


def _any_of(error: Fault) -> str:
    return f"one of the members {_listed(name for choice in error.validator_value for name in choice['required'])}"


def _contains(error: Fault) -> str:
    wanted: Mapping[str, Any] = error.validator_value["properties"]
    constants = {name: node.get("contains", node)["const"] for name, node in wanted.items()}
    return f"an item with {_listed(f'{name} {constant}' for name, constant in constants.items())}"


def _together(error: Fault) -> str:
    return f"{_listed(error.validator_value)} only together"


def _bound(text: str) -> Callable[[Fault], str]:
    return lambda error: text.format(error.validator_value)


_EXPECTED: Final[Mapping[str, Callable[[Fault], str]]] = {
    "type": _type,
    "enum": lambda error: f"one of {_listed(error.validator_value)}",
    "const": _bound("{}"),
    "required": _required,
    "additionalProperties": _only,
    "minProperties": _bound("at least {} members"),
    "maxProperties": _bound("at most {} members"),
    "dependentRequired": _together,
    "minItems": _bound("at least {} items"),
    "maxItems": _bound("at most {} items"),
    "uniqueItems": lambda _: "no item twice",
    "contains": _contains,
    "minLength": _bound("at least {} characters"),
    "maxLength": _bound("at most {} characters"),
    "pattern": _bound("the form {}"),
    "minimum": _bound("at least {}"),
    "maximum": _bound("at most {}"),
    "anyOf": _any_of,
}
