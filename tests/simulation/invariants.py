"""What holds at the end of every history, in sentences; each function yields where its sentence is not true.

Rules:
1. An invariant looks at what is stored and at what officers were told, never into a process.
2. It speaks of pairs of nodes that follow the protocol. Of a misbehaving node's partners it says that they are well.
3. ``check`` runs all of them. A sentence that no history could break would be a defect: test_invariants breaks each.

Length: the sentences about one world are read together.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from exchange.adapters.sqlite import load_queries
from exchange.core.answers import Outcome
from exchange.core.audit import Event, advance, is_back_dated
from exchange.core.checkpoint import parse_checkpoint
from exchange.core.delivery import DELIVERED, OPEN, Status
from exchange.core.merkle import Frontier, hash_leaf
from exchange.core.relay import TRANSIENT
from exchange.core.suspensions import standing
from tests.schemas.samples import book
from tests.simulation.books import Books, Evidence, name_of, read_books
from tests.simulation.drafts import CANARY_FORMS
from tests.simulation.people import QUOTA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exchange.core.suspensions import Suspension
    from tests.simulation.world import World

# -- the sentences ---------------------------------------------------------------------------------


def nothing_unplanned(evidence: Evidence) -> Iterator[str]:
    """No process ends by an error that was not planned, and no node refuses to start on what it left."""
    yield from evidence.world.stage.faults


def everything_submitted_ends(evidence: Evidence) -> Iterator[str]:
    """What was submitted is in the end accepted, refused with a code, or returned with a code."""
    for sender, _, row in evidence.sent():
        if row.record.status in OPEN:
            yield f"{name_of(sender, row)} has not ended"
        if row.record.status not in DELIVERED and row.record.code is None:
            yield f"{name_of(sender, row)} ended without a code"
        if row.record.code in TRANSIENT - {"agreement.unknown"}:
            yield f"{name_of(sender, row)} ended by a code that ends nothing"


def nothing_submitted_is_lost(evidence: Evidence) -> Iterator[str]:
    """A message that an officer was told had been taken is in the store of its sender, for every recipient told."""
    for submission in evidence.world.submissions:
        books = evidence.books.get(submission.sender)
        for peer in submission.recipients if books else ():
            if books and (peer, submission.id) not in books.outgoing:
                yield f"{submission.sender}: message {submission.id[:8]} to {peer} is gone"


def both_sides_agree(evidence: Evidence) -> Iterator[str]:
    """A message is delivered at its sender exactly where it is at its receiver, and a refusal has one code at both."""
    for sender, receiver, row in evidence.sent():
        record = row.record
        delivered = receiver.delivered(sender.id, record.id)
        if (record.status in DELIVERED) is not bool(delivered):
            yield f"{name_of(sender, row)} is {[item.record.status for item in delivered]} at its receiver"
        if record.status is Status.REFUSED and record.log_index is not None:
            theirs = [item.record for item in receiver.incoming.get((sender.id, record.id), ())]
            if not any((item.digest, item.code) == (record.digest, record.code) for item in theirs):
                yield f"{name_of(sender, row)} was refused otherwise: {[item.code for item in theirs]}"
    for sender, receiver, taken in evidence.taken():
        if (receiver.id, taken.record.id) not in sender.outgoing:
            yield f"{name_of(receiver, taken)} is unknown to its sender"


def replies_are_seen(evidence: Evidence) -> Iterator[str]:
    """A message whose answer was delivered is answered, at who wrote it and at who answered it."""
    for sender, receiver, row in evidence.taken():
        statement = evidence.world.opened.get((receiver.host.id, sender.id, row.record.id))
        answered: Any = statement.header()["in_reply_to"] if statement else None
        written = receiver.outgoing.get((sender.id, answered))
        if written is not None and written.record.status is not Status.ANSWERED:
            yield f"{name_of(receiver, written)} was answered"
        read = [item.record.status for item in sender.delivered(receiver.id, answered)] if answered else []
        if read and read != [Status.ANSWERED]:
            yield f"{sender.id}: message {answered[:8]} is {read} where it was answered"


def evidence_arrives(evidence: Evidence) -> Iterator[str]:
    """Every file of a delivered message is whole at its receiver, and both sides know it."""
    query = "SELECT h, whole FROM blobs WHERE peer = ? AND message = ? AND direction = ?"
    for sender, receiver, row in evidence.taken():
        there = sender.host.connection.execute(query, (receiver.id, row.record.id, "out")).fetchall()
        here = receiver.host.connection.execute(query, (sender.id, row.record.id, "in")).fetchall()
        if sorted(h for h, _ in there) != sorted(h for h, _ in here):
            yield f"{name_of(receiver, row)} has other files than were sent"
        if not all(whole for _, whole in (*there, *here)) or not all(h in receiver.host.blobs for h, _ in here):
            yield f"{name_of(receiver, row)} waits for files"
        ours = sender.outgoing.get((receiver.id, row.record.id))
        if here and (row.record.has_blobs or row.record.status is Status.ACCEPTED):
            yield f"{name_of(receiver, row)} is not complete"
        if here and ours is not None and ours.record.status is Status.ACCEPTED:
            yield f"{name_of(sender, ours)} is not complete at its sender"


def nothing_takes_effect_twice(evidence: Evidence) -> Iterator[str]:
    """A message is accepted once, in one attempt, by one log entry, and its arrival is told at most once."""
    for _, receiver, row in evidence.taken():
        record = row.record
        if len(receiver.delivered(record.peer, record.id)) > 1:
            yield f"{name_of(receiver, row)} was accepted in two attempts"
        if len(receiver.leaves_about(record.digest, Event.RECEIVED)) != 1:
            yield f"{name_of(receiver, row)} has not one entry of its arrival"
    for key, count in evidence.world.stage.received.items():
        if count > 1:
            yield f"{key} was told {count} times"


def answers_agree(evidence: Evidence) -> Iterator[str]:
    """No node signs two different final answers to one envelope or void, save complete after accepted."""
    said: dict[tuple[str, str], set[tuple[Outcome, str | None]]] = {}
    for books in evidence.books.values():
        for sender, item in books.answers:
            if sender != evidence.world.evil:
                outcome = Outcome.ACCEPTED if item.outcome is Outcome.COMPLETE else item.outcome
                said.setdefault((sender, item.digest), set()).add((outcome, item.code))
    for (sender, digest), outcomes in said.items():
        if len(outcomes) > 1:
            yield f"{sender} said of {digest[:8]}: {sorted((str(o), str(c)) for o, c in outcomes)}"


def replies_come_after(evidence: Evidence) -> Iterator[str]:
    """A message is never delivered before one that it speaks of."""
    for sender, receiver, row in evidence.taken():
        statement = evidence.world.opened.get((receiver.host.id, sender.id, row.record.id))
        if statement is None:
            continue
        header: Any = statement.header()
        mine = _arrival(receiver, sender.id, row.record.id)
        for other in {*header["refers_to"], header["in_reply_to"]} - {None}:
            if (sender.id, other) in receiver.outgoing:
                continue
            theirs = _arrival(receiver, sender.id, other)
            if theirs is None or mine is None or theirs >= mine:
                yield f"{name_of(receiver, row)} came before {other[:8]}"


def _arrival(books: Books, peer: str, ident: str) -> int | None:
    for row in books.delivered(peer, ident):
        for leaf in books.leaves_about(row.record.digest, Event.RECEIVED):
            return leaf.seq
    return None


def no_reference_is_missed(evidence: Evidence) -> Iterator[str]:
    """A message is not refused for a reference if what it speaks of was delivered under a lower number."""
    spoken = {(item.sender, item.id): item.references for item in evidence.world.submissions}
    for sender, receiver, row in evidence.sent():
        record = row.record
        if record.code != "envelope.reference":
            continue
        before = {
            item.record.id
            for (peer, _), rows in receiver.incoming.items()
            for item in rows
            if peer == sender.id and item.record.status in DELIVERED and item.record.seq < record.seq
        }
        known = before | {ident for peer, ident in receiver.outgoing if peer == sender.id}
        references = spoken.get((sender.host.id, record.id))
        if references is not None and known.issuperset(references):
            yield f"{name_of(sender, row)} speaks of nothing unknown"


def every_change_has_one_entry(evidence: Evidence) -> Iterator[str]:
    """Every state that a message reached has exactly one log entry at the node that recorded it."""
    for sender, _, row in evidence.sent():
        record = row.record
        events = [leaf.event for leaf in sender.leaves_about(record.digest, *Event)] if record.digest else []
        if record.digest and events.count(Event.SEALED) != 1:
            yield f"{name_of(sender, row)} has not one entry of its sealing"
        receipts = events.count(Event.DELIVERED)
        if receipts > 1 or events.count(Event.COMPLETED) > 1 or events.count(Event.REFUSED_BY_PEER) > 1:
            yield f"{name_of(sender, row)} was receipted twice"
        if (
            record.status in DELIVERED
            and record.log_index is not None
            and not receipts
            and Event.COMPLETED not in events
        ):
            yield f"{name_of(sender, row)} has a receipt without an entry"
        if record.status not in DELIVERED and not {Event.REFUSED_BY_PEER, Event.RETURNED} & {*events}:
            returned = [leaf for leaf in sender.leaves if leaf.event is Event.RETURNED and leaf.subject is None]
            if record.digest or not returned:
                yield f"{name_of(sender, row)} ended without an entry"
    for books in evidence.books.values():
        for rows in books.incoming.values():
            for taken in rows:
                judged = books.leaves_about(taken.record.digest, Event.RECEIVED, Event.REFUSED)
                expected = 0 if taken.record.status is Status.HELD else 1
                if len(judged) != expected or len(books.leaves_about(taken.record.digest, Event.HELD)) > 1:
                    yield f"{name_of(books, taken)} has {len(judged)} entries of its judgement"


def logs_match(evidence: Evidence) -> Iterator[str]:
    """An accepted message has an entry in either log, with the same commitment, agreement and clause."""
    for sender, receiver, row in evidence.taken():
        sealed = sender.leaves_about(row.record.digest, Event.SEALED)
        received = receiver.leaves_about(row.record.digest, Event.RECEIVED)
        ours = [(leaf.peer, leaf.commitment, leaf.agreement, leaf.clause) for leaf in sealed]
        theirs = [(receiver.id, leaf.commitment, leaf.agreement, leaf.clause) for leaf in received]
        if ours != theirs or len(ours) != 1 or ours[0][1] is None:
            yield f"{name_of(receiver, row)}: sealed {ours}, received {theirs}"
        statement = evidence.world.opened.get((receiver.host.id, sender.id, row.record.id))
        if statement is not None and received and statement.parts[0].digest != received[0].commitment:
            yield f"{name_of(receiver, row)} has the commitment of another message"


def accepted_messages_can_be_read(evidence: Evidence) -> Iterator[str]:
    """Everything accepted opens at its receiver and says what its officer wrote, less what the clause withholds."""
    written = {(item.sender, item.id): item.content for item in evidence.world.submissions}
    for sender, receiver, row in evidence.taken():
        statement = evidence.world.opened.get((receiver.host.id, sender.id, row.record.id))
        if statement is None:
            yield f"{name_of(receiver, row)} cannot be read"
            continue
        header: Any = statement.header()
        content: Any = written.get((sender.host.id, row.record.id))
        if content is None:
            continue  # its officer's process died before it could say that it had taken it
        expected = dict(book().split(header["schema"], content))
        for name, part in zip(header["parts"], statement.parts[1:], strict=True):
            if name != "attachments" and part.text is not None and part.value(name) != expected[name]:
                yield f"{name_of(receiver, row)} says something else in {name}"
            if part.text is None and (name, part.clause) != ("identity", "names"):
                yield f"{name_of(receiver, row)} lacks {name}"


def agreements_rule(evidence: Evidence) -> Iterator[str]:
    """Nothing is delivered but by a clause of an agreement that names both nodes and was then in force."""
    for sender, receiver, row in evidence.taken():
        core = receiver.envelopes[row.record.digest]
        agreement = evidence.world.agreements.get(core.agreement.digest)
        if agreement is None or not agreement.names(sender.id, receiver.id) or not agreement.is_in_force(core.created):
            yield f"{name_of(receiver, row)} had no agreement in force"
            continue
        statement = evidence.world.opened.get((receiver.host.id, sender.id, row.record.id))
        if statement is None:
            continue
        header: Any = statement.header()
        clause = next((item for item in agreement.clauses if item.id == statement.clause), None)
        if clause is None or header["kind"] not in clause.kinds or row.record.clause != clause.id:
            yield f"{name_of(receiver, row)} was permitted by no clause"


_USES: Final = {Event.SEALED: "sealed", Event.RECEIVED: "accepted"}
_NOTICES: Final = frozenset({Event.AGREEMENT_SUSPENDED, Event.AGREEMENT_LEFT, Event.AGREEMENT_RESUMED})


def suspensions_stop(evidence: Evidence) -> Iterator[str]:
    """After the entry of a notice that stops an agreement, nothing is sealed or accepted under it until one resumes."""
    for books in evidence.books.values():
        newest: dict[str, dict[str, Suspension]] = {}
        parties = {str(item.id): {party.node for party in item.parties} for item in evidence.world.agreements.values()}
        for leaf in books.leaves:
            ident = (leaf.agreement or "").partition("/")[0]
            held = newest.setdefault(ident, {})
            if leaf.event in _NOTICES:
                notice = books.notices[leaf.subject or ""]
                if notice.is_newer(held.get(notice.party)):
                    held[notice.party] = notice
            elif leaf.event in _USES and leaf.peer is not None:
                counted = [notice for notice in held.values() if notice.party in parties[ident]]
                if not standing(counted, books.id, leaf.peer).serves:
                    yield f"{books.id}: entry {leaf.seq}, {_USES[leaf.event]} under {leaf.agreement} with {leaf.peer}"


def notices_arrive(evidence: Evidence) -> Iterator[str]:
    """In the end every party holds what another's node said last about their agreement, or something newer."""
    for sender, receiver in evidence.pairs():
        for notice in sender.notices.values():
            shared = [item for item in evidence.world.agreements.values() if item.id == notice.agreement]
            if notice.party != sender.id or not any(item.names(sender.id, receiver.id) for item in shared):
                continue
            theirs = [
                item
                for item in receiver.notices.values()
                if (item.agreement, item.party) == (notice.agreement, notice.party)
            ]
            if not any(item.digest == notice.digest or item.is_newer(notice) for item in theirs):
                yield f"{receiver.id} lacks notice {notice.serial} of {sender.id} about {notice.agreement}"


