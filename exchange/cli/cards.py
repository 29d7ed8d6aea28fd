"""``exchange card``: who the nodes are.

Rule: the first card of a node is trusted because two people compared its authority's fingerprint; every later one
because the authority held here signed it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from exchange.cli import output
from exchange.cli.settings import Settings, common, settings

if TYPE_CHECKING:
    from exchange.cli.session import Desk
    from exchange.core.wire import JsonObject, UnverifiedDocument


@click.group()
@common
def card() -> None:
    """Who the nodes are: show, export, import, block."""


@card.command("list")
@common
def list_cards() -> int:
    """Every card that is held here."""
    from exchange.cli.session import ask_list

    said = settings()
    cards = ask_list(said, "cards", {})
    if said.as_json:
        output.emit_json(said, {"ok": True, "cards": list(cards)})
        return 0
    output.banner(said)
    rows = [
        [
            str(item["node"]) + (" (this node)" if item["own"] else ""),
            output.text_of(item["agency"]),
            str(item["version"]),
            str(item["expires"]),
            "blocked" if item["blocked"] else "",
            str(item["fingerprint"])[:16],
        ]
        for item in cards
    ]
    output.table(["node", "agency", "version", "expires", "", "fingerprint"], rows)
    return 0


@card.command("show")
@common
@click.argument("which", required=False)
def show(which: str | None) -> int:
    """A card: this node's own, a peer's, or that in a file.

    A peer is named by its node id or its country.
    """
    from exchange.cli import documents
    from exchange.cli.session import ask_object

    said = settings()
    if which is not None and Path(which).is_file():
        facts = _read_card_file(said, which)
    else:
        args: JsonObject = {} if which is None else {"node": which}
        facts = ask_object(said, "card", args, require_card=False)
        facts.pop("document")
    if said.as_json:
        output.emit_json(said, {"ok": True, **facts})
        return 0
    output.banner(said)
    documents.show_card(facts)
    return 0


def _read_card_file(said: Settings, name: str) -> JsonObject:
    """A card, signed or draft, as it says of itself."""
    from exchange.cli import documents
    from exchange.cli.provision import parse_draft
    from exchange.core.keys import read_card
    from exchange.core.wire import MAX_DOCUMENT_BYTES

    document = parse_draft(documents.read_input(name, MAX_DOCUMENT_BYTES))
    held = read_card(document)
    documents.know_network(said, held.network)
    if not held.authority.approves(document):
        output.note("not signed by enough keys of the authority that it names: worth nothing yet")
    return documents.card_to_json(held, len(document.signatures))


@card.command("export")
@common
@click.argument("which", required=False)
@click.option("--out", metavar="FILE", help="Where to write; default: standard output.")
def export(which: str | None, out: str | None) -> int:
    """Write a signed card for partners: this node's own, or a peer's."""
    from exchange.cli import documents
    from exchange.cli.session import ask_object
    from exchange.core import wire

    said = settings()
    facts = ask_object(said, "card", {} if which is None else {"node": which}, require_card=False)
    data = wire.parse_base64(str(facts.pop("document")))
    if out is None:
        output.banner(said, err=True)
        click.echo(data.decode())
        return 0
    documents.write_output(Path(out), data)
    if said.as_json:
        output.emit_json(said, {"ok": True, "file": out, **facts})
        return 0
    output.banner(said)
    output.line(f"Card of {output.text_of(facts['node'])} written to {out}.")
    documents.show_fingerprint(str(facts["fingerprint"]))
    return 0


# -- importing -------------------------------------------------------------------------------------


@card.command("import")
@common
@click.argument("file")
@click.option("--fingerprint", metavar="HEX", help="The authority's fingerprint, as its people told it to you.")
def import_card(file: str, fingerprint: str | None) -> int:
    """Install a signed card: this node's own, or a peer's."""
    from exchange.cli import documents, session
    from exchange.core.wire import DocumentType

    said = settings()
    data, document = documents.parse_signed(file, DocumentType.CARD)
    facts = session.run(_import(said, data, document, fingerprint))
    if said.as_json:
        output.emit_json(said, {"ok": True, **facts})
        return 0
    output.banner(said)
    output.line(f"Installed the card of {output.text_of(facts['node'])}, version {output.text_of(facts['version'])}.")
    return 0


async def _import(said: Settings, data: bytes, document: UnverifiedDocument, fingerprint: str | None) -> JsonObject:
    from exchange.adapters.home import write_file
    from exchange.cli.session import at_desk
    from exchange.core import wire
    from exchange.core.keys import read_card

    offered = read_card(document)
    home, config = said.open_home()
    async with at_desk(said, require_card=offered.node != config.node) as (desk, _):
        is_own = offered.node == config.node
        if fingerprint is not None or not (is_own or await _is_held(desk, offered.node)):
            _compare(said, offered.authority.fingerprint, fingerprint, f"{offered.node}, version {offered.version}")
        facts = await desk.call("install", {"document": wire.encode_base64(data)})
        if is_own:
            write_file(home.card, data)
    return cast("JsonObject", facts)


async def _is_held(desk: Desk, node: str) -> bool:
    cards = cast("list[JsonObject]", await desk.call("cards", {}))
    return any(item["node"] == node for item in cards)


def _compare(said: Settings, digest: str, given: str | None, whose: str) -> None:
    """Two people compare, or the caller says what they compared. Raises input.compare, input.fingerprint."""
    from exchange.core.errors import LocalError, PeerError

    if given is not None:
        if "".join(given.split()).replace(":", "").lower() != digest:
            raise PeerError("input.fingerprint", whose)
        return
    output.banner(said, err=True)
    output.note(f"Card of {whose}. Its authority's fingerprint:")
    for row in output.fingerprint(digest).splitlines():
        output.note(f"    {row}")
    output.note("Compare it by voice with somebody of that authority whom you know.")
    try:
        same = click.confirm("Is it the same?", err=True)
    except click.Abort:
        raise LocalError("input.compare", whose) from None
    if not same:
        raise PeerError("input.fingerprint", whose)


# -- blocking --------------------------------------------------------------------------------------


@card.command("block")
@common
@click.argument("which")
def block(which: str) -> int:
    """Refuse everything from a node at once, and send it nothing."""
    return _set_block(which, blocked=True)


@card.command("unblock")
@common
@click.argument("which")
def unblock(which: str) -> int:
    """End a block; what waited is sent."""
    return _set_block(which, blocked=False)


def _set_block(which: str, *, blocked: bool) -> int:
    from exchange.cli.session import ask_object

    said = settings()
    facts = ask_object(said, "block", {"node": which, "blocked": blocked})
    if said.as_json:
        output.emit_json(said, {"ok": True, **facts})
        return 0
    output.banner(said)
    output.line(f"{output.text_of(facts['node'])} is {'blocked' if facts['blocked'] else 'not blocked'}.")
    return 0
