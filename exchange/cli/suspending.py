"""``exchange agreement suspend``, ``leave`` and ``resume``: one party's notice about an agreement.

Rule: this node signs what stops an agreement, at once; what lets it go on is a file for the authority, as is any notice
with ``--draft``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exchange.cli import output
from exchange.cli.settings import Settings, common, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.core.wire import JsonObject

_reason = click.option("--reason", required=True, metavar="TEXT", help="Why; every party reads it.")
_language = click.option("--language", default="en", show_default=True, metavar="TAG", help="Of the reason.")
_others = click.option(
    "--nobody-continues", is_flag=True, help="Among three or more: the other parties stop as well, not only towards us."
)
_draft = click.option("--draft", metavar="FILE", help="Do nothing yet; write the notice for the authority to sign.")


def _notice_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (_draft, _others, _language, _reason, click.argument("ident", metavar="ID")):
        command = option(command)
    return command


@click.command()
@common
@_notice_options
def suspend(*, ident: str, reason: str, language: str, nobody_continues: bool, draft: str | None) -> int:
    """Stop an agreement at once, until the authority resumes it.

    The other parties are told until they have it. What waits comes back to its officer.
    """
    return _give_notice(ident, "suspend", {language: reason}, nobody_continues=nobody_continues, draft=draft)


@click.command()
@common
@_notice_options
@click.option("--yes", is_flag=True, help="Do not ask. Leaving is final.")
def leave(*, ident: str, reason: str, language: str, nobody_continues: bool, draft: str | None, yes: bool) -> int:
    """Leave an agreement at once and for ever.

    To exchange again, all parties sign a new agreement under another name.
    """
    from exchange.core.errors import LocalError

    if draft is None and not yes:
        try:
            sure = click.confirm(f"Leave {ident} for ever?", err=True)
        except click.Abort:
            sure = False
        if not sure:
            raise LocalError("input.declined")
    return _give_notice(ident, "leave", {language: reason}, nobody_continues=nobody_continues, draft=draft)


@click.command()
@common
@click.argument("ident", metavar="ID")
@_reason
@_language
@click.option("--draft", metavar="FILE", help="Where to write; default: ID.resume.draft.json here.")
def resume(*, ident: str, reason: str, language: str, draft: str | None) -> int:
    """Write the notice by which the authority lets an agreement go on.

    Then, at the authority: exchange authority sign FILE; here: exchange agreement install FILE.
    """
    name = draft or f"{ident}.resume.draft.json"
    return _give_notice(ident, "resume", {language: reason}, nobody_continues=False, draft=name)


def _give_notice(ident: str, action: str, reason: JsonObject, *, nobody_continues: bool, draft: str | None) -> int:
    from exchange.cli.session import ask_object

    said = settings()
    args: JsonObject = {"agreement": ident, "action": action, "reason": reason}
    args |= {"others_continue": not nobody_continues, "sign": draft is None}
    facts = ask_object(said, "notice", args)
    if draft is not None:
        return _write_draft(said, Path(draft), facts)
    if said.as_json:
        output.emit_json(said, {"ok": True, **facts})
        return 0
    output.banner(said)
    output.line(tell_notice(facts))
    return 0


def _write_draft(said: Settings, path: Path, facts: JsonObject) -> int:
    from exchange.cli import documents, provision
    from exchange.core import wire

    payload = wire.parse_json(str(facts.pop("payload")).encode(), max_bytes=wire.MAX_DOCUMENT_BYTES)
    documents.write_output(path, provision.encode_readable(payload))
    if said.as_json:
        output.emit_json(said, {"ok": True, "file": str(path), **facts})
        return 0
    output.banner(said)
    output.line(f"Notice written to {path}; nothing has changed yet.")
    output.line(f"At the authority: exchange authority sign {path.name}; then here: exchange agreement install FILE")
    return 0


_DONE = {"suspend": "suspended", "leave": "left", "resume": "resumed"}


def tell_notice(facts: JsonObject) -> str:
    """A notice that is in effect, in a sentence."""
    word = _DONE[str(facts["action"])]
    return f"{facts['agreement']} was {word} by {facts['party']} at {facts['time']} (notice {facts['serial']})."
