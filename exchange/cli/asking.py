"""``exchange due``, ``onward`` and ``forward``: answers that are due, and the further use of what others sent.

Rules:
1. Whose time is up twice over is not waited for in silence: the list ends with the duty desk to telephone.
2. What a message may be used for is decided by the node, nothing is here: a refusal names clause and remedy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import click

from exchange.cli import output
from exchange.cli.settings import Settings, common, from_option, named, settings

if TYPE_CHECKING:
    from datetime import datetime

    from exchange.core.wire import JsonObject

_MARKS: Final = {
    "waiting": "",
    "reminder": "half the time is over",
    "last_reminder": "three quarters are over",
    "due": "DUE NOW",
    "overdue": "OVERDUE",
    "escalated": "OVERDUE, telephone",
}


@click.command()
@common
def due() -> int:
    """Answers that are due, by this node and to it, the first one first."""
    from exchange.cli.session import ask_list

    said = settings()
    found = ask_list(said, "due", {})
    if said.as_json:
        output.emit_json(said, {"ok": True, "due": [*found]})
        return 0
    output.banner(said)
    if not found:
        output.line("No answer is due.")
        return 0
    output.table(["due", "", "id", "owed", "node", "kind", "case"], [_row(item) for item in found])
    for item in found:
        if item["duty_desk"] is not None:
            output.line()
            output.paragraph(f"{item['id']}: duty desk of {item['peer']}: {item['duty_desk']}", indent=4)
    return 0


def _row(item: JsonObject) -> list[str]:
    texts = cast("dict[str, str]", item)
    return [
        texts["due"], _MARKS[texts["state"]], texts["id"], texts["owed"], texts["peer"], texts.get("kind") or "",
        texts.get("case") or "",
    ]  # fmt: skip


# -- onward use ------------------------------------------------------------------------------------

_language = click.option("--language", metavar="TAG", help="Of the texts; default: en.")


@click.group()
@common
def onward() -> None:
    """Whether a received message may be passed on: ask its originator, or decide."""


@onward.command("request")
@common
@click.argument("ident", metavar="ID")
@click.option("--to", multiple=True, required=True, metavar="NODE", help="Who is to receive it; repeatable.")
@click.option("--purpose", required=True, metavar="P", help="For what, a code of the list message_purposes.")
@click.option("--reason", required=True, metavar="TEXT", help="Why.")
@_language
@from_option
def request(
    *, ident: str, to: tuple[str, ...], purpose: str, reason: str, language: str | None, sender: str | None
) -> int:
    """Ask whether a received message may be passed on.

    The request goes to its originator.
    """
    args: JsonObject = {"to": [*to], "purpose": purpose, "reason": reason, "language": language}
    return _say(settings(), "onward_request", {**named(ident, sender), **args})


@onward.command("decide")
@common
@click.argument("ident", metavar="REQUEST-ID")
@click.option("--grant/--refuse", default=None, help="The decision; one of the two.")
@click.option("--until", metavar="DATE", type=click.DateTime(["%Y-%m-%d"]), help="Last day (UTC); default: 30 days.")
@click.option("--condition", metavar="TEXT", help="What the recipients must keep to.")
@click.option("--reason", metavar="TEXT", help="Why.")
@_language
@from_option
def decide(
    *,
    ident: str,
    grant: bool | None,
    until: datetime | None,
    condition: str | None,
    reason: str | None,
    language: str | None,
    sender: str | None,
) -> int:
    """Answer such a request.

    A later decision on the same request counts instead of an earlier one.
    """
    if grant is None:
        message = "--grant or --refuse"
        raise click.UsageError(message)
    if until is not None and not grant:
        message = "a refusal has no last day"
        raise click.BadOptionUsage("until", message)
    texts: JsonObject = {"conditions": condition, "reason": reason, "language": language}
    last = None if until is None else until.date().isoformat()
    return _say(settings(), "onward_decide", {**named(ident, sender), "grant": grant, "until": last, **texts})


def _say(said: Settings, op: str, args: JsonObject) -> int:
    """Send a request or a decision, and tell who gets it."""
    from exchange.cli.session import ask_object
    from exchange.core.errors import PeerError

    result = ask_object(said, op, args)
    (recipient,) = cast("list[dict[str, str | None]]", result["recipients"])
    if result.get("refused"):
        raise PeerError(str(recipient["code"]), recipient["reason"] or "", recipient["clause"])
    if said.as_json:
        output.emit_json(said, {"ok": True, "id": result["id"], "to": recipient["to"]})
        return 0
    output.banner(said)
    output.line(f"Message {result['id']} to {recipient['to']}")
    return 0


@click.command()
@common
@click.argument("ident", metavar="ID")
@click.option("--to", required=True, metavar="NODE", help="Node id or country.")
@click.option("--dry-run", is_flag=True, help="Show what would be passed on, and pass nothing on.")
@from_option
def forward(*, ident: str, to: str, dry_run: bool, sender: str | None) -> int:
    """Pass a received message on.

    Its originator and its clause must allow it; the originator is told.
    """
    from exchange.cli.session import ask_object

    said = settings()
    result = ask_object(said, "forward", {**named(ident, sender), "to": to, "dry_run": dry_run})
    (recipient,) = cast("list[JsonObject]", result["recipients"])
    origin = cast("dict[str, Any]", result["origin"])
    if said.as_json:
        sent: JsonObject = {} if dry_run else {"id": result["id"], "notice": result["notice"]}
        told: JsonObject = {"origin": origin, "retention_days": result["retention_days"]}
        output.emit_json(said, {"ok": True, "dry_run": dry_run, **sent, **told, "recipients": [recipient]})
        return 0
    output.banner(said)
    output.line("Dry run: nothing was passed on." if dry_run else f"Message {result['id']}")
    withheld = [*cast("list[str]", recipient["withheld"]), *origin["withheld"]]
    output.pairs(
        [
            ("to", output.text_of(recipient["to"])),
            ("under", f"{recipient['agreement']}, clause {recipient['clause']}"),
            ("receives", output.text_of(recipient["parts"])),
            ("withheld", ", ".join(withheld)),
            ("erased after", f"{result['retention_days']} days"),
            ("originator", f"{origin['node']}, {'would be' if dry_run else 'is'} told"),
        ]
    )
    return 0
