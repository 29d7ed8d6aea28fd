"""Log entries and batches: one form for each entry, and no key without one."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.audit import (
    MAX_LEAF_BYTES,
    MAX_STEP_BACK,
    Event,
    Leaf,
    LogBatch,
    ReservedLeaf,
    advance,
    agreement_ref,
    commit_detail,
    encode_leaf,
    is_back_dated,
    needs_clock_step,
    parse_leaf,
)
from exchange.core.errors import IntegrityError, LocalError, PeerError
from exchange.core.merkle import Frontier, hash_leaf
from exchange.core.wire import AgreementId, Digest, NodeId
from tests.core.log_samples import NOW, sample_leaf

FULL = sample_leaf(0)
FULL_BYTES = (
    b'{"v":1,"seq":0,"time":"2026-11-23T00:27:37Z","event":"received","actor":"officer-7","peer":"th-fp1","subject":"'
    + sha256(b"subject 0").hexdigest().encode()
    + b'","agreement":"kh-th-referrals/3","clause":"2.1","code":"agreement.purpose","commitment":"'
    + sha256(b"detail 0").hexdigest().encode()
    + b'"}'
)

# -- entries ---------------------------------------------------------------------------------------


def hexadecimal(digits: int) -> st.SearchStrategy[Digest]:
    return st.text("0123456789abcdef", min_size=digits, max_size=digits).map(Digest)


leaves = st.builds(
    Leaf,
    st.integers(0, 10**15),
    st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)).map(  # noqa: DTZ001
        lambda moment: moment.replace(microsecond=0)
    ),
    st.sampled_from(Event),
    st.none() | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True),
    st.none() | st.from_regex(r"[a-z]{2}-[a-z0-9]{1,16}", fullmatch=True).map(NodeId),
    st.none() | hexadecimal(64),
    st.none() | st.from_regex(r"[a-z0-9][a-z0-9-]{0,63}/[1-9][0-9]{0,3}", fullmatch=True),
    st.none() | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.-]{0,31}", fullmatch=True),
    st.none() | st.from_regex(r"[a-z][a-z0-9_]{0,31}(\.[a-z][a-z0-9_]{0,31})?", fullmatch=True),
    st.none() | hexadecimal(64),
)


@given(leaves)
def test_entries_read_back(leaf: Leaf) -> None:
    """Every entry reads back from its bytes, which are compact JSON in a fixed order, and fit the bound."""
    data = encode_leaf(leaf)
    assert parse_leaf(data) == leaf
    assert len(data) <= MAX_LEAF_BYTES
    value = json.loads(data)
    assert json.dumps(value, separators=(",", ":")).encode() == data
    assert list(value) == ["v", *(name for name, held in dataclasses.asdict(leaf).items() if held is not None)]


def test_exact_bytes_of_an_entry() -> None:
    """An entry with every member has exactly these bytes."""
    assert encode_leaf(FULL) == FULL_BYTES
    assert parse_leaf(FULL_BYTES) == FULL


def test_smallest_entry() -> None:
    """Members that are absent are left out."""
    assert encode_leaf(sample_leaf(1)) == b'{"v":1,"seq":1,"time":"2026-11-23T00:27:38Z","event":"node_start"}'


def test_longest_entry_fits() -> None:
    """The longest entry that the grammar allows is within the bound."""
    leaf = Leaf(
        10**16 - 1,
        NOW,
        max(Event, key=len),
        "a" * 64,
        NodeId("kh-" + "a" * 16),
        FULL.subject,
        "a" * 64 + "/" + "9" * 4,
        "c" * 32,
        "a" * 32 + "." + "b" * 32,
        FULL.commitment,
    )
    assert parse_leaf(encode_leaf(leaf)) == leaf


def test_time_is_utc_in_whole_seconds() -> None:
    """A time in another zone or with a fraction is written in UTC and whole seconds."""
    phnom_penh = timezone(timedelta(hours=7))
    leaf = Leaf(0, NOW.astimezone(phnom_penh).replace(microsecond=999_999), Event.ALARM)
    assert parse_leaf(encode_leaf(leaf)).time == NOW


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"null",
        FULL_BYTES[:-1],
        FULL_BYTES + b"\n",
        b" " + FULL_BYTES,
        FULL_BYTES.replace(b'"v":1', b'"v":2'),
        FULL_BYTES.replace(b'"v":1,', b""),
        FULL_BYTES.replace(b'"seq":0', b'"seq":00'),
        FULL_BYTES.replace(b'"seq":0', b'"seq":-1'),
        FULL_BYTES.replace(b'"seq":0', b'"seq":"0"'),
        FULL_BYTES.replace(b'"seq":0', b'"seq": 0'),
        FULL_BYTES.replace(b'"seq":0', b'"seq":99999999999999999'),
        FULL_BYTES.replace(b"2026-11-23", b"2026-13-23"),
        FULL_BYTES.replace(b"2026-11-23", b"2026-02-30"),
        FULL_BYTES.replace(b"00:27:37Z", b"24:00:00Z"),
        FULL_BYTES.replace(b"00:27:37Z", b"00:27:60Z"),
        FULL_BYTES.replace(b"T00:27:37Z", b":00:27:37Z"),
        FULL_BYTES.replace(b"received", b"deceived"),
        FULL_BYTES.replace(b"received", b"RECEIVED"),
        FULL_BYTES.replace(b"officer-7", b""),
        FULL_BYTES.replace(b"officer-7", b"officer 7"),
        FULL_BYTES.replace(b"officer-7", b"officer\\u0037"),
        FULL_BYTES.replace(b"officer-7", "សុខា".encode()),
        FULL_BYTES.replace(b"officer-7", b"\xff"),
        FULL_BYTES.replace(b'"officer-7"', b"null"),
        FULL_BYTES.replace(b"th-fp1", b"TH-fp1"),
        FULL_BYTES.replace(b'","agreement', b'0","agreement'),
        FULL_BYTES.replace(b"/3", b"/0"),
        FULL_BYTES.replace(b"/3", b""),
        FULL_BYTES.replace(b'"2.1"', b'"../2"'),
        FULL_BYTES.replace(b"agreement.purpose", b"agreement.purpose.x"),
        FULL_BYTES.replace(b'"actor":"officer-7","peer":"th-fp1"', b'"peer":"th-fp1","actor":"officer-7"'),
        FULL_BYTES.replace(b"}", b',"note":"x"}'),
        FULL_BYTES.replace(b'"peer":"th-fp1"', b'"peer":"th-fp1","peer":"th-fp1"'),
        FULL_BYTES + b" " * MAX_LEAF_BYTES,
    ],
)
def test_bytes_that_are_no_entry(data: bytes) -> None:
    """Bytes in any other form than the one an entry has are refused."""
    assert data != FULL_BYTES
    with pytest.raises(PeerError, match=r"audit\.bad_leaf"):
        parse_leaf(data)


@given(st.binary(max_size=300))
def test_entries_from_nowhere(data: bytes) -> None:
    """Arbitrary bytes, alone or in the place of a value, are refused or are the very bytes of an entry."""
    for candidate in (data, FULL_BYTES.replace(b"officer-7", data)):
        try:
            leaf = parse_leaf(candidate)
        except PeerError as error:
            assert error.code == "audit.bad_leaf"  # noqa: PT017 - it may also be an entry
        else:
            assert encode_leaf(leaf) == candidate


@pytest.mark.parametrize(
    "change",
    [
        {"seq": -1},
        {"seq": 10**16},
        {"event": "deceived"},
        {"actor": ""},
        {"actor": "Sok Dara"},
        {"actor": 'a","peer":"kh-fp1', "peer": None},
        {"peer": "kh"},
        {"subject": "a" * 63},
        {"subject": "A" * 64},
        {"agreement": "kh-th"},
        {"clause": ""},
        {"code": "Accepted"},
        {"commitment": "x" * 64},
    ],
)
def test_entries_that_cannot_be_written(change: dict[str, object]) -> None:
    """A field that breaks the grammar, or that would read as two members, is a fault of the program."""
    with pytest.raises(ValueError, match="form"):
        encode_leaf(dataclasses.replace(FULL, **change))  # type: ignore[arg-type]


def test_agreement_reference() -> None:
    """An agreement is named by its id and version."""
    assert agreement_ref(AgreementId("kh-th-referrals"), 3) == FULL.agreement


def test_agreement_versions() -> None:
    """An entry names versions 1 to 9999 of an agreement, as agreements have them, and no other."""
    for version in ("1", "10", "9999"):
        leaf = dataclasses.replace(FULL, agreement=f"kh-th-referrals/{version}")
        assert parse_leaf(encode_leaf(leaf)) == leaf
    for version in ("0", "01", "10000", "-1", ""):
        with pytest.raises(ValueError, match="form"):
            encode_leaf(dataclasses.replace(FULL, agreement=f"kh-th-referrals/{version}"))
        with pytest.raises(PeerError, match=r"audit\.bad_leaf"):
            parse_leaf(FULL_BYTES.replace(b"referrals/3", f"referrals/{version}".encode()))


def test_protocol_names_every_event() -> None:
    """Section 9.1 lists each event once: in the table of this version, or as reserved."""
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    table = text.partition("The events of this version.")[2].partition("Reserved, and read")[0]
    reserved = text.partition("Reserved, and read like the others:")[2].partition(". A new event")[0]
    written = {name for row in table.splitlines()[3:] for name in re.findall("`([a-z_]+)`", row.split(" | ")[0])}
    kept_back = re.findall("`([a-z_]+)`", reserved)
    assert sorted([*written, *kept_back]) == sorted(Event)


def test_commitment() -> None:
    """A commitment is SHA-256 over salt and detail, and its salt has 32 bytes."""
    salt = bytes(range(32))
    assert commit_detail(salt, b"detail") == sha256(salt + b"detail").hexdigest()
    assert commit_detail(salt, b"detail") != commit_detail(bytes(32), b"detail")
    for wrong in (b"", salt[:-1], salt + b"d"):
        with pytest.raises(ValueError, match="32 bytes"):
            commit_detail(wrong, b"etail")


# -- time ------------------------------------------------------------------------------------------


def test_time_goes_back_a_little_only() -> None:
    """A step back of a minute passes, a second more needs a clock_step entry first."""
    minute = Leaf(1, NOW - MAX_STEP_BACK, Event.SENT)
    more = Leaf(1, NOW - MAX_STEP_BACK - timedelta(seconds=1), Event.SENT)
    assert not is_back_dated(NOW, minute)
    assert is_back_dated(NOW, more)
    assert not is_back_dated(NOW, dataclasses.replace(more, event=Event.CLOCK_STEP))
    assert not is_back_dated(None, more)
    assert needs_clock_step(NOW, more.time)
    assert not needs_clock_step(NOW, minute.time)
    assert not needs_clock_step(None, more.time)


def test_small_steps_add_up() -> None:
    """Many small steps back are noticed as one large step is, unless the clock was declared to have moved."""
    back = Leaf(1, NOW - timedelta(seconds=50), Event.SENT)
    assert advance(None, back) == back.time
    assert advance(NOW, back) == NOW
    assert advance(back.time, Leaf(2, NOW, Event.SENT)) == NOW
    assert advance(NOW, dataclasses.replace(back, event=Event.CLOCK_STEP)) == back.time


# -- batches ---------------------------------------------------------------------------------------


def refused(event: Event = Event.REFUSED, seq: int = 0) -> Leaf:
    return Leaf(seq, NOW, event)


def test_batch() -> None:
    """A batch gives the bytes of its entries in the order of their numbers, and the frontier after them."""
    before = Frontier().extend([hash_leaf(b"a"), hash_leaf(b"b"), hash_leaf(b"c")])
    batch = LogBatch(before)
    first = batch.reserve(Event.RECEIVED, Event.REFUSED)
    second = batch.reserve(Event.SEALED)
    batch.record(Leaf(batch.next_seq, NOW, Event.SENT))
    second.claim(Event.SEALED)
    batch.settle(second, Leaf(second.seq, NOW, Event.SEALED))
    first.claim(Event.RECEIVED)
    batch.settle(first, Leaf(first.seq, NOW, Event.REFUSED))
    closed = batch.close()
    entries = [parse_leaf(data) for data in closed.leaves]
    assert [(leaf.seq, leaf.event) for leaf in entries] == [(3, Event.REFUSED), (4, Event.SEALED), (5, Event.SENT)]
    assert closed.first == 3
    assert closed.latest == NOW
    assert closed.frontier == before.extend(map(hash_leaf, closed.leaves))


def test_empty_batch() -> None:
    """A batch without entries leaves the log as it was."""
    closed = LogBatch(Frontier(), NOW).close()
    assert (closed.leaves, closed.frontier, closed.latest) == ((), Frontier(), NOW)


def test_open_reservation_keeps_everything_back() -> None:
    """A batch with a reservation that has no entry gives nothing away, whether its key was used or not."""
    for claim in (False, True):
        batch = LogBatch(Frontier())
        batch.record(refused(seq=0))
        reserved = batch.reserve(Event.SEALED)
        if claim:
            reserved.claim(Event.SEALED)
        with pytest.raises(IntegrityError, match=r"audit\.unreserved.*entry 1"):
            batch.close()
        batch.settle(reserved, Leaf(1, NOW, Event.SEALED))
        assert len(batch.close().leaves) == 2


def test_a_reservation_serves_one_use() -> None:
    """A reservation cannot be claimed twice, for an event it does not name, or after its entry was written."""
    batch = LogBatch(Frontier())
    reserved = batch.reserve(Event.SEALED, Event.REFUSED)
    with pytest.raises(IntegrityError, match=r"audit\.unreserved"):
        reserved.claim(Event.OPENED)
    reserved.claim(Event.SEALED)
    with pytest.raises(IntegrityError, match=r"audit\.unreserved"):
        reserved.claim(Event.SEALED)
    late = batch.reserve(Event.SEALED)
    batch.settle(late, Leaf(late.seq, NOW, Event.SEALED))
    with pytest.raises(IntegrityError, match=r"audit\.unreserved"):
        late.claim(Event.SEALED)


def test_a_reservation_of_ones_own_making_is_none() -> None:
    """A reservation that no batch made can neither be claimed nor settled."""
    batch = LogBatch(Frontier())
    real = batch.reserve(Event.SEALED)
    for forged in (ReservedLeaf(batch, 0, frozenset(Event)), ReservedLeaf(batch, 1, frozenset(Event))):
        with pytest.raises(IntegrityError, match=r"audit\.unreserved"):
            forged.claim(Event.SEALED)
        with pytest.raises(IntegrityError, match=r"audit\.unreserved"):
            batch.settle(forged, Leaf(forged.seq, NOW, Event.SEALED))
    foreign = LogBatch(Frontier()).reserve(Event.SEALED)
    with pytest.raises(IntegrityError, match=r"audit\.unreserved"):
        batch.settle(foreign, Leaf(0, NOW, Event.SEALED))
    real.claim(Event.SEALED)
    batch.settle(real, Leaf(0, NOW, Event.SEALED))


def test_entry_must_be_the_reserved_one() -> None:
    """An entry with another number or event than was reserved is refused, and a second entry too."""
    batch = LogBatch(Frontier())
    reserved = batch.reserve(Event.RECEIVED, Event.REFUSED)
    for leaf in (refused(seq=1), refused(Event.SEALED)):
        with pytest.raises(IntegrityError, match=r"audit\.unreserved"):
            batch.settle(reserved, leaf)
    batch.settle(reserved, refused())
    with pytest.raises(IntegrityError, match=r"audit\.unreserved"):
        batch.settle(reserved, refused())
    with pytest.raises(IntegrityError, match=r"audit\.unreserved"):
        batch.record(refused(seq=0))


def test_closed_batch_takes_nothing_more() -> None:
    """A batch that was closed neither reserves nor records nor closes again."""
    batch = LogBatch(Frontier())
    batch.close()
    for late in (lambda: batch.reserve(Event.SEALED), lambda: batch.record(refused()), batch.close):
        with pytest.raises(IntegrityError, match=r"audit\.unreserved.*closed"):
            late()


def test_undeclared_step_of_the_clock_stops_the_batch() -> None:
    """Entries that go back in time are stored only after a clock_step entry."""
    earlier = NOW - timedelta(hours=2)
    batch = LogBatch(Frontier(), NOW)
    batch.record(Leaf(0, earlier, Event.SENT))
    with pytest.raises(LocalError, match=r"node\.clock.*entry 0"):
        batch.close()
    batch = LogBatch(Frontier(), NOW)
    batch.record(Leaf(0, earlier, Event.CLOCK_STEP))
    batch.record(Leaf(1, earlier, Event.SENT))
    assert batch.close().latest == earlier


def test_entry_that_cannot_be_written_keeps_the_batch_open() -> None:
    """A batch with an entry that breaks the grammar gives nothing away."""
    batch = LogBatch(Frontier())
    batch.record(Leaf(0, NOW, Event.SENT, actor="not a pseudonym"))
    for _ in range(2):
        with pytest.raises(ValueError, match="form"):
            batch.close()
