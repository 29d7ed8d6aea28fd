"""The auditor's pack: what it holds, and how each way of tampering shows."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from exchange.core.audit import Event, Leaf, encode_leaf
from exchange.core.auditpack import MAX_FINDINGS, NO_WITNESSES, Report, export_files, verify_pack
from exchange.core.checkpoint import LogKeys, Origin, encode_log_keys
from exchange.core.errors import CODES, IntegrityError, PeerError
from exchange.core.wire import NetworkId
from tests.core.log_samples import NOW, ORIGIN, LogSigner, sample_entries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

LOG = LogSigner()
SMALL = sample_entries(5)
LATER = NOW + timedelta(days=1)


class Pack(dict[str, bytes]):
    """The files of an export in memory."""

    @classmethod
    def of(cls, entries: Sequence[bytes], signer: LogSigner = LOG) -> Pack:
        return cls(export_files(signer.checkpoint(entries), signer.keys, entries))

    def read(self, path: str, limit: int) -> bytes:
        if path not in self:
            raise PeerError("audit.missing", path)
        return self[path][: limit + 1]

    def verify(self, card_keys: LogKeys | None = None, now: datetime = LATER) -> Report:
        return verify_pack(self.read, sorted(self), now=now, card_keys=card_keys)

    def codes(self, card_keys: LogKeys | None = None) -> list[str]:
        return [finding.code for finding in self.verify(card_keys).findings]


def test_what_a_pack_holds() -> None:
    """A pack is the C2SP layout, the log's keys, the witness policy and the index, the checkpoint last."""
    assert list(Pack.of(SMALL)) == [
        "tile/0/000.p/5",
        "tile/entries/000.p/5",
        "witness-policy",
        "log.vkey",
        "index.json",
        "checkpoint",
    ]


def test_index() -> None:
    """The index tells network, node, size, root, time and the number of events of each kind."""
    pack = Pack.of(SMALL)
    index = json.loads(pack["index.json"])
    assert index == {
        "v": 1,
        "network": "asean-1",
        "training": False,
        "node": "kh-fp1",
        "origin": str(ORIGIN),
        "size": 5,
        "root": LOG.head(SMALL).root.hex(),
        "signed": "2026-11-23T00:27:37Z",
        "events": {"node_start": 2, "received": 2, "sealed": 1},
        "witness_policy": sha256(b"quorum none\n").hexdigest(),
    }
    assert pack["witness-policy"] == NO_WITNESSES == b"quorum none\n"


@pytest.mark.parametrize("size", [0, 1, 256, 600])
def test_untouched_pack(size: int) -> None:
    """An untouched pack has no findings; its report counts entries and events and names the times."""
    entries = sample_entries(size)
    seen: list[tuple[int, int]] = []
    pack = Pack.of(entries)
    report = verify_pack(
        pack.read, sorted(pack), now=LATER, card_keys=LOG.keys, progress=lambda done, of: seen.append((done, of))
    )
    assert report.ok
    assert report.checkpoint is not None
    assert report.checkpoint.head == LOG.head(entries)
    assert report.entries == size == sum(report.events.values())
    assert seen == [(min(at + 256, size), size) for at in range(0, size, 256)]
    assert (report.first, report.latest) == ((NOW, NOW + timedelta(seconds=size - 1)) if size else (None, None))


def test_entries_after_the_checkpoint_are_left_out() -> None:
    """A log that has grown since its checkpoint is exported up to the checkpoint."""
    checkpoint = LOG.checkpoint(SMALL)
    longer = export_files(checkpoint, LOG.keys, iter(sample_entries(9)))
    assert list(longer) == list(export_files(checkpoint, LOG.keys, SMALL))


