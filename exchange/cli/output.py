"""What users read: tables for people, one JSON document for programs, errors for both.

Rules:
1. ``--json``: exactly one document on standard output, also for an error. Everything for people is at most 100 columns
   wide; what explains or warns goes to standard error.
2. Every output of a training network says so.
3. Whatever came from elsewhere is shown without control characters: a message must not move the cursor, change
   colours, or turn the direction of the text around. Its own line ends are marked: it cannot pass for other members.
4. An error is its code, what, where, clause and remedy. Never a trace.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sys
import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

import click

from exchange.core.errors import CODES, ExchangeError, Fault, LocalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from exchange.cli.settings import Settings
    from exchange.core.wire import JsonObject, JsonValue

WIDTH: Final = 100
FOLDED: Final = 10  # columns that a cell which may be folded has at least
GAP: Final = 2
# Columns of a table whose cells are compared, copied or read out: never folded.
WHOLE: Final = frozenset({
    "", "id", "from", "to", "node", "status", "time", "kind", "version", "expires", "until", "fingerprint", "digest",
    "agreement", "schema", "clause", "check", "state", "rule", "due",
})  # fmt: skip
PLAIN: Final = frozenset(
    {"", "id", "node", "status", "time", "kind", "agreement", "schema", "check"}
)  # say what they are
TRAINING: Final = "training-"
EXIT_OF_FAULT: Final = {Fault.PEER: 1, Fault.LOCAL: 3, Fault.INTEGRITY: 4}
USAGE: Final = 2
LANGUAGE_VARIABLES: Final = ("LC_ALL", "LC_MESSAGES", "LANG")

# C0 without tab and line feed, DEL and C1, and the characters that turn text around or hide it.
_UNSEEN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
_ESCAPED: Final = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """A text that a terminal shows and nothing else."""
    return _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", text)


class UnwrittenError(Exception):
    """Standard output took no more. Not an ``OSError``: no command mistakes it for trouble with one of its files."""


class _Stdout:
    """Standard output whose failure is told from that of every other file, whoever writes: click, rich or we."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with _as_unwritten():
            return self._stream.write(text)

    def flush(self) -> None:
        with _as_unwritten():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a stream has
        return getattr(self._stream, name)


@contextmanager
def _as_unwritten() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # the reader left, which is its right
        raise
    except OSError:
        raise UnwrittenError from None


@contextmanager
def checked_stdout() -> Iterator[None]:
    """For the block, a failure of standard output is ``UnwrittenError``; also one of there being none."""
    before = sys.stdout
    if before is None:  # closed: the first file to be opened would take its place
        raise UnwrittenError
    sys.stdout = cast("TextIO", _Stdout(before))
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stdout = before


