"""What users read: nothing that moves the cursor, nothing that hides, one form for errors."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Final

import pytest

from exchange.cli import output
from exchange.cli.reading import tree
from exchange.cli.settings import Settings
from exchange.core.errors import IntegrityError, LocalError, PeerError

if TYPE_CHECKING:
    from exchange.core.errors import ExchangeError

NASTY = "\x1b]0;owned\x07name\x9b31m\u202egnp.exe\u2066\u200bend\r"


def test_foreign_text_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences, C1 controls and characters that turn or hide text are replaced wherever people read."""
    output.line(NASTY)
    output.note(NASTY)
    output.pairs([("name", NASTY)])
    output.table(["name"], [[NASTY]])
    tree({"a": NASTY, "b": [{"text": NASTY, "lang": "en"}]})
    said = capsys.readouterr()
    assert not set(NASTY[:1] + "\x07\x9b\r\u202e\u2066\u200b") & set(said.out + said.err)
    assert "name" in said.out


def test_text_cannot_pass_for_another_member(capsys: pytest.CaptureFixture[str]) -> None:
    """The further lines of a foreign text are marked and stand below it, never where members begin."""
    forged = "TH-1\nstatus: answered\n\nclause: art-1"
    output.pairs([("case", forged)])
    tree({"summary": {"text": forged, "lang": "en"}, "a": {"name": forged, "list": [forged]}})
    lines = capsys.readouterr().out.splitlines()
    marked = [line for line in lines if line.lstrip().startswith("|")]
    assert len(marked) == 12
    assert not [line for line in lines if line.startswith(("status", "clause", "  status", "  clause"))]


def test_text_in_six_scripts_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Khmer, Chinese, Lao, Burmese, Thai and Vietnamese pass unchanged."""
    text = "ប្រឌិត 虚构 ປະດິດ စိတ်ကူးယဉ် สมมติ hư cấu"
    output.line(text)
    assert capsys.readouterr().out == text + "\n"


def test_json_is_safe_on_a_terminal_and_exact(capsys: pytest.CaptureFixture[str]) -> None:
    """What a terminal would obey is escaped in JSON, and the value read back is the same."""
    output.emit_json(Settings(network="training-x"), {"text": NASTY})
    out = capsys.readouterr().out
    assert not set("\x1b\x07\x9b\u202e\u2066") & set(out)
    assert json.loads(out) == {"text": NASTY, "network": "training-x", "training": True}


def test_tree_shows_values_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Members are shown one a line, lists of words in one, texts with their language, yes and no as words."""
    tree({"a": True, "b": ["x", "y"], "c": {"d": None}, "e": [[1, 2], {"f": False}], "g": {"text": "t", "lang": "km"}})
    assert capsys.readouterr().out.splitlines() == [
        "a: yes", "b: x, y", "c:", "  d: ", "e:", "  1: 1, 2", "  2:", "    f: no", "g: t [km]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "code"),
    [(PeerError("card.unknown", "LA"), 1), (LocalError("node.disk"), 3), (IntegrityError("store.corrupt"), 4)],
)
def test_exit_code_is_that_of_the_fault(capsys: pytest.CaptureFixture[str], error: ExchangeError, code: int) -> None:
    """The answer no, local trouble and contradiction in the store have each their exit code; all show a remedy."""
    said = Settings(network="training-x", as_json=True)
    assert output.fail(said, error) == code
    printed = capsys.readouterr()
    assert printed.err.startswith("TRAINING network training-x")
    assert f"{error.code}: {error.what}" in printed.err
    assert json.loads(printed.out)["error"] == {
        "code": error.code, "what": error.what, "where": error.where, "clause": None, "remedy": error.remedy,
    }  # fmt: skip