def test_export_that_does_not_give_the_signed_root() -> None:
    """A store whose entries, number of entries or checkpoint disagree with each other is not exported."""
    checkpoint = LOG.checkpoint(SMALL)
    altered = [*SMALL[:2], SMALL[2].replace(b"accepted", b"rejected"), *SMALL[3:]]
    for note, keys, entries in (
        (checkpoint, LOG.keys, altered),
        (checkpoint, LOG.keys, SMALL[:4]),
        (checkpoint, LOG.keys, []),
        (checkpoint, LogSigner(seed=b"other").keys, SMALL),
        (b"", LOG.keys, SMALL),
    ):
        with pytest.raises(IntegrityError, match=r"store\.log_mismatch"):
            list(export_files(note, keys, entries))


@pytest.mark.slow
def test_every_flipped_byte_is_found() -> None:
    """No byte of any file of a pack can change unnoticed."""
    pack = Pack.of(SMALL)
    found: dict[str, set[str]] = {}
    for path, content in dict(pack).items():
        for at in range(len(content)):
            pack[path] = content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]
            codes = pack.codes()
            assert codes, f"{path}, byte {at}"
            found.setdefault(path, set()).update(codes)
        pack[path] = content
    assert found == {
        "checkpoint": {"audit.bad_checkpoint", "audit.bad_signature", "audit.unsigned", "audit.wrong_log"},
        "log.vkey": {"audit.bad_vkey"},
        "tile/0/000.p/5": {"audit.root"},
        "tile/entries/000.p/5": {"audit.altered", "audit.bad_tile"},
        "index.json": {"audit.index"},
        "witness-policy": {"audit.bad_policy"},
    }


@pytest.mark.parametrize(
    "policy", [b"", b"quorum none", b"quorum none\n\n", b"quorum any\n", b"witness w1 x\nquorum w1\n"]
)
def test_witness_policy_has_one_form(policy: bytes) -> None:
    """Another witness policy is refused also where the index was made to name it."""
    pack = Pack.of(SMALL)
    honest, forged = (sha256(held).hexdigest().encode() for held in (NO_WITNESSES, policy))
    pack |= {"witness-policy": policy}
    (finding,) = pack.verify().findings
    assert (finding.code, finding.where) == ("audit.bad_policy", "witness-policy")
    pack["index.json"] = pack["index.json"].replace(honest, forged)
    assert pack.codes() == ["audit.bad_policy", "audit.index"]


