"""Nodes of a training network on this machine: made, started as real processes, and ended.

Rules:
1. Whatever was started here is ended here, whichever way the program ends: in order where there is time, at once where
   there is not, and by the kernel where this program itself was killed. Nothing else is ever signalled.
2. A port is held from its choice on, so that no other program takes it before the node listens.
3. The keys of the invented authorities live in this process only and end with it.
4. Locking and unlocking a home costs half a second of one processor and 256 MiB: as many run side by side as there
   are processors.

What it does not do: play the story (``demo``).
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from exchange.adapters.config import Config
from exchange.adapters.control import ControlClient
from exchange.adapters.home import write_file
from exchange.adapters.keyring import new_hybrid_key
from exchange.cli import demo_story as story
from exchange.cli.demo_agreements import agreement_between
from exchange.cli.demo_people import COUNTRIES
from exchange.cli.provision import (
    AuthorityKeys,
    NewHome,
    create_home,
    encode_readable,
    install_offline,
    random_bytes,
    sign_document,
    utc_now,
)
from exchange.cli.wiring import schema_book
from exchange.core.errors import CODES, Fault, IntegrityError, LocalError
from exchange.core.keys import Authority, Card, read_card
from exchange.core.wire import NetworkId, NodeId, parse_signed_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from exchange.cli.demo_agreements import Writer
    from exchange.core.wire import JsonObject, JsonValue

NETWORK: Final = NetworkId("training-mekong")
HOST: Final = "127.0.0.1"
LOG_NAME: Final = "node.log"
PASSPHRASE_NAME: Final = "passphrase"  # noqa: S105 - of a file
READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
FREE_SPACE_BYTES: Final = 64 * 1_048_576  # a training machine may be small
PR_SET_PDEATHSIG: Final = 1  # prctl(2)
PROCESSORS: Final = max(1, os.cpu_count() or 1)
_PRCTL: Final[Any] = getattr(ctypes.CDLL(None), "prctl", None)  # None where this is not Linux


# -- ports and processes ---------------------------------------------------------------------------


def hold_port() -> socket.socket:
    """A free port on loopback, bound and not listening: nobody else gets it, and the node, which reuses it, does."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((HOST, 0))
    return held


