"""A node's database as it is at one moment, for commands that only read: ``ports.Records``.

Implements what `audit export`, `verify` and `doctor` need while a node runs, or after it crashed.

Rules:
1. The file is opened for reading alone, so that this connection can neither write nor checkpoint the write-ahead log:
   the node's own connection stays the only one that does (adapters.sqlite, rule 1).
2. One transaction lasts from the first read to ``close``: what a running node commits meanwhile is not seen.

What it does not do: migrate, lock the home, or check what it reads (node.verifying does).
"""

from __future__ import annotations

import re
import sqlite3
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Final, Self

from exchange.adapters.sqlite import load_queries
from exchange.core.errors import IntegrityError, LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exchange.ports import Row

PAGE: Final = 1_024
_NAMED: Final = re.compile(r"^-- name: ([a-z_]+)\n", re.MULTILINE)


@lru_cache(maxsize=1)
def load_all_queries() -> dict[str, str]:
    """The named statements of sql/queries.sql, and those of sql/review.sql that re-read everything."""
    text = resources.files("exchange.adapters").joinpath("sql", "review.sql").read_text(encoding="utf-8")
    pieces = _NAMED.split(text)[1:]
    return load_queries() | {name: body.strip() for name, body in zip(pieces[::2], pieces[1::2], strict=True)}


class Snapshot:
    """``ports.Records`` on one moment of a database; a context manager."""

    def __init__(self, path: Path) -> None:
        """Raises ``LocalError`` node.disk where it cannot be read, ``IntegrityError`` store.corrupt where absent."""
        if not path.is_file():
            raise IntegrityError("store.corrupt", f"{path.name} is missing")
        try:
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA query_only=ON")
            self._connection.execute("BEGIN")
        except sqlite3.Error as error:
            raise translate(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def read(self, statement: str, *values: object) -> list[Row]:
        """See ``ports.Records``; on the caller's thread."""
        return self.rows(statement, *values)

    def rows(self, statement: str, *values: object) -> list[Row]:
        """As ``read``, for callers without an event loop."""
        try:
            return self._connection.execute(load_all_queries()[statement], values).fetchall()
        except sqlite3.Error as error:
            raise translate(error) from None

    def leaves(self) -> Iterator[bytes]:
        """The entries of the audit log from the first on, a page at a time."""
        start = 0
        while rows := self.rows("leaves", start, PAGE):
            yield from (leaf for _, leaf in rows)
            start = rows[-1][0] + 1

    def close(self) -> None:
        """End the transaction."""
        self._connection.close()


def translate(error: sqlite3.Error) -> LocalError | IntegrityError:
    """What went wrong with reading: damage, or a database that this program does not know or cannot reach."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return IntegrityError("store.corrupt", name)
    if name == "SQLITE_ERROR":  # no such table or column: made by another version
        return LocalError("node.database", name)
    return LocalError("node.disk", name or "database")
