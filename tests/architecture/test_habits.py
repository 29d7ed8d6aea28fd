"""The habits of CONTRIBUTING.md that no linter knows: sentences, sizes, excuses."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.places import ROOT, python_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALL_FILES: Final = python_files("exchange", "tests")
TEST_FILES: Final = [path for path in python_files("tests") if path.name.startswith("test_")]
MAX_LINES: Final = 600  # past this a module is split
MAX_LINES_WITHOUT_REASON: Final = 400  # past this its docstring says why it is one module, in a line "Length: ..."
MAX_DOCSTRING_LINES: Final = 25


def fault_in_sentence(docstring: str | None) -> str | None:
    """Return what is wrong with a test's docstring, or None if it is one sentence."""
    if not docstring or not docstring.strip():
        return "has no docstring"
    sentence = " ".join(docstring.split())
    if not sentence.endswith("."):
        return "does not end with a full stop"
    if re.search(r"[.!?] +[A-Z]", sentence):
        return "is more than one sentence"
    if sentence[0].islower():
        return "does not begin with a capital letter"
    if re.match(r"Tests?\b|Checks?\b|Verif", sentence):
        return "speaks of the test, not of the behaviour"
    return None


def collected(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the functions and methods of a module that pytest collects."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node


def fault_in_size(source: str) -> str | None:
    """Return what is wrong with the size of a module, or None."""
    lines = source.count("\n")
    docstring = ast.get_docstring(ast.parse(source)) or ""
    if lines > MAX_LINES:
        return f"has {lines} lines; split it"
    if lines > MAX_LINES_WITHOUT_REASON and not re.search(r"^Length: \S", docstring, re.MULTILINE):
        return f'has {lines} lines and no line "Length: <reason>" in its docstring'
    if docstring.count("\n") >= MAX_DOCSTRING_LINES:
        return f"has a docstring of more than {MAX_DOCSTRING_LINES} lines"
    return None


def name_of(path: Path) -> str:
    """Return a path as a test id: relative to the checkout."""
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", TEST_FILES, ids=name_of)
def test_every_test_says_what_holds(path: Path) -> None:
    """Every test states, in one sentence, the behaviour that it holds the code to."""
    faults = [
        f"{name_of(path)}:{node.lineno} {node.name} {fault}"
        for node in collected(ast.parse(path.read_text(encoding="utf-8")))
        if (fault := fault_in_sentence(ast.get_docstring(node)))
    ]
    assert faults == []


@pytest.mark.parametrize(
    ("docstring", "fault"),
    [
        ("A duplicate key is refused.", None),
        ("A key of eight octets, e.g. the\n    zero key, is refused.", None),
        ("", "no docstring"),
        (None, "no docstring"),
        ("A duplicate key is refused", "full stop"),
        ("A key is refused. The node stops.", "more than one"),
        ("a key is refused.", "capital"),
        ("Test that a key is refused.", "speaks of the test"),
    ],
)
def test_sentence_fault_is_found(docstring: str | None, fault: str | None) -> None:
    """A docstring that is not one sentence about behaviour is named as such."""
    found = fault_in_sentence(docstring)
    assert found is None if fault is None else found is not None and fault in found


@pytest.mark.parametrize("path", ALL_FILES, ids=name_of)
def test_module_is_readable_in_one_sitting(path: Path) -> None:
    """No module is longer than 600 lines, and one of more than 400 says why it is one module."""
    assert fault_in_size(path.read_text(encoding="utf-8")) is None


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ('"""Short."""\n' + "x = 1\n" * 399, None),
        ('"""Short."""\n' + "x = 1\n" * 400, "no line"),
        ('"""Short.\n\nLength: one table.\n"""\n' + "x = 1\n" * 500, None),
        ('"""Short.\n\nLength: one table.\n"""\n' + "x = 1\n" * 600, "split it"),
        ('"""Short.\n' + "more\n" * 25 + '"""\n', "docstring of more"),
    ],
)
def test_size_fault_is_found(source: str, fault: str | None) -> None:
    """A module that is too long, or long without a reason, is named as such."""
    found = fault_in_size(source)
    assert found is None if fault is None else found is not None and fault in found


def test_core_asks_for_no_excuse() -> None:
    """No line of the core is excused from coverage, from the type checker or from a whole family of lint rules."""
    excuse = re.compile(r"pragma: *no (cover|branch)|type: *ignore|ruff: *noqa|mypy: ")
    assert [
        f"{name_of(path)}:{number}"
        for path in python_files("exchange/core")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if excuse.search(line)
    ] == []
