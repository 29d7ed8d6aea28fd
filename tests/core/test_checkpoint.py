"""Checkpoints and signed notes: which bytes count, and by whom they must be signed.

Length: one gate, with a row for each way not to pass it.
"""

from __future__ import annotations

import base64
import dataclasses
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.checkpoint import (
    MAX_NOTE_BYTES,
    KeyKind,
    NoteKey,
    Origin,
    TreeHead,
    assemble_checkpoint,
    checkpoint_body,
    cosigned_message,
    encode_log_keys,
    encode_vkey,
    log_keys,
    note_key_id,
    parse_checkpoint,
    parse_log_keys,
    parse_note,
    parse_origin,
    parse_vkey,
)
from exchange.core.errors import PeerError
from exchange.core.merkle import MAX_SIZE, Hash
from exchange.core.signatures import verify_ed25519
from exchange.core.wire import NetworkId, NodeId
from tests.core.log_samples import NOW, ORIGIN, STAMP, LogSigner, cosign, sample_entries, witness

# The example of C2SP signed-note, as published.
NOTE = (
    "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1E"
    "RYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()
NOTE_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"

LOG = LogSigner()
ENTRIES = sample_entries(5)
HEAD = LOG.head(ENTRIES)
CHECKPOINT = LOG.checkpoint(ENTRIES)


def code_of(data: bytes, **changes: object) -> str:
    with pytest.raises(PeerError) as caught:
        parse_checkpoint(data, **{"log": LOG.keys, **changes})  # type: ignore[arg-type]
    return caught.value.code


def test_example_of_signed_note() -> None:
    """The published example note verifies under the published verifier key."""
    key = parse_vkey(NOTE_VKEY)
    note = parse_note(NOTE)
    (signature,) = note.signatures
    assert (key.name, key.kind, key.id.hex()) == ("example.com/foo", KeyKind.ED25519, "530d903a")
    assert (signature.name, signature.key_id) == (key.name, key.id)
    assert note.body == b"This is an example message.\n"
    assert verify_ed25519(key.public, note.body, signature.value)
    assert encode_vkey(key) == NOTE_VKEY


def test_cosigned_message_byte_by_byte() -> None:
    """What ML-DSA-44 signs is the structure of tlog-cosignature, field after field."""
    root = Hash(bytes(range(32)))
    assert cosigned_message(TreeHead(ORIGIN, 258, root), "w.example/1", STAMP) == b"".join(
        [
            b"subtree/v1\n\0",
            b"\x0bw.example/1",
            bytes.fromhex("000000006a2399a9".replace("6a2399a9", f"{STAMP:08x}")),
            b"\x1ffocalpoint/asean-1/kh-fp1/log/1",
            bytes(8),
            b"\0\0\0\0\0\0\x01\x02",
            root,
        ]
    )


def test_checkpoint_text() -> None:
    """A checkpoint is origin, size and root, an empty line, and one line for each of the log's two keys."""
    lines = CHECKPOINT.decode().split("\n")
    assert lines[:4] == [
        "focalpoint/asean-1/kh-fp1/log/1",
        "5",
        base64.b64encode(HEAD.root).decode(),
        "",
    ]
    assert [line.split(" ")[:2] for line in lines[4:6]] == [["—", str(ORIGIN)]] * 2
    assert lines[6:] == [""]
    assert [len(base64.b64decode(line.split(" ")[2])) for line in lines[4:6]] == [4 + 64, 4 + 8 + 2420]


def test_checkpoint_reads_back() -> None:
    """A checkpoint signed by both keys tells its head and the time its log stated."""
    verified = parse_checkpoint(CHECKPOINT, LOG.keys)
    assert verified.head == HEAD
    assert verified.signed == NOW
    assert verified.witnesses == ()
    assert verified.note == CHECKPOINT


def test_empty_log() -> None:
    """The checkpoint of a log without entries reads back."""
    assert parse_checkpoint(LOG.checkpoint([]), LOG.keys).head.size == 0


def test_flipped_bits_of_a_checkpoint() -> None:
    """No bit of a checkpoint can change without being refused."""
    codes = set()
    for at in (*range(320), *range(320, len(CHECKPOINT) - 8, 16), *range(len(CHECKPOINT) - 8, len(CHECKPOINT))):
        codes.add(code_of(CHECKPOINT[:at] + bytes([CHECKPOINT[at] ^ 1 << at % 8]) + CHECKPOINT[at + 1 :]))
    assert codes == {"audit.bad_checkpoint", "audit.bad_signature", "audit.unsigned", "audit.wrong_log"}


def test_cut_checkpoint() -> None:
    """No beginning of a checkpoint passes for one."""
    for length in range(0, len(CHECKPOINT), 5):
        assert code_of(CHECKPOINT[:length]) in {"audit.bad_checkpoint", "audit.unsigned"}


def test_both_signatures_of_the_log_are_needed() -> None:
    """A checkpoint with one of the log's two signatures, or none, is refused."""
    ed25519, mldsa44 = LOG.by_ed25519(HEAD), LOG.by_mldsa44(HEAD)
    stranger = cosign(*witness("stranger.example"), HEAD)
    assert code_of(assemble_checkpoint(HEAD, [ed25519])) == "audit.unsigned"
    assert code_of(assemble_checkpoint(HEAD, [mldsa44])) == "audit.unsigned"
    assert code_of(assemble_checkpoint(HEAD, [stranger])) == "audit.unsigned"
    assert parse_checkpoint(assemble_checkpoint(HEAD, [mldsa44, stranger, ed25519]), LOG.keys).head == HEAD


def test_signature_of_another_head() -> None:
    """A signature over another size or root, by either key, is refused."""
    other = LOG.head(sample_entries(6))
    for pair in ([LOG.by_ed25519(other), LOG.by_mldsa44(HEAD)], [LOG.by_ed25519(HEAD), LOG.by_mldsa44(other)]):
        assert code_of(assemble_checkpoint(HEAD, pair)) == "audit.bad_signature"


def test_keys_of_another_log() -> None:
    """A checkpoint of another number, node or network is refused, also where the same keys signed it."""
    for origin in (
        Origin(ORIGIN.network, ORIGIN.node, 2),
        Origin(ORIGIN.network, NodeId("th-fp1")),
        Origin(NetworkId("training-asean"), ORIGIN.node),
    ):
        assert code_of(LogSigner(origin).checkpoint(ENTRIES)) == "audit.wrong_log"


def test_same_name_other_keys() -> None:
    """A checkpoint by unknown keys under the log's own name is unsigned."""
    assert code_of(LogSigner(seed=b"impostor").checkpoint(ENTRIES)) == "audit.unsigned"


@pytest.mark.parametrize("stamp", [0, 253_402_300_800, 2**63, 2**64 - 1])
def test_times_that_cannot_be(stamp: int) -> None:
    """A log's signature without a time, or with one that no calendar has, is refused."""
    data = assemble_checkpoint(HEAD, [LOG.by_ed25519(HEAD), LOG.by_mldsa44(HEAD, stamp)])
    assert code_of(data) == "audit.bad_signature"


def test_last_second_of_the_calendar() -> None:
    """The last time that can be written down is still read."""
    data = assemble_checkpoint(HEAD, [LOG.by_ed25519(HEAD), LOG.by_mldsa44(HEAD, 253_402_300_799)])
    assert parse_checkpoint(data, LOG.keys).signed.year == 9999


def test_time_is_signed() -> None:
    """The stated time cannot be changed without the key."""
    key, value = LOG.by_mldsa44(HEAD)
    later = (STAMP + 1).to_bytes(8, "big") + value[8:]
    assert code_of(assemble_checkpoint(HEAD, [LOG.by_ed25519(HEAD), (key, later)])) == "audit.bad_signature"


def test_witnesses() -> None:
    """A known witness is named with its time, an unknown one ignored, and a known one that fails refuses the note."""
    own = [LOG.by_ed25519(HEAD), LOG.by_mldsa44(HEAD)]
    secret, known = witness("lao.example/witness")
    stranger = cosign(*witness("stranger.example"), HEAD)
    data = assemble_checkpoint(HEAD, [*own, cosign(secret, known, HEAD, STAMP + 9), stranger])
    verified = parse_checkpoint(data, LOG.keys, [known])
    assert [(name, int(time.timestamp())) for name, time in verified.witnesses] == [(known.name, STAMP + 9)]
    assert parse_checkpoint(data, LOG.keys).witnesses == ()
    assert parse_checkpoint(LOG.checkpoint(ENTRIES), LOG.keys, [known]).witnesses == ()
    bad = assemble_checkpoint(HEAD, [*own, cosign(secret, known, LOG.head([]))])
    assert parse_checkpoint(bad, LOG.keys).witnesses == ()
    assert code_of(bad, witnesses=[known]) == "audit.bad_signature"


def test_cosignature_in_another_name() -> None:
    """A witness's signature does not count under another name, even with the key id that belongs to it."""
    secret, known = witness("lao.example/witness")
    alias = NoteKey("vietnam.example", KeyKind.MLDSA44, known.public)
    own = [LOG.by_ed25519(HEAD), LOG.by_mldsa44(HEAD)]
    value = cosign(secret, known, HEAD)[1]
    assert code_of(assemble_checkpoint(HEAD, [*own, (alias, value)]), witnesses=[alias]) == "audit.bad_signature"


def test_two_signatures_by_one_key() -> None:
    """A known key that signs twice is refused, because which of its times counts is open."""
    data = assemble_checkpoint(HEAD, [LOG.by_ed25519(HEAD), LOG.by_mldsa44(HEAD), LOG.by_mldsa44(HEAD, STAMP + 1)])
    assert code_of(data) == "audit.bad_checkpoint"


def with_body(body: str) -> bytes:
    """A note over any text, properly signed with Ed25519, so that only the text can be at fault."""
    name, key_id = str(ORIGIN), LOG.keys.ed25519.id
    line = base64.b64encode(key_id + LOG.ed25519.sign(body.encode())).decode()
    return f"{body}\n— {name} {line}\n".encode()


@pytest.mark.parametrize(
    "body",
    [
        "",
        "\n",
        f"{ORIGIN}\n5\n",
        f"{ORIGIN}\n5\nroot\nextension\n",
        f"{ORIGIN}\n05\nroot\n",
        f"{ORIGIN}\n+5\nroot\n",
        f"{ORIGIN}\n-1\nroot\n",
        f"{ORIGIN}\n٥\nroot\n",
        f"{ORIGIN}\n5 \nroot\n",
        f"{ORIGIN}\n{MAX_SIZE + 1}\nroot\n",
        f"{ORIGIN}\n5\n???\n",
        f"{ORIGIN}\n5\nAAAA\n",
        f"{ORIGIN}\n5\n{base64.b64encode(bytes(33)).decode()}\n",
        "focalpoint/asean-1/kh-fp1/log/0\n5\nroot\n",
        "focalpoint/asean-1/kh-fp1/log/01\n5\nroot\n",
        "focalpoint/Asean/kh-fp1/log/1\n5\nroot\n",
        "focalpoint/asean-1/kh/log/1\n5\nroot\n",
        " focalpoint/asean-1/kh-fp1/log/1\n5\nroot\n",
        "example.com/behind-the-sofa\n5\nroot\n",
    ],
)
def test_bodies_that_are_no_checkpoint(body: str) -> None:
    """A text that is not exactly origin, size and root is refused, however well it is signed."""
    good = base64.b64encode(HEAD.root).decode()
    assert code_of(with_body(body.replace("root", good))) == "audit.bad_checkpoint"


BODY = checkpoint_body(HEAD).decode()
LINE = CHECKPOINT.decode().split("\n")[4]


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n\n",
        BODY.encode(),
        f"{BODY}\n".encode(),
        f"{BODY}\n\n".encode(),
        f"{BODY}\n{LINE}".encode(),
        f"{BODY}\n{LINE}\r\n".encode(),
        f"{BODY}\n{LINE}\n{LINE}\n\0\n".encode(),
        f"tab\t\n\n{LINE}\n".encode(),
        f"escape\x1b[2J\n\n{LINE}\n".encode(),
        f"{BODY}\n{LINE[1:]}\n".encode(),
        f"{BODY}\n{LINE[2:]}\n".encode(),
        f"{BODY}\n-{LINE[1:]}\n".encode(),
        f"{BODY}\n— {ORIGIN}\n".encode(),
        f"{BODY}\n— {ORIGIN} \n".encode(),
        f"{BODY}\n—  AAAAAAAA\n".encode(),
        f"{BODY}\n— a+b AAAAAAAA\n".encode(),
        f"{BODY}\n— a\u00a0b AAAAAAAA\n".encode(),
        f"{BODY}\n— {'n' * 256} AAAAAAAA\n".encode(),
        f"{BODY}\n— a AAAAAAA\n".encode(),
        f"{BODY}\n— a AAAAAB==\n".encode(),
        f"{BODY}\n— a AAAAAA==\n".encode(),
        f"{BODY}\n{LINE}\n".encode() + b"\xff\n",
        f"{BODY}\n{LINE} \n".encode(),
        f"{BODY}\n".encode() + b"\n".join([LINE.encode()] * 33) + b"\n",
        f"{BODY}\n".encode() + b"\xe2\x80\x94 a " + base64.b64encode(bytes(MAX_NOTE_BYTES)) + b"\n",
    ],
)
def test_bytes_that_are_no_note(note: bytes) -> None:
    """Bytes that are not a signed note in its one form are refused."""
    with pytest.raises(PeerError, match=r"audit\.bad_checkpoint"):
        parse_note(note)