def quotas_hold(evidence: Evidence) -> Iterator[str]:
    """No more messages are delivered under a clause with a quota than it allows one sender on one day."""
    counted: Counter[tuple[str, str, str, str, str]] = Counter()
    for sender, receiver, row in evidence.taken():
        core = receiver.envelopes[row.record.digest]
        if row.record.clause == "names" and core.agreement.version == 1:
            day = core.created.strftime("%Y-%m-%d")
            counted[sender.id, receiver.id, core.agreement.digest, row.record.clause, day] += 1
    for key, count in counted.items():
        if count > QUOTA:
            yield f"{key}: {count} messages"


def every_gap_is_closed(evidence: Evidence) -> Iterator[str]:
    """Every number that a sender took is answered at its receiver, and the receiver knows of no other."""
    for sender, receiver in evidence.pairs():
        ours, theirs = sender.windows.get(receiver.id), receiver.windows.get(sender.id)
        last = ours.next_seq - 1 if ours else 0
        through, above = (theirs.through, theirs.above) if theirs else (0, ())
        if (through, above) != (last, ()):
            yield f"{sender.id} sent {last} numbers, {receiver.id} answered {through} and {above}"


def outboxes_are_empty(evidence: Evidence) -> Iterator[str]:
    """Nothing waits to be sent to an honest node."""
    for sender, receiver in evidence.pairs():
        query = "SELECT count(*) FROM outbox WHERE peer = ?"
        ((count,),) = sender.host.connection.execute(query, (receiver.id,)).fetchall()
        if count:
            yield f"{sender.id}: {count} to {receiver.id}"


