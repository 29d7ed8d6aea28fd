"""One seed, one history: who takes part, what officers do, what goes wrong and when, until everything is quiet again.

Rules:
1. Everything follows from the seed: the plan is drawn before the history begins, and what is drawn on the way is drawn
   in the order of the history. (HPKE and ML-DSA draw hidden randomness; nothing that happens depends on it.)
2. What goes wrong ends at a known moment. After it every machine runs, every line is open, nobody is blocked, all
   clocks agree; then everything that officers submitted must come to its end within a bounded time.
3. The wall clock may run faster than the loop, by a factor of the seed, so that a minute of history is days of prekeys,
   expiries and back-off.
4. At the end every node is stopped as an operator stops it, and what it left is loaded once more and read.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from exchange.core import wire
from exchange.core.agreements import read_agreement
from exchange.core.errors import LocalError, PeerError
from exchange.core.suspensions import Action as NoticeAction
from tests.simulation.disk import CommitFault, Trap
from tests.simulation.host import DiedError, Host, Stage
from tests.simulation.limits import narrow_limits
from tests.simulation.loop import run_virtually
from tests.simulation.mischief import Mischief
from tests.simulation.network import CALM, Network, SimPeers, Weather
from tests.simulation.officers import Officers
from tests.simulation.people import agreement_id, person
from tests.simulation.world import DELIVERED_SQL, FAR, Pact, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from exchange.core.agreements import Agreement
    from exchange.core.statement import Statement
    from exchange.core.wire import Digest, NodeId
    from exchange.node.node import Node
    from tests.simulation.officers import Action

SPEEDS: Final = (1.0, 1.0, 1.0, 60.0, 1000.0, 4000.0)
# What a trap waits for; None is any commit.
TRAPS: Final = (None, None, "held", "file sent", "drop_outbox", "put_outbox", "put_answer", "put_document", "put_block")
SUSPENDING: Final = 0.4  # of all histories
LIMIT: Final = 3_000.0  # seconds after the faults stop, in which everything must come to its end


def run_seed(seed: int) -> World:
    """Run the history of a seed to its end."""
    rng = random.Random(seed)
    with narrow_limits(rng):
        return run_virtually(lambda: _History(seed, rng).run())


class _History:
    """Draws the plan of a seed and carries it out."""

    def __init__(self, seed: int, rng: random.Random) -> None:
        self.rng = rng
        self.dice = random.Random(f"suspensions {seed}")  # apart, so that the rest of a history is drawn as ever
        indexes = rng.sample(range(6), rng.choice((2, 3, 3, 4, 4, 5, 6)))
        speed = rng.choice(SPEEDS)
        self.length = rng.uniform(15, 40) if speed < 100 else rng.uniform(40, 300)
        stage = Stage(rng, speed, rng.uniform(0, 86_400), rng.choice((0.004, 0.1, 1.0)))
        hosts: dict[NodeId, Host] = {person(index).node: Host(person(index), stage, seed) for index in indexes}
        evil = person(indexes[-1]).node if len(indexes) > 2 and rng.random() < 0.3 else None
        network = Network(stage, hosts, evil)
        pacts = list(self._draw_pacts(indexes, speed))
        agreements: dict[str, Agreement] = {}
        for pact in pacts:
            for data in pact.documents():
                read = read_agreement(wire.parse_signed_document(data))
                agreements[read.digest] = read
        self.world = World(seed, stage, hosts, network, pacts, agreements, evil)
        self.officers = Officers(self.world, rng)
        self.mischief = None if evil is None else Mischief(hosts[evil], network, indexes[-1])
        for host in hosts.values():
            host.peers = lambda process: SimPeers(network, process)
            host.on_death = self._restart
        self.downtime: dict[NodeId, float] = {}
        self.quiet = self.over = False
        self._tasks: set[asyncio.Task[None]] = set()

    def _draw_pacts(self, indexes: list[int], speed: float) -> Iterator[Pact]:
        rng, seconds = self.rng, self.length * speed
        pairs = [(one, other) for at, one in enumerate(indexes) for other in indexes[at + 1 :]]
        groups: list[tuple[int, ...]] = [pair for at, pair in enumerate(pairs) if at == 0 or rng.random() < 0.6]
        if len(indexes) > 2 and rng.random() < 0.4:
            groups.append(tuple(indexes[:3]))
        for group in groups:
            # In whole hours, so that few different documents have to be signed.
            until, second = FAR, None
            if rng.random() < 0.15:
                until = int(86_400 + seconds * rng.uniform(0.3, 1.0)) // 3600 * 3600
            if rng.random() < 0.3:
                second = min(int(rng.uniform(0, 86_400) + seconds * rng.random()) // 3600 * 3600, until - 3600)
            yield Pact(group, until, second)

    # -- the history

    async def run(self) -> World:
        """Prepare the disks, start everybody, let it happen, let it end."""
        loop, world = asyncio.get_running_loop(), self.world
        plan = sorted(self._plan(), key=lambda item: item[0])
        for host in world.hosts.values():
            await host.install(self._documents(host))
        for host in world.hosts.values():
            await host.start()
        for moment, action in plan:
            await asyncio.sleep(max(0.0, moment - loop.time()))
            self._spawn(action)
        await asyncio.sleep(max(0.0, self.length - loop.time()))
        await self._calm_down()
        began = loop.time()
        for _ in range(int(LIMIT / 2)):
            if not self._tasks and world.is_settled():
                world.settled_after = loop.time() - began
                break
            await asyncio.sleep(2)
        await self._stop()
        return world

    def _documents(self, host: Host) -> list[bytes]:
        """What an operator installed before: cards of everybody, agreements, whose last version may come later."""
        documents = [host.person.card]
        documents += [other.person.card for other in self.world.hosts.values() if other is not host]
        for pact in self.world.pacts:
            nodes = [person(index).node for index in pact.indexes]
            # One that lacks it will get it from its partner, if ever.
            if host.id in nodes and (host.id == nodes[0] or self.rng.random() < 0.8):
                documents.append(pact.documents()[0])
        return documents

    def _spawn(self, action: Action) -> None:
        async def run() -> None:
            with suppress(DiedError, PeerError):
                await action()

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.world.stage.faults.append(f"officer: {type(error).__name__}: {error}")

    def _restart(self, host: Host) -> None:
        """A supervisor starts what died."""
        wait = self.downtime.pop(host.id, None) or self.rng.uniform(0.05, 3)

        async def again() -> None:
            await asyncio.sleep(0.05 if self.quiet else wait)
            await host.start()

        if not self.over:
            self._spawn(again)

    async def _calm_down(self) -> None:
        self.quiet = True
        network = self.world.network
        network.weather = CALM
        network.cut.clear()
        for host in self.world.hosts.values():
            host.armed, host.skew = None, 0.0
        await asyncio.sleep(0.1)  # whose disk has just failed is still ending
        for _ in range(100):
            if all(host.is_serving for host in self.world.hosts.values()):
                break
            for host in self.world.hosts.values():
                await host.start()
            await asyncio.sleep(0.1)
        for host in self.world.honest:
            for (peer,) in host.connection.execute("SELECT peer FROM blocks").fetchall():
                await self.officers.block(host, peer, blocked=False)

    async def _stop(self) -> None:
        """Every node stops in good order; what it left is loaded, read and verified."""
        self.over, world = True, self.world
        for host in world.honest:
            with suppress(DiedError):
                await host.ask(_stop)
        for host in world.hosts.values():
            host.kill()
        for host in world.honest:
            await self._open_everything(host)
            world.findings += [f"{host.id}: {code} {where}" for code, where in await host.verify()]

    async def _open_everything(self, host: Host) -> None:
        """Every delivered message, as its reader sees it."""
        node = await host.load()
        rows = host.connection.execute(
            f"SELECT peer, id, digest, case_id FROM incoming WHERE status IN ({DELIVERED_SQL})"  # noqa: S608 - our words
        ).fetchall()
        if node is None:
            return
        for peer, ident, digest, case_id in rows:
            with suppress(LocalError):  # input.erased: the invariants will miss it
                self.world.opened[host.id, peer, ident] = await _read(node, digest, case_id)

    # -- the plan

    def _plan(self) -> Iterator[tuple[float, Action]]:
        rng, world = self.rng, self.world
        hosts = list(world.hosts.values())

        def times(*choice: int) -> list[float]:
            return [rng.uniform(0, self.length) for _ in range(rng.choice(choice))]

        for moment in times(6, 12, 20):
            yield moment, self.officers.draw(rng.choice(hosts))
        if self.mischief is not None:
            for moment in times(6, 20):
                yield moment, self.mischief.act
        if self.dice.random() < SUSPENDING:
            yield from self._plan_suspensions()
        if rng.random() > 0.1:  # else a history in which only the order of things varies
            yield from self._plan_trouble(hosts, times)

    def _plan_suspensions(self) -> Iterator[tuple[float, Action]]:
        """A party stops an agreement; mostly its authority resumes it later, at whichever node hears of it first."""
        dice, world = self.dice, self.world
        for pact in world.pacts:
            if dice.random() < 0.5:
                index, moment = dice.choice(pact.indexes), dice.uniform(0, self.length)
                action = NoticeAction.LEAVE if dice.random() < 0.15 else NoticeAction.SUSPEND
                others = dice.random() < 0.7
                yield moment, self._draw_stop(world.hosts[person(index).node], pact, action, others_continue=others)
                for _ in range(dice.choice((0, 1, 1, 2))):
                    where = world.hosts[person(dice.choice(pact.indexes)).node]
                    yield dice.uniform(moment, self.length), self._draw_resumption(where, index, pact)

    def _draw_stop(self, host: Host, pact: Pact, action: NoticeAction, *, others_continue: bool) -> Action:
        return lambda: self.officers.stop(host, agreement_id(pact.indexes), action, others_continue=others_continue)

    def _draw_resumption(self, host: Host, index: int, pact: Pact) -> Action:
        return lambda: self.officers.resume(host, index, pact.indexes)

    def _plan_trouble(self, hosts: list[Host], times: Callable[..., list[float]]) -> Iterator[tuple[float, Action]]:
        rng, world = self.rng, self.world
        world.network.weather = Weather(
            lose_request=rng.choice((0, 0.05, 0.3)),
            lose_answer=rng.choice((0, 0.05, 0.3)),
            double=rng.choice((0, 0.1, 0.4)),
            latest_double=rng.choice((0.5, self.length)),
            slowest=rng.choice((0.01, 0.3, 3.0)),
        )
        for moment in times(0, 1, 3, 6):
            yield moment, self._draw_death(rng.choice(hosts))
        for moment in times(0, 0, 1, 2):
            yield moment, self._draw_partition(hosts)
        if rng.random() < 0.3:
            yield self._cut_from_the_start(rng.sample(rng.choice(world.pacts).indexes, 2))
        if world.stage.speed >= 1000 and rng.random() < 0.5:
            yield self._draw_silence(rng.sample(rng.choice(world.pacts).indexes, 2))
        for moment in times(0, 0, 1, 2):
            yield moment, self._draw_clock(rng.choice(hosts))
        for moment in times(0, 0, 0, 1, 2):
            yield moment, self._draw_block(*rng.sample(hosts, 2))
        for pact in world.pacts:
            if pact.second_from is not None:
                # Whose operator is not told gets the second version from a partner, with the first where it lacks that.
                told = rng.sample(pact.indexes, rng.randint(1, len(pact.indexes)))
                for index in told:
                    yield rng.uniform(0, self.length), self._draw_second_version(world.hosts[person(index).node], pact)

    def _draw_death(self, host: Host) -> Action:
        trap = Trap(self.rng.choice(list(CommitFault)), self.rng.choice(TRAPS)) if self.rng.random() < 0.7 else None
        downtime = self.rng.choice((0.05, 1.0, self.rng.uniform(0, self.length)))

        async def act() -> None:
            if self.quiet:
                return
            self.downtime[host.id] = downtime
            if trap is None:
                host.kill()
            else:
                host.armed = trap

        return act

    def _draw_partition(self, hosts: Sequence[Host]) -> Action:
        side = self.rng.sample(hosts, self.rng.randint(1, len(hosts) - 1))
        pairs = [(one.id, other.id) for one in side for other in hosts if other not in side]
        duration = self.rng.uniform(1, self.length)

        async def act() -> None:
            for pair in pairs:
                self.world.network.set_cut(*pair, cut=True)
            await asyncio.sleep(duration)
            if not self.quiet:
                for pair in pairs:
                    self.world.network.set_cut(*pair, cut=False)

        return act

    def _cut_from_the_start(self, indexes: Sequence[int]) -> tuple[float, Action]:
        """Two nodes cannot reach each other before they know each other's prekeys: what is submitted waits unsealed."""
        one, other = (person(index).node for index in indexes)
        self.world.network.set_cut(one, other, cut=True)

        async def act() -> None:
            if not self.quiet:
                self.world.network.set_cut(one, other, cut=False)

        return self.rng.uniform(0, self.length), act

    def _draw_silence(self, indexes: Sequence[int]) -> tuple[float, Action]:
        """Two nodes do not reach each other for so many days that envelopes expire, or messages are given back."""
        pair = [self.world.hosts[person(index).node] for index in indexes]
        days = self.rng.choice((8.5, 17, 37) if self.world.stage.speed > 1000 else (8.5,))
        moment, seconds = self.rng.uniform(0, self.length), days * 86_400 / self.world.stage.speed
        self.length = max(self.length, moment + seconds)

        async def act() -> None:
            self.world.network.set_cut(pair[0].id, pair[1].id, cut=True)
            await self.officers.talk(pair[0], [pair[1].id])

        return moment, act

    def _draw_clock(self, host: Host) -> Action:
        step = self.rng.choice((-600.0, -90.0, -5.0, 30.0, 400.0, 1200.0))

        async def act() -> None:
            if not self.quiet:
                host.skew += step

        return act

    def _draw_block(self, host: Host, peer: Host) -> Action:
        duration = self.rng.uniform(0.5, self.length / 2)

        async def act() -> None:
            await self.officers.block(host, peer.id, blocked=True)
            await asyncio.sleep(duration)
            await self.officers.block(host, peer.id, blocked=False)

        return act

    def _draw_second_version(self, host: Host, pact: Pact) -> Action:
        return lambda: self.officers.install(host, pact.documents())


async def _stop(node: Node) -> None:
    await node.stop()


async def _read(node: Node, digest: Digest, case_id: Any) -> Statement:  # noqa: ANN401 - a column
    return await node.reader.statement(digest, case_id)
