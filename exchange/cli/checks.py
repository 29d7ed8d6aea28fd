"""The checks of ``exchange doctor``, one function each.

Rule: a check tells what it found in a few words and, unless it is ok, what to do; it raises nothing.

Length: one check a function, in the order in which doctor tells them.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from exchange.cli.settings import Settings, passphrase_source, read_passphrase
from exchange.core.errors import CODES, ExchangeError, LocalError, PeerError

if TYPE_CHECKING:
    from exchange.adapters.config import Config
    from exchange.adapters.home import Home
    from exchange.adapters.snapshot import Snapshot
    from exchange.core.agreements import Agreement
    from exchange.core.keys import Card
    from exchange.node.registry import Registry

SOON: Final = timedelta(days=30)
LATE: Final = timedelta(hours=1)
BACKLOG: Final = timedelta(hours=8)
STALE_CHECKPOINT: Final = timedelta(minutes=5)
ROOM_AHEAD: Final = 1_073_741_824
PEER_SECONDS: Final = 5.0
EARLIEST: Final = datetime(2026, 1, 1, tzinfo=UTC)  # before this program existed
LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found; ``state`` is ok, warn or fail."""

    name: str
    state: str
    detail: str
    remedy: str = ""
    code: str | None = None


def failed(name: str, error: ExchangeError) -> Check:
    """A check that ended in an error."""
    detail = f"{error.code}: {error.what}" + (f" ({error.where})" if error.where else "")
    return Check(name, "fail", detail, error.remedy, error.code)


def _ok(name: str, detail: str) -> Check:
    return Check(name, "ok", detail)


def _by_code(name: str, code: str, detail: str, state: str = "fail") -> Check:
    return Check(name, state, detail, CODES[code].remedy, code)


def now() -> datetime:
    """By this machine's clock."""
    return datetime.now(UTC)


# -- this machine ----------------------------------------------------------------------------------


async def ask_node(home: Home) -> dict[str, Any] | None:
    """What the running node says of itself; None where it does not run."""
    from exchange.adapters.control import ControlClient

    if not home.socket.exists():
        return None
    try:
        async with ControlClient(home) as client:
            return cast("dict[str, Any]", await client.call("health", {}))
    except ExchangeError:
        return None


def check_running(health: dict[str, Any] | None) -> Check:
    """Whether the node runs."""
    if health is None:
        return _by_code("node", "node.not_running", "not running", "warn")
    return _ok("node", f"running, {health['log_size']} entries in its log")


def check_passphrase(said: Settings, home: Home, config: Config) -> Check:
    """Whether the node can be started without a person, and whether the passphrase at hand is the right one."""
    from exchange.cli.documents import is_private
    from exchange.cli.unlock import unlock_home

    source, path = passphrase_source(said, config)
    if path is None:
        remedy = "to start without a person: passphrase_file in config.toml, or a systemd credential"
        return Check("passphrase", "warn", "nobody but a person can give it", remedy)
    try:
        unlock_home(home, read_passphrase(said, config))
        if not is_private(path):
            remedy = f"chmod 600 the file named by {source}"
            return Check("passphrase", "warn", f"{source}: others can read the file", remedy)
    except ExchangeError as error:
        return failed("passphrase", error)
    return _ok("passphrase", f"{source}: opens the keys")


def check_tls(home: Home) -> Check:
    """Whether the TLS files can be read."""
    from exchange.adapters.tls import spki_pin
    from exchange.cli.wiring import read_tls_cert

    try:
        pin = spki_pin(read_tls_cert(home))
    except LocalError as error:
        return failed("TLS key", error)
    return _ok("TLS key", f"pin {pin[:16]}")


def check_disk(home: Home, config: Config) -> list[Check]:
    """Room on the disk, beyond what is never filled."""
    space = os.statvfs(home.path)
    free = space.f_bavail * space.f_frsize
    shown = f"{free // 1_048_576} MiB free"
    if free < config.free_space_bytes:
        return [_by_code("disk", "node.disk", f"{shown}: below free_space_bytes, evidence is not taken")]
    if free < config.free_space_bytes + ROOM_AHEAD:
        return [_by_code("disk", "node.disk", f"{shown}: soon below free_space_bytes", "warn")]
    return [_ok("disk", shown)]


