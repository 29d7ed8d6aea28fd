"""Real nodes for tests: made in a folder, started as processes, tapped, cut off, and checked afterwards.

Import the module, not its names. Nodes are those of ``exchange.cli.demo_nodes``: a marked training network on loopback,
invented authorities, the demo's agreements. Processes get this process's environment, so that coverage sees them, and
are ended whichever way a test ends.
"""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from exchange.adapters import resources
from exchange.adapters.keyring import xwing_secret
from exchange.adapters.snapshot import Snapshot
from exchange.adapters.tls import client_context
from exchange.cli import demo_nodes
from exchange.cli.demo_records import Log, export_log
from exchange.core.audit import Event, LogBatch
from exchange.core.envelope import encode_batch
from exchange.core.keys import Alg, public_key
from exchange.core.merkle import Frontier
from exchange.ports import SealItem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from exchange.cli.demo_nodes import TrainingNode
    from exchange.core.envelope import Core, SealedEnvelope
    from exchange.core.wire import JsonObject
    from exchange.ports import Row

PATIENCE_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.02
SMALL_DISK: Final = "8m"

Nodes = dict[str, "TrainingNode"]


# -- life ------------------------------------------------------------------------------------------


@asynccontextmanager
async def made(
    folder: Path,
    countries: Sequence[str] = ("TH", "KH"),
    *,
    endpoint: Callable[[str, int], str] | None = None,
    agreements: Mapping[tuple[str, ...], Callable[[Nodes], bytes]] | None = None,
) -> AsyncIterator[Nodes]:
    """Nodes that know each other and do not run yet; every pair agreed unless ``agreements`` says otherwise."""
    nodes: Nodes = {}
    try:
        nodes = await demo_nodes.make_nodes(folder, countries, endpoint)
        if agreements is None:
            groups: list[tuple[str, ...]] = [*combinations(countries, 2)]
            signed = {group: agreement(nodes, group) for group in groups}
        else:
            signed = {group: sign(nodes) for group, sign in agreements.items()}
        await demo_nodes.exchange_documents(nodes.values(), signed)
        yield nodes
    finally:
        await asyncio.gather(*(node.kill() for node in nodes.values()))
        for node in nodes.values():
            node.port.close()


def agreement(nodes: Nodes, group: Sequence[str], **changes: Any) -> bytes:  # noqa: ANN401 - members of an agreement
    """The demo's agreement between these countries, signed by all their authorities."""
    ident = "-".join([*sorted(country.lower() for country in group), "2026"])
    return demo_nodes.sign_agreement([nodes[country] for country in group], ident, **changes)


@asynccontextmanager
async def running(folder: Path, countries: Sequence[str] = ("TH", "KH"), **more: Any) -> AsyncIterator[Nodes]:  # noqa: ANN401 - as ``made``
    """``made``, and started."""
    async with made(folder, countries, **more) as nodes:
        await demo_nodes.start_nodes(nodes.values())
        yield nodes


async def checked(nodes: Nodes, dates: frozenset[str] = frozenset()) -> dict[str, Log]:
    """End the nodes in order; their logs, each of which verifies, with a store that agrees with it.

    ``dates`` are findings about the date of the log that are right where a node's clock was set for a test.
    """
    codes = await asyncio.gather(*(node.stop() for node in nodes.values()))
    assert [code for code in codes if code] == []
    logs: dict[str, Log] = {}
    with tempfile.TemporaryDirectory(prefix="exchange-test-logs-") as folder:
        for country, node in nodes.items():
            log = logs[country] = await export_log(node, Path(folder) / country)
            assert {finding.code for finding in log.report.findings} <= dates
            assert log.review.findings == []
    return logs


# -- asking ----------------------------------------------------------------------------------------


