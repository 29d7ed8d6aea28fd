"""The Merkle tree of the audit log: append, prove, verify.

Implements docs/protocol.md section 9.2; RFC 6962 section 2.1 (the tree, SHA-256), RFC 9162 sections 2.1.3
and 2.1.4 (checking proofs).

Rules:
1. A leaf and an inner node are hashed under different first bytes, and every hash taken from outside has
   32 bytes: no tree can be read as another one.
2. A log in use needs its ``Frontier`` alone: at most 64 hashes, whatever its size.
3. Whatever does not lead to the root is one refusal; a proof is never repaired.

A node of the tree is (level, index): the subtree over the leaves index * 2**level to (index + 1) * 2**level.

What it does not do: keep the tree (``core.tiles``), know what a leaf says (``core.audit``) or who signed the
root (``core.checkpoint``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NewType, TypeAlias

from exchange.core.errors import IntegrityError, PeerError

Hash = NewType("Hash", bytes)
NodeHash: TypeAlias = Callable[[int, int], Hash]

HASH_BYTES: Final = 32
MAX_SIZE: Final = 2**53 - 1  # what every JSON reader counts alike; 100,000 entries a second for 2,800 years
EMPTY_ROOT: Final = Hash(sha256(b"").digest())

_SIZE_BYTES: Final = 8


def hash_leaf(data: bytes) -> Hash:
    """Leaf hash: SHA-256(0x00 || data)."""
    return Hash(sha256(b"\x00" + data).digest())


def hash_children(left: bytes, right: bytes) -> Hash:
    """Inner node: SHA-256(0x01 || left || right)."""
    return Hash(sha256(b"\x01" + left + right).digest())


def parse_hash(data: bytes, where: str) -> Hash:
    """Take 32 bytes from outside as a hash. Raises audit.bad_proof."""
    if len(data) != HASH_BYTES:
        raise PeerError("audit.bad_proof", where)
    return Hash(data)


def fold_peaks(peaks: Sequence[Hash]) -> Hash:
    """The root over complete subtrees that stand side by side, the largest first (RFC 6962 2.1)."""
    if not peaks:
        return EMPTY_ROOT
    node = peaks[-1]
    for left in reversed(peaks[:-1]):
        node = hash_children(left, node)
    return node


def row_root(row: bytes) -> Hash:
    """The root over a row of 1, 2, 4, ... hashes written one after the other."""
    while len(row) > HASH_BYTES:
        row = b"".join([sha256(b"\x01" + row[at : at + 64]).digest() for at in range(0, len(row), 64)])
    return Hash(row)


# -- appending -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of a tree: all that appending and the root need.

    ``hashes`` holds the root of one complete subtree for each 1 in the binary form of ``size``, largest first.
    """

    size: int = 0
    hashes: tuple[Hash, ...] = ()

    def append(self, leaf_hash: Hash) -> Frontier:
        """The edge after one more leaf."""
        return self.extend((leaf_hash,))

    def extend(self, leaf_hashes: Iterable[Hash]) -> Frontier:
        """The edge after more leaves: two hashes a leaf or fewer, on average one."""
        size, peaks = self.size, list(self.hashes)
        for leaf in leaf_hashes:
            node, carry = leaf, size
            while carry & 1:
                node = hash_children(peaks.pop(), node)
                carry >>= 1
            peaks.append(node)
            size += 1
        return Frontier(size, tuple(peaks))

    def root(self) -> Hash:
        """The Merkle tree hash; of no leaves, the hash of nothing (RFC 6962 2.1)."""
        return fold_peaks(self.hashes)

    def encode(self) -> bytes:
        """Eight bytes of size (big endian), then the hashes: what the store keeps in one row."""
        return self.size.to_bytes(_SIZE_BYTES, "big") + b"".join(self.hashes)


def restore_frontier(data: bytes) -> Frontier:
    """The inverse of ``Frontier.encode``, for a node's own row. Raises ``IntegrityError`` store.corrupt."""
    size = int.from_bytes(data[:_SIZE_BYTES], "big")
    if size > MAX_SIZE or len(data) != _SIZE_BYTES + HASH_BYTES * size.bit_count():
        raise IntegrityError("store.corrupt", "frontier of the log")
    return Frontier(size, split_row(data[_SIZE_BYTES:]))


def split_row(row: bytes) -> tuple[Hash, ...]:
    """The hashes of a row, each 32 bytes."""
    return tuple(Hash(row[at : at + HASH_BYTES]) for at in range(0, len(row), HASH_BYTES))