def test_largest_note_and_largest_log() -> None:
    """A note of the largest size and a log of the largest size are read, a byte or an entry more is not."""
    start = f"{LINE}\n".encode()
    room = MAX_NOTE_BYTES - len(start) - 1
    assert parse_note(b"x" * (room - 1) + b"\n\n" + start).body == b"x" * (room - 1) + b"\n"
    with pytest.raises(PeerError, match=r"audit\.bad_checkpoint"):
        parse_note(b"x" * room + b"\n\n" + start)
    largest = TreeHead(ORIGIN, MAX_SIZE, HEAD.root)
    data = assemble_checkpoint(largest, [LOG.by_ed25519(largest), LOG.by_mldsa44(largest)])
    assert parse_checkpoint(data, LOG.keys).head == largest


def test_32_signatures() -> None:
    """A note with 32 signatures is read."""
    assert len(parse_note((f"{BODY}\n" + f"{LINE}\n" * 32).encode()).signatures) == 32


@given(st.binary(max_size=200))
def test_notes_from_nowhere(data: bytes) -> None:
    """Arbitrary bytes are refused and nothing else happens."""
    for note in (data, checkpoint_body(HEAD) + b"\n\xe2\x80\x94 a " + data + b"\n"):
        try:
            parse_note(note)
        except PeerError as error:
            assert error.code == "audit.bad_checkpoint"  # noqa: PT017 - a note may also be read


