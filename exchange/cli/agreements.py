"""``exchange agreement``: what may be exchanged, by which clause."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

from exchange.cli import output
from exchange.cli.amending import diff, write_next
from exchange.cli.settings import Settings, common, settings
from exchange.cli.setup import sign_file
from exchange.cli.suspending import leave, resume, suspend, tell_notice

if TYPE_CHECKING:
    from exchange.core.keys import Card
    from exchange.core.wire import JsonObject, NodeId

COMMENT: Final = "//"
LIFE_DAYS: Final = 365
_NOTES: Final = [
    "A draft. Members named // are comments and are not signed. Read every clause with both sides' lawyers.",
    "Everything that no clause permits is refused. A prohibition wins over every clause.",
    "kinds, purposes, handling and TLP are codes: exchange schema list names the kinds; * stands for all.",
    "withhold names parts that the recipient does not get: identity, narrative, safety, attachments.",
    "Then, at each authority: exchange authority sign FILE; at each node: exchange agreement install FILE.",
]


@click.group()
@common
def agreement() -> None:
    """What may be exchanged, by which clause: draft, sign, install, check, suspend."""


for _command in (diff, suspend, leave, resume):
    agreement.add_command(_command)


@agreement.command("new")
@common
@click.option("--with", "partners", multiple=True, metavar="NODE", help="A party whose card is held here; repeatable.")
@click.option("--card", "cards", multiple=True, metavar="FILE", help="A party by its card's file; repeatable.")
@click.option("--id", "ident", help="The agreement's name; default: the countries, for example kh-th.")
@click.option("--amend", metavar="ID", help="The next version of an agreement held here, to be changed by hand.")
@click.option("--renew", metavar="ID", help="The next version of an agreement held here, with new dates only.")
@click.option("--days", type=click.IntRange(1, 36_500), help="How long it serves; default: 365, or as long as before.")
@click.option("--out", metavar="FILE", help="The draft; default: ID.draft.json here.")
def new(
    *,
    partners: tuple[str, ...],
    cards: tuple[str, ...],
    ident: str | None,
    amend: str | None,
    renew: str | None,
    days: int | None,
    out: str | None,
) -> int:
    """Write the draft of an agreement.

    It is to be read, corrected and signed by every party's authority.
    With --card alone it needs no home; with --with this node is a party too.
    """
    from exchange.cli import documents, provision, session, templates

    said = settings()
    if (before := amend or renew) is not None:
        if partners or cards or ident or (amend and renew):
            message = "--amend and --renew take parties and name from the version before"
            raise click.UsageError(message)
        return write_next(said, before, days, out, renew=renew is not None)
    if not partners and len(cards) < 2:  # noqa: PLR2004 - two parties
        message = "name the parties: --with NODE, or --card FILE for each"
        raise click.UsageError(message)
    parties = {held.node: held for held in (_card_in(name) for name in cards)}
    if partners:
        parties |= session.run(_cards_held(said, partners))
    chosen = sorted(parties.values(), key=lambda held: held.node)
    documents.know_network(said, chosen[0].network)
    name = ident or "-".join(dict.fromkeys(held.country.lower() for held in chosen))
    begin = provision.utc_now().replace(hour=0, minute=0, second=0)
    payload = templates.new_agreement(
        name, chosen, valid_from=begin, valid_until=begin + timedelta(days=days or LIFE_DAYS)
    )
    draft: dict[str, Any] = {COMMENT: _NOTES, **payload}
    provision.check_draft(provision.encode_readable(draft))
    path = Path(out or f"{name}.draft.json")
    documents.write_output(path, provision.encode_readable(draft))
    if said.as_json:
        nodes = [str(held.node) for held in chosen]
        output.emit_json(said, {"ok": True, "file": str(path), "id": name, "parties": [*nodes]})
        return 0
    output.banner(said)
    output.line(f"Draft written to {path}. Read and correct it, then: exchange authority sign {path}")
    return 0


def _card_in(name: str) -> Card:
    """A signed card from a file."""
    from exchange.cli.documents import parse_signed
    from exchange.core.errors import PeerError
    from exchange.core.keys import read_card
    from exchange.core.wire import DocumentType

    _, document = parse_signed(name, DocumentType.CARD)
    held = read_card(document)
    if not held.authority.approves(document):
        raise PeerError("key.threshold", Path(name).name)
    return held


async def _cards_held(said: Settings, partners: tuple[str, ...]) -> dict[NodeId, Card]:
    """The cards of this node and of the partners named."""
    from exchange.cli.session import at_desk
    from exchange.core import wire
    from exchange.core.keys import read_card

    found: dict[NodeId, Card] = {}
    async with at_desk(said) as (desk, _):
        for args in ({}, *({"node": name} for name in partners)):
            facts = cast("JsonObject", await desk.call("card", cast("JsonObject", args)))
            held = read_card(wire.parse_signed_document(wire.parse_base64(str(facts["document"]))))
            found[held.node] = held
    return found


@agreement.command("sign")
@common
@click.argument("file")
@click.option("--out", metavar="FILE", help="Where to write; default: beside FILE, without .draft.")
@click.option("--before", multiple=True, metavar="FILE", help="An earlier version, signed elsewhere; repeatable.")
def sign(file: str, out: str | None, before: tuple[str, ...]) -> int:
    """Sign an agreement, as exchange authority sign does.

    FILE is a draft, or a document that others have signed already; --home is the authority's.
    """
    return sign_file(file, out, before)


@agreement.command("install")
@common
@click.argument("file")
@click.option("--ended", is_flag=True, help="Install it although it has ended: its successor needs it.")
def install(*, file: str, ended: bool) -> int:
    """Use an agreement that all parties signed, or a notice of one."""
    from exchange.cli import documents
    from exchange.cli.agreement_faults import refuse_faulty
    from exchange.cli.session import ask_object
    from exchange.core import wire

    said = settings()
    data, document = documents.parse_signed(file, wire.DocumentType.AGREEMENT, wire.DocumentType.SUSPENSION)
    if (refused := refuse_faulty(said, data)) is not None:
        return refused
    facts = ask_object(said, "install", {"document": wire.encode_base64(data), "ended": ended})
    if said.as_json:
        output.emit_json(said, {"ok": True, **facts})
        return 0
    output.banner(said)
    if document.payload_type == wire.DocumentType.SUSPENSION:
        output.line(tell_notice(facts))
        return 0
    output.line(
        f"Installed {output.text_of(facts['id'])}/{output.text_of(facts['version'])} between "
        f"{output.text_of(facts['parties'])}, in force until {output.text_of(facts['valid_until'])}."
    )
    return 0


@agreement.command("list")
@common
def list_agreements() -> int:
    """Every agreement that is held here."""
    from exchange.cli.session import ask_list

    said = settings()
    held = ask_list(said, "agreements", {})
    if said.as_json:
        output.emit_json(said, {"ok": True, "agreements": list(held)})
        return 0
    output.banner(said)
    rows = [
        [f"{item['id']}/{item['version']}", output.text_of(item["parties"]), str(item["valid_from"]),
         str(item["serves_until"]), _state_of(item)]
        for item in held
    ]  # fmt: skip
    output.table(["agreement", "parties", "from", "until", "state"], rows)
    return 0


def _state_of(item: JsonObject) -> str:
    """One word, and where it stands still with whom, by whom and since when."""
    return "; ".join([str(item["state"]).replace("_", " "), *(told for told, _ in _stopped(item))])


def _stopped(item: JsonObject) -> list[tuple[str, str]]:
    """With whom an agreement stands still, by whom and since when; and why."""
    return [
        (
            f"with {stands['node']}: {stands['state']} by {stands['by']} since {stands['since']}",
            output.text_of(stands["reason"]),
        )
        for stands in cast("list[JsonObject]", item["standing"])
        if stands["state"] != "serves"
    ]


@agreement.command("show")
@common
@click.argument("which")
@click.option("--version", type=click.IntRange(1, 9999), help="Default: the newest.")
def show(which: str, version: int | None) -> int:
    """An agreement clause by clause, by its id or its file."""
    from exchange.cli import documents, provision
    from exchange.cli.session import ask_object
    from exchange.core import wire
    from exchange.core.agreements import read_agreement

    said = settings()
    quotas: list[JsonObject] = []
    held: JsonObject = {"standing": []}
    if Path(which).is_file():
        data = documents.read_input(which, wire.MAX_DOCUMENT_BYTES)
    else:
        args: JsonObject = {"id": which} | ({} if version is None else {"version": version})
        held = ask_object(said, "agreement", args)
        data, quotas = wire.parse_base64(str(held["document"])), cast("list[JsonObject]", held["quotas"])
    document = provision.parse_draft(data)
    read = read_agreement(document)
    documents.know_network(said, read.network)
    facts = documents.agreement_to_json(read, len(document.signatures))
    if said.as_json:
        text = wire.parse_json(document.payload, max_bytes=wire.MAX_DOCUMENT_BYTES)
        output.emit_json(said, {"ok": True, **facts, "text": text, "quotas": [*quotas], "standing": held["standing"]})
        return 0
    output.banner(said)
    documents.show_agreement(read, facts)
    for told, why in _stopped(held):
        output.line()
        output.paragraph(f"{told}: {why}")
    for item in quotas:
        output.line()
        output.paragraph(
            f"{item['clause']}: {item['from']} has used {item['used']} of {item['per_day']} messages of today (UTC), "
            "as far as this node sent or received them"
        )
    return 0


@agreement.command("check")
@common
@click.argument("file")
@click.option("--to", multiple=True, required=True, metavar="NODE", help="Node id or country; repeatable.")
@click.option("--attach", multiple=True, metavar="FILE", help="Evidence that would go with it; repeatable.")
def check(file: str, to: tuple[str, ...], attach: tuple[str, ...]) -> int:
    """Who would receive what of a draft, and why not.

    Nothing is sent.
    """
    from exchange.cli.messages import Order, submit

    return submit(settings(), Order(file, to, attach, dry_run=True))
