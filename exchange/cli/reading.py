"""``exchange inbox``, ``outbox``, ``show`` and ``evidence``: reading what was sent and received.

Rule: showing a received message, or giving out evidence, is written into the audit log before anything is shown.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

from exchange.cli import output
from exchange.cli.erasing import copy_words
from exchange.cli.settings import Settings, common, from_option, named, settings

if TYPE_CHECKING:
    from exchange.core.wire import JsonObject, JsonValue

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 10_000
MAX_ATTACHMENTS: Final = 64

_limit = click.option(
    "--limit", default=DEFAULT_LIMIT, show_default=True, type=click.IntRange(1, MAX_LIMIT), help="How many at most."
)


# -- lists -----------------------------------------------------------------------------------------


@click.command()
@common
@_limit
def inbox(limit: int) -> int:
    """Received messages, the newest first; also what was refused, and why."""
    said = settings()
    messages = _listed(said, "inbox", limit)
    if said.as_json:
        output.emit_json(said, {"ok": True, "messages": [*messages]})
        return 0
    output.banner(said)
    rows = [
        [
            str(item["id"]), str(item["from"]), _status(item), str(item["time"]), str(item.get("kind") or ""),
            str(item.get("case") or ""),
        ]
        for item in messages
    ]  # fmt: skip
    _table(["id", "from", "status", "time", "kind", "case"], rows, messages)
    return 0


@click.command()
@common
@_limit
def outbox(limit: int) -> int:
    """Sent messages, the newest first, with where each of them is."""
    said = settings()
    messages = _listed(said, "outbox", limit)
    if said.as_json:
        output.emit_json(said, {"ok": True, "messages": [*messages]})
        return 0
    output.banner(said)
    rows = [
        [
            str(item["id"]), str(item["to"]), _status(item), str(item["time"]), str(item.get("kind") or ""),
            str(item.get("case") or ""),
        ]
        for item in messages
    ]  # fmt: skip
    _table(["id", "to", "status", "time", "kind", "case"], rows, messages)
    return 0


def _listed(said: Settings, op: str, limit: int) -> list[dict[str, Any]]:
    from exchange.cli.session import ask_list

    return cast("list[dict[str, Any]]", ask_list(said, op, {"limit": limit}))


def _table(columns: list[str], rows: list[list[str]], messages: list[dict[str, Any]]) -> None:
    """The list; where an answer is due to any of them or a copy is being erased, also that."""
    due = [_due(item.get("clock")) for item in messages]
    for name, cells in (("due", due), ("copy", [copy_words(item) for item in messages])):
        if any(cells):
            columns, rows = [*columns, name], [[*row, cell] for row, cell in zip(rows, cells, strict=True)]
    output.table(columns, rows)


def _due(clock: dict[str, Any] | None) -> str:
    if clock is None or clock["answered"] is not None:
        return ""
    return str(clock["due"]) if clock["state"] == "waiting" else f"{clock['due']} ({clock['state']})"


def _status(item: dict[str, Any]) -> str:
    return f"{item['status']} ({item['code']})" if item.get("code") else str(item["status"])


# -- one message -----------------------------------------------------------------------------------


@click.command()
@common
@click.argument("ident", metavar="ID")
@from_option
def show(ident: str, sender: str | None) -> int:
    """One message with its content; that you read a received one is written into the log."""
    from exchange.cli.session import ask_object

    said = settings()
    message = ask_object(said, "show", named(ident, sender))
    if said.as_json:
        output.emit_json(said, {"ok": True, **message})
        return 0
    output.banner(said)
    _show_message(message)
    return 0


def _show_message(message: JsonObject) -> None:
    names = ("id", "direction", "from", "to", "status", "code", "clause", "received", "created", "kind", "case",
             "purpose", "handling", "tlp", "urgency", "onward", "retention", "in_reply_to", "refers_to", "origin",
             "receipt", "log_index")  # fmt: skip
    facts = cast("JsonObject", message.get("header") or {}) | message  # what may be done with it is in the header
    output.pairs([(name.replace("_", " "), output.text_of(facts.get(name))) for name in names])
    _show_copy(message)
    if "content" in message:
        output.line()
        tree(message["content"])
    for item in cast("list[dict[str, Any]]", message.get("approved") or []):
        output.line(f"signed as {item['role']} by {str(item['officer'])[:16]}, {item['time']}")
    if "approvals" in message:
        from exchange.cli.approving import show_state

        output.line()
        show_state(cast("dict[str, Any]", message["approvals"]), names_of(settings()))
    for item in cast("list[JsonObject]", message.get("withheld") or []):
        output.line(f"withheld: {item['part']} (clause {item['clause']})")
    for number, item in enumerate(cast("list[JsonObject]", message.get("attachments") or []), 1):
        output.line(f"evidence {number}: {item['name']}, {item['len']} bytes, SHA-256 {item['sha256']}")


def names_of(said: Settings) -> dict[str, str]:
    """What officers are called in this home."""
    from exchange.cli.personal import load_names

    return load_names(said.open_home()[0])


def _show_copy(message: JsonObject) -> None:
    """What becomes of the copy: how long it is kept, and who took it back, why, for which other message."""
    copy = cast("dict[str, Any]", message.get("copy") or {})
    pairs = [("kept until", message.get("keep_until")), ("copy", copy_words({"copy": copy or None}))]
    pairs += [(name.replace("_", " "), copy.get(name)) for name in ("reason", "asked_by", "replaced_by")]
    output.pairs([(name, output.text_of(cast("JsonValue", value))) for name, value in pairs if value])
    for item in cast("list[dict[str, Any]]", message.get("recipients") or []):
        if words := copy_words(item):
            output.line(f"copy at {item['to']}: {words}")


def tree(value: JsonValue, depth: int = 0) -> None:
    """A value for people: one member a line."""
    space = "  " * depth
    if isinstance(value, dict):
        for name, inner in value.items():
            _branch(f"{space}{name}", inner, depth)
    elif isinstance(value, list):
        for number, inner in enumerate(value, 1):
            _branch(f"{space}{number}", inner, depth)


def _branch(label: str, value: JsonValue, depth: int) -> None:
    if isinstance(value, dict) and {"text", "lang"} == set(value):
        output.member(label, f"{value['text']} [{value['lang']}]")
    elif isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        output.member(label, output.text_of(value))
    elif isinstance(value, dict | list):
        output.line(f"{label}:")
        tree(value, depth + 1)
    else:
        output.member(label, _scalar(value))


def _scalar(value: JsonValue) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return output.text_of(value)


# -- evidence --------------------------------------------------------------------------------------


@click.group()
@common
def evidence() -> None:
    """Evidence files of a message."""


def _number(_: click.Context, __: click.Parameter, value: str) -> int:
    if re.fullmatch("[0-9]{1,2}", value) and 1 <= int(value) <= MAX_ATTACHMENTS:
        return int(value)
    message = f"a number from 1 to {MAX_ATTACHMENTS}, as exchange show ID lists the evidence"
    raise click.BadParameter(message)


@evidence.command("get")
@common
@click.argument("ident", metavar="ID")
@click.argument("number", metavar="N", callback=_number)
@click.option("--out", required=True, metavar="FILE", help="A new file; an existing one is never overwritten.")
@from_option
def get(ident: str, number: int, out: str, sender: str | None) -> int:
    """Write evidence N of a message to a file.

    These are the original bytes, verified before the file appears.
    """
    from exchange.cli.session import run

    said = settings()
    said.open_home()
    record = run(_get(said, ident, number, Path(out), sender))
    if said.as_json:
        output.emit_json(said, {"ok": True, "file": out, **record})
        return 0
    output.banner(said)
    output.line(f"{out}: {record['len']} bytes, SHA-256 {record['sha256']}, as the sender stated.")
    return 0


async def _get(said: Settings, ident: str, number: int, path: Path, sender: str | None) -> JsonObject:
    import asyncio

    from exchange.cli.documents import NewFile
    from exchange.cli.session import at_desk

    # The name first: where it is taken, the log need not say that evidence was given out.
    with NewFile(path) as file:
        async with at_desk(said) as (desk, _):
            record, chunks = await desk.evidence(ident, number, sender=sender)
            async for piece in chunks:
                await asyncio.to_thread(file.write, piece)
        file.keep()
    return record
