"""What the wheel carries: the program, its SQL and the agreed schemas; nothing of a network or of a machine."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.places import ROOT

if TYPE_CHECKING:
    from pathlib import Path

# Prints what an installed exchange finds, one "name size" a line, and where it was loaded from.
LISTING = """
import importlib.resources, exchange
def walk(folder, name=""):
    for entry in folder.iterdir():
        if entry.is_dir():
            walk(entry, f"{name}{entry.name}/")
        else:
            print(name + entry.name, len(entry.read_bytes()))
walk(importlib.resources.files("exchange") / "_data" / "schemas")
print(exchange.__file__)
"""


def files_below(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder of the checkout by their path inside it, without what tools leave behind."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in path.relative_to(folder).parts)
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_wheel_carries_the_schemas(wheel: zipfile.ZipFile) -> None:
    """Every file of ``schemas/`` is in the wheel under ``exchange/_data/schemas``, with the same bytes."""
    schemas = files_below(ROOT / "schemas")
    assert any(name.endswith(".json") for name in schemas)
    prefix = "exchange/_data/schemas/"
    assert {n.removeprefix(prefix): wheel.read(n) for n in wheel.namelist() if n.startswith(prefix)} == schemas


def test_wheel_carries_the_program(wheel: zipfile.ZipFile) -> None:
    """Every file of the package is in the wheel, SQL and type marker included, with the same bytes."""
    program = files_below(ROOT / "exchange")
    assert "py.typed" in program
    assert {name: wheel.read(f"exchange/{name}") for name in program} == program


def test_wheel_carries_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Cards of a network, unit files, tests and documents stay out of the wheel."""
    assert {name.split("/")[0].partition("-")[0] for name in wheel.namelist()} == {"exchange", "focalpoint_exchange"}


def test_installed_schemas_are_found_outside_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """A program that runs from the wheel, in another folder, reads the schemas that came with it."""
    wheel.extractall(tmp_path / "site")
    # Its lines are not measured: they lie in a folder that is gone when the report is written.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", LISTING],
        cwd=tmp_path,
        env=inherited | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    *listed, origin = done.stdout.splitlines()
    assert origin == str(tmp_path / "site" / "exchange" / "__init__.py")
    assert sorted(listed) == sorted(f"{n} {len(data)}" for n, data in files_below(ROOT / "schemas").items())
