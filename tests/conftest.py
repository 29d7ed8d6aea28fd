"""What every test has: a clean environment, the folders beside the checkout, and no silent skip where none is allowed.

``EXCHANGE_REQUIRE_ALL=1`` (set by ``.ci/run``) turns every skip into a failure, also a skip of a whole module: a build
machine that lacks something must be mended, not believed. An expected failure (``xfail``) is not a skip.

A test that starts a process passes ``os.environ`` on, with its own additions: the measuring of coverage travels in it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, TypeVar

import hypothesis
import pytest

from tests.places import conformance_folder, shared_folder

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

REQUIRE_ALL: Final = os.environ.get("EXCHANGE_REQUIRE_ALL") == "1"

_Report = TypeVar("_Report", pytest.TestReport, pytest.CollectReport)

# A person's own node must not leak into a test, nor a proxy between two nodes on loopback.
_PERSONAL: Final = ("EXCHANGE_HOME", "EXCHANGE_PASSPHRASE_FILE", "ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY")

# No deadline: a busy machine is no defect. The same examples on every build machine, new ones on every desk.
hypothesis.settings.register_profile("exchange", deadline=None, derandomize=REQUIRE_ALL, print_blob=True)


def pytest_configure() -> None:
    """Make the environment the same for everybody, before a test module is imported."""
    hypothesis.settings.load_profile("exchange")
    for name in _PERSONAL:
        os.environ.pop(name, None)
        os.environ.pop(name.lower(), None)


def _refuse_skip(report: _Report) -> _Report:
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        report.outcome = "failed"
        report.longrepr = f"EXCHANGE_REQUIRE_ALL=1 allows no skip: {reason.removeprefix('Skipped: ')}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test into a failure where everything is required."""
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole module into a failure where everything is required."""
    return _refuse_skip((yield))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout (``../shared``, or ``EXCHANGE_SHARED``)."""
    folder = shared_folder()
    if folder is None:
        pytest.skip("the folder ../shared (or EXCHANGE_SHARED) with real data is absent")
    return folder


@pytest.fixture(scope="session")
def conformance() -> Path:
    """The folder of public test suites (``../shared/vectors``, or ``CONFORMANCE_DIR``)."""
    folder = conformance_folder()
    if folder is None:
        pytest.skip("the folder ../shared/vectors (or CONFORMANCE_DIR) with public test suites is absent")
    return folder
