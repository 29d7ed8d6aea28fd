"""The contract of ``ports.Store``, for SQLite on a file and in memory.

The table of failures is the heart: a commit that raises has written all or nothing, *failed but persisted* among them.

Length: one contract, read as a whole.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest

from exchange.adapters.sqlite import SqliteStore, connect_memory, load_migrations, load_queries
from exchange.core.errors import IntegrityError, LocalError
from exchange.ports import Changes
from tests.places import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from exchange.ports import Row

SQL: Final = ROOT / "exchange" / "adapters" / "sql"
WINDOW: Final = ("th-fp1", 4, 7, "9-9 12-14")
LATER: Final = ("th-fp1", 5, 8, "9-9 12-14")


class Place:
    """Where a store lies; ``open`` opens it anew, whatever became of the one before."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.memory = connect_memory() if path is None else None
        self._opened: list[SqliteStore] = []

    async def open(self) -> SqliteStore:
        if self.path is None:
            assert self.memory is not None
            store = SqliteStore.in_memory(self.memory)
        else:
            store = await SqliteStore.open(self.path)
        self._opened.append(store)
        return store

    async def run(self, store: SqliteStore, work: Callable[[sqlite3.Connection], Any]) -> Any:  # noqa: ANN401
        """Run ``work`` on the writing connection, as a fault injector would."""
        return await store._writer.run(work)  # noqa: SLF001 - there is no public way to break a disk

    async def close(self) -> None:
        for store in self._opened:
            await store.close()
        if self.memory is not None:
            self.memory.close()