def logs_verify(evidence: Evidence) -> Iterator[str]:
    """Every log gives its stored frontier, is in order of number and time, and every checkpoint signs a part of it."""
    for books in evidence.books.values():
        connection, queries = books.host.connection, load_queries()
        raw = [leaf for _, leaf in connection.execute(queries["leaves"], (0, 10**9))]
        ((size, frontier, _),) = connection.execute(queries["log"]).fetchall()
        whole = Frontier().extend(map(hash_leaf, raw))
        if (size, frontier) != (len(raw), whole.encode()):
            yield f"{books.id}: the stored frontier is not that of the entries"
        latest = None
        for number, leaf in enumerate(books.leaves):
            if leaf.seq != number or is_back_dated(latest, leaf):
                yield f"{books.id}: entry {number} is out of place or time"
            latest = advance(latest, leaf)
        signed = 0
        for size, _, note in connection.execute(queries["all_checkpoints"]):
            head = parse_checkpoint(note, books.host.person.log_keys).head
            if (head.size, head.root) != (size, Frontier().extend(map(hash_leaf, raw[:size])).root()):
                yield f"{books.id}: the checkpoint of {size} signs another log"
            signed = size
        if signed != len(raw):
            yield f"{books.id}: the last checkpoint covers {signed} of {len(raw)} entries"


