"""The export folder on disk: whole or absent, and checked without trusting it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from exchange.adapters.audit_folder import folder_reader, verify_export, write_export
from exchange.core.errors import IntegrityError, LocalError, PeerError
from exchange.core.merkle import hash_leaf, prove_inclusion, verify_inclusion
from exchange.core.tiles import tile_nodes
from tests.core.log_samples import LogSigner, sample_entries

if TYPE_CHECKING:
    from pathlib import Path

LOG = LogSigner()
ENTRIES = sample_entries(300)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    write_export(folder, checkpoint=LOG.checkpoint(ENTRIES), entries=iter(ENTRIES), keys=LOG.keys)
    return folder


def codes(folder: Path) -> list[str]:
    return [finding.code for finding in verify_export(folder).findings]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_export_and_check(export: Path) -> None:
    """A written export has the C2SP layout, lies alone in its place, is the owner's only, and has no findings."""
    assert [path.relative_to(export).as_posix() for path in files(export)] == [
        "checkpoint",
        "index.json",
        "log.vkey",
        "tile/0/000",
        "tile/0/001.p/44",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/44",
        "witness-policy",
    ]
    assert list(export.parent.iterdir()) == [export]
    assert stat.S_IMODE(export.stat().st_mode) == 0o700
    seen = []
    report = verify_export(export, card_keys=LOG.keys, progress=lambda done, total: seen.append((done, total)))
    assert report.ok
    assert report.entries == 300
    assert seen == [(256, 300), (300, 300)]


def test_proof_from_the_folder(export: Path) -> None:
    """An entry is proved from the exported tiles."""
    proof = prove_inclusion(77, 300, tile_nodes(folder_reader(export), 300))
    verify_inclusion(hash_leaf(ENTRIES[77]), 77, 300, proof, LOG.head(ENTRIES).root)


def test_an_existing_folder_is_left_alone(export: Path, tmp_path: Path) -> None:
    """A folder that exists is not written to, nor is an empty one, a file or a dangling link."""
    before = {path: path.read_bytes() for path in files(export)}
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("export", "empty", "file", "link"):
        with pytest.raises(LocalError, match=r"input\.exists"):
            write_export(tmp_path / name, checkpoint=LOG.checkpoint([]), entries=[], keys=LOG.keys)
    assert {path: path.read_bytes() for path in files(export)} == before
    assert list((tmp_path / "empty").iterdir()) == []
    assert (tmp_path / "file").read_text() == "kept"


def test_no_folder_above(tmp_path: Path) -> None:
    """An export into a folder that does not exist is refused."""
    (tmp_path / "file").write_text("")
    for above in ("missing", "file"):
        with pytest.raises(LocalError, match=r"input\.not_found"):
            write_export(tmp_path / above / "export", checkpoint=b"", entries=[], keys=LOG.keys)


def test_failed_export_leaves_nothing(tmp_path: Path) -> None:
    """An export whose entries do not give the signed root, or break off, leaves no trace."""

    def broken() -> object:
        yield ENTRIES[0]
        raise IntegrityError("store.corrupt", "entry 1")

    for entries, code in ((ENTRIES[:299], "store.log_mismatch"), (broken(), "store.corrupt")):
        with pytest.raises(IntegrityError) as caught:
            write_export(
                tmp_path / "export",
                checkpoint=LOG.checkpoint(ENTRIES),
                entries=entries,  # type: ignore[arg-type]
                keys=LOG.keys,
            )
        assert caught.value.code == code
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["tempfile.mkdtemp", "os.fsync", "pathlib.Path.replace"])
def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """A write, flush or rename that fails is told as such and leaves no trace."""

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(call, full)
    with pytest.raises(LocalError, match=r"node\.disk"):
        write_export(tmp_path / "export", checkpoint=LOG.checkpoint(ENTRIES), entries=ENTRIES, keys=LOG.keys)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_name_that_cannot_be_written(tmp_path: Path) -> None:
    """A name that the file system refuses is trouble of the disk, not a traceback."""
    with pytest.raises(LocalError, match=r"node\.disk"):
        write_export(tmp_path / ("n" * 300), checkpoint=b"", entries=[], keys=LOG.keys)


