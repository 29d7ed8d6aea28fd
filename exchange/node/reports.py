"""What a node says of itself and of its documents, as JSON for the command line.

Rule: identifiers, dates, counts, codes and the public text of documents; never content of messages, never a secret.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from exchange.core import wire
from exchange.core.keys import Use
from exchange.core.officers import Role
from exchange.core.wire import JsonObject, JsonValue, encode_time, parse_signed_document
from exchange.node.endings import ending_soon
from exchange.node.records import outgoing_from_row

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from exchange.core.agreements import Agreement
    from exchange.core.keys import Card
    from exchange.core.suspensions import Standing, Suspension
    from exchange.core.wire import NodeId
    from exchange.node.node import Node
    from exchange.node.registry import Registry


def card_to_json(card: Card, registry: Registry) -> JsonObject:
    """A card as lists show it."""
    return {
        "node": card.node,
        "country": card.country,
        "network": card.network,
        "agency": dict(card.agency),
        "version": card.version,
        "issued": encode_time(card.issued),
        "expires": encode_time(card.expires),
        "keys_until": encode_time(min(held.valid_until for held in card.keys)),
        "fingerprint": card.authority.fingerprint,
        "threshold": card.authority.threshold,
        "authority_keys": len(card.authority.keys),
        "personnel": personnel_of(card),
        "digest": card.digest,
        "endpoints": list(card.endpoints),
        "reach": card.reach,
        "duty_desk": card.duty_desk,
        "own": card.node == registry.me,
        "blocked": card.node in registry.blocked,
    }


def personnel_of(card: Card) -> str | None:
    """How many of which personnel keys sign the list of officers; None where the node has none."""
    if card.personnel_threshold is None:
        return None
    return f"{card.personnel_threshold} of {len(card.keys_for(Use.PERSONNEL))} keys"


def agreement_to_json(agreement: Agreement, registry: Registry, now: datetime) -> JsonObject:
    """An agreement as lists show it.

    ``serves_until`` ends where a successor begins; ``state`` is one of not_yet, over, replaced, serves, suspended,
    left, and partly where that differs between the partners.
    """
    serving = registry.serving(agreement.digest) or agreement
    standings = _standings(agreement, registry)
    return {
        "id": agreement.id,
        "version": agreement.version,
        "network": agreement.network,
        "title": dict(agreement.title),
        "parties": [party.node for party in agreement.parties],
        "valid_from": encode_time(agreement.valid_from),
        "valid_until": encode_time(agreement.valid_until),
        "serves_until": encode_time(serving.valid_until),
        "clauses": [clause.id for clause in agreement.clauses],
        "prohibitions": [rule.id for rule in agreement.prohibitions],
        "digest": agreement.digest,
        "state": _state_of(agreement, serving, standings.values(), now),
        "standing": [
            {
                "node": peer,
                "state": stands.state.value,
                "by": stands.by,
                "since": None if stands.since is None else encode_time(stands.since),
                "reason": dict(stands.reason),
            }
            for peer, stands in standings.items()
        ],
    }


def _standings(agreement: Agreement, registry: Registry) -> dict[NodeId, Standing]:
    """How it stands with each of the other parties."""
    peers = [party.node for party in agreement.parties if party.node != registry.me]
    return {peer: registry.standing(agreement, peer) for peer in peers}


def _state_of(agreement: Agreement, serving: Agreement, standings: Iterable[Standing], now: datetime) -> str:
    if now < agreement.valid_from:
        return "not_yet"
    if now >= serving.valid_until:
        return "over" if now >= agreement.valid_until else "replaced"
    states = {stands.state.value for stands in standings}
    return states.pop() if len(states) == 1 else "partly"


def notice_to_json(notice: Suspension) -> JsonObject:
    """A notice about an agreement."""
    return {
        "agreement": notice.agreement,
        "party": notice.party,
        "network": notice.network,
        "serial": notice.serial,
        "action": notice.action.value,
        "time": encode_time(notice.time),
        "reason": dict(notice.reason),
        "others_continue": notice.others_continue,
        "by_authority": notice.by_authority,
        "digest": notice.digest,
    }


def officers_to_json(node: NodeId, registry: Registry) -> JsonObject:
    """A node's list of officers in force: keys, roles and dates; serial 0 and no document where there is none."""
    listed = registry.officers_of(node)
    if listed is None:
        return {"node": node, "serial": 0, "issued": None, "digest": None, "officers": [], "document": None}
    officers: list[JsonValue] = [
        {
            "id": officer.key.id,
            "roles": [role.value for role in Role if role in officer.roles],
            "valid_from": encode_time(officer.valid_from),
            "valid_until": encode_time(officer.valid_until),
        }
        for officer in listed.officers
    ]
    return {
        "node": node,
        "serial": listed.serial,
        "issued": encode_time(listed.issued),
        "digest": listed.digest,
        "officers": officers,
        "document": wire.encode_base64(registry.bytes_of[listed.digest]),
    }


def agreement_with_text(agreement: Agreement, registry: Registry, now: datetime) -> JsonObject:
    """An agreement with every word of it, and its document."""
    data = registry.bytes_of[agreement.digest]
    payload = wire.parse_json(parse_signed_document(data).payload, max_bytes=wire.MAX_DOCUMENT_BYTES)
    return {**agreement_to_json(agreement, registry, now), "text": payload, "document": wire.encode_base64(data)}


def status(node: Node) -> JsonObject:
    """Which node this is, how long its log is, and which agreements end soon."""
    return {
        "node": node.me,
        "network": node.network,
        "running": node.is_started,
        "log_size": node.ledger.frontier.size,
        "peers": list(node.registry.partners()),
        "agreements_ending": [*ending_soon(node.registry, node.outside.clock.now())],
    }


async def health(node: Node) -> JsonObject:
    """What ``exchange doctor`` looks at: times, keys, queues, the log."""
    now = node.outside.clock.now()
    checkpoints = await node.outside.store.read("checkpoint")
    last = node.ledger.last
    peers: list[JsonValue] = [await _peer(node, peer, now) for peer in node.registry.partners()]
    return {
        **status(node),
        "now": encode_time(now),
        "last_entry": None if last is None else encode_time(last),
        "checkpoint": None if not checkpoints else {"size": checkpoints[0][0], "time": checkpoints[0][1]},
        "own_prekeys_until": _prekeys_until(node, node.me),
        "peers_state": peers,
    }


def _prekeys_until(node: Node, peer: NodeId) -> str | None:
    bundle = node.registry.prekeys.get(peer)
    return None if bundle is None else encode_time(max(entry.use_until for entry in bundle.prekeys))


async def _peer(node: Node, peer: NodeId, now: datetime) -> JsonObject:
    rows = [outgoing_from_row(row).record for row in await node.outside.store.read("outgoing_open", peer, 10_000)]
    queue = node.queues.queue(peer)
    oldest = min((record.created for record in rows), default=None)
    return {
        "node": peer,
        "waiting": len(rows),
        "oldest_seconds": 0 if oldest is None else max(0, int((now - oldest) / timedelta(seconds=1))),
        "trouble": queue.trouble,
        "failures": queue.failures,
        "notices_waiting": len(await node.outside.store.read("pushes", peer)),
        "deferred": [*sorted(set(queue.deferred.values()))],
        "prekeys_until": _prekeys_until(node, peer),
        "blocked": peer in node.registry.blocked,
    }
