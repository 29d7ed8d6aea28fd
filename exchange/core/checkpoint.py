"""Checkpoints: the signed head of an audit log, as a note that other people's tools can check.

Implements docs/protocol.md section 9.3; C2SP signed-note, tlog-checkpoint, tlog-cosignature (ML-DSA-44).

Rules:
1. A log signs each checkpoint twice, and both signatures must be there and verify: Ed25519 over the note
   (type 0x01), which today's tools read, and ML-DSA-44 over size, root and time (type 0x06), which lasts.
2. Both keys are named after the log's origin, and the origin names the network: no checkpoint of a
   training network, of another node or of a former log passes for this one.
3. A signature by a known key must verify, else the whole note is refused; one by an unknown key is
   ignored. What is unknown is told by name and key id together.
4. No extension lines: they would not be covered by the ML-DSA-44 signature.
5. A log never signs two heads of which the larger does not continue the smaller. Whoever signs holds the
   last signed head and compares before it signs (the store does so in the transaction).

What it does not do: sign (ML-DSA-44 draws randomness: ``ports.Secrets``), or judge how many witnesses
are enough. The log key is the one key used without a reserved leaf: it speaks about the log itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from exchange.core.errors import PeerError
from exchange.core.merkle import HASH_BYTES, MAX_SIZE, Hash
from exchange.core.signatures import (
    ED25519_PUBLIC_BYTES,
    MLDSA44_PUBLIC_BYTES,
    is_sound_ed25519,
    verify_ed25519,
    verify_mldsa44,
)
from exchange.core.wire import (
    NETWORK_ID,
    NODE_ID,
    TRAINING_PREFIX,
    NetworkId,
    NodeId,
    encode_base64,
    parse_base64,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_NOTE_BYTES: Final = 65_536  # 19 signatures by ML-DSA-44; signed-note asks for 16
MAX_NOTE_SIGNATURES: Final = 32
MAX_VKEY_CHARS: Final = 2_048  # an ML-DSA-44 key is 1,752 of them
MAX_NAME_BYTES: Final = 255  # tlog-cosignature: one length byte
MAX_TIMESTAMP: Final = 253_402_300_799  # the last second of the year 9999, the last that a time here can name

_ORIGIN: Final = re.compile(f"focalpoint/({NETWORK_ID.pattern})/({NODE_ID.pattern})/log/([1-9][0-9]{{0,8}})")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,15}")
_KEY_ID_BYTES: Final = 4
_TIMESTAMP_BYTES: Final = 8
_DASH: Final = "\N{EM DASH} "
_LABEL: Final = b"subtree/v1\n\0"
_KEY_FORMS: Final = {(b"\x01", 1 + ED25519_PUBLIC_BYTES), (b"\x06", 1 + MLDSA44_PUBLIC_BYTES)}


class KeyKind(IntEnum):
    """Signature types of C2SP signed-note that are used here."""

    ED25519 = 0x01
    MLDSA44 = 0x06


# -- names and keys --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Origin:
    """Which log: ``focalpoint/<network>/<node>/log/<number>``. A log that must start anew takes the next number."""

    network: NetworkId
    node: NodeId
    number: int = 1

    def __str__(self) -> str:
        return f"focalpoint/{self.network}/{self.node}/log/{self.number}"

    @property
    def is_training(self) -> bool:
        """Whether this is a log of a training network."""
        return self.network.startswith(TRAINING_PREFIX)


def _origin(text: str) -> Origin | None:
    match = _ORIGIN.fullmatch(text)
    return Origin(NetworkId(match[1]), NodeId(match[2]), int(match[3])) if match else None


def parse_origin(text: str) -> Origin:
    """Read an origin line. Raises audit.bad_checkpoint."""
    origin = _origin(text)
    if origin is None:
        raise PeerError("audit.bad_checkpoint", "origin")
    return origin


def note_key_id(name: str, kind: KeyKind, public: bytes) -> bytes:
    """Four bytes that, with the name, tell a key: SHA-256(name || newline || type || public)[:4]."""
    return sha256(name.encode("utf-8") + b"\n" + bytes([kind]) + public).digest()[:_KEY_ID_BYTES]


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A key that signs notes; ``public`` has 32 bytes (Ed25519) or 1,312 (ML-DSA-44)."""

    name: str
    kind: KeyKind
    public: bytes

    @property
    def id(self) -> bytes:
        """The four bytes of ``note_key_id``."""
        return note_key_id(self.name, self.kind, self.public)


def encode_vkey(key: NoteKey) -> str:
    """Write a key as C2SP verifier key: ``name+hexadecimal id+base64(type || public)``."""
    return f"{key.name}+{key.id.hex()}+{encode_base64(bytes([key.kind]) + key.public)}"


