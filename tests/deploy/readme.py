"""Does what the section "Set up a pair" of README.md says, word for word, the way its people would do it.

Rules:
1. Blocks marked ``console pair`` hold commands behind a prompt, which names who types; every other line is what they
   must then see, where ``...`` stands for anything. A line that ends in ``[y/N]: y`` is a question and its answer.
2. Blocks marked ``json pair WHO FILE`` are files that WHO writes.
3. Each prompt has a folder, a home and a passphrase of its own; the stick is what they share. A command is run by a
   shell as it stands. ``exchange node run`` stays, as the service unit would run it.
4. Whoever is asked whether a fingerprint is the same says yes, and it is compared with the paper: what that
   authority's own screen showed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from exchange.cli.demo_nodes import HOST, hold_port
from tests.deploy import confine
from tests.places import ROOT

if TYPE_CHECKING:
    import socket

UNIT: Final = ROOT / "deploy" / "exchange.service"
SCRIPT: Final = ROOT / "tests" / "deploy" / "confine.py"
DAEMON: Final = "exchange node run"
SECONDS: Final = 120
_BLOCK: Final = re.compile(r"^```(console|json) pair ?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPT: Final = re.compile(r"([a-z][a-z-]*)\$ (.+)")
_QUESTION: Final = re.compile(r"(.*\[y/N\]:) y")
_FINGERPRINT: Final = re.compile(r"^ +((?:[0-9a-f]{4} ?){8})\n +((?:[0-9a-f]{4} ?){8})$", re.MULTILINE)
_DIGEST: Final = re.compile(r"^digest +([0-9a-f]{64})$", re.MULTILINE)
_MESSAGE: Final = re.compile(r"^([0-9a-f]{32}) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Step:
    """A command: who types it, what they see, what they answer."""

    who: str
    command: str
    seen: tuple[str, ...] = ()
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """A file that somebody writes."""

    who: str
    name: str
    text: str


def parse_section(text: str) -> list[Step | Written]:
    """Return what the marked blocks of a text ask for, in order."""
    found: list[Step | Written] = []
    for kind, about, body in _BLOCK.findall(text):
        if kind == "json":
            who, name = about.split()
            found.append(Written(who, name, body))
        else:
            found += _parse_commands(body)
    return found


def _parse_commands(body: str) -> list[Step]:
    steps: list[Step] = []
    for line in body.splitlines():
        prompt, question = _PROMPT.fullmatch(line), _QUESTION.fullmatch(line)
        if prompt:
            steps.append(Step(prompt[1], prompt[2]))
            continue
        last = steps.pop()
        if question:
            steps.append(Step(last.who, last.command, (*last.seen, f"{question[1]} ..."), "y\n"))
        else:
            steps.append(Step(last.who, last.command, (*last.seen, line), last.answer))
    return steps


def is_seen(wanted: str, output: str) -> bool:
    """Say whether a line of the output is the one wanted; ``...`` is anything, a space any number of them."""
    pieces = [r"\s+".join(re.escape(word) for word in piece.split()) for piece in wanted.split("...")]
    pattern = re.compile(r"\s*.*\s*".join(pieces))
    return any(pattern.fullmatch(line.strip()) for line in output.splitlines())


# -- doing it --------------------------------------------------------------------------------------


@dataclass
class Person:
    """Somebody at a computer of their own."""

    folder: Path
    environment: dict[str, str]
    port: socket.socket | None = None
    daemon: subprocess.Popen[str] | None = None


@dataclass
class Pair:
    """The people, their computers, the papers with fingerprints on them."""

    folder: Path
    people: dict[str, Person] = field(default_factory=dict)
    papers: dict[str, str] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)
    done: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        (self.folder / "stick").mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        for person in self.people.values():
            if person.port is not None:
                person.port.close()
            if person.daemon is not None and person.daemon.poll() is None:
                person.daemon.kill()
                person.daemon.communicate()

    def person(self, name: str) -> Person:
        """Return somebody, with a computer where they have none yet."""
        if name not in self.people:
            folder = self.folder / name
            folder.mkdir()
            passphrase = folder / "passphrase"
            passphrase.write_text(f"an invented passphrase of {name}\n")
            passphrase.chmod(0o600)
            environment = os.environ | {
                "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
                "EXCHANGE_HOME": str(folder / "home"),
                "EXCHANGE_PASSPHRASE_FILE": str(passphrase),
                "STICK": str(self.folder / "stick"),
            }
            self.people[name] = Person(folder, environment)
        return self.people[name]

    def do(self, item: Step | Written) -> None:
        """Do one thing, and hold what is seen against what the text says."""
        person = self.person(item.who)
        if isinstance(item, Written):
            (person.folder / item.name).write_text(item.text, encoding="utf-8")
            return
        if "$LISTEN" in item.command:
            person.port = hold_port()
            address = f"{HOST}:{person.port.getsockname()[1]}"
            person.environment |= {"LISTEN": address, "URL": f"https://{address}"}
        output = self._start(person) if item.command == DAEMON else self._run(person, item)
        for line in item.seen:
            assert is_seen(line, output), f"{item.who}$ {item.command}\nwanted: {line}\nseen:\n{output}"
        self._compare(item, output)
        if message := _MESSAGE.search(output):
            person.environment["ID"] = message[1]
        self.done.append(item.command)

    def _run(self, person: Person, item: Step) -> str:
        done = subprocess.run(
            ["/bin/sh", "-c", item.command],
            cwd=person.folder,
            env=person.environment,
            input=item.answer,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{item.who}$ {item.command}\n{done.stdout}{done.stderr}"
        return f"{done.stdout}\n{done.stderr}"

    def _start(self, person: Person) -> str:
        """Start the daemon as the unit does: its credential, and its filters where this machine can set them."""
        service = {name: value for name, value in person.environment.items() if name != "EXCHANGE_PASSPHRASE_FILE"}
        service["CREDENTIALS_DIRECTORY"] = str(person.folder)
        with (person.folder / "journal").open("w") as journal:
            person.daemon = subprocess.Popen(
                [*service_prefix(), str(Path(sys.executable).parent / "exchange"), *DAEMON.split()[1:]],
                cwd=person.folder,
                env=service,
                stdout=subprocess.PIPE,
                stderr=journal,
                text=True,
            )
        assert person.daemon.stdout is not None
        ready = person.daemon.stdout.readline()
        assert ready, (person.folder / "journal").read_text()
        assert json.loads(ready)["ready"] is True
        return ready

    def _compare(self, item: Step, output: str) -> None:
        """What people compare by voice is the same."""
        shown = {re.sub(r"\s", "", "".join(found)) for found in _FINGERPRINT.findall(output)}
        if "authority create" in item.command:
            assert len(shown) == 1
            self.papers[item.who.removesuffix("-authority")] = shown.pop()
        elif item.answer:
            assert shown == {self.papers[Path(item.command.split()[-1]).stem]}
        assert shown <= set(self.papers.values())
        self.digests |= set(_DIGEST.findall(output))

    def stop(self) -> list[int]:
        """End the daemons in order; their exit codes."""
        codes: list[int] = []
        for person in self.people.values():
            if person.daemon is not None:
                person.daemon.terminate()
                person.daemon.communicate(timeout=SECONDS)
                codes.append(person.daemon.returncode)
        return codes


def service_prefix() -> list[str]:
    """Return what puts a command under the unit's filters; nothing where this machine has no means to."""
    if shutil.which("systemd-analyze") is None or confine.library() is None:
        return []
    return [sys.executable, str(SCRIPT), str(UNIT)]
