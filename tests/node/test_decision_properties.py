"""Decisions over random agreements, messages and clocks: prohibitions only take away, and both ends agree."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exchange.core import wire
from exchange.core.agreements import ANY, ONWARD, TLP_ORDER, URGENCY, Agreement, Approvals, read_agreement
from exchange.core.decision import Decision, decide
from exchange.core.envelope import BlobRef
from exchange.core.gate import make_exchange, read_header
from exchange.core.statement import ATTACHMENTS
from exchange.core.wire import Digest, DocumentType, JsonObject, MessageId, NodeId, UnverifiedDocument
from exchange.node.planning import Draft, Plan, Variants, choose, state_for
from exchange.node.registry import Registry
from tests.schemas.samples import book
from tests.vectors import make_decisions as table

if TYPE_CHECKING:
    from datetime import datetime

NODES: Final = (table.TH, table.KH, table.LA)
KINDS: Final = ("case-referral", "suspect", "evidence")
PURPOSES: Final = ("investigation", "victim_protection", "prosecution")
NOW: Final = wire.parse_time(table.AT)
CHECKS: Final = ("informed", "not_detained")

nodes = st.lists(st.sampled_from(NODES), min_size=1, max_size=3, unique=True)
contents = st.sampled_from(
    [
        None,
        {"required": ["means"]},
        {"not": {"required": ["means"]}},
        {"properties": {"entities": {"items": {"not": {"required": ["identity"]}}}}},
        {"properties": {"acts": {"contains": {"const": "transportation"}}}},
        {"required": ["summary"]},
    ]
)


@st.composite
def clauses(draw: st.DrawFn, ident: str) -> dict[str, Any]:
    """Any clause; most ask for little, so that some permit."""

    def some(full: Any, strategy: st.SearchStrategy[Any]) -> Any:  # noqa: ANN401
        return draw(strategy) if draw(st.integers(0, 3)) == 0 else full

    def rarely() -> bool:
        return draw(st.integers(0, 7)) == 0

    codes = st.lists(st.sampled_from(["H0", "H1", "H2"]), min_size=1, unique=True)
    count = some(0, st.integers(0, 2))
    return table.loose(
        ident,
        kinds=some([ANY], st.lists(st.sampled_from(KINDS), min_size=1, unique=True)),
        from_=some([*NODES], nodes),
        to=some([*NODES], nodes),
        purposes=some([ANY], st.lists(st.sampled_from(PURPOSES), min_size=1, unique=True)),
        handling=some(["H0", "H1", "H2"], codes),
        tlp=some("RED", st.sampled_from(TLP_ORDER)),
        urgency=some([*URGENCY], st.lists(st.sampled_from(URGENCY), min_size=1, unique=True)),
        approvals={"count": count, "supervisors": some(0, st.integers(0, count))},
        consent=rarely(),
        checks=some([], st.lists(st.sampled_from(CHECKS), unique=True)),
        dual_criminality=rarely(),
        child_safeguards=rarely(),
        blobs=some({"max_count": 2, "max_bytes": 10**6}, st.just({"max_count": 1, "max_bytes": table.BLOB})),
        retention_days=some(365, st.sampled_from([29, 30, 31])),
        withhold=some([], st.lists(st.sampled_from(["identity", "narrative", ATTACHMENTS]), unique=True)),
        onward={"use": some("with_consent", st.sampled_from(["never", "with_consent"]))},
        quota_per_day=some(None, st.integers(1, 3)),
        content=some(None, contents),
    )


@st.composite
def prohibitions(draw: st.DrawFn, ident: str) -> dict[str, Any]:
    """Any prohibition."""
    when: dict[str, Any] = {
        "kinds": draw(st.none() | st.lists(st.sampled_from(KINDS), min_size=1, unique=True)),
        "purposes": draw(st.none() | st.lists(st.sampled_from(PURPOSES), min_size=1, unique=True)),
        "content": draw(contents),
    }
    return table.forbid(ident, **{name: value for name, value in when.items() if value is not None})


def read(payload: dict[str, Any]) -> Agreement:
    return read_agreement(UnverifiedDocument(DocumentType.AGREEMENT, wire.encode_json(payload), ()))


@st.composite
def payloads(draw: st.DrawFn, ident: str) -> dict[str, Any]:
    """Any agreement of the three nodes; its validity begins or ends near now."""
    hours = draw(st.sampled_from([(-2, 2), (-2, 0), (0, 2), (-2, 2), (-2, 2)]))
    begin, end = (wire.encode_time(NOW + timedelta(hours=hour)) for hour in hours)
    made = [draw(clauses(f"c{n}")) for n in range(draw(st.integers(1, 4)))]
    rules = [draw(prohibitions(f"p{n}")) for n in range(draw(st.sampled_from([0, 0, 0, 1, 2])))]
    return table.agreement(ident, made, *rules, parties=NODES, valid_from=begin, valid_until=end)


@st.composite
def messages(draw: st.DrawFn) -> Draft:
    """The message of the conformance table with its header and content changed at random."""
    base = table.BASES["sender"]
    content = json.loads(json.dumps(base["content"]))
    if draw(st.booleans()):
        content["means"] = ["deception"]
    content["acts"] = draw(st.sampled_from([["transportation"], ["receipt"]]))
    if draw(st.booleans()):
        del content["entities"][0]["identity"]
    blobs = tuple(BlobRef(Digest(f"{n}" * 64), table.BLOB) for n in range(draw(st.integers(0, 2))))
    parts = list(book().split(wire.SchemaId("case-referral/v1"), content))
    if blobs:
        parts.append((ATTACHMENTS, [_described(blob) for blob in blobs]))
    header: JsonObject = {
        **base["header"],
        "schema_digest": book().digest(wire.SchemaId("case-referral/v1")),
        "purpose": draw(st.sampled_from(PURPOSES)),
        "handling": [*draw(st.sampled_from([("H0",), ("H1",), ("H0", "H1")]))],
        "tlp": draw(st.sampled_from(["GREEN", "AMBER", "RED"])),
        "urgency": draw(st.sampled_from(URGENCY)),
        "onward": draw(st.sampled_from(ONWARD[:2])),
        "retention": draw(st.sampled_from([29, 30, 31])),
        "parts": [*(name for name, _ in parts)],
        "attachments": len(blobs),
    }
    stated = {name: value for name, value in base["header"]["assurances"].items() if draw(st.booleans())}
    header.pop("assurances")
    if stated:
        header["assurances"] = stated
    salts = tuple(bytes(16) for _ in range(len(parts) + 1))
    return Draft(MessageId("0" * 32), header, read_header(header, book()), content, tuple(parts), blobs, salts)


def _described(blob: BlobRef) -> JsonObject:
    key = wire.encode_base64(bytes(32))
    return {
        "name": "file.bin",
        "media_type": "application/octet-stream",
        "len": 9,
        "sha256": "5" * 64,
        "blob": {"h": blob.h, "key": key, "len": blob.length},
    }


def registry_of(me: str, payloads_: list[dict[str, Any]]) -> Registry:
    registry = Registry(wire.NetworkId(table.NETWORK), NodeId(me))
    for payload in payloads_:
        registry.keep(read(payload), b"")
    return registry


approvals = st.sampled_from([Approvals(0, 0), Approvals(1, 0), Approvals(2, 1), Approvals(2, 2)])
used = st.dictionaries(st.sampled_from([f"c{n}" for n in range(4)]), st.integers(0, 3), max_size=4)
clocks = st.sampled_from([timedelta(hours=hour) for hour in (-3, -2, -1, 0, 1, 2)]).map(lambda by: NOW + by)
QUICK: Final = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def received(draft: Draft, plan: Plan, created: datetime, approved: Approvals, counted: dict[str, int]) -> Decision:
    """The receiver's own decision, over its own copy of the agreement and what the statement holds."""
    statement = state_for(draft, plan)
    header = read_header(statement.header(), book())
    named = list(zip(header.parts, statement.parts[1:], strict=True))
    values = {name: part.value(name) for name, part in named if part.text is not None}
    withheld = tuple((name, part.clause or "") for name, part in named if part.text is None)
    content = book().join(header.schema, values, header.attachments)
    blobs = draft.blobs if ATTACHMENTS in values else ()
    assert plan.agreement is not None
    exchange = make_exchange(header, NodeId(table.KH), created, content, withheld, tuple(values), blobs, approved)
    return decide(plan.agreement, exchange, counted, statement.clause)


