"""Tiles and bundles: what is written, what is read back, and what is noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.core.errors import PeerError
from exchange.core.merkle import (
    Frontier,
    Hash,
    hash_leaf,
    prove_consistency,
    prove_inclusion,
    verify_consistency,
    verify_inclusion,
)
from exchange.core.tiles import (
    TileBuilder,
    bundle_path,
    edge_tiles,
    is_tile_of,
    parse_bundle,
    tile_nodes,
    tile_path,
    verify_tiles,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def some_leaves(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def root_of(leaves: Sequence[bytes]) -> Hash:
    return Frontier().extend(map(hash_leaf, leaves)).root()


class Folder(dict[str, bytes]):
    """Files in memory; counts how often each is read."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        builder = TileBuilder()
        super().__init__([*builder.feed(leaves), *builder.finish()])
        assert builder.root() == root_of(leaves)
        assert builder.size == len(leaves)
        self.reads: list[str] = []

    def read(self, path: str, limit: int) -> bytes:
        self.reads.append(path)
        if path not in self:
            raise PeerError("audit.missing", path)
        return self[path][: limit + 1]

    def verify(self, leaves: Sequence[bytes]) -> list[bytes]:
        return [leaf for bundle in verify_tiles(self.read, len(leaves), root_of(leaves)) for leaf in bundle]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (tile_path(0, 1234067), "tile/0/x001/x234/067"),
        (tile_path(3, 0), "tile/3/000"),
        (tile_path(1, 999, 17), "tile/1/999.p/17"),
        (bundle_path(1000), "tile/entries/x001/000"),
        (bundle_path(273, 112), "tile/entries/273.p/112"),
    ],
)
def test_paths(path: str, expected: str) -> None:
    """A tile lies where tlog-tiles says, with the index of its example."""
    assert path == expected


def test_tiles_of_70000_entries() -> None:
    """A log of 70,000 entries has the tiles that tlog-tiles counts for it."""
    leaves = some_leaves(70_000)
    folder = Folder(leaves)
    assert len([p for p in folder if p.startswith("tile/0/") and ".p/" not in p]) == 273
    assert len(folder["tile/0/273.p/112"]) == 112 * 32
    assert len(folder["tile/1/000"]) == 8192
    assert len(folder["tile/1/001.p/17"]) == 17 * 32
    assert len(folder["tile/2/000.p/1"]) == 32
    assert len(folder) == 274 + 2 + 1 + 274
    assert folder.verify(leaves) == leaves
    assert sorted(folder.reads) == sorted(folder), "each file is read once"


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537])
def test_sizes_around_the_edges(size: int) -> None:
    """Logs that end at or beside a full tile have the tiles of their size and no others, and read back whole."""
    leaves = some_leaves(size)
    folder = Folder(leaves)
    assert folder.verify(leaves) == leaves
    assert sorted(folder.reads) == sorted(folder)
    assert all(is_tile_of(path, size) for path in folder)
    assert not any(
        is_tile_of(path, size + 1) for path in folder if path.startswith(("tile/0/", "tile/e")) and ".p/" in path
    )
    assert sum(1 for _, _, width in edge_tiles(size) if width) == sum(".p/" in p and "entries" not in p for p in folder)


def test_size_256_has_a_full_tile_and_one_hash_above() -> None:
    """A log of 256 entries has a full tile at level 0 and a partial one of width 1 at level 1."""
    assert sorted(Folder(some_leaves(256))) == ["tile/0/000", "tile/1/000.p/1", "tile/entries/000"]


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=20), max_size=600))
def test_any_entries_read_back(leaves: list[bytes]) -> None:
    """Whatever bytes were logged are handed out again in order, the empty entry too."""
    assert Folder(leaves).verify(leaves) == leaves


def test_feeding_in_parts() -> None:
    """Entries fed in several parts give the same files as at once."""
    leaves = some_leaves(700)
    builder = TileBuilder()
    files = [*builder.feed(leaves[:3]), *builder.feed([]), *builder.feed(leaves[3:600]), *builder.feed(leaves[600:])]
    assert dict([*files, *builder.finish()]) == dict(Folder(leaves))


