"""Code lists: what the codes in a statement mean, and which of them decide rules.

Implements docs/protocol.md section 5.2 (schemas). Lists are data in schemas/codelists/, one file each.

Rules:
1. An open list may grow: a code that this node does not know yet warns, is shown as it is, and survives.
2. A closed list decides rules (purpose, handling, TLP, ...): the schemas repeat its codes as an ``enum``, so that an
   unknown one is refused and the list cannot change without changing the digest that agreements pin.
3. A list agrees with its file name and with every schema that names it, or the node does not start.

What it does not do: choose a language (``exchange.cli``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from exchange.core.errors import LocalError
from exchange.core.schema_lint import subschemas

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exchange.core.wire import JsonObject


@dataclass(frozen=True, slots=True)
class CodeEntry:
    """One code: labels and definitions by language, the names that other standards give it."""

    code: str
    label: Mapping[str, str]
    definition: Mapping[str, str]
    maps: Mapping[str, str]
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class CodeList:
    """One list; ``closed`` means that an unknown code is refused."""

    closed: bool
    codes: Mapping[str, CodeEntry]


def parse_code_list(path: str, document: JsonObject) -> CodeList:
    """Read a list that matches its schema. Raises schema.unsafe: a wrong name, a code twice, an unknown parent."""
    value = cast("dict[str, Any]", document)
    codes = {
        row["code"]: CodeEntry(row["code"], row["label"], row["definition"], row.get("maps", {}), row.get("parent"))
        for row in value["codes"]
    }
    if f"codelists/{value['list']}.json" != path:
        raise LocalError("schema.unsafe", f"{path} (list)")
    if len(codes) != len(value["codes"]) or not {row.parent for row in codes.values()} <= {None, *codes}:
        raise LocalError("schema.unsafe", f"{path} (codes)")
    return CodeList(value["closed"], codes)


def check_codes(path: str, schema: JsonObject, lists: Mapping[str, CodeList]) -> None:
    """Hold one schema against the lists it names. Raises schema.unsafe: an unknown list, an enum that differs."""
    for node in subschemas(schema):
        if (name := node.get("x-codelist")) is None:
            continue
        known = lists.get(name)
        if known is None or node.get("enum") != (list(known.codes) if known.closed else None):
            raise LocalError("schema.unsafe", f"{path} (x-codelist)")