def verification_finds_nothing(evidence: Evidence) -> Iterator[str]:
    """A node's own verification of its whole store finds nothing wrong."""
    yield from evidence.world.findings


def nothing_is_in_clear(evidence: Evidence) -> Iterator[str]:
    """No text that an officer wrote is in any stored row, file or prekey file, neither plain nor in base64."""
    for host in evidence.world.hosts.values():
        tables = [name for (name,) in host.connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for table in tables:
            for row in host.connection.execute(f"SELECT * FROM {table}"):  # noqa: S608 - the schema's own names
                for value in row:
                    data = value if isinstance(value, bytes) else str(value).encode()
                    if any(form in data for form in CANARY_FORMS):
                        yield f"{host.id}: a row of {table}"
        if any(form in data for data in (*host.blobs.values(), *host.prekeys.files.values()) for form in CANARY_FORMS):
            yield f"{host.id}: a file"


def repeats_cost_nothing(evidence: Evidence) -> Iterator[str]:
    """What comes again adds nothing to a log, and what a misbehaving node's answers say again is not kept."""
    about = {Event.RECEIVED, Event.REFUSED, Event.HELD, Event.EQUIVOCATION, Event.VOID_RECEIVED, Event.VOID_REFUSED}
    about |= {Event.CARD_INSTALLED, Event.AGREEMENT_INSTALLED}
    for books in evidence.books.values():
        counted = Counter((leaf.event, leaf.subject) for leaf in books.leaves if leaf.subject and leaf.event in about)
        yield from (f"{books.id}: {count} entries {key}" for key, count in counted.items() if count > 1)
        if books.idle_answers:
            yield f"{books.id}: {books.idle_answers} stored answers about nothing that it sent"


def nodes_rest(evidence: Evidence) -> Iterator[str]:
    """A node makes no more requests to another than it has things to say, with a few repeats, and waits to end."""
    stage = evidence.world.stage
    ended = float(stage.history[-1].split()[0])
    starts = Counter(line.split()[1] for line in stage.history if line.endswith(" start"))
    for sender, receiver in evidence.pairs():
        asked = evidence.world.network.asked[sender.id, receiver.id]
        voids = [leaf for leaf in sender.leaves if leaf.peer == receiver.id and leaf.event is Event.VOID_SENT]
        sealed = [core for core in sender.envelopes.values() if core.recipient == receiver.id]
        files = sum(len(core.blobs) for core in sealed)
        occasions = len(voids) + len(sealed) + files + starts[sender.id] + starts[receiver.id] + ended / 30
        # The most restless of six hundred made nine requests an occasion: where limits are small, a request carries one
        # message, and each round of those that the peer puts off is as many requests.
        if asked > 40 + 12 * occasions:
            yield f"{sender.id} asked {receiver.id} {asked} times on {occasions:.0f} occasions"


def it_ends_in_time(evidence: Evidence) -> Iterator[str]:
    """Once the faults have stopped, everything between honest nodes comes to its end within a bounded time."""
    if evidence.world.settled_after is None:
        yield "something still waits"


SENTENCES: Final[tuple[Callable[[Evidence], Iterator[str]], ...]] = (
    nothing_unplanned,
    it_ends_in_time,
    everything_submitted_ends,
    nothing_submitted_is_lost,
    both_sides_agree,
    replies_are_seen,
    evidence_arrives,
    nothing_takes_effect_twice,
    answers_agree,
    replies_come_after,
    no_reference_is_missed,
    every_change_has_one_entry,
    logs_match,
    accepted_messages_can_be_read,
    agreements_rule,
    suspensions_stop,
    notices_arrive,
    quotas_hold,
    every_gap_is_closed,
    outboxes_are_empty,
    logs_verify,
    verification_finds_nothing,
    nothing_is_in_clear,
    repeats_cost_nothing,
    nodes_rest,
)


def check(world: World) -> list[str]:
    """Every breach, with the sentence that it breaks."""
    evidence = Evidence(world, {host.id: read_books(host) for host in world.honest})
    breaches: list[str] = []
    for sentence in SENTENCES:
        breaches += [f"{sentence.__doc__} -- {breach}" for breach in sentence(evidence)]
    return breaches
