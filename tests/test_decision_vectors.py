"""The conformance table of decisions: each case ends as protocol 8.3 and 8.4 say, at the end that it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from exchange.adapters.files import schema_files
from exchange.core import decision as rules
from exchange.core import wire
from exchange.core.agreements import Agreement, Approvals, read_agreement
from exchange.core.decision import Decision, decide
from exchange.core.envelope import BlobRef
from exchange.core.errors import CODES
from exchange.core.gate import Header, make_exchange, read_header
from exchange.core.schemas import SchemaBook, parse_schema_book
from exchange.core.statement import ATTACHMENTS
from exchange.core.wire import Digest, DocumentType, MessageId, NetworkId, NodeId, UnverifiedDocument
from exchange.node.planning import Draft, Plan, Variants, choose
from exchange.node.registry import Registry
from tests.vectors import make_decisions

FOLDER: Final = Path(__file__).parent / "vectors" / "agreements"
FILES: Final = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
CASES: Final = [
    pytest.param(case, id=f"{group}-{case['base']}-{case['name']}")
    for group, cases in FILES.items()
    if isinstance(cases, list)
    for case in cases
]


@pytest.fixture(scope="module")
def book() -> SchemaBook:
    return parse_schema_book(schema_files())


def held(names: list[str]) -> dict[str, Agreement]:
    """The agreements of a case, read."""
    found = {}
    for name in names:
        payload = wire.encode_json(FILES["agreements"][name])
        found[name] = read_agreement(UnverifiedDocument(DocumentType.AGREEMENT, payload, ()))
    return found


def registry_of(me: str, agreements: dict[str, Agreement]) -> Registry:
    registry = Registry(NetworkId(make_decisions.NETWORK), NodeId(me))
    for agreement in agreements.values():
        registry.keep(agreement, b"")
    return registry


def at_sender(case: dict[str, Any], header: Header, book: SchemaBook) -> Plan:
    """What the sender chooses, of all its agreements with the recipient."""
    agreements = held(case["agreements"])
    blobs = tuple(BlobRef(Digest("0" * 64), length) for length in case["blobs"])
    parts = list(book.split(wire.SchemaId("case-referral/v1"), case["content"]))
    parts += [(ATTACHMENTS, [{} for _ in blobs])] if blobs else []
    draft = Draft(MessageId(header.id), case["header"], header, case["content"], tuple(parts), blobs, ())
    peer, approved = NodeId(case["to"]), Approvals(**case["approvals"])
    variants = Variants(draft, peer, wire.parse_time(case["at"]), book, approved)
    used = {agreements[name].digest: counted for name, counted in case["used"].items() if name in agreements}
    return choose(registry_of(header.sender, agreements), peer, variants, used)


def at_receiver(case: dict[str, Any], header: Header) -> Decision:
    """What the receiver says to the clause relied on."""
    agreements = held(case["agreements"])
    agreement = agreements[case["agreement"]]
    serving = registry_of(case["to"], agreements).serving(agreement.digest)
    assert serving is not None
    withheld = tuple(case["withheld"].items())
    present = tuple(part for part in header.parts if part not in case["withheld"])
    blobs = tuple(BlobRef(Digest("0" * 64), length) for length in case["blobs"])
    created, approved = wire.parse_time(case["at"]), Approvals(**case["approvals"])
    exchange = make_exchange(header, NodeId(case["to"]), created, case["content"], withheld, present, blobs, approved)
    return decide(serving, exchange, case["used"].get(case["agreement"], {}), case["clause"])


@pytest.mark.parametrize("case", CASES)
def test_a_case_ends_as_the_table_says(case: dict[str, Any], book: SchemaBook) -> None:
    """Permit or refusal, by which clause, with which code, and everything that would have to change."""
    said = make_decisions.merge(FILES["bases"][case["base"]], case["patch"])
    header = read_header(said["header"], book)
    expect = case["expect"]
    if case["base"] == "sender":
        plan = at_sender(said, header, book)
        decision, withheld = plan.decision, list(plan.withheld)
    else:
        decision, withheld = at_receiver(said, header), list(said["withheld"])
    name = None if decision.agreement is None else f"{decision.agreement}/{decision.version}"
    assert (decision.allowed, name, decision.clause) == (expect["allowed"], expect["agreement"], expect["clause"])
    if decision.allowed:
        assert withheld == expect["withheld"]
    else:
        assert decision.code == expect["code"]
        assert [need.code for need in decision.needs] == expect["needs"]


def test_the_table_is_whole() -> None:
    """At least 150 cases, most of them refusals; every rule alone, at both ends, and every pair of rules."""
    cases = [case for group in FILES.values() if isinstance(group, list) for case in group]
    refusals = [case for case in cases if not case["expect"]["allowed"]]
    assert len(cases) >= 150
    assert len(refusals) > len(cases) / 2
    told = {need for case in refusals for need in case["expect"]["needs"]}
    assert told <= set(CODES)
    decisions = (Path(rules.__file__).read_text(encoding="utf-8")).split('"')
    assert {code for code in CODES if code in decisions and not code.startswith("duty.")} <= told
    assert len(FILES["pairs"]) == 17 * 16 / 2


def test_what_was_made_is_what_is_kept() -> None:
    """The generator still makes the table that is kept, to the last member."""
    assert json.loads(json.dumps(make_decisions.table())) == FILES
