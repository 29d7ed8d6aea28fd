"""Looking for names where they must not be: in files, tables, logs, recorded traffic, processes.

A name is looked for in every form that a program might write it in; ``forms`` lists them. The finder is itself tested:
what is planted in any of these forms is found.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import urllib.parse
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


def _base64_cores(data: bytes) -> Iterator[bytes]:
    """What is the same wherever ``data`` stands in something that is base64, for each of the three offsets."""
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + data)
        core = encoded[(0, 2, 3)[offset] : (offset + len(data)) * 8 // 6]
        yield core
        yield core.translate(bytes.maketrans(b"+/", b"-_"))


def forms(name: str) -> frozenset[bytes]:
    """A name as bytes, in every encoding that is looked for."""
    plain = name.encode()
    escaped = json.dumps(name)[1:-1]
    upper = "".join(f"\\u{ord(c):04X}" if ord(c) > 126 else c for c in name)
    texts = (name, name.lower(), name.upper())
    found = {text.encode(encoding) for text in texts for encoding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le")}
    found |= {escaped.encode(), escaped.replace("\\", "\\\\").encode(), upper.encode()}
    found |= {plain.hex().encode(), plain.hex().upper().encode(), urllib.parse.quote(name).encode()}
    found |= set(_base64_cores(plain))
    return frozenset(found)


class Finder:
    """Finds any of some names in bytes."""

    def __init__(self, names: Iterable[str]) -> None:
        self._patterns = {pattern: name for name in names for pattern in forms(name)}

    def found(self, data: bytes) -> set[str]:
        """The names that are in ``data``."""
        return {name for pattern, name in self._patterns.items() if pattern in data}

    def in_files(self, folder: Path) -> dict[str, set[str]]:
        """The names in every file below a folder, by path; names of files count as well."""
        hits: dict[str, set[str]] = {}
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder).as_posix()
            names = self.found(inside.encode())
            if path.is_file() and not path.is_symlink():
                names |= self.found(path.read_bytes())
            if names:
                hits[inside] = names
        return hits

    def in_tables(self, database: Path) -> dict[str, set[str]]:
        """The names in every value of every table: in the file itself a value may be cut by the edge of a page."""
        hits: dict[str, set[str]] = {}
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                for row in connection.execute(f'SELECT * FROM "{table}"'):  # noqa: S608 - the database's own names
                    values = [value if isinstance(value, bytes) else str(value).encode() for value in row]
                    if names := self.found(b"\0".join(values)):
                        hits.setdefault(table, set()).update(names)
        return hits
