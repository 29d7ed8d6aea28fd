"""The program as such: its commands, its options, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import click
import pytest

from exchange.cli.commands import COMMANDS, program
from tests.cli import homes

if TYPE_CHECKING:
    from pathlib import Path

HEAVY: Final = ("aiohttp", "cryptography", "jsonschema", "jsonschema_rs", "nacl", "rich", "structlog")
NO_NUMBER: Final = ("evidence", "get", "0" * 32, "one", "--out", "x")
OFFERED: Final = [name for name in COMMANDS if name not in {"bench", "demo"}]


def commands(group: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command and group below a group, by the words that call it."""
    found = [path]
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in OFFERED if not path else group.list_commands(context):
            inner = group.get_command(context, name)
            assert inner is not None
            found += commands(inner, (*path, name))
    return found


def test_help_lists_every_command_and_loads_nothing_heavy() -> None:
    """The list of commands comes without loading cryptography, network, schemas or tables."""
    script = (
        "import sys; from exchange.cli.main import main; code = main(['--help']); "
        f"print(code, [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("0 []\n")
    assert [name for name in COMMANDS if f"  {name} " not in done.stdout] == []


@pytest.mark.parametrize("path", commands(program), ids=" ".join)
def test_every_command_explains_itself(call: homes.Caller, path: tuple[str, ...]) -> None:
    """Every command has a help text and the three options that all have."""
    done = call(*path, "--help")
    assert done.code == 0
    assert done.out.startswith("Usage: exchange")
    assert all(option in done.out for option in ("--home", "--json", "--passphrase-file"))
    assert len(done.out.split("\n")[2].strip()) > 10


@pytest.mark.parametrize("path", [path for path in commands(program) if not path or len(path) == 1], ids=" ".join)
def test_lists_of_commands_are_not_cut(
    call: homes.Caller, monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...]
) -> None:
    """On a usual screen every command of a group is listed with a whole sentence."""
    monkeypatch.setenv("COLUMNS", "80")
    listed = call(*path, "--help").out.partition("Commands:")[2]
    assert "..." not in listed


def test_version_is_told(call: homes.Caller) -> None:
    """The version is that of the package."""
    assert call("--version").out.startswith("exchange, version ")


def test_no_command_is_usage(call: homes.Caller) -> None:
    """Without a command the help is shown and the exit code is that of usage."""
    done = call()
    assert done.code == 2
    assert "Commands" in done.err


@pytest.mark.parametrize("words", [("fly",), ("inbox", "--fast"), ("card", "fly"), ("send",), ("show",), NO_NUMBER])
def test_misunderstood_command_is_usage(call: homes.Caller, words: tuple[str, ...]) -> None:
    """A command that does not exist, an unknown option and a missing argument exit 2 and point to the help."""
    done = call(*words)
    assert done.code == 2
    assert done.refused("input.usage")
    assert "--help" in done.err


@pytest.mark.parametrize("number", ["one", "0", "65", "\N{SUPERSCRIPT TWO}", "1" * 5_000])
def test_number_of_evidence_is_explained(call: homes.Caller, number: str) -> None:
    """What is no number of an evidence file is told with what it should be."""
    done = call("evidence", "get", "0" * 32, number, "--out", "x")
    assert done.code == 2
    assert "exchange show ID lists" in done.err


def test_misunderstood_command_is_usage_in_json(call: homes.Caller) -> None:
    """With --json a usage error is one document too."""
    done = call("inbox", "--json", "--fast")
    assert done.code == 2
    assert done.json["ok"] is False
    assert done.json["error"]["code"] == "input.usage"


