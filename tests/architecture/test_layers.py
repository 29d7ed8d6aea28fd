"""The rooms of the house: who may import whom, and what the core may not touch.

The contracts are in ``pyproject.toml`` and ``exchange/core/ruff.toml``. Each is shown a breach in a copy of the code,
so that a contract that no longer bites is noticed.
"""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
import tomllib
from pathlib import Path
from typing import Final

import pytest

from tests.places import ROOT

SCRIPTS: Final = Path(sysconfig.get_path("scripts"))
CONTRACTS: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
CORE_BANS: Final = tomllib.loads((ROOT / "exchange/core/ruff.toml").read_text())["lint"]["flake8-tidy-imports"][
    "banned-api"
]
FORBIDDEN: Final = next(c["forbidden_modules"] for c in CONTRACTS if c["id"] == "core-pure")


def lint_imports(folder: Path) -> tuple[int, str]:
    """Run import-linter over the ``exchange`` package in a folder; return its exit code and what it printed."""
    done = subprocess.run(
        [SCRIPTS / "lint-imports", "--no-cache", "--no-logo"], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the code with its contracts, free to be spoiled."""
    shutil.copytree(ROOT / "exchange", tmp_path / "exchange", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_contracts_hold() -> None:
    """The code keeps every contract between its rooms."""
    code, printed = lint_imports(ROOT)
    assert code == 0, printed


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("core/errors.py", "import exchange.adapters", "Rooms"),
        ("core/errors.py", "import exchange.core.wire", "Floors"),
        ("core/errors.py", "import time", "The core is pure"),
    ],
)
def test_contract_breach_is_found(copy: Path, module: str, line: str, contract: str) -> None:
    """An import against the direction of the rooms breaks the contract that names it."""
    spoiled = copy / "exchange" / module
    spoiled.write_text(spoiled.read_text() + f"\n{line}\n")
    code, printed = lint_imports(copy)
    assert code == 1
    assert any(row.startswith(contract) and row.endswith("BROKEN") for row in printed.splitlines()), printed


@pytest.mark.parametrize("module", ["exchange/cellar.py", "exchange/core/cellar.py"])
def test_unlisted_module_is_found(copy: Path, module: str) -> None:
    """A new module that no contract lists is refused until somebody decides where it belongs."""
    (copy / module).write_text("")
    code, printed = lint_imports(copy)
    assert code == 1
    assert "cellar" in printed


def test_core_bans_agree() -> None:
    """What the import contract forbids to the core is also explained by the core's ban list."""
    assert FORBIDDEN
    assert [name for name in FORBIDDEN if name not in CORE_BANS] == []


@pytest.mark.parametrize("name", sorted(CORE_BANS))
def test_core_ban_bites(name: str) -> None:
    """Using a banned name in the core is refused with a sentence that says what to do instead."""
    module, _, attribute = name.rpartition(".")
    owner, _, member = module.rpartition(".")
    if not module:
        source = f"import {name}\n"
    elif attribute[0].isupper() or not owner:
        source = f"from {module} import {attribute}\n"
    else:
        source = f"from {owner} import {member}\n\n{member}.{attribute}()\n"
    done = subprocess.run(
        [
            SCRIPTS / "ruff",
            "check",
            "--no-cache",
            "--select",
            "TID251",
            "--stdin-filename",
            "exchange/core/probe.py",
            "-",
        ],
        cwd=ROOT,
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert CORE_BANS[name]["msg"] in done.stdout
