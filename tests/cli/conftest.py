"""Homes that the tests of the command line share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli import homes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A screen of the same width everywhere."""
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> homes.Pair:
    """Thailand and Cambodia, linked; not to be changed."""
    pair: homes.Pair = homes.run(homes.make_pair(tmp_path_factory.mktemp("pair")))
    return pair


@pytest.fixture
def pair(made: homes.Pair, tmp_path: Path) -> homes.Pair:
    """A copy of ``made`` that the test may change; no node runs."""
    return homes.copy_pair(made, tmp_path)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> homes.Caller:
    """Runs a command in this process."""
    return homes.Caller(capsys)
