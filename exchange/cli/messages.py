"""``exchange send``, ``reply`` and every dry run: who receives what, by which clause, and why not.

Rules:
1. With evidence, the plan is asked for first: nothing is sealed for a message that may not leave.
2. A refusal names each recipient's code and clause, and what would have to change; content is never repeated.
3. A person knows the id of a message before the waiting begins, and whoever ends the waiting is told that the message
   goes on being sent: nobody sends a case twice because of a Ctrl-C.

Length: one order from its file to what is told of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

from exchange.cli import output
from exchange.cli.explaining import tell_decision, withheld_cell
from exchange.cli.main import STOPPED
from exchange.cli.settings import Settings, common, from_option, named, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractContextManager

    from exchange.cli.session import Desk
    from exchange.core.errors import PeerError
    from exchange.core.wire import JsonObject, JsonValue

WAIT_SECONDS: Final = 60
MAX_CUSTODY_BYTES: Final = 262_144
ARRIVED: Final = frozenset({"accepted", "complete", "opened", "answered"})
_UNKNOWN_TYPE: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Order:
    """What the user asked for; ``reply_to`` is the id of a received message, ``sender`` whose."""

    file: str
    to: tuple[str, ...] = ()
    attach: tuple[str, ...] = ()
    custody: str | None = None
    permitted_only: bool = False
    dry_run: bool = False
    wait: bool = False
    reply_to: str | None = None
    sender: str | None = None


@dataclass(slots=True)
class Outcome:
    """What came of it so far.

    ``asked``: the node has the order, and perhaps carried it out; ``told``: the id was shown already.
    """

    result: JsonObject = field(default_factory=dict)
    running: bool = False
    asked: bool = False
    told: bool = False


# -- commands --------------------------------------------------------------------------------------

_options = (
    click.option("--attach", multiple=True, metavar="FILE", help="Evidence that goes with it; repeatable."),
    click.option("--custody", metavar="FILE", help="JSON: for a file's name, its chain of custody."),
    click.option("--dry-run", is_flag=True, help="Show who would receive what, and send nothing."),
    click.option(
        "--wait", is_flag=True, help="Wait until every recipient's node answered; 1 where one did not accept."
    ),
)


def _order_options(command: Callable[..., int]) -> Callable[..., int]:
    for option in reversed(_options):
        command = option(command)
    return command


@click.command()
@common
@click.argument("file")
@click.option("--to", multiple=True, required=True, metavar="NODE", help="Node id or country; repeatable.")
@click.option("--permitted-only", is_flag=True, help="Where some may not receive it, send it to the others.")
@_order_options
def send(
    *,
    file: str,
    to: tuple[str, ...],
    attach: tuple[str, ...],
    custody: str | None,
    permitted_only: bool,
    dry_run: bool,
    wait: bool,
) -> int:
    """Send a draft ({kind, purpose, handling, tlp, case, content, ...}); - reads it from standard input."""
    return submit(settings(), Order(file, to, attach, custody, permitted_only, dry_run, wait))


@click.command()
@common
@click.argument("ident", metavar="ID")
@click.argument("file")
@from_option
@_order_options
def reply(
    *,
    ident: str,
    file: str,
    attach: tuple[str, ...],
    custody: str | None,
    dry_run: bool,
    wait: bool,
    sender: str | None,
) -> int:
    """Answer a received message: its sender, case and id are filled in."""
    order = Order(file, (), attach, custody, dry_run=dry_run, wait=wait, reply_to=ident, sender=sender)
    return submit(settings(), order)


# -- doing it --------------------------------------------------------------------------------------


def submit(said: Settings, order: Order) -> int:
    """Carry out an order and tell what came of it; returns the exit code."""
    from exchange.cli.documents import parse_input
    from exchange.cli.session import run
    from exchange.core.errors import PeerError
    from exchange.core.statement import MAX_STATEMENT_BYTES

    said.open_home()
    draft = parse_input(order.file, MAX_STATEMENT_BYTES)
    outcome = Outcome()
    try:
        run(_submit(said, order, draft, outcome))
    except PeerError as error:
        if error.code.startswith("schema."):
            return _explain(said, error, draft)
        raise
    except KeyboardInterrupt:
        if not outcome.asked:
            raise
        return _tell_stopped(said, order, outcome)
    return _tell(said, order, outcome)


async def _submit(said: Settings, order: Order, draft: JsonValue, outcome: Outcome) -> None:
    from exchange.cli.session import at_desk

    files = [await _measure(Path(name)) for name in order.attach]
    if order.custody is not None:
        files = _with_custody(files, order.custody)
    async with at_desk(said) as (desk, outcome.running):
        if order.reply_to is not None:
            order, draft = await _as_reply(desk, order, draft)
        args: JsonObject = {"draft": draft, "to": [*dict.fromkeys(order.to)], "permitted_only": order.permitted_only}
        if order.dry_run or files:
            plan = await _call_send(desk, {**args, "dry_run": True, "attachments": [*files]})
            if order.dry_run:
                outcome.result = plan
                return
            if not _may_leave(plan, order):
                await _call_send(desk, {**args, "dry_run": True, "attachments": [*files], "note_refusals": True})
                outcome.result = {**plan, "refused": True}
                return
        staged = [await _stage(said, desk, Path(name), item) for name, item in zip(order.attach, files, strict=True)]
        outcome.asked = True
        outcome.result = await _call_send(desk, {**args, "attachments": [*staged]})
        outcome.asked = not outcome.result.get("refused")
        if outcome.result.get("waits"):
            from exchange.cli.approving import propose

            outcome.result["approvals"] = await propose(said, desk, outcome.result)
            return  # for people first, and not for the other node
        if order.wait and outcome.running and outcome.asked:
            await _wait(said, desk, outcome)


async def _wait(said: Settings, desk: Desk, outcome: Outcome) -> None:
    """Tell the id, then wait for the answers; a node that stops meanwhile has the message still."""
    from exchange.core.errors import LocalError

    if not said.as_json:
        _tell_id(said, outcome)
    try:
        found = await desk.call("wait", {"id": outcome.result["id"], "seconds": WAIT_SECONDS})
    except LocalError as error:
        if error.code != "node.not_running":
            raise
        outcome.running = False
        return
    statuses = cast("dict[str, str]", found)
    for item in _recipients(outcome.result):
        if item["allowed"]:
            item["status"] = statuses.get(str(item["to"]), item["status"])


async def _call_send(desk: Desk, args: JsonObject) -> JsonObject:
    return cast("JsonObject", await desk.call("send", args))


def _recipients(result: JsonObject) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", result["recipients"])


def _may_leave(plan: JsonObject, order: Order) -> bool:
    allowed = [bool(item["allowed"]) for item in _recipients(plan)]
    return any(allowed) if order.permitted_only else all(allowed)


async def _as_reply(desk: Desk, order: Order, draft: JsonValue) -> tuple[Order, JsonValue]:
    """The draft as an answer to the message named. Raises ``LocalError`` input.unknown_id, input.draft."""
    from exchange.core.errors import LocalError

    header = cast("dict[str, str]", await desk.call("header", named(order.reply_to or "", order.sender)))
    addressed = replace(order, to=(header["from"],))
    if not isinstance(draft, dict):
        return addressed, draft  # its schema says what is wrong with it
    if draft.get("in_reply_to") not in {None, order.reply_to}:
        raise LocalError("input.draft", "in_reply_to names another message; leave it out: reply fills it in")
    filled: JsonObject = {**draft, "in_reply_to": order.reply_to}
    filled.setdefault("case", header["case"])
    return addressed, filled


# -- evidence --------------------------------------------------------------------------------------


async def _measure(path: Path) -> JsonObject:
    """What a statement says of a file, without its key. Raises ``LocalError`` input.not_found."""
    from exchange.cli.session import file_chunks

    digest, length = hashlib.sha256(), 0
    async for piece in file_chunks(path):
        await asyncio.to_thread(digest.update, piece)
        length += len(piece)
    # Not the machine's own table of types: the same file has the same type everywhere.
    kind = mimetypes.MimeTypes().guess_type(path.name)[0] or _UNKNOWN_TYPE
    return {"name": path.name, "media_type": kind, "len": length, "sha256": digest.hexdigest()}


def _with_custody(files: list[JsonObject], name: str) -> list[JsonObject]:
    from exchange.cli.documents import parse_input
    from exchange.core.errors import LocalError

    custody = parse_input(name, MAX_CUSTODY_BYTES)
    if not isinstance(custody, dict) or not set(custody) <= {str(item["name"]) for item in files}:
        raise LocalError("input.draft", "custody names a file that is not attached")
    return [{**item, "custody": custody[str(item["name"])]} if item["name"] in custody else item for item in files]


async def _stage(said: Settings, desk: Desk, path: Path, item: JsonObject) -> JsonObject:
    """Hand a file to the node; what ``send`` takes for it."""
    with _progress(said, path.name, cast("int", item["len"])) as advance:
        staged = await desk.stage(_told(path, advance))
    handle: JsonObject = {"h": staged["h"], "name": item["name"], "media_type": item["media_type"]}
    return handle | ({"custody": item["custody"]} if "custody" in item else {})


async def _told(path: Path, advance: Callable[[int], None]) -> AsyncIterator[bytes]:
    from exchange.cli.session import file_chunks

    async for piece in file_chunks(path):
        yield piece
        advance(len(piece))


def _progress(said: Settings, name: str, length: int) -> AbstractContextManager[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    if said.as_json or not sys.stderr.isatty():
        return nullcontext(lambda _: None)
    return _Bar(name, length)


class _Bar:
    def __init__(self, name: str, length: int) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._progress = Progress(console=Console(stderr=True, width=output.width()))
        self._task = self._progress.add_task(output.clean(name).replace("[", "("), total=max(1, length))

    def __enter__(self) -> Callable[[int], None]:
        self._progress.start()
        return lambda count: self._progress.advance(self._task, count)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


# -- telling ---------------------------------------------------------------------------------------


def _explain(said: Settings, error: PeerError, draft: JsonValue) -> int:
    """A draft that its schema refuses: every fault of it, for whoever wrote it."""
    from exchange.cli.schema import find_problems, problems_to_json, show_problems
    from exchange.cli.wiring import schema_book

    try:
        _, problems = find_problems(schema_book(), draft)
    except type(error):  # an unknown kind has no schema that could say more
        problems = ()
    code = output.fail(said, error, {"problems": problems_to_json(problems)})
    if problems and not said.as_json:
        show_problems(problems)
    return code


def _tell_id(said: Settings, outcome: Outcome) -> None:
    output.banner(said)
    output.line(f"Message {outcome.result['id']}")
    outcome.told = True


def _tell_stopped(said: Settings, order: Order, outcome: Outcome) -> int:
    """Ctrl-C after the node had the order: what it does with it does not end with the waiting."""
    if not outcome.result:
        output.note("stopped while the node took the message; exchange outbox shows whether it is queued")
    else:
        ident = str(outcome.result["id"])
        if said.as_json:
            output.emit_json(said, _as_document(order, outcome, [], ok=False))
        output.note(f"stopped waiting; message {ident} is queued and goes on being sent: exchange outbox")
        output.note("do not send it again")
    return STOPPED


def _tell(said: Settings, order: Order, outcome: Outcome) -> int:
    recipients = _recipients(outcome.result)
    refused = bool(outcome.result.get("refused"))
    no = [item for item in recipients if not item["allowed"]]
    if order.dry_run:
        code = 0 if _may_leave(outcome.result, order) else 1
    else:
        late = [item for item in recipients if item["allowed"] and item.get("status") not in ARRIVED]
        code = 1 if refused or (order.wait and late) else 0
    if said.as_json:
        output.emit_json(said, _as_document(order, outcome, no, ok=code == 0))
    if not outcome.told:
        output.banner(said, err=said.as_json)
    if not said.as_json:
        _tell_people(order, outcome, recipients, refused=refused)
    for item in no:
        output.note("")
        output.note(f"{item['to']} may not receive it:" if not refused else f"{item['to']} was refused:")
        output.print_error(item["code"], item["reason"], item["clause"])
    return code


def _as_document(order: Order, outcome: Outcome, no: list[dict[str, Any]], *, ok: bool) -> JsonObject:
    recipients: list[JsonValue] = []
    for item in _recipients(outcome.result):
        error = None if item["allowed"] else output.error_to_json(item["code"], item["reason"], item["clause"])
        recipients.append({**item, "error": error})
    found: JsonObject = {"ok": ok, "id": outcome.result["id"], "dry_run": order.dry_run, "recipients": recipients}
    found["refused"] = bool(no) and (order.dry_run or bool(outcome.result.get("refused")))
    statuses = {str(item.get("status")) for item in _recipients(outcome.result) if item["allowed"]}
    if order.dry_run:
        found["id"] = None
    elif outcome.result.get("refused"):
        found |= {"id": None, "status": "refused"}
    else:
        found["status"] = min(statuses, key=_rank, default="queued")
    if outcome.result.get("waits"):
        found |= {"waits": True, "approvals": outcome.result["approvals"]}
    if no:
        found["error"] = output.error_to_json(no[0]["code"], no[0]["reason"], no[0]["clause"])
    return found


def _rank(status: str) -> int:
    """The least advanced recipient speaks for the message."""
    order = ("refused", "expired", "recalled", "queued", "sent", "accepted", "complete", "opened", "answered")
    return order.index(status)


def _tell_people(order: Order, outcome: Outcome, recipients: list[dict[str, Any]], *, refused: bool) -> None:
    if order.dry_run:
        output.line("Dry run: nothing was sent.")
    elif refused:
        output.line("Refused: nothing was sent.")
    elif not outcome.told:
        output.line(f"Message {outcome.result['id']}")
    rows = [
        [
            str(item["to"]),
            _verdict(item, order, refused=refused),
            str(item["agreement"] or ""),
            str(item["clause"] or ""),
            output.text_of(item["parts"]) if item["allowed"] else "nothing",
            withheld_cell(item),
        ]
        for item in recipients
    ]
    output.table(["to", "", "agreement", "clause", "receives", "withheld"], rows)
    for item in recipients:
        if order.dry_run or not item["allowed"]:
            tell_decision(item)
    if outcome.result.get("waits"):
        from exchange.cli.approving import tell_missing

        output.line(tell_missing(cast("Any", outcome.result["approvals"])["missing"]))
        output.line(f"Next: exchange approve {outcome.result['id']} --as OFFICER")
    elif not (order.dry_run or refused or outcome.running):
        output.note("The node is not running: the message leaves when it does (exchange node run).")


def _verdict(item: dict[str, Any], order: Order, *, refused: bool) -> str:
    if not item["allowed"]:
        return "refused"
    if order.dry_run:
        return "allowed"
    return "not sent" if refused else str(item.get("status", "queued"))
