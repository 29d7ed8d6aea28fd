"""The floor: what the bare library calls of one message cost, measured in the same run as the nodes.

Implements the yardstick of ``exchange bench``: floor = 1 / max(sender, receiver) over the steps that no node can
leave out, each as one call of its library on one core: parse, validate, encapsulate, encrypt, sign, hash, commit in
groups of 64, request in batches of 32, verify, decapsulate, decrypt.

Rules:
1. Only library calls, with our parameters and our sizes: nothing of exchange.core is timed, save the compiled schema.
2. Medians of several rounds; the machine is shared.
3. Disk is the disk of the benchmark's folder, with a real fsync for each group.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
import statistics
import time
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_secretstream_xchacha20poly1305_init_push,
    crypto_secretstream_xchacha20poly1305_push,
    crypto_secretstream_xchacha20poly1305_state,
    crypto_secretstream_xchacha20poly1305_TAG_MESSAGE,
    crypto_sign,
    crypto_sign_keypair,
    crypto_sign_open,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from jsonschema_rs import Draft202012Validator

    from exchange.core.wire import JsonObject

GROUP: Final = 64
BATCH: Final = 32
FRAME: Final = 65_536
_ROUNDS: Final = 7


def _median(work: Callable[[], object], times: int) -> float:
    """Microseconds of one call: the median of rounds of ``times`` calls."""
    rounds: list[float] = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        for _ in range(times):
            work()
        rounds.append((time.perf_counter() - start) / times * 1e6)
    return statistics.median(rounds)


def _database(folder: Path) -> sqlite3.Connection:
    file = folder / "floor.db"
    file.unlink(missing_ok=True)  # each run begins with an empty one
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE t (id TEXT PRIMARY KEY, peer TEXT, state TEXT, body BLOB) STRICT")
    connection.execute("CREATE INDEX i ON t (peer, state)")
    return connection


def _commit_us(folder: Path, size: int) -> tuple[float, float]:
    """Microseconds a row in groups of 64: inserting ``size`` bytes, then updating a state."""
    connection = _database(folder)
    body = os.urandom(size)
    inserts: list[float] = []
    updates: list[float] = []
    for _ in range(24):
        ids = [os.urandom(16).hex() for _ in range(GROUP)]
        for times, sql, rows in (
            (inserts, "INSERT INTO t VALUES (?, 'kh', 'queued', ?)", [(ident, body) for ident in ids]),
            (updates, "UPDATE t SET state = 'accepted' WHERE id = ?", [(ident,) for ident in ids]),
        ):
            start = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(sql, rows)
            connection.execute("COMMIT")
            times.append((time.perf_counter() - start) / GROUP * 1e6)
    connection.close()
    return statistics.median(inserts), statistics.median(updates)


async def _request_us(server: ssl.SSLContext, client: ssl.SSLContext, size: int) -> float:
    """CPU microseconds a message, both sides, of a POST of 32 messages over TLS 1.3 on loopback."""

    async def take(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=b"x" * 300)

    app = web.Application(client_max_size=16 * 1_048_576)
    app.router.add_post("/", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server)
    await site.start()
    port = runner.addresses[0][1]
    body = os.urandom(size * BATCH)
    async with aiohttp.ClientSession(trust_env=False) as session:
        times: list[float] = []
        for _ in range(60):
            start = time.process_time()
            async with session.post(f"https://127.0.0.1:{port}/", data=body, ssl=client) as answer:
                await answer.read()
            times.append((time.process_time() - start) / BATCH * 1e6)
    await runner.cleanup()
    return statistics.median(times)


def measure_floor(
    folder: Path,
    draft: bytes,
    validator: Draft202012Validator,
    content: JsonObject,
    server: ssl.SSLContext,
    client: ssl.SSLContext,
) -> dict[str, float]:
    """Microseconds of each step of one message, and ``floor_messages_per_s`` = 1 / max(sender, receiver)."""
    suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
    secret = MLKEM768X25519PrivateKey(MLKEM768PrivateKey.generate(), X25519PrivateKey.generate())
    public = secret.public_key()
    info, cek, nonce = os.urandom(160), os.urandom(32), os.urandom(24)
    wrapped = suite.encrypt(cek, public, info)
    plain = draft.ljust(8192, b"\0")
    body = crypto_aead_xchacha20poly1305_ietf_encrypt(plain, info, nonce, cek)
    signer_public, signer_secret = crypto_sign_keypair()
    head = os.urandom(2600)  # an envelope's signed payload
    signed = crypto_sign(head, signer_secret)
    insert, update = _commit_us(folder, len(body) + len(head))
    request = asyncio.run(_request_us(server, client, len(body) + len(head))) / 2
    steps = {
        "parse": _median(lambda: json.loads(draft), 500),
        "validate": _median(lambda: validator.is_valid(content), 500),
        "encapsulate": _median(lambda: suite.encrypt(cek, public, info), 100),
        "encrypt": _median(lambda: crypto_aead_xchacha20poly1305_ietf_encrypt(plain, info, nonce, cek), 500),
        "sign": _median(lambda: crypto_sign(head, signer_secret), 200),
        "hash": _median(lambda: (hashlib.sha256(body).digest(), hashlib.sha256(head).digest()), 500),
        "verify": _median(lambda: crypto_sign_open(signed, signer_public), 200),
        "decapsulate": _median(lambda: suite.decrypt(wrapped, secret, info), 100),
        "decrypt": _median(lambda: crypto_aead_xchacha20poly1305_ietf_decrypt(body, info, nonce, cek), 500),
        "insert": insert,
        "update": update,
        "request": request,
    }
    sender = sum(steps[name] for name in ("parse", "validate", "encapsulate", "encrypt", "sign", "hash", "insert"))
    sender += steps["request"] + steps["verify"] / BATCH + steps["update"]
    receiver = sum(steps[name] for name in ("request", "verify", "hash", "decapsulate", "decrypt", "parse"))
    receiver += steps["validate"] + steps["insert"] + steps["sign"] / BATCH
    return {**steps, "sender": sender, "receiver": receiver, "floor_messages_per_s": 1e6 / max(sender, receiver)}


def measure_evidence_floor(folder: Path, size: int) -> float:
    """MB a second of the bare passes: read, hash, encrypt, hash, write, fsync; then read, hash, write, fsync.

    The sender seals to disk before it sends, and the receiver stores before it answers: each pass is one that the two
    nodes must make. Run one after the other on one core; two nodes can overlap a part of them.
    """
    source = folder / "floor-evidence"
    source.write_bytes(os.urandom(FRAME) * (size // FRAME))
    start = time.perf_counter()
    state = crypto_secretstream_xchacha20poly1305_state()
    key = os.urandom(32)
    crypto_secretstream_xchacha20poly1305_init_push(state, key)
    plain_hash, cipher_hash, stored_hash = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    with source.open("rb") as read, (folder / "floor-sealed").open("wb") as write:
        while frame := read.read(FRAME):
            plain_hash.update(frame)
            sealed = crypto_secretstream_xchacha20poly1305_push(
                state, frame, b"fpx1-blob", crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
            )
            cipher_hash.update(sealed)
            write.write(sealed)
        write.flush()
        os.fsync(write.fileno())
    with (folder / "floor-sealed").open("rb") as read, (folder / "floor-stored").open("wb") as write:
        while piece := read.read(FRAME + 17):
            stored_hash.update(piece)
            write.write(piece)
        write.flush()
        os.fsync(write.fileno())
    elapsed = time.perf_counter() - start
    for name in ("floor-evidence", "floor-sealed", "floor-stored"):
        (folder / name).unlink()
    return size / elapsed / 1e6
