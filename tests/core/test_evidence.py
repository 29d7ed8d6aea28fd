"""``exchange.core.evidence``: frames of one size, and what is refused of them (protocol 5.3)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import (
    crypto_secretstream_xchacha20poly1305_init_pull,
    crypto_secretstream_xchacha20poly1305_init_push,
    crypto_secretstream_xchacha20poly1305_pull,
    crypto_secretstream_xchacha20poly1305_push,
    crypto_secretstream_xchacha20poly1305_state,
    crypto_secretstream_xchacha20poly1305_TAG_FINAL,
    crypto_secretstream_xchacha20poly1305_TAG_MESSAGE,
    crypto_secretstream_xchacha20poly1305_TAG_REKEY,
)

from exchange.core.errors import PeerError
from exchange.core.evidence import (
    FRAME_BYTES,
    HEADER_BYTES,
    SEALED_FRAME_BYTES,
    EvidenceOpener,
    EvidenceSealer,
    frame_count,
    sealed_length,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

KEY: Final = bytes(range(32))
HEADER: Final = bytes(range(100, 124))
FINAL: Final = crypto_secretstream_xchacha20poly1305_TAG_FINAL
MESSAGE: Final = crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
REKEY: Final = crypto_secretstream_xchacha20poly1305_TAG_REKEY
THREE_FRAMES: Final = bytes(range(256)) * 600  # 153,600 bytes
EDGES: Final = [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES]


def seal(data: bytes, step: int = 100_000) -> bytes:
    sealer = EvidenceSealer(KEY, HEADER)
    pieces = [sealer.header, *(sealer.feed(data[at : at + step]) for at in range(0, len(data), step))]
    pieces.append(sealer.finish())
    assert (sealer.length, sealer.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    return b"".join(pieces)


def open_all(sealed: bytes, data: bytes, step: int = 100_000, key: bytes = KEY) -> bytes:
    opener = EvidenceOpener(key, length=len(data), sha256=hashlib.sha256(data).hexdigest())
    plain = b"".join(opener.feed(sealed[at : at + step]) for at in range(0, len(sealed), step))
    opener.finish()
    return plain


def refused(sealed: bytes, data: bytes, key: bytes = KEY) -> tuple[str, str]:
    with pytest.raises(PeerError) as caught:
        open_all(sealed, data, key=key)
    return caught.value.code, caught.value.where


def by_hand(frames: Iterable[tuple[bytes, int]], ad: bytes | None = b"fpx1-blob") -> bytes:
    """A stream as libsodium makes it, with a header of its own drawing."""
    state = crypto_secretstream_xchacha20poly1305_state()
    header = crypto_secretstream_xchacha20poly1305_init_push(state, KEY)
    return header + b"".join(
        crypto_secretstream_xchacha20poly1305_push(state, plain.ljust(FRAME_BYTES, b"\0"), ad, tag)
        for plain, tag in frames
    )


def frame(sealed: bytes, number: int) -> bytes:
    at = HEADER_BYTES + number * SEALED_FRAME_BYTES
    return sealed[at : at + SEALED_FRAME_BYTES]


@pytest.mark.parametrize("length", EDGES)
def test_a_file_comes_back(length: int) -> None:
    """A file of any length at the edges of frames comes back as it was, and its ciphertext has the length of F4."""
    data = THREE_FRAMES[:1] * length
    sealed = seal(data)
    assert len(sealed) == sealed_length(length) == 24 + frame_count(length) * 65_553
    assert open_all(sealed, data) == data


@given(
    length=st.integers(0, 3 * FRAME_BYTES),
    cut=st.integers(1, 2 * FRAME_BYTES),
    other=st.integers(1, 2 * FRAME_BYTES),
)
def test_pieces_do_not_matter(length: int, cut: int, other: int) -> None:
    """The ciphertext depends on the file alone, not on the pieces in which it is sealed or opened."""
    data = THREE_FRAMES[:length]
    assert seal(data, cut) == seal(data)
    assert open_all(seal(data), data, other) == data


def test_header_alone_may_arrive_in_pieces() -> None:
    """A stream that arrives byte by byte is opened as soon as its frame is whole."""
    sealed = seal(b"a statement")
    opener = EvidenceOpener(KEY, length=11, sha256=hashlib.sha256(b"a statement").hexdigest())
    plain = [opener.feed(bytes([byte])) for byte in sealed]
    opener.finish()
    assert plain[-1] == b"a statement"
    assert not any(plain[:-1])


def test_libsodium_reads_what_is_sealed() -> None:
    """Another program with libsodium opens the stream with the same key and additional data."""
    sealed = seal(THREE_FRAMES)
    state = crypto_secretstream_xchacha20poly1305_state()
    crypto_secretstream_xchacha20poly1305_init_pull(state, sealed[:HEADER_BYTES], KEY)
    opened = [crypto_secretstream_xchacha20poly1305_pull(state, frame(sealed, n), b"fpx1-blob") for n in range(3)]
    assert b"".join(plain for plain, _ in opened).rstrip(b"\0") == THREE_FRAMES.rstrip(b"\0")
    assert [tag for _, tag in opened] == [MESSAGE, MESSAGE, FINAL]


def test_what_libsodium_seals_is_read() -> None:
    """A stream that another program made with libsodium, in the frames of the protocol, is opened."""
    assert open_all(by_hand([(b"a" * FRAME_BYTES, MESSAGE), (b"b", FINAL)]), b"a" * FRAME_BYTES + b"b").endswith(b"ab")


@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        (lambda s: s[:-1], "end"),
        (lambda s: s[:-SEALED_FRAME_BYTES], "end"),
        (lambda s: s[:HEADER_BYTES], "end"),
        (lambda s: s[: HEADER_BYTES - 1], "end"),
        (lambda s: s + b"\0", "end"),
        (lambda s: s + frame(s, 2), "frame 4"),
        (lambda s: s[:HEADER_BYTES] + frame(s, 1) + frame(s, 0) + frame(s, 2), "frame 1"),
        (lambda s: s[:HEADER_BYTES] + frame(s, 0) + frame(s, 0) + frame(s, 2), "frame 2"),
        (lambda s: s[:HEADER_BYTES] + frame(s, 0) + frame(s, 2), "frame 2"),
        (lambda s: bytes([s[0] ^ 1]) + s[1:], "frame 1"),
        (lambda s: s[:-1] + bytes([s[-1] ^ 1]), "frame 3"),
        (lambda s: s[:100_000] + bytes([s[100_000] ^ 128]) + s[100_001:], "frame 2"),
    ],
    ids=[
        *("cut", "no last", "header", "half header", "byte more", "frame more", "swapped", "twice", "left out"),
        *("header bit", "tag bit", "middle bit"),
    ],
)
def test_a_spoilt_stream_is_refused(spoil: Callable[[bytes], bytes], where: str) -> None:
    """A stream that is cut, extended, reordered or changed in one bit is refused at the frame where it shows."""
    assert refused(spoil(seal(THREE_FRAMES)), THREE_FRAMES) == ("blob.frame", where)


def test_another_key_is_refused() -> None:
    """A stream under another key is refused at its first frame."""
    assert refused(seal(THREE_FRAMES), THREE_FRAMES, key=bytes(32)) == ("blob.frame", "frame 1")


@pytest.mark.parametrize(
    ("frames", "length", "where"),
    [
        ([(b"a", FINAL), (b"b", FINAL)], FRAME_BYTES + 1, "frame 1"),
        ([(b"a", MESSAGE), (b"b", MESSAGE)], FRAME_BYTES + 1, "frame 2"),
        ([(b"a", REKEY), (b"b", FINAL)], FRAME_BYTES + 1, "frame 1"),
        ([(b"a", FINAL), (b"b", MESSAGE)], 1, "frame 2"),
        ([(b"a", FINAL), (b"b", FINAL)], 1, "frame 2"),
        ([(b"ab", FINAL)], 1, "frame 1"),
        ([(b"a\0b", FINAL)], 1, "frame 1"),
    ],
    ids=["early end", "no end", "rekey", "more", "two ends", "longer than said", "not zeros"],
)
def test_well_sealed_but_wrong_frames_are_refused(frames: list[tuple[bytes, int]], length: int, where: str) -> None:
    """Frames that the key's owner sealed with wrong tags, or with bytes behind the file's end, are refused."""
    opener = EvidenceOpener(KEY, length=length, sha256="0" * 64)
    with pytest.raises(PeerError) as caught:
        opener.feed(by_hand(frames))
    assert (caught.value.code, caught.value.where) == ("blob.frame", where)


def test_additional_data_is_required() -> None:
    """A stream without the protocol's label is refused."""
    assert refused(by_hand([(b"a", FINAL)], ad=None), b"a") == ("blob.frame", "frame 1")


def test_another_file_is_refused() -> None:
    """A stream that opens to another file than the announced one is refused at the end."""
    sealed = seal(b"a statement of thirty-two bytes!")
    assert refused(sealed, b"A statement of thirty-two bytes!") == ("blob.digest", "evidence")
