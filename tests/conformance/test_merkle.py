"""The proofs of other people's logs: the test data of transparency-dev/merkle."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from exchange.core.errors import PeerError
from exchange.core.merkle import Hash, verify_consistency, verify_inclusion
from tests.places import conformance_folder

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = conformance_folder()
INCLUSION = sorted((FOLDER / "merkle/testdata/inclusion").rglob("*.json")) if FOLDER else []
CONSISTENCY = sorted((FOLDER / "merkle/testdata/consistency").rglob("*.json")) if FOLDER else []


def hash_of(text: str | None) -> Hash:
    return Hash(base64.b64decode(text or ""))


def proof_of(case: dict[str, Any]) -> list[bytes]:
    return [hash_of(text) for text in case["proof"] or []]


def name_of(path: Path) -> str:
    return "/".join(path.parts[-3:])


def test_the_suite_is_there(conformance: Path) -> None:
    """The suite holds as many files as it did when this was written."""
    assert (len(INCLUSION), len(CONSISTENCY)) == (98, 98)
    assert all(path.is_relative_to(conformance) for path in INCLUSION + CONSISTENCY)


def is_included(case: dict[str, Any]) -> bool:
    leaf, root = hash_of(case["leafHash"]), hash_of(case["root"])
    try:
        verify_inclusion(leaf, case["leafIdx"], case["treeSize"], proof_of(case), root)
    except PeerError as error:
        return error.code != "audit.bad_proof"
    return True


def is_continued(case: dict[str, Any]) -> bool:
    old, new = hash_of(case["root1"]), hash_of(case["root2"])
    try:
        verify_consistency(case["size1"], case["size2"], old, new, proof_of(case))
    except PeerError as error:
        return error.code != "audit.bad_proof"
    return True


@pytest.mark.parametrize("path", INCLUSION, ids=name_of)
def test_inclusion(path: Path) -> None:
    """An inclusion proof is accepted or refused as the suite says."""
    case = json.loads(path.read_bytes())
    assert is_included(case) != case["wantErr"]


@pytest.mark.parametrize("path", CONSISTENCY, ids=name_of)
def test_consistency(path: Path) -> None:
    """A consistency proof is accepted or refused as the suite says."""
    case = json.loads(path.read_bytes())
    assert is_continued(case) != case["wantErr"]


@pytest.mark.usefixtures("conformance")
def test_both_verdicts_occur() -> None:
    """The suite has proofs of both kinds, so that neither a yes nor a no to everything passes."""
    for paths in (INCLUSION, CONSISTENCY):
        assert {json.loads(path.read_bytes())["wantErr"] for path in paths} == {True, False}
