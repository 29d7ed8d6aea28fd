"""What the documents say is there, and what is there the documents say."""

from __future__ import annotations

import ast
import re
import subprocess
from typing import TYPE_CHECKING, Final

import click
import pytest

from exchange.cli.commands import program
from exchange.core.errors import CODES, Fault
from tests.places import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

GUIDES: Final = [ROOT / name for name in ("README.md", "docs/operators.md", "docs/officers.md")]
PROTOCOL: Final = ROOT / "docs" / "protocol.md"
COMMON: Final = frozenset(
    {"--home", "--json", "--passphrase-file", "--as", "--officer-passphrase-file"}
)  # every command knows them

# What an envelope, a void, a request or a document goes through at its receiver.
RECEIVER: Final = [
    ROOT / "exchange" / name
    for name in (
        "adapters/http_server.py",
        "core/agreements.py",
        "core/decision.py",
        "core/answers.py",
        "core/delivery.py",
        "core/duties.py",
        "core/envelope.py",
        "core/gate.py",
        "core/keys.py",
        "core/narrowing.py",
        "core/onward.py",
        "core/relay.py",
        "core/schema_parts.py",
        "core/schemas.py",
        "core/signatures.py",
        "core/statement.py",
        "core/wire.py",
        "node/receiving.py",
    )
]


def tracked() -> list[Path]:
    """Return every file that is or would be committed."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout, so nothing says which files belong to it")
    git = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in sorted(listed.split("\0")) if name and (path := ROOT / name).is_file()]


def pages() -> list[Path]:
    """Return every Markdown file of the checkout."""
    return [path for path in tracked() if path.suffix == ".md"]


def name_of(path: Path) -> str:
    """Return a path as it is spoken of: relative to the checkout."""
    return path.relative_to(ROOT).as_posix()


# -- commands --------------------------------------------------------------------------------------


def commands_below(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command that does something, with its full name."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        yield from commands_below(inner, f"{path} {name}")


def options_of(command: click.Command) -> set[str]:
    """Return the long options of a command's own."""
    options = (param for param in command.params if isinstance(param, click.Option))
    return {name for option in options for name in option.opts if name.startswith("--")} - COMMON


def missing_in(text: str, commands: Iterable[tuple[str, click.Command]]) -> list[str]:
    """Return the commands that no line of a text names, and the options that no line with their command names."""
    missing: list[str] = []
    for path, command in commands:
        lines = [line for line in text.splitlines() if re.search(rf"`{path}(?![\w-])", line)]
        if not lines:
            missing.append(path)
        named = set(re.findall(r"--[a-z][a-z-]*", "\n".join(lines)))
        missing += [f"{path} {option}" for option in sorted(options_of(command) - named)]
    return missing


