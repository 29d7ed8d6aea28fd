"""The store on SQLite: one writer, WAL, FULL, STRICT tables.

Implements ``ports.Store``. Statements live in sql/queries.sql by name; the tables in sql/schema.sql, reached by
the numbered migrations beside it.

Rules:
1. Exactly one connection writes, and it alone checkpoints: SQLite 3.7.0 to 3.51.2 can corrupt a database whose
   write-ahead log is reset under a second writer. A file lock on the home keeps other processes out.
2. Rows are written on the caller's thread from BEGIN IMMEDIATE on, without a pause; only COMMIT, which waits for the
   disk, runs on the database thread, and the one writer (node.ledger) does nothing else until it returns. Binding
   rows there would hand the interpreter's lock to and fro for each row: up to 5 ms a time under load.
3. What a transaction looks up by key is read on the caller's thread and the writer's connection as well, while that
   one rests: tens of microseconds, where the way to a thread and back costs a hundred.
4. ``synchronous=FULL``: NORMAL loses acknowledged rows when the power goes.
5. A failed commit is not retried: after a failed fsync the page is marked clean. The node stops and starts again.

``:memory:`` runs the same statements on the caller's thread, for simulation: no threads, so one seed is one history.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Final, TypeVar

import aiosqlite

from exchange.core.errors import IntegrityError, LocalError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from exchange.ports import Changes, Row

T = TypeVar("T")
_NAMED: Final = re.compile(r"^-- name: ([a-z_]+)\n", re.MULTILINE)
_BY_KEY: Final = frozenset({"incoming", "outgoing", "quotas", "case_key", "answer", "other_answer"})
BUSY_MILLISECONDS: Final = 5_000  # as long as Python's own default
_PRAGMAS: Final = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA trusted_schema=OFF",
    "PRAGMA cell_size_check=ON",
    "PRAGMA secure_delete=ON",
    "PRAGMA wal_autocheckpoint=4000",
    "PRAGMA cache_size=-16000",
)


def _text(name: str) -> str:
    return resources.files("exchange.adapters").joinpath("sql").joinpath(name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def load_queries() -> dict[str, str]:
    """The named statements of sql/queries.sql."""
    pieces = _NAMED.split(_text("queries.sql"))[1:]
    return {name: body.strip() for name, body in zip(pieces[::2], pieces[1::2], strict=True)}


def load_migrations() -> list[str]:
    """The migrations in order; together they equal sql/schema.sql."""
    folder = resources.files("exchange.adapters").joinpath("sql").joinpath("migrations")
    return [item.read_text(encoding="utf-8") for item in sorted(folder.iterdir(), key=lambda item: item.name)]


class _Connection(aiosqlite.Connection):
    """aiosqlite's thread and queue, with one call that runs a whole function there."""

    @property
    def raw(self) -> sqlite3.Connection:
        """The connection itself, for the one writer and only while nothing of its runs on the thread."""
        return self._conn

    def join(self) -> None:
        """Wait for the database thread to end."""
        self._thread.join()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` on the database thread; nothing else runs on the connection meanwhile."""
        # aiosqlite's one door to its thread; pinned by the lock, and the contract tests run through it
        result: T = await self._execute(work, self._conn)  # type: ignore[no-untyped-call]
        return result


class _Inline:
    """The same, on the caller's thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.raw = connection

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return work(self.raw)

    async def close(self) -> None:
        """Keep the connection: its owner reopens the store on it after a simulated crash."""


def _migrate(connection: sqlite3.Connection) -> None:
    migrations = load_migrations()
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(migrations):
        raise LocalError("node.database", f"version {version}, this program knows {len(migrations)}")
    for number in range(version, len(migrations)):
        script = migrations[number]
        connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version={number + 1};\nCOMMIT;")


def _prepare(connection: sqlite3.Connection, changes: Changes) -> None:
    """Begin a transaction and write its rows, on the caller's thread and without a pause."""
    queries = load_queries()
    connection.execute("BEGIN IMMEDIATE")
    for statement, rows in changes.rows.items():
        connection.executemany(queries[statement], rows)


def _commit(connection: sqlite3.Connection) -> None:
    connection.execute("COMMIT")


def _empty_log(connection: sqlite3.Connection) -> bool:
    """Move the write-ahead log into the file and cut it to nothing; not while another process reads the old pages."""
    connection.execute("PRAGMA busy_timeout=0")  # the node must not stand still for it
    try:
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
    return bool(busy == 0)


def _give_up(connection: sqlite3.Connection) -> None:
    """Leave no open transaction behind a failure."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _connect(path: str, *, read_only: bool) -> sqlite3.Connection:
    # autocommit (isolation_level None): transactions are begun and ended only where this module says so
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
    if read_only:
        connection.execute("PRAGMA query_only=ON")
        connection.execute("PRAGMA wal_autocheckpoint=0")
    else:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        _migrate(connection)
    return connection


async def _open(path: str, *, read_only: bool) -> _Connection:
    connection = _Connection(lambda: _connect(path, read_only=read_only), 64)
    try:
        await connection
    except BaseException:
        # Its thread still ends: until then it may answer into a loop that is gone.
        await asyncio.to_thread(connection.join)
        raise
    return connection


def connect_memory() -> sqlite3.Connection:
    """A fresh in-memory database with the tables, for ``SqliteStore.in_memory``."""
    return _connect(":memory:", read_only=False)


class SqliteStore:
    """``ports.Store`` on one SQLite file, or in memory."""

    def __init__(self, writer: _Connection | _Inline, reader: _Connection | _Inline) -> None:
        self._writer = writer
        self._reader = reader
        self._resting = True  # nothing is begun on the writer's connection

    @classmethod
    async def open(cls, path: Path) -> SqliteStore:
        """Open or create the file. Raises ``LocalError`` node.database, node.disk; ``IntegrityError`` store.corrupt."""
        try:
            writer = await _open(str(path), read_only=False)
            try:
                reader = await _open(str(path), read_only=True)
            except BaseException:
                await writer.close()
                raise
        except sqlite3.Error as error:
            raise _translate(error) from None
        return cls(writer, reader)

    @classmethod
    def in_memory(cls, connection: sqlite3.Connection) -> SqliteStore:
        """A store on an in-memory connection."""
        inline = _Inline(connection)
        return cls(inline, inline)

    async def commit(self, changes: Changes) -> None:
        """See ``ports.Store``."""
        try:
            self._resting = False
            try:
                _prepare(self._writer.raw, changes)
                await self._writer.run(_commit)
            except BaseException:
                await self._writer.run(_give_up)
                raise
            self._resting = True
        except sqlite3.Error as error:
            raise _translate(error) from None

    async def read(self, statement: str, *values: object) -> list[Row]:
        """See ``ports.Store``."""
        sql = load_queries()[statement]

        def work(connection: sqlite3.Connection) -> list[Row]:
            return connection.execute(sql, values).fetchall()

        try:
            if self._resting and statement in _BY_KEY:
                return work(self._writer.raw)
            return await self._reader.run(work)
        except sqlite3.Error as error:
            raise _translate(error) from None

    async def scrub(self) -> bool:
        """See ``ports.Store``. Its caller is the one writer, so that nothing is begun meanwhile."""
        try:
            self._resting = False
            done = await self._writer.run(_empty_log)
            self._resting = True
        except sqlite3.Error as error:
            raise _translate(error) from None
        return done

    async def close(self) -> None:
        """See ``ports.Store``. The writer closes last, so that it checkpoints the write-ahead log."""
        await self._reader.close()
        await self._writer.close()


def _translate(error: sqlite3.Error) -> LocalError | IntegrityError:
    """SQLite's errors as ours: damage is an integrity error, everything else stops the node as a failed write."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_CONSTRAINT")):
        return IntegrityError("store.corrupt", name)
    return LocalError("node.disk", name or "database")
