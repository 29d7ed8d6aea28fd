"""The auditor's pack on disk: write an export folder, check one.

Implements docs/protocol.md section 9.4; what the folder holds and what is wrong with one is decided by
``core.auditpack``.

Rules:
1. A folder that exists is never written to, an empty one neither. The name is taken first, the files go to a
   hidden sibling, every file and folder is flushed, and one rename shows them all: an export is whole or absent.
2. Checking opens only paths that follow from the signed size, only regular files, through no symbolic link at any
   step, and reads each with a bound: a folder from elsewhere can neither lead out of itself nor block nor fill memory.
3. The folder is readable by its owner alone (entries say who wrote to whom and when); giving it to an oversight
   body is a decision of its own.

What it does not do: run in the event loop (both functions block: call them in a thread).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from exchange.core.auditpack import Progress, Report, export_files, verify_pack
from exchange.core.errors import LocalError, PeerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from exchange.core.checkpoint import LogKeys
    from exchange.core.tiles import Reader


def write_export(
    folder: Path,
    *,
    checkpoint: bytes,
    entries: Iterable[bytes],
    keys: LogKeys,
) -> None:
    """Write the log up to ``checkpoint`` as a new folder.

    ``entries`` are the log's entries from the first on; as many as the checkpoint covers are taken, one at a time.
    Raises ``LocalError`` input.exists, input.not_found (the folder above), node.disk, and ``IntegrityError``
    store.log_mismatch where entries and checkpoint disagree; then nothing is left behind.
    """
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        raise LocalError("input.exists", folder.name) from None
    except (FileNotFoundError, NotADirectoryError):
        raise LocalError("input.not_found", "the folder above the export") from None
    except OSError:
        raise LocalError("node.disk", folder.name) from None
    hidden = None
    try:
        hidden = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
        for path, content in export_files(checkpoint, keys, entries):
            _write(hidden / path, content)
        for parent, _, _ in os.walk(hidden):
            _flush_folder(Path(parent))
        hidden.replace(folder)  # over the empty folder that holds the name
        _flush_folder(folder.parent)
    except OSError:
        raise LocalError("node.disk", folder.name) from None
    finally:
        # After the rename there is no hidden folder any more, and the one in its place is not empty.
        if hidden is not None and hidden.exists():
            shutil.rmtree(hidden, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def verify_export(
    folder: Path,
    *,
    now: datetime | None = None,
    card_keys: LogKeys | None = None,
    progress: Progress | None = None,
) -> Report:
    """Check an export folder; everything that is wrong is in the report.

    ``card_keys`` are the log's keys from the node's card: without them the folder only vouches for itself. ``now``
    is the reader's clock, this machine's if left out. Raises ``LocalError`` input.not_found where the folder, or a
    file of it, cannot be read at all.
    """
    if not folder.is_dir():
        raise LocalError("input.not_found", folder.name)
    moment = datetime.now(UTC) if now is None else now
    return verify_pack(folder_reader(folder), _paths(folder), now=moment, card_keys=card_keys, progress=progress)


def folder_reader(folder: Path) -> Reader:
    """A reader of the files of an export, for ``verify_pack`` and ``tile_nodes``."""

    def read(path: str, limit: int) -> bytes:
        try:
            descriptor = _open_within(folder, path)
        except PermissionError:
            raise LocalError("input.not_found", path) from None
        except OSError:
            raise PeerError("audit.missing", path) from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise PeerError("audit.missing", path)
            return _read_up_to(descriptor, min(status.st_size, limit) + 1)
        except OSError:  # a sector that cannot be read says nothing about the log
            raise LocalError("input.not_found", path) from None
        finally:
            os.close(descriptor)

    return read


def _open_within(folder: Path, path: str) -> int:
    """Open a file of the folder step by step, so that no step is a link that leads elsewhere."""
    *steps, name = path.split("/")
    above = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for step in steps:
            below = os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
            os.close(above)
            above = below
        # Without O_NONBLOCK a pipe laid in place of a file would hold the check for ever.
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=above)
    finally:
        os.close(above)


def _read_up_to(descriptor: int, count: int) -> bytes:
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read(count)


def _paths(folder: Path) -> Iterator[str]:
    """Whatever the folder holds that is no folder itself; a link to a folder is named and not followed."""

    def refuse(error: OSError) -> None:
        raise LocalError("input.not_found", Path(str(error.filename)).name)

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in sorted(names + links):
            yield (Path(parent) / name).relative_to(folder).as_posix()
