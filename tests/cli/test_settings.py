"""Where the passphrase comes from, and what is done with what people type."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import click
import pytest

from exchange.cli.settings import (
    MAX_PASSPHRASE_BYTES,
    Settings,
    passphrase_source,
    read_new_passphrase,
    read_passphrase,
)
from exchange.core.errors import LocalError
from tests.cli import homes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No passphrase is at hand."""
    monkeypatch.delenv("EXCHANGE_PASSPHRASE_FILE", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


class Typed(io.StringIO):
    """A terminal at which somebody types."""

    def isatty(self) -> bool:
        return True


def typing(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Let somebody type these lines, hidden."""
    waiting = list(lines)
    monkeypatch.setattr(sys, "stdin", Typed())
    monkeypatch.setattr(click.termui, "hidden_prompt_func", lambda _: waiting.pop(0))


def test_sources_are_asked_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option comes before the environment, that before config.toml, that before systemd, that before a prompt."""
    named = {name: tmp_path / name for name in ("option", "environment", "config", "passphrase")}
    for path in named.values():
        path.write_text(path.name)
    said, config = Settings(passphrase_file=str(named["option"])), homes.config_of("TH", 1)
    monkeypatch.setenv("EXCHANGE_PASSPHRASE_FILE", str(named["environment"]))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with_file = homes.config_of("TH", 1, passphrase_file=named["config"])
    assert read_passphrase(said, with_file) == b"option"
    said.passphrase_file = None
    assert read_passphrase(said, with_file) == b"environment"
    monkeypatch.delenv("EXCHANGE_PASSPHRASE_FILE")
    assert read_passphrase(said, with_file) == b"config"
    assert read_passphrase(said, config) == b"passphrase"
    assert passphrase_source(said, config)[0] == "systemd credential"
    named["passphrase"].unlink()
    assert passphrase_source(said, config) == ("prompt", None)


@pytest.mark.parametrize("data", [b"", b"\n", b"\nsecond", b"x" * (MAX_PASSPHRASE_BYTES + 1)])
def test_empty_file_holds_no_passphrase(tmp_path: Path, data: bytes) -> None:
    """An empty first line, and a file too long to be one, are no passphrase."""
    path = tmp_path / "p"
    path.write_bytes(data)
    with pytest.raises(LocalError) as caught:
        read_passphrase(Settings(passphrase_file=str(path)), None)
    assert caught.value.code == "input.no_passphrase"


def test_missing_file_is_told(tmp_path: Path) -> None:
    """A passphrase file that is not there is told, and nobody is asked instead."""
    with pytest.raises(LocalError) as caught:
        read_passphrase(Settings(passphrase_file=str(tmp_path / "p")), None)
    assert caught.value.code == "input.not_found"


def test_only_the_first_line_counts(tmp_path: Path) -> None:
    """A line end of either kind is not part of the passphrase."""
    path = tmp_path / "p"
    path.write_bytes(b"correct horse\r\nignored\n")
    assert read_passphrase(Settings(passphrase_file=str(path)), None) == b"correct horse"


@pytest.mark.parametrize("read", [lambda: read_passphrase(Settings(), None), lambda: read_new_passphrase(Settings())])
def test_nobody_is_asked_without_a_terminal(monkeypatch: pytest.MonkeyPatch, read: object) -> None:
    """Without a terminal and without a file there is no passphrase."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("typed\n"))
    assert callable(read)
    with pytest.raises(LocalError) as caught:
        read()
    assert caught.value.code == "input.no_passphrase"


def test_person_is_asked_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal the passphrase is typed, unseen."""
    typing(monkeypatch, "correct horse")
    assert read_passphrase(Settings(), None) == b"correct horse"


def test_new_passphrase_is_long_and_typed_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A new passphrase that is short is asked for again, and each is typed twice."""
    typing(monkeypatch, "short", "short", "correct horse battery", "correct horse battery")
    assert read_new_passphrase(Settings()) == b"correct horse battery"
    assert "too short" in capsys.readouterr().err


def test_new_passphrase_may_come_from_a_file(tmp_path: Path) -> None:
    """Whoever makes a file decides alone."""
    path = tmp_path / "p"
    path.write_bytes(b"short")
    assert read_new_passphrase(Settings(passphrase_file=str(path))) == b"short"