def test_flipped_dropped_cut_and_swapped_files(export: Path) -> None:
    """On disk too, no file can be changed at its beginning, middle or end, lost, cut or swapped."""
    paths = files(export)
    for number, path in enumerate(paths):
        content = path.read_bytes()
        for at in (0, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:at] + bytes([content[at] ^ 0x20]) + content[at + 1 :])
            assert codes(export), (path, at)
        path.write_bytes(content[:-1])
        assert codes(export), path
        path.unlink()
        assert codes(export) == ["audit.missing"]
        path.write_bytes(content)
        other = paths[number - 1]
        theirs = other.read_bytes()
        path.write_bytes(theirs)
        other.write_bytes(content)
        assert codes(export), (path, other)
        path.write_bytes(content)
        other.write_bytes(theirs)
    assert codes(export) == []


def test_what_lies_in_place_of_a_file(export: Path, tmp_path: Path) -> None:
    """A link, a pipe or a folder in place of a file counts as a missing file and does not block the check."""
    path = export / "tile/0/000"
    elsewhere = path.rename(tmp_path / "elsewhere")
    path.symlink_to(elsewhere)
    assert codes(export) == ["audit.missing"]
    path.unlink()
    os.mkfifo(path)
    assert codes(export) == ["audit.missing"]
    path.unlink()
    path.mkdir()
    assert codes(export) == ["audit.missing"]


def test_reader_is_bounded(export: Path) -> None:
    """A file larger than the caller expects is read one byte past the bound only."""
    assert len(folder_reader(export)("tile/0/000", 100)) == 101
    assert len(folder_reader(export)("tile/0/000", 8192)) == 8192


def test_a_huge_file_is_refused_unread(export: Path) -> None:
    """A tile or checkpoint grown to gigabytes is refused without reading it."""
    for name, code in (("tile/0/000", "audit.bad_tile"), ("checkpoint", "audit.bad_checkpoint")):
        with (export / name).open("ab") as file:
            file.truncate(1 << 40)
        assert codes(export) == [code]


def test_folder_that_is_none(tmp_path: Path) -> None:
    """A check of a folder that does not exist, or of a file, is refused; an empty folder lacks its files."""
    (tmp_path / "file").write_text("")
    for name in ("missing", "file"):
        with pytest.raises(LocalError, match=r"input\.not_found"):
            verify_export(tmp_path / name)
    assert [finding.where for finding in verify_export(tmp_path).findings] == ["log.vkey"]


def test_stray_files_and_links(export: Path, tmp_path: Path) -> None:
    """A stray file or link, among the tiles or beside them, to a folder or to nowhere, is a finding by its name."""
    (export / "README").write_text("")
    (export / "link").symlink_to(tmp_path / "nowhere")
    (export / "tile/2").mkdir()
    (export / "tile/2/000.p").mkdir()
    (export / "tile/2/000.p/1").write_text("")
    (export / "tile/3").symlink_to(export / "tile/0")
    assert [(finding.code, finding.where) for finding in verify_export(export).findings] == [
        ("audit.unlisted", "README"),
        ("audit.unlisted", "link"),
        ("audit.unlisted", "tile/3"),
        ("audit.unlisted", "tile/2/000.p/1"),
    ]


@pytest.mark.parametrize("name", ["tile", "tile/0", "tile/0/001.p", "tile/entries"])
def test_linked_folder_is_not_entered(export: Path, tmp_path: Path, name: str) -> None:
    """A folder that was replaced by a link to the same files counts as missing, and the link is named."""
    elsewhere = (export / name).rename(tmp_path / "elsewhere")
    (export / name).symlink_to(elsewhere)
    codes_and_places = [(finding.code, finding.where) for finding in verify_export(export).findings]
    assert codes_and_places[0][0] == "audit.missing"
    assert ("audit.unlisted", name) in codes_and_places


def test_folder_that_cannot_be_listed(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder below the export that cannot be listed is told: what it hides was not checked."""

    def refuse(*_args: object) -> object:
        raise PermissionError(13, "Permission denied", str(export))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(LocalError, match=r"input\.not_found"):
        verify_export(export)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("os.open", PermissionError(13, "Permission denied")),
        ("exchange.adapters.audit_folder._read_up_to", OSError(5, "Input/output error")),
    ],
)
def test_unreadable_file(export: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: OSError) -> None:
    """A file that the machine cannot read is trouble of the machine and says nothing about the log."""

    def refuse(*_args: object) -> int:
        raise error

    read = folder_reader(export)
    monkeypatch.setattr(call, refuse)
    with pytest.raises(LocalError, match=r"input\.not_found.*checkpoint"):
        read("checkpoint", 10)
    monkeypatch.undo()


def test_missing_file_is_the_exports_fault(export: Path) -> None:
    """A path that is not there, also below a file, is a missing file."""
    for path in ("tile/0/999", "checkpoint/0"):
        with pytest.raises(PeerError, match=r"audit\.missing"):
            folder_reader(export)(path, 10)
