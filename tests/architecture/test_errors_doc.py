"""docs/errors.md lists every code of ``exchange.core.errors`` once, word for word.

``python -m tests.architecture.test_errors_doc > docs/errors.md`` writes the file anew from the table of codes.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from exchange.core.errors import CODES, Code, Fault
from tests.places import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE: Final = ROOT / "docs" / "errors.md"
COMMAND: Final = "python -m tests.architecture.test_errors_doc > docs/errors.md"
FAULTS: Final = {Fault.PEER: "input or peer", Fault.LOCAL: "this node", Fault.INTEGRITY: "integrity: stop"}
INTRODUCTION: Final = f"""\
# Error codes

Every refusal and every failure names one of these codes. A code never changes its meaning. The words are those of the
table in `exchange/core/errors.py`, and this page is written from it: `{COMMAND}`.

| whose fault | what it means |
| --- | --- |
| {FAULTS[Fault.PEER]} | The bytes, the file or the request that came in is wrong. The code may be answered to a peer. |
| {FAULTS[Fault.LOCAL]} | This node, its operator or its machine. The operator is told, a peer never. |
| {FAULTS[Fault.INTEGRITY]} | What is stored contradicts itself. The node stops. |

Beside its code an error names a place (a member, a step such as R12 of [protocol.md](protocol.md), a file) and, where a
rule refused, the clause. It never names the value that was wrong.
"""


def row_of(code: str, row: Code) -> str:
    """Return the table row of one code."""
    return f"| `{code}` | {FAULTS[row.fault]} | {row.what} | {row.remedy} |"


def page_of(codes: Mapping[str, Code]) -> str:
    """Return the whole page: a table for each area, in the order of the codes."""
    lines = [INTRODUCTION]
    areas = dict.fromkeys(code.partition(".")[0] for code in codes)
    for area in areas:
        lines += [f"## {area}", "", "| code | whose fault | what happened | what to do |", "| --- | --- | --- | --- |"]
        lines += [row_of(code, row) for code, row in codes.items() if code.partition(".")[0] == area]
        lines.append("")
    return "\n".join(lines)


def faults_in(page: str, codes: Mapping[str, Code]) -> list[str]:
    """Return what is wrong with the page; a row that is missing is returned ready to paste."""
    wanted = [row_of(code, row) for code, row in codes.items()]
    found = [line for line in page.splitlines() if line.startswith("| `")]
    missing = [row for row in wanted if row not in found]
    surplus = [f"remove: {row}" for row in found if row not in wanted]
    twice = [f"remove the second: {row}" for row in wanted if found.count(row) > 1]
    return [*missing, *surplus, *twice]


def test_every_code_has_its_row() -> None:
    """The page has exactly one row for every code, with the words of the table of codes."""
    faults = faults_in(PAGE.read_text(encoding="utf-8"), CODES)
    assert faults == [], "\n".join(["", COMMAND, *faults])


def test_a_wrong_page_is_told_row_by_row() -> None:
    """A missing row, a row of an unknown code, changed words and a repeated row are each told."""
    one, two = Code(Fault.PEER, "it is wrong", "mend it"), Code(Fault.LOCAL, "it is full", "free space")
    codes = {"a.one": one, "b.two": two}
    page = page_of(codes)
    first, second = row_of("a.one", one), row_of("b.two", two)
    assert faults_in(page, codes) == []
    assert faults_in(page.replace(first, ""), codes) == [first]
    assert faults_in(page, {"b.two": two}) == [f"remove: {first}"]
    changed = second.replace("full", "empty")
    assert faults_in(page.replace(second, changed), codes) == [second, f"remove: {changed}"]
    assert faults_in(page + first + "\n", codes) == [f"remove the second: {first}"]


if __name__ == "__main__":
    sys.stdout.write(page_of(CODES))
