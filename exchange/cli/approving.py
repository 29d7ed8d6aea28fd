"""``exchange approve``: an officer looks at what waits for approvals, and signs it.

Rules:
1. The root is computed here, from the parts that are shown: the node is not asked what to sign.
2. Nobody signs what was not on the screen: at a terminal it is shown and asked for, elsewhere ``--yes`` says that
   somebody has read it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, cast

import click

from exchange.cli import output
from exchange.cli.settings import Settings, common, settings

if TYPE_CHECKING:
    from exchange.adapters.home import Home
    from exchange.cli.personal import Personal
    from exchange.cli.session import Desk
    from exchange.core.wire import JsonObject

DEFAULT_DAYS: Final = 35  # as long as a message is tried


@click.command()
@common
@click.argument("ident", metavar="ID")
@click.option("--role", type=click.Choice(("officer", "supervisor")), help="In which role; default: what is missing.")
@click.option(
    "--days", default=DEFAULT_DAYS, show_default=True, type=click.IntRange(1, 365), help="How long it counts."
)
@click.option("--yes", is_flag=True, help="You have read it: do not ask.")
def approve(*, ident: str, role: str | None, days: int, yes: bool) -> int:
    """Approve a message that waits for it, with your own key: --as OFFICER.

    You see all that you approve first.
    """
    from exchange.cli.session import run

    said = settings()
    home, _ = said.open_home()
    if said.officer is None:
        message = "name yourself: --as OFFICER"
        raise click.UsageError(message)
    state = run(_approve(said, home, ident, role, days, yes=yes))
    missing = cast("dict[str, Any]", state["missing"])
    if said.as_json:
        output.emit_json(said, {"ok": True, **state})
        return 0
    output.banner(said)
    output.line(f"Approved: message {ident}.")
    output.line(tell_missing(missing) or "All approvals are there: it leaves.")
    return 0


async def _approve(said: Settings, home: Home, ident: str, role: str | None, days: int, *, yes: bool) -> JsonObject:
    from exchange.cli.personal import is_same, load_names
    from exchange.cli.session import at_desk
    from exchange.core.approvals import PROPOSER
    from exchange.core.errors import LocalError

    async with at_desk(said) as (desk, _):
        shown = cast("dict[str, Any]", await desk.call("proposal", {"id": ident}))
        root = compute_root(shown)
        personal = _personal(said, home)
        chosen = PROPOSER if is_same(personal, shown["proposer"]) else role or await _role(desk, personal, shown)
        if not yes:
            if said.as_json or not sys.stdin.isatty():
                raise LocalError("input.declined", "--yes")
            output.banner(said)
            _show(shown, load_names(home), root)
            if not click.confirm(f"Approve this as {chosen}?", err=True):
                raise LocalError("input.declined")
        text = personal.approve(shown["network"], root, chosen, days)
        return cast("JsonObject", await desk.call("approve", {"id": ident, "approval": text}))


def _personal(said: Settings, home: Home) -> Personal:
    from exchange.cli.personal import personal_of
    from exchange.core.errors import LocalError

    personal = personal_of(said, home)
    if personal is None:
        raise LocalError("input.officer")
    return personal


async def _role(desk: Desk, personal: Personal, shown: dict[str, Any]) -> str:
    """As a supervisor where one is missing and this officer is one."""
    listed = cast("dict[str, Any]", await desk.call("officers", {}))
    roles = [role for item in listed["officers"] if item["id"] == personal.public.id for role in item["roles"]]
    if "supervisor" in roles and (shown["missing"]["supervisors"] or "officer" not in roles):
        return "supervisor"
    return "officer"


async def propose(said: Settings, desk: Desk, result: JsonObject) -> JsonObject:
    """Sign what was just submitted as its proposer; what is still missing then."""
    home, config = said.open_home()
    text = _personal(said, home).approve(config.network, str(result["root"]), "proposer", DEFAULT_DAYS)
    return cast("JsonObject", await desk.call("approve", {"id": result["id"], "approval": text}))


def compute_root(shown: dict[str, Any]) -> str:
    """The root of the parts shown. Raises ``LocalError`` input.root where the node says it is another."""
    from exchange.core import wire
    from exchange.core.errors import LocalError
    from exchange.core.statement import Part, Statement, part_digest

    parts = tuple(
        Part(wire.Digest(part["digest"]))
        if "digest" in part
        else Part(part_digest(wire.parse_base64(part["salt"]), part["json"]))
        for part in shown["parts"]
    )
    root = Statement(wire.Digest(""), "", parts).root
    if root != shown["root"]:
        raise LocalError("input.root")
    return root


# -- showing ---------------------------------------------------------------------------------------


def _show(shown: dict[str, Any], names: dict[str, str], root: str) -> None:
    import json

    from exchange.cli.personal import called
    from exchange.cli.reading import tree

    header, *others = shown["parts"]
    output.pairs([
        ("proposed by", called(names, shown["proposer"])),
        ("root", root),
    ])  # fmt: skip
    output.line("part header")
    tree(json.loads(header["json"]), 1)  # whole: to whom it goes is believed of what is signed, not of the node
    for item in shown["recipients"]:
        held = output.text_of(item["withheld"])
        without = f", without {held}" if held else ""
        output.line(f"the node says: to {item['to']} by clause {item['clause']}{without}")
    for name, part in zip(shown["names"], others, strict=True):
        output.line()
        if "digest" in part:
            output.line(f"part {name}: withheld from everybody, digest {part['digest']}")
            continue
        output.line(f"part {name}")
        tree(_without_keys(json.loads(part["json"])), 1)
    output.line()
    show_state(shown, names)


def _without_keys(value: Any) -> Any:  # noqa: ANN401 - a part's value
    """The part as people read it: the key of a file is for nodes alone, and a screen is copied."""
    if isinstance(value, list):
        return [
            {name: kept for name, kept in item.items() if name != "blob"} if isinstance(item, dict) else item
            for item in value
        ]
    return value


def show_state(state: dict[str, Any], names: dict[str, str]) -> None:
    """Who has signed, and what is missing."""
    from exchange.cli.personal import called

    for item in state["given"]:
        output.line(f"signed as {item['role']} by {called(names, item['officer'])}, {item['time']}")
    if told := tell_missing(state["missing"]):
        output.line(told)


def tell_missing(missing: dict[str, Any]) -> str:
    """What a message still waits for, in words; nothing where it waits for nothing."""
    told: list[str] = []
    if missing["proposer"]:
        told.append("the signature of who proposed it")
    if count := missing["count"]:
        supervisors = missing["supervisors"]
        of_whom = f", of whom {supervisors} a supervisor" if supervisors else ""
        told.append(f"{count} approval{'s' * (count != 1)}{of_whom}")
    return f"It waits for {' and '.join(told)}." if told else ""
