"""What a node holds: agreements are found by pair and kind, as they serve."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from exchange.core.agreements import Agreement, read_agreement
from exchange.core.wire import DocumentType, NetworkId, NodeId, UnverifiedDocument, encode_json, encode_time
from exchange.node.registry import Registry
from tests.core import rules
from tests.core.builders import KH, NOW

LA = NodeId("la-fp1")
VN = NodeId("vn-fp1")


def between(*nodes: str, ident: str, version: int = 1, **changes: Any) -> Agreement:  # noqa: ANN401
    parties = [{"node": node, "authority": f"{at + 1}" * 64} for at, node in enumerate(nodes)]
    said = rules.payload(id=ident, parties=parties, version=version, **changes)
    return read_agreement(UnverifiedDocument(DocumentType.AGREEMENT, encode_json(said), ()))


def clause_for(*nodes: str, kinds: list[str]) -> dict[str, Any]:
    return rules.clause(**rules.permit(kinds=kinds, **{"from": [*nodes], "to": [*nodes]}))


def test_agreements_are_found_by_pair_and_kind() -> None:
    """A message is judged by the agreements that name both nodes and have a clause for its kind, and by no others."""
    registry = Registry(NetworkId("training-test"), rules.TH)
    pair = between(rules.TH, KH, ident="pair", clauses=[clause_for(rules.TH, KH, kinds=["suspect"])])
    every = between(rules.TH, KH, LA, ident="every", clauses=[clause_for(rules.TH, KH, LA, kinds=["*"])])
    other = between(rules.TH, LA, ident="other", clauses=[clause_for(rules.TH, LA, kinds=["victim"])])
    for agreement in (pair, every, other):
        registry.keep(agreement, b"")

    def found(peer: NodeId, kind: str) -> list[str]:
        return [item.id for item in registry.routes(peer, kind)]

    assert found(KH, "suspect") == ["every", "pair"]
    assert found(KH, "victim") == ["every"]
    assert found(LA, "victim") == ["every", "other"]
    assert found(VN, "suspect") == []


def test_a_successor_ends_the_version_before_it() -> None:
    """What is found serves no longer than until the next version starts, also where that one was installed later."""
    registry = Registry(NetworkId("training-test"), rules.TH)
    first = between(rules.TH, KH, ident="pair")
    registry.keep(first, b"")
    assert registry.routes(KH, "suspect")[0].valid_until == first.valid_until
    second = between(
        rules.TH, KH, ident="pair", version=2, supersedes=first.digest, valid_from=encode_time(NOW + timedelta(hours=1))
    )
    registry.keep(second, b"")
    newest, before = registry.routes(KH, "suspect")
    assert (newest.version, before.version, before.valid_until) == (2, 1, second.valid_from)
