"""``exchange due``: the answers that are due, by this node and to it.

Rule: whose time is up twice over is not waited for in silence: the list ends with the duty desk to telephone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import click

from exchange.cli import output
from exchange.cli.settings import common, settings

if TYPE_CHECKING:
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
