"""``exchange demo`` as users start it, and with somebody listening at every wire."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from rich.cells import cell_len

from exchange.cli import demo, demo_agreements, demo_nodes
from exchange.cli import demo_story as story
from exchange.cli.demo_people import COUNTRIES, canaries
from exchange.cli.demo_scenes import Outcome
from exchange.cli.main import main
from tests.integration import nodes as harness
from tests.integration.leaks import Finder, forms

if TYPE_CHECKING:
    import socket

    from exchange.cli.demo_nodes import TrainingNode

pytestmark = pytest.mark.slow

EXCHANGE: Final = (sys.executable, "-m", "exchange")
STATUSES: Final = {"accepted", "complete", "opened", "answered", "recalled"}
CODE: Final = re.compile(r"[a-z]+\.[a-z_]+")
TIMEOUT: Final = 300  # of the harness; how fast the demo is, the bench says


def exchange(*args: str | Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the program."""
    command = [*EXCHANGE, *map(str, args)]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, env=env, timeout=TIMEOUT, check=False)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], bytes]:
    """One run of the demo whose homes are kept: the folder, the document, and what was said beside it."""
    folder = tmp_path_factory.mktemp("demo") / "kept"
    done = exchange("demo", "--json", "--keep", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, json.loads(done.stdout), done.stderr


# -- as users start it -----------------------------------------------------------------------------


def test_document_has_the_agreed_shape(kept: tuple[Path, dict[str, Any], bytes]) -> None:
    """With ``--json`` the demo gives exactly the members of the agreed shape, marked as training, and all held."""
    _, told, _ = kept
    assert set(told) == {"ok", "nodes", "messages", "refused", "seconds", "network", "training"}
    assert (told["ok"], told["network"], told["training"]) == (True, "training-mekong", True)
    assert set(told["nodes"]) == {"KH", "CN", "LA", "MM", "TH", "VN"}
    for node in told["nodes"].values():
        assert set(node) == {"home", "messages_sent", "messages_received", "audit"}
        assert set(node["audit"]) == {"size", "root", "verified"}
        assert node["audit"]["verified"] is True
        assert node["audit"]["size"] > 0
        assert re.fullmatch(r"[0-9a-f]{64}", node["audit"]["root"])
    members = {"id", "type", "from", "to", "status", "receipt_verified", "agreement", "clause"}
    for message in told["messages"]:
        assert set(message) == members
        assert re.fullmatch(r"[0-9a-f]{32}", message["id"])
        assert message["status"] in STATUSES
        assert message["receipt_verified"] is True
        assert message["agreement"]
        assert message["clause"]
    assert 0 < told["seconds"] < TIMEOUT


def test_story_is_played(kept: tuple[Path, dict[str, Any], bytes]) -> None:
    """A referral and a question are answered; what a clause, no agreement or a suspension refuses does not leave."""
    _, told, _ = kept
    moved = [(m["type"], m["from"], m["to"], m["status"]) for m in told["messages"]]
    assert ("case-referral", "TH", "KH", "answered") in moved
    assert ("information-request", "KH", "TH", "answered") in moved
    assert ("information-response", "TH", "KH", "accepted") in moved
    assert ("recall", "LA", "VN") in [message[:3] for message in moved]
    assert [message[:3] for message in moved].count(("onward-decision", "TH", "VN")) == 2
    assert len({m["id"] for m in told["messages"]}) == len(told["messages"])
    for country, node in told["nodes"].items():
        assert node["messages_sent"] == sum(m["from"] == country for m in told["messages"])
        assert node["messages_received"] == sum(m["to"] == country for m in told["messages"])
    by_clause, without, suspended = told["refused"]
    for refusal in told["refused"]:
        assert set(refusal) == {"type", "from", "to", "code", "clause", "reason"}
        assert CODE.fullmatch(refusal["code"])
    assert (by_clause["code"], by_clause["clause"]) == ("agreement.purpose", "art-2")
    assert "repatriation" in by_clause["reason"]
    assert (without["code"], without["clause"]) == ("agreement.unknown", None)
    assert (suspended["code"], suspended["from"], suspended["to"]) == ("agreement.suspended", "CN", "VN")


def test_kept_home_is_a_home(kept: tuple[Path, dict[str, Any], bytes], tmp_path: Path) -> None:
    """A kept home has its passphrase beside it, exports a log that verifies, and a store that agrees with it."""
    folder, told, _ = kept
    assert {path.name for path in folder.iterdir()} == set(told["nodes"])
    home = folder / "KH"
    assert told["nodes"]["KH"]["home"] == str(home)
    assert (home / "passphrase").read_text().strip()
    assert (home / "passphrase").stat().st_mode & 0o077 == 0
    export = tmp_path / "export"
    assert exchange("audit", "export", "--home", home, "--out", export).returncode == 0
    report = json.loads(exchange("--json", "audit", "verify", export, "--card", home / "card.json").stdout)
    audit = told["nodes"]["KH"]["audit"]
    assert (report["ok"], report["size"], report["root"]) == (True, audit["size"], audit["root"])
    review = exchange("--json", "--home", home, "verify")
    assert (review.returncode, json.loads(review.stdout)["opened"]) == (0, True)


def test_kept_home_shows_the_case(kept: tuple[Path, dict[str, Any], bytes]) -> None:
    """Whoever opens a kept home with its passphrase reads the names that nobody else finds."""
    folder, told, _ = kept
    referral = next(m for m in told["messages"] if m["type"] == "case-referral")
    shown = exchange("--json", "--home", folder / "KH", "show", referral["id"])
    assert shown.returncode == 0, shown.stderr
    assert {COUNTRIES["KH"].victim.full, COUNTRIES["TH"].suspect.full} <= Finder(canaries()).found(shown.stdout)


def test_no_name_is_in_a_kept_home(kept: tuple[Path, dict[str, Any], bytes]) -> None:
    """No invented name is in any file below any home, in any value of any table, or on standard error."""
    folder, _, said = kept
    finder = Finder(canaries())
    assert finder.found(said) == set()
    assert finder.in_files(folder) == {}
    for country in COUNTRIES:
        assert finder.in_tables(folder / country / "node.db") == {}
    assert "started" in (folder / "TH" / "node.log").read_text()


def test_people_read_it(tmp_path: Path) -> None:
    """Told to people, the story fits 100 columns, begins and ends as training, names the clause, and leaves nothing."""
    done = exchange("demo", "--countries", "TH,KH,VN", TMPDIR=str(tmp_path), COLUMNS="200")
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert max(cell_len(line) for line in lines) <= 100
    assert lines[0] == "TRAINING network training-mekong: nothing here is real."
    assert lines[-1].startswith("TRAINING network training-mekong: nothing here is real.")
    told = " ".join(done.stdout.decode().split())
    assert "Thailand refers a trafficking case to Cambodia." in told
    assert "agreement.purpose, clause art-2" in told
    assert "Everything held." in told
    assert b"node processes" in done.stderr
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_interrupted_demo_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """A demo that is interrupted while its nodes start ends them and removes its folder."""
    process = await asyncio.create_subprocess_exec(
        *EXCHANGE,
        "demo",
        "--countries",
        "TH,KH",
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(TIMEOUT):
        while b"node processes" not in await process.stderr.readline():
            pass
        await harness.until(lambda: asyncio.to_thread(processes_in, tmp_path), "a node process")
        process.send_signal(number)
        _, said = await process.communicate()
    assert process.returncode == 130, said
    assert b"Traceback" not in said
    assert processes_in(tmp_path) == []
    assert names_in(tmp_path) == []


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def processes_in(folder: Path) -> list[str]:
    """The processes whose command line names something in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:  # it ended meanwhile
            continue
        if os.fsencode(folder) + b"/" in line:
            found.append(entry.name)
    return found


@pytest.mark.parametrize("countries", ["TH", "TH,TH", "TH,XX", ""])
def test_unknown_countries_are_a_usage_error(countries: str) -> None:
    """Fewer than two different countries of the story are a usage error."""
    done = exchange("demo", "--countries", countries)
    assert done.returncode == 2
    assert b"--countries" in done.stderr


def test_kept_folder_is_not_overwritten(tmp_path: Path) -> None:
    """A folder that holds something under a country's name is refused and left as it is."""
    (tmp_path / "KH").mkdir()
    (tmp_path / "KH" / "note").write_text("mine")
    done = exchange("demo", "--json", "--keep", tmp_path)
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (3, "input.exists")
    assert [path.name for path in tmp_path.rglob("*")] == ["KH", "note"]


# -- with somebody listening -----------------------------------------------------------------------


async def test_no_name_is_on_the_wire(tmp_path: Path) -> None:
    """While the nodes run, no invented name is in their files, their traffic, their arguments or their environment."""
    countries = demo.DEFAULT_COUNTRIES
    finder = Finder(canaries())
    files: dict[str, set[str]] = {}
    processes: dict[str, bytes] = {}

    def watch(nodes: dict[str, TrainingNode]) -> None:
        files.update(finder.in_files(tmp_path))
        for country, node in nodes.items():
            assert node.process is not None
            proc = Path("/proc") / str(node.process.pid)
            processes[country] = (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()

    async with harness.tapped(countries) as (taps, endpoint):
        outcome = await demo.play(tmp_path, countries, demo.Teller(silent=True), endpoint, watch)
        wire = {country: bytes(tap.seen) for country, tap in taps.items()}
    assert outcome.problems == []
    assert len(wire["KH"]) > 300_000  # the evidence went by here
    assert {country: found for country, data in wire.items() if (found := finder.found(data))} == {}
    assert files == {}
    assert set(processes) == set(countries)
    for data in processes.values():
        assert b"--home" in data
        assert finder.found(data) == set()


@pytest.mark.parametrize("form", sorted(forms("ตัวอย่างไม่จริง Chamlong")))
def test_planted_name_is_found(tmp_path: Path, form: bytes) -> None:
    """A name that is planted in a file or a table, in any of the forms looked for, is found."""
    finder = Finder(["ตัวอย่างไม่จริง Chamlong"])
    assert finder.in_files(tmp_path) == {}
    (tmp_path / "node.log").write_bytes(b"x" * 5000 + form + b"y")
    assert set(finder.in_files(tmp_path)) == {"node.log"}
    (tmp_path / "node.log").unlink()
    with sqlite3.connect(tmp_path / "node.db") as connection:
        connection.execute("CREATE TABLE t (a BLOB)")
        connection.execute("INSERT INTO t VALUES (?)", (b"x" * 5000 + form,))
    connection.close()
    assert set(finder.in_tables(tmp_path / "node.db")) == {"t"}


# -- when it does not hold -------------------------------------------------------------------------


def test_story_that_does_not_hold_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is refused against expectation, and what leaves against the rules, is told, with exit code 1."""
    referral, notice = story.case_referral, story.victim_notice
    monkeypatch.setattr(story, "case_referral", lambda *args: {**referral(*args), "purpose": "prevention"})
    monkeypatch.setattr(story, "victim_notice", lambda country, case, _: notice(country, case, "repatriation"))
    assert main(["demo", "--countries", "TH,KH", "--keep", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "Refused, against expectation: agreement.purpose." in told
    assert "IT LEFT, against the rules." in told
    assert told.count("DOES NOT HOLD: ") == 2
    assert "Everything held" not in told
    assert f"exchange --home {tmp_path}/TH outbox" in " ".join(told.split())


def test_node_that_does_not_start_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A node that cannot start ends the demo with that node's code, and the others with it."""

    def taken() -> socket.socket:
        port = hold_port()
        port.listen()
        return port

    hold_port = demo_nodes.hold_port
    monkeypatch.setattr(demo_nodes, "hold_port", taken)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert main(["demo", "--json", "--countries", "TH,KH"]) == 3
    told = capsys.readouterr()
    assert json.loads(told.out)["error"]["code"] == "node.port"
    assert "remedy" in told.err
    assert processes_in(tmp_path) == []
    assert names_in(tmp_path) == []


# -- its parts -------------------------------------------------------------------------------------


def test_some_pair_has_no_agreement() -> None:
    """From three countries on some pair has no agreement; six have eight of two, each different, and one of three."""
    for count in range(3, 7):
        countries = demo.DEFAULT_COUNTRIES[:count]
        groups = demo_agreements.plan(countries)
        assert [pair for pair in combinations(countries, 2) if not any(set(pair) <= set(group) for group in groups)]
    groups = demo_agreements.plan(demo.DEFAULT_COUNTRIES)
    assert set(groups.values()) == {
        "kh-th-2026", "la-th-2026", "mm-th-2026", "th-vn-2026", "cn-th-2026", "kh-vn-2026", "cn-mm-2026",
        "cn-vn-2026", "trio-la-th-vn-2026",
    }  # fmt: skip
    writers = [demo_agreements.writer_of(group, demo.DEFAULT_COUNTRIES) for group in groups]
    assert len(set(writers)) == 9


def test_what_does_not_hold_is_not_ok() -> None:
    """One thing that does not hold makes the whole outcome not ok."""
    outcome = Outcome()
    outcome.hold(True, "held")  # noqa: FBT003 - what is held
    assert outcome.to_json()["ok"] is True
    outcome.hold([], "an empty inbox")
    assert outcome.to_json()["ok"] is False
    assert outcome.problems == ["an empty inbox"]


def test_names_say_that_they_are_examples() -> None:
    """Every person has a name and a romanisation of its own, long enough to be looked for."""
    people = [person for country in COUNTRIES.values() for person in (country.victim, country.suspect)]
    assert len({person.full for person in people}) == len({person.romanised for person in people}) == 12
    assert {person.full for person in people} | {person.romanised for person in people} <= set(canaries())
