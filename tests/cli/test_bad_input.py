"""Bad input, through the real program: each is a clear error with code, remedy and exit code, and loses nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from exchange.adapters.snapshot import Snapshot
from tests.cli import homes

pytestmark = pytest.mark.slow

DEEP: Final = b'{"kind":' + b"[" * 400 + b"]" * 400 + b"}"


def refused(done: homes.Done, exit_code: int, code: str) -> bool:
    """Whether the program ended with that exit code and told that code with its remedy."""
    assert done.code == exit_code, done
    return done.refused(code)


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b'{"kind": "case-referral", "purpose": "inv', "wire.not_json"),
        (b"", "wire.not_json"),
        (b'{"kind": "' + b"x" * 10_000_000 + b'"}', "wire.too_large"),
        (DEEP, "wire.too_deep"),
        (b'{"kind": "suspect", "kind": "victim"}', "wire.duplicate_key"),
        (b'{"kind": "\xff"}', "wire.not_utf8"),
        (b'{"kind": "\\ud800"}', "wire.bad_text"),
        (b'{"kind": 1e999}', "wire.bad_number"),
        (b'{"kind": NaN}', "wire.not_json"),
    ],
    ids=["half-written", "empty", "10 MB", "400 deep", "duplicate key", "not UTF-8", "surrogate", "overflow", "NaN"],
)
def test_draft_that_is_none(pair: homes.Pair, data: bytes, code: str) -> None:
    """A file that is no strict JSON is refused by code and place, the same for sending and for validating."""
    draft = pair.folder / "draft.json"
    draft.write_bytes(data)
    assert refused(homes.program("send", draft, "--to", "KH", "--home", pair.home("TH")), 1, code)
    assert refused(homes.program("schema", "validate", draft), 1, code)
    with Snapshot(pair.home("TH") / "node.db") as snapshot:
        assert snapshot.rows("outgoing_counts") == []


def test_draft_that_is_missing(pair: homes.Pair) -> None:
    """A file that is not there is told by its name."""
    done = homes.program("send", pair.folder / "nothing.json", "--to", "KH", "--home", pair.home("TH"))
    assert refused(done, 3, "input.not_found")
    assert "nothing.json" in done.err


def test_peers_that_cannot_be_written_to(pair: homes.Pair) -> None:
    """An unknown peer and a blocked one are told before anything leaves."""
    words = ("send", homes.REFERRAL, "--home", pair.home("TH"), "--to")
    assert refused(homes.program(*words, "MM"), 1, "card.unknown")
    assert homes.program("card", "block", "KH", "--home", pair.home("TH")).code == 0
    assert refused(homes.program(*words, "KH"), 1, "envelope.blocked")


def test_demo_in_a_file(tmp_path: Path) -> None:
    """A demonstration that is to be kept in a file instead of a folder is refused before it begins."""
    (tmp_path / "file").write_text("mine")
    done = homes.program("demo", "--keep", tmp_path / "file")
    assert refused(done, 3, "input.exists")
    assert "--keep" in done.err


def test_message_that_is_not_here(pair: homes.Pair) -> None:
    """An unknown id is told by every command that takes one."""
    home = ("--home", pair.home("TH"))
    ident = "0123456789abcdef" * 2
    for words in (("show", ident), ("reply", ident, homes.REFERRAL), ("evidence", "get", ident, "1", "--out", "x")):
        assert refused(homes.program(*words, *home), 3, "input.unknown_id")


# -- passphrases and homes -------------------------------------------------------------------------


def test_wrong_passphrase_changes_nothing(pair: homes.Pair) -> None:
    """A wrong passphrase is told; with the right one everything is as it was."""
    wrong = pair.folder / "wrong"
    wrong.write_text("not it")
    home = ("--home", pair.home("TH"))
    for words in (("inbox",), ("node", "run"), ("send", homes.REFERRAL, "--to", "KH")):
        assert refused(homes.program(*words, *home, "--passphrase-file", wrong), 3, "input.passphrase")
    assert homes.program("inbox", *home).code == 0
    nobody = homes.program("inbox", *home, "--passphrase-file", pair.folder / "missing")
    assert refused(nobody, 3, "input.not_found")


@pytest.mark.parametrize(
    ("name", "data", "exit_code", "code"),
    [
        ("config.toml", b"[node\nid = 1", 3, "node.config"),
        ("config.toml", b"[node]\nid = 'x'\n", 3, "node.config"),
        ("secrets/keyring.json", b'{"kdf": "argon2id"', 3, "node.key"),
        ("secrets/keyring.json", b"", 3, "node.key"),
        ("secrets/tls.key", b"-----BEGIN", 3, "node.key"),
        ("tls.crt", b"", 3, "node.key"),
        ("node.db", b"SQLite format 3\0 cut off", 4, "store.corrupt"),
    ],
)
def test_half_written_file_of_a_home(pair: homes.Pair, name: str, data: bytes, exit_code: int, code: str) -> None:
    """A damaged file of a home keeps the node from starting, by the code of what is damaged."""
    path = pair.home("TH") / name
    path.write_bytes(data)
    assert refused(homes.program("node", "run", "--home", pair.home("TH")), exit_code, code)


def test_configuration_of_another_node(pair: homes.Pair) -> None:
    """A home whose configuration names another node than it was made for does not start."""
    config = pair.home("TH") / "config.toml"
    config.write_text(config.read_text().replace('id = "th-fp1"', 'id = "th-fp2"'))
    assert refused(homes.program("node", "run", "--home", pair.home("TH")), 3, "node.config")


def test_store_without_its_log(pair: homes.Pair) -> None:
    """A node whose entries do not give the edge of its tree does not start."""
    connection = sqlite3.connect(pair.home("TH") / "node.db")
    connection.execute("DELETE FROM leaves WHERE seq = 1")
    connection.commit()
    connection.close()
    assert refused(homes.program("node", "run", "--home", pair.home("TH")), 4, "store.log_mismatch")


def test_home_without_a_card_does_not_run(tmp_path: Path) -> None:
    """A node whose authority has not signed its card does not run."""
    pair = homes.run(homes.make_pair(tmp_path, ("TH",), link=False))
    assert refused(homes.program("node", "run", "--home", pair.home("TH")), 3, "node.card")


# -- the daemon ------------------------------------------------------------------------------------


def test_port_that_is_taken(pair: homes.Pair) -> None:
    """A port that another program holds is told, and the node can be started once it is free."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", pair.ports["TH"]))
        taken.listen()
        assert refused(homes.program("node", "run", "--home", pair.home("TH")), 3, "node.port")
    with homes.running(pair, "TH"):
        pass