def test_real_network_is_not_called_training(capsys: pytest.CaptureFixture[str]) -> None:
    """A network that is not for training has no banner, and its JSON says so."""
    output.banner(Settings(network="mekong"))
    output.emit_json(Settings(network="mekong"), {})
    output.emit_json(Settings(), {})
    assert capsys.readouterr().out == '{"network": "mekong", "training": false}\n{}\n'


ROW: Final = (
    "0123456789abcdef" * 2,
    "kh-fp1",
    "accepted",
    "2026-11-23T04:55:25Z",
    "case-referral",
    "TH-EXAMPLE-2026/0001",
)
COLUMNS: Final = ("id", "to", "status", "time", "kind", "case")


@pytest.mark.parametrize("columns", [100, 90, 79, 60, 40])
@pytest.mark.parametrize("status", ["accepted", "refused (agreement.not_in_force)"])
def test_ids_and_times_are_never_folded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int, status: str
) -> None:
    """Ids, nodes, states, times and codes stand whole on a line of every screen; only the last column is folded."""
    monkeypatch.setenv("COLUMNS", str(columns))
    row = [*ROW[:2], status, *ROW[3:]]
    output.table(COLUMNS, [row, row])
    out = capsys.readouterr().out
    assert [out.count(cell) for cell in row[:5]] == [2] * 5
    assert max(map(len, out.splitlines())) <= columns
    assert "TH-EXAMPLE-" in out


def test_table_that_has_room_is_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """At the usual width each row begins with its id and has everything else beside it; below it rows are records."""
    output.table(COLUMNS, [ROW])
    header, first, *_ = capsys.readouterr().out.splitlines()
    assert header.split() == [*COLUMNS]
    assert first.split()[:5] == [*ROW[:5]]
    monkeypatch.setenv("COLUMNS", "60")
    output.table(COLUMNS, [ROW])
    assert capsys.readouterr().out.splitlines() == [
        f"{ROW[0]}  to kh-fp1  accepted", "  2026-11-23T04:55:25Z  case-referral", "    case: TH-EXAMPLE-2026/0001",
    ]  # fmt: skip


def test_fingerprint_is_in_groups_of_four() -> None:
    """A fingerprint is sixteen groups of four digits in two lines."""
    text = output.fingerprint("0123456789abcdef" * 4)
    assert text.splitlines() == ["0123 4567 89ab cdef 0123 4567 89ab cdef"] * 2


def test_long_values_are_wrapped_below_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    """A long value goes on below its beginning, and no line is wider than the screen."""
    output.pairs([("what", "word " * 60), ("empty", "")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1
    assert all(line.startswith("      word") for line in lines[1:])
    assert max(map(len, lines)) <= output.WIDTH


def test_streams_that_cannot_write_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output is UTF-8 whatever the locale says."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    output.prepare_streams()
    sys.stdout.write("ប្រឌិត")
    sys.stdout.flush()
    assert raw.getvalue().decode() == "ប្រឌិត"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (["a", 1], "a, 1"), ({"km": "ក", "en": "k"}, "k"), ({"km": "ក"}, "ក"), ({}, ""), (3, "3")],
)
def test_value_as_one_cell(monkeypatch: pytest.MonkeyPatch, value: object, shown: str) -> None:
    """Lists are joined, texts by language are shown in English where there is one."""
    for name in output.LANGUAGE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert output.text_of(value) == shown  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ({"LANG": "km_KH.UTF-8"}, "ក"),
        ({"LANG": "en_GB.UTF-8", "LC_MESSAGES": "km"}, "ក"),
        ({"LANG": "km_KH", "LC_ALL": "C.UTF-8"}, "k"),
        ({"LANG": "zh_TW@stroke"}, "字"),
        ({"LANG": "lo_LA.UTF-8"}, "k"),
    ],
)
def test_text_in_the_readers_language(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], shown: str) -> None:
    """Of an agreement's languages the reader's is shown, the first variable that is set says which, else English."""
    for name in output.LANGUAGE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert output.text_of({"km": "ក", "en": "k", "zh-TW": "字"}) == shown