# -- the log ---------------------------------------------------------------------------------------


def check_log(snapshot: Snapshot, moment: datetime, *, running: bool) -> list[Check]:
    """The clock against the log, and the newest checkpoint against the newest entry."""
    from exchange.core import wire
    from exchange.core.audit import MAX_STEP_BACK

    found: list[Check] = []
    size, last = next(((size, last) for size, _, last in snapshot.rows("log")), (0, None))
    if not EARLIEST <= moment <= LATEST:
        found.append(_by_code("clock", "node.clock", f"{wire.encode_time(moment)}: not a time of this program"))
    elif last is not None and moment < wire.parse_time(last) - MAX_STEP_BACK:
        found.append(_by_code("clock", "node.clock", f"earlier than the last log entry ({last})"))
    else:
        found.append(_ok("clock", wire.encode_time(moment)))
    newest = snapshot.rows("checkpoint")
    if not newest:
        found.append(Check("checkpoint", "warn", "none yet", "it is signed when the node runs"))
    elif running and newest[0][0] < size and moment - wire.parse_time(newest[0][1]) > STALE_CHECKPOINT:
        found.append(Check("checkpoint", "fail", f"of {newest[0][1]}", "look into the node's log; start it again"))
    else:
        found.append(_ok("checkpoint", f"{newest[0][0]} of {size} entries, {newest[0][1]}"))
    return found


# -- documents -------------------------------------------------------------------------------------


def check_cards(registry: Registry, moment: datetime) -> list[Check]:
    """Dates of every card and of its keys."""
    found: list[Check] = []
    if registry.me not in registry.cards:
        found.append(_by_code("own card", "node.card", "none"))
    for node, card in sorted(registry.cards.items()):
        name = "own card" if node == registry.me else f"card of {node}"
        ends = min([card.expires, *(held.valid_until for held in card.keys)])
        found.append(_check_end(name, "card.expired", ends, moment))
        if node in registry.blocked:
            found.append(Check(f"block of {node}", "warn", "this node is blocked here", "exchange card unblock"))
    return found


def _check_end(name: str, code: str, ends: datetime, moment: datetime) -> Check:
    shown = f"until {ends.date().isoformat()}"
    if moment >= ends:
        return _by_code(name, code, f"over since {ends.date().isoformat()}")
    if moment >= ends - SOON:
        return _by_code(name, code, shown, "warn")
    return _ok(name, shown)


def check_own_keys(registry: Registry, home: Home) -> list[Check]:
    """Whether the own card names the TLS key of this home, which peers insist on."""
    from exchange.adapters.tls import spki_pin
    from exchange.cli.wiring import read_tls_cert

    card = registry.cards.get(registry.me)
    try:
        if card is None or spki_pin(read_tls_cert(home)) in card.tls_pins:
            return []
    except LocalError:
        return []  # told by check_tls
    return [_by_code("own TLS pin", "input.card", "the card names another TLS key")]


def check_prekeys(registry: Registry, moment: datetime) -> list[Check]:
    """Own prekeys, and those of each partner: without them messages wait unsealed."""
    found: list[Check] = []
    for node in (registry.me, *registry.partners()):
        bundle = registry.prekeys.get(node)
        name = "own prekeys" if node == registry.me else f"prekeys of {node}"
        if bundle is None or bundle.live(moment) is None:
            remedy = "start the node" if node == registry.me else CODES["prekey.none"].remedy
            found.append(Check(name, "warn", "none that lives", remedy, "prekey.none"))
        else:
            ends = max(entry.use_until for entry in bundle.prekeys)
            found.append(_ok(name, f"until {ends.date().isoformat()}"))
    return found


def _check_last_version(name: str, held: Agreement, moment: datetime) -> Check:
    """The end of what nothing follows: warned of 90, 30 and 7 days before."""
    from exchange.core.succession import days_left, warning_of

    warning = warning_of(held, moment)
    if warning is None:
        return _check_end(name, "agreement.not_in_force", held.valid_until, moment)
    left = days_left(held, moment)
    detail = f"until {held.valid_until.date().isoformat()}: {left} days left, warned of at {warning}"
    return Check(name, "warn", detail, f"exchange agreement new --renew {held.id}", "agreement.not_in_force")