@pytest.fixture(params=["file", "memory"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(tmp_path / "node.db" if request.param == "file" else None)
    yield made
    await made.close()


def changes(*rows: tuple[str, Row]) -> Changes:
    made = Changes()
    for statement, values in rows:
        made.add(statement, *values)
    return made


def several(window: Row = WINDOW, leaf: int = 0) -> Changes:
    """Rows of three tables that belong together."""
    return changes(
        ("put_window", window),
        ("put_leaf", (leaf, b"leaf")),
        ("put_log", (leaf + 1, b"frontier", "2026-11-23T00:27:37Z")),
    )


async def picture(store: SqliteStore) -> tuple[list[Row], list[Row], list[Row]]:
    return await store.read("windows"), await store.read("leaves", 0, 10), await store.read("log")


EMPTY: Final[tuple[list[Row], list[Row], list[Row]]] = ([], [], [])
FULL: Final = ([WINDOW], [(0, b"leaf")], [(1, b"frontier", "2026-11-23T00:27:37Z")])


# -- durability and order


async def test_what_is_committed_is_read(place: Place) -> None:
    """What a transaction wrote is read when it has returned, and by the store that is opened after it."""
    store = await place.open()
    assert await picture(store) == EMPTY
    await store.commit(several())
    assert await picture(store) == FULL
    await store.close()
    assert await picture(await place.open()) == FULL


async def test_a_crash_after_commit_loses_nothing(place: Place, tmp_path: Path) -> None:
    """What was committed is there for whoever opens the files next, though nobody closed them."""
    store = await place.open()
    await store.commit(several())
    if place.path is None:
        assert await picture(await place.open()) == FULL
        return
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for name in ("node.db", "node.db-wal"):
        shutil.copy(tmp_path / name, crashed)
    again = await SqliteStore.open(crashed / "node.db")
    assert await picture(again) == FULL
    await again.close()


async def test_the_file_is_written_for_power_cuts(tmp_path: Path) -> None:
    """The writing connection syncs every commit, and readers of the file cannot write or move its log."""
    store = await SqliteStore.open(tmp_path / "node.db")
    pragmas = ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "trusted_schema")

    def read(names: tuple[str, ...]) -> Callable[[sqlite3.Connection], list[object]]:
        return lambda connection: [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await store._writer.run(read(pragmas)) == ["wal", 2, 1, 1, 0]  # noqa: SLF001
    assert await store._reader.run(read(("query_only", "wal_autocheckpoint"))) == [1, 0]  # noqa: SLF001
    await store.close()


async def test_statements_run_in_the_order_of_their_first_row(place: Place) -> None:
    """The statement added first runs first with all its rows, then the next."""
    store = await place.open()
    await store.commit(
        changes(("put_block", ("la-fp1", "t1")), ("drop_block", ("la-fp1",)), ("put_block", ("th-fp1", "t1")))
    )
    assert await store.read("blocks") == [("th-fp1",)]


async def test_later_rows_replace_earlier_ones(place: Place) -> None:
    """A row put twice has the later value."""
    store = await place.open()
    await store.commit(changes(("put_window", WINDOW), ("put_window", LATER)))
    assert await store.read("windows") == [LATER]


async def test_no_change_is_no_fault(place: Place) -> None:
    """A transaction without rows changes nothing and does not fail."""
    store = await place.open()
    await store.commit(Changes())
    assert await picture(store) == EMPTY


# -- all or nothing


class FailsAfterCommit:
    """A writer whose disk takes the transaction and then says that it failed."""

    def __init__(self, inner: Any) -> None:  # noqa: ANN401 - the adapter's own connection
        self._inner = inner
        self.raw = inner.raw

    async def run(self, work: Callable[[sqlite3.Connection], Any]) -> Any:  # noqa: ANN401
        await self._inner.run(work)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        raise error

    async def close(self) -> None:
        await self._inner.close()


async def fail_but_persist(place: Place, store: SqliteStore) -> Awaitable[None]:
    del place
    return SqliteStore(FailsAfterCommit(store._writer), store._reader).commit(several())  # type: ignore[arg-type]  # noqa: SLF001


async def fail_full(place: Place, store: SqliteStore) -> Awaitable[None]:
    def fill(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages}")

    await place.run(store, fill)
    many = several()
    for number in range(1, 200):
        many.add("put_leaf", number, bytes(4000))
    return store.commit(many)


async def fail_constraint(place: Place, store: SqliteStore) -> Awaitable[None]:
    del place
    twice = several()
    twice.add("put_leaf", 0, b"another leaf of that number")
    return store.commit(twice)


async def fail_type(place: Place, store: SqliteStore) -> Awaitable[None]:
    del place
    return store.commit(changes(("put_window", WINDOW), ("put_leaf", ("first", b"leaf"))))


FAILURES: Final = [
    (fail_but_persist, LocalError, "node.disk", "SQLITE_IOERR_FSYNC", FULL),
    (fail_full, LocalError, "node.disk", "SQLITE_FULL", EMPTY),
    (fail_constraint, IntegrityError, "store.corrupt", "SQLITE_CONSTRAINT_PRIMARYKEY", EMPTY),
    (fail_type, (LocalError, IntegrityError), None, None, EMPTY),
]


@pytest.mark.parametrize(
    ("fail", "kind", "code", "where", "left"), FAILURES, ids=[item[0].__name__ for item in FAILURES]
)
async def test_a_failed_commit_is_whole_or_absent(
    place: Place,
    fail: Callable[[Place, SqliteStore], Awaitable[Awaitable[None]]],
    kind: type[LocalError | IntegrityError],
    code: str | None,
    where: str | None,
    left: tuple[list[Row], list[Row], list[Row]],
) -> None:
    """A commit that raises has written all of its rows or none, and the next start finds which."""
    store = await place.open()
    with pytest.raises(kind) as caught:
        await (await fail(place, store))
    if code is not None:
        assert (caught.value.code, caught.value.where) == (code, where)
    await store.close()
    assert await picture(await place.open()) == left


async def test_a_failed_commit_leaves_earlier_ones_alone(place: Place) -> None:
    """What was committed before a failure is still there after it, and the store still takes the next one."""
    store = await place.open()
    await store.commit(several())
    with pytest.raises(IntegrityError):
        await store.commit(several(LATER))
    assert await picture(store) == FULL
    await store.commit(changes(("put_window", LATER)))
    assert await store.read("windows") == [LATER]


async def test_an_unknown_statement_writes_nothing(place: Place) -> None:
    """A statement that does not exist is a programming error and leaves no open transaction behind."""
    store = await place.open()
    with pytest.raises(KeyError):
        await store.commit(changes(("put_window", WINDOW), ("put_nothing", ())))
    with pytest.raises(KeyError):
        await store.read("nothing")
    assert await picture(store) == EMPTY
    await store.commit(several())
    assert await picture(store) == FULL


# -- reading


async def test_readers_see_whole_transactions(place: Place) -> None:
    """While transactions are committed, a reader sees every one of them whole, and never goes back in time."""
    store = await place.open()
    done = asyncio.Event()

    async def write() -> None:
        for number in range(50):
            await store.commit(several(("th-fp1", number, number, ""), leaf=number))
        done.set()

    async def read() -> list[int]:
        seen: list[int] = []
        while not done.is_set():
            rows = await store.read("leaves", 0, 100)
            log = await store.read("log")
            assert [row[0] for row in rows] == list(range(len(rows)))
            assert not rows or log[0][0] >= len(rows)
            seen.append(len(rows))
        return seen

    _, seen = await asyncio.gather(write(), read())
    assert seen == sorted(seen)
    assert len(await store.read("leaves", 0, 100)) == 50


async def test_an_open_transaction_is_invisible(tmp_path: Path) -> None:
    """Rows that are written and not committed are not read from the file."""
    store = await SqliteStore.open(tmp_path / "node.db")

    def begin(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(load_queries()["put_window"], WINDOW)

    await store._writer.run(begin)  # noqa: SLF001
    assert await store.read("windows") == []
    await store._writer.run(lambda connection: connection.execute("COMMIT"))  # noqa: SLF001
    assert await store.read("windows") == [WINDOW]
    await store.close()


# -- erasing


def files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.iterdir()]


SECRET: Final = b"sealed-content-key-" + bytes(range(200)) * 40  # longer than a page


async def test_nothing_of_an_erased_row_is_left_in_the_files(tmp_path: Path) -> None:
    """After an erasing commit and a scrub neither the database nor its log holds a piece of the old bytes."""
    store = await SqliteStore.open(tmp_path / "node.db")
    incoming: Row = ("p", "i", 1, 1, "d", "accepted", "t", None, None, None, 0, "", "c", None, None, None, None, None)
    envelope = ("d", "p", b"document", SECRET, SECRET[:72])
    await store.commit(changes(("put_incoming", (*incoming, None, None, None, 0)), ("put_envelope", envelope)))
    assert any(SECRET[:40] in data for data in files(tmp_path))
    await store.commit(changes(("drop_content", ("p", "i"))))
    assert await store.scrub()
    assert await store.read("envelope", "d") == [("p", b"document", b"", None)]
    pieces = [SECRET[at : at + 32] for at in range(0, len(SECRET) - 32, 32)]
    assert not any(piece in data for data in files(tmp_path) for piece in pieces)
    await store.close()


async def test_a_scrub_waits_for_readers_of_other_processes(tmp_path: Path) -> None:
    """While somebody reads the old pages the log cannot be emptied; that is told at once, and the next time it is."""
    store = await SqliteStore.open(tmp_path / "node.db")
    await store.commit(several())
    reader = sqlite3.connect(tmp_path / "node.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM windows").fetchone()
    await store.commit(changes(("put_block", ("la-fp1", "t1"))))
    assert not await store.scrub()
    reader.execute("COMMIT")
    reader.close()
    assert await store.scrub()
    assert b"" in files(tmp_path)  # the log, cut to nothing
    await store.close()


async def test_a_store_in_memory_has_nothing_to_scrub(place: Place) -> None:
    """A scrub of a store at rest succeeds."""
    assert await (await place.open()).scrub()


# -- statements and tables


@pytest.mark.parametrize("name", sorted(load_queries()))
def test_every_statement_fits_the_tables(name: str) -> None:
    """Every named statement compiles against the tables, and only those that are named for writing write."""
    connection = connect_memory()
    sql = load_queries()[name]
    steps = connection.execute(f"EXPLAIN {sql}", (None,) * sql.count("?")).fetchall()
    writes = any(step[1] == "Transaction" and step[3] == 1 for step in steps)
    assert writes is name.startswith(("put_", "drop_", "add_", "supersede_"))
    connection.close()


def test_every_statement_has_one_name() -> None:
    """No name is used twice in queries.sql, so that none hides another."""
    names = re.findall(r"^-- name: (\S+)", (SQL / "queries.sql").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(names) == sorted(load_queries())


def test_migrations_add_up_to_the_schema() -> None:
    """All migrations together make the tables and indexes of schema.sql, word for word, and all tables are STRICT."""
    wanted = sqlite3.connect(":memory:")
    wanted.executescript((SQL / "schema.sql").read_text(encoding="utf-8"))
    made = connect_memory()
    listing = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"

    def bare(connection: sqlite3.Connection) -> list[Row]:
        rows = connection.execute(listing).fetchall()
        return [(*row[:3], re.sub(r"\s+", " ", re.sub(r"--[^\n]*", "", row[3] or ""))) for row in rows]

    assert bare(made) == bare(wanted)
    tables = made.execute("SELECT name, strict FROM pragma_table_list WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    assert {strict for _, strict in tables} == {1}
    made.close()
    wanted.close()


async def test_migrations_run_once(place: Place) -> None:
    """A store that is opened again runs no migration again and knows its number."""
    store = await place.open()
    await store.commit(several())
    store = await place.open()
    version = await place.run(store, lambda connection: connection.execute("PRAGMA user_version").fetchone()[0])
    assert version == len(load_migrations())
    assert await picture(store) == FULL


# -- files that cannot be opened


async def refusal(path: Path) -> tuple[type[Exception], str, str]:
    """What opening a file raises; returns when the threads that tried have ended."""
    with pytest.raises((LocalError, IntegrityError)) as caught:
        await SqliteStore.open(path)
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join)
    return caught.type, caught.value.code, caught.value.where


async def test_a_newer_database_is_not_touched(tmp_path: Path) -> None:
    """A database of a newer program is refused by its version and left as it is."""
    path = tmp_path / "node.db"
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version=999")
    newer.close()
    assert (await refusal(path))[:2] == (LocalError, "node.database")
    newer = sqlite3.connect(path)
    assert newer.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    newer.close()


async def test_a_damaged_database_is_an_integrity_error(tmp_path: Path) -> None:
    """A file that is no database is damage, not a full disk."""
    path = tmp_path / "node.db"
    path.write_bytes(b"not a database, but long enough to look at" * 100)
    assert await refusal(path) == (IntegrityError, "store.corrupt", "SQLITE_NOTADB")


async def test_a_damaged_page_is_found_when_it_is_read(tmp_path: Path) -> None:
    """Rows on a page that was overwritten are refused as damage."""
    path = tmp_path / "node.db"
    store = await SqliteStore.open(path)
    many = Changes()
    for number in range(500):
        many.add("put_leaf", number, bytes(1000))
    await store.commit(many)
    await store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * (size // 2))
    store = await SqliteStore.open(path)
    with pytest.raises(IntegrityError) as caught:
        await store.read("leaves", 0, 1000)
    assert caught.value.code == "store.corrupt"
    await store.close()


async def test_a_database_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A database in a folder that does not exist is trouble of this machine."""
    assert await refusal(tmp_path / "no" / "node.db") == (LocalError, "node.disk", "SQLITE_CANTOPEN")
