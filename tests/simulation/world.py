"""What a history leaves: the machines, the agreements, what officers were told. Invariants look at this.

``tests.simulation.history.run_seed`` makes one; ``tests.simulation.invariants.check`` says what is wrong with it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from exchange.core.delivery import DELIVERED
from tests.simulation.people import agreement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exchange.core.agreements import Agreement
    from exchange.core.statement import Statement
    from exchange.core.wire import JsonObject, NodeId
    from tests.simulation.host import Host, Stage
    from tests.simulation.network import Network

FAR: Final = 400 * 86_400
COUNTED: Final = ("held", "clock_step", "void_sent", "equivocation", "prekey_destroyed", "void_refused")
STOPPING: Final = ("agreement_suspended", "agreement_left", "agreement_resumed")
DELIVERED_SQL: Final = ", ".join(f"'{status.value}'" for status in DELIVERED)


@dataclass(frozen=True)
class Pact:
    """An agreement of the seed: whom it binds, until when, and from when its second version serves, if ever."""

    indexes: tuple[int, ...]
    until: int
    second_from: int | None

    def documents(self) -> list[bytes]:
        """Its versions in order."""
        first = agreement(self.indexes, 1, -86_400, self.until)
        if self.second_from is None:
            return [first]
        return [first, agreement(self.indexes, 2, self.second_from, self.until)]


@dataclass(frozen=True)
class Submission:
    """What an officer was told had been taken."""

    sender: NodeId
    id: str
    content: JsonObject
    references: tuple[str, ...]
    recipients: tuple[NodeId, ...]


@dataclass
class World:
    """A history that was run."""

    seed: int
    stage: Stage
    hosts: dict[NodeId, Host]
    network: Network
    pacts: list[Pact]
    agreements: dict[str, Agreement]
    evil: NodeId | None
    submissions: list[Submission] = field(default_factory=list)
    opened: dict[tuple[str, str, str], Statement] = field(default_factory=dict)
    settled_after: float | None = None
    findings: list[str] = field(default_factory=list)  # of ``exchange verify`` at every honest node

    @property
    def honest(self) -> list[Host]:
        """Everybody who follows the protocol."""
        return [host for host in self.hosts.values() if host.id != self.evil]

    def honest_pairs(self) -> Iterator[tuple[Host, Host]]:
        """(sender, receiver), both honest."""
        for one in self.honest:
            for other in self.honest:
                if one is not other:
                    yield one, other

    def is_settled(self) -> bool:
        """Whether nothing waits between honest nodes."""
        return not any(_waits(sender, receiver) for sender, receiver in self.honest_pairs())

    def digest(self) -> str:
        """The history in one line: what happened, in which order, and how it ended."""
        lines = list(self.stage.history)
        for host in self.hosts.values():
            for table in ("outgoing", "incoming"):
                rows = host.connection.execute(f"SELECT peer, id, attempt, seq, status, code FROM {table}")  # noqa: S608 - our tables
                lines += [f"{host.id} {table} {row}" for row in rows]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def counts(self) -> Counter[str]:
        """How often each thing was seen that a history is made for."""
        seen: Counter[str] = Counter(seeds=1, speeds=self.stage.speed > 1, misbehaving=self.evil is not None)
        for line in self.stage.history:
            words = line.split()[2:]
            seen[words[0] if words[0] != "commit" else "commits"] += 1
        for host in self.honest:
            for status, count in host.connection.execute("SELECT status, count(*) FROM outgoing GROUP BY status"):
                seen[status] += count
            for code, count in host.connection.execute(
                "SELECT code, count(*) FROM incoming WHERE code IS NOT NULL GROUP BY code"
            ):
                seen[f"refused {code}"] += count
            for event in (*COUNTED, *STOPPING):
                query = "SELECT count(*) FROM leaves WHERE instr(leaf, ?)"
                seen[event] += host.connection.execute(query, (f'"event":"{event}"'.encode(),)).fetchone()[0]
            query = "SELECT count(*) FROM outgoing WHERE attempt > 1"
            seen["sealed again"] += host.connection.execute(query).fetchone()[0]
        return seen


def _waits(sender: Host, receiver: Host) -> bool:
    unsent_files = (
        "SELECT 1 FROM blobs b JOIN outgoing o ON o.peer = b.peer AND o.id = b.message WHERE b.peer = ?"  # noqa: S608 - our words
        f" AND b.direction = 'out' AND b.whole = 0 AND o.status IN ({DELIVERED_SQL})"
    )
    queries = (
        "SELECT 1 FROM outbox WHERE peer = ?",
        "SELECT 1 FROM outgoing WHERE peer = ? AND status IN ('queued', 'sent')",
        "SELECT 1 FROM incoming WHERE peer = ? AND status = 'held'",
        unsent_files,
        "SELECT 1 FROM pushes WHERE peer = ?",
    )
    return any(sender.connection.execute(query, (receiver.id,)).fetchone() for query in queries)
