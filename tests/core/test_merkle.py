"""The Merkle tree against its definition in RFC 6962, written down as it stands there."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.errors import IntegrityError, PeerError
from exchange.core.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    MAX_SIZE,
    Frontier,
    Hash,
    hash_leaf,
    prove_consistency,
    prove_inclusion,
    restore_frontier,
    verify_consistency,
    verify_inclusion,
)


def tree_hash(leaves: list[bytes]) -> Hash:
    """MTH of RFC 6962 section 2.1."""
    if not leaves:
        return Hash(sha256(b"").digest())
    if len(leaves) == 1:
        return Hash(sha256(b"\x00" + leaves[0]).digest())
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return Hash(sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest())


def audit_path(index: int, leaves: list[bytes]) -> tuple[Hash, ...]:
    """PATH of RFC 6962 section 2.1.1."""
    if len(leaves) == 1:
        return ()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if index < k:
        return (*audit_path(index, leaves[:k]), tree_hash(leaves[k:]))
    return (*audit_path(index - k, leaves[k:]), tree_hash(leaves[:k]))


def some_leaves(count: int) -> list[bytes]:
    return [b"leaf %d" % number for number in range(count)]


class Tree:
    """A tree of leaves in memory; its nodes are counted as they are asked for."""

    def __init__(self, count: int) -> None:
        self.leaves = some_leaves(count)
        self.asked = 0

    def node(self, level: int, index: int) -> Hash:
        self.asked += 1
        start, end = index << level, (index + 1) << level
        assert end <= len(self.leaves), "only complete subtrees exist"
        return tree_hash(self.leaves[start:end])

    def root(self, size: int) -> Hash:
        return tree_hash(self.leaves[:size])


sizes = st.integers(1, 70)


@given(st.lists(st.binary(max_size=8), max_size=70), st.integers(0, 70))
def test_frontier_is_the_tree_of_the_definition(leaves: list[bytes], cut: int) -> None:
    """Appending one by one, all at once or in two parts gives the root of the definition."""
    hashes = [hash_leaf(leaf) for leaf in leaves]
    one_by_one = Frontier()
    for leaf_hash in hashes:
        one_by_one = one_by_one.append(leaf_hash)
    in_parts = Frontier().extend(hashes[:cut]).extend(hashes[cut:])
    assert one_by_one == in_parts == Frontier().extend(hashes)
    assert one_by_one.root() == tree_hash(leaves)
    assert one_by_one.size == len(leaves)
    assert len(one_by_one.hashes) == len(leaves).bit_count()


def test_empty_tree() -> None:
    """The root of no leaves is the hash of nothing."""
    assert Frontier().root() == EMPTY_ROOT == tree_hash([])


def test_a_leaf_is_not_a_node() -> None:
    """Two hashes written one after the other, taken as a leaf, do not hash to their parent."""
    left, right = hash_leaf(b"l"), hash_leaf(b"r")
    assert Frontier().extend([left, right]).root() != hash_leaf(left + right)


@given(st.integers(0, 300))
def test_frontier_survives_its_row(size: int) -> None:
    """A frontier reads back from its bytes and goes on as if nothing had happened."""
    frontier = Frontier().extend(hash_leaf(leaf) for leaf in some_leaves(size))
    restored = restore_frontier(frontier.encode())
    assert restored == frontier
    assert restored.append(hash_leaf(b"next")).root() == tree_hash([*some_leaves(size), b"next"])


def test_exact_bytes_of_a_frontier() -> None:
    """The row of a frontier is its size in eight bytes and one hash for each 1 in it, up to the largest size."""
    a, b, c = (hash_leaf(leaf) for leaf in (b"a", b"b", b"c"))
    assert Frontier().extend([a, b, c]).encode() == bytes(7) + b"\x03" + tree_hash([b"a", b"b"]) + c
    largest = MAX_SIZE.to_bytes(8, "big") + bytes(HASH_BYTES) * 53
    assert restore_frontier(largest).encode() == largest


@pytest.mark.parametrize(
    "row",
    [
        b"",
        b"\x01",
        bytes(7),
        Frontier().extend([hash_leaf(b"a")]).encode()[:-1],
        Frontier().extend([hash_leaf(b"a")]).encode() + b"\0",
        bytes(7) + b"\x03" + bytes(HASH_BYTES),
        (MAX_SIZE + 1).to_bytes(8, "big") + bytes(HASH_BYTES),
    ],
)
def test_damaged_row_stops_the_node(row: bytes) -> None:
    """A frontier whose bytes cannot be one is a damaged record."""
    with pytest.raises(IntegrityError, match=r"store\.corrupt"):
        restore_frontier(row)


@given(sizes, st.data())
def test_inclusion_proofs_are_those_of_the_definition(size: int, data: st.DataObject) -> None:
    """The audit path of every leaf is PATH of RFC 6962, verifies, and needs few nodes."""
    index = data.draw(st.integers(0, size - 1))
    tree = Tree(size)
    proof = prove_inclusion(index, size, tree.node)
    assert proof == audit_path(index, tree.leaves)
    assert tree.asked <= 2 * size.bit_length()
    verify_inclusion(hash_leaf(tree.leaves[index]), index, size, proof, tree.root(size))


@given(sizes, st.data())
def test_consistency_proofs_verify(size: int, data: st.DataObject) -> None:
    """A tree is proved to continue each of its earlier sizes."""
    old = data.draw(st.integers(1, size))
    tree = Tree(size)
    proof = prove_consistency(old, size, tree.node)
    assert len(proof) <= size.bit_length() + 1
    verify_consistency(old, size, tree.root(old), tree.root(size), proof)


def test_rfc_9162_example() -> None:
    """The consistency proofs of the seven-leaf example in RFC 9162 section 2.1.5 have the nodes named there."""
    tree = Tree(7)
    leaves = tree.leaves
    c, d, g, h = tree_hash(leaves[2:3]), tree_hash(leaves[3:4]), tree_hash(leaves[0:2]), tree_hash(leaves[2:4])
    i, j, k, whole = tree_hash(leaves[4:6]), tree_hash(leaves[6:7]), tree_hash(leaves[0:4]), tree_hash(leaves[4:7])
    assert prove_consistency(3, 7, tree.node) == (c, d, g, whole)
    assert prove_consistency(4, 7, tree.node) == (whole,)
    assert prove_consistency(6, 7, tree.node) == (i, j, k)
    assert prove_inclusion(0, 7, tree.node) == (tree_hash(leaves[1:2]), h, whole)
    assert prove_inclusion(6, 7, tree.node) == (i, k)


@st.composite
def broken_proofs(draw: st.DrawFn, proof: tuple[Hash, ...]) -> list[bytes]:
    """A proof with one thing changed: a bit, a missing, added or swapped hash, or a hash of odd length."""
    broken: list[bytes] = list(proof)
    ways = ["add", "bit", "drop", "cut", "grow", "swap"] if proof else ["add"]
    way = draw(st.sampled_from(ways))
    at = draw(st.integers(0, max(len(proof) - 1, 0)))
    if way == "add":
        broken.insert(draw(st.integers(0, len(proof))), draw(st.sampled_from([*proof, Hash(bytes(HASH_BYTES))])))
    elif way == "bit":
        bit = draw(st.integers(0, 255))
        broken[at] = (int.from_bytes(broken[at], "big") ^ 1 << bit).to_bytes(HASH_BYTES, "big")
    elif way == "drop":
        del broken[at]
    elif way == "cut":
        broken[at] = broken[at][:-1]
    elif way == "grow":
        broken[at] += b"\0"
    else:
        other = draw(st.integers(0, len(proof) - 1))
        broken[at], broken[other] = broken[other], broken[at]
    return broken


@given(sizes, st.data())
def test_broken_inclusion_proof_is_refused(size: int, data: st.DataObject) -> None:
    """No changed path, place, leaf or root verifies."""
    index = data.draw(st.integers(0, size - 1))
    tree = Tree(size)
    proof = prove_inclusion(index, size, tree.node)
    leaf, root = hash_leaf(tree.leaves[index]), tree.root(size)
    broken = data.draw(broken_proofs(proof))
    cases = [
        (leaf, index, size, proof, hash_leaf(b"other")),
        (hash_leaf(b"other"), index, size, proof, root),
        (Hash(leaf[:-1]), index, size, proof, root),
        (leaf, -1, size, proof, root),
        (leaf, size, size, proof, root),
    ]
    if broken != list(proof):
        cases.append((leaf, index, size, broken, root))  # type: ignore[arg-type]
    if size > 1:
        cases.append((leaf, (index + 1) % size, size, proof, root))
    for case in cases:
        with pytest.raises(PeerError, match=r"audit\.bad_proof"):
            verify_inclusion(*case)


@given(sizes, st.data())
def test_broken_consistency_proof_is_refused(size: int, data: st.DataObject) -> None:
    """No changed path or root verifies, nor sizes that cannot be."""
    old = data.draw(st.integers(1, size))
    tree = Tree(size)
    proof = prove_consistency(old, size, tree.node)
    was, now = tree.root(old), tree.root(size)
    broken = data.draw(broken_proofs(proof))
    cases: list[tuple[int, int, Hash, Hash, list[bytes]]] = [
        (old, size, hash_leaf(b"other"), now, list(proof)),
        (old, size, was, hash_leaf(b"other"), list(proof)),
        (0, size, was, now, list(proof)),
        (size + 1, size, was, now, list(proof)),
    ]
    if broken != list(proof):
        cases.append((old, size, was, now, broken))
    if old < size:
        cases += [(old, size, now, was, list(proof)), (old, size, Hash(was[:-1]), now, list(proof))]
    for case in cases:
        with pytest.raises(PeerError, match=r"audit\.bad_proof"):
            verify_consistency(*case)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 5, 6])
def test_consistency_proof_of_wrong_length(length: int) -> None:
    """A consistency proof with too few or too many hashes is refused, the empty one too."""
    tree = Tree(7)
    proof = prove_consistency(3, 7, tree.node)
    assert len(proof) == 4
    with pytest.raises(PeerError, match=r"audit\.bad_proof"):
        verify_consistency(3, 7, tree.root(3), tree.root(7), (proof * 2)[:length])


@pytest.mark.parametrize("length", [0, 1, 2, 4, 5])
def test_inclusion_proof_of_wrong_length(length: int) -> None:
    """An inclusion proof with too few or too many hashes is refused."""
    tree = Tree(7)
    proof = prove_inclusion(2, 7, tree.node)
    assert len(proof) == 3
    with pytest.raises(PeerError, match=r"audit\.bad_proof"):
        verify_inclusion(hash_leaf(tree.leaves[2]), 2, 7, (proof * 2)[:length], tree.root(7))


def test_path_of_a_larger_tree() -> None:
    """A path that leads to the root of a larger tree than the one named is refused."""
    tree = Tree(4)
    for index, size in ((0, 1), (1, 2)):
        proof = prove_inclusion(3 if index else 1, 4 if index else 2, tree.node)
        leaf, root = hash_leaf(tree.leaves[3 if index else 1]), tree.root(4 if index else 2)
        with pytest.raises(PeerError, match=r"audit\.bad_proof"):
            verify_inclusion(leaf, index, size, proof, root)


def test_consistency_of_larger_trees() -> None:
    """A proof between two trees is refused for the sizes of two smaller ones."""
    tree = Tree(8)
    with pytest.raises(PeerError, match=r"audit\.bad_proof"):
        verify_consistency(3, 4, tree.root(7), tree.root(8), prove_consistency(7, 8, tree.node))


def test_path_of_a_smaller_tree() -> None:
    """A path that leads to the root of a smaller tree than the one named is refused."""
    tree = Tree(3)
    with pytest.raises(PeerError, match=r"audit\.bad_proof"):
        verify_inclusion(hash_leaf(tree.leaves[0]), 0, 5, prove_inclusion(0, 3, tree.node), tree.root(3))
    with pytest.raises(PeerError, match=r"audit\.bad_proof"):
        verify_consistency(2, 5, tree.root(2), tree.root(3), prove_consistency(2, 3, tree.node))


def test_forked_log_has_no_proof() -> None:
    """A log whose history was rewritten after a root was given away has no proof from that root."""
    honest, forked = Tree(9), Tree(13)
    forked.leaves[4] = b"rewritten"
    for old in range(5, 10):
        proof = prove_consistency(old, 13, forked.node)
        with pytest.raises(PeerError, match=r"audit\.bad_proof"):
            verify_consistency(old, 13, honest.root(old), forked.root(13), proof)


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_no_proof_of_an_entry_that_is_not_there(index: int, size: int) -> None:
    """Asking for the proof of an entry outside the log is refused."""
    with pytest.raises(PeerError, match=r"audit\.no_entry"):
        prove_inclusion(index, size, Tree(size).node)


@pytest.mark.parametrize(("old", "new"), [(0, 3), (4, 3)])
def test_no_proof_from_nothing_or_backwards(old: int, new: int) -> None:
    """A tree cannot be proved to continue the empty tree or a larger one."""
    with pytest.raises(PeerError, match=r"audit\.no_entry"):
        prove_consistency(old, new, Tree(new).node)
