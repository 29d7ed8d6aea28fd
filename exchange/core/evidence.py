"""Evidence files: sealed and opened piece by piece.

Implements docs/protocol.md section 5.3, F1 to F4 and F6: libsodium's secretstream (XChaCha20-Poly1305) in frames of one
size, so that the length of the ciphertext tells the length of the file to 64 KiB and no closer.

Rules:
1. A key seals one file and nothing else.
2. The first frame that is wrong, moved, missing or too much ends the opening; nothing of it comes out.
3. The length in the attachment says which frame must be the last: a cut or an extended file is found by its tag, a
   last frame with anything but zeros behind the file by its bytes.
4. What comes out before ``finish`` has returned is not evidence yet. The caller shows it to nobody (F6).

What it does not do: draw keys, or hold a file. Memory does not grow with the length.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from nacl.bindings import (
    crypto_secretstream_xchacha20poly1305_ABYTES,
    crypto_secretstream_xchacha20poly1305_HEADERBYTES,
    crypto_secretstream_xchacha20poly1305_init_pull,
    crypto_secretstream_xchacha20poly1305_pull,
    crypto_secretstream_xchacha20poly1305_push,
    crypto_secretstream_xchacha20poly1305_state,
    crypto_secretstream_xchacha20poly1305_TAG_FINAL,
    crypto_secretstream_xchacha20poly1305_TAG_MESSAGE,
)
from nacl.exceptions import CryptoError

from exchange.core.errors import PeerError
from exchange.core.wire import Digest

HEADER_BYTES: Final = crypto_secretstream_xchacha20poly1305_HEADERBYTES
FRAME_BYTES: Final = 65_536
SEALED_FRAME_BYTES: Final = FRAME_BYTES + crypto_secretstream_xchacha20poly1305_ABYTES
_MESSAGE: Final = crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
_FINAL: Final = crypto_secretstream_xchacha20poly1305_TAG_FINAL
_AD: Final = b"fpx1-blob"


def frame_count(length: int) -> int:
    """Frames of a file of ``length`` bytes; an empty one has one."""
    return max(1, -(-length // FRAME_BYTES))


def sealed_length(length: int) -> int:
    """Bytes of ciphertext for a file of ``length`` bytes (F4)."""
    return HEADER_BYTES + frame_count(length) * SEALED_FRAME_BYTES


def _state(key: bytes, header: bytes) -> crypto_secretstream_xchacha20poly1305_state:
    # Both directions derive the same state from key and header. libsodium's init_push differs in one thing: it draws
    # the header itself, and the core draws nothing.
    state = crypto_secretstream_xchacha20poly1305_state()
    crypto_secretstream_xchacha20poly1305_init_pull(state, header, key)
    return state


class EvidenceSealer:
    """Seals one file: ``header``, then what ``feed`` returns, then what ``finish`` returns.

    ``key`` (32 bytes) and ``header`` (HEADER_BYTES) are random and used for this file only.
    """

    def __init__(self, key: bytes, header: bytes) -> None:
        self.header = header
        self.length = 0
        self._state = _state(key, header)
        self._digest = hashlib.sha256()
        self._rest = b""

    @property
    def sha256(self) -> Digest:
        """SHA-256 of the file as far as it was fed."""
        return Digest(self._digest.hexdigest())

    def feed(self, data: bytes) -> bytes:
        """Take more of the file; returns the frames that are full, without the one that may be the last."""
        self.length += len(data)
        self._digest.update(data)
        data = self._rest + data
        end = (max(len(data), 1) - 1) // FRAME_BYTES * FRAME_BYTES
        self._rest = data[end:]
        return b"".join(self._frame(data[at : at + FRAME_BYTES], _MESSAGE) for at in range(0, end, FRAME_BYTES))

    def finish(self) -> bytes:
        """The last frame, filled with zeros."""
        return self._frame(self._rest.ljust(FRAME_BYTES, b"\0"), _FINAL)

    def _frame(self, plain: bytes, tag: int) -> bytes:
        return crypto_secretstream_xchacha20poly1305_push(self._state, plain, _AD, tag)


class EvidenceOpener:
    """Opens one file of which the attachment says ``key``, ``length`` and ``sha256``.

    Raises ``PeerError`` blob.frame at the first wrong frame; ``finish`` raises it where frames are missing, and
    blob.digest where the whole is not the file that was announced.
    """

    def __init__(self, key: bytes, *, length: int, sha256: str) -> None:
        self._key = key
        self._left = length
        self._frames = frame_count(length)
        self._sha256 = sha256
        self._digest = hashlib.sha256()
        self._state: crypto_secretstream_xchacha20poly1305_state | None = None
        self._opened = 0
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take more of the ciphertext; returns the plaintext of the frames that are complete."""
        data = self._rest + data
        at = 0
        if self._state is None:
            if len(data) < HEADER_BYTES:
                self._rest = data
                return b""
            self._state = _state(self._key, data[:HEADER_BYTES])
            at = HEADER_BYTES
        plain: list[bytes] = []
        while len(data) - at >= SEALED_FRAME_BYTES:
            plain.append(self._frame(self._state, data[at : at + SEALED_FRAME_BYTES]))
            at += SEALED_FRAME_BYTES
        self._rest = data[at:]
        return b"".join(plain)

    def _frame(self, state: crypto_secretstream_xchacha20poly1305_state, sealed: bytes) -> bytes:
        self._opened += 1
        where = f"frame {self._opened}"
        try:
            plain, tag = crypto_secretstream_xchacha20poly1305_pull(state, sealed, _AD)
        except CryptoError:
            raise PeerError("blob.frame", where) from None
        is_last = self._opened == self._frames
        if self._opened > self._frames or tag != (_FINAL if is_last else _MESSAGE):
            raise PeerError("blob.frame", where)
        if is_last:
            if plain.count(b"\0", self._left) != FRAME_BYTES - self._left:
                raise PeerError("blob.frame", where)
            plain = plain[: self._left]
        self._left -= len(plain)
        self._digest.update(plain)
        return plain

    def finish(self) -> None:
        """The end of the ciphertext. Raises blob.frame, blob.digest; returning means that all of it is the file."""
        if self._opened != self._frames or self._rest:
            raise PeerError("blob.frame", "end")
        if not hmac.compare_digest(self._digest.hexdigest(), self._sha256):
            raise PeerError("blob.digest", "evidence")
