"""The delivery state machine as a whole: one sender, one receiver, and a channel that loses, repeats and reorders.

The two shells here are the smallest that keep the contract of ``core.relay``: they store what it returns, answer
repeats from the store, and carry out its effects. The bytes are left out: an envelope is a digest with its number.

Length: two shells, the world between them, and what must hold in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from exchange.core.answers import Outcome
from exchange.core.audit import Event as Log
from exchange.core.delivery import (
    DELIVERED,
    OPEN,
    Answer,
    Answered,
    BlobsArrived,
    Cancelled,
    Defer,
    Deliver,
    Effects,
    Event,
    Incoming,
    Opened,
    Outgoing,
    Received,
    Record,
    Replied,
    Seal,
    Sealed,
    Send,
    SendVoid,
    Sent,
    State,
    Status,
    Submitted,
    Tell,
    Tick,
    Unsend,
    Voided,
    Window,
)
from exchange.core.relay import MAX_ATTEMPTS, find_repeat, handle, is_overfull, next_attempt
from exchange.core.wire import Digest, MessageId
from tests.core.builders import DAY, KH, NOW, TH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

T = TypeVar("T")
IDS = [MessageId(f"{n:032x}") for n in range(6)]
LIFETIME = 2 * DAY


@dataclass(frozen=True)
class Plan:
    """What the officer wrote: what the message refers to, whether the agreement permits it, whether it has evidence."""

    refers_to: tuple[MessageId, ...]
    permitted: bool
    has_blobs: bool


PLANS = st.builds(
    Plan,
    refers_to=st.lists(st.sampled_from(IDS), max_size=2).map(tuple),
    permitted=st.sampled_from([True, True, True, False]),
    has_blobs=st.booleans(),
)


@dataclass(frozen=True)
class Envelope:
    """What travels: an envelope, or, without a plan, a void."""

    digest: Digest
    id: MessageId
    seq: int
    attempt: int
    expires: datetime
    plan: Plan | None


class Pick(Protocol):
    """Picks one of several."""

    def __call__(self, items: Sequence[T], /) -> T: ...


# One answers document: final answers with the indices of their leaves. It arrives as a whole or not at all.
Answers: TypeAlias = list[tuple[Answer, int]]


@dataclass
class Sender:
    """The sending node: its records, its outbox, and everything that it ever sealed."""

    window: Window = field(default_factory=lambda: Window(TH))
    messages: dict[MessageId, Outgoing] = field(default_factory=dict)
    plans: dict[MessageId, Plan] = field(default_factory=dict)
    outbox: dict[Digest, Envelope] = field(default_factory=dict)
    sealed: dict[Digest, Envelope] = field(default_factory=dict)
    told: list[Tell] = field(default_factory=list)

    def step(self, message: MessageId, event: Event) -> None:
        """Take one step for one message and carry out what follows."""
        state, effects = handle(State(self.window, outgoing=self.messages.get(message)), event)
        self.window = state.window
        if state.outgoing is not None:
            self.messages[message] = state.outgoing
        self.carry_out(effects)

    def carry_out(self, effects: Effects) -> None:
        for effect in effects:
            match effect:
                case Send():
                    self.outbox[effect.digest] = self.sealed[effect.digest]
                case Unsend():
                    self.outbox.pop(effect.digest, None)
                case SendVoid():
                    void = self.make(effect.id, effect.seq, 0, NOW, None)
                    self.outbox[void.digest] = void
                case Tell():
                    self.told.append(effect)
                case Seal() | Record():
                    pass  # what waits to be sealed is found by its state
                case _:
                    raise AssertionError(effect)

    def make(self, message: MessageId, seq: int, attempt: int, expires: datetime, plan: Plan | None) -> Envelope:
        digest = Digest(sha256(b"%d" % len(self.sealed)).hexdigest())
        self.sealed[digest] = Envelope(digest, message, seq, attempt, expires, plan)
        return self.sealed[digest]

    def waiting(self) -> list[MessageId]:
        """The messages that wait to be sealed."""
        return [m.id for m in self.messages.values() if m.status is Status.QUEUED and m.digest is None]

    def seal(self, message: MessageId, now: datetime) -> None:
        attempt, seq = next_attempt(State(self.window, outgoing=self.messages[message]))
        envelope = self.make(message, seq, attempt, now + LIFETIME, self.plans[message])
        self.step(message, Sealed(envelope.digest, envelope.expires, now))

    def take(self, answers: Answers, now: datetime) -> None:
        """A verified answers document arrived."""
        for answer, log_index in answers:
            event = Answered(answer.digest, answer.outcome, log_index, now, answer.code, answer.clause)
            self.step(self.sealed[answer.digest].id, event)


@dataclass
class Receiver:
    """The receiving node: its records, its answers, its inbox and its log."""

    window: Window = field(default_factory=lambda: Window(KH))
    records: dict[Digest, Incoming] = field(default_factory=dict)
    answers: dict[Digest, tuple[Answer, int]] = field(default_factory=dict)
    inbox: list[MessageId] = field(default_factory=list)
    log: list[Record] = field(default_factory=list)

    def step(self, digest: Digest | None, event: Event) -> Effects:
        """Take one step for one envelope, store what it returns, and carry out what follows."""
        held = tuple(r for r in self.records.values() if r.status is Status.HELD and r.digest != digest)
        known = None if digest is None else self.records.get(digest)
        state, effects = handle(State(self.window, incoming=known, held=held), event)
        self.window = state.window
        for record in (*state.held, *((state.incoming,) if state.incoming else ())):
            self.records[record.digest] = record
        for effect in effects:
            match effect:
                case Record():
                    self.log.append(effect)
                case Answer():
                    self.answers[effect.digest] = (effect, len(self.log) - 1)
                case Deliver():
                    self.inbox.append(effect.id)
                case Defer():
                    pass
                case _:
                    raise AssertionError(effect)
        return effects

    def stored(self, digest: Digest) -> Answers:
        """The final answer to one envelope or void, and the index of its leaf; nothing where it has none yet."""
        return [self.answers[digest]] if digest in self.answers else []

    def receive(self, envelope: Envelope, now: datetime) -> Answers:
        """What the node answers, finally, to one envelope or void; nothing where its answer is bare."""
        return (
            self.receive_envelope(envelope, envelope.plan, now) if envelope.plan else self.receive_void(envelope, now)
        )

    def receive_envelope(self, envelope: Envelope, plan: Plan, now: datetime) -> Answers:
        prior = [record for record in self.records.values() if record.id == envelope.id]
        repeat = find_repeat(prior, envelope.attempt, envelope.digest)
        if repeat is not None:
            return self.stored(repeat.digest)
        if is_overfull(State(self.window), envelope.seq):
            return []
        here = {record.id for record in self.records.values() if record.status in DELIVERED}
        code = None if plan.permitted else "agreement.purpose"
        event = Received(
            envelope.id,
            envelope.attempt,
            envelope.seq,
            envelope.digest,
            now,
            code="envelope.expired" if now >= envelope.expires else code,
            has_blobs=plan.has_blobs,
            absent=tuple(other for other in plan.refers_to if other not in here),
        )
        self.step(envelope.digest, event)
        return self.stored(envelope.digest)

    def receive_void(self, void: Envelope, now: datetime) -> Answers:
        if void.digest not in self.answers:
            self.step(None, Voided(void.seq, void.digest, now))
        # Where the number was answered before, that answer goes with this one, in the same document.
        under_number = [record.digest for record in self.records.values() if record.seq == void.seq]
        return [answer for digest in (void.digest, *under_number) for answer in self.stored(digest)]


class World:
    """The two nodes, a clock, and a channel that does what it likes.

    Whatever was once put into the outbox, or said in answer, may arrive at any later moment, again, or never.
    """

    def __init__(self, plans: Sequence[Plan], pick: Pick) -> None:
        self.now = NOW
        self.pick = pick
        self.sender, self.receiver = Sender(), Receiver()
        self.said: list[Answers | MessageId] = []
        for message, plan in zip(IDS, plans, strict=False):
            others = tuple(dict.fromkeys(other for other in plan.refers_to if other != message))
            self.sender.plans[message] = replace(plan, refers_to=others)
            self.sender.step(message, Submitted(message, self.now))
        for message in IDS[: len(plans) - 1]:
            self.sender.seal(message, self.now)

    def seal(self) -> None:
        """Seal one message that waits, and try to do so twice."""
        if not self.sender.waiting():
            return
        message = self.sender.waiting()[0]
        self.sender.seal(message, self.now)
        before = (self.sender.window, dict(self.sender.messages), dict(self.sender.outbox))
        self.sender.step(message, Sealed(Digest("e" * 64), self.now + DAY, self.now))
        assert before == (self.sender.window, self.sender.messages, self.sender.outbox)

    def send(self) -> None:
        """Learn, maybe late, that something left the node."""
        self.sender.step(self.pick(list(self.sender.messages)), Sent(self.now))

    def take_back(self) -> None:
        """Take one message back."""
        self.sender.step(self.pick(list(self.sender.messages)), Cancelled("relay.cancelled", self.now))

    def use(self) -> None:
        """Let the receiver open a message, reply to it, or get its evidence."""
        if not self.receiver.records:
            return
        digest = self.pick(list(self.receiver.records))
        before = self.receiver.records[digest]
        events: list[Event] = [Replied(self.now), BlobsArrived(self.now), Opened("officer-7", self.now)]
        happened = self.pick(events)
        self.receiver.step(digest, happened)
        if before.status not in DELIVERED:
            assert self.receiver.records[digest] == before
        elif isinstance(happened, Replied):
            self.said.append(before.id)
        else:
            self.said.append(self.receiver.stored(digest))

    def carry_forth(self) -> None:
        """Let one envelope or void arrive."""
        answers = self.receiver.receive(self.pick(list(self.sender.sealed.values())), self.now)
        if answers:
            self.said.append(answers)

    def carry_back(self) -> None:
        """Let one answers document or reply arrive."""
        if not self.said:
            return
        word = self.pick(self.said)
        if isinstance(word, list):
            self.sender.take(word, self.now)
        else:
            self.sender.step(word, Replied(self.now))

    def carry_both_ways(self) -> None:
        """Let one envelope or void arrive, and its answer at once."""
        self.sender.take(self.receiver.receive(self.pick(list(self.sender.sealed.values())), self.now), self.now)

    def wait(self, hours: int) -> None:
        """Let time pass."""
        self.now += timedelta(hours=hours)
        for message in list(self.sender.messages):
            self.sender.step(message, Tick(self.now))

    def check(self) -> None:
        """What holds at every moment."""
        sender, receiver = self.sender, self.receiver
        # Nothing is delivered twice, and no envelope has two final words.
        assert len(set(receiver.inbox)) == len(receiver.inbox)
        said = [(record.subject, record.event) for record in receiver.log if record.event is not Log.OPENED]
        assert len(set(said)) == len(said)
        refused = {subject for subject, event in said if event is Log.REFUSED}
        assert refused.isdisjoint(subject for subject, event in said if event is Log.RECEIVED)
        # Every number belongs to one envelope, and is filled or void, not both.
        assert sorted(e.seq for e in sender.sealed.values() if e.plan) == list(range(1, sender.window.next_seq))
        final = [answer for answer, _ in receiver.answers.values() if answer.outcome is not Outcome.REFUSED]
        assert len({sender.sealed[answer.digest].seq for answer in final}) == len(final)
        # The sender believes only what is so, and what is not over is on its way.
        for message in sender.messages.values():
            assert message.status not in DELIVERED or message.id in receiver.inbox
            assert message.status not in OPEN or message.digest is None or message.digest in sender.outbox
        # A message is accepted after all that it refers to; one is refused for its number where that was void before.
        here: set[MessageId] = set()
        void: set[int] = set()
        for record in receiver.log:
            envelope = sender.sealed[record.subject or Digest("")]
            complete = envelope.plan is None or here.issuperset(envelope.plan.refers_to)
            match record.event, record.code:
                case Log.RECEIVED, _:
                    assert complete
                    here.add(envelope.id)
                case Log.REFUSED, "envelope.reference":
                    assert not complete
                case Log.VOID_RECEIVED, _:
                    void.add(envelope.seq)
                case Log.REFUSED, "envelope.seq":
                    assert envelope.seq in void
        # Whoever waits has something to wait for.
        for waiting in receiver.records.values():
            if waiting.status is Status.HELD:
                assert waiting.waits_for
                assert receiver.window.has_gap_below(waiting.seq)

    def finish(self) -> None:
        """Let everything arrive: then every number is accounted for, and both ends say the same of every message."""
        sender, receiver = self.sender, self.receiver
        for _ in range(MAX_ATTEMPTS):
            for waiting in sender.waiting():
                sender.seal(waiting, self.now)
            for envelope in list(sender.outbox.values()):
                sender.take(receiver.receive(envelope, self.now), self.now)
        self.check()
        assert not sender.outbox
        assert not any(record.status is Status.HELD for record in receiver.records.values())
        assert receiver.window == Window(KH, through=sender.window.next_seq - 1)
        for message in sender.messages.values():
            assert message.status not in OPEN
            assert (message.status in DELIVERED) == (message.id in receiver.inbox)


class Histories(RuleBasedStateMachine):
    """Histories that hypothesis makes up, and makes shorter when one fails."""

    world: World

    @initialize(plans=st.lists(PLANS, min_size=2, max_size=len(IDS)))
    def begin(self, plans: list[Plan]) -> None:
        self.world = World(plans, lambda items: items[0])

    @rule(
        data=st.data(),
        act=st.sampled_from(
            [
                World.carry_forth,
                World.carry_both_ways,
                World.carry_back,
                World.seal,
                World.send,
                World.take_back,
                World.use,
            ]
        ),
    )
    def act(self, data: st.DataObject, act: Callable[[World], None]) -> None:
        self.world.pick = lambda items: data.draw(st.sampled_from(items))
        act(self.world)

    @rule(hours=st.sampled_from([1, 50, 24 * 36]))
    def wait(self, hours: int) -> None:
        self.world.wait(hours)

    @invariant()
    def check(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.finish()


def test_short_histories() -> None:
    """Whatever is lost, late, repeated or taken back: each message takes effect at most once, and none is stuck."""
    run_state_machine_as_test(Histories, settings=settings(max_examples=60, stateful_step_count=25))


@pytest.mark.parametrize("start", range(0, 1500, 300))
def test_long_histories(start: int) -> None:
    """The same holds in many long histories, each of which follows from its number."""
    for seed in range(start, start + 300):
        dice = Random(seed)
        plans = [
            Plan(tuple(dice.sample(IDS, dice.randrange(3))), dice.random() < 0.8, dice.random() < 0.5)
            for _ in range(dice.randint(2, len(IDS)))
        ]
        world = World(plans, dice.choice)
        for _ in range(60):
            dice.choices(*STORM)[0](world)
            world.check()
        world.finish()


STORM: tuple[list[Callable[[World], None]], list[int]] = (
    [
        World.carry_forth,
        World.carry_both_ways,
        World.carry_back,
        World.seal,
        World.use,
        World.send,
        World.take_back,
        lambda world: world.wait(50),
        lambda world: world.wait(24 * 36),
    ],
    [20, 10, 20, 10, 10, 10, 4, 3, 1],
)
