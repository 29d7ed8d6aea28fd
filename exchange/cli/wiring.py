"""The ports and the node put together, and the daemon's life.

Rules:
1. Whoever opens a home holds its lock first and gives it back last.
2. The ready line is printed when peers and officers can be served, not before.
3. SIGTERM and SIGINT drain: no new requests, those that are here are answered, then the files are closed.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import structlog

from exchange.adapters.blobs import BlobFolder
from exchange.adapters.config import Config, load_config
from exchange.adapters.control import ControlServer
from exchange.adapters.files import schema_files
from exchange.adapters.http_client import HttpPeers
from exchange.adapters.http_server import Limits, make_app, serve
from exchange.adapters.sqlite import SqliteStore
from exchange.adapters.system import SystemClock
from exchange.adapters.tls import server_context, spki_pin
from exchange.cli.logs import ENDINGS, EXIT_CODES, REMINDERS, WARNINGS, log_loop_faults, setup_logs
from exchange.cli.unlock import unlock_home
from exchange.core.checkpoint import Origin, log_keys
from exchange.core.errors import IntegrityError, LocalError
from exchange.core.schemas import SchemaBook, parse_schema_book
from exchange.node.desk import Desk, check_own_card
from exchange.node.node import Node, Outside, is_training

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from concurrent.futures import Future

    from exchange.adapters.home import Home
    from exchange.adapters.keyring import Keyring
    from exchange.core.delivery import Status
    from exchange.core.wire import NodeId

_log = structlog.get_logger("node")


@lru_cache(maxsize=1)
def schema_book() -> SchemaBook:
    """The agreed schemas, read once a process. Raises ``LocalError`` schema.unsafe."""
    return parse_schema_book(schema_files())


def log_origin(config: Config) -> Origin:
    """The name of the node's audit log."""
    return Origin(config.network, config.node)


# -- opening a home --------------------------------------------------------------------------------


@dataclass(slots=True)
class NodeBundle:
    """A node and what it was made of."""

    home: Home
    config: Config
    keyring: Keyring
    blobs: BlobFolder
    peers: HttpPeers
    node: Node
    desk: Desk


def read_tls_cert(home: Home) -> bytes:
    """The node's TLS certificate. Raises ``LocalError`` node.key."""
    try:
        return home.tls_cert.read_bytes()
    except OSError:
        raise LocalError("node.key", "tls.crt") from None


async def open_node(home: Home, key: bytes | Keyring, *, require_card: bool = True) -> NodeBundle:
    """Everything of a node, loaded and not started; the caller holds the home's lock.

    ``key`` is the passphrase, or the keyring that it opened. Raises ``LocalError`` node.config, input.passphrase,
    node.key, node.database, node.disk, node.card (unless ``require_card`` is false); ``IntegrityError`` store.*.
    """
    config = load_config(home.config)
    keyring = unlock_home(home, key) if isinstance(key, bytes) else key
    pin = spki_pin(read_tls_cert(home))
    if not home.database.is_file():
        raise IntegrityError("store.corrupt", f"{home.database.name} is missing")  # opening would make an empty one
    store = await SqliteStore.open(home.database)
    try:
        await _check_meta(store, config)
        blobs = BlobFolder(home.blobs, config.free_space_bytes)
        peers = HttpPeers(blobs)
        ed25519, mldsa44 = keyring.log_keys
        outside = Outside(
            store=store,
            blobs=blobs,
            peers=peers,
            secrets=keyring,
            clock=SystemClock(),
            book=schema_book(),
            log_keys=log_keys(log_origin(config), ed25519.raw, mldsa44.raw),
        )
        node = await Node.load(config.network, config.node, outside, require_card=require_card)
        if require_card:
            check_own_card(node.registry.cards[node.me], outside, pin)
    except BaseException:
        await store.close()
        raise
    desk = Desk(node, pin, config.max_evidence_bytes)
    return NodeBundle(home, config, keyring, blobs, peers, node, desk)