def test_entry_of_16_bits() -> None:
    """An entry of 65,535 bytes fits and a longer one is a fault of the program."""
    assert Folder([bytes(65_535)]).verify([bytes(65_535)]) == [bytes(65_535)]
    with pytest.raises(OverflowError):
        Folder([bytes(65_536)])


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/000",
        "tile/0/001.p/43",
        "tile/0/001.p/45",
        "tile/0/001.p/256",
        "tile/0/002.p/44",
        "tile/0/x000/001.p/44",
        "tile/00/001.p/44",
        "tile/1/000.p/2",
        "tile/1/000",
        "tile/2/000.p/1",
        "tile/entries/001",
        "tile/entries/001.p/044",
        "tile/entries/../0/000",
        "tile/0/001.p/44/x",
        "tile/0/٠٠١.p/44",
        "checkpoint",
        "",
    ],
)
def test_what_is_no_tile_of_a_log(path: str) -> None:
    """Of a log of 300 entries only its own tiles count, each written in one way."""
    own = {"tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/44"}
    assert all(is_tile_of(name, 300) for name in own)
    assert is_tile_of(path, 300) == (path in own)


def test_parse_bundle() -> None:
    """A bundle splits into its entries, and a wrong length anywhere is refused."""
    data = b"\0\x01a\0\0\0\x02bc"
    assert parse_bundle(data, 3, "f") == [b"a", b"", b"bc"]
    for wrong, width in ((data, 2), (data, 4), (data[:-1], 3), (data + b"\0", 3), (data + b"\0", 4), (b"", 1)):
        with pytest.raises(PeerError, match=r"audit\.bad_tile.*\(f\)"):
            parse_bundle(wrong, width, "f")


def faults_of(folder: Folder, leaves: Sequence[bytes]) -> str | None:
    try:
        folder.verify(leaves)
    except PeerError as error:
        return f"{error.code} {error.where}"
    return None


def test_flipped_bytes_are_noticed() -> None:
    """A log of 300 entries with one byte changed is refused, and the place is named."""
    leaves = some_leaves(300)
    folder = Folder(leaves)
    for path, content in dict(folder).items():
        for at in range(0, len(content), 41):
            folder[path] = content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :]
            fault = faults_of(folder, leaves)
            folder[path] = content
            assert fault is not None
            assert fault.startswith(("audit.altered entry", "audit.root", f"audit.bad_tile {path}")), fault


def test_where_an_altered_log_is_altered() -> None:
    """The report names the entry, the tile or the edge that was altered."""
    leaves = some_leaves(66_000)
    folder = Folder(leaves)
    honest = dict(folder)
    folder["tile/entries/003"] = honest["tile/entries/003"].replace(b"770", b"771")
    assert faults_of(folder, leaves) == "audit.altered entry 770"
    folder.update(honest)
    folder["tile/0/005"] = honest["tile/0/006"]
    assert faults_of(folder, leaves) == "audit.root tile/0/005"
    folder.update(honest)
    folder["tile/1/000"] = honest["tile/0/006"]
    assert faults_of(folder, leaves) == "audit.root tile/1/000"
    folder.update(honest)
    folder["tile/2/000.p/1"] = bytes(32)
    assert faults_of(folder, leaves) == "audit.root hashes at the edge"


def test_missing_cut_and_grown_files() -> None:
    """A file that is missing, too short or too long is refused by name."""
    leaves = some_leaves(300)
    for path in Folder(leaves):
        for content in (None, b"", -1, 1):
            bad = Folder(leaves)
            if content is None:
                del bad[path]
            elif isinstance(content, bytes):
                bad[path] = content
            else:
                bad[path] = bad[path][:-1] if content < 0 else bad[path] + b"\0"
            assert faults_of(bad, leaves) == f"audit.{'missing' if content is None else 'bad_tile'} {path}"


def test_no_entry_is_handed_out_before_it_is_known_to_be_right() -> None:
    """From a log whose last entry was altered, the bundles before it come out and that one does not."""
    leaves = some_leaves(300)
    folder = Folder(leaves)
    folder["tile/entries/001.p/44"] = folder["tile/entries/001.p/44"].replace(b"299", b"999")
    stream = verify_tiles(folder.read, 300, root_of(leaves))
    assert next(stream) == leaves[:256]
    with pytest.raises(PeerError, match=r"audit\.altered"):
        next(stream)


@pytest.mark.parametrize("size", [1, 2, 255, 256, 300, 65_536, 66_001])
def test_proofs_from_tiles(size: int) -> None:
    """Proofs made from the tiles alone verify against the root."""
    leaves = some_leaves(size)
    node_hash = tile_nodes(Folder(leaves).read, size)
    root = root_of(leaves)
    for index in {0, size // 3, size // 2, size - 1}:
        verify_inclusion(hash_leaf(leaves[index]), index, size, prove_inclusion(index, size, node_hash), root)
    for old in {1, size // 2 + 1, size}:
        verify_consistency(old, size, root_of(leaves[:old]), root, prove_consistency(old, size, node_hash))