@pytest.mark.parametrize("key", [LOG.keys.ed25519, LOG.keys.mldsa44, witness("a.example/with-dash_1")[1]])
def test_vkeys_read_back(key: NoteKey) -> None:
    """A verifier key reads back from its text."""
    text = encode_vkey(key)
    assert parse_vkey(text) == key
    assert text.split("+")[1] == sha256(f"{key.name}\n".encode() + bytes([key.kind]) + key.public).hexdigest()[:8]


def test_key_id_depends_on_all_of_it() -> None:
    """The same public key has another id under another name or type."""
    ids = {
        note_key_id(name, kind, public)
        for name in ("a", "b")
        for kind in KeyKind
        for public in (bytes(32), bytes([1] * 32))
    }
    assert len(ids) == 8


def vkey_of(name: str, material: bytes) -> str:
    key_id = sha256(name.encode() + b"\n" + material).hexdigest()[:8]
    return f"{name}+{key_id}+{base64.b64encode(material).decode()}"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "audit.bad_vkey"),
        ("name", "audit.bad_vkey"),
        ("name+530d903a", "audit.bad_vkey"),
        (NOTE_VKEY[:-1], "audit.bad_vkey"),
        (NOTE_VKEY + "\n", "audit.bad_vkey"),
        (NOTE_VKEY.replace("530d903a", "530D903A"), "audit.bad_vkey"),
        (NOTE_VKEY.replace("530d903a", "530d903b"), "audit.bad_vkey"),
        (NOTE_VKEY.replace("foo", "bar"), "audit.bad_vkey"),
        (vkey_of("", b"\x01" + LOG.ed25519.public), "audit.bad_vkey"),
        (vkey_of("a\x01b", b"\x01" + LOG.ed25519.public), "audit.bad_vkey"),
        (vkey_of("a b", b"\x01" + LOG.ed25519.public), "audit.bad_vkey"),
        (vkey_of("а.example", b"\x01" + LOG.ed25519.public), "audit.bad_vkey"),
        (vkey_of("n" * 256, b"\x01" + LOG.ed25519.public), "audit.bad_vkey"),
        (vkey_of("n", b"\x04" + LOG.ed25519.public), "audit.bad_vkey"),
        (vkey_of("n", b"\x06" + LOG.ed25519.public), "audit.bad_vkey"),
        (vkey_of("n", b"\x01" + LOG.ed25519.public + b"\0"), "audit.bad_vkey"),
        (vkey_of("n", b""), "audit.bad_vkey"),
        (vkey_of("n", b"\x06" + bytes(2000)), "audit.bad_vkey"),
        (vkey_of("n", b"\x01" + bytes(32)), "key.weak"),
    ],
)
def test_vkeys_that_are_none(text: str, code: str) -> None:
    """A verifier key in another form, of another type or length, with a wrong id or a weak point is refused."""
    with pytest.raises(PeerError) as caught:
        parse_vkey(text)
    assert caught.value.code == code


