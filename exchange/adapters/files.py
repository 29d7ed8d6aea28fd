"""The data files that travel with the program: the agreed schemas, their code lists and examples.

In an installed wheel they lie inside the package (``exchange/_data/schemas``), in a checkout at its top level
(``schemas/``). Everything else reads them through here, as bytes by path, so that the core never touches a disk.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from exchange.core.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable


def schema_files() -> dict[str, bytes]:
    """Every ``.json`` file of schemas/, by its path from there, sorted. Raises schema.unsafe where there is none."""
    package = files("exchange")
    # The wheel's place first: beside an installed package, a folder schemas/ would be somebody else's.
    for folder in (package.joinpath("_data", "schemas"), package.joinpath("..", "schemas")):
        if folder.is_dir() and (found := dict(sorted(_walk(folder, "")))):
            return found
    raise LocalError("schema.unsafe", "schemas/ (missing)")


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".json"):
            yield prefix + entry.name, entry.read_bytes()
