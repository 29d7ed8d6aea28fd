"""README.md, "Set up a pair": what it tells two ministries to type works, and shows what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.deploy.readme import DAEMON, Pair, Step, Written, is_seen, parse_section
from tests.places import ROOT

if TYPE_CHECKING:
    from pathlib import Path

README: Final = ROOT / "README.md"
PEOPLE: Final = {"th-authority", "kh-authority", "th", "kh", "oversight"}


@pytest.mark.slow
def test_two_ministries_set_up_a_pair(tmp_path: Path) -> None:
    """The commands of the README, typed one after the other, lead from nothing to an answered and proved message."""
    with Pair(tmp_path) as pair:
        for item in parse_section(README.read_text(encoding="utf-8")):
            pair.do(item)
        evidence = [(pair.people[who].folder / "payments.txt").read_bytes() for who in ("th", "kh")]
        assert evidence == [b"An invented statement of payments.\n"] * 2
        assert len(set(pair.papers.values())) == 2
        assert len(pair.digests) == 1
        assert pair.done.count(DAEMON) == 2
        assert pair.people.keys() == PEOPLE
        assert pair.stop() == [0, 0]


TEXT: Final = """\
```console
th$ exchange not this one
```
```json pair kh note.json
{"a": 1}
```
```console pair
th$ exchange card import $STICK/kh.json
Card of kh-fp1, ...
Is it the same? [y/N]: y
Installed the card.
kh$ exchange inbox
```
"""


def test_marked_blocks_are_read() -> None:
    """Commands, what is seen, answers and files are read from marked blocks, and from no other."""
    assert parse_section(TEXT) == [
        Written("kh", "note.json", '{"a": 1}\n'),
        Step(
            "th",
            "exchange card import $STICK/kh.json",
            ("Card of kh-fp1, ...", "Is it the same? [y/N]: ...", "Installed the card."),
            "y\n",
        ),
        Step("kh", "exchange inbox"),
    ]


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [
        ("Signed: ... (1 signature)", True),
        ("kh-fp1 allowed art-1 ...", True),
        ("kh-fp1  allowed  art-1 ...", True),
        ("Is it the same? [y/N]: ...", True),
        ("... signature)", True),
        ("Signed: ... (2 signatures)", False),
        ("kh-fp1 refused ...", False),
        ("Signed:", False),
        ("signature)", False),
    ],
)
def test_a_line_that_was_not_shown_is_missed(wanted: str, seen: bool) -> None:  # noqa: FBT001 - a table
    """A line of the text is found in the output only if the whole line agrees."""
    output = "Signed: a/th.json (1 signature)\n  kh-fp1   allowed  art-1  main, identity\nIs it the same? [y/N]: \n"
    assert is_seen(wanted, output) is seen


def test_a_wrong_command_is_noticed(tmp_path: Path) -> None:
    """A command of the text that fails, and one that shows something else, each fail."""
    with Pair(tmp_path) as pair:
        pair.do(Step("th", "exchange --version", ("exchange, version ...",)))
        with pytest.raises(AssertionError, match="wanted: Done"):
            pair.do(Step("th", "exchange --version", ("Done.",)))
        with pytest.raises(AssertionError, match=r"input\.usage"):
            pair.do(Step("th", "exchange no-such-command"))