@QUICK
@given(st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True), st.data(), messages(), clocks, approvals, used)
def test_both_ends_agree(
    numbers: list[int],
    data: st.DataObject,
    draft: Draft,
    created: datetime,
    approved: Approvals,
    counted: dict[str, int],
) -> None:
    """What the sender permits the receiver permits by the same clause; what no clause permits it refuses by each."""
    made = [data.draw(payloads(f"agreement-{number}")) for number in numbers]
    here, there = registry_of(table.TH, made), registry_of(table.KH, made)
    peer = NodeId(table.KH)
    counts = dict.fromkeys(here.agreements, counted)
    plan = choose(here, peer, Variants(draft, peer, created, book(), approved), counts)
    if plan.decision.allowed:
        assert plan.agreement is not None
        own = replace(plan, agreement=there.serving(plan.agreement.digest))
        decision = received(draft, own, created, approved, counted)
        assert (decision.allowed, decision.clause) == (True, plan.decision.clause)
        return
    for agreement in there.agreements.values():
        serving = there.serving(agreement.digest)
        assert serving is not None
        for clause in serving.clauses:
            withheld = tuple(name for name, _ in draft.parts if name in clause.withhold)
            tried = replace(
                plan, agreement=serving, decision=replace(plan.decision, clause=clause.id), withheld=withheld
            )
            assert not received(draft, tried, created, approved, counted).allowed


@QUICK
@given(payloads("one"), prohibitions("more"), messages(), clocks, approvals, used)
def test_a_prohibition_more_never_allows_more(
    payload: dict[str, Any],
    rule: dict[str, Any],
    draft: Draft,
    created: datetime,
    approved: Approvals,
    counted: dict[str, int],
) -> None:
    """What passes with one prohibition more passes without it, by the same clause or one before it."""
    strict = {**payload, "prohibitions": [*payload["prohibitions"], rule]}
    with_rule, without = (_decided(one, draft, created, approved, counted) for one in (strict, payload))
    if with_rule.allowed:
        ids = [clause["id"] for clause in payload["clauses"]]
        assert without.allowed
        assert ids.index(without.clause) <= ids.index(with_rule.clause)
    else:
        assert with_rule.needs[0] == (with_rule.code, with_rule.reason)


def _decided(
    payload: dict[str, Any], draft: Draft, created: datetime, approved: Approvals, counted: dict[str, int]
) -> Decision:
    registry, peer = registry_of(table.TH, [payload]), NodeId(table.KH)
    counts = dict.fromkeys(registry.agreements, counted)
    return choose(registry, peer, Variants(draft, peer, created, book(), approved), counts).decision


@QUICK
@given(payloads("one"), messages(), clocks, approvals)
def test_no_clause_set_allows_a_kind_that_it_does_not_name(
    payload: dict[str, Any], draft: Draft, created: datetime, approved: Approvals
) -> None:
    """Without a clause that lists the kind, or ``*``, nothing passes, however much everything else would permit it."""
    for clause in payload["clauses"]:
        others = [kind for kind in clause["permit"]["kinds"] if kind not in {ANY, "case-referral"}]
        clause["permit"]["kinds"] = others or ["suspect"]
    assert not _decided(payload, draft, created, approved, {}).allowed


def test_random_agreements_permit_often_enough_to_say_something() -> None:
    """Of what these tests try a good part is permitted: a test of agreement over refusals alone would prove little."""
    permitted = []

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(payloads("one"), messages(), approvals)
    def count(payload: dict[str, Any], draft: Draft, approved: Approvals) -> None:
        permitted.append(_decided(payload, draft, NOW, approved, {}).allowed)

    count()
    assert 0.15 < sum(permitted) / len(permitted) < 0.85
