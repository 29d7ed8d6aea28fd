"""Real judgments across a border: every row of a real, untidy table goes from one node to another and arrives whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from exchange.cli.wiring import offline_node, schema_book
from exchange.core.statement import encode_statement
from exchange.core.wire import SchemaId, encode_json
from exchange.node.records import incoming_from_row, outgoing_from_row
from tests.integration import nodes as harness
from tests.integration.court_cases import COLUMNS, TITLE, Report, load_drafts

if TYPE_CHECKING:
    from pathlib import Path

    from exchange.cli.demo_nodes import TrainingNode
    from exchange.core.wire import JsonObject

pytestmark = pytest.mark.slow

TABLE = "data/unodc-court-cases.csv"
ROWS = 91


@pytest.fixture(scope="module")
def cases(shared: Path) -> tuple[list[tuple[dict[str, str], JsonObject]], Report]:
    """Every row with its draft, and what was found on the way."""
    return load_drafts(shared / TABLE)


def test_slips_are_told(cases: tuple[list[tuple[dict[str, str], JsonObject]], Report]) -> None:
    """All rows and columns are mapped, every slip is counted by its kind, and what is unknown is listed by its text."""
    _, report = cases
    assert (report.rows, report.columns) == (ROWS, len(COLUMNS))
    assert report.kinds() == {
        "absent": 182,
        "asterisk": 28,
        "capitals": 36,
        "doubtful": 3,
        "given twice": 75,
        "other column": 6,
        "space": 118,
        "spelling": 10,
        "words": 9,
    }
    # No act, means, purpose, sector or form is unknown; these are no states of the United States.
    assert sorted((slip.column, slip.case, slip.text) for slip in report.unknown) == [
        ("Place", "USA007", "AmericanSamoa"),
        ("Place", "USA015", "AmericanSamoa"),
        ("Place", "USA083", "IO"),
        ("Place", "USA084", "Saipan"),
        ("Place", "USA109", "HA"),
    ]


def test_drafts_are_valid(cases: tuple[list[tuple[dict[str, str], JsonObject]], Report]) -> None:
    """Every row is a valid case referral whose codes are all listed, in one summary that is not split."""
    book = schema_book()
    drafts = [draft for _, draft in cases[0]]
    assert [book.cut_draft(draft, 0)[0] for draft in drafts] == ["case-referral/v1"] * ROWS
    contents: list[Any] = [draft["content"] for draft in drafts]
    kind = SchemaId("case-referral/v1")
    assert [found for content in contents if (found := book.unknown_codes(kind, content))] == []
    assert max(len(content["summary"]["text"]) for content in contents) == 8862
    assert sum(content["acts"] != ["not_established"] for content in contents) == 86
    assert sum(content["means"] != ["not_established"] for content in contents) == 82
    assert sum(content["purposes"] != ["not_established"] for content in contents) == 88


async def test_cases_arrive_whole(
    cases: tuple[list[tuple[dict[str, str], JsonObject]], Report], tmp_path: Path
) -> None:
    """Sent through two real nodes, every judgment arrives byte for byte, with every column's text in it."""
    made, _ = cases
    async with harness.running(tmp_path) as nodes:
        thailand, cambodia = nodes["TH"], nodes["KH"]
        ids = {}
        for row, draft in made:
            sent = await harness.send(thailand, "KH", draft)
            assert (sent["status"], sent["clause"]) == ("accepted", "art-1")
            ids[sent["id"]] = (row, draft)
        listed = await cambodia.call("inbox", {"limit": 1000})
        assert sorted(item["id"] for item in listed) == sorted(ids)
        assert sorted(item["case"] for item in listed) == sorted(row["Case"] for row, _ in made)
        for ident, (row, draft) in ids.items():
            shown = await cambodia.call("show", {"id": ident})
            assert canonical(shown["content"]) == canonical(draft["content"])
            text = shown["content"]["summary"]["text"]
            assert text.startswith(row["FactSummary"] + f"\n\n{TITLE}:\n")
            lines = text.removeprefix(row["FactSummary"])
            assert [column for column in COLUMNS[:5] + COLUMNS[6:] if f"\n{column}: {row[column]}" not in lines] == []
        await harness.checked(nodes)
        assert await statements(thailand, "outgoing") == await statements(cambodia, "incoming")


def canonical(value: Any) -> bytes:  # noqa: ANN401 - a JSON value
    """One text for one value, whatever the order of its members."""
    return encode_json(json.loads(json.dumps(value, sort_keys=True)))


async def statements(node: TrainingNode, direction: str) -> dict[str, bytes]:
    """The exact statements that a stopped node holds, opened, by message."""
    found: dict[str, bytes] = {}
    async with offline_node(node.new.home, node.new.keyring) as bundle:
        store = bundle.node.outside.store
        for raw in await store.read(f"all_{direction}"):
            row = outgoing_from_row(raw) if direction == "outgoing" else incoming_from_row(raw)
            assert row.record.digest is not None
            assert row.case_id is not None
            statement = await bundle.node.reader.statement(row.record.digest, row.case_id)
            found[row.record.id] = encode_statement(statement)
    assert len(found) == ROWS
    return found
