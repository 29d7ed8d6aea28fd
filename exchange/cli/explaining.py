"""A decision in words: by which rule, what would have to change, what is withheld and why, which duties follow.

Rules:
1. Texts of an agreement are shown in the reader's language where the agreement has it, else in English.
2. Nothing is decided here: what the node told is shown, all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exchange.cli import output

if TYPE_CHECKING:
    from exchange.core.wire import JsonValue


def withheld_cell(item: dict[str, Any]) -> str:
    """The parts that a recipient does not get, for the table."""
    names = output.text_of(item["withheld"])
    return f"{names} (clause {item['clause']})" if names else ""


def tell_decision(item: dict[str, Any]) -> None:
    """One recipient's decision below the table."""
    output.line()
    text = output.text_of(item["text"])
    verdict = "allowed" if item["allowed"] else "refused"
    by = f" by {item['agreement']} {item['clause'] or ''}".rstrip() if item["agreement"] else ""
    output.paragraph(f"{item['to']}: {verdict}{by}" + (f": {text}" if text else ""), indent=4)
    for need in item["needs"]:
        output.paragraph(f"  to change: {need['what'] or need['code']} ({need['code']})", indent=4)
    for held in item["withheld_fields"]:
        fields = output.text_of(held["fields"])
        output.paragraph(f"  withheld:  {held['part']} ({fields}), because {held['clause']} says so", indent=4)
    if quota := item["quota"]:
        output.paragraph(f"  quota:     {quota['used']} of {quota['per_day']} a day are used", indent=4)
    for duty in _duties(item["duties"]):
        output.paragraph(f"  duty:      {duty}", indent=4)


def _duties(duties: dict[str, JsonValue] | None) -> list[str]:
    """What follows, in sentences; None where no clause was found."""
    if duties is None:
        return []
    told: list[str] = []
    if missing := duties["approvals_missing"]:
        told.append(f"{missing} more officers must approve before it can leave")
    if missing := duties["supervisors_missing"]:
        told.append(f"{missing} more of those who approve must be supervisors")
    if hours := duties["respond_within_hours"]:
        told.append(f"the recipient answers within {hours} hours of accepting it")
    told.append(f"the recipient deletes it {duties['delete_after_days']} days after accepting it")
    if duties["onward"] == "parties":
        told.append(f"the recipient may pass it on to {output.text_of(duties['onward_parties'])}")
    elif duties["onward"] == "with_consent":
        told.append("the recipient asks before passing it on")
    else:
        told.append("the recipient does not pass it on")
    if duties["confirm_before_opening"]:
        told.append(
            "conditions that its readers must know first (H3); the recipient's node shows the code and does not ask"
        )
    return told
