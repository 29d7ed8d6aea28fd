"""The data files that travel with the program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exchange.adapters import files
from exchange.adapters.files import schema_files
from exchange.core.errors import LocalError
from tests.places import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def test_every_file_of_the_checkout() -> None:
    """Every JSON file below schemas/ is read, by its path from there, in one order."""
    found = schema_files()
    folder = ROOT / "schemas"
    assert list(found) == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.json"))
    assert found["header/v1.json"] == (folder / "header" / "v1.json").read_bytes()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_wheel_before_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package uses the copy inside it, whatever folder of that name lies beside it."""
    package = tmp_path / "exchange"
    write(tmp_path / "schemas" / "a.json", "beside")
    write(package / "README.md", "text")
    monkeypatch.setattr(files, "files", lambda _: package)
    assert schema_files() == {"a.json": b"beside"}
    write(package / "_data" / "schemas" / "common" / "b.json", "inside")
    write(package / "_data" / "schemas" / "README.md", "text")
    assert schema_files() == {"common/b.json": b"inside"}


def test_no_schemas_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without its schemas says so."""
    monkeypatch.setattr(files, "files", lambda _: tmp_path / "exchange")
    with pytest.raises(LocalError) as refused:
        schema_files()
    assert (refused.value.code, refused.value.where) == ("schema.unsafe", "schemas/ (missing)")
