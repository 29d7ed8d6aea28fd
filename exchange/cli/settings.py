"""What every command shares: the home, the form of the output, the passphrase.

Rules:
1. ``--home``, ``--json``, ``--as`` and the files of passphrases are understood before and after the command's name;
   what is said last counts.
2. No secret is an argument. A passphrase comes from, in this order: ``--passphrase-file``, EXCHANGE_PASSPHRASE_FILE,
   ``passphrase_file`` of config.toml, the credential ``passphrase`` of systemd, a prompt.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from exchange.core.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.adapters.config import Config
    from exchange.adapters.home import Home
    from exchange.cli.personal import Personal
    from exchange.core.wire import JsonObject

F = TypeVar("F", bound="Callable[..., Any]")
MAX_PASSPHRASE_BYTES: Final = 4_096
MIN_TYPED_CHARS: Final = 12  # of a new one; whoever makes a file decides alone
HOME_VARIABLE: Final = "EXCHANGE_HOME"
PASSPHRASE_VARIABLE: Final = "EXCHANGE_PASSPHRASE_FILE"  # noqa: S105 - the name of a variable


@dataclass(slots=True)
class Settings:
    """What the user said beside the command itself; ``network`` is filled in once it is known."""

    home: str | None = None
    as_json: bool = False
    passphrase_file: str | None = None
    network: str | None = None
    officer: str | None = None  # who acts: a name, a key id, a key file
    officer_passphrase_file: str | None = None
    personal: Personal | None = None  # the officer's key, once it is unlocked
    marked: bool = False  # standard error says already that this is training

    def home_path(self) -> Path:
        """The folder named. Usage error where none is."""
        name = self.home or os.environ.get(HOME_VARIABLE)
        if not name:
            message = f"name the folder: --home DIR, or the variable {HOME_VARIABLE}"
            raise click.UsageError(message)
        return Path(name).absolute()

    def open_home(self) -> tuple[Home, Config]:
        """The node's home and configuration. Raises ``LocalError`` node.no_home, node.config."""
        from exchange.adapters.config import load_config
        from exchange.adapters.home import Home

        home = Home.open(self.home_path())
        config = load_config(home.config)
        self.network = config.network
        return home, config


def settings() -> Settings:
    """Those of the command that runs."""
    return click.get_current_context().ensure_object(Settings)


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(context: click.Context, _: click.Parameter, value: Any) -> None:  # noqa: ANN401 - as the option gives it
        if value:
            setattr(context.ensure_object(Settings), name, value)

    return keep


def common(command: F) -> F:
    """The options that every command and group has."""
    options = (
        click.option("--home", metavar="DIR", expose_value=False, callback=_keep("home"), help="The node's folder."),
        click.option(
            "--json", is_flag=True, expose_value=False, callback=_keep("as_json"), help="One JSON document as output."
        ),
        click.option(
            "--passphrase-file",
            metavar="FILE",
            expose_value=False,
            callback=_keep("passphrase_file"),
            help="A file that holds the passphrase.",
        ),
        click.option(
            "--as",
            "officer",
            metavar="OFFICER",
            expose_value=False,
            callback=_keep("officer"),
            help="Act as this officer: a name of this home, a key id, or a key file.",
        ),
        click.option(
            "--officer-passphrase-file",
            metavar="FILE",
            expose_value=False,
            callback=_keep("officer_passphrase_file"),
            help="A file that holds the officer's own passphrase.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


from_option = click.option(
    "--from", "sender", metavar="NODE", help="Who sent it, where several nodes have a message of that id."
)


def named(ident: str, sender: str | None) -> JsonObject:
    """How an operation of the desk is told which message; an id is unique for its sender alone."""
    return {"id": ident} if sender is None else {"id": ident, "from": sender}


# -- passphrases -----------------------------------------------------------------------------------


def passphrase_source(said: Settings, config: Config | None) -> tuple[str, Path | None]:
    """Where the passphrase comes from, and the file; ("prompt", None) where a person must be asked."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if said.passphrase_file:
        return "--passphrase-file", Path(said.passphrase_file)
    if named := os.environ.get(PASSPHRASE_VARIABLE):
        return PASSPHRASE_VARIABLE, Path(named)
    if config is not None and config.passphrase_file is not None:
        return "config.toml", config.passphrase_file
    if credentials and (Path(credentials) / "passphrase").exists():
        return "systemd credential", Path(credentials) / "passphrase"
    return "prompt", None


def read_passphrase_file(source: str, path: Path) -> bytes:
    """The first line of the file. Raises ``LocalError`` input.not_found, input.no_passphrase."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PASSPHRASE_BYTES + 1)
    except OSError:
        raise LocalError("input.not_found", f"passphrase file ({source})") from None
    lines = data.splitlines()
    if not lines or not lines[0] or len(data) > MAX_PASSPHRASE_BYTES:
        raise LocalError("input.no_passphrase", f"passphrase file ({source})")
    return lines[0]


def read_passphrase(said: Settings, config: Config | None) -> bytes:
    """The passphrase of something that exists. Raises ``LocalError`` input.no_passphrase, input.not_found."""
    source, path = passphrase_source(said, config)
    if path is not None:
        return read_passphrase_file(source, path)
    if not sys.stdin.isatty():
        raise LocalError("input.no_passphrase")
    typed: str = click.prompt("Passphrase", hide_input=True, err=True)
    return typed.encode()


def read_new_passphrase(said: Settings) -> bytes:
    """A passphrase for something new; typed twice where a person is asked."""
    source, path = passphrase_source(said, None)
    if path is not None:
        return read_passphrase_file(source, path)
    if not sys.stdin.isatty():
        raise LocalError("input.no_passphrase")
    while True:
        prompt = f"New passphrase, at least {MIN_TYPED_CHARS} characters"
        typed: str = click.prompt(prompt, hide_input=True, confirmation_prompt=True, err=True)
        if len(typed) >= MIN_TYPED_CHARS:
            return typed.encode()
        click.echo("That is too short: several unrelated words are easy to keep and hard to guess.", err=True)
