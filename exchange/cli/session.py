"""One way to a node for every command: over its socket where it runs, else from its folder under the lock.

Rules:
1. The socket is asked first. A node that holds the lock and does not listen is starting or stopping: it is waited for,
   briefly.
2. The passphrase is asked for only where the folder has to be opened here.
3. ``--as`` works for every command alike: the desk that it is given signs each operation.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

from exchange.cli.settings import Settings, read_passphrase
from exchange.core.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from exchange.adapters.config import Config
    from exchange.adapters.home import Home
    from exchange.core.wire import JsonObject, JsonValue

T = TypeVar("T")
PATIENCE: Final = 50  # times a tenth of a second
PIECE_BYTES: Final = 1_048_576


class Desk(Protocol):
    """What ``ControlClient`` and ``node.desk.Desk`` have in common."""

    async def call(self, op: str, args: JsonObject) -> JsonValue:
        """Run one operation."""

    async def stage(self, chunks: AsyncIterator[bytes], signed: str | None = None) -> JsonObject:
        """Hand in a file."""

    async def evidence(
        self, message: str, index: int, signed: str | None = None, sender: str | None = None
    ) -> tuple[JsonObject, AsyncIterator[bytes]]:
        """An attachment."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work."""
    return asyncio.run(work)


@asynccontextmanager
async def at_desk(said: Settings, *, require_card: bool = True) -> AsyncIterator[tuple[Desk, bool]]:
    """The node's desk, and whether the node runs. Raises ``LocalError`` node.locked, and what opening raises."""
    from exchange.adapters.control import ControlClient

    home, config = said.open_home()
    signing = _signer(said, home, config)  # a person may have to type: before anything is open
    for attempt in range(PATIENCE):
        if home.socket.exists():
            async with ControlClient(home) as client:
                if await _listens(client):
                    yield signing(client), True
                    return
        if _is_free(home) or attempt == PATIENCE - 1:
            break
        await asyncio.sleep(0.1)
    async with _offline(said, home, config, require_card=require_card) as desk:
        yield signing(desk), False


def _signer(said: Settings, home: Home, config: Config) -> Callable[[Desk], Desk]:
    """What makes a desk one of the officer who acts; every command comes through here."""
    if said.officer is None:
        return lambda desk: desk
    from exchange.cli.personal import SigningDesk, personal_of

    personal = personal_of(said, home)
    return lambda desk: desk if personal is None else SigningDesk(desk, personal, config.network, config.node)


async def _listens(client: Desk) -> bool:
    try:
        await client.call("status", {})
    except LocalError as error:
        if error.code == "node.not_running":
            return False
        raise
    return True


def _is_free(home: Home) -> bool:
    try:
        home.lock().release()
    except LocalError as error:
        if error.code == "node.locked":
            return False
        raise
    return True


@asynccontextmanager
async def _offline(said: Settings, home: Home, config: Config, *, require_card: bool) -> AsyncIterator[Desk]:
    from exchange.cli.wiring import offline_node

    passphrase = read_passphrase(said, config)
    async with offline_node(home, passphrase, require_card=require_card) as bundle:
        yield bundle.desk


async def ask(said: Settings, op: str, args: JsonObject, *, require_card: bool = True) -> JsonValue:
    """One operation."""
    async with at_desk(said, require_card=require_card) as (desk, _):
        return await desk.call(op, args)


def ask_object(said: Settings, op: str, args: JsonObject, *, require_card: bool = True) -> JsonObject:
    """One operation whose result is an object."""
    return cast("JsonObject", run(ask(said, op, args, require_card=require_card)))


def ask_list(said: Settings, op: str, args: JsonObject) -> list[JsonObject]:
    """One operation whose result is a list of objects."""
    return cast("list[JsonObject]", run(ask(said, op, args)))


async def file_chunks(path: Path) -> AsyncIterator[bytes]:
    """A file in pieces. Raises ``LocalError`` input.not_found."""
    try:
        with path.open("rb") as file:
            while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                yield piece
    except OSError:
        raise LocalError("input.not_found", path.name) from None