def test_second_daemon_on_one_home(pair: homes.Pair) -> None:
    """A second daemon is refused at once, and the first goes on; commands reach it."""
    home = pair.home("TH")
    with homes.running(pair, "TH"):
        second = homes.program("node", "run", "--home", home)
        assert refused(second, 3, "node.locked")
        assert second.err.count("TRAINING") == 1
        assert json.loads(homes.program("node", "status", "--json", "--home", home).out)["running"] is True


def test_home_that_another_command_holds(pair: homes.Pair) -> None:
    """While a process holds the home and does not listen, commands wait for it a little, then say so."""
    home = pair.home("TH")
    script = (
        "import fcntl, sys; file = open(sys.argv[1], 'rb'); fcntl.flock(file, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(home / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder:
        holder.stdout.readline()
        assert refused(homes.program("inbox", "--home", home), 3, "node.locked")
        holder.stdin.close()
    assert homes.program("inbox", "--home", home).code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_daemon_ends_in_order(pair: homes.Pair, number: int) -> None:
    """A signal ends the daemon with exit code 0; its log says that it ran, and its socket is gone."""
    daemon = homes.Daemon(pair.home("TH"))
    try:
        ready = daemon.wait_ready()
        status = (pair.home("TH").parent / "TH.err").read_text()
        limits = Path(f"/proc/{daemon.process.pid}/limits").read_text()
    finally:
        code = daemon.stop(number)
    assert code == 0
    assert (ready["ready"], ready["node"], ready["pid"]) == (True, "th-fp1", daemon.process.pid)
    assert ready["training"] is True
    assert any(line.split()[4:6] == ["0", "0"] for line in limits.splitlines() if line.startswith("Max core"))
    assert '"event": "started"' in status
    assert not (pair.home("TH") / "control.sock").exists()
    done = homes.program("verify", "--json", "--home", pair.home("TH"))
    assert (done.code, done.json["findings"]) == (0, [])


def test_killed_daemon_starts_again(pair: homes.Pair) -> None:
    """After kill -9 the socket lies about; commands work at the folder, and the next start is as any other."""
    home = pair.home("TH")
    daemon = homes.Daemon(home)
    daemon.wait_ready()
    assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    assert (home / "control.sock").exists()
    assert homes.program("outbox", "--home", home).code == 0
    with homes.running(pair, "TH"):
        assert homes.program("node", "status", "--home", home).code == 0


def test_damage_under_a_running_node_stops_it(pair: homes.Pair) -> None:
    """A node whose evidence vanished stops with exit code 4 and its code when it must send it."""
    photo = pair.folder / "photo.jpg"
    photo.write_bytes(b"invented")
    sent = homes.program("send", homes.REFERRAL, "--to", "KH", "--attach", photo, "--home", pair.home("TH"))
    assert sent.code == 0, sent.err
    shutil.rmtree(pair.home("TH") / "blobs")
    (pair.home("TH") / "blobs").mkdir(mode=0o700)
    with homes.running(pair, "KH"):
        daemon = homes.Daemon(pair.home("TH"))
        daemon.wait_ready()
        code = daemon.process.wait(homes.SECONDS)
        daemon.stop()
    assert code == 4
    told = (pair.folder / "TH.err").read_text()
    assert "store.blob_missing: " in told
    assert "Traceback" not in told


def test_reader_that_leaves_is_no_trouble(pair: homes.Pair) -> None:
    """A reader that closes the pipe early sees no trace."""
    command = f"{sys.executable} -m exchange schema show victim | head -c 10"
    done = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, env=os.environ | {"EXCHANGE_HOME": str(pair.home("TH"))},
        check=False,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr
