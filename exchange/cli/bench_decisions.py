"""How long one decision takes where many agreements are installed: part of ``exchange bench``.

100 agreements of 50 clauses each with 20 peers, five with each peer, as a node of a large network might hold after
years. Of the five, the last permits and it does so by its last clause. Measured is what every message goes through:
the choice of agreement and clause at the sender, and the judgement of the clause relied on at the receiver.

Rules:
1. The draft is a real one, about 4 KB, with content that a prohibition and a narrowing clause look at.
2. Permitted and refused messages are measured apart: a refusal gathers everything that would have to change.
3. Each figure is the median of many calls, in microseconds.

What it does not do: read the quota from the store, or verify signatures; both are measured with whole messages.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any, Final, cast

from exchange.cli.templates import make_clause
from exchange.core import wire
from exchange.core.agreements import read_agreement
from exchange.core.decision import decide
from exchange.core.wire import DocumentType, NetworkId, NodeId, UnverifiedDocument
from exchange.node.planning import Draft, Plan, Variants, choose, read_draft
from exchange.node.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from exchange.core.agreements import Agreement
    from exchange.core.schemas import SchemaBook
    from exchange.core.wire import JsonObject, JsonValue

AGREEMENTS: Final = 100
CLAUSES: Final = 50
PEERS: Final = 20
CALLS: Final = 400
ME: Final = NodeId("th-fp1")
_PURPOSES: Final = (
    "investigation", "prosecution", "mutual_legal_assistance", "asset_recovery", "victim_identification",
    "victim_protection", "repatriation", "reintegration", "prevention", "coordination",
)  # fmt: skip


def measure_decisions(book: SchemaBook, draft: JsonObject, network: NetworkId, now: datetime) -> dict[str, Any]:
    """Microseconds a decision at the sender and at the receiver, for a permitted and a refused message."""
    registry = Registry(network, ME)
    for number in range(AGREEMENTS):
        agreement = _agreement(number, [str(kind).partition("/")[0] for kind in book.kinds], network)
        registry.keep(agreement, b"")
    peer = _peer(PEERS - 1)
    figures: dict[str, Any] = {"agreements": AGREEMENTS, "clauses": CLAUSES}
    for name, purpose in (("permitted", "victim_protection"), ("refused", "coordination")):
        given = cast("JsonObject", {**draft, "purpose": purpose, "retention_days": 30})
        read = read_draft(given, (), [peer], book=book, registry=registry, now=now, random=bytes)
        plan = choose(registry, peer, Variants(read, peer, now, book), {})
        if plan.decision.allowed is not (name == "permitted") or plan.agreement is None:
            message = f"the {name} message was not {name}: {plan.decision.code}"
            raise RuntimeError(message)
        figures[name] = _measure(registry, plan, read, book, now)
    return figures


def _measure(registry: Registry, plan: Plan, draft: Draft, book: SchemaBook, now: datetime) -> dict[str, float]:
    """The sender chooses; the receiver makes the view of what it opened, then judges the clause relied on."""
    agreement, peer = cast("Agreement", plan.agreement), plan.peer
    return {
        "sender": _median_us(lambda: choose(registry, peer, Variants(draft, peer, now, book), {})),
        "receiver": _median_us(
            lambda: decide(agreement, Variants(draft, peer, now, book).whole, {}, plan.decision.clause)
        ),
    }


def _median_us(call: Callable[[], object]) -> float:
    taken: list[float] = []
    for _ in range(CALLS):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return round(statistics.median(taken) * 1e6, 1)


def _peer(number: int) -> NodeId:
    return NodeId(f"kh-fp{number + 1}")


def _agreement(number: int, kinds: list[str], network: NetworkId) -> Agreement:
    """One agreement: clauses for every kind and purpose in turn, in both directions; the last of a peer permits."""
    nodes: list[JsonValue] = [ME, _peer(number % PEERS)]
    decides = number >= AGREEMENTS - PEERS
    clauses: list[JsonObject] = [
        make_clause(
            f"c-{index}",
            "A clause of the benchmark.",
            kinds=[kinds[index % len(kinds)]],
            sender=[nodes[index % 2]] if index % 3 else nodes,
            to=nodes,
            purposes=[_PURPOSES[index % 9]],
            tlp="AMBER" if decides else "GREEN",
            consent=index % 2 == 0,
            content={"required": ["entities"], "properties": {"entities": {"minItems": 1}}},
            withhold=["identity"] if index % 5 == 0 else [],
        )
        for index in range(CLAUSES - 1)
    ]
    clauses.append(
        make_clause(
            "last",
            "What the benchmark sends.",
            kinds=["case-referral"],
            sender=nodes,
            to=nodes,
            purposes=["victim_protection"],
            tlp="AMBER" if decides else "GREEN",
        )
    )
    never: JsonObject = {"id": "never", "text": {"en": "Never."}, "when": {"content": {"required": ["political"]}}}
    payload: JsonObject = {
        "network": network,
        "id": f"bench-{number}",
        "version": 1,
        "title": {"en": "Benchmark"},
        "legal_basis": [{"title": {"en": "None"}, "article": "1", "date": "2026-01-01"}],
        "parties": [{"node": node, "authority": "0" * 64} for node in nodes],
        "valid_from": "2020-01-01T00:00:00Z",
        "valid_until": "2099-01-01T00:00:00Z",
        "clauses": [*clauses],
        "prohibitions": [never],
    }
    return read_agreement(UnverifiedDocument(DocumentType.AGREEMENT, wire.encode_json(payload), ()))
