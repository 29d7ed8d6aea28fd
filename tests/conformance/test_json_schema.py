"""The public JSON Schema test suite, held against the validator exactly as the product configures it.

Every verdict that differs belongs to one of three differences, each wanted, each counted:
1. ``remote``: a schema that refers to another document by URL does not compile. The product fetches nothing; its own
   references are in place before the validator sees a schema.
2. ``format``: formats are annotations, which the standard permits by default. No two validators agree on e-mail
   addresses or host names; our schemas use patterns, and the linter refuses the keyword.
3. ``vocabulary``: a metaschema of one's own that switches validation off is not fetched, so validation stays on, the
   safe side. Our schemas name the standard dialect, or the book is not built.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest

from exchange.core.schemas import compile_schema
from tests.places import conformance_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUITE: Final = "json-schema-2020-12/tests/draft2020-12"
FOLDER: Final = conformance_folder()
FILES: Final = sorted((FOLDER / SUITE).rglob("*.json")) if FOLDER else []
REMOTE: Final = '"http://localhost:1234/'  # where the suite pretends to serve its other documents
NO_VALIDATION: Final = "no validation: invalid number, but it still validates"


def name_of(path: Path) -> str:
    return path.as_posix().rpartition(f"{SUITE}/")[2]


def verdicts(group: dict[str, Any]) -> Iterator[bool | None]:
    """Yield, for each test of a group, whether the instance is valid; None where the schema does not compile."""
    try:
        validator = compile_schema(group["schema"])
    except ValueError:
        yield from (None for _ in group["tests"])
        return
    for test in group["tests"]:
        yield validator.is_valid(test["data"])


def difference(path: Path, group: dict[str, Any], test: dict[str, Any], verdict: bool | None) -> str | None:  # noqa: FBT001
    """Return which of the argued differences explains a verdict, None for a verdict as expected."""
    if verdict is test["valid"]:
        return None
    if verdict is None and REMOTE in json.dumps(group["schema"]):
        return "remote"
    if verdict is True and "format" in name_of(path):
        return "format"
    if verdict is False and test["description"] == NO_VALIDATION:
        return "vocabulary"
    return f"unexplained: {group['description']}: {test['description']}"


def differences(path: Path) -> list[str]:
    groups = json.loads(path.read_text(encoding="utf-8"))
    return [
        found
        for group in groups
        for test, verdict in zip(group["tests"], verdicts(group), strict=True)
        if (found := difference(path, group, test, verdict))
    ]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_verdicts_are_those_of_the_standard(path: Path) -> None:
    """Every verdict is the one that the suite expects, or one of the three differences."""
    assert set(differences(path)) <= {"remote", "format", "vocabulary"}


def test_the_suite_and_the_differences_are_as_known(conformance: Path) -> None:
    """The suite holds as many files as it did, and each difference as many verdicts."""
    assert len(FILES) == len(list((conformance / SUITE).rglob("*.json"))) == 80
    assert Counter(found for path in FILES for found in differences(path)) == {
        "remote": 45,
        "format": 390,
        "vocabulary": 1,
    }


def test_mandatory_part_differs_by_remote_documents_alone(conformance: Path) -> None:
    """Outside ``optional/``, nothing but remote documents and the foreign vocabulary tells us from the standard."""
    mandatory = [path for path in FILES if "optional" not in name_of(path)]
    assert len(mandatory) == len(list((conformance / SUITE).glob("*.json")))
    assert {found for path in mandatory for found in differences(path)} == {"remote", "vocabulary"}
