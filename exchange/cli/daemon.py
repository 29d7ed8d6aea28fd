"""``exchange node``: run the node, ask how it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from exchange.cli import output
from exchange.cli.settings import common, read_passphrase, settings

if TYPE_CHECKING:
    from exchange.core.wire import JsonObject


@click.group()
@common
def node() -> None:
    """Run the node; ask how it is."""


@node.command("run")
@common
def run() -> int:
    """Run the node until SIGTERM or Ctrl-C.

    It prints one line of JSON when it is ready.
    """
    said = settings()
    home, config = said.open_home()
    output.banner(said, err=True)
    with home.lock():  # a second daemon is told before it is asked for a passphrase
        passphrase = read_passphrase(said, config)
        from exchange.cli import unlock

        unlock.close_memory()
        unlocking = unlock.unlock_beside(home, passphrase)
        from exchange.cli import session, wiring  # a third of a second, while the passphrase is worked on

        return session.run(wiring.run_node(home, unlocking))


@node.command("clock")
@common
@click.option("--confirm", is_flag=True, help="You compared this machine's clock, and it is right.")
def clock(*, confirm: bool) -> int:
    """Whether the node doubts its clock; then it erases nothing by it."""
    from exchange.cli.session import ask_object

    said = settings()
    told = ask_object(said, "clock", {"confirm": confirm})
    if said.as_json:
        output.emit_json(said, {"ok": True, **told})
        return 0
    output.banner(said)
    since = told["doubted_since"]
    output.line(f"The clock has been doubted since {since}." if since else "The clock is not doubted.")
    return 0


@node.command("status")
@common
def status() -> int:
    """Whether the node runs, how long its log is, whom it speaks to."""
    from exchange.cli.session import ask_object

    said = settings()
    facts = ask_object(said, "status", {}, require_card=False)
    if said.as_json:
        output.emit_json(said, {"ok": True, **facts})
        return 0
    output.banner(said)
    output.pairs(
        [
            ("node", output.text_of(facts["node"])),
            ("running", "yes" if facts["running"] else "no"),
            ("log", f"{output.text_of(facts['log_size'])} entries"),
            ("peers", output.text_of(facts["peers"]) or "none"),
            ("ending soon", "; ".join(_ending(item) for item in cast("list[JsonObject]", facts["agreements_ending"]))),
        ]
    )
    return 0


def _ending(item: JsonObject) -> str:
    return f"{item['agreement']} on {str(item['valid_until'])[:10]} ({item['days_left']} days left)"
