"""The commands of the program ``exchange`` by name, and what happens when one fails.

Rules:
1. A command's module is imported when the command is run: ``exchange --help`` and a typing error cost nothing.
2. Exit codes: 0 done; 1 the answer is no; 2 usage; 3 local trouble; 4 stored state contradicts the audit log.
3. Never a trace: what nobody expected is told as node.internal with an id, its class and place.
4. Output that could not be written is no success: without somewhere to write nothing is begun.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Final

import click

from exchange import __version__
from exchange.cli import output
from exchange.cli.settings import Settings, common
from exchange.core.errors import ExchangeError, Fault, LocalError

if TYPE_CHECKING:
    from collections.abc import Sequence

# name: (module, attribute, one line for the list of commands)
COMMANDS: Final = {
    "init": ("setup", "init", "Make a node's home: keys, store, a card to be signed."),
    "doctor": ("doctor", "doctor", "Check this node and its way to each peer; say what to mend."),
    "node": ("daemon", "node", "Run the node; ask how it is."),
    "authority": ("setup", "authority", "The offline home that signs cards and agreements."),
    "personnel": ("officers", "personnel", "The offline home that signs lists of officers."),
    "officer": ("officers", "officer", "Who acts for the node: personal keys, lists, roles."),
    "card": ("cards", "card", "Who the nodes are: show, export, import, block."),
    "agreement": ("agreements", "agreement", "What may be exchanged: draft, sign, install, check."),
    "schema": ("schema", "schema", "What messages look like; validate a draft."),
    "send": ("messages", "send", "Send a draft to one or more nodes, with evidence."),
    "reply": ("messages", "reply", "Answer a received message."),
    "approve": ("approving", "approve", "Approve a message that waits for it, as an officer."),
    "inbox": ("reading", "inbox", "Received messages, the newest first."),
    "outbox": ("reading", "outbox", "Sent messages and where they are."),
    "due": ("asking", "due", "Answers that are due, by this node and to it."),
    "show": ("reading", "show", "One message with its content."),
    "onward": ("asking", "onward", "May this be passed on: ask its originator; decide."),
    "forward": ("asking", "forward", "Pass a received message on to another node."),
    "recall": ("erasing", "recall", "Take a sent message back from all its recipients."),
    "hold": ("erasing", "hold", "Courts that forbid to erase a received message."),
    "evidence": ("reading", "evidence", "Evidence files of a message."),
    "audit": ("audit", "audit", "Export the audit log; check an export."),
    "verify": ("audit", "verify", "Read the whole store and log again."),
    "demo": ("demo", "demo", "Six nodes on this machine play an invented case."),
    "bench": ("bench", "bench", "Measure two nodes on this machine beside what it could do."),
}


class Commands(click.Group):
    """The commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"exchange.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, row[2]) for name, row in COMMANDS.items()])


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="exchange")
@common
def program() -> None:
    """Signed, sealed exchange of trafficking cases between national focal points, under co-signed agreements."""


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    output.prepare_streams()
    # One object for the whole run, so that an error knows what was asked for before it.
    said = Settings(as_json="--json" in arguments)
    try:
        with output.checked_stdout():
            return _run(said, arguments)
    except BrokenPipeError:
        # Whoever read our output left; Python would complain again when it closes the stream.
        sys.stdout = None
        return 0
    except (output.UnwrittenError, OSError):
        sys.stdout = None  # for the same reason
        return _fail_output(said)


def _run(said: Settings, arguments: list[str]) -> int:
    """Run one command and tell its error. Raises ``UnwrittenError``, ``OSError`` where it cannot be told."""
    try:
        result = program.main(arguments, prog_name="exchange", standalone_mode=False, obj=said)
    except ExchangeError as error:
        return output.fail(said, error)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return output.USAGE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "exchange"
        return output.fail_usage(said, error.format_message(), f"{path} --help")
    except click.Abort:
        raise KeyboardInterrupt from None
    except (BrokenPipeError, output.UnwrittenError):
        raise
    except Exception as error:  # noqa: BLE001 - the last resort: a code, never a trace
        return output.fail_unexpected(said, error)
    return result if isinstance(result, int) else 0


def _fail_output(said: Settings) -> int:
    """Tell that the output was not written, where even that can be told."""
    said.as_json = False
    try:
        return output.fail(said, LocalError("input.output"))
    except OSError:
        sys.stderr = None
        return output.EXIT_OF_FAULT[Fault.LOCAL]