def _check_standing(name: str, registry: Registry, held: Agreement) -> Check | None:
    """An agreement that a party has suspended or left."""
    from exchange.core import wire

    peers = [party.node for party in held.parties if party.node != registry.me]
    for peer, stands in ((peer, registry.standing(held, peer)) for peer in peers):
        if not stands.serves and stands.since is not None:
            detail = (
                f"{stands.state.value} by {stands.by} since {wire.encode_time(stands.since)}; nothing goes to {peer}"
            )
            return Check(name, "warn", detail, CODES["agreement.suspended"].remedy, "agreement.suspended")
    return None


def check_agreements(registry: Registry, moment: datetime) -> list[Check]:
    """Which agreements serve, and for how long."""
    found: list[Check] = []
    for held in sorted(registry.agreements.values(), key=lambda item: (item.id, item.version)):
        serving = registry.serving(held.digest) or held
        name = f"agreement {held.id}/{held.version}"
        replaced = serving.valid_until < held.valid_until
        stopped = _check_standing(name, registry, held)
        if stopped is not None:
            found.append(stopped)
        elif moment < held.valid_from:
            found.append(_ok(name, f"from {held.valid_from.date().isoformat()}"))
        elif replaced and moment >= serving.valid_until:
            found.append(_ok(name, "replaced by a later version"))
        elif replaced:
            found.append(_ok(name, f"until {serving.valid_until.date().isoformat()}, then a later version"))
        else:
            found.append(_check_last_version(name, held, moment))
    if not found:
        found.append(_by_code("agreements", "agreement.unknown", "none: nothing can be exchanged", "warn"))
    return found


def check_officers(registry: Registry, moment: datetime) -> list[Check]:
    """Whether there are people who can act and approve as many as the clauses ask for, and until when."""
    from exchange.core.officers import Role

    listed = registry.officers_of(registry.me)
    writing = frozenset({Role.OFFICER, Role.SUPERVISOR})
    people = [] if listed is None else [item for item in listed.officers if item.is_valid(moment)]
    writers = [item for item in people if item.roles & writing]
    found: list[Check] = []
    if writers and listed is not None:
        ends = min(item.valid_until for item in writers)
        found.append(_check_end(f"officers, list {listed.serial}", "officers.not_listed", ends, moment))
    elif listed is not None:
        found.append(_by_code("officers", "officers.not_listed", f"list {listed.serial}: nobody can act"))
    elif registry.has_officers(registry.me):
        detail = "the card's personnel did not sign the list: nobody can act"
        found.append(_by_code("officers", "key.threshold", detail))
    supervisors = sum(Role.SUPERVISOR in item.roles for item in writers)
    for held in registry.agreements.values():
        serving = registry.serving(held.digest) or held
        for clause in serving.clauses if serving.is_in_force(moment) else ():
            asked = clause.approvals
            if not asked.count or registry.me not in clause.sender:
                continue
            if asked.count >= len(writers) or asked.supervisors > supervisors:  # who proposes is one more person
                name = f"clause {clause.id} of {held.id}/{held.version}"
                detail = f"asks for {asked.count} approvals, {asked.supervisors} by supervisors: too few are listed"
                found.append(_by_code(name, "officers.not_listed", detail, "warn"))
    return found


# -- peers -----------------------------------------------------------------------------------------


def check_queues(
    snapshot: Snapshot, registry: Registry, health: dict[str, Any] | None, moment: datetime
) -> list[Check]:
    """What waits for each partner, for how long, and why."""
    from exchange.node.records import outgoing_from_row

    said = {str(item["node"]): item for item in health["peers_state"]} if health else {}
    found: list[Check] = []
    for peer in registry.partners():
        rows = [outgoing_from_row(row).record for row in snapshot.rows("outgoing_open", peer, 10_000)]
        told = said.get(peer, {})
        codes = [code for code in (told.get("trouble"), *told.get("deferred", ())) if code]
        age = moment - min((row.created for row in rows), default=moment)
        detail = f"{len(rows)} waiting" + (f", the oldest {_hours(age)}" if rows else "")
        name = f"queue to {peer}"
        if codes:
            found.append(_by_code(name, codes[0], f"{detail}; {codes[0]}", "fail" if age > BACKLOG else "warn"))
        elif age > BACKLOG:
            found.append(Check(name, "fail", detail, "speak to the peer's operator"))
        elif age > LATE:
            found.append(Check(name, "warn", detail, "nothing; it is retried"))
        else:
            found.append(_ok(name, detail))
    return found


