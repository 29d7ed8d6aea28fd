"""``exchange officer`` and ``exchange personnel``: who acts for a node, and who says so.

Rules:
1. A list of officers is made where the node is and signed where the personnel keys are, file in and file out. No
   command has both.
2. A draft continues the list in force, with the next serial. It has keys, roles and dates, and no names.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

from exchange.cli import output
from exchange.cli.settings import Settings, common, read_new_passphrase, settings
from exchange.cli.setup import country_option, network_option, sign_file
from exchange.core.errors import LocalError, PeerError

if TYPE_CHECKING:
    from exchange.adapters.config import Config
    from exchange.adapters.home import Home
    from exchange.core.officers import Officer, OfficerList

DRAFT: Final = "officers.draft.json"
ROLES: Final = ("officer", "supervisor", "operator", "auditor")
COMMENT: Final = "A draft: nobody is appointed by it. At the personnel's home: exchange officer sign FILE"
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f/]{1,100}")


@click.group()
@common
def officer() -> None:
    """People who act for this node: personal keys, the signed list, roles."""


# -- personal keys ---------------------------------------------------------------------------------


def _name(_: click.Context, __: click.Parameter, value: str) -> str:
    if not _NAME.fullmatch(value):
        message = "1 to 100 characters, without a slash"
        raise click.BadParameter(message)
    return value


@officer.command("new")
@common
@click.argument("name", callback=_name)
@click.option("--out", metavar="FILE", help="The key file, for example on a stick; default: in this home.")
def new(name: str, out: str | None) -> int:
    """Make an officer's personal key.

    It lies under a passphrase that the officer alone knows. The name stays in this home.
    """
    from exchange.adapters.home import write_file
    from exchange.cli import documents, personal

    said = settings()
    home, _ = said.open_home()
    if name in personal.load_names(home).values():
        raise LocalError("input.exists", "the name")
    public, data = personal.new_personal_key(personal.read_officer_passphrase(said, new=True))
    path = Path(out) if out else personal.folder_of(home) / f"{public.id[:32]}.json"
    if out:
        documents.write_output(path, data, mode=0o600)
    else:
        write_file(path, data)
    personal.save_name(home, public.id, name)
    if said.as_json:
        output.emit_json(said, {"ok": True, "file": str(path), "id": public.id})
        return 0
    output.banner(said)
    output.line(f"Personal key {public.id[:16]} of {name}: {path}")
    output.line(f"Next: exchange officer add {name} --role officer")
    return 0


# -- the draft of a list ---------------------------------------------------------------------------

_draft = click.option(
    "--draft", default=DRAFT, show_default=True, metavar="FILE", help="The draft; one that is there is continued."
)


@officer.command("add")
@common
@click.argument("who")
@click.option("--role", "roles", multiple=True, required=True, type=click.Choice(ROLES), help="Repeatable.")
@click.option("--days", default=365, show_default=True, type=click.IntRange(1, 3_650), help="How long it is valid.")
@_draft
def add(who: str, roles: tuple[str, ...], days: int, draft: str) -> int:
    """Put an officer on the next list.

    One who is there gets these roles and dates. WHO is a name of this home, or a key file.
    """
    from exchange.cli import personal, provision
    from exchange.core.officers import Officer, Role

    said = settings()
    home, config = said.open_home()
    public = personal.read_public(personal.find_key(home, who))
    begin = provision.utc_now() - provision.KEYS_VALID_BEFORE
    entry = Officer(public, frozenset(map(Role, roles)), begin, provision.utc_now() + timedelta(days=days))
    listed = _drafted(said, config, Path(draft))
    return _write(said, home, Path(draft), replace(listed, officers=(*_without(listed, public.id), entry)))


@officer.command("remove")
@common
@click.argument("who")
@_draft
def remove(who: str, draft: str) -> int:
    """Leave an officer out of the next list.

    WHO is a name of this home, or at least eight digits of the key id.
    """
    from exchange.cli import personal

    said = settings()
    home, config = said.open_home()
    listed = _drafted(said, config, Path(draft))
    known = personal.find_id(home, who) or (who if len(who) >= personal.MIN_ID_CHARS else None)
    found = [] if known is None else [item for item in listed.officers if item.key.id.startswith(known)]
    if len(found) != 1:
        raise LocalError("input.officer", "the list")
    return _write(said, home, Path(draft), replace(listed, officers=_without(listed, found[0].key.id)))


def _without(listed: OfficerList, ident: str) -> tuple[Officer, ...]:
    return tuple(item for item in listed.officers if item.key.id != ident)


def _drafted(said: Settings, config: Config, path: Path) -> OfficerList:
    """The draft so far, else the list in force with the next serial. Raises input.exists where the file is signed."""
    from exchange.cli import documents, provision, session
    from exchange.core import wire
    from exchange.core.officers import OfficerList, read_officers

    if path.exists():
        document = provision.parse_draft(documents.read_input(str(path), wire.MAX_DOCUMENT_BYTES))
        if document.signatures:
            raise LocalError("input.exists", path.name)
        listed = read_officers(document)
        if listed.node != config.node:
            raise PeerError("officers.invalid", "officers.node")
    else:
        facts = session.ask_object(said, "officers", {})
        listed = OfficerList(config.network, config.node, 0, provision.utc_now(), ())
        if facts["document"] is not None:
            listed = read_officers(wire.parse_signed_document(wire.parse_base64(str(facts["document"]))))
        listed = replace(listed, serial=listed.serial + 1)
    return replace(listed, issued=provision.utc_now())


def _write(said: Settings, home: Home, path: Path, listed: OfficerList) -> int:
    from exchange.adapters.home import write_file
    from exchange.cli import personal, provision
    from exchange.core import wire
    from exchange.core.officers import encode_officers

    value = cast("dict[str, Any]", wire.parse_json(encode_officers(listed), max_bytes=wire.MAX_DOCUMENT_BYTES))
    write_file(path, provision.encode_readable({provision.COMMENT: COMMENT, **value}))
    if said.as_json:
        ids = [officer.key.id for officer in listed.officers]
        output.emit_json(said, {"ok": True, "file": str(path), "serial": listed.serial, "officers": [*ids]})
        return 0
    output.banner(said)
    show_list(listed, personal.load_names(home))
    output.line(f"Next: exchange officer sign {path}, at the personnel's home.")
    return 0


def show_list(listed: OfficerList, names: dict[str, str]) -> None:
    """A list for people."""
    from exchange.core import wire

    output.line(f"Officers of {listed.node}, list {listed.serial}:")
    rows = [
        [
            item.key.id[:32],
            names.get(item.key.id, ""),
            ", ".join(role for role in ROLES if role in item.roles),
            wire.encode_time(item.valid_until),
        ]
        for item in listed.officers
    ]
    output.table(["id", "name", "roles", "until"], rows)


@officer.command("sign")
@common
@click.argument("file")
@click.option("--out", metavar="FILE", help="Where to write; default: beside FILE, without .draft.")
def sign(file: str, out: str | None) -> int:
    """Sign a list of officers; --home is that of the personnel keys."""
    return sign_file(file, out, kind="personnel")


@officer.command("install")
@common
@click.argument("file")
def install(file: str) -> int:
    """Use a list of officers that the personnel signed."""
    from exchange.cli import documents
    from exchange.cli.session import ask_object
    from exchange.core import wire

    said = settings()
    data, _ = documents.parse_signed(file, wire.DocumentType.OFFICERS)
    facts = ask_object(said, "install", {"document": wire.encode_base64(data)})
    if said.as_json:
        output.emit_json(said, {"ok": True, **facts})
        return 0
    output.banner(said)
    count = len(cast("list[Any]", facts["officers"]))
    output.line(f"Installed list {facts['serial']} of {output.text_of(facts['node'])}: {count} officers.")
    return 0


@officer.command("list")
@common
@click.argument("which", required=False)
def list_officers(which: str | None) -> int:
    """The officers in force: this node's, or a peer's."""
    from exchange.cli import personal
    from exchange.cli.session import ask_object
    from exchange.core import wire
    from exchange.core.officers import read_officers

    said = settings()
    home, config = said.open_home()
    facts = ask_object(said, "officers", {} if which is None else {"node": which})
    names = personal.load_names(home) if facts["node"] == config.node else {}
    document = facts.pop("document")
    if said.as_json:
        officers = [{**item, "name": names.get(item["id"])} for item in cast("list[Any]", facts["officers"])]
        output.emit_json(said, {"ok": True, **facts, "officers": [*officers]})
        return 0
    output.banner(said)
    if document is None:
        output.line(f"{output.text_of(facts['node'])} has no officers: its operator does everything.")
        return 0
    show_list(read_officers(wire.parse_signed_document(wire.parse_base64(str(document)))), names)
    return 0


# -- personnel -------------------------------------------------------------------------------------


@click.group()
@common
def personnel() -> None:
    """The offline home of the keys that sign lists of officers."""


@personnel.command("create")
@common
@country_option
@network_option
@click.option("--keys", default=1, show_default=True, type=click.IntRange(1, 9), help="How many keys there are.")
@click.option("--threshold", type=click.IntRange(1, 9), help="How many of them must sign; default: all.")
def create(*, country: str, network: str, keys: int, threshold: int | None) -> int:
    """Make the personnel keys, one file each.

    Give them to people who appoint, and never to who runs the node.
    """
    from exchange.cli import provision
    from exchange.core.wire import NetworkId

    said = settings()
    path = said.home_path()
    needed = keys if threshold is None else threshold
    if needed > keys:
        message = "--threshold cannot be above --keys"
        raise click.UsageError(message)
    said.network = network
    made = provision.create_authority(
        path,
        country,
        NetworkId(network),
        keys=keys,
        threshold=needed,
        passphrase=read_new_passphrase(said),
        kind="personnel",
    )
    if said.as_json:
        output.emit_json(said, {"ok": True, "home": str(path), "keys": keys, "threshold": needed})
        return 0
    output.banner(said)
    output.line(f"Personnel of {country}: {made.authority.threshold} of {len(made.authority.keys)} keys must sign.")
    output.line("Next: exchange personnel card card.unsigned.json, before the authority signs that card.")
    return 0


@personnel.command("card")
@common
@click.argument("file")
@click.option("--out", metavar="FILE", help="Default: the draft itself; for a signed card card.unsigned.json.")
def card(file: str, out: str | None) -> int:
    """Put the personnel keys into a card's draft.

    Of a signed card it makes the draft that follows it. The card's own authority signs it then.
    """
    from exchange.adapters.home import write_file
    from exchange.cli import documents, provision
    from exchange.core import wire

    said = settings()
    holder = provision.load_authority(said.home_path(), "personnel")
    said.network = holder.network
    data = documents.read_input(file, wire.MAX_DOCUMENT_BYTES)
    draft, was_signed = provision.with_personnel(data, holder)
    path = Path(out) if out else Path(file).with_name("card.unsigned.json") if was_signed else Path(file)
    if path == Path(file):
        write_file(path, draft)
    else:
        documents.write_output(path, draft)
    if said.as_json:
        output.emit_json(said, {"ok": True, "file": str(path), "keys": len(holder.authority.keys)})
        return 0
    output.banner(said)
    output.line(f"{path} names {len(holder.authority.keys)} personnel keys. Next: exchange authority sign {path}")
    return 0
