"""Decision records keep to one form and are found from the index."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.places import ROOT

if TYPE_CHECKING:
    from pathlib import Path

FOLDER: Final = ROOT / "docs" / "decisions"
RECORDS: Final = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
PARTS: Final = ["Context", "Options", "Verdict", "Consequence"]


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_record_has_the_four_parts_on_one_page(path: Path) -> None:
    """A record gives context, options, verdict and consequence, in this order, on one page."""
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == PARTS
    assert text.count("\n") <= 60


def test_index_names_every_record() -> None:
    """The index links to every record and to nothing that is absent."""
    links = re.findall(r"\]\(([^)#]+\.md)\)", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert sorted(links) == [path.name for path in RECORDS]