def test_vkey_with_plus_in_its_base64() -> None:
    """A plus inside the base64 part does not end it."""
    seed = next(n for n in range(99) if "+" in encode_vkey(LogSigner(seed=bytes([n])).keys.ed25519).split("+", 2)[2])
    key = LogSigner(seed=bytes([seed])).keys.ed25519
    assert parse_vkey(encode_vkey(key)) == key


def test_log_keys_read_back() -> None:
    """The file of a log's two keys reads back, and tells the origin."""
    assert parse_log_keys(encode_log_keys(LOG.keys)) == LOG.keys
    assert LOG.keys.origin == ORIGIN


def test_log_key_files_that_are_none() -> None:
    """A key file with other than an Ed25519 and an ML-DSA-44 key of one log, in this order, is refused."""
    ed25519, mldsa44 = (encode_vkey(key) for key in (LOG.keys.ed25519, LOG.keys.mldsa44))
    other = encode_vkey(LogSigner(Origin(ORIGIN.network, ORIGIN.node, 2)).keys.mldsa44)
    foreign = log_keys(ORIGIN, LOG.ed25519.public, LOG.keys.mldsa44.public)
    foreign_keys = [dataclasses.replace(key, name="example.com/log") for key in (foreign.ed25519, foreign.mldsa44)]
    for text in (
        "",
        ed25519,
        f"{ed25519}\n",
        f"{ed25519}\n{mldsa44}",
        f"{ed25519}\n{mldsa44}\n\n",
        f"{ed25519}\r\n{mldsa44}\r\n",
        f"{mldsa44}\n{ed25519}\n",
        f"{ed25519}\n{ed25519}\n",
        f"{ed25519}\n{other}\n",
        f"{ed25519}\n{mldsa44}\n{other}\n",
        "".join(f"{encode_vkey(key)}\n" for key in foreign_keys),
        f"{ed25519}é\n{mldsa44}\n",
    ):
        with pytest.raises(PeerError, match=r"audit\.bad_vkey"):
            parse_log_keys(text.encode())


def test_origin() -> None:
    """An origin reads back from its line and knows a training network."""
    for text in ("focalpoint/asean-1/kh-fp1/log/1", "focalpoint/training-x/th-fp2/log/999999999"):
        origin = parse_origin(text)
        assert str(origin) == text
        assert origin.is_training == ("training" in text)
