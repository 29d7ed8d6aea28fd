"""Evidence between an officer's disk and a statement: sealed on its way in, opened on its way out.

Implements docs/protocol.md section 5.3, F1 to F6, at the officer's side.

Rules:
1. A file is sealed while it is read; its clear bytes are never on the node's disk. Its key waits under the master key
   until a statement takes it, and then only there.
2. Pieces of 1 MiB are sealed and opened beside the event loop; memory does not grow with the file.
3. What comes out before the end is nobody's evidence yet: the reader of ``open`` shows it only after the last piece.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from exchange.core import wire
from exchange.core.audit import Event
from exchange.core.envelope import KEY_BYTES
from exchange.core.errors import IntegrityError, LocalError, PeerError
from exchange.core.evidence import HEADER_BYTES, EvidenceOpener, EvidenceSealer, sealed_length
from exchange.core.wire import Digest, Fields, JsonObject, JsonValue
from exchange.node.roles import OPERATOR

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from exchange.node.ledger import Ledger, Transaction
    from exchange.ports import Blobs, Clock, Secrets

PIECE_BYTES: Final = 1_048_576


class Staging:
    """Files that wait for their statement."""

    def __init__(self, ledger: Ledger, blobs: Blobs, secrets: Secrets, clock: Clock, max_evidence_bytes: int) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._secrets = secrets
        self._clock = clock
        self._max_bytes = max_evidence_bytes

    # -- in

    async def stage(self, chunks: AsyncIterator[bytes], actor: str = OPERATOR) -> JsonObject:
        """Seal and keep a file. Raises ``PeerError`` blob.too_large, relay.disk; ``LocalError`` node.disk."""
        key = self._clock.random(KEY_BYTES)
        sealer = EvidenceSealer(key, self._clock.random(HEADER_BYTES))
        sealed = self._seal(sealer, chunks)
        h, length = await self._blobs.save(sealed, h=None, max_bytes=sealed_length(self._max_bytes))
        record: JsonObject = {"key": wire.encode_base64(key), "len": sealer.length, "sha256": sealer.sha256}
        secret = self._secrets.wrap_local(wire.encode_json(record), f"staged {h}")

        async def job(tx: Transaction) -> None:
            tx.record(Event.BLOB_STORED, actor=actor, subject=Digest(h))
            tx.changes.add("put_blob", h, "", "", "staged", length, 1, secret)

        await self._ledger.do(job)
        return {"h": h, "len": sealer.length, "sha256": sealer.sha256}

    async def _seal(self, sealer: EvidenceSealer, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        yield sealer.header
        async for piece in _pieces(chunks):
            if sealer.length + len(piece) > self._max_bytes:
                raise PeerError("blob.too_large", f"at most {self._max_bytes} bytes")
            yield await asyncio.to_thread(sealer.feed, piece)
        yield sealer.finish()

    async def record(self, given: JsonValue, *, dry_run: bool) -> JsonObject:
        """An attachment's record with its key, from the handle of a staged file.

        In a dry run, which reads no staged file, a record of the right sizes. Raises ``LocalError``
        input.unknown_attachment where no staged file has that handle.
        """
        fields = Fields(given, "attachment")
        record: JsonObject = {"name": fields.text("name"), "media_type": fields.text("media_type")}
        if dry_run:
            length = fields.integer("len")
            record |= {"len": length, "sha256": fields.digest("sha256")}
            blank = wire.encode_base64(bytes(KEY_BYTES))
            record["blob"] = {"h": record["sha256"], "key": blank, "len": sealed_length(length)}
        else:
            record |= await self._staged(fields.digest("h"))
        if fields.has("custody"):
            record["custody"] = fields.any("custody")
        fields.done()
        return record

    async def _staged(self, h: Digest) -> JsonObject:
        for _, _, direction, length, _, secret in await self._ledger.store.read("blobs_named", h):
            if direction == "staged":
                plain = self._secrets.unwrap_local(secret, f"staged {h}")
                kept = Fields(wire.parse_json(plain, max_bytes=4096), "staged")
                blob: JsonObject = {"h": h, "key": kept.any("key"), "len": length}
                return {"len": kept.any("len"), "sha256": kept.any("sha256"), "blob": blob}
        raise LocalError("input.unknown_attachment", "staged")

    async def drop(self, records: Sequence[JsonObject]) -> None:
        """Forget the keys of files that a statement holds now."""

        async def job(tx: Transaction) -> None:
            for record in records:
                tx.changes.add("drop_staged", Fields(record["blob"], "blob").digest("h"))

        await self._ledger.do(job)

    # -- out

    def open(self, record: JsonObject, *, incoming: bool) -> AsyncIterator[bytes]:
        """The file of an attachment. Raises ``PeerError`` blob.incomplete where it has not arrived.

        While it is read: ``IntegrityError`` store.blob_missing, ``PeerError`` blob.frame, blob.digest.
        """
        fields = Fields(record, "attachment")
        blob = fields.object("blob")
        h, key = blob.digest("h"), blob.bytes("key", length=KEY_BYTES)
        if not self._blobs.has(h):
            if incoming:
                raise PeerError("blob.incomplete", "evidence")
            raise IntegrityError("store.blob_missing", "evidence")
        return self._open(h, EvidenceOpener(key, length=fields.integer("len"), sha256=fields.digest("sha256")))

    async def _open(self, h: Digest, opener: EvidenceOpener) -> AsyncIterator[bytes]:
        async for piece in self._blobs.load(h):
            plain = await asyncio.to_thread(opener.feed, piece)
            if plain:
                yield plain
        opener.finish()


async def _pieces(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Join small chunks, so that a thread is asked once a MiB."""
    waiting: list[bytes] = []
    size = 0
    async for chunk in chunks:
        waiting.append(chunk)
        size += len(chunk)
        if size >= PIECE_BYTES:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
    if waiting:
        yield b"".join(waiting)