def test_missing_cut_grown_and_swapped_files() -> None:
    """A file that is missing, cut, longer, or in the place of another is found, whichever it is."""
    good = Pack.of(sample_entries(300))
    for path, content in good.items():
        others = [other for other in good if other != path]
        assert Pack({other: good[other] for other in others}).codes() == ["audit.missing"], path
        for changed in (b"", content[:-1], content[: len(content) // 2], content + b"\n", *map(good.get, others)):
            assert changed is not None
            assert Pack({**good, path: changed}).codes(), path
        for other in others:
            assert Pack({**good, path: good[other], other: content}).codes(), (path, other)


def resigned(change: Callable[[list[bytes]], list[bytes]], size: int = 300) -> Pack:
    """A pack whose log was rewritten by somebody who holds the log's keys."""
    return Pack.of(change(sample_entries(size)))


def test_entry_altered_after_signing() -> None:
    """An entry altered in the bundle is named by its number."""
    pack = Pack.of(sample_entries(300))
    pack["tile/entries/001.p/44"] = pack["tile/entries/001.p/44"].replace(b"accepted", b"rejected", 1)
    (finding,) = pack.verify().findings
    assert (finding.code, finding.where) == ("audit.altered", "entry 257")


def test_entries_out_of_place() -> None:
    """Entries that were logged without one, twice, or in another order do not carry the numbers of their places."""
    for change in (
        lambda entries: entries[:7] + entries[8:],
        lambda entries: [*entries[:7], entries[6], *entries[8:]],
        lambda entries: [*entries[:7], entries[8], entries[7], *entries[9:]],
    ):
        assert "audit.order" in resigned(change).codes()


def test_back_dated_entry() -> None:
    """An entry older than the ones before it by more than a minute is found, unless the clock's step was declared."""
    old = NOW - timedelta(days=3)

    def dated(event: Event) -> Callable[[list[bytes]], list[bytes]]:
        return lambda entries: [*entries[:-1], encode_leaf(Leaf(299, old, event))]

    (finding,) = resigned(dated(Event.SENT)).verify().findings
    assert (finding.code, finding.where) == ("audit.back_dated", "entry 299")
    assert resigned(dated(Event.CLOCK_STEP)).codes() == []


def signed_at(moment: datetime, entries: Sequence[bytes] = SMALL) -> Pack:
    """A pack whose checkpoint carries that time."""
    return Pack(export_files(LOG.checkpoint(entries, int(moment.timestamp())), LOG.keys, entries))


def test_checkpoint_dated_before_its_entries() -> None:
    """A checkpoint is dated a minute before its newest entry at most: what it covers was there."""
    newest = NOW + timedelta(seconds=4)
    assert signed_at(newest - timedelta(seconds=60)).codes() == []
    (finding,) = signed_at(newest - timedelta(seconds=61)).verify().findings
    assert (finding.code, finding.where) == ("audit.signed_early", "checkpoint")
    assert signed_at(NOW - timedelta(days=400), []).codes() == []


def test_checkpoint_after_the_clock_was_set_back() -> None:
    """Where the log declares that its clock went back, the newest entry counts, and the report says how often."""
    back = NOW - timedelta(days=3)
    entries = [*SMALL, encode_leaf(Leaf(5, back, Event.CLOCK_STEP)), encode_leaf(Leaf(6, back, Event.CLOCK_STEP))]
    report = signed_at(back, entries).verify()
    assert report.ok
    assert (report.to_json()["clock_steps"], report.to_json()["log_restarts"]) == (2, 0)
    assert any("clock_step" in note for note in report.notes)
    assert not any("clock_step" in note for note in Pack.of(SMALL).verify().notes)
    assert signed_at(back - timedelta(seconds=61), entries).codes() == ["audit.signed_early"]


def test_checkpoint_dated_in_the_future() -> None:
    """A checkpoint is at most a quarter of an hour ahead of the reader's clock."""
    pack = signed_at(LATER + timedelta(minutes=15))
    assert pack.codes() == []
    (finding,) = pack.verify(now=LATER - timedelta(seconds=1)).findings
    assert (finding.code, finding.where) == ("audit.signed_ahead", "checkpoint")


def test_checkpoint_outside_the_keys_dates() -> None:
    """A checkpoint is dated within the validity that the card gives its log keys; a folder alone gives none."""
    until = NOW + timedelta(hours=1)
    keys = dataclasses.replace(LOG.keys, valid_from=NOW, valid_until=until)
    for moment, expected in (
        (NOW, []),
        (until - timedelta(seconds=1), []),
        (NOW - timedelta(seconds=1), ["audit.key_expired"]),
        (until, ["audit.key_expired"]),
    ):
        assert signed_at(moment).codes(keys) == expected
        assert signed_at(moment).codes() == []


def test_malformed_entry() -> None:
    """Bytes that are no entry are found in a log that was signed with them, and the rest is still read."""
    report = resigned(lambda entries: [*entries[:9], b'{"v":9}', *entries[10:]]).verify()
    assert [(finding.code, finding.where) for finding in report.findings] == [("audit.bad_leaf", "entry 9")]
    assert report.entries == 300
    assert sum(report.events.values()) == 299


def test_a_log_that_is_wrong_throughout() -> None:
    """Of many findings the first hundred are listed and all are counted."""
    report = resigned(lambda entries: entries[1:]).verify()
    assert len(report.findings) == MAX_FINDINGS
    assert report.total == 299


def test_shorter_log_under_its_own_checkpoint() -> None:
    """A log cut back together with a checkpoint of its earlier days verifies: only who knows a later one can tell."""
    assert Pack.of(sample_entries(4)).codes(LOG.keys) == []


def test_keys_from_the_folder_or_from_the_card() -> None:
    """A pack made anew with other keys vouches for itself, and the keys of the card expose it."""
    forged = Pack.of(SMALL, LogSigner(seed=b"impostor"))
    assert forged.codes() == []
    assert forged.codes(LOG.keys) == ["audit.wrong_key", "audit.unsigned"]
    assert "key taken from the folder: compare log.vkey with the node's card" in forged.verify().notes
    assert not any("folder" in note for note in Pack.of(SMALL).verify(LOG.keys).notes)


def test_foreign_key_file_beside_an_honest_log() -> None:
    """With the keys of the card a log is read to its end, although the key file beside it is another log's."""
    pack = Pack.of(SMALL)
    pack["log.vkey"] = encode_log_keys(LogSigner(seed=b"impostor").keys)
    report = pack.verify(LOG.keys)
    assert [finding.code for finding in report.findings] == ["audit.wrong_key"]
    assert report.entries == 5


def test_log_of_another_number() -> None:
    """A pack of the node's former log is not taken for the present one."""
    former = LogSigner(dataclasses.replace(ORIGIN, number=2))
    assert Pack.of(SMALL, former).codes(LOG.keys) == ["audit.wrong_key", "audit.wrong_log"]


def test_training_network_says_so() -> None:
    """The report and the index of a training network are marked."""
    pack = Pack.of(SMALL, LogSigner(Origin(NetworkId("training-x"), ORIGIN.node)))
    assert json.loads(pack["index.json"])["training"] is True
    assert pack.verify().to_json()["training"] is True
    assert "training network: nothing in this log is real" in pack.verify().notes
    assert not any("training" in note for note in Pack.of(SMALL).verify().notes)


def test_files_that_are_no_part_of_the_log() -> None:
    """Whatever lies in the folder and is not of the export is a finding, by a name that is safe to show."""
    pack = Pack.of(SMALL)
    strays = ("\x1b[2J", "README", "a" * 90, "index.json2", "tile", "tile/0/000.p/4", "tile/entries/001", "\u202efdp")
    pack |= dict.fromkeys(strays, b"")
    findings = pack.verify().findings
    assert {finding.code for finding in findings} == {"audit.unlisted"}
    assert [finding.where for finding in findings] == [
        "\\x1b[2J",
        "README",
        "a" * 77 + "...",
        "index.json2",
        "tile",
        "tile/0/000.p/4",
        "tile/entries/001",
        "\\u202efdp",
    ]


def test_folder_that_is_no_export() -> None:
    """A folder without a checkpoint is no export, and what else lies there is not listed."""
    assert Pack({"notes.txt": b""}).codes() == ["audit.missing"]


def test_many_stray_files() -> None:
    """Of many stray files the first hundred are listed and all are counted."""
    pack = Pack.of(SMALL)
    pack |= {f"stray-{number}": b"" for number in range(150)}
    report = pack.verify()
    assert (len(report.findings), report.total) == (MAX_FINDINGS, 150)


def test_report_as_json() -> None:
    """The report is plain JSON with every finding's code, place, meaning and remedy."""
    good: dict[str, Any] = json.loads(json.dumps(Pack.of(SMALL).verify(LOG.keys).to_json()))
    assert good["ok"] is True
    assert (good["network"], good["node"], good["origin"]) == ("asean-1", "kh-fp1", str(ORIGIN))
    assert (good["size"], good["entries"], good["root"]) == (5, 5, LOG.head(SMALL).root.hex())
    assert (good["signed"], good["first"], good["latest"]) == (
        "2026-11-23T00:27:37Z",
        "2026-11-23T00:27:37Z",
        "2026-11-23T00:27:41Z",
    )
    assert (good["key_from"], good["findings"], good["findings_total"]) == ("card", [], 0)
    bad: dict[str, Any] = json.loads(json.dumps(Pack().verify().to_json()))
    assert bad["ok"] is False
    assert (bad["network"], bad["origin"], bad["size"], bad["signed"], bad["latest"]) == (None,) * 5
    row = CODES["audit.missing"]
    assert bad["findings"] == [{"code": "audit.missing", "where": "log.vkey", "what": row.what, "remedy": row.remedy}]
    assert bad["key_from"] == "folder"