def prepare_streams() -> None:
    """UTF-8 whatever the locale says; what cannot be written is escaped, not fatal."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="backslashreplace")


def width() -> int:
    """Columns to use."""
    return max(40, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))


# -- results ---------------------------------------------------------------------------------------


def is_training(said: Settings) -> bool | None:
    """Whether this is a training network; None where the command has none."""
    return None if said.network is None else said.network.startswith(TRAINING)


def _marked(said: Settings, value: JsonObject) -> JsonObject:
    training = is_training(said)
    return value if training is None else {**value, "network": said.network, "training": training}


def emit_json(said: Settings, value: JsonObject) -> None:
    """The one document."""
    text = json.dumps(_marked(said, value), ensure_ascii=False, allow_nan=False)
    click.echo(_ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def banner(said: Settings, *, err: bool = False) -> None:
    """The line that every output of a training network begins with."""
    if not is_training(said) or (err and said.marked):
        return
    said.marked = said.marked or err
    click.echo(f"TRAINING network {said.network}: nothing here is real.", err=err)


def line(text: str = "") -> None:
    """One line for people."""
    click.echo(clean(text))


def note(text: str) -> None:
    """One line beside the result."""
    click.echo(clean(text), err=True)


def pairs(rows: Iterable[tuple[str, str]]) -> None:
    """Names and values, below each other."""
    listed = [(name, value) for name, value in rows if value]
    room = max((len(name) for name, _ in listed), default=0)
    for name, value in listed:
        paragraph(f"{name.ljust(room)}  {value}", indent=room + 2)


def paragraph(text: str, indent: int = 0) -> None:
    """A text for people, wrapped at spaces; words, ids and paths are never cut."""
    first, *others = clean(text).split("\n")
    rows = _wrap(first, "", " " * indent)
    for other in others:
        rows += _wrap(other, f"{' ' * indent}| ", f"{' ' * indent}| ") or [f"{' ' * indent}|"]
    click.echo("\n".join(rows))


def _wrap(text: str, first: str, others: str) -> list[str]:
    return textwrap.wrap(
        text,
        width(),
        initial_indent=first,
        subsequent_indent=others,
        replace_whitespace=False,
        drop_whitespace=True,
        break_long_words=False,
        break_on_hyphens=False,
    )


def member(label: str, text: str) -> None:
    """A value of a message below its name; the text's own further lines are marked."""
    margin = " " * (len(label) - len(label.lstrip()) + 2)
    click.echo(clean(f"{label}: {text}").replace("\n", f"\n{margin}| "))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table for people; where what is read as a whole has no room beside the rest, two or more lines for each row."""
    widths = [max([len(name), *(len(clean(row[at])) for row in rows)]) for at, name in enumerate(columns)]
    least = [
        room if name in WHOLE else min(room, max(len(name), FOLDED)) for name, room in zip(columns, widths, strict=True)
    ]
    if sum(least) + GAP * (len(columns) - 1) > width():
        for row in rows:
            _record(columns, row)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for column, room in zip(columns, least, strict=True):
        shown.add_column(column, overflow="fold", no_wrap=column in WHOLE, min_width=room)
    for row in rows:
        shown.add_row(*(Text(clean(cell)) for cell in row))
    Console(width=width(), highlight=False, soft_wrap=False).print(shown)


def _record(columns: Sequence[str], row: Sequence[str]) -> None:
    """A row that is too wide for a table: first what is read as a whole, below it the rest by its name."""
    cells = [(name, clean(cell)) for name, cell in zip(columns, row, strict=True) if cell]
    lines = [""]
    for cell in (cell if name in PLAIN else f"{name} {cell}" for name, cell in cells if name in WHOLE):
        wider = f"{lines[-1]}  {cell}" if lines[-1] else cell
        if len(wider) <= width() or not lines[-1]:
            lines[-1] = wider
        else:
            lines.append(f"  {cell}")
    click.echo("\n".join(lines))
    for name, cell in cells:
        if name not in WHOLE:
            paragraph(f"    {name}: {cell}", indent=8)


def fingerprint(digest: str) -> str:
    """Groups of four, eight to a line: what two people compare by voice."""
    groups = [digest[at : at + 4] for at in range(0, len(digest), 4)]
    return "\n".join(" ".join(groups[at : at + 8]) for at in range(0, len(groups), 8))


def reading_languages() -> tuple[str, ...]:
    """The reader's language by the usual variables (LC_ALL, LC_MESSAGES, LANG), the narrower tag first; then English.

    ``km_KH.UTF-8`` is km-KH, then km; ``C`` and ``POSIX`` name no language.
    """
    named = next((value for name in LANGUAGE_VARIABLES if (value := os.environ.get(name))), "")
    tag = named.split(".")[0].split("@")[0].replace("_", "-")
    return (*dict.fromkeys((tag, tag.split("-")[0], "en")),)


def text_of(value: JsonValue) -> str:
    """A value as one cell."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(text_of(item) for item in value)
    if isinstance(value, dict):  # a text by language: the reader's, else English, else the first
        found = next((value[tag] for tag in reading_languages() if tag in value), None)
        return text_of(next(iter(value.values()), "") if found is None else found)
    return str(value)


# -- errors ----------------------------------------------------------------------------------------


def error_to_json(code: str, where: str = "", clause: str | None = None) -> JsonObject:
    """An error as programs read it."""
    row = CODES[code]
    return {"code": code, "what": row.what, "where": where, "clause": clause, "remedy": row.remedy}


def print_error(code: str, where: str = "", clause: str | None = None) -> None:
    """An error as people read it."""
    row = CODES[code]
    note(f"{code}: {row.what}")
    if where.strip():
        note(f"  where:  {where.strip()}")
    if clause:
        note(f"  clause: {clause}")
    note(f"  remedy: {row.remedy}")


def fail(said: Settings, error: ExchangeError, extra: dict[str, Any] | None = None) -> int:
    """Tell an error and return the exit code."""
    if said.as_json:
        told = error_to_json(error.code, error.where, error.clause)
        emit_json(said, {"ok": False, "error": told, **(extra or {})})
    banner(said, err=True)
    print_error(error.code, error.where, error.clause)
    return EXIT_OF_FAULT[error.fault]


def fail_usage(said: Settings, message: str, hint: str) -> int:
    """Tell what was wrong with the command itself."""
    if said.as_json:
        emit_json(said, {"ok": False, "error": error_to_json("input.usage", message)})
    note(f"input.usage: {message}")
    note(f"  remedy: {hint}")
    return USAGE


def fail_unexpected(said: Settings, fault: BaseException) -> int:
    """The last resort: an id to find it by, the class and place of the fault, and no trace."""
    ident = secrets.token_hex(4)
    trace = fault.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f" {trace.tb_frame.f_globals.get('__name__', '')}:{trace.tb_lineno}"
    return fail(said, LocalError("node.internal", f"{ident} {type(fault).__name__}{place}"))
