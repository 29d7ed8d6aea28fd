"""Each sentence of the invariants is shown a history in which it is not true."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from exchange.core.answers import AnswerItem, Outcome, encode_answers
from exchange.core.audit import Event, encode_leaf, parse_leaf
from exchange.core.statement import make_part
from exchange.core.suspensions import Action
from exchange.core.wire import Digest, DocumentType, encode_signed_document, parse_signed_document
from tests.simulation import invariants
from tests.simulation.drafts import CANARY
from tests.simulation.history import run_seed
from tests.simulation.invariants import SENTENCES, check
from tests.simulation.people import COUNTRIES, EPOCH, NETWORK, notice
from tests.simulation.world import DELIVERED_SQL

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.host import Host
    from tests.simulation.world import World

RICH: Final = range(51, 71)  # among them messages that speak of others, evidence, refusals, quotas


def _change(world: World, sql: str, *values: object) -> None:
    """Change rows at every node."""
    for host in world.hosts.values():
        host.connection.execute(sql, values)


def _taken(world: World) -> tuple[Host, str, str, str]:
    """A delivered message: at whom, from whom, its id and digest."""
    for host in world.honest:
        query = f"SELECT peer, id, digest FROM incoming WHERE status IN ({DELIVERED_SQL}) ORDER BY rowid LIMIT 1"  # noqa: S608 - our words
        for peer, ident, digest in host.connection.execute(query):
            return host, peer, ident, digest
    raise LookupError


def _fault(world: World) -> None:
    world.stage.faults.append("a surprise")


def _unsettled(world: World) -> None:
    world.settled_after = None


def _never_ended(world: World) -> None:
    _change(world, "UPDATE outgoing SET status = 'sent'")


def _lost(world: World) -> None:
    _change(world, "DELETE FROM outgoing")


def _refused_later(world: World) -> None:
    host, _, ident, _ = _taken(world)
    host.connection.execute("UPDATE incoming SET status = 'refused', code = 'envelope.seq' WHERE id = ?", (ident,))


def _answer_unseen(world: World) -> None:
    _change(world, "UPDATE outgoing SET status = 'accepted' WHERE status = 'answered'")


def _file_missing(world: World) -> None:
    for host in world.hosts.values():
        host.blobs.clear()


def _told_twice(world: World) -> None:
    host, peer, ident, _ = _taken(world)
    world.stage.received[host.id, peer, ident] = 2


def _contradicted(world: World) -> None:
    host, peer, _, digest = _taken(world)
    ring = host.keyring()
    payload = encode_answers(
        network=NETWORK,
        sender=host.id,
        recipient=peer,
        key=ring.envelope_key.id,
        time=EPOCH,
        items=[AnswerItem(Digest(digest), Outcome.REFUSED, 0, "envelope.body")],
        through=0,
        missing=(),
    )
    document = asyncio.run(ring.sign_request(DocumentType.ANSWERS, payload))
    row = (document.digest(), peer, encode_signed_document(document))
    host.connection.execute("INSERT INTO answers VALUES (?, ?, ?)", row)


def _spoke_too_early(world: World) -> None:
    host, peer, ident, _ = _taken(world)
    statement = world.opened[host.id, peer, ident]
    header = statement.header() | {"refers_to": ["0" * 32]}
    world.opened[host.id, peer, ident] = replace(statement, parts=(make_part(header, bytes(16)), *statement.parts[1:]))


def _refused_for_nothing(world: World) -> None:
    _change(world, "UPDATE outgoing SET status = 'refused', code = 'envelope.reference'")


def _entry_missing(world: World) -> None:
    _change(world, 'DELETE FROM leaves WHERE instr(leaf, \'"event":"sealed"\')')


def _other_commitment(world: World) -> None:
    host, *_, digest = _taken(world)
    for seq, data in host.connection.execute("SELECT seq, leaf FROM leaves").fetchall():
        leaf = parse_leaf(data)
        if leaf.subject == digest and leaf.event is Event.RECEIVED:
            altered = encode_leaf(replace(leaf, commitment=Digest("0" * 64)))
            host.connection.execute("UPDATE leaves SET leaf = ? WHERE seq = ?", (altered, seq))


def _unreadable(world: World) -> None:
    world.opened.clear()


def _no_agreement(world: World) -> None:
    world.agreements.clear()


def _forged_notice(peer: str, ident: str) -> tuple[Digest, bytes]:
    """A suspension by the peer about the agreement of the two, or of three, as it would be stored."""
    indexes = tuple(COUNTRIES.index(country.upper()) for country in ident.split("-"))
    data = notice(COUNTRIES.index(peer[:2].upper()), indexes, 99, Action.SUSPEND, EPOCH)
    return parse_signed_document(data).digest(), data


def _store_notice(host: Host, digest: Digest, data: bytes) -> None:
    row = (digest, DocumentType.SUSPENSION, "x", 99, "current", "", data, "2026-11-23T00:00:00Z")
    host.connection.execute("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)


def _stopped_before(world: World) -> None:
    """What a node accepted comes after an entry of a suspension."""
    host, peer, _, digest = _taken(world)
    leaves = [parse_leaf(data) for _, data in host.connection.execute("SELECT seq, leaf FROM leaves ORDER BY seq")]
    taken = next(leaf for leaf in leaves if leaf.subject == digest and leaf.event is Event.RECEIVED)
    subject, data = _forged_notice(peer, str(taken.agreement).partition("/")[0])
    _store_notice(host, subject, data)
    before = next(leaf for leaf in leaves if leaf.event is Event.NODE_START)
    forged = replace(before, event=Event.AGREEMENT_SUSPENDED, subject=subject, agreement=taken.agreement)
    host.connection.execute("UPDATE leaves SET leaf = ? WHERE seq = ?", (encode_leaf(forged), before.seq))


def _notice_missing(world: World) -> None:
    """A node has said something that its partner never heard."""
    sender, receiver = next(iter(world.honest_pairs()))
    shared = [item for item in world.agreements.values() if item.names(sender.id, receiver.id)]
    if not shared:
        raise LookupError
    _store_notice(sender, *_forged_notice(sender.id, shared[0].id))


def _over_quota(world: World) -> None:
    _change(world, "UPDATE incoming SET clause = 'names' WHERE clause IS NOT NULL")


def _gap(world: World) -> None:
    _change(world, "UPDATE windows SET next_seq = next_seq + 1")


def _still_waiting(world: World) -> None:
    for host in world.hosts.values():
        for peer in world.hosts:
            host.connection.execute("INSERT INTO outbox VALUES (?, ?, 1, 1, 'x')", (f"{host.id} {peer}", peer))


def _shorter_log(world: World) -> None:
    _change(world, "DELETE FROM leaves WHERE seq = (SELECT max(seq) FROM leaves)")


def _found(world: World) -> None:
    world.findings.append("store.corrupt")


def _in_clear(world: World) -> None:
    _change(world, "INSERT INTO meta VALUES ('note', ?)", f"about {CANARY}")


def _logged_twice(world: World) -> None:
    query = 'INSERT INTO leaves SELECT seq + 100000, leaf FROM leaves WHERE instr(leaf, \'"event":"received"\')'
    _change(world, query)


def _restless(world: World) -> None:
    for one, other in world.honest_pairs():
        world.network.asked[one.id, other.id] += 10_000


BREACHES: Final[dict[str, Callable[[World], None]]] = {
    "nothing_unplanned": _fault,
    "it_ends_in_time": _unsettled,
    "everything_submitted_ends": _never_ended,
    "nothing_submitted_is_lost": _lost,
    "both_sides_agree": _refused_later,
    "replies_are_seen": _answer_unseen,
    "evidence_arrives": _file_missing,
    "nothing_takes_effect_twice": _told_twice,
    "answers_agree": _contradicted,
    "replies_come_after": _spoke_too_early,
    "no_reference_is_missed": _refused_for_nothing,
    "every_change_has_one_entry": _entry_missing,
    "logs_match": _other_commitment,
    "accepted_messages_can_be_read": _unreadable,
    "agreements_rule": _no_agreement,
    "suspensions_stop": _stopped_before,
    "notices_arrive": _notice_missing,
    "quotas_hold": _over_quota,
    "every_gap_is_closed": _gap,
    "outboxes_are_empty": _still_waiting,
    "logs_verify": _shorter_log,
    "verification_finds_nothing": _found,
    "nothing_is_in_clear": _in_clear,
    "repeats_cost_nothing": _logged_twice,
    "nodes_rest": _restless,
}


def test_every_sentence_has_its_breach() -> None:
    """No sentence is left out here, and none is a sentence without a full stop."""
    assert [sentence.__name__ for sentence in SENTENCES] == list(BREACHES)
    assert all((sentence.__doc__ or "").endswith(".") for sentence in SENTENCES)


@pytest.mark.parametrize("name", BREACHES)
def test_breach_is_seen(name: str) -> None:
    """A history that breaks a sentence is told with that sentence; untouched, it breaks none."""
    # Not every history has what every breach needs (a file, a reply, a quota), so several are tried.
    sentence = getattr(invariants, name)
    for seed in RICH:
        world = run_seed(seed)
        assert check(world) == []
        try:
            BREACHES[name](world)
        except LookupError:  # nothing there that could be broken
            continue
        if any(breach.startswith(sentence.__doc__) for breach in check(world)):
            return
    pytest.fail("no history showed it")