async def check_answers(snapshot: Snapshot, registry: Registry, moment: datetime) -> list[Check]:
    """Answers that are late or due at once, by this node and to it."""
    from exchange.core.clocks import LATE, ClockState
    from exchange.node.obligations import open_obligations

    found: list[Check] = []
    waiting = await open_obligations(snapshot, registry)
    for direction, name in (("in", "answers owed by us"), ("out", "answers owed to us")):
        states = [item.clock.state(moment) for item in waiting if item.direction == direction]
        late, now_due = sum(state in LATE for state in states), sum(state is ClockState.DUE for state in states)
        detail = f"{len(states)} due, {late} of them late"
        if late or now_due:
            remedy = "exchange due; exchange reply" if direction == "in" else "exchange due names the peer's duty desk"
            found.append(Check(name, "warn", detail, remedy))
        else:
            found.append(_ok(name, detail))
    return found


def check_notices(snapshot: Snapshot, registry: Registry) -> list[Check]:
    """Who has not said yet that it has a notice of ours about an agreement, or our newest list of officers."""
    found: list[Check] = []
    for peer in registry.partners():
        waiting = len(snapshot.rows("pushes", peer))
        if waiting:
            remedy = "nothing; it is sent again. Until then only this node enforces it: telephone where it matters"
            found.append(Check(f"notices to {peer}", "warn", f"{waiting} not acknowledged", remedy))
    return found


def check_copies(snapshot: Snapshot) -> list[Check]:
    """Copies that are to be erased, here and at recipients, and whether the clock may decide that."""
    counts = {(way, stage): (count, held) for way, stage, count, held in snapshot.rows("copies_count")}
    due, held = counts.get(("in", "due"), (0, 0))
    asked, there = counts.get(("out", "asked"), (0, 0))
    found = [
        _ok("copies here", f"{due} to be erased, {held} of them under a legal hold"),
        _ok("copies at recipients", f"{asked} recalled without a receipt yet, {there} of them under a legal hold"),
    ]
    since = [value for name, value in snapshot.rows("meta") if name == "clock_doubt" and value]
    if since:
        found.append(_by_code("clock for erasing", "node.clock_doubt", f"doubted since {since[0]}", "warn"))
    else:
        found.append(_ok("clock for erasing", "not doubted"))
    return found


def _hours(age: timedelta) -> str:
    return f"{age.total_seconds() / 3600:.1f} hours"


async def check_peers(registry: Registry) -> list[Check]:
    """Whether each partner can be reached, and shows the TLS key of its card."""
    return list(await asyncio.gather(*(_check_peer(registry.cards[peer]) for peer in registry.partners())))


async def _check_peer(card: Card) -> Check:
    from exchange.adapters.http_client import HttpPeers, Timeouts

    name = f"way to {card.node}"
    peers = HttpPeers(_NoBlobs(), Timeouts(PEER_SECONDS, PEER_SECONDS, PEER_SECONDS))
    try:
        await peers.fetch_health(card)
    except PeerError as error:
        if error.code != "relay.unreachable":
            return failed(name, error)
        detail = f"{error.code} ({error.where}): {', '.join(card.endpoints)}"
        remedy = "ask whether the peer's node runs; check name, firewall and port between here and there"
        return Check(name, "fail", detail, remedy, error.code)
    finally:
        await peers.close()
    return _ok(name, "reached, TLS key as in its card")


class _NoBlobs:
    """``ports.Blobs`` of a client that sends none."""

    async def save(self, *_: object, **__: object) -> tuple[str, int]:
        raise NotImplementedError

    def load(self, _: str) -> Any:  # noqa: ANN401 - never called
        raise NotImplementedError

    def has(self, _: str) -> bool:
        return False

    async def remove(self, _: str) -> None:
        raise NotImplementedError

    def has_room(self, _: int) -> bool:
        return False