async def _check_meta(store: SqliteStore, config: Config) -> None:
    meta = {name: value for name, value in await store.read("meta") if name in {"node", "network"}}
    if not meta:
        raise IntegrityError("store.corrupt", "meta")
    if meta != {"node": config.node, "network": config.network}:
        raise LocalError("node.config", "[node] id or network: not those the home was made with")


@asynccontextmanager
async def offline_node(home: Home, key: bytes | Keyring, *, require_card: bool = True) -> AsyncIterator[NodeBundle]:
    """A stopped node whose records can be read and written: under the lock, the ledger runs and nothing else does.

    Raises ``LocalError`` node.locked, and what ``open_node`` raises.
    """
    with home.lock():
        bundle = await open_node(home, key, require_card=require_card)
        try:
            async with bundle.node.writing():
                yield bundle
        finally:
            await bundle.peers.close()
            await bundle.node.outside.store.close()


# -- the daemon ------------------------------------------------------------------------------------


async def run_node(home: Home, unlocking: Future[Keyring]) -> int:
    """The daemon, until a signal or a fault ends it; returns the exit code. The caller holds the home's lock.

    ``unlocking`` is ``unlock_beside``'s. Prints the ready line on standard output. Raises what ``open_node`` raises,
    and ``LocalError`` node.port.
    """
    schema_book()  # while the passphrase is still being worked on
    keyring = await asyncio.wrap_future(unlocking)
    bundle = await open_node(home, keyring)
    setup_logs(bundle.config.log_level, as_json=bundle.config.log_json)
    try:
        return await _run(bundle)
    finally:
        await bundle.node.stop()


async def _run(bundle: NodeBundle) -> int:
    config, node = bundle.config, bundle.node
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    context = server_context(bundle.home.tls_cert, bundle.home.tls_key, bundle.keyring.tls_password)
    log_loop_faults(loop)
    gc.freeze()  # what start-up made stays: the collector need not look at it again
    node.queues.on_news = _tell_log
    await node.start()
    app = make_app(node, Limits(max_evidence_bytes=config.max_evidence_bytes))
    listener = await serve(app, config.host, config.port, context)
    control = ControlServer(bundle.desk, bundle.home)
    try:
        await control.start()
        _announce(config, listener.port)
        return await _until_stopped(node, stop)
    finally:
        # Peers first: what they sent is answered while the node still works.
        await listener.close()
        await control.close()


def _tell_log(kind: str, peer: NodeId, message: str, status: Status | None) -> None:
    """News for the operator: alarms and late answers always, each message's way where the level is debug."""
    if kind in WARNINGS:
        _log.warning(kind, peer=peer, message=message)
    elif kind in ENDINGS:
        _log.warning(kind, peer=peer, agreement=message)
    elif kind in REMINDERS:
        _log.info(kind, peer=peer, message=message)
    else:
        _log.debug(kind, peer=peer, message=message, status=None if status is None else status.value)


def _announce(config: Config, port: int) -> None:
    _log.info("started", node=config.node, network=config.network, training=is_training(config.network))
    line = {"ready": True, "node": config.node, "url": config.url, "pid": os.getpid(), "port": port}
    with suppress(OSError):  # whoever started us may not listen
        sys.stdout.write(json.dumps({**line, "training": is_training(config.network)}) + "\n")
        sys.stdout.flush()


async def _until_stopped(node: Node, stop: asyncio.Event) -> int:
    waiting = asyncio.create_task(stop.wait())
    working = asyncio.create_task(node.wait())
    done, _ = await asyncio.wait({waiting, working}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if working not in done:
        working.cancel()
        _log.info("stopping")
        return 0
    fault = working.exception()
    if not isinstance(fault, LocalError | IntegrityError):
        _log.error("failed", code="node.internal", fault=type(fault).__name__)
        return EXIT_CODES[LocalError]
    _log.error("failed", code=fault.code)
    raise fault
