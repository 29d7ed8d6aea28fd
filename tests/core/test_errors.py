"""Errors: one table, one text for each fault, and no class with another class's code."""

from __future__ import annotations

import pickle
import re

import pytest

from exchange.core.errors import CODES, ExchangeError, Fault, IntegrityError, LocalError, PeerError

CLASSES: dict[Fault, type[ExchangeError]] = {
    Fault.PEER: PeerError,
    Fault.LOCAL: LocalError,
    Fault.INTEGRITY: IntegrityError,
}


@pytest.mark.parametrize("code", CODES)
def test_every_code_can_be_raised_by_the_class_of_its_fault_only(code: str) -> None:
    """A code is raised with the class of its fault; with another class it is a programming error."""
    row = CODES[code]
    for fault, kind in CLASSES.items():
        if fault is row.fault:
            error = kind(code, "somewhere")
            assert (error.code, error.where, error.clause) == (code, "somewhere", None)
            assert (error.what, error.remedy, error.fault) == (row.what, row.remedy, fault)
        else:
            with pytest.raises(KeyError, match=f"{code} is a fault of {row.fault.value}, not of {fault.value}"):
                kind(code)


@pytest.mark.parametrize("code", CODES)
def test_every_row_is_a_short_sentence_and_a_remedy(code: str) -> None:
    """A code reads area.reason, and its text is plain: no capital at its start, no full stop at its end."""
    assert re.fullmatch(r"[a-z]{1,16}\.[a-z0-9_]{1,31}", code)
    for text in CODES[code][1:]:
        assert 5 < len(text) < 90
        assert text[0].islower() or text.startswith("TLP")
        assert not text.endswith(".")


def test_unknown_code() -> None:
    """A code that is not in the table cannot be raised."""
    with pytest.raises(KeyError, match=r"wire\.nonsense"):
        PeerError("wire.nonsense")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            PeerError("wire.not_utf8"),
            "wire.not_utf8: the text is not UTF-8; save the file as UTF-8 without a byte order mark",
        ),
        (
            PeerError("wire.missing", "card.node"),
            "wire.missing: a required member is missing (card.node); correct the file and try again",
        ),
        (
            PeerError("agreement.purpose", clause="4.2"),
            "agreement.purpose: no clause permits this purpose [clause 4.2]; choose a purpose the agreement names",
        ),
        (
            PeerError("agreement.tlp", "header.tlp", "4.2"),
            (
                "agreement.tlp: the TLP marking is above what the clause carries (header.tlp) [clause 4.2]; "
                "lower the marking or use another channel"
            ),
        ),
        (
            LocalError("node.locked", "home"),
            "node.locked: another process holds this home (home); stop it first, or ask the running node",
        ),
    ],
    ids=["code", "where", "clause", "both", "local"],
)
def test_text(error: ExchangeError, text: str) -> None:
    """The text of an error says code, what, where, clause and remedy, and leaves out what is not there."""
    assert str(error) == text


def test_one_tree() -> None:
    """Every class of errors can be caught as ExchangeError, and none as another one."""
    for kind in CLASSES.values():
        assert issubclass(kind, ExchangeError)
        assert not any(issubclass(kind, other) for other in CLASSES.values() if other is not kind)


def test_travels_between_processes() -> None:
    """An error is the same after it went through another process."""
    error = pickle.loads(pickle.dumps(PeerError("agreement.tlp", "header.tlp", "4.2")))  # noqa: S301 - our own bytes
    assert isinstance(error, PeerError)
    assert (error.code, error.where, error.clause) == ("agreement.tlp", "header.tlp", "4.2")