async def until(look: Callable[[], Awaitable[Any]], what: str, seconds: float = PATIENCE_SECONDS) -> Any:  # noqa: ANN401 - what ``look`` gives
    """Look until there is something to see: another process has no event to wait for here."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if seen := await look():
            return seen
        await asyncio.sleep(LOOK_SECONDS)
    message = f"not within {seconds} s: {what}"
    raise AssertionError(message)


async def send(node: TrainingNode, to: str, draft: JsonObject, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - arguments of ``send``
    """Send and wait for the answer; the one recipient's line, with the message's id."""
    result = await node.call("send", {"draft": draft, "to": [to], "wait": "accepted", "seconds": 60, **more})
    line: dict[str, Any] = {"id": result["id"], **result["recipients"][0]}
    return line


def rows(node: TrainingNode, statement: str, *values: object) -> list[Row]:
    """A named query, beside the node or after its end."""
    with Snapshot(node.new.home.database) as snapshot:
        return snapshot.rows(statement, *values)


# -- the wire --------------------------------------------------------------------------------------


class Tap:
    """A port on loopback that passes everything on to a node, and keeps a copy."""

    def __init__(self) -> None:
        self.target = 0
        self.seen = bytearray()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> int:
        """Listen; returns the port."""
        self._server = await asyncio.start_server(self._serve, demo_nodes.HOST, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Stop, and drop what is open."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            there, back = await asyncio.open_connection(demo_nodes.HOST, self.target)
        except OSError:
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, back))
                group.create_task(self._pass(there, writer))
        finally:
            back.close()
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                self.seen += data
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()


@asynccontextmanager
async def tapped(countries: Sequence[str]) -> AsyncIterator[tuple[dict[str, Tap], Callable[[str, int], str]]]:
    """A tap in front of every country's node, and the addresses for their cards (``endpoint``)."""
    taps = {country: Tap() for country in countries}
    ports = {country: await tap.open() for country, tap in taps.items()}

    def endpoint(country: str, port: int) -> str:
        taps[country].target = port
        return f"https://{demo_nodes.HOST}:{ports[country]}"

    try:
        yield taps, endpoint
    finally:
        await asyncio.gather(*(tap.close() for tap in taps.values()))


# -- strangers and forgers -------------------------------------------------------------------------


async def post(node: TrainingNode, path: str, body: bytes, content_type: str) -> tuple[int, dict[str, Any]]:
    """What a stranger gets for a request: the status and the document."""
    url = f"https://{demo_nodes.HOST}:{node.port.getsockname()[1]}{path}"
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            url, data=io.BytesIO(body), headers={"Content-Type": content_type}, ssl=client_context()
        ) as response,
    ):
        return response.status, await response.json()


async def post_envelope(node: TrainingNode, document: bytes, body: bytes) -> dict[str, Any]:
    """The answer to one envelope."""
    status, answer = await post(node, resources.ENVELOPES, encode_batch([(document, body)]), resources.BATCH_TYPE)
    assert status == 200, answer
    return answer


async def forge(sender: TrainingNode, core: Core, statement: bytes) -> SealedEnvelope:
    """An envelope with the sender's true keys and any core and content: what a faulty or hostile node could send."""
    keyring = sender.new.keyring
    case_id = keyring.case_id("forged")
    keyring.learn_case_key(case_id, keyring.new_case_key(case_id))
    prekey = public_key(Alg.XWING, xwing_secret(bytes(32))[1])
    leaf = LogBatch(Frontier()).reserve(Event.SEALED)
    ((sealed, _),) = await keyring.seal([SealItem(leaf, core, statement, prekey, case_id)])
    return sealed


def run_daemon(node: TrainingNode) -> subprocess.CompletedProcess[bytes]:
    """Run the daemon where it must fail at once."""
    command = [
        sys.executable, "-m", "exchange", "--home", str(node.path),
        "--passphrase-file", str(node.path / demo_nodes.PASSPHRASE_NAME), "node", "run",
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, timeout=PATIENCE_SECONDS, check=False, env=os.environ)


# -- disks -----------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of its own in a folder, too small for much."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK},mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607 - of the system, as root


def fill(disk: Path) -> Path:
    """A file that takes all the room there is."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler
