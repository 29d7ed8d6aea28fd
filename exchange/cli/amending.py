"""Versions of an agreement at the command line: the draft of the next one, and what differs between two.

Rules:
1. A draft of the next version says all that the one before says, with number, predecessor and dates filled in; whoever
   amends changes the rest by hand.
2. The parties' authorities are those of the cards held now: an authority that took new keys signs with these.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

from exchange.cli import output
from exchange.cli.settings import Settings, common, settings

if TYPE_CHECKING:
    from datetime import datetime

    from exchange.core.agreements import Agreement
    from exchange.core.differences import Difference
    from exchange.core.wire import JsonObject

_DAY: Final = timedelta(days=1)
_VERSION: Final = re.compile(r"[1-9][0-9]{0,3}")
_NOTES: Final = [
    "A draft of the next version. Members named // are comments and are not signed.",
    "All parties sign it: exchange authority sign FILE. Then at each node: exchange agreement install FILE.",
    "Until valid_from the version before it serves. Compare the two: exchange agreement diff ID FILE.",
]


def draft_next(said: Settings, ident: str, days: int | None, *, renew: bool) -> dict[str, Any]:
    """The payload of the next version of an agreement that is held here."""
    from exchange.cli import session

    facts, authorities = session.run(_held(said, ident))
    return next_version(facts, authorities, _today(), days, renew=renew)


def next_version(
    facts: JsonObject, authorities: dict[str, str], today: datetime, days: int | None, *, renew: bool
) -> dict[str, Any]:
    """The next version of an agreement, as the desk gives it.

    An amendment begins tomorrow and ends when the version before ends, a renewal begins when that one ends; of one that
    is over both begin today. ``days`` says how long it serves; else as long as the version before did.
    """
    from exchange.core import wire

    payload = cast("dict[str, Any]", facts["text"])
    begin, end = wire.parse_time(payload["valid_from"]), wire.parse_time(payload["valid_until"])
    start = max(end if renew else today + _DAY, begin + timedelta(seconds=1))
    if end <= today:
        start = today
    last = start + (end - begin if days is None else timedelta(days=days))
    if days is None and not renew and end > start:
        last = end
    parties = [
        {**party, "authority": authorities.get(party["node"], party["authority"])} for party in payload["parties"]
    ]
    return payload | {
        "version": payload["version"] + 1,
        "supersedes": facts["digest"],
        "parties": parties,
        "valid_from": wire.encode_time(start),
        "valid_until": wire.encode_time(last),
    }


def write_next(said: Settings, ident: str, days: int | None, out: str | None, *, renew: bool) -> int:
    """``exchange agreement new --amend ID`` and ``--renew ID``."""
    from exchange.cli import documents, provision

    payload = draft_next(said, ident, days, renew=renew)
    data = provision.encode_readable({"//": _NOTES, **payload})
    provision.check_draft(data)
    path = Path(out or f"{ident}.{payload['version']}.draft.json")
    documents.write_output(path, data)
    facts: JsonObject = {name: payload[name] for name in ("id", "version", "supersedes", "valid_from", "valid_until")}
    if said.as_json:
        output.emit_json(said, {"ok": True, "file": str(path), **facts})
        return 0
    output.banner(said)
    output.line(
        f"Draft of {ident}/{payload['version']} written to {path}: from {payload['valid_from']} "
        f"until {payload['valid_until']}."
    )
    output.line(f"Correct it, then: exchange authority sign {path.name}")
    return 0


def _today() -> datetime:
    from exchange.cli import provision

    return provision.utc_now().replace(hour=0, minute=0, second=0)


async def _held(said: Settings, ident: str) -> tuple[JsonObject, dict[str, str]]:
    """The newest version held, and the authority of every node whose card is held."""
    from exchange.cli.session import at_desk

    async with at_desk(said) as (desk, _):
        facts = cast("JsonObject", await desk.call("agreement", {"id": ident}))
        cards = cast("list[JsonObject]", await desk.call("cards", {}))
    return facts, {str(card["node"]): str(card["fingerprint"]) for card in cards}


# -- comparing -------------------------------------------------------------------------------------


@click.command()
@common
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
def diff(before: str, after: str) -> int:
    """What differs between two versions: wider, narrower, changed.

    A and B are files, or ids of agreements held here: ID is the newest version, ID/2 the second.
    """
    from exchange.cli.documents import know_network
    from exchange.core.differences import compare

    said = settings()
    old, new = (_named(said, which) for which in (before, after))
    know_network(said, new.network)
    found = compare(old, new)
    if said.as_json:
        output.emit_json(said, {"ok": True, **_names(old, new), "differences": [_to_json(item) for item in found]})
        return 0
    output.banner(said)
    _show(found, old, new)
    return 0


def _named(said: Settings, which: str) -> Agreement:
    from exchange.cli import documents, provision
    from exchange.cli.session import ask_object
    from exchange.core import wire
    from exchange.core.agreements import read_agreement
    from exchange.core.errors import LocalError

    if Path(which).is_file():
        return read_agreement(provision.parse_draft(documents.read_input(which, wire.MAX_DOCUMENT_BYTES)))
    ident, slash, version = which.partition("/")
    args: JsonObject = {"id": ident}
    if slash:
        if not _VERSION.fullmatch(version):
            raise LocalError("input.unknown_agreement")
        args["version"] = int(version)
    data = wire.parse_base64(str(ask_object(said, "agreement", args)["document"]))
    return read_agreement(wire.parse_signed_document(data))


def _names(old: Agreement, new: Agreement) -> JsonObject:
    return {"before": f"{old.id}/{old.version}", "after": f"{new.id}/{new.version}"}


def _to_json(item: Difference) -> JsonObject:
    return {
        "place": item.place,
        "what": item.what,
        "effect": item.effect.value,
        "before": item.before,
        "after": item.after,
    }


def _show(found: tuple[Difference, ...], old: Agreement, new: Agreement) -> None:
    """Place by place, so that each clause is read as a whole."""
    names = _names(old, new)
    if not found:
        output.line(f"{names['before']} and {names['after']} say the same.")
        return
    place = None
    for item in found:
        if item.place != place:
            place = item.place
            output.line()
            output.line(f"{place}:")
        output.paragraph(f"    {item.effect.value.upper():<9}{item.what}: {_change(item)}", indent=13)
    counts = {effect: sum(item.effect.value == effect for item in found) for effect in ("wider", "narrower", "changed")}
    output.line()
    output.line(f"{names['before']} -> {names['after']}: " + ", ".join(f"{n} {effect}" for effect, n in counts.items()))


def _change(item: Difference) -> str:
    if not item.before:
        return f"+ {item.after}"
    return f"{item.before} -> {item.after}" if item.after else f"- {item.before}"
