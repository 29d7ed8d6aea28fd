"""Homes, authorities and running nodes for the tests of the command line.

Rules:
1. Everything is of a training network; the passphrase is ``testonly``.
2. The passphrase's hash is made at the lowest cost that the file format allows; programs under test read the cost from
   the file, so they are quick too.
3. ``call`` runs a command in this process, ``program`` as the real program in a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest
from nacl.pwhash import argon2id

from exchange.adapters.config import Config
from exchange.cli import provision, templates
from exchange.cli.main import main
from exchange.core.keys import read_card
from exchange.core.wire import NetworkId, NodeId
from tests.places import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from exchange.core.wire import JsonObject

NETWORK: Final = NetworkId("training-cli")
PASSPHRASE: Final = b"testonly"
EXAMPLES: Final = ROOT / "schemas"
REFERRAL: Final = EXAMPLES / "case-referral" / "examples" / "online-scam-compound.json"
VICTIM: Final = EXAMPLES / "victim" / "examples" / "with-consent.json"
SECONDS: Final = 30.0


@contextmanager
def cheap_passphrases() -> Iterator[None]:
    """Make the files of secrets quick to open, for as long as the block lasts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argon2id, "OPSLIMIT_MODERATE", 1)
        patch.setattr(argon2id, "MEMLIMIT_MODERATE", 8192)
        yield


# -- running commands ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one document on standard output."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value

    def refused(self, code: str) -> bool:
        """Whether the error on standard error is of that code, with its remedy, and no trace is shown."""
        assert "Traceback" not in self.err + self.out
        return f"{code}: " in self.err and "remedy: " in self.err


def program(*arguments: str | Path, stdin: bytes = b"", env: dict[str, str] | None = None) -> Done:
    """Run the real program."""
    done = subprocess.run(
        [sys.executable, "-m", "exchange", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        env=os.environ | (env or {}),
        timeout=120,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


@dataclass
class Caller:
    """Runs commands in this process; made by the fixture ``call``."""

    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str | Path) -> Done:
        self.capture.readouterr()
        code = main([str(item) for item in arguments])
        said = self.capture.readouterr()
        return Done(code, said.out, said.err)


# -- homes -----------------------------------------------------------------------------------------


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def config_of(country: str, port: int, *, passphrase_file: Path | None = None) -> Config:
    """The configuration of a country's node on loopback."""
    return Config(
        node=NodeId(f"{country.lower()}-fp1"),
        country=country,
        agency=f"Invented agency of {country}",
        network=NETWORK,
        url=f"https://127.0.0.1:{port}",
        port=port,
        passphrase_file=passphrase_file,
        free_space_bytes=0,
    )


@dataclass
class Pair:
    """Nodes with each other's cards and an agreement, and the folder they lie in."""

    folder: Path
    ports: dict[str, int]
    cards: dict[str, bytes] = field(default_factory=dict)
    agreement: bytes = b""

    def home(self, country: str) -> Path:
        """A country's home."""
        return self.folder / country

    def authority(self, country: str) -> Path:
        """A country's authority."""
        return self.folder / f"authority-{country}"

    def passphrase(self) -> Path:
        """A file with the passphrase of everything here."""
        return self.folder / "passphrase"

    def node(self, country: str) -> str:
        """A country's node id."""
        return f"{country.lower()}-fp1"


async def make_pair(folder: Path, countries: Sequence[str] = ("TH", "KH"), *, link: bool = True) -> Pair:
    """Make authorities and homes; ``link`` installs all cards and one agreement between all of them."""
    pair = Pair(folder, {country: free_port() for country in countries})
    pair.passphrase().write_bytes(PASSPHRASE + b"\n")
    pair.passphrase().chmod(0o600)
    with cheap_passphrases():
        signers = {
            country: provision.create_authority(pair.authority(country), country, NETWORK, passphrase=PASSPHRASE)
            for country in countries
        }
        made = {}
        for country in countries:
            config = config_of(country, pair.ports[country], passphrase_file=pair.passphrase())
            made[country] = await provision.create_home(pair.home(country), config, PASSPHRASE)
            pair.cards[country] = provision.sign_document(signers[country], made[country].card_draft)
    if len(countries) == 1:
        return pair
    parsed = [read_card(provision.parse_draft(data)) for data in pair.cards.values()]
    pair.agreement = provision.encode_readable(agreement_of(parsed, clauses_of([card.node for card in parsed])))
    for signer in signers.values():
        pair.agreement = provision.sign_document(signer, pair.agreement)
    if link:
        for new in made.values():
            await provision.install_offline(new.home, new.keyring, [pair.agreement, *pair.cards.values()])
    return pair


def agreement_of(cards: Sequence[Any], clauses: list[JsonObject], begin: datetime | None = None) -> JsonObject:
    """An agreement between these cards' nodes, in force since yesterday."""
    start = begin or provision.utc_now() - provision.KEYS_VALID_BEFORE
    return templates.new_agreement("pair", cards, valid_from=start, clauses=clauses)


def clauses_of(nodes: Sequence[str]) -> list[JsonObject]:
    """The usual clauses.

    The first wants answers, has a quota and knows onward use with consent; the second withholds a victim's safety part.
    """
    clauses = templates.default_clauses([*nodes])
    clauses[0] |= {
        "quota_per_day": 100,
        "onward": {"use": "with_consent"},
        "respond_within": {"urgent_8h": 8, "urgent_3d": 72, "normal_7d": 168},
    }
    clauses[1]["withhold"] = ["safety"]
    return clauses


def copy_pair(pair: Pair, folder: Path) -> Pair:
    """A copy that a test may spoil."""
    shutil.copytree(pair.folder, folder, dirs_exist_ok=True)
    copied = Pair(folder, pair.ports, pair.cards, pair.agreement)
    for country in pair.ports:
        config = copied.home(country) / "config.toml"
        config.write_text(config.read_text().replace(str(pair.passphrase()), str(copied.passphrase())))
    return copied


def write_draft(path: Path, source: Path = REFERRAL, **changes: Any) -> Path:  # noqa: ANN401 - any member of a draft
    """An example draft with some members changed; None takes one out."""
    draft = json.loads(source.read_bytes()) | changes
    path.write_text(json.dumps({name: value for name, value in draft.items() if value is not None}))
    return path


# -- running nodes ---------------------------------------------------------------------------------


class Daemon:
    """A node in a process of its own."""

    def __init__(self, home: Path, env: dict[str, str] | None = None) -> None:
        self.errors = home.with_name(f"{home.name}.err").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "exchange", "node", "run", "--home", str(home)],
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=os.environ | (env or {}),
        )

    def wait_ready(self) -> dict[str, Any]:
        """The ready line."""
        assert self.process.stdout is not None
        ready = json.loads(self.process.stdout.readline())
        assert isinstance(ready, dict)
        return ready

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.errors.close()
        return code


@contextmanager
def running(pair: Pair, *countries: str) -> Iterator[dict[str, Daemon]]:
    """Run the nodes of these countries."""
    daemons = {country: Daemon(pair.home(country)) for country in countries}
    try:
        for daemon in daemons.values():
            daemon.wait_ready()
        yield daemons
    finally:
        for daemon in daemons.values():
            daemon.stop()


def run(work: Any) -> Any:  # noqa: ANN401 - a coroutine and its result
    """Run a coroutine from a plain test."""
    return asyncio.run(work)
