"""``exchange recall`` and ``exchange hold``: taking messages back, and courts that forbid to erase one.

Rules:
1. One command reaches every recipient; for each it says what was done: taken back, asked to erase, erased already.
2. What the other side did is not known when the command returns: ``exchange outbox`` shows when its receipt is here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import click

from exchange.cli import output
from exchange.cli.settings import common, from_option, named, settings

if TYPE_CHECKING:
    from exchange.core.wire import JsonObject, JsonValue

# A command line is typed before the code lists are read; tests hold these against schemas/codelists.
REASONS: Final = ("error", "consent_withdrawn", "risk_to_person", "wrong_recipient", "ordered_by_court", "other")
_DONE: Final = {
    "taken_back": "taken back before it was accepted",
    "asked": "asked to erase it; its receipt will follow",
    "erased": "erased already, with a receipt",
    "nothing": "does not have it",
}


@click.command()
@common
@click.argument("ident", metavar="ID")
@click.option("--reason", required=True, type=click.Choice(REASONS), help="Why; goes to every recipient.")
@click.option("--note", metavar="TEXT", help="A sentence for the other side's officers. No names.")
@click.option("--language", default="en", show_default=True, metavar="TAG", help="Language of the note.")
@click.option("--replaced-by", metavar="ID", help="A correction: this message of yours takes its place.")
@click.option("--to", multiple=True, metavar="NODE", help="These recipients only; repeatable.")
def recall(
    *, ident: str, reason: str, note: str | None, language: str, replaced_by: str | None, to: tuple[str, ...]
) -> int:
    """Take a sent message back from all who received it.

    One that was not accepted yet is taken out of the queue. Everybody else's node erases its copy and sends a signed
    receipt, unless a court forbids it there.
    """
    from exchange.cli.session import ask_object

    said = settings()
    args: JsonObject = {"id": ident, "reason": reason}
    if note is not None:
        args["note"] = {"text": note, "lang": language}
    if replaced_by is not None:
        args["replaced_by"] = replaced_by
    if to:
        args["to"] = [*to]
    result = ask_object(said, "recall", args)
    recipients = cast("list[dict[str, Any]]", result["recipients"])
    code = int(any(item["done"] == "nothing" for item in recipients))
    if said.as_json:
        output.emit_json(said, {"ok": code == 0, **result})
        return code
    output.banner(said)
    output.table(["to", "", "code"], [[item["to"], _DONE[item["done"]], item["code"] or ""] for item in recipients])
    return code


# -- legal holds -----------------------------------------------------------------------------------


@click.group()
@common
def hold() -> None:
    """Legal holds: a court forbids that a received message is erased."""


@hold.command("add")
@common
@click.argument("ident", metavar="ID")
@click.option("--court", required=True, metavar="NAME", help="The court or authority that ordered it.")
@click.option("--reference", required=True, metavar="TEXT", help="Its reference.")
@click.option("--until", required=True, metavar="DATE", help="The last day, YYYY-MM-DD, UTC.")
@from_option
def add(ident: str, court: str, reference: str, until: str, sender: str | None) -> int:
    """Keep a received message until a day, whatever would erase it.

    Its originator is told court, reference and day.
    """
    from exchange.cli.session import ask_object

    said = settings()
    args: JsonObject = {**named(ident, sender), "court": court, "reference": reference, "until": until}
    placed = ask_object(said, "hold_add", args)
    return _tell([placed])


@hold.command("release")
@common
@click.argument("ident", metavar="ID")
@click.option("--reference", metavar="TEXT", help="Only the hold of this reference; all of them otherwise.")
@from_option
def release(ident: str, reference: str | None, sender: str | None) -> int:
    """End holds; a copy that is due is erased then."""
    from exchange.cli.session import ask_list

    return _tell(ask_list(settings(), "hold_release", {**named(ident, sender), "reference": reference}))


@hold.command("list")
@common
@click.argument("ident", metavar="ID")
@from_option
def listed(ident: str, sender: str | None) -> int:
    """Every hold that was placed on a message."""
    from exchange.cli.session import ask_list

    return _tell(ask_list(settings(), "hold_list", named(ident, sender)))


def _tell(holds: list[JsonObject]) -> int:
    said = settings()
    if said.as_json:
        shown: list[JsonValue] = [*holds]
        output.emit_json(said, {"ok": True, "holds": shown})
        return 0
    output.banner(said)
    names = ("number", "court", "reference", "until", "placed", "released")
    output.table([*names], [[output.text_of(item[name]) for name in names] for item in holds])
    return 0


# -- for the lists ---------------------------------------------------------------------------------


def copy_words(item: dict[str, Any]) -> str:
    """What a list says of a copy, in few words; nothing where there is nothing to say."""
    copy = item.get("copy")
    if copy is None:
        return ""
    stage, held = copy["stage"], copy["held_until"]
    if stage == "erased":
        return f"erased {copy['erased'][:10]} ({copy['why']})"
    words = {"asked": "recall sent", "due": "to be erased", "wanted": "taken back"}.get(stage, "")
    return ", ".join(part for part in (words, f"held until {held}" if held else "") if part)
