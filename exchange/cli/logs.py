"""What the daemon tells its operator on standard error: known events, known fields, nothing else.

Rules:
1. An allow-list: an event or a field that is not in it is not written. Ids, codes, clauses, counts; never content,
   never a peer's words, never a path.
2. A fault that nobody expected is told by the name of its class; its text may hold a value.
3. Other libraries' log lines may hold bytes of strangers: of them only the level and the library's name are written.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Any, Final

import structlog

from exchange.core.errors import CODES, ExchangeError, IntegrityError, LocalError, PeerError
from exchange.core.succession import WARNING_DAYS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import MutableMapping

EXIT_CODES: Final[dict[type[ExchangeError], int]] = {PeerError: 1, LocalError: 3, IntegrityError: 4}
EVENTS: Final = frozenset(
    {
        "started", "stopping", "stopped", "failed", "received", "status", "call_failed", "request_failed",
        "request_failed_late", "loop_fault", "library",
    }
)  # fmt: skip
REMINDERS: Final = frozenset({"answer_reminder", "answer_last_reminder", "answer_due"})
WARNINGS: Final = frozenset({"alarm", "answer_overdue", "answer_escalated"})
ENDINGS: Final = frozenset({f"agreement_ends_in_{days}_days" for days in WARNING_DAYS})
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")
FIELDS: Final = frozenset(
    {
        "agreement", "code", "clause", "fault", "node", "network", "peer", "message", "status", "count", "training",
        "library",
    }
)  # fmt: skip


def keep_allowed(_: Any, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401 - structlog's logger
    """Drop what the allow-list does not name; values are numbers, flags or words of id's form."""
    if entry.get("event") not in EVENTS | REMINDERS | WARNINGS | ENDINGS:
        raise structlog.DropEvent
    kept: dict[str, Any] = {name: entry[name] for name in ("timestamp", "level", "event", "logger") if name in entry}
    for name in FIELDS & entry.keys():
        value = entry[name]
        if isinstance(value, bool | int) or (isinstance(value, str) and _WORD.fullmatch(value)):
            kept[name] = value
    code = kept.get("code")
    if isinstance(code, str) and code in CODES:
        kept["remedy"] = CODES[code].remedy
    return kept


class _Library(logging.Handler):
    """A line of another library: its name and level."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger("node").log(record.levelno, "library", library=record.name)


def setup_logs(level: str, *, as_json: bool) -> None:
    """Write the daemon's log to standard error from ``level`` on."""
    show: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            keep_allowed,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            show,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.root.handlers[:] = [_Library(logging.WARNING)]


def log_loop_faults(loop: asyncio.AbstractEventLoop) -> None:
    """Write faults that no task looked at by their class."""

    def handler(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        fault = context.get("exception")
        name = fault.code if isinstance(fault, ExchangeError) else type(fault).__name__
        structlog.get_logger("node").error("loop_fault", fault=name)

    loop.set_exception_handler(handler)
