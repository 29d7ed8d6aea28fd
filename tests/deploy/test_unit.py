"""deploy/exchange.service: accepted by systemd, closed where it can be, and not more than the program bears."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.deploy import confine
from tests.places import ROOT

UNIT: Final = ROOT / "deploy" / "exchange.service"
README: Final = ROOT / "deploy" / "README.md"
SCRIPT: Final = ROOT / "tests" / "deploy" / "confine.py"
MAX_EXPOSURE: Final = 1.5  # systemd calls up to 2.0 OK; the network itself costs 0.8

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
needs_seccomp = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None or confine.library() is None,
    reason="systemd-analyze or libseccomp is not installed",
)

FORBIDDEN: Final = {
    "memory that can be written and run": "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)",
    "a raw network socket": "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "a netlink socket": "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "another priority": "import os; os.setpriority(os.PRIO_PROCESS, 0, 5)",
    "another owner of a file": "import os; os.chown('probe', 1, 1)",
    "another root folder": "import os; os.chroot('/')",
}


def run(*command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command and return what it said."""
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@needs_systemd
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """The unit, with the program where it is installed here, is accepted by systemd without a warning."""
    (program,) = [value.split()[0] for value in confine.values_of(UNIT, "ExecStart")]
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text(encoding="utf-8").replace(program, str(Path(sys.executable).parent / "exchange")))
    done = run("systemd-analyze", "verify", "--man=no", str(copy))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_systemd
def test_systemd_finds_little_exposure() -> None:
    """What systemd counts as left open stays below a limit; the count is printed."""
    done = run("systemd-analyze", "security", "--no-pager", "--offline=true", str(UNIT))
    found = re.search(r"Overall exposure level for exchange\.service: (\d+\.\d)", done.stdout)
    assert found is not None, done.stderr
    sys.stdout.write(found[0] + "\n")
    assert float(found[1]) <= MAX_EXPOSURE


@needs_seccomp
@pytest.mark.slow
@pytest.mark.parametrize("forbidden", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_what_the_unit_forbids_fails(tmp_path: Path, forbidden: str) -> None:
    """Under the unit's filters a forbidden act fails, which would succeed for root or for anybody without them."""
    (tmp_path / "probe").touch()
    source = f"try:\n    {forbidden}\nexcept OSError as error:\n    print('refused', error.errno)"
    done = run(sys.executable, str(SCRIPT), str(UNIT), sys.executable, "-c", source, folder=tmp_path)
    assert done.stdout.startswith("refused "), done.stdout + done.stderr


@needs_seccomp
@pytest.mark.slow
def test_what_the_unit_allows_works(tmp_path: Path) -> None:
    """Under the unit's filters files, threads, TCP and local sockets work."""
    source = (
        "import pathlib, socket, threading\n"
        "pathlib.Path('probe').write_text('x'); pathlib.Path('probe').chmod(0o600)\n"
        "thread = threading.Thread(target=print, args=('thread',)); thread.start(); thread.join()\n"
        "server = socket.create_server(('127.0.0.1', 0)); socket.socketpair()\n"
        "socket.create_connection(server.getsockname()); socket.getaddrinfo('localhost', 1)\n"
        "print('done')"
    )
    done = run(sys.executable, str(SCRIPT), str(UNIT), sys.executable, "-c", source, folder=tmp_path)
    assert (sorted(done.stdout.split()), done.returncode) == (["done", "thread"], 0), done.stderr


def test_page_names_what_the_unit_needs() -> None:
    """The page on installing names the user, the program, the folder and the credential that the unit names."""
    page = README.read_text(encoding="utf-8")
    credential = confine.values_of(UNIT, "LoadCredential")[0]
    assert credential.partition(":")[0] == "passphrase"  # the one that the program looks for
    for name in (
        confine.values_of(UNIT, "User")[0],
        *(word for word in confine.values_of(UNIT, "ExecStart")[0].split() if word.startswith("/")),
        f"/var/lib/{confine.values_of(UNIT, 'StateDirectory')[0]}",
        credential.partition(":")[2],
    ):
        assert name in page
