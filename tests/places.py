"""Where things lie: the checkout, the folder of real data beside it, the public test suites.

Tests that are made from files (``pytest.mark.parametrize``) call these functions when they are collected; other tests
use the fixtures of the same purpose in ``conftest.py``, which skip with a reason where a folder is absent.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent


def shared_folder() -> Path | None:
    """Return ``EXCHANGE_SHARED``, else ``../shared`` seen from the checkout; None where there is no such folder."""
    folder = Path(os.environ.get("EXCHANGE_SHARED") or ROOT.parent / "shared")
    return folder if folder.is_dir() else None


def conformance_folder() -> Path | None:
    """Return ``CONFORMANCE_DIR``, else ``vectors`` in the shared folder; None where there is no such folder."""
    named = os.environ.get("CONFORMANCE_DIR")
    shared = shared_folder()
    folder = Path(named) if named else shared / "vectors" if shared else None
    return folder if folder and folder.is_dir() else None


def python_files(*folders: str) -> list[Path]:
    """Return every Python file below the named folders of the checkout, in one order on every machine."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