def parse_vkey(text: str) -> NoteKey:
    """Read a C2SP verifier key of type 0x01 or 0x06. Raises audit.bad_vkey, key.weak.

    Names of keys that somebody relies on are ASCII, so that no two of them look alike.
    """
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")  # the name has no plus, the base64 after the second one may
    if len(text) > MAX_VKEY_CHARS or not name.isascii() or not _is_name(name):
        raise PeerError("audit.bad_vkey", "key name")
    try:
        data = parse_base64(encoded)
    except PeerError:
        raise PeerError("audit.bad_vkey", "base64") from None
    if (data[:1], len(data)) not in _KEY_FORMS:
        raise PeerError("audit.bad_vkey", "key type or length")
    key = NoteKey(name, KeyKind(data[0]), data[1:])
    if key.id.hex() != key_id:
        raise PeerError("audit.bad_vkey", "key id")
    if key.kind is KeyKind.ED25519 and not is_sound_ed25519(key.public):
        raise PeerError("key.weak", "verifier key")
    return key


def _is_name(name: str) -> bool:
    """Signed-note: a key name is not empty and holds neither a Unicode space nor a plus; nor a control character."""
    return 0 < len(name) <= MAX_NAME_BYTES and not any(c == "+" or c < " " or c.isspace() for c in name)


@dataclass(frozen=True, slots=True)
class LogKeys:
    """The two keys of one log, both named after its origin (rule 1).

    ``valid_from`` and ``valid_until`` are the time in which both are valid, where a card says so: a file does not.
    """

    origin: Origin
    ed25519: NoteKey
    mldsa44: NoteKey
    valid_from: datetime | None = None
    valid_until: datetime | None = None

    def are_valid(self, moment: datetime) -> bool:
        """Whether both keys may speak at ``moment``, as far as it is known."""
        early = self.valid_from is not None and moment < self.valid_from
        return not early and (self.valid_until is None or moment < self.valid_until)


def log_keys(
    origin: Origin,
    ed25519_public: bytes,
    mldsa44_public: bytes,
    valid_from: datetime | None = None,
    valid_until: datetime | None = None,
) -> LogKeys:
    """Name two raw public keys after the log they sign for; what ``parse_log_keys`` reads from a file."""
    name = str(origin)
    return LogKeys(
        origin,
        NoteKey(name, KeyKind.ED25519, ed25519_public),
        NoteKey(name, KeyKind.MLDSA44, mldsa44_public),
        valid_from,
        valid_until,
    )


def encode_log_keys(keys: LogKeys) -> bytes:
    """The file ``log.vkey``: the Ed25519 key's line, then the ML-DSA-44 key's."""
    return f"{encode_vkey(keys.ed25519)}\n{encode_vkey(keys.mldsa44)}\n".encode()


def parse_log_keys(data: bytes) -> LogKeys:
    """The inverse of ``encode_log_keys``. Raises audit.bad_vkey, key.weak."""
    lines = data.decode("ascii", "replace").split("\n")
    if len(lines) != 3 or lines[2]:  # noqa: PLR2004 - two lines, and nothing after the second
        raise PeerError("audit.bad_vkey", "two lines are expected")
    ed25519, mldsa44 = parse_vkey(lines[0]), parse_vkey(lines[1])
    origin = _origin(ed25519.name)
    if origin is None or mldsa44.name != ed25519.name:
        raise PeerError("audit.bad_vkey", "both keys are named after one log")
    if (ed25519.kind, mldsa44.kind) != (KeyKind.ED25519, KeyKind.MLDSA44):
        raise PeerError("audit.bad_vkey", "an Ed25519 key, then an ML-DSA-44 key are expected")
    return LogKeys(origin, ed25519, mldsa44)


# -- signed notes ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line, not verified: key name, key id (4 bytes), and what that key's type made of the note."""

    name: str
    key_id: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class UnverifiedNote:
    """A signed note whose signatures nobody has looked at yet; ``body`` ends with a newline."""

    body: bytes
    signatures: tuple[NoteSignature, ...]


def parse_note(data: bytes) -> UnverifiedNote:
    """Split a C2SP signed note into its text and its 1 to 32 signatures. Raises audit.bad_checkpoint."""
    if len(data) > MAX_NOTE_BYTES:
        raise PeerError("audit.bad_checkpoint", "size of the note")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise PeerError("audit.bad_checkpoint", "not UTF-8") from None
    body, blank, block = text.rpartition("\n\n")
    lines = block.split("\n")
    if not blank or lines.pop() or any(c < " " and c != "\n" for c in text):
        raise PeerError("audit.bad_checkpoint", "form of the note")
    if not 0 < len(lines) <= MAX_NOTE_SIGNATURES:
        raise PeerError("audit.bad_checkpoint", "number of signatures")
    return UnverifiedNote(f"{body}\n".encode(), tuple(_signature_line(line) for line in lines))


