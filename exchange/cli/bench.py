"""``exchange bench``: how fast two nodes are on this machine, beside what the machine could do.

Two node processes on loopback, with real TLS and real fsync, exchange case referrals of about 4 KB with thirteen
nested persons; post-quantum hybrid on. The floor (``bench_floor``) is measured in the same run.

Rules:
1. A message counts when its accepted receipt was verified and committed at the sender.
2. The backlog is sealed and committed while the receiver is down; its clock runs from the receiver's start, before it
   unlocks its keys, to the last answer committed at the sender.
3. Each figure is the median of three runs. The machine is shared and its speed drifts: each run measures the floor
   anew, and a ratio is the median of the runs' own ratios.
4. Everything happens in a folder that is removed at the end, and only processes started here are stopped.

Length: two nodes, what they are asked, and the one report of all of it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click
from rich.console import Console
from rich.table import Table

from exchange.adapters.config import Config
from exchange.adapters.control import ControlClient
from exchange.adapters.files import schema_files
from exchange.adapters.tls import client_context, server_context
from exchange.cli.bench_decisions import measure_decisions
from exchange.cli.bench_floor import measure_evidence_floor, measure_floor
from exchange.cli.provision import (
    AuthorityKeys,
    NewHome,
    create_authority,
    create_home,
    encode_readable,
    install_offline,
    random_bytes,
    sign_document,
)
from exchange.cli.settings import common, settings
from exchange.cli.templates import make_clause, new_agreement
from exchange.cli.wiring import schema_book
from exchange.core import wire
from exchange.core.keys import read_card
from exchange.core.schemas import compile_schema
from exchange.core.wire import NetworkId, NodeId, SchemaId, parse_signed_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from exchange.core.wire import JsonObject

NETWORK: Final = NetworkId("training-bench")
EXAMPLE: Final = "case-referral/examples/thirteen-persons.json"
READY_SECONDS: Final = 60.0
CONCURRENCY: Final = 64
MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    runs: int = 3
    single: int = 150
    concurrent: int = 3_000
    backlog: int = 5_000
    evidence_bytes: int = 256 * 1_048_576


@dataclass(slots=True)
class Side:
    """One node: its home, and its process while it runs."""

    new: NewHome
    passphrase: Path
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the daemon and wait for its ready line."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "exchange",
            "--home",
            str(self.new.home.path),
            "node",
            "run",
            "--passphrase-file",
            str(self.passphrase),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        stdout = cast("asyncio.StreamReader", self.process.stdout)
        line = await asyncio.wait_for(stdout.readline(), READY_SECONDS)
        if b'"ready"' not in line:
            message = f"node {self.new.home.path.name} did not start"
            raise RuntimeError(message)

    async def stop(self) -> None:
        """Let the daemon drain and end."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            await self.process.wait()
        self.process = None

    def resident_mb(self) -> float:
        """Resident memory of the process, in MB."""
        if self.process is None:
            return 0.0
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE, 1)

    @contextmanager
    def watch(self) -> Iterator[Callable[[str], int]]:
        """A reader of numbers from the node's database, beside the running node."""
        with closing(sqlite3.connect(f"file:{self.new.home.database}?mode=ro", uri=True)) as database:
            yield lambda sql: int(database.execute(sql).fetchone()[0])

    def count(self, sql: str) -> int:
        """One such number."""
        with self.watch() as read:
            return read(sql)