def test_every_command_and_option_is_in_a_guide() -> None:
    """Every command is named in the README or in the officers' or operators' page, and its options in the same line."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in GUIDES)
    assert missing_in(text, commands_below(program, "exchange")) == []
    assert [name for name in ("--help", "exchange --version", *COMMON) if f"`{name}" not in text] == []


def test_a_command_that_no_guide_names_is_told() -> None:
    """A command and an option that a text does not name are told, also where a longer name begins alike."""

    @click.command()
    @click.option("--out")
    @click.option("--json")
    def command() -> None:
        pass

    text = "`exchange carding`\n`exchange card` and more\n--out"
    assert missing_in(text, [("exchange card", command)]) == ["exchange card --out"]
    assert missing_in(text, [("exchange car", command)]) == ["exchange car", "exchange car --out"]
    assert missing_in("| `exchange card FILE` | `--out` |", [("exchange card", command)]) == []


def unknown_commands(text: str) -> list[str]:
    """Return what a text calls a command of ours and is none; ``exchange`` alone, or before an option, is one."""
    names = {path.removeprefix("exchange ") for path, _ in commands_below(program, "exchange")}
    groups = {name.split()[0] for name in names if " " in name}
    found: list[str] = []
    for first, second in re.findall(r"(?:^[a-z-]+\$ |`|/bin/)exchange ([a-z]+)(?: ([a-z]+))?", text, re.MULTILINE):
        if first not in names and first not in groups:
            found.append(first)
        elif first in groups and second and f"{first} {second}" not in names:
            found.append(f"{first} {second}")
    return found


def test_every_command_in_a_document_exists() -> None:
    """What a document or a remedy tells people to type is a command of the program."""
    told = {name_of(path): unknown_commands(path.read_text(encoding="utf-8")) for path in pages()}
    assert {name: found for name, found in told.items() if found} == {}
    # A remedy is a sentence: "exchange inbox and exchange outbox list them".
    for code, row in CODES.items():
        commands = "\n".join(f"`{found}" for found in re.findall(r"exchange [a-z]+(?: [a-z]+)?", row.remedy))
        assert unknown_commands(commands) == [], code


def test_an_invented_command_is_told() -> None:
    """A command that does not exist is told, in a sentence and behind a prompt."""
    assert unknown_commands("`exchange card list`, `exchange send FILE`, `exchange node`, the exchange of cards") == []
    assert unknown_commands("`exchange fly`, `exchange card fly`\nth$ exchange swim\n") == ["fly", "card fly", "swim"]


# -- links -----------------------------------------------------------------------------------------


def anchors_of(text: str) -> set[str]:
    """Return the names of a page's headings, as the usual renderers make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path) -> list[str]:
    """Return the relative links of a page that lead nowhere."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken: list[str] = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        is_page = target.suffix == ".md" and target.is_file()
        if not target.exists() or (anchor and not (is_page and anchor in anchors_of(target.read_text("utf-8")))):
            broken.append(link)
    return broken


def test_every_link_leads_somewhere() -> None:
    """Every relative link of every page leads to a file, and to a heading where it names one."""
    found = {name_of(path): broken_links(path) for path in pages()}
    assert {name: links for name, links in found.items() if links} == {}


def test_a_broken_link_is_told(tmp_path: Path) -> None:
    """A link to no file, and one to no heading, are told; links to elsewhere and examples are left alone."""
    page = tmp_path / "page.md"
    page.write_text(
        "# One thing: two\n[a](#one-thing-two) [b](page.md#three) [c](none.md) [d](https://example.org/x)\n"
        "```\n[e](example.md)\n```\n[f](page.md)\n"
    )
    assert broken_links(page) == ["page.md#three", "none.md"]


# -- what belongs to one machine -------------------------------------------------------------------

_MACHINE_PATH: Final = re.compile(
    r"(?:^|[\s\"'`(=:,])(/(?:work|root|mnt|Users|home/[a-z]\w*)/[\w.][\w./-]*)", re.MULTILINE
)
_HOST: Final = re.compile(r"https?://(?:[^\s/@\"']*@)?([\w.-]+)")
_REGISTRY: Final = re.compile(r"pypi|pythonhosted|devpi|artifactory|jfrog|nexus|registry|mirror|proxy", re.IGNORECASE)


def foreign_in(text: str) -> list[str]:
    """Return the paths of one machine and the hosts of package registries that a text names."""
    hosts = [host for host in _HOST.findall(text) if _REGISTRY.search(host)]
    return [*_MACHINE_PATH.findall(text), *hosts]


def test_no_file_names_a_machine() -> None:
    """No file names a folder of somebody's machine or the host of a package registry."""
    found: dict[str, list[str]] = {}
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data and (faults := foreign_in(data.decode(errors="replace"))):
            found[name_of(path)] = faults
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        f"cd /{'work'}/main",
        f"home = '/{'home'}/anna/x'",
        f"(/{'root'}/.ssh)",
        f"--index-url https://user:x@packages.{'pypi'}.example/simple",
        f"https://{'mirror'}.example:8080/",
    ],
)
def test_a_named_machine_is_told(text: str) -> None:
    """A folder of a machine and the host of a registry are told."""
    assert len(foreign_in(text)) == 1


@pytest.mark.parametrize(
    "text", ["../shared", "--home /var/lib/exchange", "https://github.com/a/b", "a/work/b", "/rooted"]
)
def test_what_belongs_to_everybody_is_left_alone(text: str) -> None:
    """Relative folders, folders of a server and public sites are no fault."""
    assert foreign_in(text) == []


# -- the protocol ----------------------------------------------------------------------------------


def codes_in(path: Path) -> set[str]:
    """Return the codes of the sender's fault that a module names."""
    constants = (node.value for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Constant))
    return {
        value for value in constants if isinstance(value, str) and value in CODES and CODES[value].fault is Fault.PEER
    }


def unnamed(codes: Iterable[str], text: str) -> list[str]:
    """Return the codes that a text names neither in full nor by their area (``wire.*``)."""
    named = set(re.findall(r"`([a-z]+\.(?:[a-z0-9_]+|\*))`", text))
    return sorted(code for code in codes if code not in named and f"{code.partition('.')[0]}.*" not in named)


def test_protocol_names_every_code_that_is_answered() -> None:
    """Every code that a receiver can answer is in docs/protocol.md."""
    answered = set[str]().union(*(codes_in(path) for path in RECEIVER))
    assert {"wire.too_deep", "envelope.body", "agreement.purpose", "request.stale", "relay.held"} <= answered
    assert unnamed(answered, PROTOCOL.read_text(encoding="utf-8")) == []


def test_a_code_that_the_protocol_does_not_name_is_told() -> None:
    """A code is named in full or by its area, and told otherwise."""
    assert unnamed(["a.one", "b.two", "c.three"], "`a.one`, `b.*`, `c.three_more`, c.three") == ["c.three"]