def test_home_is_named(call: homes.Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that needs a home and is given none says how to name it."""
    monkeypatch.delenv("EXCHANGE_HOME", raising=False)
    done = call("inbox")
    assert done.code == 2
    assert "--home DIR" in done.err
    assert "EXCHANGE_HOME" in done.err


def test_home_is_understood_everywhere(call: homes.Caller, pair: homes.Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The home may stand before the command, in the middle, after it, or in the environment."""
    home = str(pair.home("TH"))
    answers = [
        call("--home", home, "card", "list", "--json"),
        call("card", "--home", home, "list", "--json"),
        call("--json", "card", "list", "--home", home),
    ]
    monkeypatch.setenv("EXCHANGE_HOME", home)
    answers.append(call("card", "--json", "list"))
    assert [done.code for done in answers] == [0] * 4
    assert len({done.out for done in answers}) == 1
    assert answers[0].json["training"] is True


def test_last_home_counts(call: homes.Caller, pair: homes.Pair) -> None:
    """Where two homes are named, the one nearest to the command counts."""
    done = call("--home", pair.home("KH"), "card", "show", "--home", pair.home("TH"), "--json")
    assert done.json["node"] == "th-fp1"


def test_no_home_is_local_trouble(call: homes.Caller, tmp_path: Path) -> None:
    """A folder that is no home is refused with what to do."""
    done = call("inbox", "--home", tmp_path)
    assert done.code == 3
    assert done.refused("node.no_home")
    assert "exchange init" in done.err


class _Surprise(click.Command):
    def __init__(self, fault: BaseException) -> None:
        super().__init__("doctor")
        self._fault = fault

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's
        del ctx
        raise self._fault


@pytest.mark.parametrize("as_json", [False, True])
def test_unexpected_fault_is_told_without_trace(
    call: homes.Caller, monkeypatch: pytest.MonkeyPatch, *, as_json: bool
) -> None:
    """A fault that nobody expected is node.internal with an id, its class and place, and not its text."""
    monkeypatch.setattr("exchange.cli.doctor.doctor", _Surprise(ValueError("a name from a case")))
    done = call(*(["--json"] if as_json else []), "doctor")
    assert done.code == 3
    assert done.refused("node.internal")
    assert "ValueError" in done.err
    assert "a name from a case" not in done.err + done.out
    if as_json:
        assert done.json["error"]["code"] == "node.internal"


@pytest.mark.parametrize(
    ("fault", "code"), [(click.Abort(), 130), (KeyboardInterrupt(), 130), (BrokenPipeError(), 0)], ids=repr
)
def test_interruption_is_quiet(
    call: homes.Caller, monkeypatch: pytest.MonkeyPatch, fault: BaseException, code: int
) -> None:
    """A person who stops the command, and a reader who leaves, see no trace."""
    monkeypatch.setattr("exchange.cli.doctor.doctor", _Surprise(fault))
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # restores what a broken pipe takes away
    assert call("doctor").code == code


def test_module_is_the_program() -> None:
    """``python -m exchange`` is the same program."""
    done = homes.program("--version")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("exchange, version ")


@pytest.mark.parametrize("words", [("outbox",), ("outbox", "--json"), ("schema", "show", "victim"), ("--help",)])
def test_full_disk_below_the_output_is_told(pair: homes.Pair, words: tuple[str, ...]) -> None:
    """Output that cannot be written is an error of its own with exit code 3, never success and never a trace."""
    done = written_to(">/dev/full", *words, home=pair.home("TH"))
    assert done.code == 3
    assert done.refused("input.output")


def test_closed_output_begins_nothing(pair: homes.Pair) -> None:
    """Without a standard output a command is refused before it does anything."""
    words = ("send", str(homes.REFERRAL), "--to", "KH")
    done = written_to(">&-", *words, home=pair.home("TH"))
    assert done.code == 3
    assert done.refused("input.output")
    assert homes.program("outbox", "--json", "--home", pair.home("TH")).json["messages"] == []


@pytest.mark.parametrize("words", [("outbox",), ("fly",)])
def test_nowhere_to_tell_an_error(pair: homes.Pair, words: tuple[str, ...]) -> None:
    """Where not even an error can be written, the exit code says it."""
    done = written_to(">/dev/full 2>/dev/full", *words, home=pair.home("TH"))
    assert (done.code, done.out, done.err) == (3, "", "")


def written_to(redirection: str, *words: str, home: Path) -> homes.Done:
    """Run the real program with its output redirected by the shell."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$0" -m exchange "$@" {redirection}', sys.executable, *words],
        capture_output=True, text=True, check=False, timeout=60, env=os.environ | {"EXCHANGE_HOME": str(home)},
    )  # fmt: skip
    return homes.Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("module", ["exchange.cli.commands", "click", "exchange.cli.reading"])
def test_interruption_while_loading_is_quiet(tmp_path: Path, module: str) -> None:
    """Ctrl-C while the program is still being loaded shows no trace."""
    script = (
        "import sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stop())\n"
        "from exchange.cli.main import main\n"
        "sys.exit(main(['outbox']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 130
    assert done.stderr.strip() == "stopped; nothing more was done"