@dataclass(slots=True)
class Bench:
    """Two paired nodes and what was measured."""

    folder: Path
    sizes: Sizes
    say: Callable[[str], None]
    sender: Side
    receiver: Side
    draft: JsonObject
    results: dict[str, Any] = field(default_factory=dict)

    async def run(self) -> dict[str, Any]:
        """Measure everything; the result has the shape of cli.md."""
        runs: dict[str, list[float]] = {}
        floors: list[dict[str, float]] = []
        self.say("measuring the floor of evidence: bare library calls")
        evidence_floor = await asyncio.to_thread(measure_evidence_floor, self.folder, self.sizes.evidence_bytes)
        for number in range(1, self.sizes.runs + 1):
            self.say(f"run {number} of {self.sizes.runs}: the floor, bare library calls")
            floors.append(await asyncio.to_thread(self._floor))
            self.say(f"run {number} of {self.sizes.runs}: one message at a time, then {CONCURRENCY}")
            await self._measure_live(runs)
            self.say(f"run {number} of {self.sizes.runs}: backlog of {self.sizes.backlog:,}, then evidence")
            await self._measure_backlog(runs)
            await self._measure_evidence(runs)
        figures = {name: statistics.median(values) for name, values in runs.items()}
        floor = {name: statistics.median(item[name] for item in floors) for name in floors[0]}
        floor["floor_messages_per_s"] = 1e6 / max(floor["sender"], floor["receiver"])
        ratios = {
            name: [rate / item["floor_messages_per_s"] for rate, item in zip(runs[name], floors, strict=True)]
            for name in ("c1", "c64", "backlog")
        }
        return {
            "training": True,
            "messages_per_s": {name: round(figures[name], 1) for name in ("c1", "c64", "backlog")},
            "latency_ms": {
                name: {p: round(figures[f"{name}_{p}"], 2) for p in ("p50", "p99")} for name in ("c1", "c64")
            },
            "floor_messages_per_s": round(floor["floor_messages_per_s"], 1),
            "floor_us": {name: round(value, 1) for name, value in floor.items() if name != "floor_messages_per_s"},
            "ratio": {name: round(statistics.median(values), 3) for name, values in ratios.items()},
            "evidence_mb_per_s": round(figures["evidence"], 1),
            "floor_evidence_mb_per_s": round(evidence_floor, 1),
            "rss_mb": {"sender": figures["rss_sender"], "receiver": figures["rss_receiver"]},
            "statement_bytes": len(wire.encode_json(cast("JsonObject", self.draft["content"]))),
            "decision_us": measure_decisions(schema_book(), self.draft, NETWORK, datetime.now(UTC)),
            "messages": self.sizes.runs * (self.sizes.single + self.sizes.concurrent + self.sizes.backlog),
            "runs": {
                **{name: [round(value, 2) for value in values] for name, values in runs.items()},
                **{f"ratio_{name}": [round(value, 3) for value in values] for name, values in ratios.items()},
            },
        }

    def _floor(self) -> dict[str, float]:
        home, keyring = self.sender.new.home, self.sender.new.keyring
        return measure_floor(
            self.folder,
            wire.encode_json(self.draft),
            compile_schema(schema_book().schema(SchemaId("case-referral/v1"))),
            cast("JsonObject", self.draft["content"]),
            server_context(home.tls_cert, home.tls_key, keyring.tls_password),
            client_context(),
        )

    async def _measure_live(self, runs: dict[str, list[float]]) -> None:
        await self.receiver.start()
        await self.sender.start()
        async with ControlClient(self.sender.new.home) as client:
            await self._send_many(client, 50, 8)  # prekeys fetched, code and caches warm
            for name, count, width in (("c1", self.sizes.single, 1), ("c64", self.sizes.concurrent, CONCURRENCY)):
                rate, latencies = await self._send_many(client, count, width)
                runs.setdefault(name, []).append(rate)
                runs.setdefault(f"{name}_p50", []).append(statistics.median(latencies) * 1e3)
                runs.setdefault(f"{name}_p99", []).append(sorted(latencies)[int(len(latencies) * 0.99)] * 1e3)
        runs.setdefault("rss_sender", []).append(self.sender.resident_mb())
        runs.setdefault("rss_receiver", []).append(self.receiver.resident_mb())
        await self.receiver.stop()

    async def _send_many(self, client: ControlClient, count: int, width: int) -> tuple[float, list[float]]:
        """Messages a second and latencies in seconds: submitted to accepted receipt committed."""
        latencies: list[float] = []
        left = count

        async def officer() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                start = time.perf_counter()
                result = await client.call("send", {"draft": self.draft, "to": ["KH"], "wait": "accepted"})
                latencies.append(time.perf_counter() - start)
                recipient = cast("list[JsonObject]", cast("JsonObject", result)["recipients"])[0]
                if recipient["status"] != "accepted":
                    message = f"a message ended as {recipient['status']}"
                    raise RuntimeError(message)

        start = time.perf_counter()
        await asyncio.gather(*(officer() for _ in range(width)))
        return count / (time.perf_counter() - start), latencies

    async def _measure_backlog(self, runs: dict[str, list[float]]) -> None:
        """The receiver is down; the sender seals a backlog; then the clock runs from the receiver's start."""
        waiting = asyncio.Semaphore(CONCURRENCY)
        async with ControlClient(self.sender.new.home) as client:

            async def submit() -> None:
                async with waiting:
                    await self._submit(client)

            await asyncio.gather(*(submit() for _ in range(self.sizes.backlog)))
        queued = self.sender.count("SELECT count(*) FROM outbox")
        if queued != self.sizes.backlog:
            message = f"{queued} of {self.sizes.backlog} messages are sealed and waiting"
            raise RuntimeError(message)
        start = time.perf_counter()
        await self.receiver.start()
        ready = time.perf_counter()
        await self._until("SELECT EXISTS(SELECT 1 FROM outbox)", 0)
        end = time.perf_counter()
        runs.setdefault("backlog", []).append(self.sizes.backlog / (end - start))
        runs.setdefault("backlog_from_ready", []).append(self.sizes.backlog / (end - ready))
        runs.setdefault("backlog_start_s", []).append(ready - start)

    async def _submit(self, client: ControlClient, *attachments: JsonObject) -> None:
        args: JsonObject = {"draft": self.draft, "to": ["KH"], "attachments": list(attachments)}
        result = cast("JsonObject", await client.call("send", args))
        if result.get("refused"):
            message = f"refused: {cast('list[JsonObject]', result['recipients'])[0]['code']}"
            raise RuntimeError(message)

    async def _until(self, sql: str, wanted: int) -> None:
        """Look into the sender's database until it says what is wanted; the nodes do not know that they are watched."""
        with self.sender.watch() as read:
            while read(sql) != wanted:  # noqa: ASYNC110 - another process has no event to wait for
                await asyncio.sleep(0.01)

    async def _measure_evidence(self, runs: dict[str, list[float]]) -> None:
        """One file from the officer's disk to the receiver's, until the receiver's signed 'complete' is committed."""
        source = self.folder / "evidence"
        with source.open("wb") as file:
            for _ in range(self.sizes.evidence_bytes // 1_048_576):
                file.write(os.urandom(1_048_576))
        done = "SELECT count(*) FROM outgoing WHERE status = 'complete'"
        before = self.sender.count(done)
        start = time.perf_counter()
        async with ControlClient(self.sender.new.home) as client:
            staged = await client.stage(_read(source))
            attachment: JsonObject = {"h": staged["h"], "name": "image.bin", "media_type": "application/octet-stream"}
            await self._submit(client, attachment)
        await self._until(done, before + 1)
        runs.setdefault("evidence", []).append(self.sizes.evidence_bytes / MEGABYTE / (time.perf_counter() - start))
        source.unlink()
        await self.receiver.stop()
        await self.sender.stop()


async def _read(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1_048_576):
            yield piece


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _pair(folder: Path) -> tuple[Side, Side]:
    """Two homes with cards and one agreement, as two ministries would have after signing."""
    secret = random_bytes(24).hex().encode()
    passphrase = folder / "passphrase"
    passphrase.write_bytes(secret)
    passphrase.chmod(0o600)
    made: list[tuple[AuthorityKeys, NewHome]] = []
    for country in ("TH", "KH"):
        authority = create_authority(folder / f"authority-{country}", country, NETWORK, passphrase=secret)
        port = _free_port()
        config = Config(
            node=NodeId(f"{country.lower()}-fp1"),
            country=country,
            agency=f"Benchmark focal point {country}",
            network=NETWORK,
            url=f"https://127.0.0.1:{port}",
            host="127.0.0.1",
            port=port,
            log_level="error",
        )
        home = await create_home(folder / country, config, secret, authority=authority.authority)
        made.append((authority, home))
    cards = [sign_document(authority, home.card_draft) for authority, home in made]
    read = [read_card(parse_signed_document(card)) for card in cards]
    valid_from = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    nodes = [card.node for card in read]
    clause = make_clause(
        "all",
        "What the benchmark sends.",
        kinds=["case-referral"],
        sender=nodes,
        to=nodes,
        purposes=["victim_protection"],
        handling=["H1", "H2"],
        tlp="AMBER",
        max_blob_bytes=2**40,
    )
    agreement = encode_readable(new_agreement("kh-th-bench", read, valid_from=valid_from, clauses=[clause]))
    for authority, _ in made:
        agreement = sign_document(authority, agreement)
    for _, home in made:
        await install_offline(home.home, home.keyring, [*cards, agreement])
    return Side(made[0][1], passphrase), Side(made[1][1], passphrase)


async def run_bench(sizes: Sizes, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure in a temporary folder; removes it and stops its processes whatever happens."""
    with tempfile.TemporaryDirectory(prefix="exchange-bench-") as name:
        folder = Path(name)
        say("two homes, cards, one agreement")
        sender, receiver = await _pair(folder)
        draft = wire.parse_json(schema_files()[EXAMPLE], max_bytes=wire.MAX_DOCUMENT_BYTES)
        bench = Bench(folder, sizes, say, sender, receiver, cast("JsonObject", draft))
        try:
            return await bench.run()
        finally:
            await sender.stop()
            await receiver.stop()


@click.command(name="bench")
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1, 99), help="Runs; the median is given.")
@click.option("--backlog", default=5_000, show_default=True, type=click.IntRange(64, 1_000_000), help="Messages.")
@common
def bench(*, runs: int, backlog: int) -> None:
    """Measure two nodes on this machine, and beside them the bare library calls."""

    def say(text: str) -> None:
        click.echo(f"  {text}", err=True)

    result = asyncio.run(run_bench(Sizes(runs=runs, backlog=backlog), say))
    if settings().as_json:
        click.echo(wire.encode_json(result).decode("utf-8"))
    else:
        _print(result)


def _print(result: dict[str, Any]) -> None:
    table = Table(title="Two nodes on this machine, TLS 1.3, fsync, post-quantum hybrid (training network)")
    for heading in ("", "messages a second", "of the floor", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, text in (("c1", "one at a time"), ("c64", "64 at a time"), ("backlog", "backlog, from the peer's start")):
        latency = result["latency_ms"].get(name, {})
        row = (f"{result['messages_per_s'][name]:,.0f}", f"{result['ratio'][name]:.2f}")
        table.add_row(text, *row, *(f"{latency[p]:.1f}" if latency else "" for p in ("p50", "p99")))
    table.add_row("floor: bare library calls", f"{result['floor_messages_per_s']:,.0f}", "1.00", "", "")
    console = Console(width=100)
    console.print(table)
    console.print(
        f"evidence {result['evidence_mb_per_s']:.0f} MB/s, bare passes {result['floor_evidence_mb_per_s']:.0f} MB/s; "
        f"memory {result['rss_mb']['sender']:.0f} MB sender, {result['rss_mb']['receiver']:.0f} MB receiver"
    )
    decisions = result["decision_us"]
    taken = [
        f"{name} {decisions[name]['sender']:.0f} us at the sender, {decisions[name]['receiver']:.0f} at the receiver"
        for name in ("permitted", "refused")
    ]
    among = f"{decisions['agreements']} agreements of {decisions['clauses']} clauses"
    console.print(f"a decision among {among}: {'; '.join(taken)}")
