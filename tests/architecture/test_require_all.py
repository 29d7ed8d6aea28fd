"""``EXCHANGE_REQUIRE_ALL=1``: on a build machine a skip is a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.places import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SKIPS = {
    "a mark": "import pytest\n@pytest.mark.skip(reason='needs root')\ndef test_x(): pass\n",
    "a condition": "import pytest\n@pytest.mark.skipif(True, reason='needs root')\ndef test_x(): pass\n",
    "a call": "import pytest\ndef test_x(): pytest.skip('needs root')\n",
    "a fixture": "import pytest\n@pytest.fixture\ndef f(): pytest.skip('needs root')\ndef test_x(f): pass\n",
    "a module": "import pytest\npytest.skip('needs root', allow_module_level=True)\n",
}


def run_pytest(folder: Path, source: str, **environment: str) -> str:
    """Run one test file under this project's conftest; return what it printed."""
    (folder / "test_probe.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("EXCHANGE_", "CONFORMANCE_"))
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-ra",
            "-p",
            "no:cacheprovider",
            "-p",
            "tests.conftest",
            "-c",
            "pytest.ini",
            ".",
        ],
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize("source", SKIPS.values(), ids=SKIPS.keys())
def test_skip_is_reported_with_its_reason(tmp_path: Path, source: str) -> None:
    """On a desk a skip is a skip, and its reason is shown."""
    printed = run_pytest(tmp_path, source)
    assert "needs root" in printed
    assert "1 skipped" in printed


@pytest.mark.parametrize("source", SKIPS.values(), ids=SKIPS.keys())
def test_skip_fails_where_all_is_required(tmp_path: Path, source: str) -> None:
    """On a build machine every way of skipping is a failure that names the reason."""
    printed = run_pytest(tmp_path, source, EXCHANGE_REQUIRE_ALL="1")
    assert "EXCHANGE_REQUIRE_ALL=1 allows no skip: needs root" in printed
    assert "skipped" not in printed.splitlines()[-1]
    assert "1 failed" in printed or "1 error" in printed


def test_expected_failure_is_no_skip(tmp_path: Path) -> None:
    """A known defect with its own failing test stays an expected failure on a build machine."""
    source = "import pytest\n@pytest.mark.xfail(reason='known')\ndef test_x(): assert False\n"
    assert "1 xfailed" in run_pytest(tmp_path, source, EXCHANGE_REQUIRE_ALL="1")


@pytest.mark.parametrize("name", ["shared", "conformance"])
def test_absent_folder_is_a_skip_with_a_reason(tmp_path: Path, name: str) -> None:
    """A test that needs the folder beside the checkout is skipped, with that reason, where there is none."""
    printed = run_pytest(tmp_path, f"def test_x({name}): pass\n", EXCHANGE_SHARED=str(tmp_path / "absent"))
    assert "../shared" in printed
    assert "1 skipped" in printed


def test_named_folder_is_used(tmp_path: Path) -> None:
    """The folders that the environment names are the ones that the tests read."""
    source = "def test_x(shared, conformance): assert (shared.name, conformance.name) == ('s', 'c')\n"
    (tmp_path / "s").mkdir()
    (tmp_path / "c").mkdir()
    environment = {"EXCHANGE_SHARED": str(tmp_path / "s"), "CONFORMANCE_DIR": str(tmp_path / "c")}
    assert "1 passed" in run_pytest(tmp_path, source, **environment)
