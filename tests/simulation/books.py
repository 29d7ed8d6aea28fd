"""What the nodes of a history have stored, read for the sentences of ``tests.simulation.invariants``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exchange.adapters.sqlite import load_queries
from exchange.core.answers import claimed_sender, verify_answers
from exchange.core.audit import parse_leaf
from exchange.core.delivery import DELIVERED
from exchange.core.envelope import parse_envelope
from exchange.core.keys import read_card
from exchange.core.suspensions import read_suspension
from exchange.core.wire import DocumentType, parse_signed_document
from exchange.node.records import incoming_from_row, outgoing_from_row, window_from_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exchange.core.answers import AnswerItem
    from exchange.core.audit import Event, Leaf
    from exchange.core.delivery import Window
    from exchange.core.envelope import Core
    from exchange.core.suspensions import Suspension
    from exchange.node.records import IncomingRow, OutgoingRow
    from tests.simulation.host import Host
    from tests.simulation.world import World

NOTICES_SQL: Final = "SELECT digest, bytes FROM documents WHERE type = ?"


@dataclass
class Books:
    """What one node has stored, read."""

    host: Host
    outgoing: dict[tuple[str, str], OutgoingRow]
    incoming: dict[tuple[str, str], list[IncomingRow]]
    windows: dict[str, Window]
    leaves: list[Leaf]
    envelopes: dict[str, Core]  # by digest
    answers: list[tuple[str, AnswerItem]]  # by whom
    notices: dict[str, Suspension]  # by digest
    idle_answers: int  # documents of others that answer nothing which this node sent

    @property
    def id(self) -> str:
        """Whose they are."""
        return self.host.id

    def delivered(self, peer: str, ident: str) -> list[IncomingRow]:
        """The attempts of a message that this node accepted."""
        return [row for row in self.incoming.get((peer, ident), ()) if row.record.status in DELIVERED]

    def leaves_about(self, digest: str | None, *events: Event) -> list[Leaf]:
        """Log entries of these kinds about an envelope."""
        return [leaf for leaf in self.leaves if leaf.subject == digest and leaf.event in events]


def read_books(host: Host) -> Books:
    queries, connection = load_queries(), host.connection
    outgoing = [outgoing_from_row(row) for row in connection.execute(queries["all_outgoing"])]
    incoming: dict[tuple[str, str], list[IncomingRow]] = {}
    for raw in connection.execute(queries["all_incoming"]):
        row = incoming_from_row(raw)
        incoming.setdefault((row.record.peer, row.record.id), []).append(row)
    envelopes = {
        digest: parse_envelope(document, body).core
        for digest, _, document, body, _ in connection.execute(queries["all_envelopes"])
        if body
    }
    cards = {}
    for *_, data in connection.execute(queries["documents"], (DocumentType.CARD,)):
        card = read_card(parse_signed_document(data))
        cards[card.node] = card
    stored = {digest for digest, *_ in connection.execute(queries["all_envelopes"])}
    answers: list[tuple[str, AnswerItem]] = []
    idle = 0
    for peer, data in connection.execute("SELECT peer, bytes FROM answers"):
        document = parse_signed_document(data, DocumentType.ANSWERS)
        sender = claimed_sender(document)
        other = host.id if sender != host.id else peer
        items = verify_answers(document, cards[sender], other).items
        answers += [(sender, item) for item in items]
        idle += sender != host.id and not any(item.digest in stored for item in items)
    return Books(
        host=host,
        outgoing={(row.record.peer, row.record.id): row for row in outgoing},
        incoming=incoming,
        windows={row[0]: window_from_row(row) for row in connection.execute(queries["windows"])},
        leaves=[parse_leaf(leaf) for _, leaf in connection.execute(queries["leaves"], (0, 10**9))],
        envelopes=envelopes,
        answers=answers,
        notices={
            digest: read_suspension(parse_signed_document(data))
            for digest, data in connection.execute(NOTICES_SQL, (DocumentType.SUSPENSION,))
        },
        idle_answers=idle,
    )


@dataclass
class Evidence:
    """A world and its books."""

    world: World
    books: dict[str, Books]

    def pairs(self) -> Iterator[tuple[Books, Books]]:
        """(sender, receiver), both honest."""
        for sender, receiver in self.world.honest_pairs():
            yield self.books[sender.id], self.books[receiver.id]

    def sent(self) -> Iterator[tuple[Books, Books, OutgoingRow]]:
        """Every message between honest nodes, at its sender."""
        for sender, receiver in self.pairs():
            for (peer, _), row in sender.outgoing.items():
                if peer == receiver.id:
                    yield sender, receiver, row

    def taken(self) -> Iterator[tuple[Books, Books, IncomingRow]]:
        """Every accepted message between honest nodes, at its receiver."""
        for sender, receiver in self.pairs():
            for peer, ident in receiver.incoming:
                if peer == sender.id:
                    for row in receiver.delivered(peer, ident):
                        yield sender, receiver, row


def name_of(books: Books, row: OutgoingRow | IncomingRow) -> str:
    record = row.record
    return f"{books.id}: message {record.id[:8]} with {record.peer} ({record.status}, {record.code})"
