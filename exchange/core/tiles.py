"""The audit log as static files: tiles of 256 hashes and bundles of 256 entries.

Implements docs/protocol.md section 9.2 and C2SP tlog-tiles, so that verifiers which are not ours can read it.

Rules:
1. Built and verified as a stream: one unfinished tile a level and one bundle are held, whatever the size.
2. ``verify_tiles`` goes from the signed root downwards: no entry is handed out before it is known to be
   the one that was signed, and nothing in a file decides which file is read next.
3. Every tile and bundle has one path and one length for a given size of the log.

What it does not do: read or write files (it is given a reader and hands out paths with contents), know what
an entry says (``core.audit``) or who signed the root (``core.checkpoint``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from exchange.core.errors import PeerError
from exchange.core.merkle import HASH_BYTES, Frontier, Hash, NodeHash, fold_peaks, hash_leaf, row_root, split_row

Reader: TypeAlias = Callable[[str, int], bytes]
"""``read(path, limit)``: the file at ``path``, cut after ``limit`` + 1 bytes; ``PeerError`` where it is missing."""

TILE_WIDTH: Final = 256
MAX_ENTRY_BYTES: Final = 65_535  # tlog-tiles: the length has 16 bits
MAX_BUNDLE_BYTES: Final = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)

_LENGTH_BYTES: Final = 2
_TILE_BITS: Final = 8


def _numbered(index: int, width: int) -> str:
    """A tile's number as path elements of three digits, all but the last marked x; partial ones tell their width."""
    text = str(index)
    text = text.zfill(-(-len(text) // 3) * 3)
    parts = [text[at : at + 3] for at in range(0, len(text), 3)]
    path = "/".join([f"x{part}" for part in parts[:-1]] + parts[-1:])
    return path if width == TILE_WIDTH else f"{path}.p/{width}"


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """Where a tile of hashes lies, for example ``tile/0/x001/x234/067`` or ``tile/1/000.p/17``."""
    return f"tile/{level}/{_numbered(index, width)}"


def bundle_path(index: int, width: int = TILE_WIDTH) -> str:
    """Where a bundle of entries lies, for example ``tile/entries/000.p/5``."""
    return f"tile/entries/{_numbered(index, width)}"


def edge_tiles(size: int) -> list[tuple[int, int, int]]:
    """(level, index, width) of the last tile of each level from 0 upwards; a width of 0 says that no partial one is."""
    count = size
    edge: list[tuple[int, int, int]] = []
    while count:
        edge.append((len(edge), count >> _TILE_BITS, count % TILE_WIDTH))
        count >>= _TILE_BITS
    return edge


_TILE_PATH: Final = re.compile(
    r"tile/(?:entries|(?P<level>0|[1-9][0-9]?))/(?P<number>(?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)


def is_tile_of(path: str, size: int) -> bool:
    """Whether ``path`` names a tile or bundle of the tree of ``size`` leaves, written in the one way there is."""
    match = _TILE_PATH.fullmatch(path)
    if not match:
        return False
    level = int(match["level"] or 0)
    index = int(match["number"].replace("x", "").replace("/", ""))
    width = int(match["width"] or TILE_WIDTH)
    count = (size >> (_TILE_BITS * level)) - index * TILE_WIDTH
    wanted = bundle_path(index, width) if match["level"] is None else tile_path(level, index, width)
    return path == wanted and width == min(count, TILE_WIDTH)


class TileBuilder:
    """Cuts a stream of entries into tiles and bundles; holds one unfinished tile a level and one bundle."""

    def __init__(self) -> None:
        self.size = 0
        self._rows: list[bytearray] = []
        self._bundle = bytearray()

    def feed(self, entries: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
        """Take entries of at most 65,535 bytes; yields (path, content) of each tile and bundle as it fills."""
        for entry in entries:
            self._bundle += len(entry).to_bytes(_LENGTH_BYTES, "big") + entry
            self.size += 1
            full = self.size % TILE_WIDTH == 0
            if full:
                yield bundle_path(self.size // TILE_WIDTH - 1), bytes(self._bundle)
                self._bundle.clear()
            yield from self._push(0, hash_leaf(entry))

    def _push(self, level: int, node: Hash) -> Iterator[tuple[str, bytes]]:
        if level == len(self._rows):
            self._rows.append(bytearray())
        row = self._rows[level]
        row += node
        if len(row) == TILE_WIDTH * HASH_BYTES:
            tile = bytes(row)
            row.clear()
            yield tile_path(level, (self.size >> _TILE_BITS * (level + 1)) - 1), tile
            yield from self._push(level + 1, row_root(tile))

    def finish(self) -> Iterator[tuple[str, bytes]]:
        """Yields the partial tiles and the partial bundle."""
        for level, index, width in edge_tiles(self.size):
            if width:
                yield tile_path(level, index, width), bytes(self._rows[level])
        if self._bundle:
            yield bundle_path(self.size // TILE_WIDTH, self.size % TILE_WIDTH), bytes(self._bundle)

    def root(self) -> Hash:
        """The root over every entry fed so far."""
        return _edge_root([bytes(row) for row in self._rows])


def _edge_root(rows: Sequence[bytes]) -> Hash:
    """The root from the partial tile of each level, lowest first: together they hold the whole right edge."""
    return fold_peaks([peak for row in reversed(rows) for peak in Frontier().extend(split_row(row)).hashes])


def _fetch_tile(read: Reader, level: int, index: int, width: int) -> bytes:
    path = tile_path(level, index, width)
    tile = read(path, width * HASH_BYTES)
    if len(tile) != width * HASH_BYTES:
        raise PeerError("audit.bad_tile", path)
    return tile


def parse_bundle(data: bytes, width: int, where: str) -> list[bytes]:
    """Split a bundle into exactly ``width`` entries. Raises audit.bad_tile."""
    entries, at = [], 0
    for _ in range(width):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(data[at:start], "big")
        entries.append(data[start:at])
    if at != len(data):  # past the end, too, from where ``at`` never comes back
        raise PeerError("audit.bad_tile", where)
    return entries


def verify_tiles(read: Reader, size: int, root: Hash) -> Iterator[list[bytes]]:
    """Yields all entries in order, a bundle of at most 256 at a time, each after it was led back to ``root``.

    Reads every tile and bundle once. Raises audit.bad_tile (form), audit.root (a tile), audit.altered (an
    entry), and whatever ``read`` raises.
    """
    edge = [
        (level, index, _fetch_tile(read, level, index, width) if width else b"")
        for level, index, width in edge_tiles(size)
    ]
    if _edge_root([row for _, _, row in edge]) != root:
        raise PeerError("audit.root", "hashes at the edge")
    for level, index, row in reversed(edge):
        if row:
            yield from _entries_below(read, level, index, row)


def _entries_below(read: Reader, level: int, index: int, row: bytes) -> Iterator[list[bytes]]:
    """All entries below a tile that is known to be right."""
    width = len(row) // HASH_BYTES
    if not level:
        path = bundle_path(index, width)
        entries = parse_bundle(read(path, MAX_BUNDLE_BYTES), width, path)
        for place, (entry, known) in enumerate(zip(entries, split_row(row), strict=True)):
            if hash_leaf(entry) != known:
                raise PeerError("audit.altered", f"entry {index * TILE_WIDTH + place}")
        yield entries
        return
    for place, known in enumerate(split_row(row)):
        child = index * TILE_WIDTH + place
        tile = _fetch_tile(read, level - 1, child, TILE_WIDTH)
        if row_root(tile) != known:
            raise PeerError("audit.root", tile_path(level - 1, child))
        yield from _entries_below(read, level - 1, child, tile)


def tile_nodes(read: Reader, size: int) -> NodeHash:
    """A ``NodeHash`` for the proofs, from the tiles of a tree of ``size`` leaves; not checked against its root."""

    def node_hash(level: int, index: int) -> Hash:
        tile_level, height = divmod(level, _TILE_BITS)
        tile, place = divmod(index << height, TILE_WIDTH)
        width = min((size >> _TILE_BITS * tile_level) - tile * TILE_WIDTH, TILE_WIDTH)
        row = _fetch_tile(read, tile_level, tile, width)
        return row_root(row[place * HASH_BYTES : (place + (1 << height)) * HASH_BYTES])

    return node_hash
