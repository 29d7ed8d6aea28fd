"""Officers of a pair's sender, for tests of approvals: who they are, and what they sign."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from exchange.core import wire
from exchange.core.approvals import Approval, encode_approval
from exchange.core.wire import Digest, DocumentType
from exchange.node.roles import Actor, pseudonym
from tests.core import builders
from tests.node.pair import INDEXES, Pair, node_of
from tests.simulation.drafts import draft
from tests.simulation.people import NETWORK, agreement_of, officers

if TYPE_CHECKING:
    from exchange.node.node import Node

SENDER: Final = INDEXES[0]
LISTED: Final = (
    ("sok", "officer"),
    ("dara", "officer"),
    ("vanna", "officer supervisor"),
    ("bopha", "officer"),
    ("admin", "operator"),
)
LIST: Final = officers(SENDER, 1, *LISTED)
#: Two approvals, one of them a supervisor's, for receipts; nobody's for evidence.
FOUR_EYES: Final = agreement_of(
    INDEXES,
    "four-eyes",
    json.dumps(
        {
            "signed": {
                "kinds": ["acknowledgement"],
                "requires": {
                    "approvals": {"count": 2, "supervisors": 1},
                    "consent": False,
                    "checks": [],
                    "dual_criminality": False,
                    "child_safeguards": False,
                },
            },
            "free": {"kinds": ["information-request", "information-response"]},
        }
    ),
)


async def start(pair: Pair, *here: bytes) -> tuple[Node, Node]:
    """Both nodes under the agreement; the sender has its officers, the receiver knows none of them.

    The list is there before any agreement asks for it: it is not pushed.
    """
    return await pair.start(here=[*(here or (LIST,)), FOUR_EYES], there=[FOUR_EYES])


def actor(node: Node, name: str) -> Actor:
    """Who the officer of that name is at a node."""
    key = builders.testonly_officer(name).public
    listed = node.registry.officers_of(node.me)
    officer = None if listed is None else listed.find(key.id)
    return Actor(pseudonym(key.id), officer, reads=True)


async def propose(node: Node, to: str, name: str = "sok", kind: str = "acknowledgement") -> dict[str, Any]:
    """What that officer submits."""
    who = actor(node, name)
    key = builders.testonly_officer(name).public.id
    result: dict[str, Any] = await node.sender.submit(draft(kind, 1), [to], [], actor=who.name, proposer=key)
    return result


def signed(pair: Pair, root: str, name: str, role: str, days: float = 7, network: str = NETWORK) -> str:
    """What an officer signs at the sender's time."""
    key = builders.testonly_officer(name)
    now = pair.sender.now()
    approval = Approval(wire.NetworkId(network), Digest(root), key.public.id, role, now, now + timedelta(days=days))
    document = builders.testonly_sign(DocumentType.APPROVAL, encode_approval(approval), key)
    return wire.encode_signed_document(document).decode()


async def approve(pair: Pair, made: dict[str, Any], name: str, role: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """An officer's approval of what was submitted, as it reaches the node."""
    node = node_of(pair.sender)
    text = signed(pair, str(made["root"]), name, role, **changes)
    state: dict[str, Any] = await node.approving.approve(str(made["id"]), text, actor(node, name))
    return state
