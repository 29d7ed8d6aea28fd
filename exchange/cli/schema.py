"""``exchange schema``: what messages look like. Needs no home."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from exchange.cli import output
from exchange.cli.settings import common, settings

if TYPE_CHECKING:
    from exchange.cli.settings import Settings
    from exchange.core.schemas import Problem, SchemaBook
    from exchange.core.wire import JsonObject, JsonValue, SchemaId


@click.group()
@common
def schema() -> None:
    """What messages look like: list, show, validate a draft."""


@schema.command("list")
@common
def list_schemas() -> int:
    """Every kind of message, its parts and its digest.

    Both nodes must have the same digest of a kind.
    """
    from exchange.cli.wiring import schema_book

    said = settings()
    book = schema_book()
    kinds: list[JsonValue] = [
        {"id": kind, "digest": book.digest(kind), "parts": [*book.part_names(kind)]} for kind in book.kinds
    ]
    if said.as_json:
        output.emit_json(said, {"ok": True, "schemas": kinds})
        return 0
    rows = [[str(kind), ", ".join(book.part_names(kind)), book.digest(kind)[:16]] for kind in book.kinds]
    output.table(["schema", "parts", "digest"], rows)
    return 0


@schema.command("show")
@common
@click.argument("kind")
def show(kind: str) -> int:
    """The JSON Schema of a kind, with every reference in place."""
    from exchange.cli.provision import encode_readable
    from exchange.cli.wiring import schema_book
    from exchange.core.wire import SchemaId

    said = settings()
    book = schema_book()
    schema_id = SchemaId(kind) if "/" in kind else book.newest(kind)
    value = book.schema(schema_id)
    if said.as_json:
        output.emit_json(said, {"ok": True, "id": schema_id, "digest": book.digest(schema_id), "schema": value})
        return 0
    click.echo(encode_readable(value).decode(), nl=False)
    return 0


@schema.command("validate")
@common
@click.argument("file")
def validate(file: str) -> int:
    """Every fault of a draft, of bare content, or of an agreement.

    For each: where, which rule, what is expected.
    """
    from exchange.cli.agreement_faults import AGREEMENT, find_agreement_problems
    from exchange.cli.documents import parse_input
    from exchange.cli.provision import parse_draft
    from exchange.cli.wiring import schema_book
    from exchange.core.statement import MAX_STATEMENT_BYTES
    from exchange.core.wire import encode_json

    said = settings()
    value = parse_input(file, MAX_STATEMENT_BYTES)
    book = schema_book()
    if isinstance(value, dict) and {"parties", "payloadType"} & set(value):
        schema_id, problems = AGREEMENT, find_agreement_problems(book, parse_draft(encode_json(value)))
        return _tell_validity(said, file, schema_id, problems, [])
    schema_id, problems = find_problems(book, value)
    unknown = [] if problems else list(book.unknown_codes(*_content(book, schema_id, value)))
    return _tell_validity(said, file, schema_id, problems, unknown)


def _tell_validity(
    said: Settings,
    file: str,
    schema_id: SchemaId,
    problems: tuple[Problem, ...],
    unknown: list[tuple[str, str]],
) -> int:
    """The verdict, with every fault and warning."""
    if said.as_json:
        warnings: list[JsonValue] = [{"path": path, "list": name} for path, name in unknown]
        output.emit_json(
            said,
            {"ok": not problems, "schema": schema_id, "problems": problems_to_json(problems), "warnings": warnings},
        )
        return 1 if problems else 0
    for path, name in unknown:
        output.note(f"warning: {path}: a code that the list {name} does not have; it is sent as it is")
    if not problems:
        output.line(f"{Path(file).name} is valid: {schema_id}")
        return 0
    output.line(f"{Path(file).name} is not valid by {schema_id}:")
    show_problems(problems)
    return 1


def find_problems(book: SchemaBook, value: JsonValue) -> tuple[SchemaId, tuple[Problem, ...]]:
    """Every fault of a draft, or of content without its frame, and the schema that judged it."""
    from exchange.core.schemas import DRAFT

    if isinstance(value, dict) and "content" not in value and "entities" in value:
        schema_id = book.newest(str(value.get("kind")))
        return schema_id, book.explain(schema_id, value)
    problems = book.explain(DRAFT, value)
    if problems or not isinstance(value, dict):
        return DRAFT, problems
    return book.newest(str(value["kind"])), ()


def _content(book: SchemaBook, schema_id: SchemaId, value: JsonValue) -> tuple[SchemaId, JsonValue]:
    """What codes are looked up in: the content, by the schema of its kind."""
    del book
    draft = cast("dict[str, Any]", value)
    return schema_id, draft.get("content", draft)


def problems_to_json(problems: tuple[Problem, ...]) -> list[JsonValue]:
    """For ``--json``."""
    found: list[JsonObject] = [
        {"path": problem.path, "rule": problem.rule, "expected": problem.expected} for problem in problems
    ]
    return [*found]


def show_problems(problems: tuple[Problem, ...]) -> None:
    """For people."""
    rows = [[problem.path or "/", problem.rule, problem.expected] for problem in problems]
    output.table(["place", "rule", "expected"], rows)