def _signature_line(line: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not _is_name(name):
        raise PeerError("audit.bad_checkpoint", "signature line")
    try:
        data = parse_base64(encoded)
    except PeerError:
        raise PeerError("audit.bad_checkpoint", "signature line") from None
    if len(data) <= _KEY_ID_BYTES:
        raise PeerError("audit.bad_checkpoint", "signature line")
    return NoteSignature(name, data[:_KEY_ID_BYTES], data[_KEY_ID_BYTES:])


# -- checkpoints -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TreeHead:
    """What a checkpoint says: which log, how many leaves, which root."""

    origin: Origin
    size: int
    root: Hash


def checkpoint_body(head: TreeHead) -> bytes:
    """The note text: origin, size, root in base64, a line each. What the Ed25519 key signs."""
    return f"{head.origin}\n{head.size}\n{encode_base64(head.root)}\n".encode()


def _parse_body(body: bytes) -> TreeHead:
    lines = body.decode("utf-8").split("\n")
    if len(lines) != 4:  # noqa: PLR2004 - three lines, and nothing after the last newline
        raise PeerError("audit.bad_checkpoint", "three lines are expected")
    if not _SIZE.fullmatch(lines[1]) or (size := int(lines[1])) > MAX_SIZE:
        raise PeerError("audit.bad_checkpoint", "tree size")
    try:
        root = parse_base64(lines[2])
    except PeerError:
        raise PeerError("audit.bad_checkpoint", "root") from None
    if len(root) != HASH_BYTES:
        raise PeerError("audit.bad_checkpoint", "root")
    return TreeHead(parse_origin(lines[0]), size, Hash(root))


def cosigned_message(head: TreeHead, cosigner: str, timestamp: int) -> bytes:
    """What an ML-DSA-44 key signs, ``timestamp`` in seconds since 1970 (``cosigned_message`` of tlog-cosignature)."""
    name, origin = cosigner.encode("utf-8"), str(head.origin).encode("ascii")
    return b"".join(
        (
            _LABEL,
            bytes([len(name)]),
            name,
            timestamp.to_bytes(_TIMESTAMP_BYTES, "big"),
            bytes([len(origin)]),
            origin,
            bytes(8),  # the subtree signed starts at leaf 0
            head.size.to_bytes(8, "big"),
            head.root,
        )
    )


def timestamped(timestamp: int, signature: bytes) -> bytes:
    """A ``timestamped_signature``: eight bytes of seconds since 1970, then the signature."""
    return timestamp.to_bytes(_TIMESTAMP_BYTES, "big") + signature


def assemble_checkpoint(head: TreeHead, signatures: Sequence[tuple[NoteKey, bytes]]) -> bytes:
    """Write the note; each signature as its key's type has it (``timestamped`` for ML-DSA-44)."""
    lines = [f"{_DASH}{key.name} {encode_base64(key.id + value)}\n" for key, value in signatures]
    return checkpoint_body(head) + b"\n" + "".join(lines).encode()


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint:
    """A checkpoint that its log signed with both keys.

    ``signed`` is the time its log states; ``witnesses`` are the names of other known keys that cosigned it,
    each with the time it states; ``note`` is the note as received.
    """

    head: TreeHead
    signed: datetime
    witnesses: tuple[tuple[str, datetime], ...]
    note: bytes


def parse_checkpoint(data: bytes, log: LogKeys, witnesses: Sequence[NoteKey] = ()) -> VerifiedCheckpoint:
    """The gate for checkpoints: read a note and verify it with the log's two keys and those of known witnesses.

    ``witnesses`` are ML-DSA-44 keys. Raises audit.bad_checkpoint (form), audit.wrong_log (another origin),
    audit.bad_signature (a known key does not verify), audit.unsigned (one of the log's two is missing).
    """
    note = parse_note(data)
    head = _parse_body(note.body)
    if head.origin != log.origin:
        raise PeerError("audit.wrong_log", "origin")
    known = {(key.name, key.id): key for key in (*witnesses, log.ed25519, log.mldsa44)}
    times: dict[NoteKey, int] = {}
    for line in note.signatures:
        key = known.get((line.name, line.key_id))
        if key is None:
            continue
        if key in times:
            raise PeerError("audit.bad_checkpoint", "two signatures by one key")
        times[key] = _verify_line(key, line.value, head, note.body)
    if log.ed25519 not in times or log.mldsa44 not in times:
        raise PeerError("audit.unsigned", "checkpoint")
    cosigned = tuple((key.name, _moment(times[key])) for key in witnesses if key in times)
    return VerifiedCheckpoint(head, _moment(times[log.mldsa44]), cosigned, data)


def _moment(timestamp: int) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)


def _verify_line(key: NoteKey, value: bytes, head: TreeHead, body: bytes) -> int:
    """Verify one signature; the time it states, in seconds since 1970, or 0 where its type states none."""
    if key.kind is KeyKind.ED25519:
        timestamp = 0
        good = verify_ed25519(key.public, body, value)
    else:
        timestamp = int.from_bytes(value[:_TIMESTAMP_BYTES], "big")
        # Without a time it would not state that no larger tree was seen, which is what a checkpoint is for.
        good = 0 < timestamp <= MAX_TIMESTAMP and verify_mldsa44(
            key.public, cosigned_message(head, key.name, timestamp), value[_TIMESTAMP_BYTES:]
        )
    if not good:
        raise PeerError("audit.bad_signature", key.name)
    return timestamp