# -- proofs ----------------------------------------------------------------------------------------


def _range_root(node_hash: NodeHash, start: int, end: int) -> Hash:
    """MTH(D[start:end]), where ``start`` is a multiple of every power of two up to ``end`` - ``start``."""
    peaks = []
    while start < end:
        level = (end - start).bit_length() - 1
        peaks.append(node_hash(level, start >> level))
        start += 1 << level
    return fold_peaks(peaks)


def _middle(start: int, end: int) -> int:
    """Where RFC 6962 splits a range: after the largest power of two smaller than its length."""
    return start + (1 << ((end - start - 1).bit_length() - 1))


def prove_inclusion(index: int, size: int, node_hash: NodeHash) -> tuple[Hash, ...]:
    """The audit path of leaf ``index`` in the tree of ``size`` leaves, from the leaf upwards (RFC 6962 2.1.1).

    ``node_hash(level, index)`` is asked for complete subtrees inside ``size`` only. Raises audit.no_entry.
    """
    if not 0 <= index < size:
        raise PeerError("audit.no_entry", f"entry {index} of {size}")
    path: list[Hash] = []
    start, end = 0, size
    while end - start > 1:
        middle = _middle(start, end)
        if index < middle:
            path.append(_range_root(node_hash, middle, end))
            end = middle
        else:
            path.append(_range_root(node_hash, start, middle))
            start = middle
    return tuple(reversed(path))


def prove_consistency(old: int, new: int, node_hash: NodeHash) -> tuple[Hash, ...]:
    """The proof that the tree of ``new`` leaves continues that of ``old`` (RFC 6962 2.1.2).

    Raises audit.no_entry unless 0 < old <= new: everything continues the empty tree, so that proves nothing.
    """
    if not 0 < old <= new:
        raise PeerError("audit.no_entry", f"size {old} of {new}")
    path: list[Hash] = []
    start, end = 0, new
    while end != old:
        middle = _middle(start, end)
        if old <= middle:
            path.append(_range_root(node_hash, middle, end))
            end = middle
        else:
            path.append(_range_root(node_hash, start, middle))
            start = middle
    if start:  # else the verifier knows this node: it is the old root
        path.append(_range_root(node_hash, start, end))
    return tuple(reversed(path))


def _climb(first: int, last: int) -> tuple[int, int]:
    """Go up where a node at the right edge has no sibling to its right."""
    while first and not first & 1:
        first, last = first >> 1, last >> 1
    return first, last


def verify_inclusion(leaf_hash: Hash, index: int, size: int, proof: Sequence[bytes], root: Hash) -> None:
    """Check an audit path (RFC 9162 2.1.3.2). Raises audit.bad_proof."""
    if not 0 <= index < size:
        raise PeerError("audit.bad_proof", "index")
    first, last = index, size - 1
    node = parse_hash(leaf_hash, "leaf hash")
    for sibling in proof:
        other = parse_hash(sibling, "path")
        if not last:
            raise PeerError("audit.bad_proof", "path length")
        if first & 1 or first == last:
            node = hash_children(other, node)
            first, last = _climb(first, last)
        else:
            node = hash_children(node, other)
        first, last = first >> 1, last >> 1
    if last or node != root:
        raise PeerError("audit.bad_proof", "inclusion")


def verify_consistency(old: int, new: int, old_root: Hash, new_root: Hash, proof: Sequence[bytes]) -> None:
    """Check that one root continues another (RFC 9162 2.1.4.2). Raises audit.bad_proof."""
    if not 0 < old <= new:
        raise PeerError("audit.bad_proof", "sizes")
    if old == new:
        if proof or old_root != new_root:
            raise PeerError("audit.bad_proof", "consistency")
        return
    path = [parse_hash(node, "path") for node in proof]
    if not old & (old - 1):  # the old tree is one complete subtree: its root starts the climb and is not sent
        path.insert(0, parse_hash(old_root, "old root"))
    if not path:
        raise PeerError("audit.bad_proof", "path length")
    first, last = old - 1, new - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    was = now = path[0]
    for node in path[1:]:
        if not last:
            raise PeerError("audit.bad_proof", "path length")
        if first & 1 or first == last:
            was, now = hash_children(node, was), hash_children(node, now)
            first, last = _climb(first, last)
        else:
            now = hash_children(now, node)
        first, last = first >> 1, last >> 1
    if last or was != old_root or now != new_root:
        raise PeerError("audit.bad_proof", "consistency")