def _end_with_parent() -> None:
    """In the new process: the kernel sends SIGTERM when the starter is gone, however it went."""
    if _PRCTL is not None:
        _PRCTL(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


@dataclass(slots=True)
class TrainingNode:
    """One node: its home, the keys that made it, and its process while it runs."""

    country: str
    new: NewHome
    authority: AuthorityKeys
    card_bytes: bytes
    port: socket.socket
    process: asyncio.subprocess.Process | None = None
    client: ControlClient | None = None

    @property
    def card(self) -> Card:
        """The signed card."""
        return read_card(parse_signed_document(self.card_bytes))

    @property
    def id(self) -> NodeId:
        """The node id."""
        return self.card.node

    @property
    def path(self) -> Path:
        """The home's folder."""
        return self.new.home.path

    @property
    def log_file(self) -> Path:
        """What the daemon wrote to standard error."""
        return self.path / LOG_NAME

    # -- life

    async def start(self, extra_environment: Mapping[str, str] | None = None) -> JsonObject:
        """Start the daemon, wait for its ready line and return it. Raises the error that the daemon ended with."""
        with self.log_file.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "exchange",
                "--home",
                str(self.path),
                "--passphrase-file",
                str(self.path / PASSPHRASE_NAME),
                "node",
                "run",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, **(extra_environment or {})},
                start_new_session=True,  # Ctrl-C is for the program that started it, which then ends it in order
                preexec_fn=_end_with_parent,  # one system call: no lock is taken between fork and exec
            )
        stdout = cast("asyncio.StreamReader", self.process.stdout)
        try:
            async with asyncio.timeout(READY_SECONDS):
                line = await stdout.readline()
        except TimeoutError:
            line = b""
        if b'"ready"' not in line:
            await self.kill()
            raise self._failure()
        self.client = await ControlClient(self.new.home).__aenter__()
        ready: JsonObject = json.loads(line)
        return ready

    def _failure(self) -> LocalError | IntegrityError:
        """Why the daemon did not start, from the last code that it told."""
        with suppress(OSError):
            for line in reversed(self.log_file.read_text("utf-8", "replace").splitlines()):
                code = line.partition(":")[0].strip()
                if code in CODES and CODES[code].fault is Fault.LOCAL:
                    return LocalError(code, self.id)
                if code in CODES and CODES[code].fault is Fault.INTEGRITY:
                    return IntegrityError(code, self.id)
        return LocalError("node.not_running", self.id)

    async def stop(self) -> int | None:
        """Let the daemon drain and end; returns its exit code, None where it was not running."""
        if self.process is None:
            return None
        await self._hang_up()
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                code = await self.process.wait()
        except TimeoutError:
            await self.kill()
            return -signal.SIGKILL
        self.process = None
        return code

    def cut(self) -> None:
        """End the daemon at once, as a power cut would, and do not wait for it."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()

    async def kill(self) -> None:
        """``cut``, and wait for its end."""
        self.cut()
        if self.process is not None:
            await self.process.wait()
        self.process = None
        await self._hang_up()

    async def _hang_up(self) -> None:
        if self.client is not None:
            await self.client.__aexit__(None, None, None)
        self.client = None

    # -- asking

    async def call(self, op: str, args: JsonObject) -> Any:  # noqa: ANN401 - what the operation gives
        """Run one operation at the running node."""
        if self.client is None:
            raise LocalError("node.not_running", self.id)
        return await self.client.call(op, args)

    async def stage(self, data: bytes) -> JsonObject:
        """Hand a file to the running node."""
        if self.client is None:
            raise LocalError("node.not_running", self.id)

        async def pieces() -> AsyncIterator[bytes]:
            yield data

        return await self.client.stage(pieces())

    async def evidence(self, message: str, number: int) -> bytes:
        """An attachment of a message, whole."""
        if self.client is None:
            raise LocalError("node.not_running", self.id)
        _, pieces = await self.client.evidence(message, number)
        return b"".join([piece async for piece in pieces])


# -- making them -----------------------------------------------------------------------------------


def _make_node(path: Path, country: str, endpoint: Callable[[str, int], str]) -> TrainingNode:
    """A home whose card its authority has signed. Blocks."""
    key = new_hybrid_key(random_bytes)
    authority = AuthorityKeys(country, NETWORK, Authority(1, (key.public,)), (key,))
    port = hold_port()
    number = int(port.getsockname()[1])
    name = COUNTRIES[country].name
    config = Config(
        node=NodeId(story.node_of(country)),
        country=country,
        agency=f"Training focal point of {name}",
        network=NETWORK,
        url=endpoint(country, number),
        host=HOST,
        port=number,
        passphrase_file=Path(PASSPHRASE_NAME),
        free_space_bytes=FREE_SPACE_BYTES,
    )
    passphrase = random_bytes(24).hex().encode()
    made = create_home(path, config, passphrase, duty_desk=f"Nobody: {name} of a training network")
    new = asyncio.run(made)
    write_file(path / PASSPHRASE_NAME, passphrase + b"\n")
    return TrainingNode(country, new, authority, sign_document(authority, new.card_draft), port)


async def make_nodes(
    folder: Path, countries: Sequence[str], endpoint: Callable[[str, int], str] | None = None
) -> dict[str, TrainingNode]:
    """Homes in ``folder/<country>`` with signed cards, not yet exchanged.

    ``endpoint`` gives the address that a card names from the country and the port it listens on. Raises ``LocalError``
    input.exists, input.not_found, node.disk.
    """
    schema_book()  # read once, not once a thread
    loop = asyncio.get_running_loop()
    address = endpoint or _loopback
    # Leaving the block waits for threads that still write, also where one has failed or the user left.
    with ThreadPoolExecutor(PROCESSORS) as pool:
        tasks = [loop.run_in_executor(pool, _make_node, folder / country, country, address) for country in countries]
        try:
            made = await asyncio.gather(*tasks)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return dict(zip(countries, made, strict=True))


def _loopback(_: str, port: int) -> str:
    return f"https://{HOST}:{port}"


def sign_agreement(
    nodes: Sequence[TrainingNode],
    ident: str,
    valid_from: timedelta = timedelta(days=-1),
    write: Writer = agreement_between,
    **changes: JsonValue,
) -> bytes:
    """An agreement of the story between these nodes, signed by all their authorities; ``changes`` replace members."""
    payload = write(ident, [node.card for node in nodes], utc_now() + valid_from)
    document = encode_readable({**payload, **changes})
    for node in nodes:
        document = sign_document(node.authority, document)
    return document


async def exchange_documents(nodes: Iterable[TrainingNode], agreements: Mapping[tuple[str, ...], bytes]) -> None:
    """Install every card everywhere, and each agreement at its parties (country codes)."""
    nodes = list(nodes)
    cards = [node.card_bytes for node in nodes]
    for node in nodes:
        own = [data for parties, data in agreements.items() if node.country in parties]
        await install_offline(node.new.home, node.new.keyring, [*cards, *own])


async def start_nodes(nodes: Iterable[TrainingNode], started: Callable[[TrainingNode], None] | None = None) -> None:
    """Start them, as many at a time as there are processors; tells each that is ready. Raises as ``start`` does."""
    room = asyncio.Semaphore(PROCESSORS)

    async def start(node: TrainingNode) -> None:
        async with room:
            await node.start()
        if started is not None:
            started(node)

    try:
        # Where one fails, those that are on their way are cancelled and waited for.
        async with asyncio.TaskGroup() as group:
            for node in nodes:
                group.create_task(start(node))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def end_nodes(nodes: Iterable[TrainingNode]) -> list[int | None]:
    """End whatever still runs, and give the ports back; returns the exit codes, None where nothing ran."""
    nodes = list(nodes)
    codes = await asyncio.gather(*(node.stop() for node in nodes))
    for node in nodes:
        node.port.close()
    return codes
