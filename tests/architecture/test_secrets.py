"""No secret is in the checkout: ``keys/`` holds public documents, and nothing else holds a private key."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.places import ROOT

_SECRET_NAME: Final = re.compile(
    r"\.(key|pem|p12|pfx|passphrase|secret|sqlite|db)$|passphrase|secret|private", re.IGNORECASE
)
_SECRET_MEMBER: Final = re.compile(
    rb'"[a-z0-9_]*(secret|private|seed|passphrase|mnemonic)[a-z0-9_]*"\s*:', re.IGNORECASE
)
_ARMOUR: Final = re.compile(rb"-----BEGIN [A-Z0-9 ]*(PRIVATE KEY|SECRET)|AGE-SECRET-KEY-1")


def secrets_in(folder: Path) -> list[str]:
    """Return the files of a folder that are named like a secret or hold one."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file()
        and (_SECRET_NAME.search(path.name) or _SECRET_MEMBER.search(data := path.read_bytes()) or _ARMOUR.search(data))
    )


def test_keys_are_public() -> None:
    """The folder of a network's cards exists and holds no secret."""
    assert (ROOT / "keys").is_dir()
    assert secrets_in(ROOT / "keys") == []


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("th.key", b""),
        ("passphrase", b"correct horse"),
        ("authority-private.json", b"{}"),
        ("card.json", b'{"secret_seed": "AAAA"}'),
        ("card.json", b'{"keys": [{"private": "AAAA"}]}'),
        ("card.txt", b"-----BEGIN OPENSSH PRIVATE KEY-----\n"),
    ],
)
def test_planted_secret_is_found(tmp_path: Path, name: str, data: bytes) -> None:
    """A private key in the folder of cards is found by its name or by its content."""
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "card.th.json").write_bytes(b'{"keys": [{"use": "sign", "public": "AAAA"}]}')
    assert secrets_in(tmp_path) == []
    (tmp_path / "training" / name).write_bytes(data)
    assert secrets_in(tmp_path) == [f"training/{name}"]


def test_no_armoured_key_is_in_the_checkout() -> None:
    """No file that is or would be committed holds a private key in armour, save this one, which plants it."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout, so nothing says which files belong to it")
    git = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True)
    ours = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert Path(__file__) in ours
    assert [path for path in ours if path.is_file() and _ARMOUR.search(path.read_bytes())] == [Path(__file__)]
